//! Which events of a bucket go to which webhook. Pure.

use super::{ARN_PREFIX, EventKind};
use s3s::dto::{FilterRule, NotificationConfiguration, QueueConfiguration};
use s3s::xml::{Deserialize, Deserializer};
use thiserror::Error;

/// Configurations of a bucket: as S3 has it.
const TARGETS_MAX: usize = 100;
/// Characters of a filter's value: as long as a key.
const FILTER_CHARS_MAX: usize = 1024;
/// Bytes of a configuration's id: as S3 has it.
const ID_BYTES_MAX: usize = 255;

/// A bucket's configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules(Vec<Target>);

/// One configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its id.
    pub id: String,
    /// The webhook that it is for.
    pub webhook: String,
    kinds: Vec<EventKind>,
    prefix: String,
    suffix: String,
}

/// Why a notification configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RulesError {
    /// It is no such document.
    #[error("the document is not what it should be: {0}")]
    Malformed(String),
    /// Something in it makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// It asks for something that is not offered.
    #[error("{0} are not offered: events go to webhooks, as QueueConfiguration")]
    NotOffered(&'static str),
}

impl Rules {
    /// The rules that a document holds.
    ///
    /// # Errors
    /// [`RulesError`].
    pub fn parse(document: &[u8]) -> Result<Rules, RulesError> {
        let malformed = |error: s3s::xml::DeError| RulesError::Malformed(error.to_string());
        let mut deserializer = Deserializer::new(document);
        let configuration =
            NotificationConfiguration::deserialize(&mut deserializer).map_err(malformed)?;
        deserializer.expect_eof().map_err(malformed)?;
        Rules::of(&configuration)
    }

    /// The rules of a configuration.
    ///
    /// # Errors
    /// [`RulesError`].
    pub fn of(configuration: &NotificationConfiguration) -> Result<Rules, RulesError> {
        if configuration.event_bridge_configuration.is_some() {
            return Err(RulesError::NotOffered("EventBridge configurations"));
        }
        let some = |list: Option<usize>| list.is_some_and(|length| length > 0);
        if some(configuration.topic_configurations.as_ref().map(Vec::len)) {
            return Err(RulesError::NotOffered("topics"));
        }
        if some(configuration.lambda_function_configurations.as_ref().map(Vec::len)) {
            return Err(RulesError::NotOffered("functions"));
        }
        let queues = configuration.queue_configurations.as_deref().unwrap_or_default();
        if queues.len() > TARGETS_MAX {
            let text = format!("a bucket has at most {TARGETS_MAX} notification configurations");
            return Err(RulesError::Invalid(text));
        }
        let targets: Vec<_> = queues.iter().map(Target::of).collect::<Result<_, _>>()?;
        for (at, one) in targets.iter().enumerate() {
            let others = &targets[at + 1..];
            if others.iter().any(|other| other.id == one.id) {
                let text = "the ids of notification configurations must differ".to_owned();
                return Err(RulesError::Invalid(text));
            }
            if others.iter().any(|other| one.overlaps(other)) {
                let text = "Configurations overlap. Configurations on the same bucket cannot share a common event type.";
                return Err(RulesError::Invalid(text.to_owned()));
            }
        }
        Ok(Rules(targets))
    }

    /// The same configuration with an id for each that has none: its place among them.
    #[must_use]
    pub fn with_ids(mut configuration: NotificationConfiguration) -> NotificationConfiguration {
        let queues = configuration.queue_configurations.iter_mut().flatten();
        for (place, queue) in queues.enumerate() {
            if queue.id.as_deref().unwrap_or_default().is_empty() {
                queue.id = Some(format!("configuration-{}", place + 1));
            }
        }
        configuration
    }

    /// Whether nothing is wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All configurations.
    pub fn all(&self) -> impl Iterator<Item = &Target> {
        self.0.iter()
    }

    /// The configurations that want this.
    pub fn targets(&self, kind: EventKind, key: &str) -> impl Iterator<Item = &Target> {
        self.0.iter().filter(move |target| target.wants(kind, key))
    }
}

