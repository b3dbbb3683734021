//! What goes wrong, as Manta tells it: a status, a stable code, and a message.

use super::reply::json;
use crate::jobs::JobsError;
use crate::jobs::progress::Refusal;
use http::{Method, Response, StatusCode};
use s3s::{Body, S3Error};
use std::error::Error;

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MantaError {
    status: StatusCode,
    code: String,
    message: String,
}

impl MantaError {
    /// An error with these words.
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into() }
    }

    /// 400 with this code.
    pub fn bad(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// Nothing is there.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "ResourceNotFound", format!("{what} was not found"))
    }

    /// A request without a signature.
    pub fn unsigned() -> Self {
        let message = "the request is not signed: sign it with an access key (Signature Version 4)";
        Self::new(StatusCode::FORBIDDEN, "AuthorizationFailed", message)
    }

    /// A request for what is somebody else's.
    pub fn forbidden(method: &Method, login: &str) -> Self {
        let message = format!("these keys may not {method} what is below /{login}");
        Self::new(StatusCode::FORBIDDEN, "AuthorizationFailed", message)
    }

    /// What no method or path of Manta's is.
    pub fn method(method: &Method, path: &str) -> Self {
        let message = format!("{method} is not served for {path}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// A fault of ours: the log says which.
    pub fn internal(error: &(dyn Error + 'static)) -> Self {
        log::error!("manta: {}", crate::s3::chain(error));
        let message = "storaged failed; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// The disk is full.
    pub fn full() -> Self {
        let message = "the data disk is full: nothing was stored; delete objects";
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "NotEnoughSpace", message)
    }

    /// An error of the signature check, in Manta's words.
    pub fn of_s3(error: &S3Error) -> Self {
        let status = error.status_code().unwrap_or(StatusCode::BAD_REQUEST);
        Self::of_code(status, error.code().as_str(), error.message().unwrap_or_default())
    }

    /// An error by S3's name for it.
    pub fn of_code(status: StatusCode, code: &str, message: &str) -> Self {
        let code = match code {
            "AccessDenied" => "AuthorizationFailed",
            "InvalidAccessKeyId" => "KeyDoesNotExist",
            "SignatureDoesNotMatch" => "InvalidSignature",
            "RequestTimeTooSkewed" => "RequestExpired",
            other => other,
        };
        let message = if message.is_empty() { code } else { message };
        Self::new(status, code, message)
    }

    /// As a response.
    pub fn response(&self) -> Response<Body> {
        json(self.status, &serde_json::json!({ "code": self.code, "message": self.message }))
    }
}

impl From<JobsError> for MantaError {
    fn from(error: JobsError) -> Self {
        let conflict = |code| Self::new(StatusCode::CONFLICT, code, error.to_string());
        match &error {
            JobsError::NoSuchJob(id) => Self::not_found(&format!("job {id}")),
            JobsError::Spec(why) => Self::bad("InvalidJob", why.to_string()),
            JobsError::Refused(Refusal::InputOver | Refusal::Over) => conflict("InvalidJobState"),
            JobsError::Busy | JobsError::Unavailable(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", error.to_string())
            }
            JobsError::Full
            | JobsError::Object(crate::store::TxnError::Full { .. })
            | JobsError::Stage(crate::store::StageError::Full)
            | JobsError::Seal(crate::store::SealError::Full) => Self::full(),
            JobsError::Refused(Refusal::Impossible { .. })
            | JobsError::NoSuchAttempt(_)
            | JobsError::Record(_)
            | JobsError::Index(_)
            | JobsError::Object(_)
            | JobsError::Stage(_)
            | JobsError::Seal(_)
            | JobsError::Open(_) => Self::internal(&error),
        }
    }
}
