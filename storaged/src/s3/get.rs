//! GetObject and HeadObject.

use super::access::Admitted;
use super::checksum::Algorithm;
use super::condition::{Conditions, Outcome, etag, seconds};
use super::{Api, Payload, error, lock, version};
use crate::front::FileRange;
use crate::store::{ContentRef, ObjectFile, ObjectRecord};
use http::header::{ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue};
use s3s::dto::{
    GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, Range, Timestamp,
    TimestampFormat,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use std::sync::Arc;

/// What an object without a type is said to be.
pub(super) const CONTENT_TYPE_DEFAULT: &str = "binary/octet-stream";

pub(super) fn get(
    api: &Api,
    req: S3Request<GetObjectInput>,
) -> S3Result<S3Response<GetObjectOutput>> {
    let admitted = api.admitted(&req)?;
    let input = req.input;
    check_part(input.part_number)?;
    let named = version::named(input.version_id.as_deref())?;
    let path = admitted.path(&input.key)?;
    let opened = api.store.open_version(&path, named).map_err(|e| error::open(&e))?;
    let opened = version::readable(opened, named, |(record, _)| record)?;
    let Some((record, file)) = opened else { return Err(missing(api, &admitted, &input.bucket)) };
    admitted.still_about(&record)?;
    let conditions = Conditions {
        matches: input.if_match,
        none_match: input.if_none_match,
        modified_since: input.if_modified_since,
        unmodified_since: input.if_unmodified_since,
    };
    check_conditions(&conditions, &record)?;
    let range = bytes_of(input.range, record.size)?;
    let whole = input.range.is_none();
    let payload = payload(&record, file, &range);
    let wants_sums = whole && input.checksum_mode.is_some();
    let output: GetObjectOutput = head_of(&record, wants_sums);
    let output = GetObjectOutput {
        content_length: Some(signed(range.end - range.start)),
        content_range: (!whole)
            .then(|| format!("bytes {}-{}/{}", range.start, range.end - 1, record.size)),
        version_id: version::shown(&admitted, &record)?,
        ..output
    };
    let mut response = S3Response::new(output);
    response.extensions.insert(payload);
    Ok(response)
}

pub(super) fn head(
    api: &Api,
    req: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let admitted = api.admitted(&req)?;
    let input = req.input;
    check_part(input.part_number)?;
    let named = version::named(input.version_id.as_deref())?;
    let path = admitted.path(&input.key)?;
    let record = api.store.version(&path, named).map_err(|e| error::index(&e))?;
    let record = version::readable(record, named, |record| record)?;
    let Some(record) = record else { return Err(missing(api, &admitted, &input.bucket)) };
    admitted.still_about(&record)?;
    let conditions = Conditions {
        matches: input.if_match,
        none_match: input.if_none_match,
        modified_since: input.if_modified_since,
        unmodified_since: input.if_unmodified_since,
    };
    check_conditions(&conditions, &record)?;
    let range = bytes_of(input.range, record.size)?;
    let whole = input.range.is_none();
    let found = head_of(&record, whole && input.checksum_mode.is_some());
    let output = HeadObjectOutput {
        accept_ranges: found.accept_ranges,
        cache_control: input.response_cache_control.or(found.cache_control),
        checksum_crc32: found.checksum_crc32,
        checksum_crc32c: found.checksum_crc32c,
        checksum_crc64nvme: found.checksum_crc64nvme,
        checksum_sha1: found.checksum_sha1,
        checksum_sha256: found.checksum_sha256,
        checksum_type: found.checksum_type,
        content_disposition: input.response_content_disposition.or(found.content_disposition),
        content_encoding: input.response_content_encoding.or(found.content_encoding),
        content_language: input.response_content_language.or(found.content_language),
        content_length: Some(signed(range.end - range.start)),
        content_range: (!whole)
            .then(|| format!("bytes {}-{}/{}", range.start, range.end - 1, record.size)),
        content_type: input.response_content_type.or(found.content_type),
        e_tag: found.e_tag,
        expires: input.response_expires.or(found.expires),
        last_modified: found.last_modified,
        metadata: found.metadata,
        object_lock_legal_hold_status: found.object_lock_legal_hold_status,
        object_lock_mode: found.object_lock_mode,
        object_lock_retain_until_date: found.object_lock_retain_until_date,
        version_id: version::shown(&admitted, &record)?,
        ..HeadObjectOutput::default()
    };
    Ok(S3Response::new(output))
}

/// The part that is asked for, while objects have one.
fn check_part(part: Option<i32>) -> S3Result<()> {
    match part {
        None | Some(1) => Ok(()),
        Some(_) => Err(s3_error!(InvalidPart, "the object has one part")),
    }
}

/// Which of the two is missing: the bucket or the key.
fn missing(api: &Api, admitted: &Admitted, bucket: &str) -> S3Error {
    match api.guard.facts(bucket) {
        Ok(_) => admitted.missing_key(),
        Err(error) => error,
    }
}

fn check_conditions(conditions: &Conditions, record: &ObjectRecord) -> S3Result<()> {
    match conditions.check(&record.meta.etag, record.meta.modified_ms) {
        Outcome::Proceed => Ok(()),
        Outcome::Failed => Err(precondition_failed()),
        Outcome::NotModified => {
            let mut error = S3Error::new(S3ErrorCode::NotModified);
            let mut headers = HeaderMap::new();
            let tag = etag(&record.meta.etag).to_http_header();
            let date = crate::front::response::http_date(record.meta.modified_ms / 1000);
            headers.extend(tag.ok().map(|tag| (ETAG, tag)));
            headers.extend(HeaderValue::try_from(date).ok().map(|date| (LAST_MODIFIED, date)));
            error.set_headers(headers);
            Err(error)
        }
    }
}

pub(super) fn precondition_failed() -> S3Error {
    s3_error!(PreconditionFailed, "at least one of the preconditions you specified did not hold")
}

fn bytes_of(range: Option<Range>, size: u64) -> S3Result<std::ops::Range<u64>> {
    match range {
        None => Ok(0..size),
        // The library takes the end of nothing for something.
        Some(Range::Suffix { .. }) if size == 0 => {
            Err(s3_error!(InvalidRange, "the requested range is not satisfiable"))
        }
        Some(range) => range
            .check(size)
            .map_err(|_| s3_error!(InvalidRange, "the requested range is not satisfiable")),
    }
}

fn payload(
    record: &ObjectRecord,
    file: Option<Arc<ObjectFile>>,
    range: &std::ops::Range<u64>,
) -> Payload {
    match (&record.content, file) {
        (ContentRef::Inline(bytes), _) => {
            // At most INLINE_BYTES_MAX.
            Payload::Bytes(bytes.slice(range.start as usize..range.end as usize))
        }
        (ContentRef::Blob(_), Some(file)) => {
            Payload::File(FileRange { file, offset: range.start, length: range.end - range.start })
        }
        (ContentRef::Blob(_), None) => unreachable!("a blob is opened with its record"),
    }
}

fn head_of(record: &ObjectRecord, wants_sums: bool) -> GetObjectOutput {
    let meta = &record.meta;
    let header = |name: &str| {
        meta.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    };
    let sum = |algorithm: Algorithm| {
        let name = algorithm.name();
        let found = meta.checksums.iter().find(|(key, _)| wants_sums && key == name);
        found.map(|(_, value)| value.clone())
    };
    let has_sums = wants_sums && !meta.checksums.is_empty();
    GetObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        cache_control: header("cache-control"),
        checksum_crc32: sum(Algorithm::Crc32),
        checksum_crc32c: sum(Algorithm::Crc32c),
        checksum_crc64nvme: sum(Algorithm::Crc64Nvme),
        checksum_sha1: sum(Algorithm::Sha1),
        checksum_sha256: sum(Algorithm::Sha256),
        checksum_type: has_sums.then(|| "FULL_OBJECT".to_owned().into()),
        content_disposition: header("content-disposition"),
        content_encoding: header("content-encoding"),
        content_language: header("content-language"),
        content_type: Some(
            meta.content_type.clone().unwrap_or_else(|| CONTENT_TYPE_DEFAULT.to_owned()),
        ),
        e_tag: Some(etag(&meta.etag)),
        expires: header("expires")
            .and_then(|text| Timestamp::parse(TimestampFormat::HttpDate, &text).ok()),
        last_modified: Some(seconds(meta.modified_ms)),
        metadata: (!meta.user.is_empty()).then(|| meta.user.iter().cloned().collect()),
        object_lock_legal_hold_status: meta.legal_hold.then(|| lock::hold_text(meta).into()),
        object_lock_mode: meta.retention.map(|kept| lock::mode_text(kept.mode).to_owned().into()),
        object_lock_retain_until_date: meta.retention.map(|kept| super::list::time(kept.until_ms)),
        ..GetObjectOutput::default()
    }
}

pub(super) fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_object() {
        let bytes = |text: &str, size| bytes_of(Some(Range::parse(text).unwrap()), size).ok();
        assert_eq!(bytes("bytes=2-4", 10), Some(2..5));
        assert_eq!(bytes("bytes=2-", 10), Some(2..10));
        assert_eq!(bytes("bytes=2-99", 10), Some(2..10));
        assert_eq!(bytes("bytes=-3", 10), Some(7..10));
        assert_eq!(bytes("bytes=-99", 10), Some(0..10));
        assert_eq!(bytes("bytes=10-", 10), None);
        assert_eq!(bytes("bytes=-0", 10), None);
        assert_eq!(bytes("bytes=-1", 0), None);
        assert_eq!(bytes_of(None, 0).unwrap(), 0..0);
    }
}
