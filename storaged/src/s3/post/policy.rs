//! The policy of a form: until when it may be used, and for what. Pure.

use super::form::Head;
use s3s::dto::{Timestamp, TimestampFormat};
use serde_json::Value;
use thiserror::Error;

/// Fields that no condition needs to name: as S3 has them.
const FREE: [&str; 4] = ["x-amz-signature", "policy", "file", "bucket"];
/// The beginning of the names of fields that mean nothing.
const IGNORED: &str = "x-ignore-";

/// Why a text is no policy.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// It is no JSON.
    #[error("the policy is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It is JSON, but no policy.
    #[error("the policy's {what} is missing or malformed")]
    Malformed {
        /// What.
        what: &'static str,
    },
}

/// How a form breaks its policy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Violation {
    /// It is too late.
    #[error("Invalid according to Policy: Policy expired.")]
    Expired,
    /// A field is not as the policy wants it.
    #[error(
        "Invalid according to Policy: Policy Condition failed: [\"{operator}\", \"${name}\", \"{value}\"]"
    )]
    Failed {
        /// `eq` or `starts-with`.
        operator: &'static str,
        /// The field.
        name: String,
        /// What was wanted.
        value: String,
    },
    /// A field that the policy does not name.
    #[error("Invalid according to Policy: Extra input fields: {name}")]
    Extra {
        /// The field.
        name: String,
    },
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    /// The field has this value.
    Equal { name: String, value: String },
    /// The field's value starts so.
    StartsWith { name: String, prefix: String },
    /// The file has so many bytes, bounds included.
    Length { min: u64, max: u64 },
}

/// A policy.
#[derive(Debug, Clone)]
pub struct Policy {
    expires: Timestamp,
    conditions: Vec<Condition>,
}

/// Reads a policy.
///
/// # Errors
/// When it is none.
pub fn parse(json: &[u8]) -> Result<Policy, PolicyError> {
    let json: Value = serde_json::from_slice(json)?;
    let malformed = |what| PolicyError::Malformed { what };
    let expires = json.get("expiration").and_then(Value::as_str);
    let expires = expires.and_then(|text| Timestamp::parse(TimestampFormat::DateTime, text).ok());
    let conditions = json.get("conditions").and_then(Value::as_array);
    let conditions = conditions.ok_or(malformed("list of conditions"))?;
    let mut all = Vec::new();
    for condition in conditions {
        all.extend(read(condition).ok_or(malformed("condition"))?);
    }
    Ok(Policy { expires: expires.ok_or(malformed("expiration"))?, conditions: all })
}

