//! The poll thread: one loop, one wait point. It takes messages apart, keeps the windows, and hands
//! requests to the workers; it waits for nothing else.

use super::connection::{
    CONNECTIONS_MAX, Connection, ConnectionId, Dropped, Outgoing, may_connect,
};
use super::pushes::Pushes;
use super::work::{Done, Office, Work};
use crossbeam::channel::{Receiver, Sender};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use sys::seqpacket::{Listener, Socket};
use wire::frame::{Frame, Kind};
use wire::task::{Hello, Peer, Request};

/// The longest wait, in milliseconds: how often stuck peers are looked for.
const TICK_MS: u16 = 5_000;
/// Messages taken from one peer before the others have their turn.
const MESSAGES_PER_TURN: usize = 32;

/// Everything that the thread owns.
pub struct Server {
    listener: Listener,
    heard: UnixStream,
    office: Arc<Office>,
    work: Sender<Work>,
    long_work: Sender<Work>,
    done: Receiver<Done>,
    own_uid: u32,
    connections: BTreeMap<ConnectionId, Connection>,
    last: u64,
    zoned: Option<ConnectionId>,
    pushes: Pushes,
}

impl Server {
    /// A server without peers.
    pub fn new(
        listener: Listener,
        heard: UnixStream,
        office: Arc<Office>,
        (work, long_work): (Sender<Work>, Sender<Work>),
        done: Receiver<Done>,
    ) -> Self {
        Self {
            listener,
            heard,
            office,
            work,
            long_work,
            done,
            own_uid: nix::unistd::geteuid().as_raw(),
            connections: BTreeMap::new(),
            last: 0,
            zoned: None,
            pushes: Pushes::default(),
        }
    }

