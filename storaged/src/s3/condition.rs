//! Conditions of a request (RFC 9110, 13): whether an object is to be read or written. Pure.

use super::tag_list::TagList;
use crate::store::{ETagValue, ObjectRecord};
use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName};
use s3s::S3Error;
use s3s::dto::{ETag, Timestamp};
use std::time::{Duration, UNIX_EPOCH};

/// The conditions on what is copied from.
const SOURCE_IF_MATCH: HeaderName = HeaderName::from_static("x-amz-copy-source-if-match");
const SOURCE_IF_NONE_MATCH: HeaderName = HeaderName::from_static("x-amz-copy-source-if-none-match");

/// What a reader wants to hold.
#[derive(Debug, Default)]
pub struct Conditions {
    /// It is this object.
    pub matches: Option<TagList>,
    /// It is another one.
    pub none_match: Option<TagList>,
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
    /// Those of a request that reads; the times as the protocol library has read them.
    ///
    /// # Errors
    /// When they make no sense.
    pub fn of(
        headers: &HeaderMap,
        modified_since: Option<Timestamp>,
        unmodified_since: Option<Timestamp>,
    ) -> Result<Conditions, S3Error> {
        let matches = TagList::of(headers, &IF_MATCH)?;
        let none_match = TagList::of(headers, &IF_NONE_MATCH)?;
        Ok(Conditions { matches, none_match, modified_since, unmodified_since })
    }

    /// Those of a request that copies, on its source.
    ///
    /// # Errors
    /// When they make no sense.
    pub fn of_source(
        headers: &HeaderMap,
        modified_since: Option<Timestamp>,
        unmodified_since: Option<Timestamp>,
    ) -> Result<Conditions, S3Error> {
        let matches = TagList::of(headers, &SOURCE_IF_MATCH)?;
        let none_match = TagList::of(headers, &SOURCE_IF_NONE_MATCH)?;
        Ok(Conditions { matches, none_match, modified_since, unmodified_since })
    }

    /// Whether they hold for an object.
    pub fn check(&self, tag: &ETagValue, modified_ms: u64) -> Outcome {
        let modified = seconds(modified_ms);
        let passes = match (&self.matches, &self.unmodified_since) {
            (Some(list), _) => list.is_same(tag),
            (None, Some(since)) => modified <= *since,
            (None, None) => true,
        };
        if !passes {
            return Outcome::Failed;
        }
        let is_news = match (&self.none_match, &self.modified_since) {
            (Some(list), _) => !list.is_alike(tag),
            (None, Some(since)) => modified > *since,
            (None, None) => true,
        };
        if is_news { Outcome::Proceed } else { Outcome::NotModified }
    }
}

/// What a writer wants to hold of the object that is there.
#[derive(Clone, Debug, Default)]
pub struct WriteConditions {
    /// It is this one.
    pub matches: Option<TagList>,
    /// It is another one, or none.
    pub none_match: Option<TagList>,
}

/// Why a writer may not write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// 412.
    Failed,
    /// 404: the object that is to be this one is not there.
    Missing,
}

impl WriteConditions {
    /// What the headers say.
    ///
    /// # Errors
    /// When they make no sense.
    pub fn of(headers: &HeaderMap) -> Result<WriteConditions, S3Error> {
        let matches = TagList::of(headers, &IF_MATCH)?;
        Ok(WriteConditions { matches, none_match: TagList::of(headers, &IF_NONE_MATCH)? })
    }

    /// Whether they hold.
    ///
    /// # Errors
    /// What is to be answered when they don't.
    pub fn check(&self, current: Option<&ObjectRecord>) -> Result<(), WriteOutcome> {
        let tag = current.map(|record| &record.meta.etag);
        match (&self.matches, tag) {
            (Some(_), None) => return Err(WriteOutcome::Missing),
            (Some(list), Some(tag)) if !list.is_same(tag) => {
                return Err(WriteOutcome::Failed);
            }
            (Some(_), Some(_)) | (None, _) => {}
        }
        match (&self.none_match, tag) {
            (Some(list), Some(tag)) if list.is_alike(tag) => Err(WriteOutcome::Failed),
            (Some(_) | None, _) => Ok(()),
        }
    }
}

