//! Versions as requests name them and as answers show them.

use super::access::Admitted;
use super::{Api, error};
use crate::front::response::http_date;
use crate::store::{Metadata, ObjectPath, ObjectRecord, VersionRef, View, newest, object_version};
use http::header::{ALLOW, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::{S3Error, S3Result, s3_error};

const DELETE_MARKER: HeaderName = HeaderName::from_static("x-amz-delete-marker");
pub(super) const VERSION_ID: HeaderName = HeaderName::from_static("x-amz-version-id");

/// The version that a request names.
///
/// # Errors
/// When it is no version's id.
pub(super) fn named(id: Option<&str>) -> S3Result<Option<VersionRef>> {
    match id.map(VersionRef::parse) {
        None => Ok(None),
        Some(Some(version)) => Ok(Some(version)),
        Some(None) => Err(s3_error!(InvalidArgument, "Invalid version id specified")),
    }
}

/// The id that an answer about a version shows: none in a bucket that never kept versions.
pub(super) fn shown(admitted: &Admitted, record: &ObjectRecord) -> S3Result<Option<String>> {
    let versioning = admitted.bucket()?.versioning;
    Ok(versioning.shows(record.version_ref()).map(|version| version.to_string()))
}

/// A version that was found and is to be read: an object, not a delete marker. `None` found and none named
/// is for the caller to tell apart: the key may be missing, or the bucket.
///
/// # Errors
/// NoSuchVersion, or for a delete marker NoSuchKey or, when it was named, MethodNotAllowed.
pub(super) fn readable<T>(
    found: Option<T>,
    named: Option<VersionRef>,
    record: impl FnOnce(&T) -> &ObjectRecord,
) -> S3Result<Option<T>> {
    let Some(found) = found else {
        return match named {
            None => Ok(None),
            Some(_) => Err(s3_error!(NoSuchVersion, "the specified version does not exist")),
        };
    };
    match record(&found) {
        record if record.is_marker() => Err(hidden(record, named.is_some())),
        _ => Ok(Some(found)),
    }
}

/// The answer to who reads a delete marker.
fn hidden(marker: &ObjectRecord, named: bool) -> S3Error {
    let mut headers = HeaderMap::new();
    headers.insert(DELETE_MARKER, HeaderValue::from_static("true"));
    let ascii = |text: String| HeaderValue::try_from(text).expect("ids and dates are ASCII");
    headers.insert(VERSION_ID, ascii(marker.version_ref().to_string()));
    let error = if named {
        headers.insert(ALLOW, HeaderValue::from_static("DELETE"));
        headers.insert(LAST_MODIFIED, ascii(http_date(marker.meta.modified_ms / 1000)));
        s3_error!(MethodNotAllowed, "the specified method is not allowed against a delete marker")
    } else {
        s3_error!(NoSuchKey, "the specified key does not exist")
    };
    error::with_headers(error, headers)
}

/// A version that is to be read: the newest, if none is named.
///
/// # Errors
/// As [`readable`], and NoSuchKey.
pub(super) fn read(
    view: &(impl View + ?Sized),
    path: &ObjectPath,
    named: Option<VersionRef>,
) -> S3Result<ObjectRecord> {
    let found = match named {
        None => newest(view, path),
        Some(version) => object_version(view, path, version),
    };
    let found = found.map_err(|e| error::index(&e))?;
    let found = readable(found, named, |record| record)?;
    found.ok_or_else(|| s3_error!(NoSuchKey, "the specified key does not exist"))
}

/// Changes what is said about a version, the newest if none is named; the version as it was.
///
/// # Errors
/// As [`read`], and what `change` refuses with.
pub(super) async fn change(
    api: &Api,
    path: ObjectPath,
    named: Option<VersionRef>,
    change: impl FnOnce(&mut Metadata) -> S3Result<()> + Send + 'static,
) -> S3Result<ObjectRecord> {
    let done = api.store.transact(move |txn| {
        let record = read(txn, &path, named)?;
        let mut meta = record.meta.clone();
        change(&mut meta)?;
        txn.change_object(&path, &record, meta);
        Ok(record)
    });
    done.await.map_err(|e| error::transact(e, |refused: S3Error| refused))
}
