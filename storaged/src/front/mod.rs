//! HTTP/1.1 on io_uring: a ring a core, and whatever service is behind a port.
//!
//! Each ring thread accepts on every port, reads requests, polls the futures of its services and sends
//! what they answer. A service never waits on a ring thread: it gives the work away and is woken.
//!
//! ```text
//!   socket ─▶ ring ─▶ input (pure) ─▶ peer ─▶ Service::call ─▶ response ─▶ ring ─▶ socket
//!                                      ▲ ▼                        │
//!                              request_body, mailbox       FileRange: sendfile
//! ```

pub mod counts;
pub mod head;
mod id;
pub mod input;
pub mod limits;
mod line;
pub mod lines;
pub mod mailbox;
mod origin;
mod peer;
mod places;
mod read_ahead;
pub mod refusal;
pub mod request_body;
pub mod response;
mod sending;
mod sending_file;
mod tls;
mod worker;

use bytes::Bytes;
pub use counts::Counts;
use http::request::Parts;
use http::{Request, Response, StatusCode};
pub use id::RequestId;
use mailbox::Mailbox;
pub use origin::Origin;
use places::Places;
use read_ahead::ReadAhead;
use rustls::ServerConfig;
use s3s::Body;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use sys::ring::{Descriptor, RingError};
use thiserror::Error;

/// A response in the making.
pub type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// What stands behind a port.
pub trait Service: Send + Sync {
    /// Answers a request. The future is polled on a ring thread and must not block it.
    fn call(&self, request: Request<Body>) -> Answer;

    /// Answers a request that has no body, if that takes neither waiting nor much work; none: it is to
    /// be called. On a ring thread.
    fn quick(&self, _head: &Parts) -> Option<Quick> {
        None
    }
}

/// An answer that was there at once.
pub struct Quick {
    /// Its status.
    pub status: StatusCode,
    /// Its status line and its fields, each with its line end, but for those that are the front's:
    /// server, date, connection.
    pub head: Vec<u8>,
    /// What follows; its length is said in the head.
    pub body: QuickBody,
}

impl Quick {
    /// Adds a field that is right as it is.
    fn put_field(&mut self, name: &str, value: &str) {
        for part in [name, ": ", value, "\r\n"] {
            self.head.extend_from_slice(part.as_bytes());
        }
    }
}

/// The body of an answer that was there at once.
pub enum QuickBody {
    /// There is none, whatever the head says of its length.
    None,
    /// These bytes.
    Bytes(Bytes),
    /// A part of a file.
    File(FileRange),
    /// A part of a file whose pages are in memory for as long as it is open.
    Memory(FileRange),
}

/// The kind of a request, as an index of the kinds' names.
pub type KindOf = Arc<dyn Fn(&Request<()>) -> usize + Send + Sync>;

/// What the requests of a port are called where they are counted.
#[derive(Clone)]
pub struct Kinds {
    /// The port itself.
    pub port: &'static str,
    /// The kinds of its requests; one at least.
    pub names: &'static [&'static str],
    /// Of which kind a request is. Asked once a request: it must be quick.
    pub of: KindOf,
    /// The field of an answer that tells what its request is called, if one does; in small letters.
    pub id: Option<&'static str>,
}

impl Kinds {
    /// All requests are of one kind.
    #[must_use]
    pub fn one(port: &'static str) -> Kinds {
        Kinds { port, names: &["Request"], of: Arc::new(|_| 0), id: None }
    }
}

/// An extension of a response: its body is this part of a file, which the ring sends by itself.
#[derive(Clone)]
pub struct FileRange {
    /// The file; it must not shrink.
    pub file: Descriptor,
    /// Where the part begins.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
}

/// A listening socket and what serves it.
pub struct Port {
    /// Listening already.
    pub listener: OwnedFd,
    /// Answers what comes in there.
    pub service: Arc<dyn Service>,
    /// How it is counted.
    pub kinds: Kinds,
    /// With which certificate it is encrypted; not at all if there is none.
    pub tls: Option<Arc<ServerConfig>>,
}

