//! Headers that came in several lines: S3 takes them for one with commas between, and the protocol library refuses
//! them. Pure.
//!
//! A signature covers the values with commas between (AWS, "Create a canonical request"), so that it covers the one
//! line just as well.

use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, HeaderMap, HeaderName, HeaderValue,
    IF_MATCH, IF_NONE_MATCH,
};

/// Lists by their definition; and what begins so is the user's own.
const LISTS: [HeaderName; 7] = [
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    IF_MATCH,
    IF_NONE_MATCH,
    HeaderName::from_static("x-amz-copy-source-if-match"),
    HeaderName::from_static("x-amz-copy-source-if-none-match"),
];
const USER: &str = "x-amz-meta-";

/// Makes one line of those that may come in several.
pub fn join(headers: &mut HeaderMap) {
    // Most requests have as many values as names.
    if headers.len() == headers.keys_len() {
        return;
    }
    let joins = |name: &&HeaderName| LISTS.contains(name) || name.as_str().starts_with(USER);
    let names: Vec<_> = headers.keys().filter(joins).cloned().collect();
    for name in names {
        let values: Vec<_> =
            headers.get_all(&name).iter().map(|value| value.as_bytes().trim_ascii()).collect();
        if values.len() > 1 {
            let all = HeaderValue::from_bytes(&values.join(&b','));
            headers.insert(name, all.expect("values with commas between are a value"));
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn joined(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        join(&mut headers);
        headers
    }

    #[test]
    fn lists_become_one_line_in_their_order() {
        let headers = joined(&[
            ("x-amz-meta-a", "1 "),
            ("x-amz-meta-b", "ü"),
            ("x-amz-meta-a", "2,3"),
            ("if-match", "\"a\""),
            ("if-match", "\"b\""),
        ]);
        assert_eq!(headers["x-amz-meta-a"], "1,2,3");
        assert_eq!(headers["x-amz-meta-b"].as_bytes(), "ü".as_bytes());
        assert_eq!(headers["if-match"], "\"a\",\"b\"");
    }

    #[test]
    fn what_has_one_value_by_its_definition_stays_double() {
        for name in ["content-length", "x-amz-acl", "authorization"] {
            assert_eq!(joined(&[(name, "1"), (name, "2")]).get_all(name).iter().count(), 2);
        }
    }

    proptest! {
        #[test]
        fn nothing_of_the_users_is_lost(values in proptest::collection::vec("[ -~]{0,5}", 1..5)) {
            let lines: Vec<_> = values.iter().map(|value| ("x-amz-meta-a", &**value)).collect();
            let headers = joined(&lines);
            prop_assert_eq!(headers.get_all("x-amz-meta-a").iter().count(), 1);
            let trimmed: Vec<_> = values.iter().map(|value| value.trim_ascii()).collect();
            let expected = trimmed.join(",");
            // A single value is left as it is: the library trims it.
            let found = headers["x-amz-meta-a"].to_str().unwrap().trim_ascii();
            prop_assert_eq!(found, expected.trim_ascii());
        }
    }
}
