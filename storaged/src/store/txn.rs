//! A transaction: what a closure on the committer thread reads, and the changes it asks for.
//!
//! All its changes go into the journal together with those of its batch, or none do. It must not wait
//! for anything: everyone's commits wait for it.

use super::record::{BucketRecord, ObjectRecord};
use super::types::{AccountId, BlobId, BlobRecord, ObjectPath};
use super::uploads::uploads_to;
use super::view::{self, ViewExt};
use crate::files::Pending;
use crate::format::{
    Keyspace, Value, account_key, blob_key, bucket_key, bucket_owner_key, object_prefix,
    prefix_end, state_key, to_unlink_key,
};
use crate::index::{Changes, IndexError, Layer, View, Visitor};
use std::ops::{Bound, ControlFlow};
use thiserror::Error;

/// The state key of the last account's number.
const LAST_ACCOUNT: &str = "last-account";
/// The state key of the number of objects.
pub(crate) const OBJECTS: &str = "objects";
/// The state key of the bytes in objects.
pub(crate) const OBJECT_BYTES: &str = "object-bytes";

/// Why a typed operation of a transaction failed.
#[derive(Debug, Error)]
pub enum TxnError {
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The data disk is too full for new objects; deletes still work.
    #[error(
        "the data disk is full: {free_bytes} bytes are free, the last {kept_bytes} are kept so that deletes work; delete objects"
    )]
    Full {
        /// Bytes free.
        free_bytes: u64,
        /// Bytes that must stay free.
        kept_bytes: u64,
    },
    /// An inline content above the limit.
    #[error("a content of {got} bytes is too long to be inline")]
    TooLong {
        /// Its bytes.
        got: usize,
    },
    /// A blob that has no record.
    #[error("blob {} has no record", .0.0)]
    NoBlob(BlobId),
    /// A configuration for a bucket that is not there.
    #[error("there is no bucket {name}")]
    NoBucket {
        /// Its name.
        name: String,
    },
    /// A configuration above the limit.
    #[error(
        "a configuration of {got} bytes is too long: at most {} are kept",
        super::BUCKET_CONFIG_BYTES_MAX
    )]
    ConfigTooLong {
        /// Its bytes.
        got: usize,
    },
    /// A version that is kept until a time, or until a hold on it ends.
    #[error(
        "the version is protected by object lock: wait for the end of its retention, or end its legal hold"
    )]
    Locked,
    /// A lock for a version of a bucket that has none.
    #[error("the bucket has no object lock configuration")]
    NoObjectLock,
}

/// What became of a request to make a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// It is new.
    New,
    /// It was there, with this record.
    Existed(BucketRecord),
}

/// What became of a request to remove a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Gone,
    /// There was none.
    Missing,
    /// Objects are in it.
    NotEmpty,
    /// Nothing but uploads in parts, which are to be aborted first.
    Uploads,
}

/// Whether the disk has room for new objects, as of shortly before the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It has.
    Enough,
    /// It has not.
    Short {
        /// Bytes free.
        free_bytes: u64,
        /// Bytes that must stay free.
        kept_bytes: u64,
    },
}

/// How much the counters of the store change: summed over a batch, written once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) objects: i64,
    pub(crate) bytes: i64,
}

/// A running transaction.
pub struct Txn<'a> {
    base: &'a (dyn View + 'a),
    changes: Changes,
    sequence: &'a mut u64,
    room: Room,
    pub(super) tally: Tally,
    pub(super) pending: Vec<Pending>,
}

/// What a transaction leaves when its closure succeeded.
pub(crate) struct Effects {
    pub(crate) changes: Changes,
    pub(crate) tally: Tally,
    pub(crate) pending: Vec<Pending>,
}

impl View for Txn<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        Layer { base: self.base, changes: &self.changes }.get(key)
    }

    fn range(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), IndexError> {
        Layer { base: self.base, changes: &self.changes }.range(from, to, visit)
    }
}

