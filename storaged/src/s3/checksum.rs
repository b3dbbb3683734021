//! Checksums that a client gives with an object, in a header or behind the body, and whether they hold.

use super::error::coded;
use crate::store::ChecksumType;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use crc_fast::CrcAlgorithm;
use http::{HeaderMap, StatusCode};
use s3s::checksum::ChecksumHasher;
use s3s::{S3Error, S3ErrorCode, s3_error};

/// An algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// IEEE 802.3.
    Crc32,
    /// Castagnoli's.
    Crc32c,
    /// NVMe's 64 bits.
    Crc64Nvme,
    /// For those who still do.
    Sha1,
    /// FIPS 180-4.
    Sha256,
}

impl Algorithm {
    const ALL: [Algorithm; 5] = [
        Algorithm::Crc32,
        Algorithm::Crc32c,
        Algorithm::Crc64Nvme,
        Algorithm::Sha1,
        Algorithm::Sha256,
    ];

    /// What S3 computes when the client gives nothing.
    pub const DEFAULT: Algorithm = Algorithm::Crc64Nvme;

    /// Its name as records and the ends of header names have it.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "crc32",
            Algorithm::Crc32c => "crc32c",
            Algorithm::Crc64Nvme => "crc64nvme",
            Algorithm::Sha1 => "sha1",
            Algorithm::Sha256 => "sha256",
        }
    }

    /// The algorithm that a client names: `CRC32`, …
    pub fn parse(name: &str) -> Option<Algorithm> {
        Algorithm::from_name(&name.to_ascii_lowercase())
    }

    /// The algorithm of this name.
    pub fn from_name(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    const fn bytes(self) -> usize {
        match self {
            Algorithm::Crc32 | Algorithm::Crc32c => 4,
            Algorithm::Crc64Nvme => 8,
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 => 32,
        }
    }

    const fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Algorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Algorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Algorithm::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Algorithm::Sha1 | Algorithm::Sha256 => None,
        }
    }

    fn hasher(self) -> ChecksumHasher {
        use s3s::crypto::Checksum;
        let mut hasher = ChecksumHasher::default();
        match self {
            Algorithm::Crc32 => hasher.crc32 = Some(Checksum::new()),
            Algorithm::Crc32c => hasher.crc32c = Some(Checksum::new()),
            Algorithm::Crc64Nvme => hasher.crc64nvme = Some(Checksum::new()),
            Algorithm::Sha1 => hasher.sha1 = Some(Checksum::new()),
            Algorithm::Sha256 => hasher.sha256 = Some(Checksum::new()),
        }
        hasher
    }

    /// The checksum of these bytes.
    pub fn sum(self, bytes: &[u8]) -> String {
        let mut summing = Summing::new(self);
        summing.update(bytes);
        summing.value()
    }

    fn of(self, sums: s3s::dto::Checksum) -> Option<String> {
        match self {
            Algorithm::Crc32 => sums.checksum_crc32,
            Algorithm::Crc32c => sums.checksum_crc32c,
            Algorithm::Crc64Nvme => sums.checksum_crc64nvme,
            Algorithm::Sha1 => sums.checksum_sha1,
            Algorithm::Sha256 => sums.checksum_sha256,
        }
    }
}

/// A checksum in the making.
pub struct Summing {
    algorithm: Algorithm,
    hasher: ChecksumHasher,
}

impl Summing {
    /// Of no bytes yet.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Summing {
        Summing { algorithm, hasher: algorithm.hasher() }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// The checksum of all of them.
    #[must_use]
    pub fn value(self) -> String {
        self.algorithm.of(self.hasher.finalize()).expect("the hasher was made for it")
    }
}

/// Checksums as answers show them: nothing, not even of what kind, where there are none.
#[must_use]
pub fn shown(sums: &[(String, String)], kind: ChecksumType) -> s3s::dto::Checksum {
    let sum = |algorithm: Algorithm| {
        let found = sums.iter().find(|(name, _)| name == algorithm.name());
        found.map(|(_, value)| value.clone())
    };
    let kind = match kind {
        ChecksumType::FullObject => "FULL_OBJECT",
        ChecksumType::Composite => "COMPOSITE",
    };
    s3s::dto::Checksum {
        checksum_crc32: sum(Algorithm::Crc32),
        checksum_crc32c: sum(Algorithm::Crc32c),
        checksum_crc64nvme: sum(Algorithm::Crc64Nvme),
        checksum_sha1: sum(Algorithm::Sha1),
        checksum_sha256: sum(Algorithm::Sha256),
        checksum_type: (!sums.is_empty()).then(|| kind.to_owned().into()),
    }
}

