//! Checksums that a client gives with an object, in a header or behind the body, and whether they hold.

mod algorithm;
pub mod carried;

pub use algorithm::{Algorithm, Summing, combined, composite};

use super::error::coded;
use crate::store::ChecksumType;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, StatusCode};
use s3s::{S3Error, S3ErrorCode, s3_error};

/// Checksums as answers show them: nothing, not even of what kind, where there are none. Newer ones are [`carried`].
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
        checksum_sha256: sum(Algorithm::Sha256).or_else(|| carried::packed(sums)),
        checksum_type: (!sums.is_empty()).then(|| kind.to_owned().into()),
    }
}

/// What is to be checked, while the body passes.
pub struct Expected {
    md5: Option<[u8; 16]>,
    algorithm: Algorithm,
    promise: Promise,
    /// None for MD5: that is counted up elsewhere in any case.
    summing: Option<Summing>,
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
        Ok(Expected { md5, algorithm, promise, summing: summing(algorithm) })
    }

    /// The same, with another algorithm where the client promised nothing: the one that an upload in
    /// parts was begun with.
    #[must_use]
    pub fn or(self, algorithm: Algorithm) -> Expected {
        match self.promise {
            Promise::None => Expected { algorithm, summing: summing(algorithm), ..self },
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
        if let Some(summing) = &mut self.summing {
            summing.update(bytes);
        }
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
        let value = match self.summing {
            Some(summing) => summing.value(),
            None => BASE64_STANDARD.encode(md5),
        };
        match expected {
            Some(expected) if expected != value => Err(s3_error!(
                BadDigest,
                "the {name} you specified did not match the calculated checksum"
            )),
            Some(_) | None => Ok((algorithm, value)),
        }
    }
}

fn summing(algorithm: Algorithm) -> Option<Summing> {
    (algorithm != Algorithm::Md5).then(|| Summing::new(algorithm))
}

/// The checksums in a head that are those of an object in parts: algorithm and value.
pub(super) fn of_whole(headers: &HeaderMap) -> Vec<(&'static str, String)> {
    let value = |name: &str| headers.get(format!("{PREFIX}{name}"))?.to_str().ok();
    let given = Algorithm::ALL.into_iter().map(Algorithm::name);
    given.filter_map(|name| Some((name, value(name)?.to_owned()))).collect()
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
    Algorithm::from_name(name).ok_or_else(|| {
        s3_error!(InvalidRequest, "there is no checksum of this name: {PREFIX}{name}")
    })
}

fn checked(algorithm: Algorithm, value: &http::HeaderValue) -> Result<String, S3Error> {
    let text = value.to_str().unwrap_or_default();
    if algorithm.decoded(text).is_none() {
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
    use md5::Digest;

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
    fn every_algorithm_holds_in_a_header_and_behind_the_body() {
        for algorithm in Algorithm::ALL {
            let value = algorithm.sum(b"123456789");
            let name: &'static str = format!("{PREFIX}{}", algorithm.name()).leak();
            let md5 = md5::Md5::digest(b"123456789").into();
            let outcome = |mut expected: Expected, trailers: &HeaderMap| {
                expected.update(b"123456789");
                expected.check(md5, Some(trailers))
            };
            let kept = (algorithm, value.clone());
            let in_head = expected(&[(name, &value)]).unwrap();
            assert_eq!(outcome(in_head, &HeaderMap::new()).unwrap(), kept);
            let said =
                [("x-amz-trailer", name), ("x-amz-sdk-checksum-algorithm", algorithm.name())];
            let behind = |value: &str| {
                let name = http::HeaderName::from_static(name);
                let trailers = HeaderMap::from_iter([(name, value.parse().unwrap())]);
                outcome(expected(&said).unwrap(), &trailers)
            };
            assert_eq!(behind(&value).unwrap(), kept);
            let other = algorithm.sum(b"12345678");
            assert_eq!(*behind(&other).unwrap_err().code(), S3ErrorCode::BadDigest);
            assert!(behind("AA==").is_err(), "that has the wrong length for {algorithm:?}");
            let asked = expected(&[]).unwrap().or(algorithm);
            assert_eq!(outcome(asked, &HeaderMap::new()).unwrap(), kept);
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

    #[test]
    fn a_content_md5_is_sixteen_bytes() {
        let parse = |text| parse_md5(&http::HeaderValue::from_static(text));
        assert!(parse("1B2M2Y8AsgTpgAmY7PhCfg==").is_ok());
        assert!(parse("1B2M2Y8AsgTpgAmY7PhC").is_err());
        assert!(parse("!").is_err());
    }
}
