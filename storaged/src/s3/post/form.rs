//! The body of an HTML form (RFC 7578): its fields up to the file, and where the file ends. Pure.
//!
//! ```text
//!   --boundary CRLF  headers CRLF CRLF  value  CRLF --boundary CRLF … headers of `file` CRLF CRLF │ bytes … CRLF --boundary
//!   └────────────────────────────── parse ──────────────────────────────────────────────────────┘ └── FileEnd ────────────┘
//! ```
//! What follows the file is ignored, as S3 does.

use bytes::Bytes;
use thiserror::Error;

/// The most bytes before the file, in fields and their headers: S3 allows 20 KB of fields, and the lines around
/// them come on top.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The most bytes of the fields' values: as S3 has it.
pub const FIELD_BYTES_MAX: usize = 20 * 1024;
/// The most bytes of a boundary (RFC 2046, 5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;
/// Header lines of one part: three are known.
const PART_HEADERS_MAX: usize = 16;

/// Why bytes are no form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FormError {
    /// The content type names no boundary, or one that can't be.
    #[error("the content type has no usable boundary")]
    Boundary,
    /// A line that must be there is another one.
    #[error("the form is malformed at byte {at}")]
    Malformed {
        /// Where.
        at: usize,
    },
    /// A name or value is not UTF-8.
    #[error("a name or value in the form is not UTF-8")]
    Text,
    /// More than [`HEAD_BYTES_MAX`] or [`FIELD_BYTES_MAX`] before the file.
    #[error("the fields before the file are too large")]
    TooLarge,
    /// The form ends without a file.
    #[error("the form has no field named file, which must be its last")]
    NoFile,
}

/// What comes before the file's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Names in lower case, and values, in their order.
    pub fields: Vec<(String, String)>,
    /// What the client calls the file.
    pub file_name: Option<String>,
    /// How many bytes all this was.
    pub length: usize,
}

impl Head {
    /// The value of a field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The boundary that a content type names.
///
/// # Errors
/// When it names none that is one.
pub fn boundary(content_type: &str) -> Result<String, FormError> {
    let (_, parameters) = content_type.split_once(';').ok_or(FormError::Boundary)?;
    let found = read_parameters(parameters).into_iter().find(|(name, _)| name == "boundary");
    let (_, value) = found.ok_or(FormError::Boundary)?;
    let usable = (1..=BOUNDARY_BYTES_MAX).contains(&value.len())
        && value.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && !value.ends_with(' ');
    if usable { Ok(value) } else { Err(FormError::Boundary) }
}

/// The head of a form, or `None` while more bytes are needed.
///
/// # Errors
/// When no bytes to come could make it one.
pub fn parse(bytes: &[u8], boundary: &str) -> Result<Option<Head>, FormError> {
    let first = format!("--{boundary}");
    let mark = format!("\r\n{first}");
    let mut fields = Vec::new();
    let mut size = 0;
    let start = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let Some(mut at) = skip(bytes, start, first.as_bytes())? else { return partial(bytes) };
    loop {
        if bytes[at..].starts_with(b"--") {
            return Err(FormError::NoFile);
        }
        let Some(line) = skip(bytes, at, b"\r\n")? else { return partial(bytes) };
        let mut headers = [httparse::EMPTY_HEADER; PART_HEADERS_MAX];
        let (length, headers) = match httparse::parse_headers(&bytes[line..], &mut headers) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return partial(bytes),
            Err(_) => return Err(FormError::Malformed { at: line }),
        };
        let part = Part::of(headers).ok_or(FormError::Malformed { at: line })??;
        let value = line + length;
        if part.name == "file" {
            return Ok(Some(Head { fields, file_name: part.file_name, length: value }));
        }
        let Some(end) = find(&bytes[value..], mark.as_bytes()) else { return partial(bytes) };
        size += end;
        if size > FIELD_BYTES_MAX {
            return Err(FormError::TooLarge);
        }
        let text = std::str::from_utf8(&bytes[value..value + end]).map_err(|_| FormError::Text)?;
        fields.push((part.name, text.to_owned()));
        at = value + end + mark.len();
    }
}

