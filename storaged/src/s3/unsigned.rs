//! Bodies in AWS's chunks of requests that nobody signed: the protocol library looks for chunks only while it checks a
//! signature, and would take the frames for content. Here they are taken away on the way to it.

use super::chunks::{Decoder, NotChunked};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderName};
use http_body::Frame;
use s3s::{Body, S3Error, StdError, s3_error};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const DECODED_LENGTH: HeaderName = HeaderName::from_static("x-amz-decoded-content-length");
/// The one coding that needs no signature.
const UNSIGNED: &[u8] = b"STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// An extension of a request: its body came in chunks, and this is for the fields behind them.
#[derive(Debug, Clone, Default)]
pub(super) struct Trailers(Arc<Mutex<Option<HeaderMap>>>);

impl Trailers {
    /// The fields, once the body was read; none of a request whose chunks the library reads.
    pub(super) fn of(extensions: &Extensions) -> Option<HeaderMap> {
        extensions.get::<Trailers>().and_then(Trailers::take)
    }

    pub(super) fn take(&self) -> Option<HeaderMap> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Whether a request's body is in chunks when it comes to the library.
pub(super) fn is_chunked(parts: &Parts) -> bool {
    is_streaming(&parts.headers) && parts.extensions.get::<Trailers>().is_none()
}

fn is_streaming(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_SHA256).is_some_and(|said| said.as_bytes().starts_with(b"STREAMING-"))
}

/// The body without chunks, if it has some and nobody signed the request; the head then says how long that is.
///
/// # Errors
/// When the head promises what nobody can check.
pub(super) fn unchunked(parts: &mut Parts, body: Body) -> Result<Body, S3Error> {
    let query = parts.uri.query().unwrap_or_default();
    let is_presigned = query.split('&').any(|pair| pair.starts_with("X-Amz-Signature="));
    let headers = &mut parts.headers;
    if headers.contains_key(AUTHORIZATION) {
        return Ok(body);
    }
    if is_presigned {
        return match is_streaming(headers) {
            true => Err(s3_error!(
                NotImplemented,
                "a presigned request's body is not read in chunks; please send it as it is"
            )),
            false => Ok(body),
        };
    }
    // Libraries that sign nothing may leave out the one or the other.
    let codings = headers.get_all(CONTENT_ENCODING).iter();
    let mut codings = codings.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    if !is_streaming(headers) && !codings.any(|coding| coding.trim() == "aws-chunked") {
        return Ok(body);
    }
    if headers.get(CONTENT_SHA256).is_some_and(|said| {
        said.as_bytes().starts_with(b"STREAMING-") && said.as_bytes() != UNSIGNED
    }) {
        return Err(s3_error!(
            InvalidRequest,
            "the chunks of the body are signed, and the request is not: nobody can check them"
        ));
    }
    let length = headers.get(DECODED_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let length: u64 = length.ok_or_else(|| {
        s3_error!(MissingContentLength, "a body in chunks needs x-amz-decoded-content-length")
    })?;
    headers.insert(CONTENT_LENGTH, length.into());
    let trailers = Trailers::default();
    parts.extensions.insert(trailers.clone());
    let decoder = Some(Decoder::default());
    Ok(Body::http_body(Unchunked { body, came: Bytes::new(), decoder, trailers }))
}

struct Unchunked {
    body: Body,
    /// What was not looked at yet.
    came: Bytes,
    /// Until the end.
    decoder: Option<Decoder>,
    trailers: Trailers,
}

impl Unchunked {
    fn end(&mut self) -> Result<(), NotChunked> {
        if let Some(decoder) = self.decoder.take() {
            let fields = decoder.end()?;
            *self.trailers.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(fields);
        }
        Ok(())
    }
}

impl http_body::Body for Unchunked {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = self.get_mut();
        loop {
            let Some(decoder) = &mut this.decoder else { return Poll::Ready(None) };
            match decoder.next(&mut this.came) {
                Ok(Some(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Ok(None) => {}
                Err(error) => {
                    this.decoder = None;
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                None => return Poll::Ready(this.end().err().map(|error| Err(error.into()))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => this.came = frame.into_data().unwrap_or_default(),
            }
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use http::Request;

    fn entered(target: &str, headers: &[(&str, &str)]) -> Result<(Parts, Body), S3Error> {
        let request = Request::builder().method("PUT").uri(target);
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let body = unchunked(&mut parts, Body::from(b"3\r\nabc\r\n0\r\na: b\r\n\r\n".to_vec()))?;
        Ok((parts, body))
    }

    fn read(mut body: Body) -> Result<Vec<u8>, StdError> {
        use http_body::Body as _;
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut bytes = Vec::new();
        while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut cx) {
            bytes.extend_from_slice(&frame?.into_data().unwrap_or_default());
        }
        Ok(bytes)
    }

    const LENGTH: (&str, &str) = ("x-amz-decoded-content-length", "3");
    const SAID: (&str, &str) = ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER");

    #[test]
    fn chunks_that_nobody_signed_are_taken_away() {
        for said in [SAID, ("content-encoding", "gzip, aws-chunked")] {
            let (parts, body) = entered("/b/k", &[said, LENGTH]).unwrap();
            assert_eq!(parts.headers[CONTENT_LENGTH], "3");
            assert!(!is_chunked(&parts));
            assert_eq!(read(body).unwrap(), b"abc");
            assert_eq!(Trailers::of(&parts.extensions).unwrap()["a"], "b");
        }
    }

    #[test]
    fn others_are_left_or_refused() {
        let (parts, body) = entered("/b/k", &[SAID, LENGTH, ("authorization", "x")]).unwrap();
        assert!(is_chunked(&parts) && read(body).unwrap().starts_with(b"3\r\n"));
        let (_, body) = entered("/b/k", &[("content-encoding", "gzip")]).unwrap();
        assert!(read(body).unwrap().starts_with(b"3\r\n"));
        assert!(entered("/b/k", &[SAID]).is_err(), "how long is it?");
        let signed = ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
        assert!(entered("/b/k", &[signed, LENGTH]).is_err());
        assert!(entered("/b/k?X-Amz-Signature=0", &[SAID, LENGTH]).is_err());
    }

    #[test]
    fn what_ends_early_is_an_error() {
        let (mut parts, ()) = Request::new(()).into_parts();
        for (name, value) in [SAID, LENGTH] {
            parts.headers.insert(name, value.parse().unwrap());
        }
        for body in ["3\r\nabc\r\n", "abc"] {
            let body = unchunked(&mut parts, Body::from(body.to_owned())).unwrap();
            assert!(read(body).is_err());
        }
    }
}
