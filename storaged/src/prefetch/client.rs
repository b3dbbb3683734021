//! How storaged asks the prefetcher. It must not depend on it: when the prefetcher is away or slow,
//! work goes on without it, and a line in the log says so, once until it is back.

use super::share::Shares;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use sys::seqpacket::{RecvError, SendError, Socket, SocketError};
use thiserror::Error;
use wire::frame::{Frame, FrameError, Kind, Refusal, encode};
use wire::prefetch::{Reply, Request};

/// How long an answer may take, in milliseconds: 256 MiB from a slow disk.
const ANSWER_MS_MAX: u16 = 20_000;

/// Why the prefetcher did not do as asked.
#[derive(Debug, Error)]
enum ClientError {
    #[error(transparent)]
    Connect(#[from] SocketError),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Recv(#[from] RecvError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("cannot wait for its answer")]
    Poll(#[from] nix::Error),
    #[error("it took longer than {ANSWER_MS_MAX} ms")]
    Slow,
    #[error("it closed the connection")]
    Closed,
    #[error("it answered with a message of another kind or number")]
    Answer,
    #[error("{}", .0.message)]
    Refused(Refusal),
}

/// The prefetcher, as storaged sees it. Any thread may ask; each takes a connection of its own.
#[derive(Debug)]
pub struct Prefetcher {
    path: Option<PathBuf>,
    idle: Mutex<Vec<Socket>>,
    /// How often each object is held.
    held: Mutex<BTreeMap<u64, u64>>,
    shares: Mutex<Shares>,
    /// Bytes that were left to their readers.
    left: Arc<AtomicU64>,
    born: Instant,
    last_id: AtomicU64,
    away: AtomicBool,
}

impl Prefetcher {
    /// The one that listens at `path`; none at all without a path.
    #[must_use]
    pub fn new(path: Option<PathBuf>) -> Self {
        let memory = nix::sys::sysinfo::sysinfo().map_or(0, |info| info.ram_total());
        Self {
            path,
            idle: Mutex::default(),
            held: Mutex::default(),
            shares: Mutex::new(Shares::of(memory)),
            left: Arc::default(),
            born: Instant::now(),
            last_id: AtomicU64::new(0),
            away: AtomicBool::new(false),
        }
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        // Counts of numbers: no panic leaves them half changed.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of objects that were not read ahead: more than their account's share, or too large.
    #[must_use]
    pub fn left(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.left)
    }

    /// Has an object read ahead for this account, as far as its share goes, and kept mapped until a
    /// [`Self::release`] for each `hold` that says so. Blocks until it is read, or for [`ANSWER_MS_MAX`].
    #[must_use]
    pub fn hold(&self, account: u32, id: u64, length: u64, file: BorrowedFd<'_>) -> bool {
        if self.path.is_none() || length == 0 {
            return false;
        }
        let now_us = u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX);
        // Whole at every moment: a map of numbers.
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = shares.take(account, length, now_us);
        drop(shares);
        self.left.fetch_add(length - ahead.min(length), Ordering::Relaxed);
        if ahead == 0 {
            return false;
        }
        *self.held().entry(id).or_default() += 1;
        let answer = self.ask(&Request::Prefetch { id, length: ahead }, Some(file));
        self.note(answer.map(|_| ()), id);
        true
    }

    /// Gives up one hold; with the last one the object is let go of.
    pub fn release(&self, id: u64) {
        {
            let mut held = self.held();
            let Some(count) = held.get_mut(&id) else { return };
            *count -= 1;
            if *count > 0 {
                return;
            }
            held.remove(&id);
        }
        let answer = self.ask(&Request::Release { id }, None);
        self.note(answer.map(|_| ()), id);
    }

    /// How it is; none if it is away.
    #[must_use]
    pub fn status(&self) -> Option<wire::prefetch::Status> {
        match self.ask(&Request::Status, None) {
            Ok(Reply::Status(status)) => Some(status),
            Ok(Reply::Done { .. } | Reply::Released) | Err(_) => None,
        }
    }

    fn note(&self, answer: Result<(), ClientError>, id: u64) {
        match answer {
            Ok(()) => {
                if self.away.swap(false, Ordering::Relaxed) {
                    log::info!("the prefetcher is back");
                }
            }
            // It is there, and this one object can't be read: the task will find out itself.
            Err(error @ ClientError::Refused(_)) => log::warn!("prefetching blob {id}: {error}"),
            Err(error) => {
                if !self.away.swap(true, Ordering::Relaxed) {
                    log::warn!(
                        "going on without the prefetcher, pages are charged to zones: {error}"
                    );
                }
            }
        }
    }

    fn ask(&self, request: &Request, file: Option<BorrowedFd<'_>>) -> Result<Reply, ClientError> {
        let Some(path) = &self.path else { return Err(ClientError::Closed) };
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let answer = match idle {
            // A connection that the prefetcher's restart has ended is no news: try a new one.
            Some(socket) => match self.exchange(&socket, request, file) {
                Err(ClientError::Closed | ClientError::Send(SendError::Closed)) => None,
                answer => Some((socket, answer)),
            },
            None => None,
        };
        let (socket, answer) = match answer {
            Some(done) => done,
            None => {
                let socket = Socket::connect(path)?;
                let answer = self.exchange(&socket, request, file);
                (socket, answer)
            }
        };
        if matches!(answer, Ok(_) | Err(ClientError::Refused(_))) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
        }
        answer
    }

