//! The loop of a ring thread: completions and wakes in, connections advanced, one wait.

use super::counts::RingCounts;
use super::id::Ids;
use super::limits::{
    CONNECTIONS_MAX, RECEIVE_BUFFER_BYTES, RECEIVE_BUFFERS, RING_ENTRIES, SWEEP_INTERVAL, Times,
};
use super::lines::{Gathered, Lines};
use super::mailbox::{Mailbox, Waker};
use super::peer::{Entrance, Peer, Verdict};
use super::places::{Arrival, Places};
use super::read_ahead::ReadAhead;
use super::response::Clock;
use super::{Control, FrontError, Kinds, Service};
use rustls::ServerConfig;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use sys::ring::{Completion, Descriptor, Filled, Operation, Ring, Size};

/// The name in a mailbox that stands for no connection but for the thread itself.
pub(super) const CONTROL: u64 = u64::MAX;
/// The name that stands for connections which another thread has accepted.
pub(super) const ARRIVALS: u64 = u64::MAX - 1;

/// What an operation was for; the rest of its token is the name of a connection or the number of a
/// port.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum For {
    Bell,
    Accept,
    Receive,
    Send,
    Poll,
    Read,
}

/// Bits of a token below what it is for.
const NAME_BITS: u32 = 60;
/// Bits of a connection's name below its generation.
const INDEX_BITS: u32 = 32;

pub(super) fn token(what: For, name: u64) -> u64 {
    (what as u64) << NAME_BITS | name
}

/// A port as a ring thread gets it.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) listener: Descriptor,
    pub(super) service: Arc<dyn Service>,
    pub(super) tls: Option<Arc<ServerConfig>>,
}

pub(super) struct Setup {
    pub(super) number: usize,
    pub(super) places: Arc<Places>,
    pub(super) ports: Vec<Door>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) ahead: ReadAhead,
    pub(super) control: Arc<Control>,
    pub(super) counts: RingCounts,
    pub(super) kinds: Arc<[Kinds]>,
    pub(super) lines: Option<Lines>,
    pub(super) times: Times,
}

/// What connections act with.
pub(super) struct Hands {
    pub(super) ring: Ring,
    pub(super) clock: Clock,
    pub(super) ahead: ReadAhead,
    pub(super) times: Times,
    pub(super) counts: RingCounts,
    /// The kinds of request, by port.
    pub(super) kinds: Arc<[Kinds]>,
    /// What requests are called.
    pub(super) ids: Ids,
    /// Lines about requests, if they are wanted.
    pub(super) lines: Option<Gathered>,
    /// Whether connections end with their current response.
    pub(super) draining: bool,
}

struct Slot {
    generation: u32,
    peer: Option<Box<Peer>>,
}

struct Port {
    /// None once nobody is accepted any more: unless a supervisor has it too, it is closed then, and a
    /// client is refused at once instead of waiting for nobody.
    listener: Option<Descriptor>,
    service: Arc<dyn Service>,
    tls: Option<Arc<ServerConfig>>,
    accepting: Option<Operation>,
}

struct Worker {
    hands: Hands,
    ports: Vec<Port>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    mailbox: Arc<Mailbox>,
    control: Arc<Control>,
    places: Arc<Places>,
    /// This thread's number among the places.
    number: usize,
    next_sweep: Instant,
}

/// Runs until told to drain and drained. Says through `started` whether it could begin.
pub(super) fn run(setup: Setup, started: &mpsc::Sender<Result<(), FrontError>>) {
    let size = Size {
        entries: RING_ENTRIES,
        buffers: RECEIVE_BUFFERS,
        buffer_bytes: RECEIVE_BUFFER_BYTES,
    };
    let result = Ring::new(size).map_err(FrontError::from).map(|ring| Worker::new(ring, setup));
    let (worker, result) = match result {
        Ok(worker) => (Some(worker), Ok(())),
        Err(e) => (None, Err(e)),
    };
    // Whoever started this thread waits for it; if it does not, there is nothing to serve for.
    if started.send(result).is_ok()
        && let Some(mut worker) = worker
        && let Err(e) = worker.serve()
    {
        // Nothing can be sent or received any more: better a restart than a deaf server.
        log::error!("a ring failed: {e}");
        std::process::abort();
    }
}

