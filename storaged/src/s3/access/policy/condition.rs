//! Conditions of a statement: operators, what they compare with, and whether they hold. Pure.

use super::key::Key;
use super::net::Net;
use super::pattern::{Pattern, Syntax, Unresolved};
use s3s::dto::{Timestamp, TimestampFormat};
use std::cmp::Ordering;

/// How one value is compared with one operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Text { fold_case: bool, wildcards: bool },
    Number(Order),
    Date(Order),
    Bool,
    Address,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    fn holds(self, found: Ordering) -> bool {
        match self {
            Order::Equal => found.is_eq(),
            Order::Less => found.is_lt(),
            Order::LessOrEqual => found.is_le(),
            Order::Greater => found.is_gt(),
            Order::GreaterOrEqual => found.is_ge(),
        }
    }
}

/// What is asked of a key with several values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Plain,
    All,
    Any,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Text(Pattern),
    Number(f64),
    Date(Timestamp),
    Bool(bool),
    Net(Net),
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    /// Whether the key has no value.
    Null(bool),
    Compare {
        set: Set,
        compare: Compare,
        negated: bool,
        if_exists: bool,
        operands: Vec<Operand>,
    },
}

/// One condition: an operator, a key, and values of which one must match.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    key: Key,
    test: Test,
}

/// Why a condition is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// Not an operator.
    #[error("{0} is no condition operator that is known")]
    Operator(String),
    /// Not a key.
    #[error("{0} is no condition key that is known")]
    Key(String),
    /// Not a value of the operator's type.
    #[error("{value:?} is no value for {operator}")]
    Value {
        /// The operator.
        operator: String,
        /// The value.
        value: String,
    },
    /// Nothing to compare with.
    #[error("{0} has no values")]
    NoValues(String),
}

/// What a request says of a key; none if it says nothing.
pub type Values<'a> = dyn Fn(&Key) -> Option<Vec<String>> + 'a;

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// When operator, key or a value is none that is known.
    pub fn parse(
        operator: &str,
        key: &str,
        values: &[String],
        variables: bool,
    ) -> Result<Condition, ConditionError> {
        let key = Key::parse(key).ok_or_else(|| ConditionError::Key(key.to_owned()))?;
        if values.is_empty() {
            return Err(ConditionError::NoValues(operator.to_owned()));
        }
        let wrong = |value: &str| ConditionError::Value {
            operator: operator.to_owned(),
            value: value.to_owned(),
        };
        if operator == "Null" {
            let [value] = values else { return Err(wrong(&values.join(", "))) };
            let value = boolean(value).ok_or_else(|| wrong(value))?;
            return Ok(Condition { key, test: Test::Null(value) });
        }
        let (set, rest) = match operator.split_once(':') {
            None => (Set::Plain, operator),
            Some(("ForAllValues", rest)) => (Set::All, rest),
            Some(("ForAnyValue", rest)) => (Set::Any, rest),
            Some(_) => return Err(ConditionError::Operator(operator.to_owned())),
        };
        let (name, if_exists) =
            rest.strip_suffix("IfExists").map_or((rest, false), |name| (name, true));
        let known = compare(name).ok_or_else(|| ConditionError::Operator(operator.to_owned()))?;
        let (compare, negated) = known;
        let operand = |text: &String| operand(compare, text, variables).ok_or_else(|| wrong(text));
        let operands = values.iter().map(operand).collect::<Result<_, _>>()?;
        Ok(Condition { key, test: Test::Compare { set, compare, negated, if_exists, operands } })
    }

    /// The keys whose values it needs.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        let operands: &[Operand] = match &self.test {
            Test::Null(_) => &[],
            Test::Compare { operands, .. } => operands,
        };
        let inside = operands.iter().filter_map(|operand| match operand {
            Operand::Text(pattern) => Some(pattern.variables()),
            _ => None,
        });
        std::iter::once(&self.key).chain(inside.flatten())
    }

    /// Whether it holds.
    ///
    /// # Errors
    /// When one of its values has a variable that the request says nothing of.
    pub fn holds(&self, values: &Values<'_>) -> Result<bool, Unresolved> {
        let found = values(&self.key);
        let Test::Compare { set, compare, negated, if_exists, operands } = &self.test else {
            return Ok(matches!(self.test, Test::Null(null) if null == found.is_none()));
        };
        let Some(found) = found.filter(|found| !found.is_empty()) else {
            return Ok(match set {
                Set::All => true,
                Set::Any => *if_exists,
                Set::Plain => *if_exists || *negated,
            });
        };
        let one = |key: &Key| values(key).and_then(|mut values| values.pop());
        let satisfied = |value: &String| -> Result<bool, Unresolved> {
            let mut any = false;
            for operand in operands {
                any |= operand.matches(value, *compare, &one)?;
            }
            Ok(any != *negated)
        };
        let each = found.iter().map(satisfied).collect::<Result<Vec<_>, _>>()?;
        Ok(match set {
            // A negated operator on several values: none of them may match.
            Set::All => each.into_iter().all(|holds| holds),
            Set::Plain if *negated => each.into_iter().all(|holds| holds),
            Set::Plain | Set::Any => each.into_iter().any(|holds| holds),
        })
    }

    /// Whether it keeps out the public: it holds only for what is named, with no wildcard, of where a
    /// request comes from or who makes it.
    #[must_use]
    pub fn is_private(&self) -> bool {
        let Test::Compare { set, compare, negated: false, if_exists: false, operands } = &self.test
        else {
            return false;
        };
        let narrow = |operand: &Operand| match operand {
            Operand::Net(net) => net.is_narrow(),
            Operand::Text(pattern) => pattern.is_fixed(),
            Operand::Number(_) | Operand::Date(_) | Operand::Bool(_) => false,
        };
        let named = match self.key {
            Key::SourceIp => *compare == Compare::Address,
            Key::PrincipalAccount | Key::PrincipalArn | Key::Username | Key::UserId => true,
            _ => false,
        };
        named && *set != Set::All && operands.iter().all(narrow)
    }
}

