//! Lists of entity tags in conditions (RFC 9110, 13.1): `*`, or tags with commas between, weak ones among them. Pure.
//!
//! The protocol library reads one tag; of a list it takes the first quote and the last for the ends of one long tag.

use crate::store::ETagValue;
use http::{HeaderMap, HeaderName};
use s3s::dto::ETag;
use s3s::{S3Error, s3_error};

/// What a condition names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagList {
    /// Any object.
    Any,
    /// Objects with one of these tags; one at least.
    OneOf(Vec<ETag>),
}

impl TagList {
    /// What the lines of this header say together; nothing if there is none, or an empty one.
    ///
    /// # Errors
    /// InvalidArgument.
    pub fn of(headers: &HeaderMap, name: &HeaderName) -> Result<Option<TagList>, S3Error> {
        let lines = headers.get_all(name).iter().map(http::HeaderValue::as_bytes);
        let text = lines.collect::<Vec<_>>().join(&b',');
        if text.is_empty() {
            return Ok(None);
        }
        let list = TagList::parse(&text);
        list.map(Some).ok_or_else(|| s3_error!(InvalidArgument, "{name} is no list of entity tags"))
    }

    /// What a document names by one tag; `*` is any here, too.
    #[must_use]
    pub fn of_element(tag: ETag) -> TagList {
        if tag.value() == "*" { TagList::Any } else { TagList::OneOf(vec![tag]) }
    }

    /// The list in a text. As S3 does, it takes tags without quotes, too.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<TagList> {
        let mut rest = text.trim_ascii();
        if rest == b"*" {
            return Some(TagList::Any);
        }
        let mut tags = Vec::new();
        while !rest.is_empty() {
            // Between two tags there may be several commas (RFC 9110, 5.6.1.2).
            if let Some(behind) = rest.strip_prefix(b",") {
                rest = behind.trim_ascii_start();
                continue;
            }
            let (tag, behind) = rest.split_at(length(rest)?);
            tags.push(ETag::parse_http_header(tag).ok()?);
            rest = behind.trim_ascii_start();
            if !rest.is_empty() && !rest.starts_with(b",") {
                return None;
            }
        }
        (!tags.is_empty()).then_some(TagList::OneOf(tags))
    }

    /// Whether it names this very object: a weak tag never does (RFC 9110, 13.1.1).
    #[must_use]
    pub fn is_same(&self, current: &ETagValue) -> bool {
        self.any(|tag| matches!(tag, ETag::Strong(text) if *text == current.to_string()))
    }

    /// Whether it names this object, or one that is as good (RFC 9110, 13.1.2).
    #[must_use]
    pub fn is_alike(&self, current: &ETagValue) -> bool {
        self.any(|tag| tag.value() == current.to_string())
    }

    fn any(&self, fits: impl Fn(&ETag) -> bool) -> bool {
        match self {
            TagList::Any => true,
            TagList::OneOf(tags) => tags.iter().any(fits),
        }
    }
}

/// How long the tag is that a text begins with: to its second quote, or to the comma behind it where it has none.
fn length(text: &[u8]) -> Option<usize> {
    let weak = if text.starts_with(b"W/\"") { 2 } else { 0 };
    if text[weak..].starts_with(b"\"") {
        let end = text[weak + 1..].iter().position(|byte| *byte == b'"')?;
        return Some(weak + 1 + end + 1);
    }
    let ends = |byte: &u8| *byte == b',' || byte.is_ascii_whitespace();
    Some(text.iter().position(ends).unwrap_or(text.len()))
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn strong(text: &str) -> ETag {
        ETag::Strong(text.to_owned())
    }

    fn weak(text: &str) -> ETag {
        ETag::Weak(text.to_owned())
    }

    #[test]
    fn a_list_is_read_tag_by_tag() {
        let list = |text: &str| match TagList::parse(text.as_bytes()) {
            Some(TagList::OneOf(tags)) => tags,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(list("\"a\", \"b\""), [strong("a"), strong("b")]);
        assert_eq!(list("W/\"a\",\"b\" ,c"), [weak("a"), strong("b"), strong("c")]);
        assert_eq!(list("a"), [strong("a")]);
        assert_eq!(list(",,\"a,b\",,"), [strong("a,b")]);
        assert_eq!(TagList::parse(b" * "), Some(TagList::Any));
        for text in ["", ",", "\"a", "\"a\" \"b\"", "*, \"a\"", "W/a", "a b", "\"a\"b"] {
            assert_eq!(TagList::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn lines_of_one_name_are_one_list() {
        let name = http::header::IF_MATCH;
        let mut headers = HeaderMap::new();
        assert_eq!(TagList::of(&headers, &name).unwrap(), None);
        headers.append(&name, "\"a\"".parse().unwrap());
        headers.append(&name, "\"b\"".parse().unwrap());
        let both = TagList::OneOf(vec![strong("a"), strong("b")]);
        assert_eq!(TagList::of(&headers, &name).unwrap(), Some(both));
        headers.append(&name, "\"".parse().unwrap());
        assert!(TagList::of(&headers, &name).is_err());
    }

    #[test]
    fn a_weak_tag_is_alike_and_never_the_same() {
        let tag = ETagValue::from([0xab; 16]);
        let ours = format!("\"0\", W/\"{tag}\"");
        let list = TagList::parse(ours.as_bytes()).unwrap();
        assert!(list.is_alike(&tag) && !list.is_same(&tag));
        assert!(TagList::Any.is_alike(&tag) && TagList::Any.is_same(&tag));
    }

    proptest! {
        #[test]
        fn whatever_is_written_as_a_list_is_read_as_that(
            tags in proptest::collection::vec((any::<bool>(), "[!#-~]{0,8}"), 1..6),
            between in "( ?, ?){1,3}",
        ) {
            let tags: Vec<_> =
                tags.into_iter().map(|(is_weak, text)| if is_weak { weak(&text) } else { strong(&text) }).collect();
            let text = |tag: &ETag| tag.to_http_header().unwrap().to_str().unwrap().to_owned();
            let list = tags.iter().map(text).collect::<Vec<_>>().join(&between);
            prop_assert_eq!(TagList::parse(list.as_bytes()), Some(TagList::OneOf(tags)));
        }

        #[test]
        fn any_bytes_are_a_list_or_none(bytes: Vec<u8>) {
            if let Some(TagList::OneOf(tags)) = TagList::parse(&bytes) {
                prop_assert!(!tags.is_empty());
            }
        }
    }
}
