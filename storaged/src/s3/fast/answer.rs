//! The answer to a plain request: a head written into one buffer. Pure, but for the file it passes on.

use crate::front::response::put_http_date;
use crate::front::{FileRange, Quick, QuickBody};
use crate::s3::get::CONTENT_TYPE_DEFAULT;
use crate::store::hot::{Place, Ready};
use crate::store::{ContentRef, LegalHold, ObjectFile, ObjectKind, ObjectRecord};
use http::StatusCode;
use std::io::Write;
use std::sync::Arc;

/// Room for the head of most objects.
const HEAD_BYTES: usize = 512;
/// Headers that are kept with an object and given back as they came.
const KEPT: [&str; 4] =
    ["cache-control", "content-disposition", "content-encoding", "content-language"];

/// The answer to a GET.
pub fn with_body(
    record: &ObjectRecord,
    file: Option<Arc<ObjectFile>>,
    sums: bool,
    expiration: Option<&str>,
) -> Option<Quick> {
    let head = head(record, sums, expiration)?;
    let body = match (&record.content, file) {
        (ContentRef::Inline(bytes), _) => QuickBody::Bytes(bytes.clone()),
        (ContentRef::Blob(_), Some(file)) => {
            QuickBody::File(FileRange { file, offset: 0, length: record.size })
        }
        (ContentRef::Blob(_), None) => return None,
    };
    Some(Quick { status: StatusCode::OK, head, body })
}

/// The answer to a GET of an object that is ready.
pub fn ready(ready: Ready) -> Quick {
    let Ready { note, place, length } = ready;
    // The front has some fields to add.
    let mut head = Vec::with_capacity(note.len() + HEAD_BYTES / 4);
    head.extend_from_slice(&note);
    let body = match place {
        Place::Memory(file, offset) => QuickBody::Memory(FileRange { file, offset, length }),
        Place::File(file) => QuickBody::File(FileRange { file, offset: 0, length }),
    };
    Quick { status: StatusCode::OK, head, body }
}

/// The answer to a HEAD.
pub fn without_body(record: &ObjectRecord, sums: bool, expiration: Option<&str>) -> Option<Quick> {
    Some(Quick {
        status: StatusCode::OK,
        head: head(record, sums, expiration)?,
        body: QuickBody::None,
    })
}

/// The head; none if the record holds anything unusual.
fn head(record: &ObjectRecord, sums: bool, expiration: Option<&str>) -> Option<Vec<u8>> {
    let meta = &record.meta;
    if !is_plain(record) {
        return None;
    }
    let mut out = Vec::with_capacity(HEAD_BYTES);
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\naccept-ranges: bytes\r\ncontent-length: ");
    // A Vec takes all bytes, here and below.
    write!(out, "{}", record.size).ok()?;
    out.extend_from_slice(b"\r\netag: \"");
    write!(out, "{}", meta.etag).ok()?;
    out.extend_from_slice(b"\"\r\nlast-modified: ");
    put_http_date(&mut out, meta.modified_ms / 1000);
    out.extend_from_slice(b"\r\n");
    let content_type = meta.content_type.as_deref().unwrap_or(CONTENT_TYPE_DEFAULT);
    put_field(&mut out, "", "content-type", content_type)?;
    for (name, value) in &meta.headers {
        if !KEPT.contains(&name.as_str()) {
            return None;
        }
        put_field(&mut out, "", name, value)?;
    }
    for (name, value) in &meta.user {
        put_field(&mut out, "x-amz-meta-", name, value)?;
    }
    if sums && !meta.checksums.is_empty() {
        for (name, value) in &meta.checksums {
            put_field(&mut out, "x-amz-checksum-", name, value)?;
        }
        put_field(&mut out, "", "x-amz-checksum-type", "FULL_OBJECT")?;
    }
    if let Some(expiration) = expiration {
        put_field(&mut out, "", "x-amz-expiration", expiration)?;
    }
    Some(out)
}

/// Whether there is nothing about an object that its answer tells or its reader may be denied for, beside
/// what is written here.
fn is_plain(record: &ObjectRecord) -> bool {
    let meta = &record.meta;
    let is_bare = meta.tags.is_empty() && meta.parts.is_empty() && meta.acl.is_none();
    let is_free = meta.retention.is_none() && meta.legal_hold == LegalHold::Never;
    record.kind == ObjectKind::Object && is_bare && is_free
}

/// A field, if it is of the kind that goes out as it is: a token, and printable ASCII.
fn put_field(out: &mut Vec<u8>, prefix: &str, name: &str, value: &str) -> Option<()> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let plain = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let ends = value.starts_with(' ') || value.ends_with(' ') || value.is_empty();
    if !plain || ends || name.is_empty() || !name.bytes().all(is_token) {
        return None;
    }
    for part in [prefix, name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    Some(())
}
