//! Init's control socket: who may ask, and what was asked. The answers are the supervisor's.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use sys::seqpacket::{Listener, RecvError, Socket};
use sys::socket::Access;
use thiserror::Error;
use wire::frame::{Frame, FrameError, Kind, Refusal, encode};
use wire::node::{NodeReply, NodeRequest, SOCKET};

/// consoled's user: the only one but root who may ask.
pub const CONSOLED: u32 = 202;
/// The most connections at once; consoled needs one.
const CLIENTS_MAX: usize = 16;
/// Connections that may wait to be accepted.
const BACKLOG: u16 = 16;

/// The socket and its connections.
#[derive(Debug)]
pub struct Control {
    listener: Listener,
    clients: Vec<Socket>,
}

/// Why a connection was dropped.
#[derive(Debug, Error)]
pub enum Dropped {
    /// The peer closed it.
    #[error("it was closed")]
    Closed,
    /// The peer may not ask.
    #[error("user {0} may not control the node")]
    Stranger(u32),
    /// Too many are open.
    #[error("{CLIENTS_MAX} connections are open already")]
    TooMany,
    /// The peer sent rubbish.
    #[error("it sent rubbish: {0}")]
    Rubbish(#[from] FrameError),
    /// The peer sent a message of a kind that makes no sense here.
    #[error("it sent a message of kind {0:?} where a request was expected")]
    Kind(Kind),
    /// The socket failed.
    #[error("its socket failed: {0}")]
    Receive(#[source] RecvError),
    /// The peer does not take its answers.
    #[error("it does not take its answer: {0}")]
    Send(#[from] sys::seqpacket::SendError),
}

impl Control {
    /// Listens.
    ///
    /// # Errors
    /// What the calls say.
    pub fn open() -> io::Result<Self> {
        let access = Access { user: 0, group: CONSOLED, mode: 0o660 };
        let fd = sys::socket::listen_seqpacket(Path::new(SOCKET), access, BACKLOG)?;
        let listener = Listener::from_fd(fd);
        listener.set_nonblocking()?;
        Ok(Self { listener, clients: Vec::new() })
    }

    /// What is to be watched: the listener, then each connection.
    pub fn watched(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.listener.as_fd()).chain(self.clients.iter().map(AsFd::as_fd))
    }

    /// Takes a connection that waits; gives the reason if it was dropped at once.
    ///
    /// # Errors
    /// What accept4(2) says.
    pub fn accept(&mut self) -> io::Result<Option<Dropped>> {
        let Some(socket) = self.listener.accept()? else { return Ok(None) };
        let peer = socket.peer()?;
        if peer.uid != 0 && peer.uid != CONSOLED {
            return Ok(Some(Dropped::Stranger(peer.uid)));
        }
        if self.clients.len() >= CLIENTS_MAX {
            return Ok(Some(Dropped::TooMany));
        }
        socket.set_nonblocking()?;
        self.clients.push(socket);
        Ok(None)
    }

    /// The next request of connection `client`, with its id; none if there is none to answer.
    ///
    /// # Errors
    /// [`Dropped`]: the caller is to [`Self::drop_client`].
    pub fn receive(&self, client: usize) -> Result<Option<(u64, NodeRequest)>, Dropped> {
        let Some(socket) = self.clients.get(client) else { return Ok(None) };
        let mut message = Vec::new();
        let fds = match socket.recv(&mut message) {
            Ok(Some(fds)) => fds,
            Ok(None) => return Err(Dropped::Closed),
            Err(RecvError::Empty) => return Ok(None),
            Err(error) => return Err(Dropped::Receive(error)),
        };
        read(&message, fds.len())
    }

    /// Answers a request.
    ///
    /// # Errors
    /// [`Dropped`]: the caller is to [`Self::drop_client`].
    pub fn answer(
        &self,
        client: usize,
        id: u64,
        answer: &Result<NodeReply, Refusal>,
    ) -> Result<(), Dropped> {
        let Some(socket) = self.clients.get(client) else { return Ok(()) };
        let message = match answer {
            Ok(reply) => encode(Kind::Reply, id, reply, 0)?,
            Err(refusal) => encode(Kind::Refusal, id, refusal, 0)?,
        };
        Ok(socket.send(&message, &[])?)
    }

    /// Closes a connection; those after it move up.
    pub fn drop_client(&mut self, client: usize) {
        if client < self.clients.len() {
            self.clients.remove(client);
        }
    }
}

fn read(message: &[u8], fds: usize) -> Result<Option<(u64, NodeRequest)>, Dropped> {
    let frame = Frame::parse(message, fds)?;
    match frame.kind {
        Kind::Hello => Ok(None),
        Kind::Request => Ok(Some((frame.id, frame.body()?))),
        kind @ (Kind::Reply | Kind::Refusal | Kind::Push) => Err(Dropped::Kind(kind)),
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_read_with_its_id() {
        let message = encode(Kind::Request, 9, &NodeRequest::Status, 0).unwrap();
        assert_eq!(read(&message, 0).unwrap(), Some((9, NodeRequest::Status)));
    }

    #[test]
    fn a_reply_where_a_request_should_be_drops_the_peer() {
        let message = encode(Kind::Reply, 9, &NodeReply::Accepted, 0).unwrap();
        assert!(matches!(read(&message, 0), Err(Dropped::Kind(Kind::Reply))));
    }

    proptest! {
        #[test]
        fn garbage_drops_the_peer_and_never_panics(bytes: Vec<u8>) {
            prop_assert!(read(&bytes, 0).is_err());
        }

        #[test]
        fn a_garbled_body_drops_the_peer(body in ".{0,100}") {
            let message = encode(Kind::Request, 1, &body, 0).unwrap();
            if let Ok(Some((_, request))) = read(&message, 0) {
                // The only requests that are bare words.
                let words = ["status", "poweroff", "reboot"];
                prop_assert!(words.contains(&body.as_str()), "{request:?}");
            }
        }
    }
}
