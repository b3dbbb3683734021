//! A body of which a copy is kept while the protocol library reads it, so that it can be given again.

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use s3s::{Body, StdError};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

/// The longest copy, in bytes: a list of 1,000 keys of 1,024 bytes, each byte by reference, has 7 MiB.
const COPY_BYTES_MAX: usize = 8 << 20;

/// The copy: what was read so far, or nothing once that was too much.
#[derive(Clone)]
pub struct Copy(Arc<Mutex<Option<Vec<u8>>>>);

impl Copy {
    /// The body as it is, and where the copy will be.
    pub fn of(body: Body) -> (Body, Copy) {
        let copy = Copy(Arc::new(Mutex::new(Some(Vec::new()))));
        (Body::http_body(Copied { body, copy: copy.clone() }), copy)
    }

    /// What was read.
    pub fn take(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn push(&self, bytes: &[u8]) {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(copy) = &mut *place {
            if copy.len() + bytes.len() <= COPY_BYTES_MAX {
                copy.extend_from_slice(bytes);
            } else {
                *place = None;
            }
        }
    }
}

struct Copied {
    body: Body,
    copy: Copy,
}

impl http_body::Body for Copied {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(bytes) = frame.data_ref()
        {
            this.copy.push(bytes);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use http_body::Body as _;

    fn read(mut body: Body) -> usize {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut read = 0;
        while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut cx) {
            read += frame.unwrap().into_data().unwrap().len();
        }
        read
    }

    #[test]
    fn what_is_read_is_kept_if_it_is_not_too_much() {
        let (body, copy) = Copy::of(Body::from(b"abc".to_vec()));
        assert_eq!(read(body), 3);
        assert_eq!(copy.take().unwrap(), b"abc");
        let (body, copy) = Copy::of(Body::from(vec![0; COPY_BYTES_MAX + 1]));
        assert_eq!(read(body), COPY_BYTES_MAX + 1);
        assert_eq!(copy.take(), None);
    }
}
