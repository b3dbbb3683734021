//! zoned's side of the nursery ([`crate::inside::nursery`]): started once, asked for each zone's first process.

use crate::inside::nursery::NURSERY;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use sys::clone::{Child, Namespaces, Program, Spawn, kill, reap, spawn};
use sys::seqpacket::{RecvError, SendError, Socket};
use thiserror::Error;

/// glibc's malloc takes its few blocks from mmap(2): the heap below brk(2) is far from all else in memory, and would
/// cost each copy three page tables. Of another C library it changes nothing.
const NO_HEAP: &CStr = c"GLIBC_TUNABLES=glibc.malloc.mmap_threshold=1";
/// How long it may take to answer: it does nothing else, and what it does takes a tenth of a millisecond.
const PATIENCE_MS: u16 = 5_000;

/// Why there is no new process.
#[derive(Debug, Error)]
pub enum NurseryError {
    /// It could not be started, or did not do what it was asked for.
    #[error("cannot {act}")]
    Call {
        /// What was tried.
        act: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// It could not be asked.
    #[error("cannot ask the nursery")]
    Send(#[from] SendError),
    /// Its answer could not be received.
    #[error("cannot hear the nursery")]
    Receive(#[from] RecvError),
    /// It has ended, or says what makes no sense.
    #[error("the nursery has ended, or is broken: the next zone gets a new one")]
    Broken,
}

fn call<T, E: Into<io::Error>>(act: &'static str, result: Result<T, E>) -> Result<T, NurseryError> {
    result.map_err(|source| NurseryError::Call { act, source: source.into() })
}

/// The process from which zones' first processes are copied; it ends with this.
#[derive(Debug)]
pub struct Nursery {
    socket: Socket,
    process: Child,
}

impl Nursery {
    /// Starts `program` as one; `place` is a directory that is there to be mounted over, which only it sees.
    ///
    /// # Errors
    /// [`NurseryError`].
    pub fn start(program: &File, place: &Path) -> Result<Self, NurseryError> {
        let null = File::options().read(true).write(true).open("/dev/null");
        let null = call("open /dev/null", null)?;
        let (socket, there) = call("make the nursery's socket", Socket::pair())?;
        let place = CString::new(place.as_os_str().as_encoded_bytes());
        let place = call("name the nursery's place", place.map_err(io::Error::from))?;
        let names = CString::new(format!("LISTEN_FDNAMES={NURSERY}"));
        let names = call("name the nursery's socket", names.map_err(io::Error::from))?;
        let stderr = io::stderr();
        let process = spawn(&Spawn {
            program: Program::File(program.as_fd()),
            arguments: &[c"zone-init", &place],
            // The protocol of socket activation: descriptor 3, by its name.
            environment: &[c"LISTEN_FDS=1", &names, NO_HEAP],
            descriptors: &[null.as_fd(), null.as_fd(), stderr.as_fd(), there.as_fd()],
            cgroup: None,
            namespaces: Namespaces::MOUNTS,
        });
        Ok(Self { socket, process: call("start the nursery", process)? })
    }

    /// A zone's first process, in its cgroup and in namespaces of its own; `control` is its end of a socket.
    /// Gives its pidfd: it is a child of this process.
    ///
    /// # Errors
    /// [`NurseryError`]; but for [`NurseryError::Call`] the nursery is of no use any more.
    pub fn bear(
        &self,
        control: &Socket,
        cgroup: BorrowedFd<'_>,
        image: BorrowedFd<'_>,
    ) -> Result<OwnedFd, NurseryError> {
        self.socket.send(b"zone", &[control.as_fd(), cgroup, image])?;
        let mut ready = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        if call("wait for the nursery", poll(&mut ready, PollTimeout::from(PATIENCE_MS)))? == 0 {
            return Err(NurseryError::Broken);
        }
        let mut message = Vec::new();
        let fds = self.socket.recv(&mut message)?.ok_or(NurseryError::Broken)?;
        let errno = message.as_slice().try_into().map_err(|_| NurseryError::Broken)?;
        match (i32::from_le_bytes(errno), fds.into_iter().next()) {
            (0, Some(pidfd)) => Ok(pidfd),
            (0, None) => Err(NurseryError::Broken),
            (errno, _) => {
                call("make the zone's first process", Err(io::Error::from_raw_os_error(errno)))
            }
        }
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        // Both fail only if it is gone already, which is what they are for.
        drop(kill(self.process.pidfd.as_fd(), libc::SIGKILL));
        drop(reap(self.process.pidfd.as_fd()));
    }
}
