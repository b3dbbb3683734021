//! What happens to a request before and after the protocol library: what it lets through and should not is kept
//! out, and what it does wrongly is done here.
//!
//! ```text
//!   request ─┬─▶ form? ─▶ post ────────────────────┐
//!            └─▶ screen ─▶ resource ─▶ integrity ──┴─▶ the library ─▶ answer, with its body as the front wants it
//! ```

use super::access::{Caller, Probe, Proven};
use super::copied::Copy;
use super::signature::Verifier;
use super::{
    Payload, hosted, integrity, joined, post, range, references, region, resource, screen, told,
};
use crate::accounts::Accounts;
use crate::front::{Answer, Service};
use http::header::{CONTENT_LENGTH, RANGE};
use http::{Method, Request, Response, StatusCode};
use s3s::service::S3Service;
use s3s::{Body, S3Error, s3_error};
use std::sync::Arc;

/// The service of the protocol library, as the front wants it.
#[derive(Clone)]
pub struct Door {
    /// The library.
    pub library: S3Service,
    /// Who signs forms.
    pub accounts: Arc<Accounts>,
    /// For what the library can't verify.
    pub verifier: Arc<Verifier>,
}

impl Service for Door {
    fn call(&self, request: Request<Body>) -> Answer {
        let door = self.clone();
        Box::pin(async move { door.answer(request).await.unwrap_or_else(told) })
    }
}

impl Door {
    async fn answer(&self, request: Request<Body>) -> Result<Response<Body>, S3Error> {
        let (mut parts, body) = request.into_parts();
        if post::is_form(&parts) {
            let (upload, wishes) = post::enter(&self.accounts, parts, body).await?;
            let stored = self.ask(upload).await?;
            return Ok(post::answer(&wishes, stored));
        }
        screen(&parts)?;
        joined::join(&mut parts.headers);
        if region::is_odd(&parts) {
            let mut sent = parts.clone();
            hosted::as_sent(&mut sent);
            let signer = region::signer(&self.verifier, &self.accounts, &sent);
            let Some(account) = signer else { return Ok(region::told()) };
            parts.extensions.insert(Proven(Caller::Account(account)));
            without_signature(&mut parts);
        }
        resource::settle(&mut parts)?;
        if matches!(parts.method, Method::GET | Method::HEAD) && range::is_ignored(&parts.headers) {
            return self.without_range(Request::from_parts(parts, body)).await;
        }
        let (body, verdict) = integrity::watch(&parts, body)?;
        let is_document = integrity::has_document(&parts);
        let request = Request::from_parts(parts, body);
        let answer = match is_document {
            true => self.with_document(request).await,
            false => self.ask(request).await,
        };
        // The library can't tell why it did not get its document.
        match verdict.and_then(|verdict| verdict.take()) {
            Some(error) => Err(error),
            None => answer,
        }
    }

    /// A range that must be ignored may be signed, so that it can be taken away only when the signature has been
    /// checked: the library does that, then stumbles over the range, and is asked again without it.
    async fn without_range(&self, request: Request<Body>) -> Result<Response<Body>, S3Error> {
        let (mut parts, body) = request.into_parts();
        let mut again = parts.clone();
        let probe = Probe::default();
        parts.extensions.insert(probe.clone());
        let first = self.ask(Request::from_parts(parts, body)).await?;
        let Some(caller) = probe.caller() else { return Ok(first) };
        again.headers.remove(RANGE);
        again.extensions.insert(Proven(caller));
        without_signature(&mut again);
        self.ask(Request::from_parts(again, Body::empty())).await
    }

    /// A document that the library can't read for its references is read again without them. Only a body that is what
    /// its signature says, of somebody who was let in, gets so far.
    async fn with_document(&self, request: Request<Body>) -> Result<Response<Body>, S3Error> {
        let (mut parts, body) = request.into_parts();
        let mut again = parts.clone();
        let probe = Probe::default();
        parts.extensions.insert(probe.clone());
        let (body, copy) = Copy::of(body);
        let first = self.ask(Request::from_parts(parts, body)).await?;
        let document = match (is_malformed(&first), probe.caller()) {
            (true, Some(caller)) => {
                again.extensions.insert(Proven(caller));
                copy.take().and_then(|document| references::resolved(&document))
            }
            _ => None,
        };
        let Some(document) = document else { return Ok(first) };
        again.headers.insert(CONTENT_LENGTH, document.len().into());
        without_signature(&mut again);
        self.ask(Request::from_parts(again, Body::from(document))).await
    }

    async fn ask(&self, request: Request<Body>) -> Result<Response<Body>, S3Error> {
        let (mut parts, body) = request.into_parts();
        hosted::as_sent(&mut parts);
        match self.library.call(Request::from_parts(parts, body)).await {
            Ok(response) => Ok(with_payload(response)),
            Err(error) => {
                log::error!("a request could not be answered: {error:?}");
                Err(s3_error!(InternalError, "the answer could not be written"))
            }
        }
    }
}

/// Whether a document was no document to the library, which it says when it has read all of it.
fn is_malformed(response: &Response<Body>) -> bool {
    const CODE: &[u8] = b"<Code>MalformedXML</Code>";
    let body = response.body().bytes();
    response.status() == StatusCode::BAD_REQUEST
        && body.is_some_and(|body| memchr::memmem::find(&body, CODE).is_some())
}

/// Takes away what the library would check.
fn without_signature(parts: &mut http::request::Parts) {
    parts.headers.remove(http::header::AUTHORIZATION);
    let Some(query) = parts.uri.query() else { return };
    let kept: Vec<_> =
        query.split('&').filter(|pair| !pair.starts_with("X-Amz-Signature=")).collect();
    let target = format!("{}?{}", parts.uri.path(), kept.join("&"));
    parts.uri = target.parse().expect("a target without one parameter is a target");
}

fn with_payload(mut response: Response<Body>) -> Response<Body> {
    // The library knows one status for an answer to a HEAD.
    if let Some(status) = response.extensions_mut().remove::<StatusCode>() {
        *response.status_mut() = status;
    }
    match response.extensions_mut().remove::<Payload>() {
        None => response,
        Some(Payload::Bytes(bytes)) => response.map(|_| Body::from(bytes)),
        Some(Payload::File(range)) => {
            response.extensions_mut().insert(range);
            response
        }
        Some(Payload::Stream(body)) => {
            let body = body.lock().expect("no holder of this lock panics").take();
            response.map(|_| body.unwrap_or_default())
        }
    }
}
