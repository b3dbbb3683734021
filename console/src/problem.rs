//! Why a request was not served: a status, a word for programs, a sentence for people.

use crate::daemon::Daemon;
use hyper::StatusCode;
use std::path::Path;
use wire::frame::{FrameError, Refusal};

/// An answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// HTTP's status.
    pub status: StatusCode,
    /// A stable word.
    pub code: String,
    /// What was refused, why, and what to do next.
    pub message: String,
    /// The method that the path is for, if it was another.
    pub allow: Option<&'static str>,
}

impl Problem {
    /// A problem in words.
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into(), allow: None }
    }

    pub fn token_absent() -> Self {
        let message = "send the admin token as `Authorization: Bearer TOKEN`; the node printed it on \
                       its console at first boot";
        Self::new(StatusCode::UNAUTHORIZED, "TokenMissing", message)
    }

    pub fn token_wrong() -> Self {
        let message = "this is not the node's admin token; the node printed it on its console at first \
                       boot, or its configuration sets it ([admin] token)";
        Self::new(StatusCode::UNAUTHORIZED, "TokenInvalid", message)
    }

    pub fn token_file(file: &Path, why: &str) -> Self {
        let file = file.display();
        let message = format!(
            "the node's admin token cannot be read from {file} ({why}): noded writes it at boot; see \
             the console, then try again"
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "TokenUnavailable", message)
    }

    pub fn no_such_path(path: &str) -> Self {
        let message = format!("there is no {path:?} here; docs/admin-api.md lists what there is");
        Self::new(StatusCode::NOT_FOUND, "NoSuchPath", message)
    }

    pub fn method(allowed: &'static str) -> Self {
        let message = format!("this path is for {allowed} only");
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message);
        Self { allow: Some(allowed), ..problem }
    }

    pub fn parameter(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidParameter", message)
    }

    /// A daemon that cannot be reached, or does not answer in time.
    pub fn away(daemon: Daemon, why: &str) -> Self {
        let name = daemon.name();
        let message = format!(
            "{name} does not answer ({why}): it may be starting; try again in a few seconds, then see \
             {}",
            match daemon {
                Daemon::Init => "the node's console",
                Daemon::Storaged | Daemon::Zoned => "`mobula node status` and `mobula node logs`",
            }
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, daemon.away_code(), message)
    }

    /// A daemon that says what makes no sense.
    pub fn nonsense(daemon: Daemon, why: &str) -> Self {
        let name = daemon.name();
        let message = format!(
            "{name} answered what makes no sense ({why}): it and consoled are of different versions, \
             or it is broken; see `mobula node logs {name}`"
        );
        Self::new(StatusCode::BAD_GATEWAY, "DaemonNonsense", message)
    }

    /// A request that no message can hold.
    pub fn unsendable(error: &FrameError) -> Self {
        let message = format!("this cannot be passed on ({error}): make it smaller");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "BodyTooLarge", message)
    }

    /// A body that is not what its path asks for.
    pub fn body(code: &str, why: &str) -> Self {
        let message = format!("the body is refused: {why}; docs/admin-api.md has an example");
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// The places for this kind of request are taken.
    pub fn full(what: &str, most: usize) -> Self {
        let message = format!("{most} {what} are open, which is the most: end one, then try again");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "TooMany", message)
    }

    /// Whether it is a daemon's considered no, and not its absence.
    pub fn is_refusal(&self) -> bool {
        self.status.is_client_error()
    }

    /// The words of it, for where there is no status: on a line, on a WebSocket.
    pub fn words(self) -> Refusal {
        Refusal { code: self.code, message: self.message }
    }

    /// A daemon that understood and will not.
    pub fn refused(refusal: Refusal) -> Self {
        let status = match refusal.code.as_str() {
            code if code.starts_with("NoSuch") => StatusCode::NOT_FOUND,
            code if code.starts_with("Invalid") => StatusCode::BAD_REQUEST,
            "Internal" => StatusCode::INTERNAL_SERVER_ERROR,
            "NotImplemented" | "NotOffered" => StatusCode::NOT_IMPLEMENTED,
            "Unavailable" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::CONFLICT,
        };
        Self { status, code: refusal.code, message: refusal.message, allow: None }
    }
}