fn partial(bytes: &[u8]) -> Result<Option<Head>, FormError> {
    if bytes.len() > HEAD_BYTES_MAX { Err(FormError::TooLarge) } else { Ok(None) }
}

/// Where `bytes` goes on after `expected` at `at`, or `None` if it ends too early to tell.
fn skip(bytes: &[u8], at: usize, expected: &[u8]) -> Result<Option<usize>, FormError> {
    let rest = &bytes[at..];
    if rest.starts_with(expected) {
        Ok(Some(at + expected.len()))
    } else if expected.starts_with(rest) {
        Ok(None)
    } else {
        Err(FormError::Malformed { at })
    }
}

fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(next) = bytes[from..].iter().position(|&byte| byte == mark[0]) {
        from += next;
        if bytes[from..].starts_with(mark) {
            return Some(from);
        }
        from += 1;
    }
    None
}

struct Part {
    name: String,
    file_name: Option<String>,
}

impl Part {
    /// `None` if the headers do not say which field this is.
    fn of(headers: &[httparse::Header<'_>]) -> Option<Result<Part, FormError>> {
        let disposition = headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case("content-disposition"))?;
        let Ok(text) = std::str::from_utf8(disposition.value) else {
            return Some(Err(FormError::Text));
        };
        let (kind, parameters) = text.split_once(';')?;
        if !kind.trim().eq_ignore_ascii_case("form-data") {
            return None;
        }
        let mut part = Part { name: String::new(), file_name: None };
        for (name, value) in read_parameters(parameters) {
            match name.as_str() {
                "name" => part.name = value.to_ascii_lowercase(),
                "filename" => part.file_name = Some(value),
                _ => {}
            }
        }
        (!part.name.is_empty()).then_some(Ok(part))
    }
}

/// `; name=value; name="quoted value"`: names in lower case.
fn read_parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', '\t', ';']).to_ascii_lowercase();
        let after = after.trim_start();
        let value;
        (value, rest) = match after.strip_prefix('"') {
            Some(quoted) => read_quoted(quoted),
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim_end().to_owned(), &after[end..])
            }
        };
        found.push((name, value));
    }
    found
}

/// What is left of a quoted string whose opening quote is gone, and what follows it. Browsers write a
/// quote inside as `%22`, others escape it.
fn read_quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match letter {
            '"' if !escaped => return (value, &text[at + 1..]),
            '\\' if !escaped => escaped = true,
            '"' | '\\' => {
                value.push(letter);
                escaped = false;
            }
            _ => {
                // A Windows path keeps its backslashes.
                if std::mem::take(&mut escaped) {
                    value.push('\\');
                }
                value.push(letter);
            }
        }
    }
    (value, "")
}

/// Finds the end of the file, piece by piece.
#[derive(Debug)]
pub struct FileEnd {
    mark: Vec<u8>,
    /// Bytes that may be the beginning of the mark.
    held: Vec<u8>,
    ended: bool,
}

impl FileEnd {
    /// Of a form with this boundary.
    #[must_use]
    pub fn new(boundary: &str) -> FileEnd {
        FileEnd { mark: format!("\r\n--{boundary}").into_bytes(), held: Vec::new(), ended: false }
    }

