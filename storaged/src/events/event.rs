//! An event: its kinds, and its JSON as S3 writes it. Pure.

use crate::store::{Deleted, ETagValue, VersionRef, Written};
use s3s::dto::{Timestamp, TimestampFormat};
use serde_json::json;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// PutObject.
    CreatedPut,
    /// An upload by a form.
    CreatedPost,
    /// CopyObject.
    CreatedCopy,
    /// CompleteMultipartUpload.
    CreatedMultipart,
    /// A version went for good.
    RemovedDelete,
    /// A delete marker was put on top.
    RemovedMarker,
    /// Tags were set.
    TaggingPut,
    /// Tags were taken away.
    TaggingDelete,
    /// A list of access was set.
    AclPut,
    /// A rule of the lifecycle removed a version for good.
    ExpiredDelete,
    /// A rule of the lifecycle put a delete marker on top.
    ExpiredMarker,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [Self; 11] = [
        Self::CreatedPut,
        Self::CreatedPost,
        Self::CreatedCopy,
        Self::CreatedMultipart,
        Self::RemovedDelete,
        Self::RemovedMarker,
        Self::TaggingPut,
        Self::TaggingDelete,
        Self::AclPut,
        Self::ExpiredDelete,
        Self::ExpiredMarker,
    ];

    /// Its name, without the `s3:` that configurations put before it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CreatedPut => "ObjectCreated:Put",
            Self::CreatedPost => "ObjectCreated:Post",
            Self::CreatedCopy => "ObjectCreated:Copy",
            Self::CreatedMultipart => "ObjectCreated:CompleteMultipartUpload",
            Self::RemovedDelete => "ObjectRemoved:Delete",
            Self::RemovedMarker => "ObjectRemoved:DeleteMarkerCreated",
            Self::TaggingPut => "ObjectTagging:Put",
            Self::TaggingDelete => "ObjectTagging:Delete",
            Self::AclPut => "ObjectAcl:Put",
            Self::ExpiredDelete => "LifecycleExpiration:Delete",
            Self::ExpiredMarker => "LifecycleExpiration:DeleteMarkerCreated",
        }
    }

    /// The kinds that a configuration means by `s3:ObjectCreated:*`, `s3:ObjectCreated:Put`, …; none when
    /// it is not one that is ever told.
    #[must_use]
    pub fn named(text: &str) -> Vec<Self> {
        let Some(text) = text.strip_prefix("s3:") else { return Vec::new() };
        let fits = |kind: &Self| match text.strip_suffix('*') {
            Some(start) => start.ends_with(':') && kind.name().starts_with(start),
            None => kind.name() == text,
        };
        Self::ALL.into_iter().filter(fits).collect()
    }
}

/// Who did something, and from where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Who {
    /// The name of the account; empty for nobody's.
    pub principal: String,
    /// The address at the other end of the connection.
    pub address: Option<IpAddr>,
    /// The name of the bucket's owner, as far as it is known.
    pub owner: String,
}

/// What happened to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What.
    pub kind: EventKind,
    /// To which key.
    pub key: String,
    /// The object's bytes, if it has some.
    pub size: Option<u64>,
    /// Its entity tag without quotes, if it has one.
    pub etag: Option<String>,
    /// Its version, if the bucket keeps some.
    pub version: Option<String>,
    /// The version's number: among the events of one key, later ones have larger ones.
    pub sequence: u64,
    /// Milliseconds since 1970.
    pub time_ms: u64,
}

impl Change {
    /// That a version was written.
    #[must_use]
    pub fn created(
        kind: EventKind,
        key: String,
        size: u64,
        etag: ETagValue,
        written: &Written,
        time_ms: u64,
    ) -> Self {
        Self {
            kind,
            key,
            size: Some(size),
            etag: Some(etag.to_string()),
            version: written.shown().map(|version| version.to_string()),
            sequence: written.version.0,
            time_ms,
        }
    }

    /// That something was deleted, with a number that the same transaction was given; nothing if there
    /// was nothing to delete.
    #[must_use]
    pub fn deleted(
        (removed, marked): (EventKind, EventKind),
        key: String,
        deleted: Deleted,
        sequence: u64,
        time_ms: u64,
    ) -> Option<Self> {
        let (kind, version) = match deleted {
            Deleted::Nothing => return None,
            Deleted::Removed { version, .. } => (removed, version),
            Deleted::Marked { version } => (marked, version),
        };
        let version = match (deleted, version) {
            // What a bucket without versions has.
            (Deleted::Removed { .. }, VersionRef::Null) => None,
            (_, version) => Some(version.to_string()),
        };
        Some(Self { kind, key, size: None, etag: None, version, sequence, time_ms })
    }
}