impl<'a> Txn<'a> {
    pub(crate) fn new(base: &'a (dyn View + 'a), sequence: &'a mut u64, room: Room) -> Self {
        let (changes, pending) = (Changes::new(), Vec::new());
        Self { base, changes, sequence, room, tally: Tally::default(), pending }
    }

    pub(crate) fn finish(self) -> Effects {
        Effects { changes: self.changes, tally: self.tally, pending: self.pending }
    }

    /// Sets the value of a key.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.insert(key.into(), Some(value.into()));
    }

    /// Removes a key, there or not.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.changes.insert(key.into(), None);
    }

    /// Sets the value of a key to the bytes of a typed value.
    pub fn put_value<V: Value>(&mut self, key: impl Into<Vec<u8>>, value: &V) {
        self.put(key, value.encode());
    }

    /// A number that no other call, before or after, on this store gives: above all before.
    pub fn next_sequence(&mut self) -> u64 {
        *self.sequence += 1;
        *self.sequence
    }

    /// The current version of an object.
    ///
    /// # Errors
    /// When the index fails.
    pub fn object(&self, path: &ObjectPath) -> Result<Option<ObjectRecord>, IndexError> {
        view::object(self, path)
    }

    /// Adds a reference to a blob, so that it outlives its objects.
    ///
    /// # Errors
    /// When the index fails or the blob has no record.
    pub fn hold_blob(&mut self, blob: BlobId) -> Result<(), TxnError> {
        let mut record = self.blob(blob)?;
        record.references += 1;
        self.put_value(blob_key(blob), &record);
        Ok(())
    }

    /// Takes a reference from a blob; with the last one its file goes, once this is committed.
    ///
    /// # Errors
    /// When the index fails or the blob has no record.
    pub fn release_blob(&mut self, blob: BlobId) -> Result<(), TxnError> {
        let mut record = self.blob(blob)?;
        if record.references > 1 {
            record.references -= 1;
            self.put_value(blob_key(blob), &record);
        } else {
            self.delete(blob_key(blob));
            let sequence = self.next_sequence();
            self.put_value(to_unlink_key(blob), &sequence);
        }
        Ok(())
    }

    fn blob(&self, blob: BlobId) -> Result<BlobRecord, TxnError> {
        self.get_value(&blob_key(blob))?.ok_or(TxnError::NoBlob(blob))
    }

    pub(super) fn check_room(&self) -> Result<(), TxnError> {
        match self.room {
            Room::Enough => Ok(()),
            Room::Short { free_bytes, kept_bytes } => {
                Err(TxnError::Full { free_bytes, kept_bytes })
            }
        }
    }

    /// The number of the account with this name, given now if it has none.
    ///
    /// # Errors
    /// When the index fails.
    pub fn account(&mut self, name: &str) -> Result<AccountId, TxnError> {
        if let Some(known) = view::account(self, name)? {
            return Ok(known);
        }
        let last: u64 = self.get_value(&state_key(LAST_ACCOUNT))?.unwrap_or(0);
        let number = last + 1;
        let account = AccountId(u32::try_from(number).expect("fewer than 4 Gi accounts"));
        self.put_value(state_key(LAST_ACCOUNT), &number);
        self.put_value(account_key(name), &account);
        Ok(account)
    }

    /// Makes a bucket, unless one has the name.
    ///
    /// # Errors
    /// When the index fails, or the disk is too full.
    pub fn make_bucket(&mut self, name: &str, record: &BucketRecord) -> Result<Made, TxnError> {
        if let Some(existing) = view::bucket(self, name)? {
            return Ok(Made::Existed(existing));
        }
        self.check_room()?;
        self.change_bucket(name, record);
        Ok(Made::New)
    }

    /// Changes the record of a bucket that there is; its owner and name stay.
    pub fn change_bucket(&mut self, name: &str, record: &BucketRecord) {
        self.put_value(bucket_key(name), record);
        self.put_value(bucket_owner_key(record.owner, name), record);
    }

    /// Removes a bucket, if nothing is in it.
    ///
    /// # Errors
    /// When the index fails.
    pub fn remove_bucket(&mut self, name: &str) -> Result<Removed, TxnError> {
        let Some(record) = view::bucket(self, name)? else { return Ok(Removed::Missing) };
        let inside = object_prefix(record.owner, super::Area::Stor, format!("{name}/").as_bytes());
        if view::any_within(self, &inside)? {
            return Ok(Removed::NotEmpty);
        }
        if !uploads_to(self, name, 1)?.is_empty() {
            return Ok(Removed::Uploads);
        }
        self.delete(bucket_key(name));
        self.delete(bucket_owner_key(record.owner, name));
        self.delete_bucket_configs(name)?;
        Ok(Removed::Gone)
    }

    /// Removes every key of a keyspace that starts with `prefix`, at most `max` of them; how many.
    ///
    /// # Errors
    /// When the index fails.
    pub fn delete_within(
        &mut self,
        keyspace: Keyspace,
        prefix: &[u8],
        max: usize,
    ) -> Result<usize, IndexError> {
        let start = keyspace.key(prefix);
        let end = prefix_end(&start);
        let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut keys = Vec::new();
        if max > 0 {
            self.range(Bound::Included(&start), to, &mut |key, _| {
                keys.push(key.to_vec());
                if keys.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
        }
        let count = keys.len();
        keys.into_iter().for_each(|key| self.delete(key));
        Ok(count)
    }
}
