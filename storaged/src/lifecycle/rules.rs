//! The rules of a bucket: read from its document and held to what S3 allows. Pure.

use s3s::dto::{
    BucketLifecycleConfiguration, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter,
    NoncurrentVersionExpiration, Tag, Timestamp,
};
use s3s::xml::{Deserialize, Deserializer};
use std::time::{SystemTime, UNIX_EPOCH};
use thiserror::Error;

/// Rules of a bucket: as S3 has it.
const RULES_MAX: usize = 1000;
/// Characters of a rule's id: as S3 has it.
const ID_CHARS_MAX: usize = 255;
/// Versions that a rule may keep beside the current one: as S3 has it.
const KEPT_VERSIONS_MAX: i32 = 100;
/// Characters of a tag's key: as S3 has it.
const TAG_KEY_CHARS_MAX: usize = 128;
/// Characters of a tag's value: as S3 has it.
const TAG_VALUE_CHARS_MAX: usize = 256;
/// Milliseconds of a real day: dates are at its beginning.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Why a lifecycle configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RulesError {
    /// It is no such document.
    #[error("the document is not what it should be: {0}")]
    Malformed(String),
    /// A value is out of its range.
    #[error("{0}")]
    Argument(String),
    /// Parts of it don't go together.
    #[error("{0}")]
    Request(String),
    /// It asks for something that is not offered.
    #[error("{0} are not offered: there is one storage class")]
    NotOffered(&'static str),
}

/// The rules of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// All of them, those that are switched off too.
    pub all: Vec<Rule>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub id: String,
    /// Whether it counts.
    pub enabled: bool,
    /// What it is about.
    pub filter: Filter,
    /// What becomes of current versions.
    pub expiration: Option<Expiration>,
    /// What becomes of those that are no longer current.
    pub noncurrent: Option<Noncurrent>,
    /// What becomes of uploads that don't end.
    pub abort: Option<Abort>,
}

/// Which objects a rule is about: those that fit all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// What their keys start with.
    pub prefix: String,
    /// Tags that they have.
    pub tags: Vec<(String, String)>,
    /// More bytes than this.
    pub larger_than: Option<u64>,
    /// Fewer bytes than this.
    pub smaller_than: Option<u64>,
}

/// When a current version expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiration {
    /// This many days after it was written.
    Days(u32),
    /// From this time on, milliseconds since 1970.
    Date(u64),
    /// Never; but a delete marker goes that hides nothing.
    Markers,
}

/// When a version goes that is no longer current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noncurrent {
    /// This many days after it was replaced.
    pub days: u32,
    /// But so many of the newest stay.
    pub keep: u32,
}

/// When an upload ends that nobody ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort {
    /// This many days after it was begun.
    pub days: u32,
}

fn malformed<T>(text: impl Into<String>) -> Result<T, RulesError> {
    Err(RulesError::Malformed(text.into()))
}

fn request<T>(text: impl Into<String>) -> Result<T, RulesError> {
    Err(RulesError::Request(text.into()))
}

impl Rules {
    /// The rules that a document holds.
    ///
    /// # Errors
    /// [`RulesError`].
    pub fn parse(document: &[u8]) -> Result<Rules, RulesError> {
        let damaged = |error: s3s::xml::DeError| RulesError::Malformed(error.to_string());
        let mut deserializer = Deserializer::new(document);
        let configuration =
            BucketLifecycleConfiguration::deserialize(&mut deserializer).map_err(damaged)?;
        deserializer.expect_eof().map_err(damaged)?;
        Rules::of(&configuration)
    }