/// What is to be checked, while the body passes.
pub struct Expected {
    md5: Option<[u8; 16]>,
    algorithm: Algorithm,
    promise: Promise,
    hasher: ChecksumHasher,
}

/// What the client says about the checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Promise {
    /// Nothing: one is kept all the same, as S3 does.
    None,
    /// It is this.
    Value(String),
    /// It comes behind the body.
    Trailer,
}

const PREFIX: &str = "x-amz-checksum-";
/// Names under the prefix that are no checksums: how one of several parts is made, with what, and
/// whether a reader wants it.
const NOT_SUMS: [&str; 3] = ["type", "algorithm", "mode"];

impl Expected {
    /// What the head of a request promises of its body.
    ///
    /// # Errors
    /// When a promise makes no sense.
    pub fn of(headers: &HeaderMap) -> Result<Expected, S3Error> {
        let md5 = headers.get("content-md5").map(parse_md5).transpose()?;
        let promised = promised(headers)?;
        check_announced(headers, promised.as_ref().map(|(algorithm, _)| *algorithm))?;
        let (algorithm, promise) = promised.unwrap_or((Algorithm::DEFAULT, Promise::None));
        Ok(Expected { md5, algorithm, promise, hasher: algorithm.hasher() })
    }

    /// The same, with another algorithm where the client promised nothing: the one that an upload in
    /// parts was begun with.
    #[must_use]
    pub fn or(self, algorithm: Algorithm) -> Expected {
        match self.promise {
            Promise::None => Expected { algorithm, hasher: algorithm.hasher(), ..self },
            Promise::Value(_) | Promise::Trailer => self,
        }
    }

    /// Whether the client gives a checksum of its own, and of which kind.
    #[must_use]
    pub fn given(&self) -> Option<Algorithm> {
        (self.promise != Promise::None).then_some(self.algorithm)
    }

    /// Whether anything at all is promised.
    #[must_use]
    pub fn promises(&self) -> bool {
        self.md5.is_some() || self.promise != Promise::None
    }

    /// Takes the next bytes of the body.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// Whether all holds, given the body's MD5 and what came behind it. Gives what is to be kept:
    /// algorithm and value.
    ///
    /// # Errors
    /// When it does not.
    pub fn check(
        self,
        md5: [u8; 16],
        trailers: Option<&HeaderMap>,
    ) -> Result<(Algorithm, String), S3Error> {
        if self.md5.is_some_and(|expected| expected != md5) {
            return Err(s3_error!(BadDigest, "the Content-MD5 did not match what was received"));
        }
        let algorithm = self.algorithm;
        let name = algorithm.name();
        let expected = match self.promise {
            Promise::None => None,
            Promise::Value(value) => Some(value),
            Promise::Trailer => {
                let header = trailers.and_then(|all| all.get(format!("{PREFIX}{name}")));
                let header = header.ok_or_else(|| {
                    coded(
                        "MalformedTrailerError",
                        StatusCode::BAD_REQUEST,
                        "the announced checksum did not come",
                    )
                })?;
                Some(checked(algorithm, header)?)
            }
        };
        let value = algorithm.of(self.hasher.finalize()).expect("the hasher was made for it");
        match expected {
            Some(expected) if expected != value => Err(s3_error!(
                BadDigest,
                "the {name} you specified did not match the calculated checksum"
            )),
            Some(_) | None => Ok((algorithm, value)),
        }
    }
}

