//! What goes wrong in the store, as S3 tells it.

use super::post::LengthError;
use crate::front::request_body::BodyError;
use crate::store::{IndexError, OpenBlobError, SealError, StageError, TransactError, TxnError};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use s3s::{S3Error, S3ErrorCode, StdError, s3_error};

/// The disk is full: a code of our own, since S3's disks never are.
pub fn full() -> S3Error {
    let mut error = S3Error::with_message(
        S3ErrorCode::Custom("InsufficientStorage".into()),
        "the data disk is full: nothing was stored; delete objects",
    );
    error.set_status_code(StatusCode::INSUFFICIENT_STORAGE);
    error
}

/// An error of S3's that the protocol library has no name for.
pub fn coded(code: &'static str, status: StatusCode, message: impl Into<String>) -> S3Error {
    let mut error = S3Error::with_message(
        S3ErrorCode::Custom(code.into()),
        std::borrow::Cow::from(message.into()),
    );
    error.set_status_code(status);
    error
}

/// A body that is not the one that was signed.
pub fn sha256_mismatch() -> S3Error {
    let code = "XAmzContentSHA256Mismatch";
    coded(code, StatusCode::BAD_REQUEST, "the body does not have the signed SHA-256")
}

/// A request that makes no sense.
pub fn bad_request(message: impl Into<String>) -> S3Error {
    coded("BadRequest", StatusCode::BAD_REQUEST, message)
}

/// The store failed, and its log says how.
pub fn internal(error: &(dyn std::error::Error + 'static)) -> S3Error {
    log::error!("{}", chain(error));
    s3_error!(InternalError, "the store failed; its log says why")
}

/// An error and its sources on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// An error with headers of its own. The library would send them instead of its own, that the body is XML
/// among them, by which clients know that there is something to read.
pub fn with_headers(mut error: S3Error, mut headers: HeaderMap) -> S3Error {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    error.set_headers(headers);
    error
}

/// Of the index.
pub fn index(error: &IndexError) -> S3Error {
    internal(error)
}

/// Of a transaction's closure.
pub fn txn(error: &TxnError) -> S3Error {
    match error {
        TxnError::Full { .. } => full(),
        TxnError::NoBucket { .. } => {
            s3_error!(NoSuchBucket, "the specified bucket does not exist")
        }
        TxnError::ConfigTooLong { .. } => s3_error!(InvalidRequest, "{error}"),
        TxnError::Locked => {
            s3_error!(AccessDenied, "Access Denied because object protected by object lock.")
        }
        TxnError::NoObjectLock => {
            s3_error!(InvalidRequest, "Bucket is missing Object Lock Configuration")
        }
        TxnError::Index(_) | TxnError::TooLong { .. } | TxnError::NoBlob(_) => internal(error),
    }
}

/// Of a transaction, given what its closure's refusal means.
pub fn transact<E>(error: TransactError<E>, refused: impl FnOnce(E) -> S3Error) -> S3Error {
    match error {
        TransactError::Refused(error) => refused(error),
        TransactError::Busy => s3_error!(SlowDown, "too many changes wait for the disk"),
        TransactError::Full => full(),
        TransactError::ReadOnly(why) => read_only(&why),
        TransactError::ShutDown => s3_error!(ServiceUnavailable, "the store is shutting down"),
        TransactError::TooLarge { bytes } => {
            log::error!("a change was refused: it has {bytes} bytes");
            s3_error!(InternalError, "the change is too large for one transaction")
        }
        TransactError::Panicked => {
            log::error!("a transaction panicked");
            s3_error!(InternalError, "the change could not be made; the log says why")
        }
    }
}

fn read_only(why: &str) -> S3Error {
    log::error!("a change was refused: the store is read-only: {why}");
    s3_error!(ServiceUnavailable, "the store takes no changes; its log says why")
}

/// Of a staging file.
pub fn stage(error: &StageError) -> S3Error {
    match error {
        StageError::Full => full(),
        StageError::Busy => s3_error!(SlowDown, "too many uploads are open"),
        StageError::ReadOnly(why) => read_only(why),
        StageError::Io { .. } => internal(error),
    }
}

/// Of sealing.
pub fn seal(error: &SealError) -> S3Error {
    match error {
        SealError::Full => full(),
        SealError::Busy => s3_error!(SlowDown, "too many changes wait for the disk"),
        SealError::ReadOnly(why) => read_only(why),
        SealError::WriterLeft | SealError::Io { .. } => internal(error),
    }
}

/// Of opening a blob.
pub fn open(error: &OpenBlobError) -> S3Error {
    match error {
        OpenBlobError::Sealing { .. } => s3_error!(SlowDown, "the object is being sealed"),
        _ => internal(error),
    }
}

/// Of a request's body. The protocol library wraps what the connection said and its own findings into
/// errors without types, so their words are all there is to go by.
#[expect(clippy::needless_pass_by_value, reason = "as map_err gives it")]
pub fn body(error: StdError) -> S3Error {
    let text = error.to_string();
    log::debug!("a body was refused: {text}");
    if text.contains("SignatureMismatch") {
        s3_error!(SignatureDoesNotMatch, "a signature over a chunk of the body does not match")
    } else if text.contains("Sha256Mismatch") {
        sha256_mismatch()
    } else if text.contains(&BodyError::Idle.to_string()) {
        s3_error!(RequestTimeout, "the body did not arrive in time")
    } else if text.contains(&LengthError::TooLong.to_string()) {
        s3_error!(EntityTooLarge, "{}", LengthError::TooLong)
    } else if text.contains(&LengthError::TooShort.to_string()) {
        s3_error!(EntityTooSmall, "{}", LengthError::TooShort)
    } else {
        s3_error!(IncompleteBody, "the body is not what the head says: {text}")
    }
}
