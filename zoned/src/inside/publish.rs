//! The socket in a zone at which its programs ask that `/out` becomes objects.
//!
//! ```text
//!   a program ─ Wish ─▶ /dev/publish, this process ─ Publish ─▶ zoned, at its own pace ─▶ storaged
//!             ◀─ Published, or why not ─┘
//! ```
//! Whatever comes here is a tenant's: one small message a connection, a bounded number of connections,
//! and nobody is waited for. What is beside a message is closed.

use super::desk::Desk;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use sys::seqpacket::{Listener, RecvError, Socket, SocketError};
use wire::frame::{Frame, Kind, Refusal, encode};
use wire::standing::Published;
use wire::zone::{PUBLISH_SOCKET, Wish};

/// Everybody in the zone may ask.
const MODE: u32 = 0o666;
/// Connections taken before other events have their turn.
const ARRIVALS: usize = 16;

/// The socket and who waits at it.
#[derive(Debug)]
pub struct Counter {
    listener: Listener,
    desk: Desk<Socket>,
}

/// What a message at the socket says.
///
/// # Errors
/// [`Refusal`], for whoever sent it.
pub fn parse(message: &[u8], fds: usize) -> Result<Wish, Refusal> {
    let wrong = |why: String| Refusal { code: "InvalidMessage".to_owned(), message: why };
    let frame = Frame::parse(message, fds).map_err(|error| wrong(crate::chain(&error)))?;
    if frame.kind != Kind::Request {
        return Err(wrong(format!("a message of kind {:?} asks for nothing", frame.kind)));
    }
    frame.body().map_err(|error| wrong(crate::chain(&error)))
}

impl Counter {
    /// Opens it: the zone's `/dev` is the root's by then, and nobody else has it.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn open() -> Result<Self, SocketError> {
        let path = Path::new(PUBLISH_SOCKET);
        let listener = Listener::bind(path, MODE)?;
        let call = |source| SocketError::Call { act: "use", path: path.to_owned(), source };
        listener.set_nonblocking().map_err(call)?;
        Ok(Self { listener, desk: Desk::default() })
    }

    /// What is to be watched: the listener, then each client.
    pub fn watched(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.listener.as_fd()).chain(self.desk.clients().map(AsFd::as_fd))
    }

    /// Deals with those of [`Self::watched`] that are ready; gives the wish that zoned is to be told.
    pub fn serve(&mut self, ready: &[bool]) -> Option<u64> {
        let mut wish = None;
        // From the last: who goes moves those behind.
        for at in (1..ready.len()).rev().filter(|at| ready[*at]) {
            wish = self.hear(at - 1).or(wish);
        }
        if ready.first() == Some(&true) {
            self.accept();
        }
        wish
    }

    /// The wish that zoned has and may have lost.
    #[must_use]
    pub const fn asked(&self) -> Option<u64> {
        self.desk.asked()
    }

    /// Passes zoned's answer on; gives the next wish.
    pub fn answer(&mut self, wish: u64, answer: &Result<Published, Refusal>) -> Option<u64> {
        let (told, next) = self.desk.answered(wish);
        told.iter().for_each(|socket| tell(socket, answer));
        next
    }

    fn accept(&mut self) {
        for _ in 0..ARRIVALS {
            // Without descriptors to spare, it is tried again when some are.
            let Ok(Some(socket)) = self.listener.accept() else { return };
            if socket.set_nonblocking().is_err() {
                continue;
            }
            if let Some(gone) = self.desk.come(socket) {
                let message = "too many programs of the zone ask at once: try again".to_owned();
                tell(&gone, &Err(Refusal { code: "Busy".to_owned(), message }));
            }
        }
    }

    fn hear(&mut self, at: usize) -> Option<u64> {
        let mut message = Vec::new();
        let heard = match self.desk.client(at)?.recv(&mut message) {
            Err(RecvError::Empty) => return None,
            Ok(Some(fds)) => parse(&message, fds.len()),
            // It is gone, or sent what does not even fit.
            Ok(None) | Err(_) => {
                self.desk.go(at);
                return None;
            }
        };
        let refusal = match heard {
            Ok(Wish::Publish) => match self.desk.ask(at) {
                Ok(wish) => return wish,
                Err(twice) => {
                    Refusal { code: "InvalidMessage".to_owned(), message: twice.to_string() }
                }
            },
            Err(refusal) => refusal,
        };
        if let Some(gone) = self.desk.go(at) {
            tell(&gone, &Err(refusal));
        }
        None
    }
}

/// Answers a client; one that is gone by now, or takes nothing, is nobody to be waited for.
fn tell(socket: &Socket, answer: &Result<Published, Refusal>) {
    let message = match answer {
        Ok(published) => encode(Kind::Reply, 0, published, 0),
        Err(refusal) => encode(Kind::Refusal, 0, refusal, 0),
    };
    match message.map(|message| socket.send(&message, &[])) {
        Ok(Ok(()) | Err(_)) => {}
        Err(error) => eprintln!("zone-init: an answer is lost: {}", crate::chain(&error)),
    }
}
