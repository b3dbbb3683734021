//! The connection to storaged: made, and made again with a growing delay, with what is asked on it.
//!
//! Owns the socket and the table of unanswered requests; knows nothing of zones. What breaks the wire's
//! rules ends the connection, and so does a storaged that stops reading.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use sys::seqpacket::{RecvError, SendError, Socket, SocketError};
use thiserror::Error;
use wire::frame::{Frame, FrameError, Kind, Refusal, encode};
use wire::task::{Hello, Peer, Push, REQUESTS_MAX, Reply, Request};

/// The first delay before connecting again, doubled each time up to the last.
const DELAY_MS_MIN: u64 = 50;
/// A restarted storaged is found again within this.
const DELAY_MS_MAX: u64 = 2_000;

/// Why a connection ended.
#[derive(Debug, Error)]
pub enum LinkError {
    /// It was not made.
    #[error("cannot reach storaged")]
    Connect(#[from] SocketError),
    /// Its socket can't be used.
    #[error("cannot use the socket")]
    Socket(#[from] std::io::Error),
    /// storaged closed it.
    #[error("storaged has closed the connection")]
    Closed,
    /// A message could not be sent.
    #[error("cannot tell storaged")]
    Send(#[from] SendError),
    /// A message could not be received.
    #[error("cannot hear storaged")]
    Receive(#[from] RecvError),
    /// A message was none.
    #[error("storaged sent a damaged message")]
    Frame(#[from] FrameError),
    /// An answer to nothing, or a request.
    #[error("storaged sent a message of kind {kind:?} with id {id}, which answers nothing")]
    Unasked {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: u64,
    },
}

/// What storaged said; `P` is what was noted beside the request.
#[derive(Debug)]
pub enum Said<P> {
    /// The answer to a request.
    Reply(P, Box<Reply>, Vec<OwnedFd>),
    /// A request that will not be done.
    Refusal(P, Refusal),
    /// News.
    Push(Push),
}

#[derive(Debug)]
enum State {
    Up(Socket),
    Down { until: Instant, delay: Duration },
}

/// The connection, or the wait for it.
#[derive(Debug)]
pub struct Link<P> {
    path: PathBuf,
    state: State,
    next_id: u64,
    asked: BTreeMap<u64, P>,
    /// Whether anything was heard on this connection.
    heard: bool,
    buffer: Vec<u8>,
}

impl<P> Link<P> {
    /// A link that is to be made at once.
    #[must_use]
    pub fn new(path: &Path, now: Instant) -> Self {
        let state = State::Down { until: now, delay: Duration::from_millis(DELAY_MS_MIN) };
        let (path, asked) = (path.to_owned(), BTreeMap::new());
        Self { path, state, next_id: 1, asked, heard: false, buffer: Vec::new() }
    }

    /// The socket, while it is up.
    #[must_use]
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Up(socket) => Some(socket.as_fd()),
            State::Down { .. } => None,
        }
    }

    /// When to try again, while it is down.
    #[must_use]
    pub const fn retry_at(&self) -> Option<Instant> {
        match &self.state {
            State::Up(_) => None,
            State::Down { until, .. } => Some(*until),
        }
    }

    /// Whether another request may be asked now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        matches!(self.state, State::Up(_)) && self.asked.len() < REQUESTS_MAX
    }

    /// Connects if it is time to; true if that worked.
    ///
    /// # Errors
    /// [`LinkError`]: it is tried again later.
    pub fn connect_if_due(&mut self, now: Instant) -> Result<bool, LinkError> {
        let State::Down { until, delay } = &mut self.state else { return Ok(false) };
        if now < *until {
            return Ok(false);
        }
        *until = now + *delay;
        *delay = (*delay * 2).min(Duration::from_millis(DELAY_MS_MAX));
        let socket = Socket::connect(&self.path)?;
        socket.set_nonblocking()?;
        socket.send(&encode(Kind::Hello, 0, &Hello { peer: Peer::Zoned }, 0)?, &[])?;
        self.state = State::Up(socket);
        Ok(true)
    }

    /// Asks something of storaged and notes `beside` for when it answers; gives it back if it can't.
    ///
    /// # Errors
    /// [`LinkError`]: the connection is to be dropped.
    pub fn ask(&mut self, request: &Request, beside: P) -> Result<(), (LinkError, P)> {
        self.ask_with(request, beside, &[])
    }

    /// As [`Self::ask`], with descriptors beside the request.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn ask_with(
        &mut self,
        request: &Request,
        beside: P,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), (LinkError, P)> {
        let State::Up(socket) = &self.state else { return Err((LinkError::Closed, beside)) };
        let id = self.next_id;
        let message = match encode(Kind::Request, id, request, fds.len()) {
            Ok(message) => message,
            Err(error) => return Err((error.into(), beside)),
        };
        match socket.send(&message, fds) {
            Ok(()) => {
                self.next_id += 1;
                self.asked.insert(id, beside);
                Ok(())
            }
            Err(error) => Err((error.into(), beside)),
        }
    }

    /// The next thing that storaged said; none if it says nothing now.
    ///
    /// # Errors
    /// [`LinkError`]: the connection is to be dropped.
    pub fn hear(&mut self) -> Result<Option<Said<P>>, LinkError> {
        let State::Up(socket) = &self.state else { return Ok(None) };
        let fds = match socket.recv(&mut self.buffer) {
            Ok(Some(fds)) => fds,
            Ok(None) => return Err(LinkError::Closed),
            Err(RecvError::Empty) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let frame = Frame::parse(&self.buffer, fds.len())?;
        self.heard = true;
        let unasked = LinkError::Unasked { kind: frame.kind, id: frame.id };
        match frame.kind {
            Kind::Push => Ok(Some(Said::Push(frame.body()?))),
            Kind::Reply => {
                // Read before the request is taken: it must still be there for whoever cleans up.
                let reply = Box::new(frame.body()?);
                let beside = self.asked.remove(&frame.id).ok_or(unasked)?;
                Ok(Some(Said::Reply(beside, reply, fds)))
            }
            Kind::Refusal => {
                let refusal = frame.body()?;
                let beside = self.asked.remove(&frame.id).ok_or(unasked)?;
                Ok(Some(Said::Refusal(beside, refusal)))
            }
            Kind::Hello | Kind::Request => Err(unasked),
        }
    }

    /// Whether storaged has said anything on the connection that is up.
    #[must_use]
    pub const fn is_heard(&self) -> bool {
        matches!(self.state, State::Up(_)) && self.heard
    }

    /// Gives the connection up and what was asked on it back; it is made again after a delay.
    pub fn drop_connection(&mut self, now: Instant) -> Vec<P> {
        self.heard = false;
        if let State::Up(_) = self.state {
            let delay = Duration::from_millis(DELAY_MS_MIN);
            self.state = State::Down { until: now + delay, delay };
        }
        std::mem::take(&mut self.asked).into_values().collect()
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use sys::seqpacket::Listener;

    fn pair() -> (Link<&'static str>, Socket) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("storaged.sock");
        let listener = Listener::bind(&path, 0o600).unwrap();
        let now = Instant::now();
        let mut link = Link::new(&path, now);
        assert!(link.connect_if_due(now).unwrap());
        let storaged = listener.accept().unwrap().unwrap();
        let mut message = Vec::new();
        storaged.recv(&mut message).unwrap().unwrap();
        assert_eq!(Frame::parse(&message, 0).unwrap().kind, Kind::Hello);
        (link, storaged)
    }

    #[test]
    fn an_answer_finds_what_was_asked() {
        let (mut link, storaged) = pair();
        link.ask(&Request::Status, "mine").unwrap();
        let mut message = Vec::new();
        storaged.recv(&mut message).unwrap().unwrap();
        let id = Frame::parse(&message, 0).unwrap().id;
        storaged.send(&encode(Kind::Reply, id, &Reply::NothingReady, 0).unwrap(), &[]).unwrap();
        let said = link.hear().unwrap().unwrap();
        assert!(matches!(said, Said::Reply("mine", reply, _) if *reply == Reply::NothingReady));
        assert!(link.hear().unwrap().is_none());
    }

    #[test]
    fn an_answer_to_nothing_ends_the_connection() {
        let (mut link, storaged) = pair();
        storaged.send(&encode(Kind::Reply, 99, &Reply::NothingReady, 0).unwrap(), &[]).unwrap();
        assert!(matches!(link.hear(), Err(LinkError::Unasked { id: 99, .. })));
    }

    #[test]
    fn what_was_asked_on_a_lost_connection_is_given_back() {
        let (mut link, storaged) = pair();
        link.ask(&Request::Status, "mine").unwrap();
        drop(storaged);
        assert!(matches!(link.hear(), Err(LinkError::Closed)));
        assert_eq!(link.drop_connection(Instant::now()), ["mine"]);
        assert!(link.socket().is_none() && !link.has_room());
    }

    #[test]
    fn the_delay_grows_while_nobody_is_there() {
        let now = Instant::now();
        let mut link: Link<()> = Link::new(Path::new("/no/such/socket"), now);
        let mut delays = Vec::new();
        let mut at = now;
        for _ in 0..8 {
            assert!(link.connect_if_due(at).is_err());
            let next = link.retry_at().unwrap();
            delays.push((next - at).as_millis());
            at = next;
        }
        assert_eq!(delays, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
    }
}
