//! What a request says about who signed it: parsed strictly, so that there is one way to read it. Pure.
//!
//! Only what is written in canonical form already is a claim: then the bytes of the request are those of
//! the canonical request, and nothing need be decoded and encoded again. Clients write it so.

use super::{EXPIRES_SECONDS_MAX, SKEW_SECONDS_MAX, Stamp};
use http::header::{AUTHORIZATION, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderName};

/// The service of a scope.
pub(super) const SERVICE: &str = "s3";
/// The end of a scope.
pub(super) const END: &str = "aws4_request";
/// The only algorithm.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The payload of a presigned request, and of any other that says so.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// SHA-256 of nothing, which is what a request without a body carries.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// Parameters of a query that is a claim: those of a signature and a few that mean little.
const PARAMETERS_MAX: usize = 12;
/// Headers of the `x-amz-` family that may be unsigned: they change nothing.
const HARMLESS: [&str; 1] = ["x-amz-user-agent"];

/// How a signature came.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Given {
    /// In the Authorization header.
    Header,
    /// In the query, good for so many seconds.
    Query { expires_seconds: u64 },
}

/// Who says to have signed a request, and what of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The access key.
    pub access_key: &'a str,
    /// The scope with the access key before it, as it stands in the request.
    pub scope: &'a str,
    pub(super) date: &'a str,
    pub(super) region: &'a str,
    pub(super) signature: [u8; 32],
    time: Stamp<'a>,
    /// Their names as they were given: in order, lower-case, joined by `;`, or by that escaped.
    headers: &'a str,
    payload: &'a str,
    given: Given,
    query: Pairs<'a>,
}

/// The parameters of a query, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pairs<'a> {
    pairs: [(&'a str, &'a str); PARAMETERS_MAX],
    count: usize,
}

impl<'a> Pairs<'a> {
    /// A query whose names and values are written canonically, each name once.
    fn parse(query: &'a str) -> Option<Pairs<'a>> {
        let mut found = Pairs::default();
        if query.is_empty() {
            return Some(found);
        }
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=')?;
            if found.count == PARAMETERS_MAX || !is_plain(name) || !is_canonical(value, false) {
                return None;
            }
            let at = found.all().partition_point(|(before, _)| *before < name);
            if found.all().get(at).is_some_and(|(there, _)| *there == name) {
                return None;
            }
            found.pairs[at..=found.count].rotate_right(1);
            found.pairs[at] = (name, value);
            found.count += 1;
        }
        Some(found)
    }

    /// All of them, in the order of their names.
    #[must_use]
    pub fn all(&self) -> &[(&'a str, &'a str)] {
        &self.pairs[..self.count]
    }

    /// The value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.all().iter().find(|(there, _)| *there == name).map(|(_, value)| *value)
    }
}

/// What a request without a body claims; none if there is anything unusual about how.
#[must_use]
pub fn parse(head: &Parts) -> Option<Claim<'_>> {
    // Every name once: which of two values counts is not ours to guess.
    if head.headers.len() != head.headers.keys_len() || !is_canonical(head.uri.path(), true) {
        return None;
    }
    let query = Pairs::parse(head.uri.query().unwrap_or_default())?;
    let claim = match head.headers.get(AUTHORIZATION) {
        Some(value) => in_header(value.to_str().ok()?, &head.headers, query)?,
        None => in_query(query)?,
    };
    claim.covers(&head.headers).then_some(claim)
}

fn in_header<'a>(text: &'a str, headers: &'a HeaderMap, query: Pairs<'a>) -> Option<Claim<'a>> {
    if query.all().iter().any(|(name, _)| name.starts_with("X-Amz-")) {
        return None;
    }
    let rest = text.strip_prefix(ALGORITHM)?.strip_prefix(" Credential=")?;
    let (scope, rest) = rest.split_once(',')?;
    let rest = rest.strip_prefix(' ').unwrap_or(rest).strip_prefix("SignedHeaders=")?;
    let (signed, rest) = rest.split_once(',')?;
    let signature = rest.strip_prefix(' ').unwrap_or(rest).strip_prefix("Signature=")?;
    let time = Stamp::parse(headers.get("x-amz-date")?.to_str().ok()?)?;
    let payload = headers.get("x-amz-content-sha256")?.to_str().ok()?;
    if payload != EMPTY && payload != UNSIGNED {
        return None;
    }
    let signature = signature_of(signature)?;
    Claim::new(scope, "/", time, signed, ";", signature, payload, Given::Header, query)
}

