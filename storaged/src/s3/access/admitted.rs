//! A request that may go on, and what its handler needs to know of that.

use super::facts::Facts;
use super::{denied, no_such_bucket};
use crate::accounts::Account;
use crate::store::{BucketRecord, ObjectPath, ObjectRecord, Version};
use s3s::{S3Error, S3Result, s3_error};
use std::sync::Arc;

/// Who asks.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Somebody without a signature.
    Anonymous,
    /// Who signed.
    Account(Arc<Account>),
}

impl Caller {
    /// Its name, if it has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Caller::Account(account) => Some(&account.name),
            Caller::Anonymous => None,
        }
    }

    /// Whether the bucket is theirs.
    #[must_use]
    pub fn owns(&self, facts: &Facts) -> bool {
        matches!(self, Caller::Account(account) if account.id == facts.owner())
    }
}

/// A request that may go on.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// Who asks.
    pub caller: Caller,
    pub(super) facts: Option<Arc<Facts>>,
    /// Whether who asks may know which keys there are.
    pub(super) lists: bool,
    /// The list of what this request writes, as it is kept.
    pub(super) acl: Option<String>,
    /// Which version was looked at, if the decision was about what it says.
    pub(super) judged: Option<Option<Version>>,
}

impl Admitted {
    /// The bucket's facts.
    ///
    /// # Errors
    /// When the request names no bucket that exists; the hook has answered that before.
    pub fn facts(&self) -> S3Result<&Arc<Facts>> {
        self.facts.as_ref().ok_or_else(no_such_bucket)
    }

    /// The bucket.
    ///
    /// # Errors
    /// As [`Admitted::facts`].
    pub fn bucket(&self) -> S3Result<&BucketRecord> {
        self.facts().map(|facts| &facts.record)
    }

    /// Where a key of the bucket is: under the account of the bucket's owner.
    ///
    /// # Errors
    /// When the key is empty or too long.
    pub fn path(&self, key: &str) -> S3Result<ObjectPath> {
        self.facts()?.path(key)
    }

    /// Who asks, when that is an account.
    ///
    /// # Errors
    /// When nobody signed.
    pub fn account(&self) -> S3Result<&Arc<Account>> {
        match &self.caller {
            Caller::Account(account) => Ok(account),
            Caller::Anonymous => Err(denied()),
        }
    }

    /// The access control list of the object that this request writes, for its record: none where the bucket's
    /// owner owns it and nobody else was granted anything.
    #[must_use]
    pub fn acl(&self) -> Option<String> {
        self.acl.clone()
    }

    /// The answer when a key is not there: who may not list the bucket does not learn that.
    #[must_use]
    pub fn missing_key(&self) -> S3Error {
        if self.lists { s3_error!(NoSuchKey, "the specified key does not exist") } else { denied() }
    }

    /// Whether a record is the one that was decided about. Between the decision and the reading another
    /// version may have come, with a list or tags of its own.
    ///
    /// # Errors
    /// OperationAborted: the client may ask again.
    pub fn still_about(&self, record: &ObjectRecord) -> S3Result<()> {
        match self.judged {
            Some(judged) if judged != Some(record.version) => Err(s3_error!(
                OperationAborted,
                "the object was overwritten while access to it was decided; try again"
            )),
            Some(_) | None => Ok(()),
        }
    }
}