    /// Whether the file has ended: all of it has been given back.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Takes the next bytes of the body and gives back those that are the file's for sure.
    pub fn push(&mut self, bytes: Bytes) -> Bytes {
        if self.ended {
            return Bytes::new();
        }
        let bytes = if self.held.is_empty() {
            bytes
        } else {
            let mut both = std::mem::take(&mut self.held);
            both.extend_from_slice(&bytes);
            Bytes::from(both)
        };
        if let Some(at) = find(&bytes, &self.mark) {
            self.ended = true;
            return bytes.slice(..at);
        }
        let longest = bytes.len().min(self.mark.len() - 1);
        let kept = (1..=longest).rev().find(|&n| bytes.ends_with(&self.mark[..n])).unwrap_or(0);
        let sure = bytes.len() - kept;
        self.held = bytes[sure..].to_vec();
        bytes.slice(..sure)
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const FORM: &str = "--xx\r\nContent-Disposition: form-data; name=\"Key\"\r\n\r\na/${filename}\r\n\
        --xx\r\ncontent-disposition: form-data; name=acl\r\nContent-Type: text/plain\r\n\r\nprivate\r\n\
        --xx\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\".txt\"\r\n\
        Content-Type: text/plain\r\n\r\n";

    #[test]
    fn fields_come_before_the_file() {
        let head = parse(format!("{FORM}bytes").as_bytes(), "xx").unwrap().unwrap();
        assert_eq!(head.field("key"), Some("a/${filename}"));
        assert_eq!(head.field("acl"), Some("private"));
        assert_eq!(head.file_name.as_deref(), Some("a \"b\".txt"));
        assert_eq!(head.length, FORM.len());
    }

    #[test]
    fn a_form_is_waited_for_at_every_byte() {
        for end in 0..FORM.len() {
            assert_eq!(parse(&FORM.as_bytes()[..end], "xx"), Ok(None), "{end}");
        }
    }

    #[test]
    fn what_is_no_form_is_said_to_be_none() {
        let parse = |text: &str| parse(text.as_bytes(), "xx").unwrap_err();
        assert_eq!(parse("--yy\r\n"), FormError::Malformed { at: 0 });
        assert_eq!(parse("--xx--\r\n"), FormError::NoFile);
        assert_eq!(parse("--xx\r\nA: b\r\n\r\n"), FormError::Malformed { at: 6 });
        let field = "--xx\r\nContent-Disposition: form-data; name=k\r\n\r\n";
        assert_eq!(parse(&format!("{field}{}", "v".repeat(HEAD_BYTES_MAX))), FormError::TooLarge);
        let long = format!("{field}{}\r\n--xx\r\n", "v".repeat(FIELD_BYTES_MAX + 1));
        assert_eq!(parse(&long), FormError::TooLarge);
    }

    #[test]
    fn a_boundary_is_read_bare_and_quoted() {
        assert_eq!(boundary("multipart/form-data; boundary=a-b").unwrap(), "a-b");
        assert_eq!(boundary("multipart/form-data; charset=x; Boundary=\"a b\"").unwrap(), "a b");
        assert!(boundary("multipart/form-data").is_err());
        assert!(boundary("multipart/form-data; boundary=").is_err());
        assert!(boundary(&format!("m/f; boundary={}", "b".repeat(71))).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_head_within_them_or_none(
            parts in vec(prop_oneof![
                vec(any::<u8>(), 0..20),
                Just(b"--xx\r\n".to_vec()),
                Just(b"\r\n--xx\r\n".to_vec()),
                Just(b"Content-Disposition: form-data; name=\"key\"\r\n\r\n".to_vec()),
                Just(b"Content-Disposition: form-data; name=file; filename=\"a\r\n\r\n".to_vec()),
            ], 0..8),
            more in vec(any::<u8>(), 0..20),
        ) {
            let bytes = parts.concat();
            if let Ok(Some(head)) = parse(&bytes, "xx") {
                prop_assert!(head.length <= bytes.len());
                // What is decided stays, whatever comes next.
                prop_assert_eq!(parse(&[&bytes[..], &more].concat(), "xx"), Ok(Some(head)));
            }
        }

        #[test]
        fn any_content_type_has_a_usable_boundary_or_none(text in "[ -~]{0,80}") {
            if let Ok(found) = boundary(&format!("multipart/form-data; boundary={text}")) {
                prop_assert!((1..=BOUNDARY_BYTES_MAX).contains(&found.len()));
            }
        }

        #[test]
        fn a_file_ends_at_its_boundary_however_it_comes(
            file in vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'x'), any::<u8>()], 0..60),
            cuts in vec(0_usize..90, 0..6),
        ) {
            let mark = b"\r\n--xx";
            prop_assume!(find(&[&file[..], mark].concat(), mark) == Some(file.len()));
            let all = [&file[..], mark, b"--\r\n"].concat();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(all.len())).collect();
            cuts.extend([0, all.len()]);
            cuts.sort_unstable();
            let mut end = FileEnd::new("xx");
            let pieces = cuts.windows(2).map(|cut| Bytes::copy_from_slice(&all[cut[0]..cut[1]]));
            let found: Vec<_> = pieces.map(|piece| end.push(piece)).collect();
            prop_assert!(end.ended());
            prop_assert_eq!(found.concat(), file);
        }
    }
}
