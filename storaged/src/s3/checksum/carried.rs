//! Checksums that the protocol library has no fields for. They travel in that of SHA-256, with their algorithm's name before
//! them, and are put where they belong as an answer leaves; those in a list of parts go the other way. Pure.
//!
//! ```text
//!   <ChecksumXXHASH3>…</ChecksumXXHASH3>  ⇄  <ChecksumSHA256>xxhash3:…</ChecksumSHA256>
//!   x-amz-checksum-xxhash3: …             ←  x-amz-checksum-sha256: xxhash3:…
//! ```
//! No checksum has a colon: it is base64.

use super::{Algorithm, PREFIX};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The library's field.
const FIELD: HeaderName = HeaderName::from_static("x-amz-checksum-sha256");
/// The library's element, as it begins and ends.
const ELEMENT: (&[u8], &[u8]) = (b"<ChecksumSHA256>", b"</ChecksumSHA256>");

/// Whether the library has no field for checksums of an algorithm.
const fn is_newer(algorithm: Algorithm) -> bool {
    match algorithm {
        Algorithm::Crc32 | Algorithm::Crc32c | Algorithm::Crc64Nvme => false,
        Algorithm::Sha1 | Algorithm::Sha256 => false,
        Algorithm::Md5 | Algorithm::Sha512 => true,
        Algorithm::XxHash64 | Algorithm::XxHash3 | Algorithm::XxHash128 => true,
    }
}

fn newer() -> impl Iterator<Item = Algorithm> {
    Algorithm::ALL.into_iter().filter(|algorithm| is_newer(*algorithm))
}

/// The first checksum of these that is to be carried.
pub(super) fn packed(sums: &[(String, String)]) -> Option<String> {
    let is_carried = |name: &str| Algorithm::from_name(name).is_some_and(is_newer);
    let found = sums.iter().find(|(name, _)| is_carried(name));
    found.map(|(name, value)| format!("{name}:{value}"))
}

/// What is carried in a text, if anything is.
fn unpacked(text: &str) -> Option<(Algorithm, &str)> {
    let (name, value) = text.split_once(':')?;
    let algorithm = Algorithm::from_name(name).filter(|algorithm| is_newer(*algorithm))?;
    Some((algorithm, value))
}

/// The checksum in the field of SHA-256: its algorithm and value.
#[must_use]
pub fn opened(field: String) -> (Algorithm, String) {
    match unpacked(&field) {
        Some((algorithm, value)) => (algorithm, value.to_owned()),
        None => (Algorithm::Sha256, field),
    }
}

/// Puts what an answer carries into a header of its own.
pub fn settle(headers: &mut HeaderMap) {
    let text = headers.get(FIELD).and_then(|value| value.to_str().ok());
    let Some((algorithm, value)) = text.and_then(unpacked) else { return };
    let name = HeaderName::try_from(format!("{PREFIX}{}", algorithm.name()));
    let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) else { return };
    headers.remove(FIELD);
    headers.insert(name, value);
}

/// A document of the library's with what it carries in elements of their own; nothing if it carries nothing.
#[must_use]
pub fn written(document: &[u8]) -> Option<Vec<u8>> {
    let carried = |text: &[u8]| {
        let (algorithm, value) = unpacked(std::str::from_utf8(text).ok()?)?;
        let name = element(algorithm);
        Some(format!("<{name}>{value}</{name}>").into_bytes())
    };
    replaced(document, ELEMENT, &carried)
}

/// A list of parts as the library can read it; nothing if it can in any case.
#[must_use]
pub fn read(document: &[u8]) -> Option<Vec<u8>> {
    let mut changed = None;
    for algorithm in newer() {
        let name = element(algorithm);
        let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
        let packed = |text: &[u8]| {
            Some([ELEMENT.0, algorithm.name().as_bytes(), b":", text, ELEMENT.1].concat())
        };
        let document = changed.as_deref().unwrap_or(document);
        changed = replaced(document, (begin.as_bytes(), end.as_bytes()), &packed).or(changed);
    }
    changed
}

fn element(algorithm: Algorithm) -> String {
    format!("Checksum{}", algorithm.name().to_ascii_uppercase())
}

