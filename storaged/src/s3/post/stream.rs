//! The bytes of a form as they come: first its head, gathered; then its file, passed on.

use super::form::FileEnd;
use crate::s3::error;
use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame};
use s3s::{Body, S3Error, StdError};
use std::pin::Pin;
use std::task::{Context, Poll};
use thiserror::Error;

/// Why a file is not taken though it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LengthError {
    /// It is longer than the policy allows.
    #[error("your proposed upload exceeds the maximum allowed size")]
    TooLong,
    /// It is shorter than the policy asks for.
    #[error("your proposed upload is smaller than the minimum allowed size")]
    TooShort,
    /// The form ended before its file did.
    #[error("the form ended before its file did")]
    Cut,
}

/// Gathers the head.
pub struct Receiver {
    body: Body,
    gathered: BytesMut,
}

impl Receiver {
    /// Of a request's body.
    pub fn new(body: Body) -> Receiver {
        Receiver { body, gathered: BytesMut::new() }
    }

    /// What has come.
    pub fn bytes(&self) -> &[u8] {
        &self.gathered
    }

    /// Waits for more; false if there is none.
    pub async fn more(&mut self) -> Result<bool, S3Error> {
        let next = std::future::poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await;
        match next {
            None => Ok(false),
            Some(Err(e)) => Err(error::body(e)),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    self.gathered.extend_from_slice(&bytes);
                }
                Ok(true)
            }
        }
    }
}

/// The file of a form.
pub struct FileBody {
    body: Body,
    /// What came with the head.
    first: Option<Bytes>,
    end: FileEnd,
    length: u64,
    bounds: (u64, u64),
}

impl FileBody {
    /// What follows the first `head` bytes, up to the boundary.
    pub fn new(receiver: Receiver, head: usize, boundary: &str, bounds: (u64, u64)) -> FileBody {
        let mut gathered = receiver.gathered;
        let first = gathered.split_off(head.min(gathered.len())).freeze();
        FileBody {
            body: receiver.body,
            first: Some(first),
            end: FileEnd::new(boundary),
            length: 0,
            bounds,
        }
    }

    fn take(&mut self, bytes: Bytes) -> Result<Bytes, LengthError> {
        let bytes = self.end.push(bytes);
        self.length += bytes.len() as u64;
        match self.bounds {
            (_, max) if self.length > max => Err(LengthError::TooLong),
            (min, _) if self.end.ended() && self.length < min => Err(LengthError::TooShort),
            _ => Ok(bytes),
        }
    }
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = self.get_mut();
        loop {
            if this.end.ended() {
                return Poll::Ready(None);
            }
            let bytes = match this.first.take() {
                Some(bytes) => bytes,
                None => match std::task::ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                    None => return Poll::Ready(Some(Err(LengthError::Cut.into()))),
                    Some(Err(e)) => return Poll::Ready(Some(Err(e))),
                    // Trailers of a form mean nothing.
                    Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                },
            };
            match this.take(bytes) {
                Err(e) => return Poll::Ready(Some(Err(e.into()))),
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
            }
        }
    }
}