    /// The rules of a configuration.
    ///
    /// # Errors
    /// [`RulesError`].
    pub fn of(configuration: &BucketLifecycleConfiguration) -> Result<Rules, RulesError> {
        let rules = &configuration.rules;
        if rules.is_empty() || rules.len() > RULES_MAX {
            return malformed(format!("there are 1 to {RULES_MAX} rules"));
        }
        let all: Vec<_> = rules.iter().map(Rule::of).collect::<Result<_, _>>()?;
        let mut ids: Vec<_> = all.iter().map(|rule| &rule.id).collect();
        ids.sort_unstable();
        match ids.windows(2).find(|pair| pair[0] == pair[1]) {
            None => Ok(Rules { all }),
            Some(pair) => Err(RulesError::Argument(format!(
                "Rule ID must be unique. Found same ID for more than one rule: {}",
                pair[0]
            ))),
        }
    }

    /// The same configuration with an id for each rule that has none: its place among them.
    #[must_use]
    pub fn with_ids(
        mut configuration: BucketLifecycleConfiguration,
    ) -> BucketLifecycleConfiguration {
        for (place, rule) in configuration.rules.iter_mut().enumerate() {
            if rule.id.as_deref().unwrap_or_default().is_empty() {
                rule.id = Some(format!("rule-{}", place + 1));
            }
        }
        configuration
    }

    /// The rules that count.
    pub fn enabled(&self) -> impl Iterator<Item = &Rule> {
        self.all.iter().filter(|rule| rule.enabled)
    }
}

impl Rule {
    fn of(rule: &LifecycleRule) -> Result<Rule, RulesError> {
        let id = rule.id.clone().unwrap_or_default();
        if id.is_empty() || id.chars().count() > ID_CHARS_MAX {
            let text = format!("ID length should not exceed allowed limit of {ID_CHARS_MAX}");
            return Err(RulesError::Argument(text));
        }
        let enabled = match rule.status.as_str() {
            "Enabled" => true,
            "Disabled" => false,
            _ => return malformed("a rule's Status is Enabled or Disabled"),
        };
        let some = |list: Option<usize>| list.is_some_and(|length| length > 0);
        if some(rule.transitions.as_ref().map(Vec::len))
            || some(rule.noncurrent_version_transitions.as_ref().map(Vec::len))
        {
            return Err(RulesError::NotOffered("transitions"));
        }
        let filter = match (&rule.filter, &rule.prefix) {
            (Some(filter), None) => Filter::of(filter)?,
            (None, Some(prefix)) => Filter { prefix: prefix.clone(), ..Filter::default() },
            _ => return malformed("a rule has either a Filter or a Prefix"),
        };
        let expiration = rule.expiration.as_ref().map(expiration_of).transpose()?;
        let noncurrent = rule.noncurrent_version_expiration.as_ref().map(noncurrent_of);
        let noncurrent = noncurrent.transpose()?;
        let abort = rule.abort_incomplete_multipart_upload.as_ref().map(|abort| {
            days(
                abort.days_after_initiation,
                "DaysAfterInitiation",
                "AbortIncompleteMultipartUpload",
            )
        });
        let abort = abort.transpose()?.map(|days| Abort { days });
        let rule_ = Rule { id, enabled, filter, expiration, noncurrent, abort };
        rule_.check(rule.filter.is_some())
    }

    fn check(self, has_filter: bool) -> Result<Rule, RulesError> {
        let Rule { filter, expiration, noncurrent, abort, .. } = &self;
        if expiration.is_none() && noncurrent.is_none() && abort.is_none() {
            return request("At least one action needs to be specified in a rule.");
        }
        let by_size = filter.larger_than.is_some() || filter.smaller_than.is_some();
        if abort.is_some() && !filter.tags.is_empty() {
            return request("AbortIncompleteMultipartUpload cannot be specified with Tags.");
        }
        if abort.is_some() && by_size {
            return request("AbortIncompleteMultipartUpload cannot be specified with object size.");
        }
        if *expiration == Some(Expiration::Markers) && !filter.tags.is_empty() {
            return request("ExpiredObjectDeleteMarker cannot be specified with Tags.");
        }
        if *expiration == Some(Expiration::Markers) && by_size {
            return request("ExpiredObjectDeleteMarker cannot be specified with object size.");
        }
        if noncurrent.is_some_and(|noncurrent| noncurrent.keep > 0) && !has_filter {
            return request("NewerNoncurrentVersions needs a Filter element in the rule.");
        }
        Ok(self)
    }
}

