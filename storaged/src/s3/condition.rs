//! Conditions of a request (RFC 9110, 13): whether an object is to be read or written. Pure.

use crate::store::ETagValue;
use s3s::dto::{ETag, ETagCondition, Timestamp};
use std::time::{Duration, UNIX_EPOCH};

/// What a reader wants to hold.
#[derive(Debug, Default)]
pub struct Conditions {
    /// It is this object.
    pub matches: Option<ETagCondition>,
    /// It is another one.
    pub none_match: Option<ETagCondition>,
    /// It is younger.
    pub modified_since: Option<Timestamp>,
    /// It is not.
    pub unmodified_since: Option<Timestamp>,
}

/// What is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The object.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

impl Conditions {
    /// Whether they hold for an object.
    pub fn check(&self, tag: &ETagValue, modified_ms: u64) -> Outcome {
        let modified = seconds(modified_ms);
        let passes = match (&self.matches, &self.unmodified_since) {
            (Some(condition), _) => holds(condition, tag),
            (None, Some(since)) => modified <= *since,
            (None, None) => true,
        };
        if !passes {
            return Outcome::Failed;
        }
        let is_news = match (&self.none_match, &self.modified_since) {
            (Some(condition), _) => !holds(condition, tag),
            (None, Some(since)) => modified > *since,
            (None, None) => true,
        };
        if is_news { Outcome::Proceed } else { Outcome::NotModified }
    }
}

/// Whether a condition names this object.
pub fn holds(condition: &ETagCondition, current: &ETagValue) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(tag) => tag.value() == current.to_string(),
    }
}

/// An object's ETag.
pub fn etag(tag: &ETagValue) -> ETag {
    ETag::Strong(tag.to_string())
}

/// The time of an object as headers tell it: whole seconds.
pub fn seconds(modified_ms: u64) -> Timestamp {
    Timestamp::from(UNIX_EPOCH + Duration::from_secs(modified_ms / 1000))
}

#[cfg(test)]
mod test {
    use super::*;

    const MD5: [u8; 16] = [0xab; 16];

    fn tag(text: &str) -> Option<ETagCondition> {
        Some(ETagCondition::parse_http_header(text.as_bytes()).unwrap())
    }

    fn check(conditions: &Conditions) -> Outcome {
        conditions.check(&MD5.into(), 5_999)
    }

    fn ours() -> String {
        format!("\"{}\"", "ab".repeat(16))
    }

    #[test]
    fn a_reader_of_this_version_proceeds_and_of_another_fails() {
        let given = |text: &str| Conditions { matches: tag(text), ..Conditions::default() };
        assert_eq!(check(&given(&ours())), Outcome::Proceed);
        assert_eq!(check(&given("*")), Outcome::Proceed);
        assert_eq!(check(&given("\"00\"")), Outcome::Failed);
    }

    #[test]
    fn who_has_it_already_is_told_so() {
        let given = |text: &str| Conditions { none_match: tag(text), ..Conditions::default() };
        assert_eq!(check(&given(&ours())), Outcome::NotModified);
        assert_eq!(check(&given("\"00\"")), Outcome::Proceed);
    }

    #[test]
    fn times_are_compared_in_whole_seconds() {
        let since = |s| Conditions { modified_since: Some(seconds(s)), ..Conditions::default() };
        assert_eq!(check(&since(5_000)), Outcome::NotModified);
        assert_eq!(check(&since(4_000)), Outcome::Proceed);
        let until = |s| Conditions { unmodified_since: Some(seconds(s)), ..Conditions::default() };
        assert_eq!(check(&until(5_000)), Outcome::Proceed);
        assert_eq!(check(&until(4_000)), Outcome::Failed);
    }

    #[test]
    fn a_tag_outweighs_a_time() {
        let both = Conditions {
            matches: tag(&ours()),
            unmodified_since: Some(seconds(0)),
            none_match: tag("\"00\""),
            modified_since: Some(seconds(9_000)),
        };
        assert_eq!(check(&both), Outcome::Proceed);
    }
}
