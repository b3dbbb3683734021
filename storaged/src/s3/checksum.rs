//! Checksums that a client gives with an object, in a header or behind the body, and whether they hold.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::dto::PutObjectInput;
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

/// What is to be checked, while the body passes.
pub struct Expected {
    md5: Option<[u8; 16]>,
    sum: Option<Sum>,
}

struct Sum {
    algorithm: Algorithm,
    /// None: it comes behind the body.
    value: Option<String>,
    hasher: ChecksumHasher,
}

const PREFIX: &str = "x-amz-checksum-";
/// Says how a checksum of several parts is made; it is none itself.
const TYPE: &str = "type";

impl Expected {
    /// What the head of a PUT promises.
    ///
    /// # Errors
    /// When a promise makes no sense.
    pub fn of(input: &PutObjectInput, headers: &HeaderMap) -> Result<Expected, S3Error> {
        let md5 = input.content_md5.as_deref().map(parse_md5).transpose()?;
        let given = headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str().strip_prefix(PREFIX)?, value)))
            .filter(|(name, _)| *name != TYPE)
            .map(|(name, value)| Ok((algorithm(name)?, Some(checked(algorithm(name)?, value)?))));
        let announced = headers
            .get_all("x-amz-trailer")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().strip_prefix(PREFIX))
            .map(|name| Ok((algorithm(name)?, None)));
        let mut sums = given.chain(announced).collect::<Result<Vec<_>, S3Error>>()?;
        if sums.len() > 1 {
            return Err(s3_error!(InvalidRequest, "expecting a single x-amz-checksum- header"));
        }
        let sum = sums.pop();
        if sum.is_none() && input.checksum_algorithm.is_some() {
            return Err(s3_error!(
                InvalidRequest,
                "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or \
                 x-amz-trailer headers were found"
            ));
        }
        let sum =
            sum.map(|(algorithm, value)| Sum { algorithm, value, hasher: algorithm.hasher() });
        Ok(Expected { md5, sum })
    }

    /// Takes the next bytes of the body.
    pub fn update(&mut self, bytes: &[u8]) {
        if let Some(sum) = &mut self.sum {
            sum.hasher.update(bytes);
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
    ) -> Result<Option<(Algorithm, String)>, S3Error> {
        if self.md5.is_some_and(|expected| expected != md5) {
            return Err(s3_error!(BadDigest, "the Content-MD5 did not match what was received"));
        }
        let Some(Sum { algorithm, value, hasher }) = self.sum else { return Ok(None) };
        let name = algorithm.name();
        let expected = match value {
            Some(value) => value,
            None => {
                let header = trailers.and_then(|all| all.get(format!("{PREFIX}{name}")));
                let header = header.ok_or_else(|| {
                    s3_error!(InvalidRequest, "the announced checksum did not come")
                })?;
                checked(algorithm, header)?
            }
        };
        let value = algorithm.of(hasher.finalize()).expect("the hasher was made for it");
        if value != expected {
            return Err(s3_error!(
                BadDigest,
                "the {name} you specified did not match the calculated checksum"
            ));
        }
        Ok(Some((algorithm, value)))
    }
}

fn algorithm(name: &str) -> Result<Algorithm, S3Error> {
    Algorithm::from_name(name)
        .ok_or_else(|| s3_error!(NotImplemented, "checksums of {name} are not checked here"))
}

fn checked(algorithm: Algorithm, value: &http::HeaderValue) -> Result<String, S3Error> {
    let text = value.to_str().unwrap_or_default();
    let length = BASE64_STANDARD.decode(text).ok().map(|bytes| bytes.len());
    if length != Some(algorithm.bytes()) {
        let name = algorithm.name();
        return Err(s3_error!(InvalidRequest, "value for {PREFIX}{name} header is invalid"));
    }
    Ok(text.to_owned())
}

fn parse_md5(text: &str) -> Result<[u8; 16], S3Error> {
    let bytes = BASE64_STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| {
        S3Error::with_message(S3ErrorCode::InvalidDigest, "the Content-MD5 is no MD5 in base64")
    })
}

#[cfg(test)]
mod test {
    use super::*;

    fn expected(headers: &[(&'static str, &str)]) -> Result<Expected, S3Error> {
        let headers = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
        let input = PutObjectInput::builder()
            .bucket("b".to_owned())
            .key("k".to_owned())
            .content_md5(None)
            .build()
            .unwrap();
        Expected::of(&input, &headers.collect())
    }

    fn check(
        mut expected: Expected,
        trailers: &[(&'static str, &str)],
    ) -> Result<Option<(Algorithm, String)>, S3Error> {
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
            assert_eq!(kept, Some((algorithm, value.to_owned())));
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
    fn a_content_md5_is_sixteen_bytes() {
        assert!(parse_md5("1B2M2Y8AsgTpgAmY7PhCfg==").is_ok());
        assert!(parse_md5("1B2M2Y8AsgTpgAmY7PhC").is_err());
        assert!(parse_md5("!").is_err());
    }
}