    /// Runs until the bell is closed.
    pub fn run(mut self) {
        loop {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(error) => return log::error!("the wire cannot wait: {error}"),
            };
            if ready.bell && !self.hear() {
                break;
            }
            for id in ready.readable {
                self.serve(id, Self::read);
            }
            for id in ready.writable {
                self.serve(id, |server, id| server.connection(id)?.flush());
            }
            self.answer();
            self.push();
            self.drop_stuck();
            if ready.listener {
                self.accept();
            }
        }
        let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        ids.into_iter().for_each(|id| self.forget(id));
    }

    fn wait(&self) -> Result<Ready, nix::Error> {
        let mut fds = vec![
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.heard.as_fd(), PollFlags::POLLIN),
        ];
        for connection in self.connections.values() {
            let mut events = PollFlags::POLLIN;
            events.set(PollFlags::POLLOUT, !connection.is_idle());
            fds.push(PollFd::new(connection.as_fd(), events));
        }
        match poll(&mut fds, PollTimeout::from(TICK_MS)) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error),
        }
        let events: Vec<PollFlags> =
            fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect();
        let of = |flags: PollFlags| {
            let peers = self.connections.keys().zip(&events[2..]);
            peers.filter(|(_, e)| e.intersects(flags)).map(|(id, _)| *id).collect()
        };
        let ended = PollFlags::POLLHUP | PollFlags::POLLERR;
        Ok(Ready {
            listener: !events[0].is_empty(),
            bell: !events[1].is_empty(),
            readable: of(PollFlags::POLLIN | ended),
            writable: of(PollFlags::POLLOUT),
        })
    }

    /// Empties the bell; whether it is still there.
    fn hear(&mut self) -> bool {
        let mut sink = [0; 512];
        loop {
            match self.heard.read(&mut sink) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    log::error!("the wire's bell is broken: {error}");
                    return false;
                }
            }
        }
        self.pushes.note(self.office.jobs.notices().take());
        true
    }

    fn accept(&mut self) {
        let socket = match self.listener.accept() {
            Ok(Some(socket)) => socket,
            Ok(None) => return,
            Err(error) => return log::warn!("the wire cannot accept: {error}"),
        };
        if let Err(why) = self.admit(socket) {
            log::warn!("wire: a connection was refused: {why}");
        }
    }

    fn admit(&mut self, socket: Socket) -> Result<(), String> {
        let peer = socket.peer().map_err(|error| error.to_string())?;
        if !may_connect(&peer, self.own_uid) {
            return Err(format!("user {} may not ask for anything here", peer.uid));
        }
        if self.connections.len() >= CONNECTIONS_MAX {
            return Err(format!("there are {CONNECTIONS_MAX} already"));
        }
        socket.set_nonblocking().map_err(|error| error.to_string())?;
        self.last += 1;
        self.connections.insert(ConnectionId(self.last), Connection::new(socket, peer));
        Ok(())
    }

    fn connection(&mut self, id: ConnectionId) -> Result<&mut Connection, Dropped> {
        self.connections.get_mut(&id).ok_or(Dropped::Closed)
    }

    /// Does something with a peer, and drops it if that fails.
    fn serve(
        &mut self,
        id: ConnectionId,
        act: impl FnOnce(&mut Self, ConnectionId) -> Result<(), Dropped>,
    ) {
        if !self.connections.contains_key(&id) {
            return;
        }
        if let Err(why) = act(self, id) {
            self.drop_peer(id, &why);
        }
    }

    fn drop_peer(&mut self, id: ConnectionId, why: &Dropped) {
        let Some(connection) = self.connections.get(&id) else { return };
        let pid = connection.credentials().pid;
        match why {
            Dropped::Closed if !connection.is_zoned() => {}
            Dropped::Closed => log::info!("wire: zoned (pid {pid}) is gone"),
            _ => log::warn!("wire: pid {pid} was dropped: {why}"),
        }
        self.forget(id);
    }

    fn forget(&mut self, id: ConnectionId) {
        self.connections.remove(&id);
        if self.zoned == Some(id) {
            self.zoned = None;
        }
        self.office.staged.depart(id);
        let attempts = self.office.living.depart(id);
        if !attempts.is_empty() {
            self.hand(Work::CutOff(attempts));
        }
    }

    fn hand(&self, work: Work) {
        let queue = if work.is_long() { &self.long_work } else { &self.work };
        queue.send(work).expect("the workers end after this thread");
    }

    fn read(&mut self, id: ConnectionId) -> Result<(), Dropped> {
        let mut message = Vec::new();
        for _ in 0..MESSAGES_PER_TURN {
            let Some(fds) = self.connection(id)?.recv(&mut message)? else { break };
            self.take(id, &message, fds)?;
        }
        Ok(())
    }

    fn take(
        &mut self,
        id: ConnectionId,
        message: &[u8],
        mut fds: Vec<OwnedFd>,
    ) -> Result<(), Dropped> {
        let frame = Frame::parse(message, fds.len())?;
        if frame.kind != Kind::Request && !fds.is_empty() {
            return Err(Dropped::Descriptors(fds.len()));
        }
        match frame.kind {
            Kind::Hello => self.hello(id, frame.body::<Hello>()?.peer),
            Kind::Request => {
                let request: Request = frame.body()?;
                let wanted = usize::from(matches!(request, Request::Publish { .. }));
                if fds.len() != wanted {
                    return Err(Dropped::Descriptors(fds.len()));
                }
                let beside = fds.pop();
                let connection = self.connection(id)?;
                if !connection.is_zoned() && request != Request::Status {
                    return Err(Dropped::NotZoned);
                }
                connection.opened()?;
                self.hand(Work::Serve { connection: id, id: frame.id, request, beside });
                Ok(())
            }
            Kind::Reply | Kind::Refusal | Kind::Push => Err(Dropped::Kind(frame.kind)),
        }
    }

    fn hello(&mut self, id: ConnectionId, peer: Peer) -> Result<(), Dropped> {
        let own_uid = self.own_uid;
        self.connection(id)?.hello(peer, own_uid)?;
        match peer {
            Peer::Consoled => Ok(()),
            Peer::Zoned => {
                if let Some(older) = self.zoned {
                    self.drop_peer(older, &Dropped::Displaced);
                }
                log::info!("wire: zoned is here (pid {})", self.connection(id)?.credentials().pid);
                self.zoned = Some(id);
                self.office.living.arrive(id);
                self.office.staged.arrive(id);
                if let Err(error) = self.pushes.arrive(&self.office.jobs) {
                    log::error!("cannot tell zoned what could run: {error}");
                }
                Ok(())
            }
        }
    }

    fn answer(&mut self) {
        while let Ok(Done { connection, message, tell_again }) = self.done.try_recv() {
            self.serve(connection, |server, id| server.connection(id)?.send(message));
            self.pushes.tell_again(tell_again);
        }
    }

    fn push(&mut self) {
        let Some(id) = self.zoned else { return };
        while self.connections.get(&id).is_some_and(Connection::is_idle) {
            let messages = match self.pushes.next(&self.office.jobs) {
                Ok(messages) => messages,
                Err(error) => return log::error!("cannot tell zoned what could run: {error}"),
            };
            if messages.is_empty() && self.pushes.is_empty() {
                return;
            }
            for bytes in messages {
                let message = Outgoing { bytes, fds: Vec::new(), answer: false };
                self.serve(id, |server, id| server.connection(id)?.send(message));
            }
        }
    }

    fn drop_stuck(&mut self) {
        let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in ids {
            self.serve(id, |server, id| server.connection(id)?.check_read());
        }
    }
}

/// What a wait found.
struct Ready {
    listener: bool,
    bell: bool,
    readable: Vec<ConnectionId>,
    writable: Vec<ConnectionId>,
}
