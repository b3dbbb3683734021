//! Bucket policies: read, checked, and asked. Pure.
//!
//! A policy that says anything which is not understood here is refused when it is put; so a condition is
//! never passed over in silence. Accounts are named by their names: `ada`, or `arn:aws:iam::ada:root`.

mod condition;
mod document;
mod key;
mod net;
mod pattern;

pub use condition::{ConditionError, Values};
pub use key::Key;

use super::action::{Action, Scope};
use condition::Condition;
use document::{Document, Many, Principal};
use pattern::{Pattern, Syntax, Unresolved};
use thiserror::Error;

/// The most bytes of a policy: as S3 has it (20 KB).
pub const POLICY_BYTES_MAX: usize = 20 * 1024;

const ARN_S3: &str = "arn:aws:s3:::";
const ARN_IAM: &str = "arn:aws:iam::";

/// Why a policy is none.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// Longer than [`POLICY_BYTES_MAX`].
    #[error("the policy has {0} bytes; {POLICY_BYTES_MAX} is the limit")]
    TooLong(usize),
    /// Not JSON, or an element that is none or stands twice.
    #[error("the policy is not well-formed: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Not a version.
    #[error("version {0:?} is neither 2012-10-17 nor 2008-10-17")]
    Version(String),
    /// No statement.
    #[error("the policy has no statement")]
    NoStatement,
    /// Neither `Allow` nor `Deny`.
    #[error("effect {0:?} is neither Allow nor Deny")]
    Effect(String),
    /// An element is missing, or it and its opposite are there.
    #[error("a statement needs exactly one of {0} and Not{0}")]
    Either(&'static str),
    /// `NotPrincipal` with `Allow`.
    #[error("NotPrincipal stands with Deny only")]
    NotPrincipalAllows,
    /// Not a principal.
    #[error("invalid principal in policy: {0}")]
    Principal(String),
    /// Not an action.
    #[error("policy has invalid action: {0}")]
    Action(String),
    /// Not a resource of this bucket.
    #[error("policy has invalid resource: {0}")]
    Resource(String),
    /// No resource of the statement is one that the action is done to.
    #[error("action does not apply to any resource(s) in statement: {0}")]
    Applies(String),
    /// Not a condition.
    #[error("policy has an invalid condition: {0}")]
    Condition(#[from] ConditionError),
}

/// What a policy says to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Yes.
    Allow,
    /// No, whatever else says yes.
    Deny,
}

/// A request, as far as a policy asks about it.
pub struct Question<'a> {
    /// The account that asks; none if nobody signed.
    pub account: Option<&'a str>,
    /// What is to be done.
    pub action: Action,
    /// To this bucket,
    pub bucket: &'a str,
    /// or to this key of it.
    pub key: Option<&'a str>,
    /// What the request says of a condition key.
    pub values: &'a Values<'a>,
}

/// A policy that was understood to the last word.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy(Vec<Statement>);

#[derive(Debug, Clone, PartialEq)]
struct Statement {
    effect: Effect,
    principals: Listed<Who>,
    actions: Listed<Pattern>,
    resources: Listed<Pattern>,
    conditions: Vec<Condition>,
}

/// What is meant: these, or all but these.
#[derive(Debug, Clone, PartialEq)]
struct Listed<T> {
    but: bool,
    all: Vec<T>,
}

#[derive(Debug, Clone, PartialEq)]
enum Who {
    Everyone,
    Account(String),
}

impl<T> Listed<T> {
    fn has(&self, test: impl Fn(&T) -> Result<bool, Unresolved>) -> Result<bool, Unresolved> {
        let mut any = false;
        for one in &self.all {
            any |= test(one)?;
        }
        Ok(any != self.but)
    }
}

impl Policy {
    /// Reads the policy of a bucket.
    ///
    /// # Errors
    /// When any of it is not understood, or is about something else than this bucket.
    pub fn parse(bytes: &[u8], bucket: &str) -> Result<Policy, PolicyError> {
        if bytes.len() > POLICY_BYTES_MAX {
            return Err(PolicyError::TooLong(bytes.len()));
        }
        let document: Document = serde_json::from_slice(bytes)?;
        let variables = match document.version.as_deref() {
            None | Some("2008-10-17") => false,
            Some("2012-10-17") => true,
            Some(other) => return Err(PolicyError::Version(other.to_owned())),
        };
        let statements = document.statement.into_vec();
        if statements.is_empty() {
            return Err(PolicyError::NoStatement);
        }
        let read = |written| Statement::read(written, bucket, variables);
        statements.into_iter().map(read).collect::<Result<_, _>>().map(Policy)
    }

