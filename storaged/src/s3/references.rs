//! Numeric character references in documents. Pure.
//!
//! On their way in, those above U+FFFF (`&#128512;`), which the protocol library takes for mistakes up to U+FFFFF, become
//! the characters themselves. On their way out, characters that a reader would not get as they are become references: the
//! library writes them plainly.

use std::fmt::Write as _;

/// What the library refuses, of what XML allows (XML 1.0, 2.2).
const REFUSED: std::ops::RangeInclusive<u32> = 0x1_0000..=0xF_FFFF;
/// Digits of such a number, decimal ones with some zeros before them: what is longer is left as it is.
const DIGITS_MAX: usize = 16;

/// The document with the characters in the place of such references; nothing if it has none. It is never longer.
#[must_use]
pub fn resolved(document: &[u8]) -> Option<Vec<u8>> {
    let mut found = None;
    let mut rest = document;
    let mut copied = 0;
    while let Some(at) = memchr::memmem::find(rest, b"&#") {
        let start = document.len() - rest.len() + at;
        rest = &rest[at + 2..];
        let Some((character, length)) = character(rest) else { continue };
        let out: &mut Vec<u8> = found.get_or_insert_with(|| Vec::with_capacity(document.len()));
        out.extend_from_slice(&document[copied..start]);
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = &rest[length..];
        copied = document.len() - rest.len();
    }
    if let Some(out) = &mut found {
        out.extend_from_slice(&document[copied..]);
    }
    found
}

/// The character that a reference stands for, if the library refuses it, and the length of what is behind its `&#`.
fn character(text: &[u8]) -> Option<(char, usize)> {
    let (radix, digits) = match text.strip_prefix(b"x") {
        Some(digits) => (16, digits),
        None => (10, text),
    };
    let end = memchr::memchr(b';', &digits[..digits.len().min(DIGITS_MAX + 1)])?;
    let digits = std::str::from_utf8(&digits[..end]).ok()?;
    // `from_str_radix` takes a sign.
    if !digits.starts_with(|first: char| first.is_digit(radix)) {
        return None;
    }
    let number = u32::from_str_radix(digits, radix).ok().filter(|n| REFUSED.contains(n))?;
    let prefix = usize::from(radix == 16);
    Some((char::from_u32(number)?, prefix + end + 1))
}

/// Whether a byte may be of a character that is written by reference.
const fn is_suspect(byte: u8) -> bool {
    // 0xef is the first byte of U+F000 to U+FFFF.
    (byte < b' ' && byte != b'\t' && byte != b'\n') || byte == 0xef
}

/// Whether a character is not read as it was written: XML makes a line feed of a carriage return (XML 1.0, 2.11), and
/// allows the others nowhere (2.2). As AWS does, they are written all the same: some readers take the references.
const fn is_written_by_reference(c: char) -> bool {
    (c < ' ' && c != '\t' && c != '\n') || matches!(c, '\u{fffe}' | '\u{ffff}')
}

/// The document with references in the place of what would not be read as it is; nothing if it has none of that. Between
/// its elements the library writes no such character, so all of them are somebody's text.
#[must_use]
pub fn written(document: &[u8]) -> Option<Vec<u8>> {
    /// Long enough for the compiler to look at many bytes at once.
    const STEP: usize = 128;
    let suspect = |step: &[u8]| step.iter().fold(false, |found, byte| found | is_suspect(*byte));
    if !document.chunks(STEP).any(suspect) {
        return None;
    }
    let text = std::str::from_utf8(document).ok()?;
    text.contains(is_written_by_reference).then(|| {
        let mut out = String::with_capacity(text.len() + STEP);
        for c in text.chars() {
            if is_written_by_reference(c) {
                write!(out, "&#{};", u32::from(c))
                    .expect("a string takes all that is written to it");
            } else {
                out.push(c);
            }
        }
        out.into_bytes()
    })
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_reader_would_not_get_is_written_by_reference() {
        let out = |text: &str| written(text.as_bytes()).map(|out| String::from_utf8(out).unwrap());
        assert_eq!(out("<Key>Icon\r</Key>").unwrap(), "<Key>Icon&#13;</Key>");
        assert_eq!(out("\u{1}\u{ffff}\n").unwrap(), "&#1;&#65535;\n");
        for plain in ["", "<Key>a\tb\nc</Key>", "\u{feff}\u{fffd}ﬁ", "&#13;"] {
            assert_eq!(out(plain), None, "{plain:?}");
        }
        assert_eq!(written(b"\xff\r"), None);
    }

    fn text(document: &str) -> Option<String> {
        resolved(document.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_reference_becomes_its_character() {
        assert_eq!(text("<Key>a&#128512;b</Key>").unwrap(), "<Key>a😀b</Key>");
        assert_eq!(text("&#x1f600;&#x00001F600;&#065536;").unwrap(), "😀😀\u{10000}");
        assert_eq!(text("&#xFFFFF;&amp;&#65;").unwrap(), "\u{FFFFF}&amp;&#65;");
    }

    #[test]
    fn what_the_library_knows_or_nobody_does_is_left() {
        for document in [
            "",
            "&#",
            "&#x",
            "&#65;",
            "&#x100000;",
            "&#+65536;",
            "&#x+10000;",
            "&#65536",
            "&#;",
            "&#-1;",
            "&#xD800;",
            "&#128 512;",
            "&#00000000000000000065536;",
            "& #128512;",
        ] {
            assert_eq!(text(document), None, "{document}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_by_reference_is_what_is_written_plainly(
            pieces in proptest::collection::vec((any::<char>(), 0..3_u8), 0..20),
        ) {
            // As clients write it: a mark of XML's is always a reference, others may be.
            let plain = |c: char| !matches!(c, '&' | '<' | '>');
            let (mut given, mut expected) = (String::new(), String::new());
            for (c, how) in pieces {
                let reference = match how {
                    0 if plain(c) => c.to_string(),
                    1 => format!("&#{};", c as u32),
                    _ => format!("&#x{:X};", c as u32),
                };
                expected.push_str(&if REFUSED.contains(&(c as u32)) { c.to_string() } else { reference.clone() });
                given.push_str(&reference);
            }
            let found = text(&given);
            prop_assert_eq!(found.is_some(), given != expected);
            prop_assert_eq!(found.unwrap_or(given), expected);
        }

        #[test]
        fn what_is_written_reads_back(
            text in proptest::collection::vec(prop_oneof![0..=0x20_u32, 0xfff0..=0xffff_u32, 0x60..=0x7f_u32], 0..300),
        ) {
            let text: String = text.into_iter().filter_map(char::from_u32).collect();
            let out = written(text.as_bytes()).map(|out| String::from_utf8(out).unwrap());
            let mut read = out.unwrap_or_else(|| text.clone());
            prop_assert!(!read.contains(is_written_by_reference));
            for c in (0..=0x1f_u32).chain(0xfffe..=0xffff) {
                read = read.replace(&format!("&#{c};"), &char::from_u32(c).unwrap().to_string());
            }
            prop_assert_eq!(read, text);
        }

        #[test]
        fn any_bytes_come_out_no_longer_and_settled(bytes in "[&#x;0-9a-f]{0,60}") {
            if let Some(out) = resolved(bytes.as_bytes()) {
                prop_assert!(out.len() < bytes.len());
            }
        }
    }
}
