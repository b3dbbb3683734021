//! What is refused before the protocol library sees it. Pure.
//!
//! The library takes Signature Version 2, and headers of the `x-amz-` family that the signature does not
//! cover: whoever holds a presigned URL could add them. Neither is accepted here.

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, Method};
use s3s::{S3Error, s3_error};

/// Headers that may be unsigned: they say something about the client and change nothing.
const HARMLESS: [&str; 1] = ["x-amz-user-agent"];

/// The longest that a presigned URL may last, in seconds: a week, as in AWS ("Authenticating requests: using query
/// parameters").
const PRESIGNED_S_MAX: u32 = 604_800;

/// Refuses what must not go on.
///
/// # Errors
/// What to answer.
pub fn screen(parts: &Parts) -> Result<(), S3Error> {
    if parts.method == Method::POST && is_form(&parts.headers) {
        return Err(s3_error!(NotImplemented, "uploads by HTML forms are not served"));
    }
    let authorization = single(&parts.headers, &AUTHORIZATION)?;
    let query = parts.uri.query().unwrap_or_default();
    if is_version_2(authorization, query) {
        return Err(s3_error!(
            InvalidRequest,
            "Signature Version 2 is not accepted; please use AWS4-HMAC-SHA256"
        ));
    }
    let signed = match authorization {
        Some(authorization) => signed_in_header(authorization),
        None => {
            check_lifetime(query)?;
            signed_in_query(query)
        }
    };
    // Without a signature the request is anonymous and ends at the access check.
    let Some(signed) = signed else { return Ok(()) };
    let signed = signed.to_ascii_lowercase();
    let covered = |name: &str| signed.split(';').any(|part| part.trim() == name);
    if !covered("host") {
        return Err(s3_error!(AccessDenied, "the Host header must be signed"));
    }
    let loose = parts
        .headers
        .keys()
        .map(http::HeaderName::as_str)
        .find(|name| name.starts_with("x-amz-") && !HARMLESS.contains(name) && !covered(name));
    match loose {
        Some(name) => Err(s3_error!(
            AccessDenied,
            "there were headers present in the request which were not signed: {name}"
        )),
        None => Ok(()),
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Result<Option<&'a str>, S3Error> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    if values.next().is_some() {
        return Err(s3_error!(InvalidRequest, "there is more than one {name}"));
    }
    let text = value.map(http::HeaderValue::to_str).transpose();
    text.map_err(|_| s3_error!(InvalidRequest, "{name} is no text"))
}

pub(super) fn is_form(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        let start = value.as_bytes().get(..19);
        start.is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/form-data"))
    })
}

fn is_version_2(authorization: Option<&str>, query: &str) -> bool {
    let in_query =
        parameters(query).any(|(name, _)| name == "AWSAccessKeyId" || name == "Signature");
    in_query || authorization.is_some_and(|text| text.trim_start().starts_with("AWS "))
}

fn signed_in_header(authorization: &str) -> Option<String> {
    let rest = authorization.trim_start().strip_prefix("AWS4-")?;
    let (_, list) = rest.split_once("SignedHeaders=")?;
    Some(list.split(',').next().unwrap_or_default().trim().to_owned())
}

fn signed_in_query(query: &str) -> Option<String> {
    let (_, value) = parameters(query).find(|(name, _)| *name == "X-Amz-SignedHeaders")?;
    // Names are tokens; only the separator is ever escaped.
    Some(value.replace("%3B", ";").replace("%3b", ";"))
}

/// The library checks when a presigned URL ends, and not how long it was to last.
fn check_lifetime(query: &str) -> Result<(), S3Error> {
    let Some((_, value)) = parameters(query).find(|(name, _)| *name == "X-Amz-Expires") else {
        return Ok(());
    };
    match value.parse() {
        Ok(1..=PRESIGNED_S_MAX) => Ok(()),
        Ok(_) | Err(_) => Err(s3_error!(
            AuthorizationQueryParametersError,
            "X-Amz-Expires must be a number of seconds from 1 to {PRESIGNED_S_MAX}"
        )),
    }
}

fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

#[cfg(test)]
mod test {
    use super::*;
    use http::Request;

    fn refused(target: &str, headers: &[(&str, &str)]) -> Option<String> {
        let mut request = Request::builder().uri(target).method("PUT");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let error = screen(&parts).err()?;
        Some(format!("{:?} {}", error.code(), error.message().unwrap_or_default()))
    }

    const V4: &str = "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host;x-amz-date, Signature=00";

    #[test]
    fn signed_and_anonymous_requests_pass() {
        let headers = [("authorization", V4), ("x-amz-date", "d"), ("X-Amz-User-Agent", "u")];
        assert_eq!(refused("/b/k", &headers), None);
        assert_eq!(refused("/b/k", &[]), None);
        let presigned = "/b/k?X-Amz-SignedHeaders=host%3Bx-amz-acl&X-Amz-Signature=0";
        assert_eq!(refused(presigned, &[("x-amz-acl", "private")]), None);
    }

    #[test]
    fn a_header_beyond_the_signature_is_refused() {
        let headers = [("authorization", V4), ("x-amz-copy-source", "/b/secret")];
        assert!(refused("/b/k", &headers).unwrap().contains("x-amz-copy-source"));
        let presigned = "/b/k?X-Amz-SignedHeaders=host&X-Amz-Signature=0";
        assert!(refused(presigned, &[("x-amz-acl", "private")]).unwrap().contains("x-amz-acl"));
        assert!(refused("/b/k?X-Amz-SignedHeaders=x", &[]).unwrap().contains("Host"));
    }

    #[test]
    fn a_presigned_url_lasts_a_week_at_most() {
        let url = |expires: &str| {
            format!("/b/k?X-Amz-SignedHeaders=host&X-Amz-Expires={expires}&X-Amz-Signature=0")
        };
        assert_eq!(refused(&url("604800"), &[]), None);
        for expires in ["0", "604801", "-1", "", "99999999999999999999", "1e3"] {
            assert!(refused(&url(expires), &[]).unwrap().contains("X-Amz-Expires"), "{expires}");
        }
    }

    #[test]
    fn version_2_is_refused_in_header_and_query() {
        assert!(refused("/b/k", &[("authorization", "AWS ak:sig")]).is_some());
        assert!(refused("/b/k?AWSAccessKeyId=ak&Expires=1&Signature=s", &[]).is_some());
    }

    #[test]
    fn forms_are_refused() {
        let (mut parts, ()) = Request::builder()
            .method("POST")
            .header("content-type", "Multipart/Form-Data; boundary=x")
            .body(())
            .unwrap()
            .into_parts();
        assert!(screen(&parts).is_err());
        parts.method = Method::PUT;
        assert!(screen(&parts).is_ok());
    }
}