/// Why there is no front.
#[derive(Debug, Error)]
pub enum FrontError {
    /// No ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// No thread, no eventfd.
    #[error("can't {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A thread that ended before it could say how it went.
    #[error("a ring thread ended while it started; its panic is in the log")]
    Panicked,
}

/// What the ring threads share.
struct Control {
    /// Until when connections may finish what they do, once the front is told to stop.
    drain_until: OnceLock<Instant>,
}

/// How a front is set.
#[derive(Debug, Default)]
pub struct Setting {
    /// Ring threads; one at least.
    pub threads: usize,
    /// How long things may take.
    pub times: limits::Times,
    /// Where a line about each request goes; without it there are none.
    pub lines: Option<lines::Lines>,
}

/// The running front.
pub struct Front {
    threads: Vec<JoinHandle<()>>,
    mailboxes: Vec<Arc<Mailbox>>,
    control: Arc<Control>,
    counts: Counts,
}

impl Front {
    /// Starts serving on so many ring threads.
    ///
    /// # Errors
    /// [`FrontError`] if the kernel refuses what a front is made of.
    pub fn start(ports: Vec<Port>, threads: usize) -> Result<Front, FrontError> {
        Front::start_with(ports, Setting { threads, ..Setting::default() })
    }

    /// Starts serving, set otherwise.
    ///
    /// # Errors
    /// As [`Front::start`].
    pub fn start_with(ports: Vec<Port>, setting: Setting) -> Result<Front, FrontError> {
        let Setting { threads, times, lines } = setting;
        let system = |action| move |source| FrontError::System { action, source };
        let counts = Counts::new(ports.iter().map(|port| port.kinds.clone()), threads.max(1));
        let ports: Vec<_> = ports
            .into_iter()
            .map(|port| worker::Door {
                listener: Arc::new(port.listener),
                service: port.service,
                tls: port.tls,
            })
            .collect();
        let control = Arc::new(Control { drain_until: OnceLock::new() });
        let ahead = ReadAhead::start(limits::READ_AHEAD_THREADS)
            .map_err(system("start the read-ahead threads"))?;
        let mailboxes = (0..threads.max(1))
            .map(|_| Mailbox::new().map(Arc::new).map_err(system("make an eventfd")))
            .collect::<Result<Vec<_>, _>>()?;
        let places = Arc::new(Places::new(&mailboxes));
        let mut front = Front { threads: Vec::new(), mailboxes, control, counts };
        for number in 0..threads.max(1) {
            let setup = worker::Setup {
                number,
                ports: ports.clone(),
                mailbox: Arc::clone(&front.mailboxes[number]),
                places: Arc::clone(&places),
                counts: Arc::clone(&front.counts.rings[number]),
                kinds: Arc::clone(&front.counts.ports),
                lines: lines.clone(),
                ahead: ahead.clone(),
                control: Arc::clone(&front.control),
                times,
            };
            let (started, result) = mpsc::channel();
            let thread = std::thread::Builder::new()
                .name(format!("ring-{number}"))
                .spawn(move || worker::run(setup, &started))
                .map_err(system("start a ring thread"))?;
            front.threads.push(thread);
            result.recv().map_err(|_| FrontError::Panicked)??;
        }
        Ok(front)
    }

    /// What is counted while it serves.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts.clone()
    }

    /// Accepts no more, lets every request in progress finish, for at most this long, and ends.
    pub fn drain(mut self, time_max: Duration) {
        self.stop(time_max);
    }

    fn stop(&mut self, time_max: Duration) {
        // A second call finds no threads.
        self.control.drain_until.get_or_init(|| Instant::now() + time_max);
        self.mailboxes.iter().for_each(|mailbox| mailbox.post(worker::CONTROL));
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a ring thread panicked");
            }
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

#[cfg(test)]
mod test;
