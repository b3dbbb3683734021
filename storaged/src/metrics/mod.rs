//! Numbers for Prometheus, on a port of their own: `GET /metrics`.
//!
//! It reads what others count and decides nothing; nobody has to sign for it, so it belongs on an address
//! that only the operator reaches.

mod text;

use crate::front::{Answer, Counts, Service};
use crate::store::Store;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use s3s::Body;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The text format's name (`https://prometheus.io/docs/instrumenting/exposition_formats/`).
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A number that somebody else counts: its name and what it means.
#[derive(Debug, Clone)]
pub struct Extra {
    /// As Prometheus calls it.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// The number, which only grows.
    pub value: Arc<AtomicU64>,
}

/// The service behind the port of numbers.
#[must_use]
pub fn service(counts: Counts, store: Store, extras: Vec<Extra>) -> Arc<dyn Service> {
    Arc::new(Numbers { counts, store, extras })
}

struct Numbers {
    counts: Counts,
    store: Store,
    extras: Vec<Extra>,
}

impl Service for Numbers {
    fn call(&self, request: Request<Body>) -> Answer {
        let (status, text) = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, self.text()),
            (&Method::GET | &Method::HEAD, _) => {
                (StatusCode::NOT_FOUND, "the numbers are at /metrics\n".to_owned())
            }
            _ => (StatusCode::METHOD_NOT_ALLOWED, "numbers are only read\n".to_owned()),
        };
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(FORMAT));
        Box::pin(std::future::ready(response))
    }
}

impl Numbers {
    fn text(&self) -> String {
        let mut text = text::Text::default();
        text::requests(&mut text, &self.counts);
        text::connections(&mut text, &self.counts);
        text::store(&mut text, &self.store.status());
        for extra in &self.extras {
            text.head(extra.name, "counter", extra.help);
            text.value(extra.name, &[], extra.value.load(Ordering::Relaxed));
        }
        text::process(&mut text);
        text.0
    }
}
