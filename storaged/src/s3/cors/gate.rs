//! The gate before the S3 service: answers preflights, and adds to answers what a browser wants to see.

use super::rules::{Rule, Rules};
use crate::front::{Answer, Service};
use crate::s3::error::bad_request;
use crate::s3::settings::Settings;
use crate::s3::told;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use percent_encoding::percent_decode_str;
use s3s::{Body, S3Error, S3ErrorCode, S3Result};
use std::sync::Arc;

/// Headers that a preflight may ask for: more than any browser sends.
const HEADERS_MAX: usize = 100;
/// On what an answer depends, for caches.
const VARIES: &str = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method";

/// A service behind the gate.
pub struct Gate {
    service: Arc<dyn Service>,
    settings: Arc<Settings>,
}

impl Gate {
    /// Puts a service behind the gate.
    #[must_use]
    pub fn new(service: Arc<dyn Service>, settings: Arc<Settings>) -> Gate {
        Gate { service, settings }
    }

    fn rules(&self, path: &str) -> S3Result<Option<Arc<Rules>>> {
        let Some(bucket) = bucket_of(path) else { return Ok(None) };
        Ok(self.settings.of(&bucket)?.cors.clone())
    }
}

impl Service for Gate {
    fn call(&self, request: Request<Body>) -> Answer {
        if request.method() == Method::OPTIONS {
            let rules = self.rules(request.uri().path());
            let answer = rules.and_then(|rules| preflight(rules.as_deref(), request.headers()));
            return Box::pin(std::future::ready(answer.unwrap_or_else(told)));
        }
        let Some(origin) = request.headers().get(ORIGIN).cloned() else {
            return self.service.call(request);
        };
        let rules = self.rules(request.uri().path());
        let method = request.method().clone();
        let answer = self.service.call(request);
        Box::pin(async move {
            let mut response = answer.await;
            // Without rules that can be read, nothing is allowed; the answer itself tells of a failure.
            if let (Ok(Some(rules)), Ok(text)) = (rules, origin.to_str())
                && let Some(rule) = rules.find(text, method.as_str(), &[])
            {
                response.headers_mut().extend(allowed(rule, &origin));
            }
            response
        })
    }
}

/// The bucket in a request's path.
fn bucket_of(path: &str) -> Option<String> {
    let first = path.strip_prefix('/')?.split('/').next()?;
    let name = percent_decode_str(first).decode_utf8().ok()?;
    (!name.is_empty()).then(|| name.into_owned())
}

fn refused(message: &'static str) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom("AccessForbidden".into()), message);
    error.set_status_code(http::StatusCode::FORBIDDEN);
    error
}