impl Filter {
    fn of(filter: &LifecycleRuleFilter) -> Result<Filter, RulesError> {
        let LifecycleRuleFilter {
            and,
            object_size_greater_than,
            object_size_less_than,
            prefix,
            tag,
        } = filter;
        let given = [
            and.is_some(),
            object_size_greater_than.is_some(),
            object_size_less_than.is_some(),
            prefix.is_some(),
            tag.is_some(),
        ];
        if given.into_iter().filter(|given| *given).count() > 1 {
            return malformed("a Filter has one of Prefix, Tag, the sizes, and And");
        }
        let (prefix, tags, larger, smaller) = match and {
            None => {
                let tags = tag.as_slice();
                (prefix, tags, object_size_greater_than, object_size_less_than)
            }
            Some(and) => {
                let tags = and.tags.as_deref().unwrap_or_default();
                let (larger, smaller) = (&and.object_size_greater_than, &and.object_size_less_than);
                if and.prefix.is_none() && tags.is_empty() && larger.is_none() && smaller.is_none()
                {
                    return malformed("an And joins something");
                }
                (&and.prefix, tags, larger, smaller)
            }
        };
        let size = |size: &Option<i64>| {
            let size = size.map(u64::try_from).transpose();
            size.map_err(|_| RulesError::Argument("an object's size is not negative".to_owned()))
        };
        let (larger_than, smaller_than) = (size(larger)?, size(smaller)?);
        if let (Some(larger), Some(smaller)) = (larger_than, smaller_than)
            && larger >= smaller
        {
            return request("ObjectSizeGreaterThan must be smaller than ObjectSizeLessThan");
        }
        let prefix = prefix.clone().unwrap_or_default();
        Ok(Filter { prefix, tags: tags_of(tags)?, larger_than, smaller_than })
    }
}

fn tags_of(tags: &[Tag]) -> Result<Vec<(String, String)>, RulesError> {
    let mut found: Vec<(String, String)> = Vec::new();
    for Tag { key, value } in tags {
        let (Some(key), Some(value)) = (key, value) else {
            return malformed("a Tag has a Key and a Value");
        };
        if key.is_empty() || key.chars().count() > TAG_KEY_CHARS_MAX {
            return request("The TagKey you have provided is invalid");
        }
        if value.chars().count() > TAG_VALUE_CHARS_MAX {
            return request("The TagValue you have provided is invalid");
        }
        if found.iter().any(|(other, _)| other == key) {
            return request("Duplicate Tag Keys are not allowed.");
        }
        found.push((key.clone(), value.clone()));
    }
    Ok(found)
}

fn days(given: Option<i32>, name: &str, action: &str) -> Result<u32, RulesError> {
    let Some(given) = given else { return malformed(format!("{action} has {name}")) };
    match u32::try_from(given) {
        Ok(days) if days > 0 => Ok(days),
        _ => Err(RulesError::Argument(format!(
            "'{name}' for {action} action must be a positive integer"
        ))),
    }
}

fn expiration_of(expiration: &LifecycleExpiration) -> Result<Expiration, RulesError> {
    let LifecycleExpiration { date, days: number, expired_object_delete_marker } = expiration;
    match (date, number, expired_object_delete_marker) {
        (None, Some(number), None) => {
            days(Some(*number), "Days", "Expiration").map(Expiration::Days)
        }
        (Some(date), None, None) => match milliseconds(date) {
            Some(ms) if ms % DAY_MS == 0 => Ok(Expiration::Date(ms)),
            _ => Err(RulesError::Argument("'Date' must be at midnight GMT".to_owned())),
        },
        (None, None, Some(true)) => Ok(Expiration::Markers),
        // A rule that says it does nothing.
        (None, None, Some(false)) => malformed("ExpiredObjectDeleteMarker is true or left out"),
        _ => malformed("an Expiration has one of Days, Date and ExpiredObjectDeleteMarker"),
    }
}