fn compare(name: &str) -> Option<(Compare, bool)> {
    use Order::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
    let text = |fold_case, wildcards| Compare::Text { fold_case, wildcards };
    Some(match name {
        "StringEquals" => (text(false, false), false),
        "StringNotEquals" => (text(false, false), true),
        "StringEqualsIgnoreCase" => (text(true, false), false),
        "StringNotEqualsIgnoreCase" => (text(true, false), true),
        "StringLike" | "ArnLike" | "ArnEquals" => (text(false, true), false),
        "StringNotLike" | "ArnNotLike" | "ArnNotEquals" => (text(false, true), true),
        "NumericEquals" => (Compare::Number(Equal), false),
        "NumericNotEquals" => (Compare::Number(Equal), true),
        "NumericLessThan" => (Compare::Number(Less), false),
        "NumericLessThanEquals" => (Compare::Number(LessOrEqual), false),
        "NumericGreaterThan" => (Compare::Number(Greater), false),
        "NumericGreaterThanEquals" => (Compare::Number(GreaterOrEqual), false),
        "DateEquals" => (Compare::Date(Equal), false),
        "DateNotEquals" => (Compare::Date(Equal), true),
        "DateLessThan" => (Compare::Date(Less), false),
        "DateLessThanEquals" => (Compare::Date(LessOrEqual), false),
        "DateGreaterThan" => (Compare::Date(Greater), false),
        "DateGreaterThanEquals" => (Compare::Date(GreaterOrEqual), false),
        "Bool" => (Compare::Bool, false),
        "IpAddress" => (Compare::Address, false),
        "NotIpAddress" => (Compare::Address, true),
        _ => return None,
    })
}

fn operand(compare: Compare, text: &str, variables: bool) -> Option<Operand> {
    match compare {
        Compare::Text { wildcards, .. } => {
            Pattern::parse(text, Syntax { wildcards, variables }).ok().map(Operand::Text)
        }
        Compare::Number(_) => number(text).map(Operand::Number),
        Compare::Date(_) => date(text).map(Operand::Date),
        Compare::Bool => boolean(text).map(Operand::Bool),
        Compare::Address => Net::parse(text).map(Operand::Net),
    }
}