/// What who deletes wants to hold of the object, if it is there: what is not, is as good as deleted.
#[derive(Debug, Default)]
pub struct DeleteConditions {
    /// It is this one.
    pub matches: Option<TagList>,
    /// It was written in this second.
    pub modified: Option<Timestamp>,
    /// It has so many bytes.
    pub size: Option<i64>,
}

impl DeleteConditions {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.matches.is_none() && self.modified.is_none() && self.size.is_none()
    }

    /// Whether they hold.
    pub fn hold(&self, record: &ObjectRecord) -> bool {
        let modified = seconds(record.meta.modified_ms);
        self.matches.as_ref().is_none_or(|list| list.is_same(&record.meta.etag))
            && self.modified.as_ref().is_none_or(|time| *time == modified)
            && self.size.is_none_or(|size| u64::try_from(size) == Ok(record.size))
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
    use proptest::prelude::*;

    const MD5: [u8; 16] = [0xab; 16];

    fn tag(text: &str) -> Option<TagList> {
        Some(TagList::parse(text.as_bytes()).unwrap())
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
        assert_eq!(check(&given(&format!("\"00\", {}", ours()))), Outcome::Proceed);
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

    #[test]
    fn a_weak_tag_never_matches_but_is_enough_to_have_it_already() {
        let weak = || tag(&format!("W/{}", ours()));
        let given = Conditions { matches: weak(), ..Conditions::default() };
        assert_eq!(check(&given), Outcome::Failed);
        let given = Conditions { none_match: weak(), ..Conditions::default() };
        assert_eq!(check(&given), Outcome::NotModified);
    }

    #[test]
    fn a_deletion_may_name_tag_second_and_size() {
        let meta =
            crate::store::Metadata { etag: MD5.into(), modified_ms: 5_999, ..Default::default() };
        let content = crate::store::ContentRef::Inline(bytes::Bytes::new());
        let record = ObjectRecord::new(crate::store::Version(1), content, 7, meta);
        let hold = |matches, modified: u64, size| {
            DeleteConditions { matches, modified: Some(seconds(modified)), size: Some(size) }
                .hold(&record)
        };
        assert!(hold(tag(&ours()), 5_000, 7) && DeleteConditions::default().hold(&record));
        assert!(!hold(tag("\"00\""), 5_000, 7));
        assert!(!hold(tag(&ours()), 4_000, 7));
        assert!(!hold(tag(&ours()), 5_000, 8) && !hold(None, 5_000, -1));
    }

    proptest! {
        #[test]
        fn a_writer_writes_when_what_is_there_is_what_it_thinks(
            there in proptest::option::of(0_u8..3), matches in 0_u8..5, none_match in 0_u8..5,
        ) {
            // 0 to 2: a tag; 3: any; 4: nothing said.
            let condition = |which: u8| match which {
                0..=2 => tag(&format!("\"{}\"", ETagValue::from([which; 16]))),
                3 => tag("*"),
                _ => None,
            };
            let record = there.map(|byte| {
                let meta = crate::store::Metadata { etag: [byte; 16].into(), ..Default::default() };
                let content = crate::store::ContentRef::Inline(bytes::Bytes::new());
                ObjectRecord::new(crate::store::Version(1), content, 0, meta)
            });
            let conditions =
                WriteConditions { matches: condition(matches), none_match: condition(none_match) };
            let is = |which: u8| there.is_some_and(|byte| which == byte || which == 3);
            let expected = match there {
                None if matches < 4 => Err(WriteOutcome::Missing),
                _ if matches < 4 && !is(matches) => Err(WriteOutcome::Failed),
                _ if none_match < 4 && is(none_match) => Err(WriteOutcome::Failed),
                _ => Ok(()),
            };
            prop_assert_eq!(conditions.check(record.as_ref()), expected);
        }
    }
}
