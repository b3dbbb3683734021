//! The algorithms that S3 has for checksums, and what they make of bytes and of parts. Pure.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use crc_fast::CrcAlgorithm;
use md5::{Digest, Md5};
use s3s::crypto::{Checksum, Sha1};
use sha2::{Sha256, Sha512};
use std::hash::Hasher as _;
use twox_hash::{XxHash3_64, XxHash3_128, XxHash64};

/// An algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// IEEE 802.3.
    Crc32,
    /// Castagnoli's.
    Crc32c,
    /// NVMe's 64 bits.
    Crc64Nvme,
    /// RFC 1321.
    Md5,
    /// For those who still do.
    Sha1,
    /// FIPS 180-4.
    Sha256,
    /// FIPS 180-4.
    Sha512,
    /// XXH64 without a seed; like its kin in network order, which xxHash calls canonical.
    XxHash64,
    /// XXH3 of 64 bits.
    XxHash3,
    /// XXH3 of 128 bits.
    XxHash128,
}

impl Algorithm {
    /// All that S3 has.
    pub const ALL: [Algorithm; 10] = [
        Algorithm::Crc32,
        Algorithm::Crc32c,
        Algorithm::Crc64Nvme,
        Algorithm::Md5,
        Algorithm::Sha1,
        Algorithm::Sha256,
        Algorithm::Sha512,
        Algorithm::XxHash64,
        Algorithm::XxHash3,
        Algorithm::XxHash128,
    ];

    /// What S3 computes when the client gives nothing.
    pub const DEFAULT: Algorithm = Algorithm::Crc64Nvme;

    /// Its name as records and the ends of header names have it.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "crc32",
            Algorithm::Crc32c => "crc32c",
            Algorithm::Crc64Nvme => "crc64nvme",
            Algorithm::Md5 => "md5",
            Algorithm::Sha1 => "sha1",
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
            Algorithm::XxHash64 => "xxhash64",
            Algorithm::XxHash3 => "xxhash3",
            Algorithm::XxHash128 => "xxhash128",
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
            Algorithm::Crc64Nvme | Algorithm::XxHash64 | Algorithm::XxHash3 => 8,
            Algorithm::Md5 | Algorithm::XxHash128 => 16,
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 => 32,
            Algorithm::Sha512 => 64,
        }
    }

    /// The CRC that it is, if it is one: the checksum of the whole can be had from those of its parts then.
    pub(in crate::s3) const fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Algorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Algorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Algorithm::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Algorithm::Md5 | Algorithm::Sha1 | Algorithm::Sha256 | Algorithm::Sha512 => None,
            Algorithm::XxHash64 | Algorithm::XxHash3 | Algorithm::XxHash128 => None,
        }
    }

    /// The checksum of these bytes.
    pub fn sum(self, bytes: &[u8]) -> String {
        let mut summing = Summing::new(self);
        summing.update(bytes);
        summing.value()
    }

    /// The bytes of a checksum, if that is one of this algorithm.
    pub(super) fn decoded(self, value: &str) -> Option<Vec<u8>> {
        BASE64_STANDARD.decode(value).ok().filter(|bytes| bytes.len() == self.bytes())
    }
}

/// A checksum in the making.
pub struct Summing(Hasher);

enum Hasher {
    Crc(crc_fast::Digest, usize),
    Md5(Md5),
    Sha1(Sha1),
    Sha256(Sha256),
    Sha512(Box<Sha512>),
    XxHash64(XxHash64),
    XxHash3(Box<XxHash3_64>),
    XxHash128(Box<XxHash3_128>),
}