/// A change on its way to a webhook.
pub struct Event<'a> {
    /// Who did it.
    pub who: &'a Who,
    /// In which bucket.
    pub bucket: &'a str,
    /// What.
    pub change: &'a Change,
    /// The id of the configuration that wanted it.
    pub configuration: &'a str,
}

impl Event<'_> {
    /// The JSON that a webhook gets: version 2.1 of S3's.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let Change { kind, key, size, etag, version, sequence, time_ms } = self.change;
        let mut object = json!({ "key": quoted(key), "sequencer": format!("{sequence:016X}") });
        if let Some(size) = size {
            object["size"] = json!(size);
        }
        if let Some(etag) = etag {
            object["eTag"] = json!(etag);
        }
        if let Some(version) = version {
            object["versionId"] = json!(version);
        }
        let address = self.who.address.map(|address| address.to_string()).unwrap_or_default();
        let record = json!({
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "us-east-1",
            "eventTime": timestamp(*time_ms),
            "eventName": kind.name(),
            "userIdentity": { "principalId": self.who.principal },
            "requestParameters": { "sourceIPAddress": address },
            "responseElements": {},
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": self.configuration,
                "bucket": {
                    "name": self.bucket,
                    "ownerIdentity": { "principalId": self.who.owner },
                    "arn": format!("arn:aws:s3:::{}", self.bucket),
                },
                "object": object,
            },
        });
        json!({ "Records": [record] }).to_string().into_bytes()
    }
}

/// What a webhook gets when a bucket begins to tell it things.
pub(super) fn test(bucket: &str, now_ms: u64) -> Vec<u8> {
    let event = json!({
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": timestamp(now_ms),
        "Bucket": bucket,
    });
    event.to_string().into_bytes()
}

/// A key as S3 writes it in events: as in a form.
fn quoted(key: &str) -> String {
    key.bytes().fold(String::with_capacity(key.len()), |mut text, byte| {
        match byte {
            b' ' => text.push('+'),
            _ if byte.is_ascii_alphanumeric() || b"-_.*/".contains(&byte) => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
        text
    })
}

fn timestamp(ms: u64) -> String {
    let time = Timestamp::from(UNIX_EPOCH + Duration::from_millis(ms));
    let mut text = Vec::new();
    match time.format(TimestampFormat::DateTime, &mut text) {
        Ok(()) => String::from_utf8_lossy(&text).into_owned(),
        // Beyond the calendar's end.
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn names_mean_one_kind_or_a_family() {
        assert_eq!(EventKind::named("s3:ObjectCreated:Put"), [EventKind::CreatedPut]);
        assert_eq!(EventKind::named("s3:ObjectCreated:*").len(), 4);
        assert_eq!(EventKind::named("s3:LifecycleExpiration:*").len(), 2);
        for none in ["ObjectCreated:Put", "s3:*", "s3:ObjectCreated*", "s3:ObjectRestore:Post", ""]
        {
            assert_eq!(EventKind::named(none), [], "{none}");
        }
        for kind in EventKind::ALL {
            assert_eq!(EventKind::named(&format!("s3:{}", kind.name())), [kind]);
        }
    }

    #[test]
    fn an_event_has_the_shape_of_s3s() {
        let who = Who {
            principal: "ada".to_owned(),
            address: Some([10, 0, 0, 1].into()),
            owner: "bob".to_owned(),
        };
        let change = Change {
            kind: EventKind::CreatedPut,
            key: "a b/ü+".to_owned(),
            size: Some(3),
            etag: Some("00ff".to_owned()),
            version: None,
            sequence: 255,
            time_ms: 1_767_225_600_123,
        };
        let event = Event { who: &who, bucket: "b", change: &change, configuration: "c" };
        let value: serde_json::Value = serde_json::from_slice(&event.to_json()).unwrap();
        let record = &value["Records"][0];
        assert_eq!(record["eventName"], "ObjectCreated:Put");
        assert_eq!(record["eventTime"], "2026-01-01T00:00:00.123Z");
        assert_eq!(record["userIdentity"]["principalId"], "ada");
        assert_eq!(record["requestParameters"]["sourceIPAddress"], "10.0.0.1");
        let s3 = &record["s3"];
        assert_eq!((&s3["bucket"]["name"], &s3["configurationId"]), (&json!("b"), &json!("c")));
        assert_eq!(s3["bucket"]["ownerIdentity"]["principalId"], "bob");
        assert_eq!(s3["object"]["key"], "a+b/%C3%BC%2B");
        assert_eq!((&s3["object"]["size"], &s3["object"]["eTag"]), (&json!(3), &json!("00ff")));
        assert_eq!(s3["object"]["sequencer"], "00000000000000FF");
        assert!(s3["object"].get("versionId").is_none());
    }
}
