//! Whether a request is a plain one for an object, and which. Pure.

use crate::s3::KEY_BYTES_MAX;
use crate::s3::signature::Claim;
use http::Method;
use http::request::Parts;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// Headers that change nothing about the answer of a GET or HEAD, beside those of a signature. All others
/// lead the long way: ranges, conditions, origins, keys of encryption, and what is not known here.
const HEADERS: [&str; 15] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "amz-sdk-invocation-id",
    "amz-sdk-request",
    "authorization",
    "connection",
    "content-type",
    "host",
    "user-agent",
    "x-amz-checksum-mode",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-user-agent",
    "x-amzn-trace-id",
];

/// A plain request for an object.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The bucket's name.
    pub bucket: &'a str,
    /// The key.
    pub key: Cow<'a, str>,
    /// Whether its bytes are asked for.
    pub body: bool,
    /// Whether its checksums are.
    pub sums: bool,
}

/// What is wanted; none if it is anything but plain.
#[must_use]
pub fn parse<'a>(head: &'a Parts, claim: &Claim<'_>) -> Option<Wanted<'a>> {
    let body = match head.method {
        Method::GET => true,
        Method::HEAD => false,
        _ => return None,
    };
    let operation = if body { "GetObject" } else { "HeadObject" };
    let is_known = |(name, value): &(&str, &str)| match *name {
        "x-id" => *value == operation,
        name => name.starts_with("X-Amz-") && name != "X-Amz-Security-Token",
    };
    let headers_known = head.headers.keys().all(|name| HEADERS.contains(&name.as_str()));
    if !headers_known || !claim.query().all().iter().all(is_known) {
        return None;
    }
    let sums = match head.headers.get("x-amz-checksum-mode") {
        None => false,
        Some(value) if value == "ENABLED" => true,
        Some(_) => return None,
    };
    let (bucket, key) = head.uri.path().strip_prefix('/')?.split_once('/')?;
    let key = percent_decode_str(key).decode_utf8().ok()?;
    let fits = (1..=KEY_BYTES_MAX).contains(&key.len()) && !bucket.is_empty();
    (fits && !bucket.contains('%')).then_some(Wanted { bucket, key, body, sums })
}