    /// What it says: no before yes, and nothing where no statement applies.
    #[must_use]
    pub fn evaluate(&self, question: &Question<'_>) -> Option<Effect> {
        let applying = self.0.iter().filter(|statement| statement.applies(question) == Ok(true));
        // Deny is the greater.
        applying.map(|statement| statement.effect).max_by_key(|effect| *effect == Effect::Deny)
    }

    /// Whether it lets in the public: anybody, from anywhere.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.0.iter().any(|statement| {
            statement.effect == Effect::Allow
                && statement.principals.all.contains(&Who::Everyone)
                && !statement.conditions.iter().any(Condition::is_private)
        })
    }

    /// Whether it ever says no.
    #[must_use]
    pub fn denies(&self) -> bool {
        self.0.iter().any(|statement| statement.effect == Effect::Deny)
    }

    /// Whether any of its conditions asks about a key of this kind.
    #[must_use]
    pub fn asks(&self, kind: impl Fn(&Key) -> bool) -> bool {
        let conditions = self.0.iter().flat_map(|statement| &statement.conditions);
        let resources = self.0.iter().flat_map(|statement| &statement.resources.all);
        conditions.flat_map(Condition::keys).any(&kind)
            || resources.flat_map(Pattern::variables).any(&kind)
    }

    /// The accounts that it names.
    pub fn accounts(&self) -> impl Iterator<Item = &str> {
        let all = self.0.iter().flat_map(|statement| &statement.principals.all);
        all.filter_map(|who| match who {
            Who::Account(name) => Some(name.as_str()),
            Who::Everyone => None,
        })
    }
}

impl Statement {
    fn read(
        written: document::Statement,
        bucket: &str,
        variables: bool,
    ) -> Result<Statement, PolicyError> {
        let effect = match written.effect.as_str() {
            "Allow" => Effect::Allow,
            "Deny" => Effect::Deny,
            other => return Err(PolicyError::Effect(other.to_owned())),
        };
        let (but, principal) = either("Principal", written.principal, written.not_principal)?;
        if but && effect == Effect::Allow {
            return Err(PolicyError::NotPrincipalAllows);
        }
        let principals = Listed { but, all: read_principals(principal)? };
        let (but, named) = either("Action", written.action, written.not_action)?;
        let actions = Listed { but, all: read_actions(named)? };
        let (but, named) = either("Resource", written.resource, written.not_resource)?;
        let resources = Listed { but, all: read_resources(named, bucket, variables)? };
        if !actions.but && !resources.but {
            check_scopes(&actions.all, &resources.all, bucket)?;
        }
        let mut conditions = Vec::new();
        for (operator, keys) in written.condition.0 {
            for (key, values) in keys.0 {
                let values: Vec<_> =
                    values.into_vec().into_iter().map(document::Scalar::text).collect();
                conditions.push(Condition::parse(&operator, &key, &values, variables)?);
            }
        }
        Ok(Statement { effect, principals, actions, resources, conditions })
    }

