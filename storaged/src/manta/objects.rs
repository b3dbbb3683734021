//! Objects: those below a job, which no S3 bucket shows, and any other by its full name.

use super::calls::Caller;
use super::error::MantaError;
use super::range::{Part, RangeError, part};
use super::reply::{CONTENT_MD5, Ours, empty, md5_header};
use super::route::ObjectCall;
use crate::front::FileRange;
use crate::jobs::name::Name;
use crate::jobs::time::{http_date, now_ms};
use crate::store::{
    ContentRef, Deleted, Deleter, ObjectFile, ObjectPath, ObjectRecord, TransactError, TxnError,
};
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH,
    LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use s3s::Body;
use std::sync::Arc;

/// What an object without a content type is.
const CONTENT_TYPE_DEFAULT: HeaderValue = HeaderValue::from_static("application/octet-stream");

impl Caller<'_> {
    /// Answers a call on an object.
    pub async fn object(
        &self,
        call: ObjectCall,
        name: &str,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, MantaError> {
        let invalid = |why: String| MantaError::bad("InvalidResource", format!("{name}: {why}"));
        let read = Name::parse_long(name).map_err(|error| invalid(error.to_string()))?;
        let path = read.object(self.account).map_err(|error| invalid(error.to_string()))?;
        match call {
            ObjectCall::Get | ObjectCall::Head => self.get(name, &path, headers),
            ObjectCall::Delete => self.delete(name, path).await,
        }
    }

    /// Whether there is such an object.
    pub(super) fn is_there(&self, path: &ObjectPath) -> Result<bool, MantaError> {
        let found = self.jobs.store().object(path);
        Ok(found.map_err(|error| MantaError::internal(&error))?.is_some())
    }

    pub(super) fn get(
        &self,
        name: &str,
        path: &ObjectPath,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, MantaError> {
        let opened = self.jobs.store().open_object(path);
        let opened = opened.map_err(|error| MantaError::internal(&error))?;
        let (record, file) = opened.ok_or_else(|| MantaError::not_found(name))?;
        if let Some(answer) = conditions(headers, &record)? {
            return Ok(answer);
        }
        let range = headers.get(RANGE).and_then(|value| value.to_str().ok());
        let part = match range.map_or(Ok(None), |range| part(range, record.size)) {
            Ok(part) => part,
            Err(error) => return not_satisfied(error, record.size),
        };
        Ok(content(&record, file, part))
    }

    async fn delete(&self, name: &str, path: ObjectPath) -> Result<Response<Body>, MantaError> {
        let deleter = Deleter::plain(now_ms());
        let deleted = self.jobs.store().transact(move |txn| {
            // Behind a delete marker there is nothing to delete, and no second marker to make.
            match txn.object(&path)? {
                None => Ok(Deleted::Nothing),
                Some(_) => txn.delete_object(&path, None, deleter),
            }
        });
        match deleted.await {
            Ok(Deleted::Removed { .. } | Deleted::Marked { .. }) => {
                Ok(empty(StatusCode::NO_CONTENT))
            }
            Ok(Deleted::Nothing) => Err(MantaError::not_found(name)),
            Err(TransactError::Refused(error @ TxnError::Locked)) => {
                Err(MantaError::new(StatusCode::FORBIDDEN, "Locked", error.to_string()))
            }
            Err(TransactError::Full | TransactError::Refused(TxnError::Full { .. })) => {
                Err(MantaError::full())
            }
            Err(TransactError::Refused(error)) => Err(MantaError::internal(&error)),
            // Busy, read-only, shutting down, or a transaction that fell over: the words say which.
            Err(error) => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                Err(MantaError::new(status, "ServiceUnavailable", error.to_string()))
            }
        }
    }
}

/// The entity tag, bare, as Manta has it.
fn etag(record: &ObjectRecord) -> String {
    record.meta.etag.to_string()
}

/// Whether a list of etags, quoted or not, has this one.
fn names(list: &HeaderValue, etag: &str) -> bool {
    let list = list.to_str().unwrap_or_default();
    let each = list.split(',').map(|item| item.trim().trim_start_matches("W/").trim_matches('"'));
    list.trim() == "*" || each.into_iter().any(|item| item == etag)
}

/// The answer that the conditions ask for, if it is not the object.
fn conditions(
    headers: &HeaderMap,
    record: &ObjectRecord,
) -> Result<Option<Response<Body>>, MantaError> {
    let etag = etag(record);
    if headers.get(IF_MATCH).is_some_and(|list| !names(list, &etag)) {
        let status = StatusCode::PRECONDITION_FAILED;
        let message = format!("if-match does not name {etag}");
        return Err(MantaError::new(status, "PreconditionFailed", message));
    }
    if headers.get(IF_NONE_MATCH).is_some_and(|list| names(list, &etag)) {
        let mut response = empty(StatusCode::NOT_MODIFIED);
        describe(response.headers_mut(), record);
        return Ok(Some(response));
    }
    Ok(None)
}

fn not_satisfied(error: RangeError, size: u64) -> Result<Response<Body>, MantaError> {
    match error {
        RangeError::Several => {
            let status = StatusCode::NOT_IMPLEMENTED;
            Err(MantaError::new(status, "NotImplemented", error.to_string()))
        }
        RangeError::Unsatisfiable => {
            let status = StatusCode::RANGE_NOT_SATISFIABLE;
            let error = MantaError::new(status, "RequestedRangeNotSatisfiable", error.to_string());
            let mut response = error.response();
            let whole = HeaderValue::from_str(&format!("bytes */{size}")).expect("ASCII");
            response.headers_mut().insert(CONTENT_RANGE, whole);
            Ok(response)
        }
    }
}

fn describe(headers: &mut HeaderMap, record: &ObjectRecord) {
    let ascii = |text: &str| HeaderValue::from_str(text).expect("numbers and dates are ASCII");
    headers.insert(ETAG, ascii(&etag(record)));
    headers.insert(LAST_MODIFIED, ascii(&http_date(record.meta.modified_ms)));
    headers.insert("durability-level", HeaderValue::from_static("1"));
    let given = record.meta.content_type.as_deref().map(HeaderValue::from_str);
    let content_type = given.and_then(Result::ok).unwrap_or(CONTENT_TYPE_DEFAULT);
    headers.insert(CONTENT_TYPE, content_type);
}

fn content(
    record: &ObjectRecord,
    file: Option<Arc<ObjectFile>>,
    part: Option<Part>,
) -> Response<Body> {
    let Part { offset, length } = part.unwrap_or(Part { offset: 0, length: record.size });
    let mut response = Response::new(Body::empty());
    match (&record.content, file) {
        (ContentRef::Inline(bytes), _) => {
            let end = usize::try_from(offset + length).expect("inline contents are small");
            let start = usize::try_from(offset).expect("inline contents are small");
            *response.body_mut() = Body::from(bytes.slice(start..end));
        }
        (ContentRef::Blob(_), Some(file)) if length > 0 => {
            response.extensions_mut().insert(FileRange { file, offset, length });
        }
        (ContentRef::Blob(_), _) => {}
    }
    response.extensions_mut().insert(Ours);
    let headers = response.headers_mut();
    describe(headers, record);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    match part {
        None => {
            // The tag of an upload in parts is no MD5 of the content.
            if record.meta.etag.parts.is_none() {
                headers.insert(CONTENT_MD5, md5_header(&record.meta.etag.md5));
            }
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        }
        Some(_) => {
            let range = format!("bytes {offset}-{}/{}", offset + length - 1, record.size);
            headers.insert(CONTENT_RANGE, HeaderValue::from_str(&range).expect("ASCII"));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
    }
    response
}