impl Worker {
    fn new(ring: Ring, setup: Setup) -> Worker {
        let ports = setup.ports.into_iter();
        Worker {
            hands: Hands {
                ring,
                clock: Clock::default(),
                ahead: setup.ahead,
                times: setup.times,
                counts: setup.counts,
                kinds: setup.kinds,
                ids: Ids::new(setup.number),
                lines: setup.lines.map(Gathered::new),
                draining: false,
            },
            ports: ports
                .map(|Door { listener, service, tls }| Port {
                    listener: Some(listener),
                    service,
                    tls,
                    accepting: None,
                })
                .collect(),
            slots: Vec::new(),
            free: Vec::new(),
            mailbox: setup.mailbox,
            control: setup.control,
            places: setup.places,
            number: setup.number,
            next_sweep: Instant::now() + SWEEP_INTERVAL,
        }
    }

    fn serve(&mut self) -> io::Result<()> {
        self.listen_to_bell();
        self.accept();
        loop {
            while let Some(completion) = self.hands.ring.next_completion() {
                self.complete(completion);
            }
            self.take_mail();
            if self.next_sweep <= Instant::now() {
                self.sweep();
            }
            if self.is_drained() {
                return Ok(());
            }
            let time = if self.mailbox.fall_asleep() {
                self.next_sweep.saturating_duration_since(Instant::now())
            } else {
                Duration::ZERO
            };
            let waited = self.hands.ring.wait(Some(time));
            self.mailbox.wake_up();
            waited?;
        }
    }

    fn listen_to_bell(&mut self) {
        let bell: Descriptor = self.mailbox.bell();
        // An eventfd is read as one number of eight bytes.
        self.hands.ring.read(bell, u64::MAX, 8, token(For::Bell, 0));
    }

    fn accept(&mut self) {
        if self.hands.draining || self.is_full() {
            return;
        }
        for (number, port) in self.ports.iter_mut().enumerate() {
            if port.accepting.is_none()
                && let Some(listener) = &port.listener
            {
                let token = token(For::Accept, number as u64);
                let listener = Arc::clone(listener);
                port.accepting = Some(self.hands.ring.accept(listener, token));
            }
        }
    }

    fn connections(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn is_full(&self) -> bool {
        self.places.connections(self.number) >= CONNECTIONS_MAX
    }

    fn stop_accepting(&mut self) {
        for operation in self.ports.iter().filter_map(|port| port.accepting) {
            self.hands.ring.cancel(operation);
        }
    }

    /// Acts on what was posted up to now; what is posted meanwhile has its turn after the next
    /// completions.
    fn take_mail(&mut self) {
        for _ in 0..self.mailbox.waiting() {
            match self.mailbox.take() {
                Some(CONTROL) => self.start_draining(),
                Some(ARRIVALS) => self.take_arrivals(),
                Some(name) => self.with_peer(name, |peer, hands| {
                    peer.heard();
                    peer.advance(hands)
                }),
                None => break,
            }
        }
    }

    fn start_draining(&mut self) {
        self.hands.draining = true;
        self.stop_accepting();
        self.ports.iter_mut().for_each(|port| port.listener = None);
        self.each_peer(Peer::advance);
    }

    fn is_drained(&self) -> bool {
        let late = self.control.drain_until.get().is_some_and(|until| *until <= Instant::now());
        self.hands.draining && (late || self.connections() == 0)
    }

    fn sweep(&mut self) {
        let now = Instant::now();
        self.next_sweep = now + SWEEP_INTERVAL;
        self.each_peer(|peer, hands| peer.check_time(now, hands));
        if let Some(lines) = &mut self.hands.lines {
            lines.give();
        }
        self.accept();
    }

    fn each_peer(&mut self, act: impl Fn(&mut Peer, &mut Hands) -> Verdict) {
        for index in 0..self.slots.len() {
            let name = name(index as u32, self.slots[index].generation);
            self.with_peer(name, &act);
        }
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { token, result, more } => self.accepted(token, result, more),
            Completion::Received { token, result, more } => self.received(token, result, more),
            Completion::Sent { token, result } => {
                self.with_peer(name_of(token), |peer, hands| peer.sent(result.as_ref(), hands));
            }
            Completion::Ready { token, result } => {
                self.with_peer(name_of(token), |peer, hands| peer.writable(result, hands));
            }
            Completion::Read { token, result } if token == self::token(For::Bell, 0) => {
                if let Err(e) = result {
                    log::error!("can't hear the bell of a ring thread: {e}");
                }
                self.listen_to_bell();
            }
            Completion::Read { token, result } => {
                self.with_peer(name_of(token), |peer, hands| peer.file_read(result, hands));
            }
        }
    }