    /// A variable that the request says nothing of: the statement does not apply.
    fn applies(&self, question: &Question<'_>) -> Result<bool, Unresolved> {
        let who = |who: &Who| {
            Ok(match who {
                Who::Everyone => true,
                Who::Account(name) => question.account == Some(name),
            })
        };
        let value = |key: &Key| (question.values)(key).and_then(|mut values| values.pop());
        let action =
            |pattern: &Pattern| pattern.matches(question.action.name(), true, &|_: &Key| None);
        if !self.principals.has(who)? || !self.actions.has(action)? {
            return Ok(false);
        }
        let target = target(question.bucket, question.key);
        if !self.resources.has(|pattern| pattern.matches(&target, false, &value))? {
            return Ok(false);
        }
        for condition in &self.conditions {
            if !condition.holds(question.values)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn target(bucket: &str, key: Option<&str>) -> String {
    key.map_or_else(|| bucket.to_owned(), |key| format!("{bucket}/{key}"))
}

fn either<T>(
    what: &'static str,
    these: Option<T>,
    others: Option<T>,
) -> Result<(bool, T), PolicyError> {
    match (these, others) {
        (Some(these), None) => Ok((false, these)),
        (None, Some(others)) => Ok((true, others)),
        (Some(_), Some(_)) | (None, None) => Err(PolicyError::Either(what)),
    }
}

fn read_principals(written: Principal) -> Result<Vec<Who>, PolicyError> {
    let named = match written {
        Principal::Everyone(star) if star == "*" => return Ok(vec![Who::Everyone]),
        Principal::Everyone(other) => return Err(PolicyError::Principal(other)),
        Principal::Named(named) => named.0,
    };
    let mut all = Vec::new();
    for (family, names) in named {
        for name in names.into_vec() {
            let who = match family.as_str() {
                "AWS" if name == "*" => Who::Everyone,
                "AWS" => Who::Account(account_of(&name)?),
                "CanonicalUser" if is_account(&name) => Who::Account(name),
                _ => return Err(PolicyError::Principal(format!("{family}: {name}"))),
            };
            all.push(who);
        }
    }
    if all.is_empty() {
        return Err(PolicyError::Principal("none".to_owned()));
    }
    Ok(all)
}

fn account_of(name: &str) -> Result<String, PolicyError> {
    let plain = match name.strip_prefix(ARN_IAM) {
        Some(rest) => rest.strip_suffix(":root"),
        None => Some(name),
    };
    let wrong = || PolicyError::Principal(name.to_owned());
    plain.filter(|plain| is_account(plain)).map(str::to_owned).ok_or_else(wrong)
}

fn is_account(name: &str) -> bool {
    wire::machine::Login::try_from(name.to_owned()).is_ok()
}

fn read_actions(named: Many<String>) -> Result<Vec<Pattern>, PolicyError> {
    let syntax = Syntax { wildcards: true, variables: false };
    let mut all = Vec::new();
    for name in named.into_vec() {
        let wrong = || PolicyError::Action(name.clone());
        let plain = match name.split_once(':') {
            None if name == "*" => "*",
            Some((service, action)) if service.eq_ignore_ascii_case("s3") => action,
            _ => return Err(wrong()),
        };
        let pattern = Pattern::parse(plain, syntax).map_err(|_| wrong())?;
        if !Action::ALL.iter().any(|action| is_meant(&pattern, *action)) {
            return Err(wrong());
        }
        all.push(pattern);
    }
    if all.is_empty() {
        return Err(PolicyError::Action("none".to_owned()));
    }
    Ok(all)
}

fn is_meant(pattern: &Pattern, action: Action) -> bool {
    pattern.matches(action.name(), true, &|_| None) == Ok(true)
}

fn read_resources(
    named: Many<String>,
    bucket: &str,
    variables: bool,
) -> Result<Vec<Pattern>, PolicyError> {
    let mut all = Vec::new();
    for name in named.into_vec() {
        let wrong = || PolicyError::Resource(name.clone());
        let plain = match name.strip_prefix(ARN_S3) {
            Some(plain) => plain,
            None if name == "*" => "*",
            None => return Err(wrong()),
        };
        let own = plain.split_once('/').map_or(plain, |(own, _)| own);
        let syntax = Syntax { wildcards: true, variables: false };
        let own = Pattern::parse(own, syntax).map_err(|_| wrong())?;
        if own.matches(bucket, false, &|_| None) != Ok(true) {
            return Err(wrong());
        }
        let syntax = Syntax { wildcards: true, variables };
        all.push(Pattern::parse(plain, syntax).map_err(|_| wrong())?);
    }
    if all.is_empty() {
        return Err(PolicyError::Resource("none".to_owned()));
    }
    Ok(all)
}

/// Every action must be one that can be done to one of the resources: else the statement does not say
/// what it seems to.
fn check_scopes(
    actions: &[Pattern],
    resources: &[Pattern],
    bucket: &str,
) -> Result<(), PolicyError> {
    let of_bucket = |pattern: &Pattern| pattern.matches(bucket, false, &|_| None) == Ok(true);
    let buckets = resources.iter().any(of_bucket);
    // Whatever is not the bucket's name alone goes on behind it.
    let objects = resources.iter().any(|pattern| !pattern.is_fixed() || !of_bucket(pattern));
    let fits = |action: &Action| match action.scope() {
        Scope::Bucket => buckets,
        Scope::Object => objects,
    };
    for pattern in actions {
        let meant: Vec<_> = Action::ALL.iter().filter(|a| is_meant(pattern, **a)).collect();
        if !meant.iter().any(|action| fits(action)) {
            let first = meant.first().map_or("", |action| action.name());
            return Err(PolicyError::Applies(format!("s3:{first}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod test;
