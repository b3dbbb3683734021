//! Tags: how clients write them, and what S3 lets them be. Pure.

use super::error::bad_request;
use percent_encoding::percent_decode_str;
use s3s::dto::Tag;
use s3s::{S3Error, s3_error};
use std::collections::HashSet;

/// Tags of one object: as S3 has it.
pub const OBJECT_TAGS_MAX: usize = 10;
/// Length of a tag's name in UTF-16: as S3 has it.
const KEY_LENGTH_MAX: usize = 128;
/// Length of a tag's value in UTF-16: as S3 has it.
const VALUE_LENGTH_MAX: usize = 256;

/// Names and values, in their order.
pub type Tags = Vec<(String, String)>;

/// The tags of an `x-amz-tagging` header: `a=b&c=d`, escaped as a query is.
///
/// # Errors
/// What S3 says when they can't be.
pub fn parse(header: &str) -> Result<Tags, S3Error> {
    let pairs = header.split('&').filter(|pair| !pair.is_empty());
    let tags = pairs.map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((unescaped(key)?, unescaped(value)?))
    });
    let tags = tags.collect::<Option<Tags>>().ok_or_else(|| {
        s3_error!(
            InvalidArgument,
            "the header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query \
             parameters without tag name duplicates"
        )
    })?;
    check(&tags, OBJECT_TAGS_MAX)?;
    Ok(tags)
}

fn unescaped(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// The tags of a document.
///
/// # Errors
/// What S3 says when they can't be.
pub fn of_document(tags: Vec<Tag>, count_max: usize) -> Result<Tags, S3Error> {
    let pair = |tag: Tag| Some((tag.key?, tag.value?));
    let tags = tags.into_iter().map(pair).collect::<Option<Tags>>();
    let tags = tags.ok_or_else(|| s3_error!(MalformedXML, "a tag has a key and a value"))?;
    check(&tags, count_max)?;
    Ok(tags)
}

/// Tags as a document has them.
pub fn document(tags: &[(String, String)]) -> Vec<Tag> {
    let tag = |(key, value): &(String, String)| Tag {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    tags.iter().map(tag).collect()
}

fn check(tags: &[(String, String)], count_max: usize) -> Result<(), S3Error> {
    if tags.len() > count_max {
        return Err(bad_request(format!("tags cannot be greater than {count_max}")));
    }
    let length = |text: &str| text.encode_utf16().count();
    let mut seen = HashSet::new();
    for (key, value) in tags {
        if key.is_empty() || length(key) > KEY_LENGTH_MAX || !key.chars().all(is_allowed) {
            return Err(s3_error!(InvalidTag, "the TagKey you have provided is invalid"));
        }
        if length(value) > VALUE_LENGTH_MAX || !value.chars().all(is_allowed) {
            return Err(s3_error!(InvalidTag, "the TagValue you have provided is invalid"));
        }
        if key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:")) {
            return Err(s3_error!(
                InvalidTag,
                "system tags cannot be added or updated by requester"
            ));
        }
        if !seen.insert(key) {
            return Err(s3_error!(InvalidTag, "cannot provide multiple Tags with the same key"));
        }
    }
    Ok(())
}

fn is_allowed(letter: char) -> bool {
    letter.is_alphanumeric() || letter == ' ' || "+-=._:/@".contains(letter)
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn own(tags: &[(&str, &str)]) -> Tags {
        tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_header_is_read_as_a_query() {
        assert_eq!(parse("a=b&c+d=%C3%BC&e").unwrap(), own(&[("a", "b"), ("c d", "ü"), ("e", "")]));
        assert_eq!(parse("").unwrap(), []);
        assert!(parse("a=%ff").is_err());
    }

    #[test]
    fn limits_are_those_of_s3() {
        let tags =
            |count: usize| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join("&");
        assert!(parse(&tags(10)).is_ok() && parse(&tags(11)).is_err());
        let sized = |key, value| parse(&format!("{}={}", "k".repeat(key), "v".repeat(value)));
        assert!(sized(128, 256).is_ok());
        assert!(sized(129, 0).is_err() && sized(1, 257).is_err() && sized(0, 1).is_err());
        assert!(parse("a=1&a=2").is_err());
        assert!(parse("AWS:x=1").is_err());
        assert!(parse("a=%7B%7D").is_err());
    }

    #[test]
    fn a_tag_of_a_document_has_both_halves() {
        let tag = |key: Option<&str>, value: Option<&str>| {
            let tag = Tag { key: key.map(str::to_owned), value: value.map(str::to_owned) };
            of_document(vec![tag], 50)
        };
        assert_eq!(tag(Some("größe"), Some("")).unwrap(), own(&[("größe", "")]));
        assert!(tag(Some("a"), None).is_err() && tag(None, Some("b")).is_err());
    }

    proptest! {
        #[test]
        fn any_header_gives_tags_that_could_be_kept_or_none(
            text in prop_oneof!["\\PC{0,60}", "[a-c%&=+0-9]{0,60}"],
        ) {
            if let Ok(tags) = parse(&text) {
                prop_assert!(tags.len() <= OBJECT_TAGS_MAX);
                prop_assert!(of_document(document(&tags), OBJECT_TAGS_MAX).is_ok());
            }
        }
    }
}