/// The one checksum that the head gives or announces.
fn promised(headers: &HeaderMap) -> Result<Option<(Algorithm, Promise)>, S3Error> {
    let given = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().strip_prefix(PREFIX)?, value)))
        .filter(|(name, _)| !NOT_SUMS.contains(name))
        .map(|(name, value)| {
            let algorithm = algorithm(name)?;
            Ok((algorithm, Promise::Value(checked(algorithm, value)?)))
        });
    let announced = headers
        .get_all("x-amz-trailer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().strip_prefix(PREFIX))
        .map(|name| Ok((algorithm(name)?, Promise::Trailer)));
    let mut sums = given.chain(announced).collect::<Result<Vec<_>, S3Error>>()?;
    if sums.len() > 1 {
        return Err(s3_error!(
            InvalidRequest,
            "expecting a single x-amz-checksum- header; multiple checksum types are not allowed"
        ));
    }
    Ok(sums.pop())
}

/// What the client's library says it uses must be what came.
fn check_announced(headers: &HeaderMap, found: Option<Algorithm>) -> Result<(), S3Error> {
    let Some(said) = headers.get("x-amz-sdk-checksum-algorithm") else { return Ok(()) };
    let said = Algorithm::parse(said.to_str().unwrap_or_default());
    match (said, found) {
        (_, None) => Err(s3_error!(
            InvalidRequest,
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or \
             x-amz-trailer headers were found"
        )),
        (Some(said), Some(found)) if said == found => Ok(()),
        (Some(_) | None, Some(_)) => Err(s3_error!(
            InvalidRequest,
            "value for x-amz-sdk-checksum-algorithm header is invalid"
        )),
    }
}

fn algorithm(name: &str) -> Result<Algorithm, S3Error> {
    Algorithm::from_name(name)
        .ok_or_else(|| s3_error!(NotImplemented, "checksums of {name} are not checked here"))
}

/// The checksum of an object in parts, made of its parts' checksums: their digest, and how many there
/// were. `None` if a part's value is no checksum.
#[must_use]
pub fn composite<'a>(
    algorithm: Algorithm,
    parts: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let mut hasher = algorithm.hasher();
    let mut count = 0_usize;
    for part in parts {
        hasher.update(&decoded(algorithm, part)?);
        count += 1;
    }
    let value = algorithm.of(hasher.finalize()).expect("the hasher was made for it");
    Some(format!("{value}-{count}"))
}

/// The checksum of all bytes of an object in parts, from its parts' checksums and sizes. `None` where
/// that can't be: only CRCs can be put together.
#[must_use]
pub fn combined<'a>(
    algorithm: Algorithm,
    parts: impl IntoIterator<Item = (&'a str, u64)>,
) -> Option<String> {
    let crc = algorithm.crc()?;
    let mut all = crc_fast::checksum(crc, b"");
    for (part, size) in parts {
        let bytes = decoded(algorithm, part)?;
        let value = bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte));
        all = crc_fast::checksum_combine(crc, all, value, size);
    }
    Some(BASE64_STANDARD.encode(&all.to_be_bytes()[8 - algorithm.bytes()..]))
}

fn decoded(algorithm: Algorithm, value: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(value).ok().filter(|bytes| bytes.len() == algorithm.bytes())
}

fn checked(algorithm: Algorithm, value: &http::HeaderValue) -> Result<String, S3Error> {
    let text = value.to_str().unwrap_or_default();
    if decoded(algorithm, text).is_none() {
        let name = algorithm.name();
        return Err(s3_error!(InvalidRequest, "value for {PREFIX}{name} header is invalid"));
    }
    Ok(text.to_owned())
}