impl Target {
    fn of(queue: &QueueConfiguration) -> Result<Target, RulesError> {
        let invalid = |text: String| Err(RulesError::Invalid(text));
        let Some(webhook) = queue.queue_arn.strip_prefix(ARN_PREFIX).filter(|n| !n.is_empty())
        else {
            return invalid(format!(
                "Unable to validate the following destination configurations: {} is not {ARN_PREFIX}NAME",
                queue.queue_arn
            ));
        };
        let mut kinds = Vec::new();
        for event in &queue.events {
            let named = EventKind::named(event.as_ref());
            if named.is_empty() {
                return invalid(format!(
                    "The event '{}' is not supported for notifications",
                    event.as_ref()
                ));
            }
            kinds.extend(named);
        }
        if kinds.is_empty() {
            return Err(RulesError::Malformed("a configuration names events".to_owned()));
        }
        let id = queue.id.clone().unwrap_or_default();
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return invalid(format!("an id has 1 to {ID_BYTES_MAX} bytes"));
        }
        let filter = queue.filter.as_ref().and_then(|filter| filter.key.as_ref());
        let filters = filter.and_then(|key| key.filter_rules.as_deref()).unwrap_or_default();
        let (prefix, suffix) = filter_of(filters)?;
        Ok(Target { id, webhook: webhook.to_owned(), kinds, prefix, suffix })
    }

    fn wants(&self, kind: EventKind, key: &str) -> bool {
        self.kinds.contains(&kind) && key.starts_with(&self.prefix) && key.ends_with(&self.suffix)
    }

    /// Whether an event can be wanted by both.
    fn overlaps(&self, other: &Target) -> bool {
        let either = |fits: &dyn Fn(&str, &str) -> bool, a: &str, b: &str| fits(a, b) || fits(b, a);
        self.kinds.iter().any(|kind| other.kinds.contains(kind))
            && either(&|a, b| a.starts_with(b), &self.prefix, &other.prefix)
            && either(&|a, b| a.ends_with(b), &self.suffix, &other.suffix)
    }
}

