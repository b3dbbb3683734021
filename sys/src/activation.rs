//! What a supervisor hands to its daemons: listening sockets, stored descriptors, and an ear.
//!
//! The protocols are systemd's, because every tool knows them: sd_listen_fds(3) (`LISTEN_PID`,
//! `LISTEN_FDS`, `LISTEN_FDNAMES`) and sd_notify(3) (`NOTIFY_SOCKET`). Without a supervisor both are
//! silent: no sockets are inherited and notices go nowhere.
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use thiserror::Error;

/// The first inherited descriptor, after stdin, stdout and stderr (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;
/// The most descriptors a supervisor may hand over here.
pub const LISTEN_FDS_MAX: usize = 8192;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// What is wrong with what the supervisor handed over.
#[derive(Debug, Error)]
pub enum ActivationError {
    /// `LISTEN_FDS` is no number up to [`LISTEN_FDS_MAX`].
    #[error(
        "LISTEN_FDS is {value:?}, a number up to {LISTEN_FDS_MAX} was expected: check the supervisor"
    )]
    Count {
        /// Its value.
        value: String,
    },
    /// `LISTEN_FDNAMES` does not name each descriptor.
    #[error("LISTEN_FDNAMES has {names} names for {fds} descriptors: check the supervisor")]
    Names {
        /// Names given.
        names: usize,
        /// Descriptors given.
        fds: usize,
    },
    /// A descriptor that should be there is not open.
    #[error("descriptor {fd} ({name}) was announced and is not open: check the supervisor")]
    NotOpen {
        /// Its number.
        fd: RawFd,
        /// Its name.
        name: String,
        /// What fcntl(2) says.
        source: io::Error,
    },
}

/// Takes the descriptors that the supervisor handed over, with their names, close-on-exec from here.
///
/// They can be taken once: a second call gives none. Without `LISTEN_FDS`, or if it is meant for another
/// process (`LISTEN_PID`), there are none.
///
/// # Errors
/// [`ActivationError`] if the environment contradicts itself or the descriptor table.
pub fn listeners() -> Result<Vec<(String, OwnedFd)>, ActivationError> {
    let variable = |name| std::env::var(name).ok();
    let Some(count) = variable("LISTEN_FDS") else { return Ok(Vec::new()) };
    let ours = variable("LISTEN_PID").is_none_or(|pid| pid == std::process::id().to_string());
    if !ours || TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Vec::new());
    }
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let names = parse(&count, &names)?;
    names.into_iter().zip(FIRST..).map(|(name, fd)| take(fd, name)).collect()
}

/// The names of `count` descriptors, as `LISTEN_FDNAMES` lists them.
fn parse(count: &str, names: &str) -> Result<Vec<String>, ActivationError> {
    let fds = count
        .parse::<usize>()
        .ok()
        .filter(|&fds| fds <= LISTEN_FDS_MAX)
        .ok_or_else(|| ActivationError::Count { value: count.to_owned() })?;
    let names: Vec<String> =
        if fds == 0 { Vec::new() } else { names.split(':').map(str::to_owned).collect() };
    if names.len() == fds {
        Ok(names)
    } else {
        Err(ActivationError::Names { names: names.len(), fds })
    }
}

fn take(fd: RawFd, name: String) -> Result<(String, OwnedFd), ActivationError> {
    // SAFETY: F_SETFD takes an integer; on a descriptor that is not open it fails and does nothing.
    let set = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    if set < 0 {
        return Err(ActivationError::NotOpen { fd, name, source: io::Error::last_os_error() });
    }
    // SAFETY: the supervisor passed `fd` to this process for whoever calls `listeners`; it is open, as
    // fcntl just showed, `TAKEN` lets one caller come here once, and each number is taken once.
    Ok((name, unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Tells the supervisor something: `READY=1`, `STOPPING=1`, `STATUS=…`.
///
/// # Errors
/// What socket(2) or sendmsg(2) say; nothing is wrong when there is no supervisor.
pub fn notify(state: &str) -> io::Result<()> {
    notify_with_fds(state, &[])
}

/// Tells the supervisor something with descriptors beside it: `FDSTORE=1\nFDNAME=…`.
///
/// # Errors
/// As [`notify`].
pub fn notify_with_fds(state: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    use nix::sys::socket::{
        AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket,
    };
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let address = UnixAddr::new(std::path::Path::new(&path))?;
    let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let beside = if fds.is_empty() { &[] } else { &rights[..] };
    let parts = [IoSlice::new(state.as_bytes())];
    sendmsg(socket.as_raw_fd(), &parts, beside, MsgFlags::MSG_NOSIGNAL, Some(&address))?;
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn names_are_given_in_order() {
        assert_eq!(parse("2", "s3:manta").unwrap(), ["s3", "manta"]);
        assert!(parse("0", "").unwrap().is_empty());
    }

    #[test]
    fn a_count_that_is_no_count_is_refused() {
        for bad in ["", "-1", "x", "8193"] {
            assert!(matches!(parse(bad, ""), Err(ActivationError::Count { .. })), "{bad}");
        }
    }

    #[test]
    fn a_name_missing_is_noticed() {
        assert!(matches!(parse("3", "s3:manta"), Err(ActivationError::Names { names: 2, fds: 3 })));
    }

    #[test]
    fn a_descriptor_that_is_not_open_is_not_taken() {
        let gone = take(9999, "s3".to_owned());
        assert!(matches!(gone, Err(ActivationError::NotOpen { fd: 9999, .. })));
    }
}
