//! Numeric character references above U+FFFF (`&#128512;`) in documents, which the protocol library takes for mistakes
//! up to U+FFFFF: made into the characters themselves. Pure.

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

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

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
        fn any_bytes_come_out_no_longer_and_settled(bytes in "[&#x;0-9a-f]{0,60}") {
            if let Some(out) = resolved(bytes.as_bytes()) {
                prop_assert!(out.len() < bytes.len());
            }
        }
    }
}
