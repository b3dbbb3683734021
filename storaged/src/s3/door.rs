//! What happens to a request before and after the protocol library: what it lets through and should not is kept
//! out, and what it does wrongly is done here.
//!
//! ```text
//!   request ─┬─▶ form? ─▶ post ────────────────────┐
//!            └─▶ screen ─▶ resource ─▶ integrity ──┴─▶ the library ─▶ answer, with its body as the front wants it
//! ```

use super::access::{Caller, Probe, Proven};
use super::checksum::carried;
use super::copied::Copy;
use super::signature::Verifier;
use super::{
    Payload, document, hosted, ignored, integrity, joined, post, region, reread, resource, screen,
    told, unsigned,
};
use crate::accounts::Accounts;
use crate::front::{Answer, RequestId, Service};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
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
        let id = request.extensions().get::<RequestId>().copied();
        Box::pin(async move {
            let answer = door.answer(request).await.unwrap_or_else(told);
            match id {
                Some(id) => with_id(answer, id),
                None => answer,
            }
        })
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
        let body = unsigned::unchunked(&mut parts, body)?;
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
        if matches!(parts.method, Method::GET | Method::HEAD) {
            let changes = ignored::mended(&parts.headers);
            if !changes.is_empty() {
                return self.with_changes(Request::from_parts(parts, body), changes).await;
            }
        }
        let (body, verdict) = integrity::watch(&parts, body)?;
        let is_document = integrity::has_document(&parts) || integrity::has_part_list(&parts);
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

    /// A field that must be ignored may be signed, so that it can be taken away only when the signature has been checked:
    /// the library does that, then stumbles over the field, and is asked again without it.
    async fn with_changes(
        &self,
        request: Request<Body>,
        changes: Vec<(HeaderName, Option<HeaderValue>)>,
    ) -> Result<Response<Body>, S3Error> {
        let (mut parts, body) = request.into_parts();
        let mut again = parts.clone();
        let probe = Probe::default();
        parts.extensions.insert(probe.clone());
        let first = self.ask(Request::from_parts(parts, body)).await?;
        let Some(caller) = probe.caller() else { return Ok(first) };
        for (name, value) in changes {
            again.headers.remove(&name);
            again.headers.extend(value.map(|value| (name, value)));
        }
        again.extensions.insert(Proven(caller));
        without_signature(&mut again);
        self.ask(Request::from_parts(again, Body::empty())).await
    }

    /// A document that the library can't read is perhaps read again, otherwise put. Only a body that is what its
    /// signature says, of somebody who was let in, gets so far.
    async fn with_document(&self, request: Request<Body>) -> Result<Response<Body>, S3Error> {
        let (mut parts, body) = request.into_parts();
        let mut again = parts.clone();
        let probe = Probe::default();
        parts.extensions.insert(probe.clone());
        let (body, copy) = Copy::of(body);
        let first = self.ask(Request::from_parts(parts, body)).await?;
        let Some(caller) = probe.caller() else { return Ok(first) };
        let Some(document) = reread::again(&again, &first, &copy)? else { return Ok(first) };
        again.extensions.insert(Proven(caller));
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
    carried::settle(response.headers_mut());
    match response.extensions_mut().remove::<Payload>() {
        None => readable(response),
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

/// A refusal with what its request is called in its document, too.
fn with_id(response: Response<Body>, id: RequestId) -> Response<Body> {
    const END: &[u8] = b"</Error>";
    let is_refusal = response.status().is_client_error() || response.status().is_server_error();
    let body = response.body().bytes().filter(|_| is_refusal);
    let Some(start) = body.as_deref().and_then(|body| body.strip_suffix(END)) else {
        return response;
    };
    let element = format!("<RequestId>{}</RequestId>", id.as_str());
    let document = [start, element.as_bytes(), END].concat();
    response.map(|_| Body::from(document))
}

/// A document of the library's as every reader of XML understands it.
fn readable(response: Response<Body>) -> Response<Body> {
    let is_xml = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/xml");
    let body = response.body().bytes().filter(|_| is_xml);
    match body.and_then(|document| document::readable(&document)) {
        Some(document) => response.map(|_| Body::from(document)),
        None => response,
    }
}
