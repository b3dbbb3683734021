//! The bodies of answers: whole ones, and lines that come as they are made.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Pieces that wait for a slow reader; whoever makes them waits when there are more.
const PIECES_MAX: usize = 8;

/// An answer's body.
#[derive(Debug)]
pub enum Page {
    /// All of it is there.
    Whole(Full<Bytes>),
    /// It goes on until whoever makes it drops the sender.
    Stream {
        /// Pieces.
        pieces: Receiver<Bytes>,
        /// Its place among those that are served at once.
        _place: OwnedSemaphorePermit,
    },
}

impl Page {
    /// A body, and where its pieces go. Sending fails once nobody reads any more.
    pub fn stream(place: OwnedSemaphorePermit) -> (Sender<Bytes>, Self) {
        let (sender, pieces) = channel(PIECES_MAX);
        (sender, Self::Stream { pieces, _place: place })
    }
}

impl Body for Page {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(context),
            Self::Stream { pieces, .. } => {
                Poll::Ready(ready!(pieces.poll_recv(context)).map(|piece| Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Stream { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Stream { .. } => SizeHint::default(),
        }
    }
}
