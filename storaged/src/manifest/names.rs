//! How the names of objects become names of files, for those that no path can spell.
//!
//! An S3 key is any text; between its slashes stand components, and most of them are names of files as they
//! are. The others are shown so that no two objects ever meet, and so that it depends on the name alone:
//!
//! ```text
//!   component                           shown as
//!   a.gz                                a.gz
//!   (empty, as in a//b)                 %=
//!   .   ..                              %=.   %=..
//!   with a zero byte, or starting %=    %= and the component, zero bytes as %00, % as %25
//!   over 255 bytes                      %= and its start, %~ and half its SHA-256, and its end
//!   an object beside a directory (a     its name as above, with %o at its end: %=a%o
//!   where there is a/b)
//! ```
//! A key that ends with a slash and has no bytes is its directory and nothing else.

use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// The most bytes in a name (`NAME_MAX` of Linux).
const NAME_BYTES_MAX: usize = 255;
/// What the names of components start with that are shown in other words.
const MARK: &[u8] = b"%=";
/// What the name of an object ends with that has a directory beside it.
const OBJECT: &[u8] = b"%o";
/// What stands before the digest in a name that was too long.
const SHORTENED: &[u8] = b"%~";
/// Of a component that is too long: bytes of its start and of its end, by which people and programs know it.
const START_BYTES: usize = 120;
const END_BYTES: usize = 64;
/// Bytes of the digest: enough that no two are ever the same, by chance or on purpose.
const DIGEST_BYTES: usize = 16;

/// What one component of a key is called.
#[must_use]
pub fn shown(component: &[u8]) -> Cow<'_, [u8]> {
    let spelled = !matches!(component, b"" | b"." | b"..")
        && component.len() <= NAME_BYTES_MAX
        && !component.contains(&0)
        && !component.starts_with(MARK);
    if spelled { Cow::Borrowed(component) } else { Cow::Owned(escaped(component)) }
}

/// What an object is called whose name, as [`shown`] gives it, a directory has.
#[must_use]
pub fn beside_directory(shown: &[u8]) -> Vec<u8> {
    let mut name = if shown.starts_with(MARK) { shown.to_vec() } else { escaped(shown) };
    name.extend_from_slice(OBJECT);
    name
}

/// A component in other words, with room for [`OBJECT`].
fn escaped(component: &[u8]) -> Vec<u8> {
    let mut name = MARK.to_vec();
    for &byte in component {
        match byte {
            b'%' => name.extend_from_slice(b"%25"),
            0 => name.extend_from_slice(b"%00"),
            other => name.push(other),
        }
    }
    if name.len() + OBJECT.len() > NAME_BYTES_MAX { shortened(component) } else { name }
}

fn shortened(component: &[u8]) -> Vec<u8> {
    // What would stand for something else is left out: the digest tells the names apart.
    let plain = |byte: &u8| if matches!(byte, b'%' | 0) { b'_' } else { *byte };
    let text = |bytes: &[u8]| -> Vec<u8> { bytes.iter().map(plain).collect() };
    let mut name = MARK.to_vec();
    name.extend(text(&component[..boundary(component, START_BYTES.min(component.len()))]));
    name.extend_from_slice(SHORTENED);
    for byte in &Sha256::digest(component)[..DIGEST_BYTES] {
        name.extend_from_slice(format!("{byte:02x}").as_bytes());
    }
    let end = component.len().saturating_sub(END_BYTES);
    name.extend(text(&component[boundary(component, end)..]));
    name
}

/// The place at or before `at` where a letter of UTF-8 starts, if it is that.
fn boundary(text: &[u8], at: usize) -> usize {
    let inside = |at: usize| text.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    (at.saturating_sub(3)..=at).rev().find(|&at| !inside(at)).unwrap_or(at)
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_names_are_shown_as_they_are() {
        for name in ["a.gz", "100%", "%", "%25", "...", "é", "a\nb", &"x".repeat(255)] {
            assert_eq!(*shown(name.as_bytes()), *name.as_bytes());
        }
    }

    #[test]
    fn names_that_no_path_can_spell_are_shown_by_the_rule() {
        for (name, as_) in [
            (&b""[..], &b"%="[..]),
            (b".", b"%=."),
            (b"..", b"%=.."),
            (b"a\0b%", b"%=a%00b%25"),
            (b"%=", b"%=%25="),
        ] {
            assert_eq!(*shown(name), *as_);
        }
        assert_eq!(beside_directory(b"a"), b"%=a%o");
        assert_eq!(beside_directory(b"%="), b"%=%o");
        let long = shown(format!("{}.tar.gz", "é".repeat(200)).as_bytes()).into_owned();
        let long = String::from_utf8(long).unwrap();
        assert!(long.starts_with("%=éé") && long.ends_with("é.tar.gz"), "{long}");
    }

    fn component() -> impl Strategy<Value = Vec<u8>> {
        let near = "[%=~o.\0a25]{0,6}".prop_map(String::into_bytes);
        let long = (250..300_usize, any::<u8>()).prop_map(|(length, byte)| {
            let mut name = vec![b'x'; length];
            name[length / 2] = byte;
            name
        });
        prop_oneof![4 => near, 1 => long, 1 => proptest::collection::vec(any::<u8>(), 0..300)]
            .prop_filter("components have no slash", |name| !name.contains(&b'/'))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn no_two_names_meet_and_all_can_be_spelled(one in component(), other in component()) {
            let mut all = Vec::new();
            for name in [&one, &other] {
                let name = shown(name).into_owned();
                all.push(beside_directory(&name));
                all.push(name);
            }
            for name in &all {
                prop_assert!(!matches!(name.as_slice(), b"" | b"." | b".."));
                prop_assert!(name.len() <= NAME_BYTES_MAX, "{}", name.len());
                prop_assert!(!name.contains(&0) && !name.contains(&b'/'));
            }
            all.sort();
            all.dedup();
            prop_assert_eq!(all.len(), if one == other { 2 } else { 4 });
        }
    }
}
