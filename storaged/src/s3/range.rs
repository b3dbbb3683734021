//! Parts of an object: byte ranges (RFC 9110, 14) and parts of an upload by their numbers. Pure.

use crate::store::PartRecord;
use http::HeaderMap;
use http::header::RANGE;
use s3s::dto::Range;
use std::ops::Range as Bytes;

/// Whether a request's Range header is one that must be ignored: it is none (a server may take what it
/// does not understand for absent), or asks for several ranges, which S3 answers with the whole object.
pub fn is_ignored(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(RANGE).iter();
    match (values.next(), values.next()) {
        (None, _) => false,
        (Some(value), None) => value.to_str().map_or(true, |text| Range::parse(text).is_err()),
        (Some(_), Some(_)) => true,
    }
}

/// The bytes that a range means of an object of this size, or `None` if there are none.
pub fn cut(range: Range, size: u64) -> Option<Bytes<u64>> {
    match range {
        // The library takes the end of nothing for something.
        Range::Suffix { .. } if size == 0 => None,
        range => range.check(size).ok(),
    }
}

/// The bytes of a part, or `None` if there is no such part. An object that came whole has one.
pub fn of_part(parts: &[PartRecord], size: u64, number: u32) -> Option<Bytes<u64>> {
    if parts.is_empty() {
        return (number == 1).then_some(0..size);
    }
    let at = parts.iter().position(|part| part.number == number)?;
    let start = parts[..at].iter().map(|part| part.size).sum();
    Some(start..start + parts[at].size)
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn ranges_are_cut_to_the_object() {
        let bytes = |text: &str, size| cut(Range::parse(text).unwrap(), size);
        assert_eq!(bytes("bytes=2-4", 10), Some(2..5));
        assert_eq!(bytes("bytes=2-", 10), Some(2..10));
        assert_eq!(bytes("bytes=2-99", 10), Some(2..10));
        assert_eq!(bytes("bytes=-3", 10), Some(7..10));
        assert_eq!(bytes("bytes=-99", 10), Some(0..10));
        assert_eq!(bytes("bytes=10-", 10), None);
        assert_eq!(bytes("bytes=-0", 10), None);
        assert_eq!(bytes("bytes=-1", 0), None);
    }

    #[test]
    fn what_is_no_range_is_ignored() {
        let ignored = |values: &[&'static str]| {
            let value = |value: &&'static str| (RANGE, http::HeaderValue::from_static(value));
            is_ignored(&values.iter().map(value).collect())
        };
        assert!(!ignored(&[]) && !ignored(&["bytes=0-1"]) && !ignored(&["bytes=-5"]));
        for wrong in
            ["bytes=5-2", "bytes=a-", "lines=1-2", "bytes=0-1,3-4", "bytes=", "0-1", "bytes= 0-1"]
        {
            assert!(ignored(&[wrong]), "{wrong}");
        }
        assert!(ignored(&["bytes=0-1", "bytes=0-1"]));
    }

    fn range() -> impl Strategy<Value = Range> {
        prop_oneof![
            (0..200_u64).prop_map(|length| Range::Suffix { length }),
            (0..200_u64, 0..200_u64)
                .prop_map(|(a, b)| Range::Int { first: a.min(b), last: Some(a.max(b)) }),
            any::<u64>().prop_map(|first| Range::Int { first, last: None }),
        ]
    }

    proptest! {
        #[test]
        fn a_range_is_what_counting_gives(range in range(), size in 0..200_u64) {
            let meant = |at: &u64| match range {
                Range::Suffix { length } => size - at <= length,
                Range::Int { first, last } => *at >= first && last.is_none_or(|last| *at <= last),
            };
            let counted: Vec<_> = (0..size).filter(meant).collect();
            let found = cut(range, size);
            prop_assert_eq!(found.is_none(), counted.is_empty());
            prop_assert_eq!(found.into_iter().flatten().collect::<Vec<_>>(), counted);
        }

        #[test]
        fn parts_follow_each_other(sizes in vec(0..50_u64, 1..6)) {
            let part = |(at, &size): (usize, &u64)| PartRecord {
                number: at as u32 * 2 + 1, size, checksum: None,
            };
            let parts: Vec<_> = sizes.iter().enumerate().map(part).collect();
            let size = sizes.iter().sum();
            let mut end = 0;
            for part in &parts {
                let bytes = of_part(&parts, size, part.number).unwrap();
                prop_assert_eq!((bytes.start, bytes.end), (end, end + part.size));
                end = bytes.end;
                prop_assert_eq!(of_part(&parts, size, part.number + 1), None);
            }
            prop_assert_eq!(end, size);
        }
    }
}
