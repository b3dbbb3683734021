//! Uploads in parts.
//!
//! ```text
//!   CreateMultipartUpload ─▶ UploadPart, UploadPartCopy … ─▶ CompleteMultipartUpload ─▶ an object
//!                                                         └▶ AbortMultipartUpload
//! ```
//! Owns what the protocol says about them; bytes and records are the store's.

mod begin;
pub mod choose;
mod complete;
mod copy;
mod later;
mod list;
mod part;
mod timer;

pub(super) use begin::begin;
pub(super) use complete::complete;
pub(super) use copy::copy;
pub(super) use list::{list_parts, list_uploads};
pub(super) use part::part;

use super::access::Admitted;
use super::{Api, error};
use crate::store::uploads::{
    AbortError, PARTS_MAX, PartError, Upload, UploadId, upload, uploads_to,
};
use crate::store::{ObjectPath, TxnError, View};
use s3s::dto::{AbortMultipartUploadInput, AbortMultipartUploadOutput};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

/// Uploads that are aborted between two looks at a bucket that is to go.
const ABORTED_AT_ONCE: usize = 100;

fn no_such_upload() -> S3Error {
    s3_error!(
        NoSuchUpload,
        "the specified upload does not exist; the upload ID may be invalid, or the upload may have been \
         aborted or completed"
    )
}

/// An upload, if it is one to this object.
fn known(view: &dyn View, id: &str, path: &ObjectPath) -> S3Result<Option<Upload>> {
    let Some(id) = UploadId::parse(id) else { return Ok(None) };
    let found = upload(view, id).map_err(|e| error::index(&e))?;
    Ok(found.filter(|upload| upload.path == *path))
}

/// The upload of a request.
fn find(api: &Api, admitted: &Admitted, id: &str, key: &str) -> S3Result<Upload> {
    let path = admitted.path(key)?;
    let view = api.store.read().map_err(|e| error::index(&e))?;
    known(&view, id, &path)?.ok_or_else(no_such_upload)
}

/// The number of a part.
fn number(asked: i32) -> S3Result<u32> {
    let number = u32::try_from(asked).ok().filter(|number| (1..=PARTS_MAX).contains(number));
    number.ok_or_else(|| {
        s3_error!(
            InvalidArgument,
            "part number must be an integer between 1 and {PARTS_MAX}, inclusive"
        )
    })
}

fn busy() -> S3Error {
    s3_error!(
        OperationAborted,
        "the upload is being completed: a conflicting operation is in progress against it; try again"
    )
}

fn part_failed(failed: PartError) -> S3Error {
    match failed {
        PartError::Stage(failed) => error::stage(&failed),
        PartError::Index(failed) => error::index(&failed),
        PartError::Ended => no_such_upload(),
        PartError::Completing => busy(),
        PartError::TooLong { limit } => {
            s3_error!(EntityTooLarge, "the part is longer than {limit} bytes")
        }
        PartError::Frozen => error::internal(&failed),
        PartError::Record(failed) => error::transact(failed, |e: TxnError| error::txn(&e)),
    }
}

pub(super) async fn abort(
    api: &Api,
    req: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let admitted = api.admitted(&req)?;
    let input = req.input;
    if input.if_match_initiated_time.is_some() {
        return Err(s3_error!(NotImplemented, "If-Match-Initiated-Time is not served"));
    }
    let upload = find(api, &admitted, &input.upload_id, &input.key)?;
    match api.store.abort_upload(upload.id).await.map_err(abort_failed)? {
        true => Ok(S3Response::new(AbortMultipartUploadOutput::default())),
        false => Err(no_such_upload()),
    }
}

fn abort_failed(failed: AbortError) -> S3Error {
    match failed {
        AbortError::Completing => busy(),
        AbortError::Record(failed) => error::transact(failed, |e: TxnError| error::txn(&e)),
    }
}

/// Aborts uploads to a bucket that is about to go.
///
/// # Errors
/// OperationAborted when one is being completed.
pub(super) async fn abort_some(api: &Api, bucket: &str) -> S3Result<()> {
    let view = api.store.read().map_err(|e| error::index(&e))?;
    let ids = uploads_to(&view, bucket, ABORTED_AT_ONCE).map_err(|e| error::index(&e))?;
    drop(view);
    for id in ids {
        api.store.abort_upload(id).await.map_err(abort_failed)?;
    }
    Ok(())
}