/// The document with other bytes in the place of elements, where `other` has some for what is in one.
fn replaced(
    document: &[u8],
    (begin, end): (&[u8], &[u8]),
    other: &dyn Fn(&[u8]) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let ends = memchr::memmem::Finder::new(end);
    let (mut out, mut copied) = (Vec::new(), 0);
    for at in memchr::memmem::find_iter(document, begin) {
        let text = &document[at + begin.len()..];
        let Some(length) = ends.find(text) else { break };
        let text = std::str::from_utf8(&text[..length]).ok();
        let text = text.filter(|text| !text.contains('<')).map(str::as_bytes);
        if let Some(bytes) = text.and_then(other) {
            out.extend_from_slice(&document[copied..at]);
            out.extend_from_slice(&bytes);
            copied = at + begin.len() + length + end.len();
        }
    }
    (copied > 0).then(|| {
        out.extend_from_slice(&document[copied..]);
        out
    })
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn text(document: Option<Vec<u8>>) -> Option<String> {
        document.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn elements_go_both_ways() {
        let ours = "<Part><ChecksumXXHASH3>AA==</ChecksumXXHASH3><ETag>\"e\"</ETag></Part>\
                    <Part><ChecksumSHA512>BB+/</ChecksumSHA512></Part>";
        let its = "<Part><ChecksumSHA256>xxhash3:AA==</ChecksumSHA256><ETag>\"e\"</ETag></Part>\
                   <Part><ChecksumSHA256>sha512:BB+/</ChecksumSHA256></Part>";
        assert_eq!(text(read(ours.as_bytes())).unwrap(), its);
        assert_eq!(text(written(its.as_bytes())).unwrap(), ours);
        for plain in [
            "",
            "<ChecksumSHA256>AA==</ChecksumSHA256>",
            "<ChecksumSHA256>md2:AA==</ChecksumSHA256>",
            "<ChecksumSHA256>sha256:AA==</ChecksumSHA256>",
            "<ChecksumSHA256>md5:AA==",
            "<ChecksumMD5>AA==",
            "<ChecksumCRC32>AA==</ChecksumCRC32>",
            "<ChecksumMD5><ETag></ETag></ChecksumMD5>",
        ] {
            assert_eq!(text(written(plain.as_bytes())), None, "{plain}");
            assert_eq!(text(read(plain.as_bytes())), None, "{plain}");
        }
    }

    #[test]
    fn what_is_no_text_is_left() {
        assert_eq!(read(b"<ChecksumMD5>a\xff</ChecksumMD5>"), None);
    }

    #[test]
    fn elements_in_elements_are_taken_once() {
        let odd = b"<ChecksumMD5><ChecksumMD5>a</ChecksumMD5></ChecksumMD5>";
        let found = text(read(odd)).unwrap();
        assert_eq!(found, "<ChecksumMD5><ChecksumSHA256>md5:a</ChecksumSHA256></ChecksumMD5>");
        assert_eq!(text(written(found.as_bytes())).unwrap().as_bytes(), odd);
    }

    #[test]
    fn a_header_gets_its_own_name() {
        let settled = |value: &str| {
            let mut headers = HeaderMap::from_iter([(FIELD, value.parse().unwrap())]);
            settle(&mut headers);
            assert_eq!(headers.len(), 1);
            let (name, value) = headers.iter().next().unwrap();
            format!("{name}: {}", value.to_str().unwrap())
        };
        assert_eq!(settled("md5:AA=="), "x-amz-checksum-md5: AA==");
        assert_eq!(settled("xxhash128:AA==-2"), "x-amz-checksum-xxhash128: AA==-2");
        assert_eq!(settled("AA=="), "x-amz-checksum-sha256: AA==");
        assert_eq!(settled("crc32:AA=="), "x-amz-checksum-sha256: crc32:AA==");
    }

    proptest! {
        #[test]
        fn what_is_packed_is_opened(at in 0..Algorithm::ALL.len(), value in "[A-Za-z0-9+/]{0,88}={0,2}(-[0-9]{1,5})?") {
            let algorithm = Algorithm::ALL[at];
            let sums = [(algorithm.name().to_owned(), value.clone())];
            let packed = packed(&sums);
            prop_assert_eq!(packed.is_some(), is_newer(algorithm));
            if let Some(packed) = packed {
                prop_assert_eq!(opened(packed), (algorithm, value.clone()));
            }
            prop_assert_eq!(opened(value.clone()), (Algorithm::Sha256, value));
        }
    }
}