fn in_query(query: Pairs<'_>) -> Option<Claim<'_>> {
    let get = |name| query.get(name);
    if get("X-Amz-Algorithm")? != ALGORITHM {
        return None;
    }
    // Some clients put the word for the payload there, too.
    if get("X-Amz-Content-Sha256").is_some_and(|payload| payload != UNSIGNED) {
        return None;
    }
    let expires = get("X-Amz-Expires")?;
    let is_number = (1..=6).contains(&expires.len()) && expires.bytes().all(|b| b.is_ascii_digit());
    let expires_seconds = expires.parse().ok().filter(|_| is_number)?;
    if !(1..=EXPIRES_SECONDS_MAX).contains(&expires_seconds) {
        return None;
    }
    let (scope, time) = (get("X-Amz-Credential")?, Stamp::parse(get("X-Amz-Date")?)?);
    let (signed, signature) = (get("X-Amz-SignedHeaders")?, signature_of(get("X-Amz-Signature")?)?);
    let given = Given::Query { expires_seconds };
    Claim::new(scope, "%2F", time, signed, "%3B", signature, UNSIGNED, given, query)
}

impl<'a> Claim<'a> {
    #[expect(clippy::too_many_arguments, reason = "they are the claim's fields")]
    fn new(
        scope: &'a str,
        slash: &str,
        time: Stamp<'a>,
        headers: &'a str,
        semicolon: &str,
        signature: [u8; 32],
        payload: &'a str,
        given: Given,
        query: Pairs<'a>,
    ) -> Option<Claim<'a>> {
        let mut parts = scope.split(slash);
        let (access_key, date, region) = (parts.next()?, parts.next()?, parts.next()?);
        let known = parts.next()? == SERVICE && parts.next()? == END && parts.next().is_none();
        let plain = !access_key.is_empty() && is_plain(access_key) && is_plain(region);
        let mut last = "";
        let in_order = headers.split(semicolon).all(|name| {
            let follows = name > last && name != "authorization";
            last = name;
            follows
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        });
        if !(known && plain && in_order && date == time.date()) {
            return None;
        }
        Some(Claim {
            access_key,
            scope,
            date,
            region,
            signature,
            time,
            headers,
            payload,
            given,
            query,
        })
    }

    /// The parameters of the query.
    #[must_use]
    pub fn query(&self) -> &Pairs<'a> {
        &self.query
    }

    fn signed(&self) -> impl Iterator<Item = &'a str> {
        // Neither is in a name.
        self.headers.split(';').flat_map(|names| names.split("%3B"))
    }

    /// Whether the Host header, and all of the `x-amz-` family, are signed, and what is signed is there.
    fn covers(&self, headers: &HeaderMap) -> bool {
        let there = self.signed().all(|name| {
            headers.get(name).is_some_and(|value| is_canonical_value(value.as_bytes()))
        });
        let family = |name: &&HeaderName| name.as_str().starts_with("x-amz-");
        let is_signed = |name: &str| self.signed().any(|signed| signed == name);
        let loose = headers
            .keys()
            .filter(family)
            .any(|name| !HARMLESS.contains(&name.as_str()) && !is_signed(name.as_str()));
        there && !loose && is_signed(HOST.as_str())
    }

    /// Whether it was signed for now.
    #[must_use]
    pub fn is_timely(&self, now: u64) -> bool {
        let signed = self.time.seconds;
        // A second earlier than allowed: the clock's second has begun already.
        let age_seconds_max = match self.given {
            Given::Header => SKEW_SECONDS_MAX,
            Given::Query { expires_seconds } => expires_seconds,
        };
        signed <= now + SKEW_SECONDS_MAX && now < signed + age_seconds_max
    }

    /// Appends the canonical request.
    pub fn canonical_request(&self, head: &Parts, out: &mut Vec<u8>) {
        let mut put = |part: &str| out.extend_from_slice(part.as_bytes());
        put(head.method.as_str());
        put("\n");
        put(head.uri.path());
        put("\n");
        let mut separator = "";
        for (name, value) in self.query.all() {
            if *name != "X-Amz-Signature" {
                put(separator);
                put(name);
                put("=");
                put(value);
                separator = "&";
            }
        }
        put("\n");
        for name in self.signed() {
            put(name);
            put(":");
            // Is there, and is text: the claim was parsed with these headers.
            put(head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default());
            put("\n");
        }
        let mut separator = "\n";
        for name in self.signed() {
            put(separator);
            put(name);
            separator = ";";
        }
        put("\n");
        put(self.payload);
    }

    /// Appends what is signed, given the SHA-256 of the canonical request.
    pub fn string_to_sign(&self, digest: &[u8; 32], out: &mut Vec<u8>) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let (date, region) = (self.date, self.region);
        let parts =
            [ALGORITHM, "\n", self.time.text, "\n", date, "/", region, "/", SERVICE, "/", END];
        parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
        out.push(b'\n');
        for byte in digest {
            out.push(DIGITS[usize::from(byte >> 4)]);
            out.push(DIGITS[usize::from(byte & 15)]);
        }
    }
}

/// 64 lower-case hexadecimal digits.
fn signature_of(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut signature = [0; 32];
    for (byte, pair) in signature.iter_mut().zip(text.as_chunks::<2>().0) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(signature)
}

/// Bytes that stand for themselves.
const UNRESERVED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let it = byte as u8;
        table[byte] = it.is_ascii_alphanumeric() || matches!(it, b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    table
};

fn is_unreserved(byte: u8) -> bool {
    UNRESERVED[usize::from(byte)]
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(is_unreserved)
}

/// Whether a text is escaped as a signer does it: all that must be, nothing that need not, in capitals; and
/// UTF-8 underneath.
fn is_canonical(text: &str, slash_is_plain: bool) -> bool {
    let bytes = text.as_bytes();
    let digit = |at: usize| match bytes.get(at)? {
        byte @ b'0'..=b'9' => Some(byte - b'0'),
        byte @ b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    let mut at = 0;
    let mut is_ascii = true;
    while let Some(&byte) = bytes.get(at) {
        if is_unreserved(byte) || (byte == b'/' && slash_is_plain) {
            at += 1;
            continue;
        }
        let escaped = match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => high << 4 | low,
            _ => return false,
        };
        if is_unreserved(escaped) || (escaped == b'/' && slash_is_plain) {
            return false;
        }
        is_ascii &= escaped.is_ascii();
        at += 3;
    }
    is_ascii || percent_encoding::percent_decode_str(text).decode_utf8().is_ok()
}

/// Whether a header's value is signed as it stands: printable ASCII, no space at its ends nor two in a row.
fn is_canonical_value(value: &[u8]) -> bool {
    let ends = value.first() != Some(&b' ') && value.last() != Some(&b' ');
    ends && value.iter().all(|byte| matches!(byte, b' '..=b'~'))
        && !value.windows(2).any(|two| two == b"  ")
}
