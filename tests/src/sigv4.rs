//! AWS Signature Version 4, as a client makes it, with its own hands: the daemons' implementation comes
//! from a library, and a test that used the same one would agree with its mistakes. Here, too, can a
//! signature be spoilt on purpose.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The region that clients name; the appliance has but one.
pub const REGION: &str = "us-east-1";
/// The hash that stands for a payload nobody signed.
pub const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// The hash that stands for a payload of signed chunks.
pub const STREAMING: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";

/// An access key and its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The public half.
    pub access: String,
    /// The other.
    pub secret: String,
}

/// A request's parts that are signed.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    /// GET, PUT, …
    pub method: &'a str,
    /// The path, percent-encoded as sent.
    pub path: &'a str,
    /// Names and values of the query, not encoded.
    pub query: &'a [(String, String)],
    /// Headers to sign, their names in lower case; `host` must be one.
    pub headers: &'a [(String, String)],
    /// The payload's SHA-256 in hex, or one of the words that stand for it.
    pub payload: &'a str,
    /// When it is signed.
    pub time: SystemTime,
}

/// What signing gave: the seed of chunk signatures, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// In hex.
    pub hex: String,
    /// The names of the signed headers, joined by `;`.
    pub signed_headers: String,
    /// `date/region/service/aws4_request`.
    pub scope: String,
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

/// Bytes in lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all text");
        text
    })
}

/// SHA-256 in lower-case hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Percent-encodes all but letters, digits and `-._~`, and `/` if `slash` is one of the things to keep.
#[must_use]
pub fn percent(text: &[u8], slash: bool) -> String {
    text.iter().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || (slash && *byte == b'/') {
            encoded.push(char::from(*byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a String takes all text");
        }
        encoded
    })
}

/// The query string, its pairs sorted by their encoded names.
#[must_use]
pub fn query_string(query: &[(String, String)]) -> String {
    let mut pairs: Vec<_> = query
        .iter()
        .map(|(name, value)| (percent(name.as_bytes(), false), percent(value.as_bytes(), false)))
        .collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// `20261122T090000Z`.
#[must_use]
pub fn timestamp(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, so that a leap day ends its year; the calendar repeats every 400 years of
    // 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let day = day - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

fn key(secret: &str, date: &str, region: &str) -> Vec<u8> {
    let secret = format!("AWS4{secret}");
    [date, region, "s3", "aws4_request"]
        .iter()
        .fold(secret.into_bytes(), |key, part| hmac(&key, part.as_bytes()))
}

/// The signature over a form's policy, as of this time.
#[must_use]
pub fn sign_policy(keys: &Keys, policy: &str, time: SystemTime) -> String {
    hex(&hmac(&key(&keys.secret, &timestamp(time)[..8], REGION), policy.as_bytes()))
}

/// Signs a request.
#[must_use]
pub fn sign(keys: &Keys, parts: &Parts<'_>) -> Signature {
    sign_in(keys, parts, REGION)
}

/// Signs a request for a region.
#[must_use]
pub fn sign_in(keys: &Keys, parts: &Parts<'_>, region: &str) -> Signature {
    let time = timestamp(parts.time);
    let scope = format!("{}/{region}/s3/aws4_request", &time[..8]);
    // Headers that come more than once are signed as one, in their order.
    let mut headers = BTreeMap::<&str, Vec<&str>>::new();
    for (name, value) in parts.headers {
        headers.entry(name).or_default().push(value.trim());
    }
    let lines: String =
        headers.iter().map(|(name, values)| format!("{name}:{}\n", values.join(","))).collect();
    let signed_headers = headers.keys().copied().collect::<Vec<_>>().join(";");
    let (method, path, payload) = (parts.method, parts.path, parts.payload);
    let query = query_string(parts.query);
    let request = format!("{method}\n{path}\n{query}\n{lines}\n{signed_headers}\n{payload}");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha256(request.as_bytes()));
    let hex = hex(&hmac(&key(&keys.secret, &time[..8], region), text.as_bytes()));
    Signature { hex, signed_headers, scope }
}

/// The value of `Authorization`.
#[must_use]
pub fn authorization(keys: &Keys, signature: &Signature) -> String {
    let Signature { hex, signed_headers, scope } = signature;
    let access = &keys.access;
    format!(
        "AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={signed_headers}, Signature={hex}"
    )
}

/// A body of signed chunks (`STREAMING-AWS4-HMAC-SHA256-PAYLOAD`), `chunk` bytes each, the chain begun by
/// the signature of the request's head.
#[must_use]
pub fn chunks(
    keys: &Keys,
    head: &Signature,
    time: SystemTime,
    body: &[u8],
    chunk: usize,
) -> Vec<u8> {
    let time = timestamp(time);
    let key = key(&keys.secret, &time[..8], REGION);
    let nothing = sha256(b"");
    let mut previous = head.hex.clone();
    let mut coded = Vec::new();
    for chunk in body.chunks(chunk).chain(std::iter::once(&[][..])) {
        let (scope, content) = (&head.scope, sha256(chunk));
        let text =
            format!("AWS4-HMAC-SHA256-PAYLOAD\n{time}\n{scope}\n{previous}\n{nothing}\n{content}");
        previous = hex(&hmac(&key, text.as_bytes()));
        coded.extend(format!("{:x};chunk-signature={previous}\r\n", chunk.len()).into_bytes());
        coded.extend(chunk);
        coded.extend(b"\r\n");
    }
    coded
}

#[cfg(test)]
mod test {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn the_example_of_the_specification_has_its_signature() {
        // "Example: GET Object" of the Amazon S3 API reference, Signature Version 4.
        let keys = Keys {
            access: "AKIAIOSFODNN7EXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
        };
        let nothing = sha256(b"");
        let headers = [
            pair("host", "examplebucket.s3.amazonaws.com"),
            pair("range", "bytes=0-9"),
            pair("x-amz-content-sha256", &nothing),
            pair("x-amz-date", "20130524T000000Z"),
        ];
        let time = UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        let (method, path) = ("GET", "/test.txt");
        let parts = Parts { method, path, query: &[], headers: &headers, payload: &nothing, time };
        let expected = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        assert_eq!(sign(&keys, &parts).hex, expected);
    }

    #[test]
    fn leap_days_and_ends_of_years_have_their_dates() {
        let at = |seconds| timestamp(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "19700101T000000Z");
        assert_eq!(at(951_782_400), "20000229T000000Z");
        assert_eq!(at(1_798_761_599), "20261231T235959Z");
    }

    #[test]
    fn a_query_is_sorted_and_encoded() {
        let query = [pair("prefix", "a/b c"), pair("acl", "")];
        assert_eq!(query_string(&query), "acl=&prefix=a%2Fb%20c");
    }
}
