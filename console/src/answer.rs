//! Answers: JSON, whole or a line at a time, and refusals.

use crate::body::Page;
use crate::problem::Problem;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use wire::admin;

/// What goes back.
pub type Answer = Response<Page>;

/// An answer that is a success.
pub fn success(status: StatusCode, value: &impl Serialize) -> Result<Answer, Problem> {
    let body = serde_json::to_vec(value).map_err(|error| {
        let message = format!("the answer has no JSON form ({error}): report this");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    })?;
    Ok(whole(status, body))
}

/// An answer whose lines come as they are made.
pub fn lines(page: Page) -> Answer {
    respond(StatusCode::OK, page, "application/x-ndjson")
}

/// Numbers for Prometheus.
pub fn numbers(text: String) -> Answer {
    let format = "text/plain; version=0.0.4; charset=utf-8";
    respond(StatusCode::OK, Page::Whole(Full::new(Bytes::from(text))), format)
}

/// An answer that is none.
pub fn refusal(problem: Problem) -> Answer {
    let Problem { status, code, message, allow } = problem;
    let body = serde_json::to_vec(&admin::Problem { code, message });
    let mut answer = whole(status, body.expect("two strings have a JSON form"));
    let headers = answer.headers_mut();
    if let Some(method) = allow {
        headers.insert(header::ALLOW, HeaderValue::from_static(method));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    }
    answer
}

fn whole(status: StatusCode, mut body: Vec<u8>) -> Answer {
    body.push(b'\n');
    respond(status, Page::Whole(Full::new(Bytes::from(body))), "application/json")
}

fn respond(status: StatusCode, page: Page, content_type: &'static str) -> Answer {
    let mut answer = Response::new(page);
    *answer.status_mut() = status;
    let fixed = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in fixed {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}
