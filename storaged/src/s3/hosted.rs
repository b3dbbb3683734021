//! Addresses that name the bucket in the host: `bucket.storage.example/key` for `storage.example/bucket/key`
//! (AWS, "Virtual hosting of general purpose buckets").
//!
//! The gate turns such a request into one with the bucket in its path, which is all that the rest of this server
//! knows, and remembers how it was sent: its signature covers that, and the protocol library gets it so.

use super::post;
use crate::front::{Answer, Quick, Service};
use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Uri};
use s3s::host::{S3Host, VirtualHost};
use s3s::{Body, S3Result};
use std::sync::Arc;

/// The most names that a server has: each is compared with every request's host.
pub const DOMAINS_MAX: usize = 16;

/// The names below which buckets are hosts.
#[derive(Debug, Clone, Default)]
pub struct Domains(Arc<[String]>);

impl Domains {
    /// These names, without ports; what case they are in does not matter.
    #[must_use]
    pub fn new(names: &[String]) -> Domains {
        Domains(names.iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// The bucket and the domain in a host, if it is one below a domain. Neither its port nor its case matters: a
    /// bucket's name has small letters alone.
    #[must_use]
    pub fn split(&self, host: &str) -> Option<(String, &str)> {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        self.0.iter().find_map(|domain| {
            let at = name.len().checked_sub(domain.len() + 1).filter(|at| *at > 0)?;
            let (bucket, rest) = name.split_at_checked(at)?;
            let (dot, end) = rest.split_at_checked(1)?;
            let fits = dot == "." && end.eq_ignore_ascii_case(domain);
            fits.then(|| (bucket.to_ascii_lowercase(), domain.as_str()))
        })
    }

    /// The bucket and the domain in a request's host.
    #[must_use]
    pub fn bucket(&self, headers: &HeaderMap) -> Option<(String, &str)> {
        if self.0.is_empty() {
            return None;
        }
        self.split(headers.get(HOST)?.to_str().ok()?)
    }
}

impl S3Host for Domains {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        Ok(match self.split(host) {
            Some((bucket, domain)) => VirtualHost::new(domain).with_bucket(bucket),
            None => VirtualHost::new(host),
        })
    }
}

/// How a request with its bucket in the host was sent.
#[derive(Debug, Clone)]
struct Sent {
    path: String,
}

/// A service behind the gate.
pub struct Gate<S> {
    /// The names below which buckets are hosts.
    pub domains: Domains,
    /// The service.
    pub service: S,
}

impl<S: Service> Service for Gate<S> {
    fn call(&self, request: Request<Body>) -> Answer {
        let (mut parts, body) = request.into_parts();
        self.enter(&mut parts);
        self.service.call(Request::from_parts(parts, body))
    }

    fn quick(&self, head: &Parts) -> Option<Quick> {
        // The short way signs what it sees.
        if self.domains.bucket(&head.headers).is_some() {
            return None;
        }
        self.service.quick(head)
    }
}

impl<S> Gate<S> {
    fn enter(&self, parts: &mut Parts) {
        let Some((bucket, domain)) = self.domains.bucket(&parts.headers) else { return };
        let path = parts.uri.path().to_owned();
        let Some(uri) = with_path(&parts.uri, &format!("/{bucket}{path}")) else { return };
        if post::is_form(parts) {
            // A form's signature covers its fields alone.
            let domain = HeaderValue::from_str(domain);
            parts.headers.extend(domain.ok().map(|domain| (HOST, domain)));
        } else {
            parts.extensions.insert(Sent { path });
        }
        parts.uri = uri;
    }
}

/// Gives a request the target back that it was sent with.
pub fn as_sent(parts: &mut Parts) {
    if let Some(sent) = parts.extensions.get::<Sent>()
        && let Some(uri) = with_path(&parts.uri, &sent.path)
    {
        parts.uri = uri;
    }
}

fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn domains() -> Domains {
        Domains::new(&["Storage.example".to_owned(), "s3.lan".to_owned()])
    }

    #[test]
    fn a_host_below_a_domain_is_a_bucket() {
        let domains = domains();
        assert_eq!(domains.split("b.storage.example"), Some(("b".to_owned(), "storage.example")));
        assert_eq!(domains.split("a.b.S3.LAN:9000"), Some(("a.b".to_owned(), "s3.lan")));
        for host in ["storage.example", ".s3.lan", "s3.lan:9000", "xs3.lan", "b.s3.lan.evil", ""] {
            assert_eq!(domains.split(host), None, "{host}");
        }
    }

    #[test]
    fn a_request_is_turned_and_given_back() {
        let gate = Gate { domains: domains(), service: () };
        let request = Request::builder().uri("/a%20b?x=1").header(HOST, "b.s3.lan");
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        gate.enter(&mut parts);
        assert_eq!(parts.uri, "/b/a%20b?x=1");
        as_sent(&mut parts);
        assert_eq!(parts.uri, "/a%20b?x=1");
    }

    proptest! {
        #[test]
        fn any_host_is_split_or_not(host in ".{0,60}|[a-z.:0-9]{0,20}(s3.lan|storage.example)(:[0-9]{0,5})?") {
            let domains = domains();
            if let Some((bucket, domain)) = domains.split(&host) {
                prop_assert!(!bucket.is_empty());
                let whole = format!("{bucket}.{domain}");
                prop_assert!(host.to_ascii_lowercase().starts_with(&whole.to_ascii_lowercase()));
            }
        }
    }
}