fn parse_md5(value: &http::HeaderValue) -> Result<[u8; 16], S3Error> {
    let bytes = BASE64_STANDARD.decode(value).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| {
        S3Error::with_message(S3ErrorCode::InvalidDigest, "the Content-MD5 is no MD5 in base64")
    })
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn expected(headers: &[(&'static str, &str)]) -> Result<Expected, S3Error> {
        let headers = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
        Expected::of(&headers.collect())
    }

    fn check(
        mut expected: Expected,
        trailers: &[(&'static str, &str)],
    ) -> Result<(Algorithm, String), S3Error> {
        expected.update(b"1234");
        expected.update(b"56789");
        let trailers = trailers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
        expected.check([0; 16], Some(&trailers.collect()))
    }

    #[test]
    fn every_algorithm_knows_its_check_value() {
        let values = [
            (Algorithm::Crc32, "x-amz-checksum-crc32", "y/Q5Jg=="),
            (Algorithm::Crc32c, "x-amz-checksum-crc32c", "4waSgw=="),
            (Algorithm::Crc64Nvme, "x-amz-checksum-crc64nvme", "rosUhgp5mIg="),
            (Algorithm::Sha1, "x-amz-checksum-sha1", "98O8HYCOBHMq32eZZczDTKeuNEE="),
            (
                Algorithm::Sha256,
                "x-amz-checksum-sha256",
                "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=",
            ),
        ];
        for (algorithm, header, value) in values {
            let kept = check(expected(&[(header, value)]).unwrap(), &[]).unwrap();
            assert_eq!(kept, (algorithm, value.to_owned()));
        }
    }

    #[test]
    fn a_wrong_sum_is_a_bad_digest() {
        let wrong = expected(&[("x-amz-checksum-crc32", "AAAAAA==")]).unwrap();
        assert_eq!(*check(wrong, &[]).unwrap_err().code(), S3ErrorCode::BadDigest);
    }

    #[test]
    fn an_announced_sum_must_come_and_hold() {
        let announced = || expected(&[("x-amz-trailer", "x-amz-checksum-crc32")]).unwrap();
        assert!(check(announced(), &[("x-amz-checksum-crc32", "y/Q5Jg==")]).is_ok());
        assert!(check(announced(), &[("x-amz-checksum-crc32", "AAAAAA==")]).is_err());
        assert!(check(announced(), &[]).is_err());
    }

    #[test]
    fn promises_without_sense_are_refused() {
        assert!(expected(&[("x-amz-checksum-crc32", "y/Q5Jg")]).is_err());
        assert!(expected(&[("x-amz-checksum-crc32", "4waSgwAA")]).is_err());
        assert!(expected(&[("x-amz-checksum-md2", "4waSgw==")]).is_err());
        let two = [("x-amz-checksum-crc32", "y/Q5Jg=="), ("x-amz-checksum-crc32c", "4waSgw==")];
        assert!(expected(&two).is_err());
        assert!(expected(&[("x-amz-checksum-type", "FULL_OBJECT")]).is_ok());
    }

    #[test]
    fn without_a_promise_one_is_kept() {
        let kept = check(expected(&[]).unwrap(), &[]).unwrap();
        assert_eq!(kept, (Algorithm::Crc64Nvme, "rosUhgp5mIg=".to_owned()));
        let kept = check(expected(&[]).unwrap().or(Algorithm::Crc32), &[]).unwrap();
        assert_eq!(kept, (Algorithm::Crc32, "y/Q5Jg==".to_owned()));
    }

    #[test]
    fn what_the_library_announces_must_come() {
        let said = |name: &'static str| ("x-amz-sdk-checksum-algorithm", name);
        let sum = ("x-amz-checksum-crc32", "y/Q5Jg==");
        assert!(expected(&[said("CRC32"), sum]).is_ok());
        assert!(expected(&[said("SHA1"), sum]).is_err());
        assert!(expected(&[said("MD2"), sum]).is_err());
        assert!(expected(&[said("CRC32")]).is_err());
    }

    proptest! {
        #[test]
        fn parts_combine_to_the_whole(parts in vec(vec(any::<u8>(), 0..40), 0..6)) {
            let whole = parts.concat();
            for algorithm in Algorithm::ALL {
                let sums: Vec<_> = parts.iter().map(|part| algorithm.sum(part)).collect();
                let sized = sums.iter().zip(&parts).map(|(sum, part)| (&**sum, part.len() as u64));
                let expected = algorithm.crc().map(|_| algorithm.sum(&whole));
                prop_assert_eq!(combined(algorithm, sized), expected);
                let raw: Vec<_> =
                    sums.iter().flat_map(|sum| BASE64_STANDARD.decode(sum).unwrap()).collect();
                let expected = format!("{}-{}", algorithm.sum(&raw), parts.len());
                prop_assert_eq!(composite(algorithm, sums.iter().map(|sum| &**sum)), Some(expected));
            }
        }
    }

    #[test]
    fn a_content_md5_is_sixteen_bytes() {
        let parse = |text| parse_md5(&http::HeaderValue::from_static(text));
        assert!(parse("1B2M2Y8AsgTpgAmY7PhCfg==").is_ok());
        assert!(parse("1B2M2Y8AsgTpgAmY7PhC").is_err());
        assert!(parse("!").is_err());
    }
}