fn filter_of(rules: &[FilterRule]) -> Result<(String, String), RulesError> {
    let (mut prefix, mut suffix) = (None, None);
    for rule in rules {
        let name = rule.name.as_ref().map(|name| name.as_str().to_ascii_lowercase());
        let place = match name.as_deref() {
            Some("prefix") => &mut prefix,
            Some("suffix") => &mut suffix,
            _ => {
                let text = "filter rule name must be either prefix or suffix".to_owned();
                return Err(RulesError::Invalid(text));
            }
        };
        let value = rule.value.clone().unwrap_or_default();
        if value.chars().count() > FILTER_CHARS_MAX {
            let text = format!("a filter has at most {FILTER_CHARS_MAX} characters");
            return Err(RulesError::Invalid(text));
        }
        if place.replace(value).is_some() {
            let text = "Cannot specify more than one prefix rule or suffix rule in a filter.";
            return Err(RulesError::Invalid(text.to_owned()));
        }
    }
    Ok((prefix.unwrap_or_default(), suffix.unwrap_or_default()))
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn queue(id: &str, event: &str, prefix: &str, suffix: &str) -> String {
        format!(
            "<QueueConfiguration><Id>{id}</Id><Queue>{ARN_PREFIX}hook</Queue><Event>{event}</Event>\
             <Filter><S3Key><FilterRule><Name>Prefix</Name><Value>{prefix}</Value></FilterRule>\
             <FilterRule><Name>suffix</Name><Value>{suffix}</Value></FilterRule></S3Key></Filter>\
             </QueueConfiguration>"
        )
    }

    fn parse(inner: &str) -> Result<Rules, RulesError> {
        let text = format!("<NotificationConfiguration>{inner}</NotificationConfiguration>");
        Rules::parse(text.as_bytes())
    }

    #[test]
    fn an_event_is_wanted_by_kind_prefix_and_suffix() {
        let rules = parse(&queue("a", "s3:ObjectCreated:*", "in/", ".jpg")).unwrap();
        let wanted = |kind, key| rules.targets(kind, key).map(|t| &*t.webhook).collect::<Vec<_>>();
        assert_eq!(wanted(EventKind::CreatedPut, "in/x.jpg"), ["hook"]);
        assert!(wanted(EventKind::CreatedPut, "in/x.png").is_empty());
        assert!(wanted(EventKind::CreatedPut, "out/x.jpg").is_empty());
        assert!(wanted(EventKind::RemovedDelete, "in/x.jpg").is_empty());
        assert!(parse("").unwrap().is_empty());
        let nameless = queue("", "s3:ObjectCreated:*", "", "");
        assert!(parse(&nameless).is_err());
        let text = format!("<NotificationConfiguration>{nameless}</NotificationConfiguration>");
        let mut deserializer = Deserializer::new(text.as_bytes());
        let nameless = NotificationConfiguration::deserialize(&mut deserializer).unwrap();
        let rules = Rules::of(&Rules::with_ids(nameless)).unwrap();
        assert_eq!(rules.all().next().unwrap().id, "configuration-1");
    }

    #[test]
    fn configurations_that_overlap_are_refused() {
        let two = |a: String, b: String| parse(&(a + &b)).is_ok();
        let put = "s3:ObjectCreated:Put";
        assert!(two(queue("a", put, "x/", ""), queue("b", put, "y/", "")));
        assert!(two(queue("a", put, "", ".jpg"), queue("b", put, "", ".png")));
        assert!(two(queue("a", put, "", ""), queue("b", "s3:ObjectRemoved:*", "", "")));
        assert!(!two(queue("a", put, "x/", ""), queue("b", put, "x/y", "")));
        assert!(!two(queue("a", put, "", ""), queue("b", "s3:ObjectCreated:*", "", ".png")));
        assert!(!two(queue("a", put, "x/", ""), queue("a", put, "y/", "")));
    }

    #[test]
    fn what_is_not_offered_is_refused() {
        let arn =
            queue("a", "s3:ObjectCreated:Put", "", "").replace(ARN_PREFIX, "arn:aws:sqs:x:1:");
        assert!(matches!(parse(&arn), Err(RulesError::Invalid(_))));
        let event = queue("a", "s3:ObjectRestore:Post", "", "");
        assert!(matches!(parse(&event), Err(RulesError::Invalid(_))));
        let topic = "<TopicConfiguration><Topic>t</Topic><Event>s3:ObjectCreated:Put</Event></TopicConfiguration>";
        assert!(matches!(parse(topic), Err(RulesError::NotOffered(_))));
        let bridge = "<EventBridgeConfiguration></EventBridgeConfiguration>";
        assert!(matches!(parse(bridge), Err(RulesError::NotOffered(_))));
        let nonsense = "<QueueConfiguration><Nonsense/></QueueConfiguration>";
        assert!(matches!(parse(nonsense), Err(RulesError::Malformed(_))));
        let twice = queue("a", "s3:ObjectCreated:Put", "", "").replace("suffix", "prefix");
        assert!(matches!(parse(&twice), Err(RulesError::Invalid(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_rules_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            // What matters is that it returns.
            drop(Rules::parse(&bytes));
        }

        #[test]
        fn no_event_goes_to_two_configurations(
            filters in proptest::collection::vec(("[ab]{0,2}", "[ab]{0,2}", 0_usize..3), 0..4),
            key in "[ab]{0,4}",
        ) {
            let events = ["s3:ObjectCreated:*", "s3:ObjectCreated:Put", "s3:ObjectRemoved:*"];
            let text: String = filters
                .iter()
                .enumerate()
                .map(|(n, (prefix, suffix, event))| {
                    queue(&n.to_string(), events[*event], prefix, suffix)
                })
                .collect();
            if let Ok(rules) = parse(&text) {
                for kind in EventKind::ALL {
                    prop_assert!(rules.targets(kind, &key).count() <= 1);
                }
            }
        }
    }
}