    fn accepted(&mut self, token: u64, result: io::Result<OwnedFd>, more: bool) {
        let number = name_of(token) as usize;
        if !more {
            self.ports[number].accepting = None;
        }
        match result {
            Ok(socket) if !self.hands.draining => {
                let arrival = Arrival { socket, port: number };
                match self.places.choose(self.number) {
                    own if own == self.number => self.welcome(arrival),
                    other => self.places.hand_over(other, arrival),
                }
                if self.is_full() {
                    log::warn!("{CONNECTIONS_MAX} connections: accepting no more for now");
                    self.stop_accepting();
                } else if !more {
                    self.accept();
                }
            }
            // Dropped: the client sees a closed connection, as it will at the next attempt.
            Ok(_late) => {}
            Err(e) if e.raw_os_error() == Some(sys::ring::CANCELED) => {}
            // Descriptors or memory have run out, or the client was faster to go than we to accept.
            // The next sweep tries again.
            Err(e) => log::warn!("can't accept a connection: {e}"),
        }
    }

    fn take_arrivals(&mut self) {
        while let Some(arrival) = self.places.arrival(self.number) {
            if self.hands.draining {
                // Closed, as if it had come a moment later.
                drop(arrival);
                self.places.ended(self.number);
            } else {
                self.welcome(arrival);
            }
        }
    }

    /// Takes a connection that is counted here already.
    fn welcome(&mut self, Arrival { socket, port }: Arrival) {
        let entrance = Entrance {
            port,
            service: Arc::clone(&self.ports[port].service),
            tls: self.ports[port].tls.clone(),
        };
        if let Err(e) = sys::listen::send_at_once(&socket) {
            log::debug!("can't set TCP_NODELAY: {e}");
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, peer: None });
            u32::try_from(self.slots.len() - 1).expect("connections are limited")
        });
        let slot = &mut self.slots[index as usize];
        let name = name(index, slot.generation);
        let waker = Arc::new(Waker::new(Arc::clone(&self.mailbox), name));
        match Peer::new(name, Arc::new(socket), entrance, waker) {
            Ok(peer) => slot.peer = Some(Box::new(peer)),
            Err(e) => {
                log::error!("can't begin a TLS connection: {e}");
                self.free.push(index);
                self.places.ended(self.number);
                return;
            }
        }
        self.hands.counts[port].opened.add(1);
        self.with_peer(name, Peer::advance);
    }

    fn received(&mut self, token: u64, result: io::Result<Option<Filled>>, more: bool) {
        let name = name_of(token);
        match result {
            Ok(Some(filled)) => {
                self.with_peer(name, |peer, hands| {
                    let verdict = peer.take_in(hands.ring.bytes(&filled), more, hands);
                    hands.ring.recycle(filled);
                    verdict.and(|| peer.advance(hands))
                });
            }
            Ok(None) => self.with_peer(name, Peer::input_ended),
            Err(e) => self.with_peer(name, |peer, hands| peer.receive_failed(&e, hands)),
        }
    }

    /// Acts on a connection, if it still exists, and ends it if that is the verdict.
    fn with_peer(&mut self, name: u64, act: impl FnOnce(&mut Peer, &mut Hands) -> Verdict) {
        let (index, generation) = parts(name);
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if slot.generation != generation {
            return;
        }
        let Some(peer) = slot.peer.as_mut() else { return };
        if act(peer, &mut self.hands) == Verdict::Keep {
            return;
        }
        peer.abandon(&mut self.hands);
        slot.peer = None;
        slot.generation = slot.generation.wrapping_add(1) & ((1 << (NAME_BITS - INDEX_BITS)) - 1);
        self.free.push(index);
        self.places.ended(self.number);
    }
}

fn name(index: u32, generation: u32) -> u64 {
    u64::from(generation) << INDEX_BITS | u64::from(index)
}

fn parts(name: u64) -> (u32, u32) {
    (name as u32, (name >> INDEX_BITS) as u32)
}

fn name_of(token: u64) -> u64 {
    token & ((1 << NAME_BITS) - 1)
}
