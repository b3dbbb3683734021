//! Peers on zoned's own socket: whoever asks how it is, or for something about standing zones, and whoever
//! watches what happens.

use crate::chain;
use crate::daemon::Daemon;
use crate::events::Events;
use crate::standing::Asker;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use sys::seqpacket::{Listener, RecvError, SendError, Socket};
use wire::account::AccountRequest;
use wire::frame::{Frame, FrameError, Kind, encode};
use wire::standing::{ZonePush, ZoneReply, ZoneRequest};
use wire::zone::{Reply, Request, ZonedStatus};

/// The most peers at once; more are turned away. Each session and each watcher may be one.
const CLIENTS_MAX: usize = 256;
/// The most zones in one answer: about 250 bytes each, well within a message.
const ZONES_SHOWN_MAX: usize = 128;
/// Messages of events that a watcher gets before others have their turn.
const BATCHES: usize = 4;

/// Names a peer for as long as zoned runs.
pub(crate) type PeerId = u64;

/// A peer.
#[derive(Debug)]
struct Peer {
    socket: Socket,
    /// The last event it was sent, if it watches.
    seen: Option<u64>,
    /// It did not take the last message: it is tried again when it reads.
    full: bool,
}

/// The peers.
#[derive(Debug)]
pub(crate) struct Clients {
    listener: Option<Listener>,
    peers: BTreeMap<PeerId, Peer>,
    next: PeerId,
    /// Peers that are gone, until somebody asks.
    lost: Vec<PeerId>,
}

impl Clients {
    pub(crate) const fn new(listener: Option<Listener>) -> Self {
        Self { listener, peers: BTreeMap::new(), next: 1, lost: Vec::new() }
    }

    pub(crate) fn listener(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd)
    }

    /// Each peer's socket, and whether room to write in it is waited for.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = (PeerId, BorrowedFd<'_>, bool)> {
        self.peers.iter().map(|(id, peer)| (*id, peer.socket.as_fd(), peer.full))
    }

    /// Takes new peers.
    pub(crate) fn accept(&mut self) {
        while let Some(listener) = &self.listener {
            match listener.accept() {
                Ok(Some(socket)) if self.peers.len() < CLIENTS_MAX => {
                    match socket.set_nonblocking() {
                        Ok(()) => {
                            let peer = Peer { socket, seen: None, full: false };
                            self.peers.insert(self.next, peer);
                            self.next += 1;
                        }
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

    /// Sends a peer a message; one that does not read is dropped.
    pub(crate) fn send(&mut self, id: PeerId, message: &[u8], fds: &[BorrowedFd<'_>]) {
        let Some(peer) = self.peers.get(&id) else { return };
        if let Err(error) = peer.socket.send(message, fds) {
            eprintln!("zoned: dropping a peer: {}", chain(&error));
            self.lose(id);
        }
    }

    fn lose(&mut self, id: PeerId) {
        if self.peers.remove(&id).is_some() {
            self.lost.push(id);
        }
    }

    /// Peers that are gone since this was asked last.
    pub(crate) fn take_lost(&mut self) -> Vec<PeerId> {
        std::mem::take(&mut self.lost)
    }

    /// Sends each watcher the events that it has not seen, as far as it takes them.
    pub(crate) fn tell_watchers(&mut self, events: &Events) {
        let lost = &mut self.lost;
        self.peers.retain(|id, peer| {
            for _ in 0..BATCHES {
                match peer.tell(events) {
                    Ok(true) => {}
                    Ok(false) => return true,
                    Err(error) => {
                        eprintln!("zoned: dropping a watcher: {error}");
                        lost.push(*id);
                        return false;
                    }
                }
            }
            // What is left comes in the next round, at once.
            peer.full = true;
            true
        });
    }
}

impl Peer {
    /// Sends one batch; false if there is none or the peer does not take it now.
    fn tell(&mut self, events: &Events) -> Result<bool, String> {
        self.full = false;
        let Some(seen) = self.seen else { return Ok(false) };
        if seen >= events.last() {
            return Ok(false);
        }
        let batch = events.after(seen);
        let Some(last) = batch.last().map(|event| event.number) else { return Ok(false) };
        let message = encode(Kind::Push, 0, &ZonePush::Events(batch), 0).map_err(|e| chain(&e))?;
        match self.socket.send(&message, &[]) {
            Ok(()) => {
                self.seen = Some(last);
                Ok(true)
            }
            Err(SendError::Full) => {
                self.full = true;
                Ok(false)
            }
            Err(error) => Err(chain(&error)),
        }
    }
}

/// What is to be sent to a peer for what it sent.
enum Answer {
    Nothing,
    Message(Vec<u8>),
    /// It watches from after this event on.
    Watch(u64, Vec<u8>),
    /// It asks for something about standing zones, by a request of this number.
    Zone(u64, ZoneRequest),
    /// It asks for something about accounts.
    Account(u64, AccountRequest),
}

impl Daemon {
    /// Answers a peer, or drops it for what it sent.
    pub(crate) fn answer_client(&mut self, id: PeerId) {
        let Some(peer) = self.clients.peers.get(&id) else { return };
        let mut message = Vec::new();
        let answer = match peer.socket.recv(&mut message) {
            Ok(Some(fds)) => self.answer(&message, fds.len()).map_err(|error| chain(&error)),
            Ok(None) => return self.clients.lose(id),
            Err(RecvError::Empty) => return,
            Err(error) => Err(chain(&error)),
        };
        match answer {
            Ok(Answer::Nothing) => {}
            Ok(Answer::Zone(request, what)) => {
                self.zone_request(Asker { peer: id, request }, what);
            }
            Ok(Answer::Account(request, what)) => {
                self.account_request(Asker { peer: id, request }, what);
            }
            Ok(Answer::Message(answer)) => self.clients.send(id, &answer, &[]),
            Ok(Answer::Watch(after, answer)) => {
                self.clients.send(id, &answer, &[]);
                if let Some(peer) = self.clients.peers.get_mut(&id) {
                    peer.seen = Some(after);
                }
            }
            Err(error) => {
                eprintln!("zoned: dropping a peer: {error}");
                self.clients.lose(id);
            }
        }
    }

    fn answer(&mut self, message: &[u8], fds: usize) -> Result<Answer, FrameError> {
        let frame = Frame::parse(message, fds)?;
        // Whoever says hello is welcome; there is nothing to say to it.
        if frame.kind == Kind::Hello {
            return Ok(Answer::Nothing);
        }
        Ok(match frame.body()? {
            Request::Status => {
                let status = Reply::Status(self.status());
                Answer::Message(encode(Kind::Reply, frame.id, &status, 0)?)
            }
            Request::Zone(ZoneRequest::Watch { after }) => {
                let done = Reply::Zone(ZoneReply::Done);
                Answer::Watch(after, encode(Kind::Reply, frame.id, &done, 0)?)
            }
            Request::Zone(request) => Answer::Zone(frame.id, request),
            Request::Account(request) => Answer::Account(frame.id, request),
        })
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
            held: self.admission.held().map(str::to_owned),
            degraded: self.degraded.clone(),
            zones: shown.map(|(attempt, entry)| entry.status(*attempt)).collect(),
            zones_running: u32::try_from(self.zones.len()).unwrap_or(u32::MAX),
            counts: self.counts,
        }
    }
}
