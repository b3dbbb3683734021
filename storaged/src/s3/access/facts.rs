//! What deciding about a bucket takes, read once and kept in memory.

use super::super::KEY_BYTES_MAX;
use crate::store::{AccountId, BucketRecord, ObjectPath};
use s3s::{S3Result, s3_error};

/// A bucket, as far as access to it goes.
#[derive(Debug)]
pub struct Facts {
    /// Its name.
    pub name: String,
    /// Its record.
    pub record: BucketRecord,
}

impl Facts {
    /// Whose it is.
    #[must_use]
    pub const fn owner(&self) -> AccountId {
        self.record.owner
    }

    /// Where a key of it is: among the objects of the bucket's owner, whoever asks.
    ///
    /// # Errors
    /// When the key is empty or too long.
    pub fn path(&self, key: &str) -> S3Result<ObjectPath> {
        if key.is_empty() {
            return Err(s3_error!(InvalidArgument, "a key is not empty"));
        }
        if key.len() > KEY_BYTES_MAX {
            return Err(s3_error!(KeyTooLongError, "a key has at most {KEY_BYTES_MAX} bytes"));
        }
        ObjectPath::of_key(self.owner(), &self.name, key.as_bytes())
            .map_err(|e| s3_error!(KeyTooLongError, "{e}"))
    }
}
