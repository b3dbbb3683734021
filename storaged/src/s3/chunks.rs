//! Bodies in AWS's own chunks (`aws-chunked`), each with its length and perhaps a signature, and fields behind the last.
//! Pure.
//!
//! The protocol library reads those of objects and parts by itself. Documents it verifies, and then refuses, since it takes
//! them to have no length: this is for reading them once more. Signatures are no business of this file.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Digits of a chunk's length: 4 GiB, far more than a document may have.
const DIGITS_MAX: usize = 8;

/// What was in a body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// The bytes of all chunks.
    pub bytes: Vec<u8>,
    /// The fields behind the last.
    pub trailers: HeaderMap,
}

/// Whether a request says that its body is in such chunks.
#[must_use]
pub fn announced(headers: &HeaderMap) -> bool {
    let said = headers.get("x-amz-content-sha256");
    said.is_some_and(|said| said.as_bytes().starts_with(b"STREAMING-"))
}

/// What is in a body, if it is one.
#[must_use]
pub fn decoded(body: &[u8]) -> Option<Content> {
    let mut content = Content::default();
    let mut rest = body;
    loop {
        let (line, behind) = line(rest)?;
        let digits = line.split(|byte| *byte == b';').next()?;
        let length = length(digits)?;
        if length == 0 {
            content.trailers = trailers(behind)?;
            return Some(content);
        }
        let (bytes, behind) = behind.split_at_checked(length)?;
        content.bytes.extend_from_slice(bytes);
        rest = behind.strip_prefix(b"\r\n")?;
    }
}

/// A line without its end, and what is behind it.
fn line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memmem::find(text, b"\r\n")?;
    Some((&text[..end], &text[end + 2..]))
}

fn length(digits: &[u8]) -> Option<usize> {
    let is_number =
        (1..=DIGITS_MAX).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_number)?;
    usize::from_str_radix(digits, 16).ok()
}

/// The fields behind the last chunk; the last of them may be without the end of its line.
fn trailers(text: &[u8]) -> Option<HeaderMap> {
    let mut found = HeaderMap::new();
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    for line in lines.filter(|line| !line.is_empty()) {
        let colon = memchr::memchr(b':', line)?;
        let name = HeaderName::from_bytes(line[..colon].trim_ascii()).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        found.append(name, value);
    }
    Some(found)
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn chunks_are_put_together_and_fields_are_read() {
        let body = b"3;chunk-signature=00\r\nabc\r\nA\r\n0123456789\r\n0;chunk-signature=11\r\n\
                     x-amz-checksum-crc32:AAAAAA==\r\nx-amz-trailer-signature:22\r\n\r\n";
        let content = decoded(body).unwrap();
        assert_eq!(content.bytes, b"abc0123456789");
        assert_eq!(content.trailers["x-amz-checksum-crc32"], "AAAAAA==");
        assert_eq!(decoded(b"0\r\n\r\n").unwrap(), Content::default());
        assert_eq!(decoded(b"0\r\na: b").unwrap().trailers["a"], "b");
    }

    #[test]
    fn what_is_no_such_body_is_none() {
        for body in [
            &b""[..],
            b"3\r\nabc\r\n",
            b"3\r\nab\r\n0\r\n",
            b"3\r\nabc0\r\n",
            b"+3\r\nabc\r\n0\r\n",
            b"\r\n",
            b"100000000\r\n",
            b"0\r\nno field\r\n",
            b"0\r\n: b\r\n",
        ] {
            assert_eq!(decoded(body), None, "{}", String::from_utf8_lossy(body));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_cut_into_chunks_comes_back(bytes: Vec<u8>, size in 1..40_usize) {
            let mut body = Vec::new();
            for chunk in bytes.chunks(size) {
                body.extend(format!("{:x};chunk-signature=0\r\n", chunk.len()).into_bytes());
                body.extend([chunk, b"\r\n"].concat());
            }
            prop_assert_eq!(decoded(&body), None, "the last chunk is not there yet");
            body.extend(b"0\r\n\r\n");
            prop_assert_eq!(decoded(&body).unwrap().bytes, bytes);
        }

        #[test]
        fn any_bytes_are_an_answer(body in "[0-9a-f;:\r\n]{0,60}") {
            if let Some(content) = decoded(body.as_bytes()) {
                prop_assert!(content.bytes.len() < body.len());
            }
        }
    }
}
