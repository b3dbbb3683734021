//! The bucket in which what a zone wrote is found: the first part of its name. One that nobody has is made, since whoever
//! wants output below a name wants to find it there; into another account's nothing is written.

use super::judge::Refusal;
use crate::calendar::now_ms;
use crate::store::{Area, BucketRecord, IndexError, Made, ObjectPath, Txn, TxnError, View, bucket};
use s3s::path::check_bucket_name;

/// Where an object belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In this bucket.
    Bucket(String),
    /// In none: they are of `stor` alone.
    Outside,
}

impl Place {
    /// Where an object of this name belongs.
    ///
    /// # Errors
    /// [`Refusal::Name`]: S3 could not show it.
    pub(super) fn of(path: &ObjectPath) -> Result<Self, Refusal> {
        if path.area != Area::Stor {
            return Ok(Self::Outside);
        }
        let mut parts = path.bytes().splitn(2, |&byte| byte == b'/');
        let first = parts.next().and_then(|name| str::from_utf8(name).ok());
        match (first, parts.next()) {
            (Some(name), Some(_)) if check_bucket_name(name) => Ok(Self::Bucket(name.to_owned())),
            (_, Some(_)) => Err(Refusal::Name("its first part cannot be that of a bucket")),
            (_, None) => Err(Refusal::Name("it is in no bucket, but beside them")),
        }
    }

    /// Whether it is another account's.
    pub(super) fn is_anothers(
        &self,
        view: &(impl View + ?Sized),
        path: &ObjectPath,
    ) -> Result<bool, IndexError> {
        let Self::Bucket(name) = self else { return Ok(false) };
        Ok(bucket(view, name)?.is_some_and(|record| record.owner != path.account))
    }

    /// Makes it if nobody has it; whether it is the account's then.
    pub(super) fn make(&self, txn: &mut Txn<'_>, path: &ObjectPath) -> Result<bool, TxnError> {
        let Self::Bucket(name) = self else { return Ok(true) };
        let record = BucketRecord::new(path.account, now_ms());
        Ok(match txn.make_bucket(name, &record)? {
            Made::New => true,
            Made::Existed(record) => record.owner == path.account,
        })
    }
}
