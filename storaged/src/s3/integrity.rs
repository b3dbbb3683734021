//! Bodies that the protocol library reads before any handler sees them, documents of XML above all: it
//! parses what is said about their checksums, and checks none of it. Here their bytes are counted up on their way.
//!
//! Contents of objects and parts are checked by their own handlers.

use super::checksum::Expected;
use super::chunks::Content;
use super::unsigned::{self, Trailers};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method};
use http_body::{Frame, SizeHint};
use s3s::crypto::{Checksum, Md5};
use s3s::{Body, S3Error, StdError, s3_error};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

/// What was wrong with a body, once it was read.
#[derive(Clone, Default)]
pub struct Verdict(Arc<Mutex<Option<S3Error>>>);

impl Verdict {
    /// What was wrong, if anything was.
    pub fn take(&self) -> Option<S3Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, error: S3Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

/// Watches the body of a request, if its document is to hold what the head says.
///
/// # Errors
/// When what the head says makes no sense, or says nothing where it must.
pub fn watch(parts: &Parts, body: Body) -> Result<(Body, Option<Verdict>), S3Error> {
    if !has_document(parts) {
        return Ok((body, None));
    }
    let expected = Expected::of(&parts.headers)?;
    if !expected.promises() {
        // Deleting needs to be told twice: a signature over the payload is as good.
        if has_parameter(parts, "delete") && !is_payload_signed(&parts.headers) {
            return Err(s3_error!(
                InvalidRequest,
                "missing required header for this request: Content-MD5 or x-amz-checksum-*"
            ));
        }
        return Ok((body, None));
    }
    // What the sums are of is in the chunks: see [`check`].
    if unsigned::is_chunked(parts) {
        return Ok((body, None));
    }
    let verdict = Verdict::default();
    let sums = Some((expected, Md5::new()));
    let trailers = parts.extensions.get().cloned();
    let watched = Watched { body, sums, trailers, verdict: verdict.clone() };
    Ok((Body::http_body(watched), Some(verdict)))
}

/// Whether a document that came in chunks holds what its request says of it.
///
/// # Errors
/// When it does not.
pub fn check(parts: &Parts, content: &Content) -> Result<(), S3Error> {
    if has_document(parts) {
        let mut expected = Expected::of(&parts.headers)?;
        expected.update(&content.bytes);
        expected.check(Md5::checksum(&content.bytes), Some(&content.trailers))?;
    }
    Ok(())
}

/// Whether the library reads the body as a document, whose sums nobody else checks: settings of buckets, and of objects.
pub fn has_document(parts: &Parts) -> bool {
    let path = parts.uri.path().trim_start_matches('/');
    let of_bucket = path.split_once('/').is_none_or(|(_, key)| key.is_empty());
    match parts.method {
        Method::PUT if of_bucket => true,
        Method::PUT => ["acl", "legal-hold", "retention", "tagging"]
            .iter()
            .any(|name| has_parameter(parts, name)),
        Method::POST => of_bucket && has_parameter(parts, "delete"),
        _ => false,
    }
}

/// Whether the library reads the body as a list of parts; the sums in its head are the object's.
pub fn has_part_list(parts: &Parts) -> bool {
    parts.method == Method::POST && has_parameter(parts, "uploadId")
}

fn has_parameter(parts: &Parts, name: &str) -> bool {
    let query = parts.uri.query().unwrap_or_default();
    query.split('&').any(|pair| pair.split_once('=').map_or(pair, |(name, _)| name) == name)
}

fn is_payload_signed(headers: &HeaderMap) -> bool {
    let said = headers.get("x-amz-content-sha256");
    said.is_some_and(|said| said.len() == 64 || said.as_bytes().starts_with(b"STREAMING-AWS4"))
}

struct Watched {
    body: Body,
    /// Until the end.
    sums: Option<(Expected, Md5)>,
    trailers: Option<Trailers>,
    verdict: Verdict,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(bytes), Some((expected, md5))) = (frame.data_ref(), &mut this.sums) {
                    expected.update(bytes);
                    md5.update(bytes);
                }
            }
            Some(Err(_)) => {}
            None => {
                let fields = this.trailers.as_ref().and_then(Trailers::take);
                if let Some((expected, md5)) = this.sums.take()
                    && let Err(error) = expected.check(md5.finalize(), fields.as_ref())
                {
                    let text = error.message().unwrap_or_default().to_owned();
                    this.verdict.put(error);
                    return Poll::Ready(Some(Err(text.into())));
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        // The end is where the sums are compared.
        self.sums.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::s3::chunks;
    use http::Request;

    fn watched(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<bool, S3Error> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        watch(&parts, Body::empty()).map(|(_, verdict)| verdict.is_some())
    }

    const MD5: (&str, &str) = ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==");

    #[test]
    fn documents_with_a_promise_are_watched() {
        for target in ["/b?tagging", "/b", "/b/", "/b/k?tagging", "/b/k?x=1&acl=", "/b/k?retention"]
        {
            assert!(watched("PUT", target, &[MD5]).unwrap(), "{target}");
        }
        assert!(watched("POST", "/b?delete", &[MD5]).unwrap());
        assert!(!watched("PUT", "/b?tagging", &[]).unwrap());
    }

    #[test]
    fn contents_are_left_to_their_handlers() {
        for target in ["/b/k", "/b/k?partNumber=1&uploadId=x", "/b/k?mytagging=1"] {
            assert!(!watched("PUT", target, &[MD5]).unwrap(), "{target}");
        }
        assert!(!watched("POST", "/b/k?uploadId=x", &[MD5]).unwrap());
    }

    #[test]
    fn sums_of_chunked_documents_are_of_what_is_in_the_chunks() {
        let outcome = |headers: &[(&str, &str)], body: &[u8]| {
            let mut request = Request::builder().method("PUT").uri("/b?tagging");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            check(&parts, &chunks::decoded(body).unwrap())
        };
        let plain = ("x-amz-checksum-crc32", "NSRBwg==");
        assert!(outcome(&[plain], b"3\r\nabc\r\n0\r\n\r\n").is_ok());
        assert!(outcome(&[plain], b"3\r\nabd\r\n0\r\n\r\n").is_err());
        let trailer = [("x-amz-trailer", "x-amz-checksum-crc32")];
        assert!(outcome(&trailer, b"3\r\nabc\r\n0\r\nx-amz-checksum-crc32:NSRBwg==\r\n").is_ok());
        assert!(outcome(&trailer, b"3\r\nabc\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n").is_err());
        assert!(outcome(&trailer, b"3\r\nabc\r\n0\r\n\r\n").is_err());
    }

    #[test]
    fn a_list_of_deletions_is_vouched_for() {
        let payload = |value: &'static str| [("x-amz-content-sha256", value)];
        assert!(watched("POST", "/b?delete", &payload("UNSIGNED-PAYLOAD")).is_err());
        let signed = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert!(watched("POST", "/b?delete", &payload(signed)).is_ok());
    }
}
