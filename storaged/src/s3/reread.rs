//! Documents that the protocol library could not read, and whether it is to read them once more, otherwise put. Pure.
//!
//! | the library says | why | what is done |
//! | --- | --- | --- |
//! | MalformedXML | it may be for references above U+FFFF, or checksums of parts that it does not know | again, with what it knows in their place |
//! | IncompleteBody, of a body in chunks | it takes the length of such a document for 0 | again, as it is in the chunks |
//! | MissingRequestBodyError, of a body in chunks | it found no chunk | if there is a body, that it has none is answered |
//! | InternalError without a message | the bytes are not those that were signed, or did not all come | that is answered |
//!
//! In all of them the signature over the head was good and who asks was let in; in the first two so was every byte.

use super::checksum::carried;
use super::copied::Copy;
use super::error::{coded, sha256_mismatch};
use super::{chunks, integrity, references, unsigned};
use http::request::Parts;
use http::{Response, StatusCode};
use s3s::{Body, S3Error, s3_error};

/// The document that the library is to read instead; nothing if its answer stands.
///
/// # Errors
/// What to answer instead of what the library says.
pub fn again(
    parts: &Parts,
    first: &Response<Body>,
    copy: &Copy,
) -> Result<Option<Vec<u8>>, S3Error> {
    let is_chunked = unsigned::is_chunked(parts);
    match said(first) {
        Some(Said::Malformed) if !is_chunked => {
            Ok(copy.take()?.and_then(|document| mended(&document)))
        }
        Some(Said::Incomplete) if is_chunked => {
            let Some(content) = copy.take()?.as_deref().and_then(chunks::decoded) else {
                return Ok(None);
            };
            integrity::check(parts, &content)?;
            Ok(Some(mended(&content.bytes).unwrap_or(content.bytes)))
        }
        Some(Said::Missing) if is_chunked => match copy.take()?.as_deref().map(chunks::decoded) {
            Some(None) => Err(no_chunks()),
            Some(Some(_)) | None => Ok(None),
        },
        Some(Said::Unread) => Err(unread(parts, copy.take()?.as_deref(), is_chunked)),
        Some(Said::Malformed | Said::Incomplete | Said::Missing) | None => Ok(None),
    }
}

/// The document as the library can read it; nothing if there is nothing to be mended.
fn mended(document: &[u8]) -> Option<Vec<u8>> {
    let resolved = references::resolved(document);
    carried::read(resolved.as_deref().unwrap_or(document)).or(resolved)
}

/// What the library may say of a document.
enum Said {
    Malformed,
    Incomplete,
    Missing,
    Unread,
}

fn said(first: &Response<Body>) -> Option<Said> {
    let body = first.body().bytes()?;
    let has = |text: &str| memchr::memmem::find(&body, text.as_bytes()).is_some();
    match first.status() {
        StatusCode::BAD_REQUEST if has("<Code>MalformedXML</Code>") => Some(Said::Malformed),
        StatusCode::BAD_REQUEST if has("<Code>IncompleteBody</Code>") => Some(Said::Incomplete),
        StatusCode::BAD_REQUEST if has("<Code>MissingRequestBodyError</Code>") => {
            Some(Said::Missing)
        }
        // What fails here has a message.
        StatusCode::INTERNAL_SERVER_ERROR if !has("<Message>") => Some(Said::Unread),
        _ => None,
    }
}

/// Why the library could not read all of a body that has come.
fn unread(parts: &Parts, body: Option<&[u8]>, is_chunked: bool) -> S3Error {
    if !is_chunked {
        return sha256_mismatch();
    }
    match body.map(chunks::decoded) {
        Some(None) => no_chunks(),
        _ if has_unsigned_chunks(parts) => coded(
            "MalformedTrailerError",
            StatusCode::BAD_REQUEST,
            "what comes behind the last chunk can't be read",
        ),
        _ => {
            s3_error!(SignatureDoesNotMatch, "a signature over a chunk of the body does not match")
        }
    }
}

fn no_chunks() -> S3Error {
    s3_error!(IncompleteBody, "the body is not in the chunks that the head says")
}

fn has_unsigned_chunks(parts: &Parts) -> bool {
    let said = parts.headers.get("x-amz-content-sha256");
    said.is_some_and(|said| said.as_bytes().starts_with(b"STREAMING-UNSIGNED"))
}