fn milliseconds(date: &Timestamp) -> Option<u64> {
    let date: time::OffsetDateTime = date.clone().into();
    let since = SystemTime::from(date).duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

fn noncurrent_of(noncurrent: &NoncurrentVersionExpiration) -> Result<Noncurrent, RulesError> {
    let action = "NoncurrentVersionExpiration";
    let days = days(noncurrent.noncurrent_days, "NoncurrentDays", action)?;
    let keep = match noncurrent.newer_noncurrent_versions {
        None => 0,
        Some(keep @ 1..=KEPT_VERSIONS_MAX) => keep.unsigned_abs(),
        Some(_) => {
            return Err(RulesError::Argument(format!(
                "'NewerNoncurrentVersions' for {action} action must be between 1 and {KEPT_VERSIONS_MAX}"
            )));
        }
    };
    Ok(Noncurrent { days, keep })
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn parse(rules: &str) -> Result<Rules, RulesError> {
        Rules::parse(format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>").as_bytes())
    }

    fn rule(inner: &str) -> Result<Rules, RulesError> {
        parse(&format!("<Rule><ID>a</ID><Status>Enabled</Status>{inner}</Rule>"))
    }

    const ALL: &str = "<Filter></Filter>";
    const DAYS: &str = "<Expiration><Days>3</Days></Expiration>";

    #[test]
    fn a_rule_is_read_with_all_it_has() {
        let rules = rule(
            "<Filter><And><Prefix>p/</Prefix><Tag><Key>k</Key><Value>v</Value></Tag>\
             <ObjectSizeGreaterThan>1</ObjectSizeGreaterThan><ObjectSizeLessThan>9</ObjectSizeLessThan>\
             </And></Filter><Expiration><Date>2026-01-01T00:00:00Z</Date></Expiration>\
             <NoncurrentVersionExpiration><NoncurrentDays>4</NoncurrentDays>\
             <NewerNoncurrentVersions>2</NewerNoncurrentVersions></NoncurrentVersionExpiration>",
        );
        let rule = rules.unwrap().all.remove(0);
        assert_eq!((rule.id.as_str(), rule.enabled), ("a", true));
        let filter = Filter {
            prefix: "p/".to_owned(),
            tags: vec![("k".to_owned(), "v".to_owned())],
            larger_than: Some(1),
            smaller_than: Some(9),
        };
        assert_eq!(rule.filter, filter);
        assert_eq!(rule.expiration, Some(Expiration::Date(1_767_225_600_000)));
        assert_eq!(rule.noncurrent, Some(Noncurrent { days: 4, keep: 2 }));
    }

    #[test]
    fn old_and_new_forms_of_a_filter_are_read() {
        for filter in [
            ALL,
            "<Prefix></Prefix>",
            "<Filter><Prefix></Prefix></Filter>",
            "<Filter><And><Prefix></Prefix></And></Filter>",
        ] {
            let rules = rule(&format!("{filter}{DAYS}")).unwrap();
            assert_eq!(rules.all[0].filter, Filter::default(), "{filter}");
        }
    }

    #[test]
    fn what_makes_no_xml_of_s3s_is_malformed() {
        let all = [
            DAYS.to_owned(),
            format!("<Prefix></Prefix>{ALL}{DAYS}"),
            format!(
                "<Filter><Prefix>a</Prefix><ObjectSizeLessThan>1</ObjectSizeLessThan></Filter>{DAYS}"
            ),
            format!("<Filter><And></And></Filter>{DAYS}"),
            format!("{ALL}<Expiration></Expiration>"),
            format!(
                "{ALL}<Expiration><Days>1</Days><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"
            ),
            format!("{ALL}<NoncurrentVersionExpiration></NoncurrentVersionExpiration>"),
            format!("{ALL}{DAYS}<Nonsense/>"),
        ];
        for inner in all {
            assert!(matches!(rule(&inner), Err(RulesError::Malformed(_))), "{inner}");
        }
        assert!(matches!(parse(""), Err(RulesError::Malformed(_))));
        let off = format!("<Rule><ID>a</ID><Status>enabled</Status>{ALL}{DAYS}</Rule>");
        assert!(matches!(parse(&off), Err(RulesError::Malformed(_))));
    }

    #[test]
    fn values_out_of_range_are_arguments() {
        let expiration = |inner: &str| format!("{ALL}<Expiration>{inner}</Expiration>");
        let noncurrent = |inner: &str| {
            format!("{ALL}<NoncurrentVersionExpiration>{inner}</NoncurrentVersionExpiration>")
        };
        let days = "<NoncurrentDays>1</NoncurrentDays>";
        let all = [
            expiration("<Days>0</Days>"),
            expiration("<Days>-1</Days>"),
            expiration("<Date>2026-01-01T00:00:01Z</Date>"),
            expiration("<Date>1969-12-31T00:00:00Z</Date>"),
            noncurrent("<NoncurrentDays>0</NoncurrentDays>"),
            noncurrent(&format!("{days}<NewerNoncurrentVersions>101</NewerNoncurrentVersions>")),
            format!("<Filter><ObjectSizeLessThan>-1</ObjectSizeLessThan></Filter>{DAYS}"),
        ];
        for inner in all {
            assert!(matches!(rule(&inner), Err(RulesError::Argument(_))), "{inner}");
        }
        let named =
            |id: &str| format!("<Rule><ID>{id}</ID><Status>Enabled</Status>{ALL}{DAYS}</Rule>");
        assert!(matches!(parse(&named("a").repeat(2)), Err(RulesError::Argument(_))));
        assert!(matches!(parse(&named(&"a".repeat(256))), Err(RulesError::Argument(_))));
        assert!(parse(&(named("a") + &named("b"))).is_ok());
    }

    #[test]
    fn what_does_not_go_together_is_an_invalid_request() {
        let tag = "<Tag><Key>k</Key><Value>v</Value></Tag>";
        let tagged = format!("<Filter>{tag}</Filter>");
        let twice = format!("<Filter><And>{tag}{tag}</And></Filter>{DAYS}");
        let abort = "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>";
        let markers =
            "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>";
        let sized = "<Filter><ObjectSizeLessThan>1</ObjectSizeLessThan></Filter>";
        let between = "<Filter><And><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan>\
            <ObjectSizeLessThan>5</ObjectSizeLessThan></And></Filter>";
        let keep = "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays>\
            <NewerNoncurrentVersions>1</NewerNoncurrentVersions></NoncurrentVersionExpiration>";
        let all = [
            ALL.to_owned(),
            format!("{tagged}{abort}"),
            format!("{tagged}{markers}"),
            format!("{sized}{abort}"),
            format!("{between}{DAYS}"),
            format!("<Prefix></Prefix>{keep}"),
            twice,
        ];
        for inner in all {
            assert!(matches!(rule(&inner), Err(RulesError::Request(_))), "{inner}");
        }
        assert!(rule(&format!("{ALL}{abort}{markers}{keep}")).is_ok());
    }

    #[test]
    fn transitions_are_not_offered() {
        let inner = format!(
            "{ALL}<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>"
        );
        assert!(matches!(rule(&inner), Err(RulesError::NotOffered(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_rules_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            // What matters is that it returns.
            drop(Rules::parse(&bytes));
        }

        #[test]
        fn any_text_in_a_rule_is_read_or_refused(inner in "(<(Filter|Prefix|Days|Expiration|And|Tag)>|[0-9-]{1,3}|</(Filter|Prefix|Days|Expiration|And|Tag)>){0,12}") {
            drop(rule(&inner));
        }
    }
}
