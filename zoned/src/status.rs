//! Answers whoever asks how zoned is, on a socket of its own.

use crate::chain;
use crate::daemon::Daemon;
use std::os::fd::{AsFd, BorrowedFd};
use sys::seqpacket::{Listener, RecvError, Socket};
use wire::frame::{Frame, Kind, Refusal, encode};
use wire::zone::{Reply, Request, ZonedStatus};

/// The most peers at once; more are turned away.
const CLIENTS_MAX: usize = 16;
/// The most zones in one answer: about 250 bytes each, well within a message.
const ZONES_SHOWN_MAX: usize = 128;

/// The peers that ask.
#[derive(Debug)]
pub(crate) struct Clients {
    listener: Option<Listener>,
    sockets: Vec<Option<Socket>>,
}

impl Clients {
    pub(crate) fn new(listener: Option<Listener>) -> Self {
        Self { listener, sockets: Vec::new() }
    }

    pub(crate) fn listener(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().flatten().map(AsFd::as_fd)
    }

    /// Takes new peers.
    pub(crate) fn accept(&mut self) {
        while let Some(listener) = &self.listener {
            match listener.accept() {
                Ok(Some(peer)) if self.sockets.len() < CLIENTS_MAX => {
                    match peer.set_nonblocking() {
                        Ok(()) => self.sockets.push(Some(peer)),
                        Err(error) => eprintln!("zoned: cannot use a peer's socket: {error}"),
                    }
                }
                Ok(Some(_)) => {
                    eprintln!("zoned: more than {CLIENTS_MAX} peers: one is turned away");
                }
                Ok(None) => return,
                Err(error) => {
                    eprintln!("zoned: cannot accept a peer: {error}");
                    return;
                }
            }
        }
    }

    /// Peers keep their places while events are handled; those that are gone lose them afterwards.
    pub(crate) fn forget_closed(&mut self) {
        self.sockets.retain(Option::is_some);
    }
}

impl Daemon {
    /// Answers a peer, or drops it for what it sent.
    pub(crate) fn answer_client(&mut self, at: usize) {
        let Some(peer) = self.clients.sockets.get_mut(at).and_then(Option::take) else { return };
        let mut message = Vec::new();
        match peer.recv(&mut message) {
            Ok(Some(fds)) => match self.answer(&message, fds.len()) {
                Ok(None) => {}
                Ok(Some(answer)) => match peer.send(&answer, &[]) {
                    Ok(()) => {}
                    Err(error) => return eprintln!("zoned: dropping a peer: {}", chain(&error)),
                },
                Err(error) => return eprintln!("zoned: dropping a peer: {}", chain(&error)),
            },
            Ok(None) => return,
            Err(RecvError::Empty) => {}
            Err(error) => return eprintln!("zoned: dropping a peer: {}", chain(&error)),
        }
        self.clients.sockets[at] = Some(peer);
    }

    fn answer(
        &self,
        message: &[u8],
        fds: usize,
    ) -> Result<Option<Vec<u8>>, wire::frame::FrameError> {
        let frame = Frame::parse(message, fds)?;
        // Whoever says hello is welcome; there is nothing to say to it.
        if frame.kind == Kind::Hello {
            return Ok(None);
        }
        match frame.body()? {
            Request::Status => encode(Kind::Reply, frame.id, &Reply::Status(self.status()), 0),
            Request::Zone(_) => {
                let refusal = Refusal {
                    code: "NotImplemented".to_owned(),
                    message: "this zoned has no standing zones".to_owned(),
                };
                encode(Kind::Refusal, frame.id, &refusal, 0)
            }
        }
        .map(Some)
    }

    fn status(&self) -> ZonedStatus {
        let limits = self.scheduler.limits();
        let shown = self.zones.iter().take(ZONES_SHOWN_MAX);
        ZonedStatus {
            store_connected: self.link.socket().is_some(),
            zones_max: limits.zones,
            memory_mib_max: limits.memory_mib,
            memory_mib: self.scheduler.memory_mib(),
            waiting: self.scheduler.waiting(),
            degraded: self.degraded.clone(),
            zones: shown.map(|(attempt, entry)| entry.status(*attempt)).collect(),
            zones_running: u32::try_from(self.zones.len()).unwrap_or(u32::MAX),
            counts: self.counts,
        }
    }
}
