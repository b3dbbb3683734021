//! One peer: who it is, what it has open, and what waits to be sent to it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use sys::seqpacket::{Credentials, RecvError, SendError, Socket};
use thiserror::Error;
use wire::frame::{FrameError, Kind};
use wire::task::{Peer, REQUESTS_MAX};

/// Connections at a time: zoned and its successor, consoled, and people with a status command.
pub const CONNECTIONS_MAX: usize = 16;
/// Messages that wait for one peer: an answer to each open request and as many pushes.
const QUEUE_MAX: usize = 2 * REQUESTS_MAX;
/// How long a peer may leave its messages unread. zoned is one busy loop: it reads within milliseconds.
const UNREAD_MAX: Duration = Duration::from_secs(30);
/// The users that may connect besides root and storaged's own: consoled.
const USERS: [u32; 1] = [202];

/// Names a connection for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Why a connection was dropped.
#[derive(Debug, Error)]
pub enum Dropped {
    /// The peer went away: nothing wrong.
    #[error("it closed the connection")]
    Closed,
    /// Another zoned came.
    #[error("a newer zoned took its place")]
    Displaced,
    /// What it sent is no message.
    #[error("it sent rubbish: {0}")]
    Frame(#[from] FrameError),
    /// A message of a kind that nobody sends here, or at the wrong time.
    #[error("it sent a {0:?} where none belongs")]
    Kind(Kind),
    /// Descriptors where none belong.
    #[error("it sent {0} descriptors where none belong")]
    Descriptors(usize),
    /// More open requests than its window.
    #[error("it has more than {REQUESTS_MAX} requests open")]
    Window,
    /// It asks for what only zoned may ask for.
    #[error("it asks for tasks and has not said that it is zoned")]
    NotZoned,
    /// User and role do not go together.
    #[error("user {uid} may not be {peer:?}")]
    User {
        /// Which user.
        uid: u32,
        /// As whom it came.
        peer: Peer,
    },
    /// It stopped reading.
    #[error("it does not read: {waiting} messages wait for it")]
    Unread {
        /// How many.
        waiting: usize,
    },
    /// The kernel says so.
    #[error(transparent)]
    Recv(#[from] RecvError),
    /// The kernel says so.
    #[error(transparent)]
    Send(#[from] SendError),
}

/// A message on its way, with what travels beside it.
pub struct Outgoing {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The descriptors.
    pub fds: Vec<Box<dyn AsFd + Send>>,
    /// Whether it answers a request.
    pub answer: bool,
}

/// One peer.
pub struct Connection {
    socket: Socket,
    credentials: Credentials,
    peer: Option<Peer>,
    open: usize,
    queue: VecDeque<Outgoing>,
    /// Since when the queue has not moved.
    stuck: Option<Instant>,
}

/// Whether a user may connect at all.
pub fn may_connect(credentials: &Credentials, own_uid: u32) -> bool {
    credentials.uid == 0 || credentials.uid == own_uid || USERS.contains(&credentials.uid)
}

impl Connection {
    /// A new peer, who has not said who it is.
    pub fn new(socket: Socket, credentials: Credentials) -> Self {
        Self { socket, credentials, peer: None, open: 0, queue: VecDeque::new(), stuck: None }
    }

    /// Who it is at the kernel's word.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Notes who it says it is. zoned is root, or storaged's own user on a development host.
    pub fn hello(&mut self, peer: Peer, own_uid: u32) -> Result<(), Dropped> {
        let uid = self.credentials.uid;
        if peer == Peer::Zoned && uid != 0 && uid != own_uid {
            return Err(Dropped::User { uid, peer });
        }
        if self.peer.is_some() {
            return Err(Dropped::Kind(Kind::Hello));
        }
        self.peer = Some(peer);
        Ok(())
    }

    /// Whether it said that it is zoned.
    pub fn is_zoned(&self) -> bool {
        self.peer == Some(Peer::Zoned)
    }

    /// Receives a message, if one is there.
    pub fn recv(&self, message: &mut Vec<u8>) -> Result<Option<Vec<OwnedFd>>, Dropped> {
        match self.socket.recv(message) {
            Ok(Some(fds)) => Ok(Some(fds)),
            Ok(None) => Err(Dropped::Closed),
            Err(RecvError::Empty) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes a request.
    pub fn opened(&mut self) -> Result<(), Dropped> {
        self.open += 1;
        if self.open > REQUESTS_MAX { Err(Dropped::Window) } else { Ok(()) }
    }

    /// Whether nothing waits, so that a push may be made.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Puts a message in the queue and sends what can be sent.
    pub fn send(&mut self, message: Outgoing) -> Result<(), Dropped> {
        self.queue.push_back(message);
        self.flush()?;
        let waiting = self.queue.len();
        if waiting > QUEUE_MAX { Err(Dropped::Unread { waiting }) } else { Ok(()) }
    }

    /// Sends what can be sent.
    pub fn flush(&mut self) -> Result<(), Dropped> {
        while let Some(message) = self.queue.front() {
            let fds: Vec<BorrowedFd<'_>> = message.fds.iter().map(|fd| fd.as_fd()).collect();
            match self.socket.send(&message.bytes, &fds) {
                Ok(()) => {}
                Err(SendError::Full) => {
                    self.stuck.get_or_insert_with(Instant::now);
                    return Ok(());
                }
                Err(SendError::Closed) => return Err(Dropped::Closed),
                Err(error) => return Err(error.into()),
            }
            if message.answer {
                self.open -= 1;
            }
            self.queue.pop_front();
            self.stuck = None;
        }
        Ok(())
    }

    /// Drops a peer that has left its messages unread for too long.
    pub fn check_read(&self) -> Result<(), Dropped> {
        match self.stuck {
            Some(since) if since.elapsed() > UNREAD_MAX => {
                Err(Dropped::Unread { waiting: self.queue.len() })
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn pair() -> (Connection, Socket) {
        let (ours, theirs) = Socket::pair().unwrap();
        ours.set_nonblocking().unwrap();
        let credentials = Credentials { pid: 1, uid: 0, gid: 0 };
        (Connection::new(ours, credentials), theirs)
    }

    fn message(answer: bool) -> Outgoing {
        Outgoing { bytes: vec![0; 60_000], fds: Vec::new(), answer }
    }

    #[test]
    fn a_window_is_full_after_its_last_request_and_opens_with_an_answer_that_was_sent() {
        let (mut connection, peer) = pair();
        for _ in 0..REQUESTS_MAX {
            connection.opened().unwrap();
        }
        connection.send(message(true)).unwrap();
        assert!(peer.recv(&mut Vec::new()).unwrap().is_some());
        connection.opened().unwrap();
        assert!(matches!(connection.opened(), Err(Dropped::Window)));
    }

    #[test]
    fn a_peer_that_does_not_read_fills_its_queue_and_no_more() {
        let (mut connection, _peer) = pair();
        let mut sent = 0;
        let dropped = loop {
            match connection.send(message(false)) {
                Ok(()) => sent += 1,
                Err(dropped) => break dropped,
            }
        };
        assert!(matches!(dropped, Dropped::Unread { .. }));
        assert!(!connection.is_idle() && sent < 2 * QUEUE_MAX);
    }

    #[test]
    fn only_root_and_our_own_user_may_be_zoned() {
        let (ours, _theirs) = Socket::pair().unwrap();
        let credentials = Credentials { pid: 1, uid: 202, gid: 202 };
        assert!(may_connect(&credentials, 200));
        let mut console = Connection::new(ours, credentials);
        assert!(matches!(console.hello(Peer::Zoned, 200), Err(Dropped::User { .. })));
        assert!(!may_connect(&Credentials { pid: 1, uid: 1000, gid: 0 }, 200));
    }
}
