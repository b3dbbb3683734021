//! Bodies in AWS's own chunks (`aws-chunked`), each with its length and perhaps a signature, and fields behind the last.
//! Pure.
//!
//! The protocol library reads those of objects and parts by itself, if they are signed. Documents it verifies, and then
//! refuses, since it takes them to have no length; and it does not see that a body nobody signed is in chunks. Signatures are
//! no business of this file.

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;

/// Digits of a chunk's length: 1 TiB, and there are bodies of 5 GiB in one chunk.
const DIGITS_MAX: usize = 10;
/// The line before a chunk, in bytes: a length and a signature, as the protocol library has it.
const LINE_BYTES_MAX: usize = 1024;
/// All fields behind the last chunk, in bytes, as the protocol library has it.
const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// The body is in no such chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the body is not in the chunks that the head says")]
pub struct NotChunked;

/// What was in a body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// The bytes of all chunks.
    pub bytes: Vec<u8>,
    /// The fields behind the last.
    pub trailers: HeaderMap,
}

/// What comes next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// The line with a chunk's length.
    #[default]
    Length,
    /// So many bytes of a chunk.
    Bytes(u64),
    /// The end of its line.
    End,
    /// Fields, to the end of the body.
    Trailers,
}

/// Reads a body as it comes.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    /// What has come of a line, or of the fields.
    text: Vec<u8>,
}

impl Decoder {
    /// Takes from what has come until there are bytes of a chunk; none when nothing is left of it.
    ///
    /// # Errors
    /// When it is in no chunks. Nothing can be read after that.
    pub fn next(&mut self, came: &mut Bytes) -> Result<Option<Bytes>, NotChunked> {
        while !came.is_empty() {
            match self.state {
                State::Length => self.length(came)?,
                State::Bytes(left) => {
                    let bytes = came.split_to(
                        usize::try_from(left).map_or(came.len(), |left| left.min(came.len())),
                    );
                    let left = left - bytes.len() as u64;
                    self.state = if left == 0 { State::End } else { State::Bytes(left) };
                    return Ok(Some(bytes));
                }
                State::End => {
                    if !self.line(came)? {
                        break;
                    }
                    if !std::mem::take(&mut self.text).is_empty() {
                        return Err(NotChunked);
                    }
                    self.state = State::Length;
                }
                State::Trailers => {
                    if self.text.len() + came.len() > TRAILER_BYTES_MAX {
                        return Err(NotChunked);
                    }
                    self.text.extend_from_slice(came);
                    came.clear();
                }
            }
        }
        Ok(None)
    }

    /// The fields behind the last chunk.
    ///
    /// # Errors
    /// When that has not come, or what is behind it is no fields.
    pub fn end(self) -> Result<HeaderMap, NotChunked> {
        match self.state {
            State::Trailers => trailers(&self.text).ok_or(NotChunked),
            State::Length | State::Bytes(_) | State::End => Err(NotChunked),
        }
    }

    fn length(&mut self, came: &mut Bytes) -> Result<(), NotChunked> {
        if self.line(came)? {
            let line = std::mem::take(&mut self.text);
            let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
            self.state = match length(digits).ok_or(NotChunked)? {
                0 => State::Trailers,
                length => State::Bytes(length),
            };
        }
        Ok(())
    }

    /// Whether a line has come; it is in `text` then, without its end.
    fn line(&mut self, came: &mut Bytes) -> Result<bool, NotChunked> {
        let end = memchr::memchr(b'\n', came);
        let taken = end.map_or(came.len(), |end| end + 1);
        if self.text.len() + taken > LINE_BYTES_MAX {
            return Err(NotChunked);
        }
        self.text.extend_from_slice(&came[..taken]);
        came.advance(taken);
        if end.is_none() {
            return Ok(false);
        }
        let line = self.text.strip_suffix(b"\r\n").ok_or(NotChunked)?.len();
        self.text.truncate(line);
        Ok(true)
    }
}

/// What is in a body, if it is one.
#[must_use]
pub fn decoded(body: &[u8]) -> Option<Content> {
    let (mut decoder, mut came) = (Decoder::default(), Bytes::copy_from_slice(body));
    let mut bytes = Vec::new();
    while let Some(piece) = decoder.next(&mut came).ok()? {
        bytes.extend_from_slice(&piece);
    }
    Some(Content { bytes, trailers: decoder.end().ok()? })
}

fn length(digits: &[u8]) -> Option<u64> {
    let is_number =
        (1..=DIGITS_MAX).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_number)?;
    u64::from_str_radix(digits, 16).ok()
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
        let long = [b"3;".to_vec(), vec![b'x'; LINE_BYTES_MAX], b"\r\nabc\r\n0\r\n\r\n".to_vec()];
        let many = [b"0\r\na:".to_vec(), vec![b'x'; TRAILER_BYTES_MAX]];
        for body in [
            &b""[..],
            b"3\r\nabc\r\n",
            b"3\r\nab\r\n0\r\n",
            b"3\r\nabc0\r\n",
            b"3\nabc\r\n0\r\n",
            b"+3\r\nabc\r\n0\r\n",
            b"\r\n",
            b"10000000000\r\n",
            b"0\r\nno field\r\n",
            b"0\r\n: b\r\n",
            &long.concat(),
            &many.concat(),
        ] {
            assert_eq!(decoded(body), None, "{}", String::from_utf8_lossy(body));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_cut_into_chunks_comes_back(bytes: Vec<u8>, size in 1..40_usize, cut in 1..9_usize) {
            let mut body = Vec::new();
            for chunk in bytes.chunks(size) {
                body.extend(format!("{:x};chunk-signature=0\r\n", chunk.len()).into_bytes());
                body.extend([chunk, b"\r\n"].concat());
            }
            prop_assert_eq!(decoded(&body), None, "the last chunk is not there yet");
            body.extend(b"0\r\na:b\r\n\r\n");
            prop_assert_eq!(&decoded(&body).unwrap().bytes, &bytes);
            let (mut decoder, mut found) = (Decoder::default(), Vec::new());
            for piece in body.chunks(cut) {
                let mut came = Bytes::copy_from_slice(piece);
                while let Some(bytes) = decoder.next(&mut came).unwrap() {
                    found.extend_from_slice(&bytes);
                }
            }
            prop_assert_eq!(found, bytes);
            prop_assert_eq!(&decoder.end().unwrap()["a"], "b");
        }

        #[test]
        fn any_bytes_are_an_answer(body in "[0-9a-f;:\r\n]{0,60}") {
            if let Some(content) = decoded(body.as_bytes()) {
                prop_assert!(content.bytes.len() < body.len());
            }
        }
    }
}
