//! A request's body on its way from the connection to the handler: bounded, and awaited by both.

use super::limits::BODY_WINDOW_BYTES;
use super::mailbox::Waker;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake};
use thiserror::Error;

/// What a piece costs beside its bytes: without it, a body in tiny chunks would cost many times its
/// size.
const PIECE_COST_BYTES: usize = 64;

/// Why a body stops before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BodyError {
    /// The client is gone.
    #[error("the client closed the connection before the end of the body")]
    Disconnected,
    /// The client sends nothing.
    #[error("the client sent nothing of the body for too long")]
    Idle,
    /// What it sends is no body.
    #[error("the body is malformed: {0}")]
    Malformed(#[from] super::refusal::Refusal),
}

#[derive(Debug)]
enum State {
    Open,
    Ended,
    Failed(BodyError),
}

#[derive(Debug)]
struct Inner {
    pieces: VecDeque<Bytes>,
    queued: usize,
    state: State,
    reader: Option<std::task::Waker>,
    wanted: bool,
    dropped: bool,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    connection: Arc<Waker>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing here panics half-way through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection's end.
#[derive(Debug)]
pub struct Feed(Arc<Shared>);

/// The handler's end.
#[derive(Debug)]
pub struct RequestBody {
    shared: Arc<Shared>,
    left: Option<u64>,
}

/// What the handler wants of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// It has not asked for the body yet.
    NotAsked,
    /// It waits for more.
    Waiting,
    /// It has some to go on with.
    Busy,
    /// It will never ask again.
    Nothing,
}

/// A body of this length, if it is known, between a connection and a handler.
pub fn channel(length: Option<u64>, connection: Arc<Waker>) -> (Feed, RequestBody) {
    let inner = Inner {
        pieces: VecDeque::new(),
        queued: 0,
        state: State::Open,
        reader: None,
        wanted: false,
        dropped: false,
    };
    let shared = Arc::new(Shared { inner: Mutex::new(inner), connection });
    (Feed(Arc::clone(&shared)), RequestBody { shared, left: length })
}

impl Feed {
    /// Whether more may be pushed.
    pub fn has_room(&self) -> bool {
        let inner = self.0.lock();
        inner.dropped || inner.queued < BODY_WINDOW_BYTES
    }

    /// What the handler wants now.
    pub fn wish(&self) -> Wish {
        let inner = self.0.lock();
        match (inner.dropped, inner.wanted, inner.pieces.is_empty()) {
            (true, _, _) => Wish::Nothing,
            (false, false, _) => Wish::NotAsked,
            (false, true, true) => Wish::Waiting,
            (false, true, false) => Wish::Busy,
        }
    }

    /// Gives the handler a piece.
    pub fn push(&self, piece: Bytes) {
        let mut inner = self.0.lock();
        if !inner.dropped {
            inner.queued += piece.len() + PIECE_COST_BYTES;
            inner.pieces.push_back(piece);
            wake(inner);
        }
    }

    /// Tells the handler that it has had all.
    pub fn end(&self) {
        let mut inner = self.0.lock();
        inner.state = State::Ended;
        wake(inner);
    }

    /// Tells the handler that there is no more, though there should be.
    pub fn fail(&self, error: BodyError) {
        let mut inner = self.0.lock();
        if matches!(inner.state, State::Open) {
            inner.state = State::Failed(error);
            wake(inner);
        }
    }
}

fn wake(mut inner: MutexGuard<'_, Inner>) {
    let reader = inner.reader.take();
    drop(inner);
    if let Some(reader) = reader {
        reader.wake();
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.fail(BodyError::Disconnected);
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let shared = Arc::clone(&self.shared);
        let mut inner = shared.lock();
        let first = !std::mem::replace(&mut inner.wanted, true);
        let was_full = inner.queued >= BODY_WINDOW_BYTES;
        if let Some(piece) = inner.pieces.pop_front() {
            inner.queued -= piece.len() + PIECE_COST_BYTES;
            let has_room_again = was_full && inner.queued < BODY_WINDOW_BYTES;
            drop(inner);
            if first || has_room_again {
                shared.connection.wake_by_ref();
            }
            self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match inner.state {
            State::Ended => Poll::Ready(None),
            State::Failed(error) => Poll::Ready(Some(Err(error))),
            State::Open => {
                inner.reader = Some(cx.waker().clone());
                drop(inner);
                if first {
                    // It may have to send a 100.
                    shared.connection.wake_by_ref();
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let inner = self.shared.lock();
        inner.pieces.is_empty() && matches!(inner.state, State::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        inner.dropped = true;
        inner.pieces.clear();
        inner.queued = 0;
        drop(inner);
        // What it did not read is for the connection to throw away.
        self.shared.connection.wake_by_ref();
    }
}

#[cfg(test)]
mod test {
    use super::super::mailbox::Mailbox;
    use super::*;
    use http_body::Body;

    fn pair() -> (Feed, RequestBody, Arc<Mailbox>) {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        let (feed, body) = channel(Some(5), Arc::new(Waker::new(Arc::clone(&mailbox), 1)));
        (feed, body, mailbox)
    }

    fn poll(body: &mut RequestBody) -> Poll<Option<Result<Bytes, BodyError>>> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        Pin::new(body)
            .poll_frame(&mut cx)
            .map(|frame| frame.map(|frame| frame.map(|f| f.into_data().unwrap())))
    }

    #[test]
    fn asking_first_tells_the_connection() {
        let (feed, mut body, mailbox) = pair();
        assert_eq!((feed.wish(), mailbox.take()), (Wish::NotAsked, None));
        assert!(poll(&mut body).is_pending());
        assert_eq!((feed.wish(), mailbox.take()), (Wish::Waiting, Some(1)));
    }

    #[test]
    fn pieces_come_in_order_and_then_the_end() {
        let (feed, mut body, _mailbox) = pair();
        feed.push("ab".into());
        feed.push("cde".into());
        feed.end();
        drop(feed);
        assert_eq!(poll(&mut body), Poll::Ready(Some(Ok("ab".into()))));
        assert_eq!(body.size_hint().exact(), Some(3));
        assert_eq!(poll(&mut body), Poll::Ready(Some(Ok("cde".into()))));
        assert_eq!(poll(&mut body), Poll::Ready(None));
    }

    #[test]
    fn a_full_window_says_so_until_it_is_read() {
        let (feed, mut body, _mailbox) = pair();
        feed.push(vec![0; BODY_WINDOW_BYTES].into());
        assert!(!feed.has_room());
        assert!(poll(&mut body).is_ready());
        assert!(feed.has_room());
    }

    #[test]
    fn a_vanished_connection_is_an_error() {
        let (feed, mut body, _mailbox) = pair();
        drop(feed);
        assert_eq!(poll(&mut body), Poll::Ready(Some(Err(BodyError::Disconnected))));
    }

    #[test]
    fn a_body_nobody_reads_takes_anything() {
        let (feed, body, _mailbox) = pair();
        drop(body);
        feed.push(vec![0; 2 * BODY_WINDOW_BYTES].into());
        assert!(feed.has_room());
        assert_eq!(feed.wish(), Wish::Nothing);
    }
}
