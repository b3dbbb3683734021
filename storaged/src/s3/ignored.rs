//! Fields of a GET or a HEAD that HTTP has a server ignore, or read otherwise, where the protocol library refuses the
//! request. Pure.

use super::range;
use crate::front::response::http_date;
use http::header::{IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::dto::{Timestamp, TimestampFormat};
use std::time::UNIX_EPOCH;

/// What is to become of each such field: another value, or nothing.
#[must_use]
pub fn mended(headers: &HeaderMap) -> Vec<(HeaderName, Option<HeaderValue>)> {
    let mut changes = Vec::new();
    if range::is_ignored(headers) {
        changes.push((RANGE, None));
    }
    for name in [IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE] {
        let mut values = headers.get_all(&name).iter();
        match (values.next(), values.next()) {
            (None, _) => {}
            (Some(value), None) if is_known(value) => {}
            (Some(value), None) => changes.push((name, usual(value))),
            // No date but a list of them (RFC 9110, 13.1.3).
            (Some(_), Some(_)) => changes.push((name, None)),
        }
    }
    changes
}

fn is_known(value: &HeaderValue) -> bool {
    let text = value.to_str().ok();
    text.is_some_and(|text| Timestamp::parse(TimestampFormat::HttpDate, text).is_ok())
}

/// A date in one of the two forms that nobody should send any more and everybody must read (RFC 9110, 5.6.7), in the usual
/// one; nothing if it is no date.
fn usual(value: &HeaderValue) -> Option<HeaderValue> {
    let date = httpdate::parse_http_date(value.to_str().ok()?).ok()?;
    let seconds = date.duration_since(UNIX_EPOCH).ok()?.as_secs();
    HeaderValue::try_from(http_date(seconds)).ok()
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn changes(name: &HeaderName, values: &[&str]) -> Vec<Option<String>> {
        let value = |text: &&str| (name.clone(), HeaderValue::from_bytes(text.as_bytes()).unwrap());
        let changes =
            mended(&values.iter().map(value).fold(HeaderMap::new(), |mut all, (name, value)| {
                all.append(name, value);
                all
            }));
        let text = |value: HeaderValue| value.to_str().unwrap().to_owned();
        changes.into_iter().map(|(_, value)| value.map(text)).collect()
    }

    #[test]
    fn dates_are_read_in_all_three_forms_and_others_are_ignored() {
        let usual = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(changes(&IF_MODIFIED_SINCE, &[usual]), []);
        for old in ["Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(changes(&IF_MODIFIED_SINCE, &[old]), [Some(usual.to_owned())], "{old}");
        }
        for none in ["yesterday", "0", "", "ü"] {
            assert_eq!(changes(&IF_UNMODIFIED_SINCE, &[none]), [None], "{none}");
        }
        assert_eq!(changes(&IF_MODIFIED_SINCE, &[usual, usual]), [None]);
        assert_eq!(changes(&RANGE, &["bytes=5-2"]), [None]);
    }

    proptest! {
        #[test]
        fn what_is_mended_needs_no_more(text in "[ -~]{0,40}|[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT") {
            for value in changes(&IF_MODIFIED_SINCE, &[&text]).into_iter().flatten() {
                prop_assert_eq!(changes(&IF_MODIFIED_SINCE, &[&value]), []);
            }
        }
    }
}
