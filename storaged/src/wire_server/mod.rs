//! storaged's socket for the other daemons: zoned fetches tasks here, consoled asks for status.
//!
//! ```text
//!   poll thread   sockets, windows, queues; takes messages apart; never waits for a disk
//!      │  ▲           ├── connection   one peer: what it may do, what waits for it
//!   work  done        └── pushes       what zoned is told unasked
//!      ▼  │
//!   worker threads   requests: claims, inputs, endings; they wait for the store
//!                     ├── attempts     tasks that are claimed, fed and settled
//!                     └── living       attempts in zoned's hands, their staging files
//! ```
//! The rules of the wire: a peer has at most [`wire::task::REQUESTS_MAX`] requests open; one that sends
//! rubbish, breaks its window, or stops reading is dropped, with a line in the log. zoned is one at a
//! time: a newer one displaces an older one, and attempts end with the connection they were claimed on.

mod attempts;
mod connection;
mod living;
mod objects;
mod poll;
mod pushes;
mod staged;
mod work;

use crate::hourly::Usage;
use crate::jobs::Jobs;
use crate::prefetch::Prefetcher;
use living::Living;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use sys::seqpacket::{Listener, SocketError};
use thiserror::Error;

/// Threads that serve requests: each may wait for a sync of the disk, and those are shared.
const WORKERS: usize = 8;
/// Threads that serve what takes long: manifests, publications.
const LONG_WORKERS: usize = 2;
/// The socket's mode: who may connect is decided by user, see [`connection`].
const SOCKET_MODE: u32 = 0o666;

/// Where to listen.
#[derive(Debug)]
pub enum Wire {
    /// A socket that the supervisor made.
    Handed(OwnedFd),
    /// A path to make one at.
    Path(PathBuf),
}

/// Why the socket is not served.
#[derive(Debug, Error)]
pub enum WireError {
    /// It could not be made.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The kernel refused something.
    #[error("cannot {doing} the wire")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The running server. Dropped, it stops.
#[derive(Debug)]
pub struct WireServer {
    /// Closing it ends the poll thread, which ends the workers.
    bell: Option<UnixStream>,
    threads: Vec<JoinHandle<()>>,
}

impl WireServer {
    /// Starts to serve; without a keeper of usage none is taken.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn start(
        wire: Wire,
        jobs: Jobs,
        prefetcher: Prefetcher,
        usage: Option<Usage>,
    ) -> Result<Self, WireError> {
        let listener = match wire {
            Wire::Handed(fd) => Listener::from_fd(fd),
            Wire::Path(path) => Listener::bind(&path, SOCKET_MODE)?,
        };
        let io = |doing| move |source| WireError::Io { doing, source };
        listener.set_nonblocking().map_err(io("listen at"))?;
        let (bell, heard) = UnixStream::pair().map_err(io("make a bell for"))?;
        bell.set_nonblocking(true).map_err(io("make a bell for"))?;
        heard.set_nonblocking(true).map_err(io("make a bell for"))?;
        let own = bell.try_clone().map_err(io("make a bell for"))?;
        let bell = Bell(Arc::new(bell));
        let on_notice = bell.clone();
        jobs.notices().listen(move || on_notice.ring());
        let office = Arc::new(work::Office {
            jobs,
            prefetcher,
            usage,
            living: Living::default(),
            staged: staged::Staged::default(),
            shown: objects::Shown::default(),
        });
        let (work, done, mut threads) =
            work::start(&office, &bell, (WORKERS, LONG_WORKERS)).map_err(io("serve"))?;
        let server = poll::Server::new(listener, heard, office, work, done);
        let thread = std::thread::Builder::new().name("wire".into()).spawn(move || server.run());
        threads.push(thread.map_err(io("serve"))?);
        Ok(Self { bell: Some(own), threads })
    }

    /// Stops: attempts in zoned's hands are cut off, so that their tasks run again.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(bell) = self.bell.take() {
            // A shutdown of a connected socket pair cannot fail; the poll thread sees the end of file.
            bell.shutdown(std::net::Shutdown::Both).expect("the bell is connected");
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a thread of the wire panicked");
            }
        }
    }
}

impl Drop for WireServer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Wakes the poll thread.
#[derive(Debug, Clone)]
struct Bell(Arc<UnixStream>);

impl Bell {
    fn ring(&self) {
        use std::io::Write;
        // A full socket is a bell that rings already, and a closed one means that nobody listens.
        if let Err(error) = (&*self.0).write(&[1])
            && !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::BrokenPipe)
        {
            log::error!("cannot wake the wire: {error}");
        }
    }
}

#[cfg(test)]
mod test;