impl Summing {
    /// Of no bytes yet.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Summing {
        let crc = || {
            let crc = algorithm.crc().expect("only CRCs come here");
            Hasher::Crc(crc_fast::Digest::new(crc), algorithm.bytes())
        };
        Summing(match algorithm {
            Algorithm::Crc32 | Algorithm::Crc32c | Algorithm::Crc64Nvme => crc(),
            Algorithm::Md5 => Hasher::Md5(Md5::new()),
            Algorithm::Sha1 => Hasher::Sha1(<Sha1 as Checksum>::new()),
            Algorithm::Sha256 => Hasher::Sha256(Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(Box::new(Sha512::new())),
            Algorithm::XxHash64 => Hasher::XxHash64(XxHash64::with_seed(0)),
            Algorithm::XxHash3 => Hasher::XxHash3(Box::new(XxHash3_64::new())),
            Algorithm::XxHash128 => Hasher::XxHash128(Box::new(XxHash3_128::new())),
        })
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Hasher::Crc(digest, _) => digest.update(bytes),
            Hasher::Md5(hasher) => hasher.update(bytes),
            Hasher::Sha1(hasher) => hasher.update(bytes),
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
            Hasher::XxHash64(hasher) => hasher.write(bytes),
            Hasher::XxHash3(hasher) => hasher.write(bytes),
            Hasher::XxHash128(hasher) => hasher.write(bytes),
        }
    }

    /// The checksum of all of them.
    #[must_use]
    pub fn value(self) -> String {
        match self.0 {
            Hasher::Crc(digest, bytes) => {
                BASE64_STANDARD.encode(&digest.finalize().to_be_bytes()[8 - bytes..])
            }
            Hasher::Md5(hasher) => BASE64_STANDARD.encode(hasher.finalize()),
            Hasher::Sha1(hasher) => BASE64_STANDARD.encode(Checksum::finalize(hasher)),
            Hasher::Sha256(hasher) => BASE64_STANDARD.encode(hasher.finalize()),
            Hasher::Sha512(hasher) => BASE64_STANDARD.encode(hasher.finalize()),
            Hasher::XxHash64(hasher) => BASE64_STANDARD.encode(hasher.finish().to_be_bytes()),
            Hasher::XxHash3(hasher) => BASE64_STANDARD.encode(hasher.finish().to_be_bytes()),
            Hasher::XxHash128(hasher) => BASE64_STANDARD.encode(hasher.finish_128().to_be_bytes()),
        }
    }
}

/// The checksum of an object in parts, made of its parts' checksums: their digest, and how many there
/// were. `None` if a part's value is no checksum.
#[must_use]
pub fn composite<'a>(
    algorithm: Algorithm,
    parts: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let mut summing = Summing::new(algorithm);
    let mut count = 0_usize;
    for part in parts {
        summing.update(&algorithm.decoded(part)?);
        count += 1;
    }
    Some(format!("{}-{count}", summing.value()))
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
        let bytes = algorithm.decoded(part)?;
        let value = bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte));
        all = crc_fast::checksum_combine(crc, all, value, size);
    }
    Some(BASE64_STANDARD.encode(&all.to_be_bytes()[8 - algorithm.bytes()..]))
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn every_algorithm_knows_its_check_values() {
        // Of "123456789"; those of xxHash are of "Hello world", from the tests of AWS's own library of checksums.
        let values: [(Algorithm, &[u8], &str); 10] = [
            (Algorithm::Crc32, b"123456789", "y/Q5Jg=="),
            (Algorithm::Crc32c, b"123456789", "4waSgw=="),
            (Algorithm::Crc64Nvme, b"123456789", "rosUhgp5mIg="),
            (Algorithm::Md5, b"123456789", "JfnnlDI7RTiF9RgfG2JNCw=="),
            (Algorithm::Sha1, b"123456789", "98O8HYCOBHMq32eZZczDTKeuNEE="),
            (Algorithm::Sha256, b"123456789", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
            (
                Algorithm::Sha512,
                b"123456789",
                "2eZ2LdHI6vbWGzxhkvxAjU1tXxF20MKRabwk5xw/J0rSf81YEbMT1oH35V7ALXPUmclUVba1u1A6z1dPuo/+hQ==",
            ),
            (Algorithm::XxHash64, b"Hello world", "xQCwyRKzdtg="),
            (Algorithm::XxHash3, b"Hello world", "tqy52Eo4/3Q="),
            (Algorithm::XxHash128, b"Hello world", "c1H4mBL5c4K5HQWzHgTdfw=="),
        ];
        for (algorithm, bytes, value) in values {
            assert_eq!(algorithm.sum(bytes), value, "{algorithm:?}");
            assert_eq!(algorithm.decoded(value).map(|sum| sum.len()), Some(algorithm.bytes()));
            assert_eq!(Algorithm::parse(&algorithm.name().to_uppercase()), Some(algorithm));
        }
    }

    proptest! {
        #[test]
        fn parts_combine_to_the_whole(parts in vec(vec(any::<u8>(), 0..400), 0..6)) {
            let whole = parts.concat();
            for algorithm in Algorithm::ALL {
                let mut summing = Summing::new(algorithm);
                parts.iter().for_each(|part| summing.update(part));
                prop_assert_eq!(summing.value(), algorithm.sum(&whole));
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
}
