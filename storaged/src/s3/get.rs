//! GetObject and HeadObject: one way for both, since a HEAD is a GET whose body stays here.
//!
//! ```text
//!   version ─▶ conditions ─▶ range or part ─▶ what is said of the object ─▶ its bytes (GET alone)
//! ```

use super::access::{Action, Admitted, Caller};
use super::condition::{Conditions, Outcome, etag, seconds};
use super::lifecycle::expiration_of;
use super::version::VERSION_ID;
use super::{Api, Payload, checksum, error, lock, range, version};
use crate::front::FileRange;
use crate::store::{ContentRef, Metadata, ObjectFile, ObjectRecord};
use http::header::{CACHE_CONTROL, CONTENT_RANGE, ETAG, EXPIRES, IF_RANGE, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use s3s::dto::{
    Checksum, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, Timestamp,
    TimestampFormat,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use std::ops::Range as Bytes;
use std::sync::Arc;

/// What an object without a type is said to be.
pub(super) const CONTENT_TYPE_DEFAULT: &str = "binary/octet-stream";
/// The highest number of a part: as S3 has it.
const PART_NUMBER_MAX: i32 = 10_000;
/// How many tags an object has: the library has no field for it in the answer to a HEAD.
const TAG_COUNT: HeaderName = HeaderName::from_static("x-amz-tagging-count");

/// A record and, where it is asked for, the file of its content.
type Opened = (ObjectRecord, Option<Arc<ObjectFile>>);

pub(super) fn get(
    api: &Api,
    req: S3Request<GetObjectInput>,
) -> S3Result<S3Response<GetObjectOutput>> {
    let (output, (record, file), bytes) = look(api, req, true)?;
    let mut response = S3Response::new(output);
    response.extensions.insert(payload(&record, file, &bytes));
    Ok(response)
}

pub(super) fn head(
    api: &Api,
    req: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let (output, ..) = look(api, req.map_input(as_get), false)?;
    let tags = output.tag_count.map(HeaderValue::from);
    let is_partial = output.content_range.is_some();
    let mut response = S3Response::new(as_head(output));
    if is_partial {
        response.extensions.insert(StatusCode::PARTIAL_CONTENT);
    }
    response.headers.extend(tags.map(|count| (TAG_COUNT, count)));
    Ok(response)
}

/// What both answer, and the bytes that a GET sends.
fn look(
    api: &Api,
    req: S3Request<GetObjectInput>,
    open: bool,
) -> S3Result<(GetObjectOutput, Opened, Bytes<u64>)> {
    let admitted = api.admitted(&req)?;
    let locks = Locks::shown(api, &admitted, &req)?;
    let S3Request { input, headers, .. } = req;
    refuse_unserved(&admitted, &input)?;
    let opened = find(api, &admitted, &input, open)?;
    let record = &opened.0;
    let (since, until) = (input.if_modified_since.clone(), input.if_unmodified_since.clone());
    let conditions = Conditions::of(&headers, since, until)?;
    check_conditions(&conditions, &admitted, record)?;
    let wanted = Wanted::of(&input, &headers, record)?;
    let bytes = wanted.bytes(record);
    let content_range = wanted.shows_range(record).then(|| {
        // A range is never empty.
        format!("bytes {}-{}/{}", bytes.start, bytes.end - 1, record.size)
    });
    let sums = input.checksum_mode.is_some().then(|| wanted.sums(&record.meta));
    let parts = &record.meta.parts;
    let is_part = matches!(wanted, Wanted::Part(..)) && !parts.is_empty();
    // Rules are about current versions; who names one is told nothing.
    let is_current = input.version_id.is_none();
    let expiration = is_current
        .then(|| expiration_of(&api.settings, &input.bucket, input.key.as_bytes(), record))
        .flatten();
    let output = GetObjectOutput {
        content_length: Some(signed(bytes.end - bytes.start)),
        content_range,
        parts_count: is_part.then(|| i32::try_from(parts.len()).unwrap_or(i32::MAX)),
        version_id: version::shown(&admitted, record)?,
        expiration,
        ..head_of(record, sums.unwrap_or_default())
    };
    Ok((overridden(locks.left(output), input), opened, bytes))
}

/// Which of an object's locks the reader may see: they need permissions of their own (AWS, "GetObject").
struct Locks {
    retention: bool,
    hold: bool,
}

impl Locks {
    fn shown(api: &Api, admitted: &Admitted, req: &S3Request<GetObjectInput>) -> S3Result<Locks> {
        let locks = admitted.bucket()?.object_lock;
        let may =
            |action| !locks || api.may(req, action, &req.input.bucket, &req.input.key).is_ok();
        let (retention, hold) = (Action::GetObjectRetention, Action::GetObjectLegalHold);
        Ok(Locks { retention: may(retention), hold: may(hold) })
    }

    /// The answer without the others.
    fn left(&self, mut output: GetObjectOutput) -> GetObjectOutput {
        if !self.retention {
            output.object_lock_mode = None;
            output.object_lock_retain_until_date = None;
        }
        if !self.hold {
            output.object_lock_legal_hold_status = None;
        }
        output
    }
}

/// What would be promised and not kept is refused.
fn refuse_unserved(admitted: &Admitted, input: &GetObjectInput) -> S3Result<()> {
    if input.sse_customer_algorithm.is_some()
        || input.sse_customer_key.is_some()
        || input.sse_customer_key_md5.is_some()
    {
        return Err(s3_error!(NotImplemented, "encryption with customer keys is not served"));
    }
    let overrides = input.response_cache_control.is_some()
        || input.response_content_disposition.is_some()
        || input.response_content_encoding.is_some()
        || input.response_content_language.is_some()
        || input.response_content_type.is_some()
        || input.response_expires.is_some();
    if overrides && matches!(admitted.caller, Caller::Anonymous) {
        return Err(s3_error!(
            InvalidRequest,
            "request specific response headers cannot be used for anonymous GET requests"
        ));
    }
    Ok(())
}

fn find(api: &Api, admitted: &Admitted, input: &GetObjectInput, open: bool) -> S3Result<Opened> {
    let named = version::named(input.version_id.as_deref())?;
    let path = admitted.path(&input.key)?;
    let found = if open {
        api.store.open_version(&path, named).map_err(|e| error::open(&e))?
    } else {
        let record = api.store.version(&path, named).map_err(|e| error::index(&e))?;
        record.map(|record| (record, None))
    };
    let found = version::readable(found, named, |(record, _)| record)?;
    let found = found.ok_or_else(|| missing(api, admitted, &input.bucket))?;
    admitted.still_about(&found.0)?;
    Ok(found)
}

/// Which of the two is missing: the bucket or the key.
fn missing(api: &Api, admitted: &Admitted, bucket: &str) -> S3Error {
    match api.guard.facts(bucket) {
        Ok(_) => admitted.missing_key(),
        Err(error) => error,
    }
}

fn check_conditions(
    conditions: &Conditions,
    admitted: &Admitted,
    record: &ObjectRecord,
) -> S3Result<()> {
    match conditions.check(&record.meta.etag, record.meta.modified_ms) {
        Outcome::Proceed => Ok(()),
        Outcome::Failed => Err(precondition_failed()),
        Outcome::NotModified => {
            let mut error = S3Error::new(S3ErrorCode::NotModified);
            let shown = version::shown(admitted, record)?;
            error.set_headers(unchanged(&record.meta, shown));
            Err(error)
        }
    }
}

/// What a client with an old answer is told anew (RFC 9110, 15.4.5).
fn unchanged(meta: &Metadata, version: Option<String>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let value = |text: String| HeaderValue::try_from(text).ok();
    let date = crate::front::response::http_date(meta.modified_ms / 1000);
    headers.extend(etag(&meta.etag).to_http_header().ok().map(|tag| (ETAG, tag)));
    headers.extend(value(date).map(|date| (LAST_MODIFIED, date)));
    for name in [CACHE_CONTROL, EXPIRES] {
        headers.extend(kept(meta, name.as_str()).and_then(value).map(|value| (name, value)));
    }
    headers.extend(version.and_then(value).map(|version| (VERSION_ID, version)));
    headers
}

pub(super) fn precondition_failed() -> S3Error {
    s3_error!(PreconditionFailed, "at least one of the preconditions you specified did not hold")
}

/// Which bytes are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Whole,
    Range(Bytes<u64>),
    Part(u32, Bytes<u64>),
}

impl Wanted {
    fn of(input: &GetObjectInput, headers: &HeaderMap, record: &ObjectRecord) -> S3Result<Wanted> {
        let meta = &record.meta;
        match (input.range, input.part_number) {
            (Some(_), Some(_)) => Err(s3_error!(
                InvalidRequest,
                "cannot specify both Range header and partNumber query parameter"
            )),
            (None, None) => Ok(Wanted::Whole),
            (Some(range), None) if is_still_meant(headers, meta) => {
                let bytes = range::cut(range, record.size);
                bytes.map(Wanted::Range).ok_or_else(|| unsatisfiable(record.size))
            }
            (Some(_), None) => Ok(Wanted::Whole),
            (None, Some(number)) => {
                let within = (1..=PART_NUMBER_MAX).contains(&number);
                let number = u32::try_from(number).ok().filter(|_| within).ok_or_else(|| {
                    s3_error!(
                        InvalidArgument,
                        "part number must be an integer between 1 and {PART_NUMBER_MAX}, inclusive"
                    )
                })?;
                let bytes = range::of_part(&meta.parts, record.size, number);
                let bytes = bytes.ok_or_else(|| {
                    let status = StatusCode::RANGE_NOT_SATISFIABLE;
                    let message = "the requested partnumber is not satisfiable";
                    error::coded("InvalidPartNumber", status, message)
                })?;
                Ok(Wanted::Part(number, bytes))
            }
        }
    }

    fn bytes(&self, record: &ObjectRecord) -> Bytes<u64> {
        match self {
            Wanted::Whole => 0..record.size,
            Wanted::Range(bytes) | Wanted::Part(_, bytes) => bytes.clone(),
        }
    }

    /// A part may be empty, and nothing can be said about the range of that.
    fn shows_range(&self, record: &ObjectRecord) -> bool {
        *self != Wanted::Whole && !self.bytes(record).is_empty()
    }

    /// The checksums of what is asked for, where they are known.
    fn sums(&self, meta: &Metadata) -> Checksum {
        let known = match self {
            Wanted::Range(_) => &[][..],
            Wanted::Part(number, _) if !meta.parts.is_empty() => {
                let part = meta.parts.iter().find(|part| part.number == *number);
                part.and_then(|part| part.checksum.as_ref()).map_or(&[][..], std::slice::from_ref)
            }
            Wanted::Whole | Wanted::Part(..) => &meta.checksums,
        };
        checksum::shown(known, meta.checksum_type)
    }
}

/// Whether a range is of the object that the client has the rest of (RFC 9110, 13.1.5): if not, it wants
/// all of the new one. A date must be the very one that the object was shown with.
fn is_still_meant(headers: &HeaderMap, meta: &Metadata) -> bool {
    let Some(value) = headers.get(IF_RANGE) else { return true };
    let tag = etag(&meta.etag).to_http_header().ok();
    let date = crate::front::response::http_date(meta.modified_ms / 1000);
    tag.as_ref() == Some(value) || value.as_bytes() == date.as_bytes()
}

fn unsatisfiable(size: u64) -> S3Error {
    let error = s3_error!(InvalidRange, "the requested range is not satisfiable");
    let value = HeaderValue::try_from(format!("bytes */{size}")).expect("digits are ASCII");
    error::with_headers(error, HeaderMap::from_iter([(CONTENT_RANGE, value)]))
}

fn payload(record: &ObjectRecord, file: Option<Arc<ObjectFile>>, range: &Bytes<u64>) -> Payload {
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

/// A header that was kept with an object.
fn kept(meta: &Metadata, name: &str) -> Option<String> {
    meta.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
}

fn head_of(record: &ObjectRecord, sums: Checksum) -> GetObjectOutput {
    let meta = &record.meta;
    let header = |name: &str| kept(meta, name);
    let tags = i32::try_from(meta.tags.len()).ok().filter(|count| *count > 0);
    GetObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        cache_control: header("cache-control"),
        checksum_crc32: sums.checksum_crc32,
        checksum_crc32c: sums.checksum_crc32c,
        checksum_crc64nvme: sums.checksum_crc64nvme,
        checksum_sha1: sums.checksum_sha1,
        checksum_sha256: sums.checksum_sha256,
        checksum_type: sums.checksum_type,
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
        object_lock_legal_hold_status: lock::hold_text(meta.legal_hold)
            .map(|text| text.to_owned().into()),
        object_lock_mode: meta.retention.map(|kept| lock::mode_text(kept.mode).to_owned().into()),
        object_lock_retain_until_date: meta.retention.map(|kept| super::list::time(kept.until_ms)),
        tag_count: tags,
        ..GetObjectOutput::default()
    }
}

/// The answer with what the request wants it to say instead.
fn overridden(output: GetObjectOutput, input: GetObjectInput) -> GetObjectOutput {
    GetObjectOutput {
        cache_control: input.response_cache_control.or(output.cache_control),
        content_disposition: input.response_content_disposition.or(output.content_disposition),
        content_encoding: input.response_content_encoding.or(output.content_encoding),
        content_language: input.response_content_language.or(output.content_language),
        content_type: input.response_content_type.or(output.content_type),
        expires: input.response_expires.or(output.expires),
        ..output
    }
}

/// The same request for the whole object.
fn as_get(input: HeadObjectInput) -> GetObjectInput {
    GetObjectInput {
        bucket: input.bucket,
        checksum_mode: input.checksum_mode,
        expected_bucket_owner: input.expected_bucket_owner,
        if_match: input.if_match,
        if_modified_since: input.if_modified_since,
        if_none_match: input.if_none_match,
        if_unmodified_since: input.if_unmodified_since,
        key: input.key,
        part_number: input.part_number,
        range: input.range,
        request_payer: input.request_payer,
        response_cache_control: input.response_cache_control,
        response_content_disposition: input.response_content_disposition,
        response_content_encoding: input.response_content_encoding,
        response_content_language: input.response_content_language,
        response_content_type: input.response_content_type,
        response_expires: input.response_expires,
        sse_customer_algorithm: input.sse_customer_algorithm,
        sse_customer_key: input.sse_customer_key,
        sse_customer_key_md5: input.sse_customer_key_md5,
        version_id: input.version_id,
    }
}

/// The same answer without the body. What [`look`] never says is not here.
fn as_head(output: GetObjectOutput) -> HeadObjectOutput {
    HeadObjectOutput {
        accept_ranges: output.accept_ranges,
        cache_control: output.cache_control,
        checksum_crc32: output.checksum_crc32,
        checksum_crc32c: output.checksum_crc32c,
        checksum_crc64nvme: output.checksum_crc64nvme,
        checksum_sha1: output.checksum_sha1,
        checksum_sha256: output.checksum_sha256,
        checksum_type: output.checksum_type,
        content_disposition: output.content_disposition,
        content_encoding: output.content_encoding,
        content_language: output.content_language,
        content_length: output.content_length,
        content_range: output.content_range,
        content_type: output.content_type,
        e_tag: output.e_tag,
        expiration: output.expiration,
        expires: output.expires,
        last_modified: output.last_modified,
        metadata: output.metadata,
        object_lock_legal_hold_status: output.object_lock_legal_hold_status,
        object_lock_mode: output.object_lock_mode,
        object_lock_retain_until_date: output.object_lock_retain_until_date,
        parts_count: output.parts_count,
        version_id: output.version_id,
        ..HeadObjectOutput::default()
    }
}

pub(super) fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