impl Operand {
    /// A value that is not of the operator's type does not match.
    fn matches(
        &self,
        value: &str,
        compare: Compare,
        variable: &dyn Fn(&Key) -> Option<String>,
    ) -> Result<bool, Unresolved> {
        match (self, compare) {
            (Operand::Text(pattern), Compare::Text { fold_case, .. }) => {
                pattern.matches(value, fold_case, variable)
            }
            (Operand::Number(own), Compare::Number(order)) => {
                let found = number(value).and_then(|value| value.partial_cmp(own));
                Ok(found.is_some_and(|found| order.holds(found)))
            }
            (Operand::Date(own), Compare::Date(order)) => {
                Ok(date(value).is_some_and(|value| order.holds(value.cmp(own))))
            }
            (Operand::Bool(own), _) => Ok(boolean(value) == Some(*own)),
            (Operand::Net(net), _) => Ok(value.parse().is_ok_and(|address| net.contains(address))),
            (Operand::Text(_) | Operand::Number(_) | Operand::Date(_), _) => Ok(false),
        }
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.".contains(&b));
    text.parse().ok().filter(|_| plain)
}

/// A date as ISO 8601 has it, with or without a time, or seconds since 1970.
fn date(text: &str) -> Option<Timestamp> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Timestamp::parse(TimestampFormat::EpochSeconds, text).ok();
    }
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        _ => text.to_owned(),
    };
    Timestamp::parse(TimestampFormat::DateTime, &whole).ok()
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn holds(operator: &str, values: &[&str], found: Option<&[&str]>) -> bool {
        let values: Vec<_> = values.iter().map(|value| (*value).to_owned()).collect();
        let condition = Condition::parse(operator, "aws:UserAgent", &values, true).unwrap();
        let found = found.map(|found| found.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>());
        condition.holds(&|key| if *key == Key::UserAgent { found.clone() } else { None }).unwrap()
    }

    fn one(operator: &str, value: &str, found: &str) -> bool {
        holds(operator, &[value], Some(&[found]))
    }

    #[test]
    fn texts_are_compared_as_the_operator_says() {
        assert!(one("StringEquals", "a*", "a*") && !one("StringEquals", "a*", "ab"));
        assert!(one("StringLike", "a*", "ab") && !one("StringNotLike", "a*", "ab"));
        assert!(one("StringEqualsIgnoreCase", "AB", "ab"));
        assert!(!one("StringNotEqualsIgnoreCase", "AB", "ab"));
        assert!(holds("StringEquals", &["a", "b"], Some(&["b"])));
        assert!(!holds("StringNotEquals", &["a", "b"], Some(&["b"])));
    }

    #[test]
    fn numbers_dates_and_addresses_have_an_order_of_their_own() {
        assert!(one("NumericLessThanEquals", "10", "9") && one("NumericEquals", "1.0", "1"));
        assert!(!one("NumericLessThan", "10", "ten") && one("NumericNotEquals", "10", "ten"));
        assert!(one("DateGreaterThan", "2020-01-01", "2020-01-01T00:00:01Z"));
        assert!(one("DateLessThan", "2020-01-01T00:00:00Z", "1577836799"));
        assert!(one("Bool", "true", "True") && !one("Bool", "true", "false"));
        assert!(one("IpAddress", "10.0.0.0/8", "10.1.2.3"));
        assert!(!one("IpAddress", "10.0.0.0/8", "11.1.2.3") && one("IpAddress", "::1", "::1"));
        assert!(one("NotIpAddress", "10.0.0.0/8", "::1"));
    }

    #[test]
    fn what_is_missing_is_decided_by_the_operator() {
        assert!(!holds("StringEquals", &["a"], None) && holds("StringNotEquals", &["a"], None));
        assert!(holds("StringEqualsIfExists", &["a"], None));
        assert!(!holds("StringEqualsIfExists", &["a"], Some(&["b"])));
        assert!(holds("Null", &["true"], None) && !holds("Null", &["false"], None));
        assert!(holds("Null", &["false"], Some(&["a"])));
        assert!(holds("ForAllValues:StringEquals", &["a"], None));
        assert!(!holds("ForAnyValue:StringEquals", &["a"], None));
        assert!(!holds("NumericLessThan", &["3"], None) && holds("NotIpAddress", &["::1"], None));
    }

    #[test]
    fn sets_ask_all_or_any() {
        assert!(holds("ForAllValues:StringEquals", &["a", "b"], Some(&["a", "b"])));
        assert!(!holds("ForAllValues:StringEquals", &["a"], Some(&["a", "b"])));
        assert!(holds("ForAnyValue:StringEquals", &["a"], Some(&["a", "b"])));
        assert!(holds("ForAnyValue:StringNotEquals", &["a"], Some(&["a", "b"])));
        assert!(!holds("ForAllValues:StringNotEquals", &["a"], Some(&["a", "b"])));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let refused = |operator: &str, key: &str, values: &[&str]| {
            let values: Vec<_> = values.iter().map(|value| (*value).to_owned()).collect();
            Condition::parse(operator, key, &values, true).unwrap_err()
        };
        use ConditionError as E;
        assert!(matches!(refused("StringIs", "aws:SourceIp", &["a"]), E::Operator(_)));
        assert!(matches!(refused("ForSome:Bool", "aws:SourceIp", &["true"]), E::Operator(_)));
        assert!(matches!(refused("BinaryEquals", "aws:SourceIp", &["a"]), E::Operator(_)));
        assert!(matches!(refused("NullIfExists", "aws:SourceIp", &["true"]), E::Operator(_)));
        assert!(matches!(refused("StringEquals", "aws:SourceVpc", &["a"]), E::Key(_)));
        assert!(matches!(refused("IpAddress", "aws:SourceIp", &["10.0.0.0/33"]), E::Value { .. }));
        assert!(matches!(refused("Bool", "aws:SecureTransport", &["yes"]), E::Value { .. }));
        assert!(matches!(refused("DateEquals", "aws:CurrentTime", &["soon"]), E::Value { .. }));
        assert!(matches!(refused("NumericEquals", "s3:max-keys", &["NaN"]), E::Value { .. }));
        assert!(matches!(refused("StringLike", "s3:prefix", &["${x}"]), E::Value { .. }));
        assert!(matches!(refused("StringLike", "s3:prefix", &[]), E::NoValues(_)));
    }

    proptest! {
        #[test]
        fn a_negated_operator_is_the_opposite(value: String, found: String, absent: bool) {
            let found = (!absent).then_some(&found[..]);
            let found = found.as_ref().map(std::slice::from_ref);
            let text = value.replace('$', "");
            for (plain, negated) in [
                ("StringEquals", "StringNotEquals"),
                ("StringLike", "StringNotLike"),
                ("StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase"),
            ] {
                prop_assert_ne!(holds(plain, &[&text], found), holds(negated, &[&text], found));
            }
        }

        #[test]
        fn dates_and_numbers_never_panic(text: String) {
            let _ = (date(&text), number(&text));
        }
    }
}
