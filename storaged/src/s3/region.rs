//! Regions of signatures. Any will do here; but the protocol library stumbles over names that are none of AWS's, such
//! as s3cmd's `US`, after it has found the signature good.

use super::bucket::REGION;
use super::signature::{self, Verifier};
use crate::accounts::{Account, Accounts};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use s3s::Body;
use std::sync::Arc;

const BUCKET_REGION: HeaderName = HeaderName::from_static("x-amz-bucket-region");

/// Whether the library would stumble over a request's region.
pub fn is_odd(parts: &Parts) -> bool {
    let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let header = header.and_then(|text| text.split_once("Credential="));
    let scope = match header {
        Some((_, rest)) => Some((rest.split(',').next().unwrap_or_default().trim(), "/")),
        None => parts.uri.query().and_then(|query| {
            let mut values =
                query.split('&').filter_map(|pair| pair.strip_prefix("X-Amz-Credential="));
            values.next().map(|scope| (scope, if scope.contains('/') { "/" } else { "%2F" }))
        }),
    };
    let region = scope.and_then(|(scope, slash)| scope.rsplit(slash).nth(2));
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    region.is_some_and(|region| region.is_empty() || !region.bytes().all(plain))
}

/// Who signed such a request, if it has no body and the signature is good.
pub fn signer(verifier: &Verifier, accounts: &Accounts, parts: &Parts) -> Option<Arc<Account>> {
    if !matches!(parts.method, Method::GET | Method::HEAD | Method::DELETE) {
        return None;
    }
    let claim = signature::parse(parts)?;
    verifier.signer(&claim, parts, signature::now(), |key| accounts.by_access_key(key))
}

/// What AWS says of a region that is not the bucket's: clients sign again for the right one.
pub fn told() -> Response<Body> {
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>AuthorizationHeaderMalformed</Code>\
         <Message>the authorization header is malformed; the region is wrong; expecting '{REGION}'</Message>\
         <Region>{REGION}</Region></Error>"
    );
    let mut response = Response::new(Body::from(document));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    headers.insert(BUCKET_REGION, HeaderValue::from_static(REGION));
    response
}

#[cfg(test)]
mod test {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    fn odd(target: &str, authorization: Option<&str>) -> bool {
        let mut request = Request::builder().uri(target);
        if let Some(text) = authorization {
            request = request.header("authorization", text);
        }
        is_odd(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn regions_that_are_none_of_awss_are_odd() {
        let header = |region: &str| {
            let text = format!(
                "AWS4-HMAC-SHA256 Credential=a/b/2026/{region}/s3/aws4_request, SignedHeaders=x"
            );
            odd("/b/k", Some(&text))
        };
        assert!(header("US") && header("") && header("eu_1"));
        assert!(!header("us-east-1") && !header("garage"));
        let query = |region: &str| {
            odd(&format!("/b/k?X-Amz-Credential=a%2F2026%2F{region}%2Fs3%2Faws4_request"), None)
        };
        assert!(query("US") && !query("eu-1"));
        assert!(!odd("/b/k", None) && !odd("/b/k", Some("AWS4")));
    }

    proptest! {
        #[test]
        fn a_region_is_odd_exactly_when_the_library_has_no_such(region in "[a-zA-Z0-9_.-]{0,12}") {
            let text = format!("AWS4-HMAC-SHA256 Credential=a/2026/{region}/s3/aws4_request, SignedHeaders=x");
            let known = s3s::region::Region::new(region.into()).is_ok();
            prop_assert_eq!(odd("/b/k", Some(&text)), !known);
        }
    }
}
