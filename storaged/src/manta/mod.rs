//! The Manta face: jobs, and the objects that jobs read and leave behind, on a port of its own.
//!
//! ```text
//!   front ─▶ screen ─▶ s3s (signature only) ─▶ route (pure) ─▶ calls / objects ─▶ reply
//! ```
//! For now a request is signed as for S3 (Signature Version 4, service `s3`, the same keys): `s3s` checks
//! it and hands every path to [`Face`], which knows nothing of S3. What it answers is Manta's: JSON errors
//! with `code` and `message`, `Server: Manta`, `x-request-id`.
//!
//! Not as Manta has it, and better for it: `live/in`, `out`, `fail` and `err` are whole lists, not the
//! latest hundred, for as long as the job is known; the archive's names (`out.txt`, `job.json`, …) give the same.

mod calls;
mod error;
mod lines;
mod list;
mod objects;
mod range;
mod reply;
mod route;

use crate::accounts::Accounts;
use crate::front::{Answer, Kinds, Service};
use crate::jobs::Jobs;
use crate::s3::screen;
use error::MantaError;
use http::{HeaderMap, Method, Request, Response, Uri};
use s3s::auth::{S3Auth, SecretKey};
use s3s::route::S3Route;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::validation::NameValidation;
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};
use std::sync::Arc;
use std::time::Instant;

/// How requests of Manta's port are counted.
#[must_use]
pub fn kinds() -> Kinds {
    const NAMES: &[&str] =
        &["GetObject", "HeadObject", "DeleteObject", "ReadJob", "ChangeJob", "Other"];
    // Its answers have an id that clients may choose.
    Kinds { port: "manta", names: NAMES, of: Arc::new(kind), id: None }
}

/// A request's place in those names, by `/login/area/…`: an object below a job is counted with its job.
fn kind(head: &Request<()>) -> usize {
    let jobs = head.uri().path().split('/').nth(2) == Some("jobs");
    match (jobs, head.method().as_str()) {
        (false, "GET") => 0,
        (false, "HEAD") => 1,
        (false, "DELETE") => 2,
        (true, "GET" | "HEAD") => 3,
        (true, _) => 4,
        (false, _) => 5,
    }
}

/// The service behind Manta's port.
#[must_use]
pub fn service(jobs: Jobs, accounts: Arc<Accounts>) -> Arc<dyn Service> {
    let mut builder = S3ServiceBuilder::new(NoS3);
    builder.set_auth(Keys(Arc::clone(&accounts)));
    builder.set_validation(AnyName);
    builder.set_route(Face { jobs, accounts });
    Arc::new(Manta { signed: Arc::new(builder.build()) })
}

struct Manta {
    signed: Arc<S3Service>,
}

impl Service for Manta {
    fn call(&self, request: Request<Body>) -> Answer {
        let signed = Arc::clone(&self.signed);
        Box::pin(async move {
            let started = Instant::now();
            let request_id = reply::request_id(request.headers());
            let anonymous = !request.headers().contains_key(http::header::AUTHORIZATION)
                && !request.uri().query().unwrap_or_default().contains("X-Amz-Signature=");
            let (parts, body) = request.into_parts();
            let response = match screen(&parts) {
                Err(refused) => MantaError::of_s3(&refused).response(),
                Ok(()) if anonymous => MantaError::unsigned().response(),
                Ok(()) => match signed.call(Request::from_parts(parts, body)).await {
                    Ok(response) => reply::without_xml(response),
                    Err(failed) => {
                        let failed: s3s::StdError = failed.into();
                        MantaError::internal(&*failed).response()
                    }
                },
            };
            reply::finish(response, &request_id, started.elapsed())
        })
    }
}

/// S3 itself is on its own port.
struct NoS3;

#[async_trait::async_trait]
impl S3 for NoS3 {}

/// Paths here are no buckets.
struct AnyName;

impl NameValidation for AnyName {
    fn validate_bucket_name(&self, _: &str) -> bool {
        true
    }
}

/// Secret keys by access key.
struct Keys(Arc<Accounts>);

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.0.by_access_key(access_key) {
            Some(account) => Ok(account.secret_key.clone()),
            None => Err(s3_error!(InvalidAccessKeyId, "no account has this access key")),
        }
    }
}

/// Everything behind the signature.
struct Face {
    jobs: Jobs,
    accounts: Arc<Accounts>,
}

#[async_trait::async_trait]
impl S3Route for Face {
    fn is_match(&self, _: &Method, _: &Uri, _: &HeaderMap, _: &mut http::Extensions) -> bool {
        true
    }

    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let response = self.answer(request).await.unwrap_or_else(|error| error.response());
        let (parts, body) = response.into_parts();
        let mut answer = S3Response::with_status(body, parts.status);
        answer.headers = parts.headers;
        answer.extensions = parts.extensions;
        Ok(answer)
    }
}

impl Face {
    async fn answer(&self, request: S3Request<Body>) -> Result<Response<Body>, MantaError> {
        let credentials = request.credentials.as_ref().ok_or_else(MantaError::unsigned)?;
        let account = self.accounts.by_access_key(&credentials.access_key);
        let account = account.ok_or_else(MantaError::unsigned)?;
        let call = route::route(&request.method, &request.uri)?;
        if call.login != account.name {
            return Err(MantaError::forbidden(&request.method, &call.login));
        }
        let caller = calls::Caller { jobs: &self.jobs, account: account.id, login: &account.name };
        match call.what {
            route::What::Job(what) => caller.job(what, request).await,
            route::What::Object(what, name) => caller.object(what, &name, &request.headers).await,
        }
    }
}

#[cfg(test)]
mod test;