    fn exchange(
        &self,
        socket: &Socket,
        request: &Request,
        file: Option<BorrowedFd<'_>>,
    ) -> Result<Reply, ClientError> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let fds: Vec<BorrowedFd<'_>> = file.into_iter().collect();
        socket.send(&encode(Kind::Request, id, request, fds.len())?, &fds)?;
        let mut waiting = [nix::poll::PollFd::new(socket.as_fd(), nix::poll::PollFlags::POLLIN)];
        if nix::poll::poll(&mut waiting, ANSWER_MS_MAX)? == 0 {
            return Err(ClientError::Slow);
        }
        let mut message = Vec::new();
        let Some(fds) = socket.recv(&mut message)? else { return Err(ClientError::Closed) };
        let frame = Frame::parse(&message, fds.len())?;
        match frame.kind {
            Kind::Reply if frame.id == id => Ok(frame.body()?),
            Kind::Refusal if frame.id == id => Err(ClientError::Refused(frame.body()?)),
            _ => Err(ClientError::Answer),
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::prefetch::server;
    use sys::seqpacket::Listener;
    use wire::prefetch::Status;

    #[test]
    fn an_object_stays_mapped_until_its_last_hold_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.sock");
        let listener = Listener::bind(&path, 0o600).unwrap();
        std::thread::spawn(move || server::serve(&listener));
        let prefetcher = Prefetcher::new(Some(path));
        let file = tempfile::tempfile().unwrap();
        file.set_len(10_000).unwrap();
        assert!(prefetcher.hold(1, 7, 10_000, file.as_fd()));
        assert!(prefetcher.hold(1, 7, 10_000, file.as_fd()));
        assert_eq!(prefetcher.status().unwrap(), Status { objects: 1, bytes: 10_000, evicted: 0 });
        prefetcher.release(7);
        assert_eq!(prefetcher.status().unwrap().objects, 1);
        prefetcher.release(7);
        assert_eq!(prefetcher.status().unwrap().objects, 0);
    }

    #[test]
    fn a_scan_beyond_its_share_is_left_to_its_reader_and_held_by_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.sock");
        let listener = Listener::bind(&path, 0o600).unwrap();
        std::thread::spawn(move || server::serve(&listener));
        let mut prefetcher = Prefetcher::new(Some(path));
        // The least there is: a share of 8 MiB.
        prefetcher.shares = Mutex::new(Shares::of(0));
        let file = tempfile::tempfile().unwrap();
        file.set_len(8 << 20).unwrap();
        assert!(prefetcher.hold(1, 7, 8 << 20, file.as_fd()));
        assert!(!prefetcher.hold(1, 8, 6 << 20, file.as_fd()));
        assert!(prefetcher.hold(2, 9, 6 << 20, file.as_fd()));
        assert_eq!(prefetcher.left().load(Ordering::Relaxed), 6 << 20);
        assert_eq!(prefetcher.status().unwrap().bytes, 14 << 20);
        [7, 9].iter().for_each(|id| prefetcher.release(*id));
        assert_eq!(prefetcher.status().unwrap().objects, 0);
    }

    #[test]
    fn without_a_prefetcher_work_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let prefetcher = Prefetcher::new(Some(directory.path().join("nobody.sock")));
        let file = tempfile::tempfile().unwrap();
        assert!(prefetcher.hold(1, 7, 10_000, file.as_fd()));
        prefetcher.release(7);
        assert!(prefetcher.away.load(Ordering::Relaxed));
        assert!(prefetcher.held().is_empty());
    }
}
