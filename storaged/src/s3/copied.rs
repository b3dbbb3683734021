//! A body of which a copy is kept while the protocol library reads it, so that it can be given again; or why it ended early.

use super::error;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use s3s::{Body, S3Error, StdError};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

/// The longest copy, in bytes: a list of 1,000 keys of 1,024 bytes, each byte by reference, has 7 MiB.
const COPY_BYTES_MAX: usize = 8 << 20;

/// The copy.
#[derive(Clone)]
pub struct Copy(Arc<Mutex<Known>>);

/// What is known of a body.
enum Known {
    /// What was read so far.
    Bytes(Vec<u8>),
    /// It is longer than a copy may be.
    TooLong,
    /// It could not be read to its end.
    Failed(S3Error),
}

impl Copy {
    /// The body as it is, and where the copy will be.
    pub fn of(body: Body) -> (Body, Copy) {
        let copy = Copy(Arc::new(Mutex::new(Known::Bytes(Vec::new()))));
        (Body::http_body(Copied { body, copy: copy.clone() }), copy)
    }

    /// What was read, unless that was too much.
    ///
    /// # Errors
    /// What to answer to a body that ended early.
    pub fn take(&self) -> Result<Option<Vec<u8>>, S3Error> {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *place, Known::TooLong) {
            Known::Bytes(bytes) => Ok(Some(bytes)),
            Known::TooLong => Ok(None),
            Known::Failed(error) => Err(error),
        }
    }

    fn push(&self, bytes: &[u8]) {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Known::Bytes(copy) = &mut *place {
            if copy.len() + bytes.len() <= COPY_BYTES_MAX {
                copy.extend_from_slice(bytes);
            } else {
                *place = Known::TooLong;
            }
        }
    }

    /// Notes why there is no more, and gives the library words of its own.
    fn fail(&self, error: StdError) -> StdError {
        let text = error.to_string();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Known::Failed(error::body(error));
        text.into()
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
        Poll::Ready(frame.map(|frame| match frame {
            Ok(frame) => {
                frame.data_ref().into_iter().for_each(|bytes| this.copy.push(bytes));
                Ok(frame)
            }
            Err(error) => Err(this.copy.fail(error)),
        }))
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
        assert_eq!(copy.take().unwrap().unwrap(), b"abc");
        let (body, copy) = Copy::of(Body::from(vec![0; COPY_BYTES_MAX + 1]));
        assert_eq!(read(body), COPY_BYTES_MAX + 1);
        assert_eq!(copy.take().unwrap(), None);
    }

    #[test]
    fn why_a_body_ended_early_is_known() {
        struct Broken;
        impl http_body::Body for Broken {
            type Data = Bytes;
            type Error = StdError;
            fn poll_frame(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
                Poll::Ready(Some(Err("broken".into())))
            }
        }
        let (mut body, copy) = Copy::of(Body::http_body(Broken));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(matches!(Pin::new(&mut body).poll_frame(&mut cx), Poll::Ready(Some(Err(_)))));
        assert_eq!(copy.take().unwrap_err().code().as_str(), "IncompleteBody");
    }
}