/// `{"name": "value"}`, `["eq", "$name", "value"]`, `["content-length-range", 1, 2]`.
fn read(condition: &Value) -> Option<Vec<Condition>> {
    match condition {
        Value::Object(fields) => {
            let equal = |(name, value): (&String, &Value)| {
                Some(Condition::Equal { name: name.to_ascii_lowercase(), value: text(value)? })
            };
            fields.iter().map(equal).collect()
        }
        Value::Array(items) => {
            let [operator, first, second] = &items[..] else { return None };
            let field = || {
                let name = first.as_str()?.strip_prefix('$')?;
                Some((name.to_ascii_lowercase(), text(second)?))
            };
            let condition = match operator.as_str()?.to_ascii_lowercase().as_str() {
                "eq" => field().map(|(name, value)| Condition::Equal { name, value })?,
                "starts-with" => {
                    field().map(|(name, prefix)| Condition::StartsWith { name, prefix })?
                }
                "content-length-range" => {
                    Condition::Length { min: number(first)?, max: number(second)? }
                }
                _ => return None,
            };
            Some(vec![condition])
        }
        _ => None,
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(_) | Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Libraries write numbers as texts, too.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

impl Policy {
    /// Whether a form keeps to the policy; how long its file is shows later.
    ///
    /// # Errors
    /// How it does not.
    pub fn check(&self, head: &Head, bucket: &str, now: &Timestamp) -> Result<(), Violation> {
        if *now >= self.expires {
            return Err(Violation::Expired);
        }
        for condition in &self.conditions {
            let (operator, name, value, holds) = match condition {
                Condition::Length { .. } => continue,
                Condition::Equal { name, value } => {
                    ("eq", name, value, field(head, bucket, name) == Some(value))
                }
                Condition::StartsWith { name, prefix } => {
                    let found = field(head, bucket, name).unwrap_or_default();
                    ("starts-with", name, prefix, starts_with(name, found, prefix))
                }
            };
            if !holds {
                let (name, value) = (name.clone(), value.clone());
                return Err(Violation::Failed { operator, name, value });
            }
        }
        let extra = head.fields.iter().map(|(name, _)| name).find(|name| !self.covers(name));
        extra.map_or(Ok(()), |name| Err(Violation::Extra { name: name.clone() }))
    }

    /// How many bytes the file may have, bounds included.
    #[must_use]
    pub fn length(&self) -> (u64, u64) {
        let ranges = self.conditions.iter().filter_map(|condition| match condition {
            Condition::Length { min, max } => Some((*min, *max)),
            Condition::Equal { .. } | Condition::StartsWith { .. } => None,
        });
        ranges.fold((0, u64::MAX), |(low, high), (min, max)| (low.max(min), high.min(max)))
    }

    fn covers(&self, field: &str) -> bool {
        FREE.contains(&field)
            || field.starts_with(IGNORED)
            || self.conditions.iter().any(|condition| match condition {
                Condition::Equal { name, .. } | Condition::StartsWith { name, .. } => name == field,
                Condition::Length { .. } => false,
            })
    }
}

/// The bucket is the address's, whatever the form says.
fn field<'a>(head: &'a Head, bucket: &'a str, name: &str) -> Option<&'a str> {
    if name == "bucket" { Some(bucket) } else { head.field(name) }
}

/// A list of content types must start so in each of its items.
fn starts_with(name: &str, value: &str, prefix: &str) -> bool {
    if name == "content-type" {
        value.split(',').all(|item| item.trim_start().starts_with(prefix))
    } else {
        value.starts_with(prefix)
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn head(fields: &[(&str, &str)]) -> Head {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Head { fields: fields.iter().map(own).collect(), file_name: None, length: 0 }
    }

    fn check(conditions: &str, fields: &[(&str, &str)]) -> Result<(), Violation> {
        let json =
            format!("{{\"expiration\": \"2030-01-01T00:00:00Z\", \"conditions\": {conditions}}}");
        let now = Timestamp::parse(TimestampFormat::DateTime, "2029-12-31T23:59:59Z").unwrap();
        parse(json.as_bytes()).unwrap().check(&head(fields), "b", &now)
    }

    #[test]
    fn conditions_hold_or_say_which_does_not() {
        let all = r#"[{"bucket": "b"}, ["starts-with", "$key", "user/"], {"acl": "private"}]"#;
        assert_eq!(check(all, &[("key", "user/x"), ("acl", "private"), ("policy", "p")]), Ok(()));
        let failed = |fields: &[(&str, &str)]| match check(all, fields).unwrap_err() {
            Violation::Failed { name, .. } => name,
            other => panic!("{other}"),
        };
        assert_eq!(failed(&[("key", "other/x"), ("acl", "private")]), "key");
        assert_eq!(failed(&[("key", "user/x"), ("acl", "public-read")]), "acl");
        assert_eq!(failed(&[("key", "user/x")]), "acl");
        let elsewhere = check(r#"[{"bucket": "c"}]"#, &[("bucket", "c")]);
        assert!(matches!(elsewhere, Err(Violation::Failed { .. })));
    }

    #[test]
    fn every_field_needs_a_condition() {
        let extra = check("[]", &[("x-amz-meta-a", "1")]);
        assert_eq!(extra, Err(Violation::Extra { name: "x-amz-meta-a".to_owned() }));
        assert_eq!(
            check(r#"[["starts-with", "$x-amz-meta-A", ""]]"#, &[("x-amz-meta-a", "1")]),
            Ok(())
        );
        assert_eq!(check("[]", &[("x-ignore-me", "1"), ("x-amz-signature", "s")]), Ok(()));
    }

    #[test]
    fn each_type_of_a_list_must_start_so() {
        let images = r#"[["starts-with", "$Content-Type", "image/"]]"#;
        assert_eq!(check(images, &[("content-type", "image/a, image/b")]), Ok(()));
        assert!(check(images, &[("content-type", "image/a,text/b")]).is_err());
    }

    #[test]
    fn time_and_length_are_bounded() {
        let json = r#"{"expiration": "2030-01-01T00:00:00.000Z", "conditions":
            [["content-length-range", 1, "10"], ["content-length-range", 0, 5]]}"#;
        let policy = parse(json.as_bytes()).unwrap();
        assert_eq!(policy.length(), (1, 5));
        let late = Timestamp::parse(TimestampFormat::DateTime, "2030-01-01T00:00:00Z").unwrap();
        assert_eq!(policy.check(&head(&[]), "b", &late), Err(Violation::Expired));
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        let wrong = [
            "",
            "[]",
            r#"{"expiration": "2030-01-01T00:00:00Z"}"#,
            r#"{"conditions": []}"#,
            r#"{"expiration": "soon", "conditions": []}"#,
            r#"{"expiration": "2030-01-01T00:00:00Z", "conditions": [["eq", "key", "x"]]}"#,
            r#"{"expiration": "2030-01-01T00:00:00Z", "conditions": [["like", "$key", "x"]]}"#,
            r#"{"expiration": "2030-01-01T00:00:00Z", "conditions": [["content-length-range", -1, 2]]}"#,
            r#"{"expiration": "2030-01-01T00:00:00Z", "conditions": [{"a": []}]}"#,
        ];
        for text in wrong {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_unless_it_is_an_object_with_both_halves(
            text in "\\PC{0,60}", inner in "[\\[\\]{}\",$a-z0-9:]{0,60}",
        ) {
            prop_assert!(parse(text.as_bytes()).is_err());
            let json = format!("{{\"expiration\": \"2030-01-01T00:00:00Z\", \"conditions\": [{inner}]}}");
            if parse(json.as_bytes()).is_ok() {
                prop_assert!(serde_json::from_str::<Value>(&json).is_ok());
            }
        }
    }
}