/// The answer to a preflight. Pure.
fn preflight(rules: Option<&Rules>, headers: &HeaderMap) -> S3Result<Response<Body>> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(origin), Some(origin_text)) = (headers.get(ORIGIN), text(&ORIGIN)) else {
        return Err(bad_request("Insufficient information. Origin request header needed."));
    };
    let method = text(&ACCESS_CONTROL_REQUEST_METHOD);
    let method = method.filter(|method| ["GET", "PUT", "POST", "DELETE", "HEAD"].contains(method));
    let Some(method) = method else {
        return Err(bad_request("Invalid Access-Control-Request-Method"));
    };
    let asked = text(&ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or_default();
    let asked: Vec<_> = asked.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if asked.len() > HEADERS_MAX || asked.iter().any(|name| name.parse::<HeaderName>().is_err()) {
        return Err(bad_request("Invalid Access-Control-Request-Headers"));
    }
    let Some(rules) = rules else {
        return Err(refused("CORSResponse: CORS is not enabled for this bucket."));
    };
    let Some(rule) = rules.find(origin_text, method, &asked) else {
        return Err(refused(
            "CORSResponse: This CORS request is not allowed: no rule of the bucket has this origin, \
             this method and these headers.",
        ));
    };
    let mut response = Response::new(Body::empty());
    response.headers_mut().extend(allowed(rule, origin));
    if !asked.is_empty() {
        let names = value(&asked.join(", ").to_ascii_lowercase());
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    Ok(response)
}

/// What a rule adds to an answer.
fn allowed(rule: &Rule, origin: &HeaderValue) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if rule.is_for_any() {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    } else {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    let methods: Vec<_> = rule.methods.iter().map(Method::as_str).collect();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, value(&methods.join(", ")));
    if !rule.expose.is_empty() {
        let names: Vec<_> = rule.expose.iter().map(HeaderName::as_str).collect();
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, value(&names.join(", ")));
    }
    if let Some(seconds) = rule.max_age {
        headers.insert(ACCESS_CONTROL_MAX_AGE, seconds.into());
    }
    headers.insert(VARY, HeaderValue::from_static(VARIES));
    headers
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("names of methods and headers are fit for a header")
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn rules(origin: &str) -> Rules {
        let xml = format!(
            "<CORSConfiguration><CORSRule><AllowedOrigin>{origin}</AllowedOrigin>\
             <AllowedMethod>GET</AllowedMethod><AllowedMethod>PUT</AllowedMethod>\
             <AllowedHeader>x-*</AllowedHeader><ExposeHeader>ETag</ExposeHeader>\
             <MaxAgeSeconds>9</MaxAgeSeconds></CORSRule></CORSConfiguration>"
        );
        Rules::parse(xml.as_bytes()).unwrap()
    }

    fn asked(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    const METHOD: (&str, &str) = ("access-control-request-method", "PUT");
    const FROM: (&str, &str) = ("origin", "http://a");

    #[test]
    fn a_preflight_says_what_is_allowed() {
        let headers = asked(&[FROM, METHOD, ("access-control-request-headers", "X-A,x-b")]);
        let answer = preflight(Some(&rules("http://a")), &headers).unwrap();
        let header = |name: &str| answer.headers().get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(header("access-control-allow-origin"), "http://a");
        assert_eq!(header("access-control-allow-credentials"), "true");
        assert_eq!(header("access-control-allow-methods"), "GET, PUT");
        assert_eq!(header("access-control-allow-headers"), "x-a, x-b");
        assert_eq!(header("access-control-expose-headers"), "etag");
        assert_eq!(header("access-control-max-age"), "9");
        assert!(header("vary").starts_with("Origin"));
        let any = preflight(Some(&rules("*")), &headers).unwrap();
        assert_eq!(any.headers()["access-control-allow-origin"], "*");
        assert!(!any.headers().contains_key("access-control-allow-credentials"));
    }

    #[test]
    fn a_preflight_that_nothing_allows_is_refused() {
        let code = |rules: Option<&Rules>, pairs: &[(&'static str, &str)]| {
            let error = preflight(rules, &asked(pairs)).unwrap_err();
            (error.status_code().unwrap().as_u16(), error.code().as_str().to_owned())
        };
        let rules = rules("http://a");
        let forbidden = (403, "AccessForbidden".to_owned());
        assert_eq!(code(None, &[FROM, METHOD]), forbidden);
        assert_eq!(code(Some(&rules), &[("origin", "http://b"), METHOD]), forbidden);
        let header = ("access-control-request-headers", "authorization");
        assert_eq!(code(Some(&rules), &[FROM, METHOD, header]), forbidden);
        let delete = ("access-control-request-method", "DELETE");
        assert_eq!(code(Some(&rules), &[FROM, delete]), forbidden);
        let bad = (400, "BadRequest".to_owned());
        assert_eq!(code(Some(&rules), &[METHOD]), bad);
        assert_eq!(code(Some(&rules), &[FROM]), bad);
        assert_eq!(code(Some(&rules), &[FROM, ("access-control-request-method", "put")]), bad);
    }

    #[test]
    fn the_bucket_is_the_first_part_of_a_path() {
        assert_eq!(bucket_of("/b/k/l"), Some("b".to_owned()));
        assert_eq!(bucket_of("/b%2Dc"), Some("b-c".to_owned()));
        assert_eq!(bucket_of("/"), None);
        assert_eq!(bucket_of("*"), None);
        assert_eq!(bucket_of("/%ff/k"), None);
    }

    proptest! {
        #[test]
        fn any_preflight_is_answered(
            origin in proptest::collection::vec(32_u8..255, 0..30),
            method in "[A-Z]{0,6}",
            names in proptest::collection::vec(32_u8..127, 0..60),
        ) {
            let mut headers = HeaderMap::new();
            let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).unwrap();
            let legal = |bytes: &[u8]| HeaderValue::from_bytes(bytes).is_ok();
            if legal(&origin) && legal(&names) {
                headers.insert(ORIGIN, value(&origin));
                headers.insert(ACCESS_CONTROL_REQUEST_METHOD, value(method.as_bytes()));
                headers.insert(ACCESS_CONTROL_REQUEST_HEADERS, value(&names));
                for rules in [None, Some(rules("*")), Some(rules("http://*"))] {
                    drop(preflight(rules.as_ref(), &headers));
                }
            }
        }
    }
}
