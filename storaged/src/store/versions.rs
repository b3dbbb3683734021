//! What a transaction does to the versions of an object: writing, deleting, changing one.
//!
//! ```text
//!   bucket        write                            delete without a version
//!   unversioned   replaces the null version        removes the null version
//!   enabled       a new version on top             a new delete marker on top
//!   suspended     a new null version on top,       a null delete marker on top,
//!                 the old one goes                 the null version goes
//! ```
//! Nothing here looks through a stack of versions: the newest says where the null version is. What object
//! lock protects is not removed from here, and there is no other way to remove a version.

use super::record::{
    BucketRecord, LegalHold, Metadata, ObjectKind, ObjectRecord, VersionRef, Versioning,
};
use super::txn::{Txn, TxnError};
use super::types::{BlobRecord, BlobState, Content, ContentRef, ObjectPath, Version};
use super::view;
use crate::format::{blob_key, object_key};

/// A version that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Its number.
    pub version: Version,
    /// What the bucket keeps.
    pub versioning: Versioning,
}

impl Written {
    /// What clients are told: nothing, if the bucket never kept versions.
    #[must_use]
    pub const fn shown(&self) -> Option<VersionRef> {
        match self.versioning {
            Versioning::Unversioned => None,
            Versioning::Enabled => Some(VersionRef::Id(self.version)),
            Versioning::Suspended => Some(VersionRef::Null),
        }
    }
}

/// Who deletes, and when: what object lock wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleter {
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// Whether they may, and asked to, override retention of governance mode.
    pub bypass_governance: bool,
}

impl Deleter {
    /// Somebody without rights beyond deleting.
    #[must_use]
    pub const fn plain(now_ms: u64) -> Self {
        Self { now_ms, bypass_governance: false }
    }
}

/// What a delete did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// Nothing: there was nothing to delete.
    Nothing,
    /// It removed a version for good.
    Removed {
        /// Which.
        version: VersionRef,
        /// Whether that was a delete marker.
        marker: bool,
    },
    /// It put a delete marker on top.
    Marked {
        /// The marker's version.
        version: VersionRef,
    },
}

impl Txn<'_> {
    /// Makes `content` the current version of an object. What becomes of the old one is for the bucket's
    /// versioning to say; without a bucket it goes.
    ///
    /// # Errors
    /// When the index fails, the disk is too full for an inline content, that is too long, or the
    /// object is to be locked and its bucket has no object lock.
    pub fn put_object(
        &mut self,
        path: &ObjectPath,
        content: Content,
        meta: Metadata,
    ) -> Result<Written, TxnError> {
        let (content, size) = match content {
            Content::Inline(bytes) if bytes.len() > super::INLINE_BYTES_LIMIT => {
                return Err(TxnError::TooLong { got: bytes.len() });
            }
            Content::Inline(bytes) => {
                self.check_room()?;
                let size = bytes.len() as u64;
                (ContentRef::Inline(bytes), size)
            }
            Content::Blob(sealed) => {
                let (blob, size) = (sealed.blob(), sealed.size());
                let state = BlobState::Sealed(sealed.digest());
                self.put_value(blob_key(blob), &BlobRecord { size, references: 1, state });
                self.pending.push(sealed.into_pending());
                (ContentRef::Blob(blob), size)
            }
        };
        self.put_record(path, content, size, meta)
    }

    /// Makes an existing content the current version of an object: a copy that shares the bytes.
    ///
    /// # Errors
    /// When the index fails, the blob has no record, or as [`Txn::put_object`] has it.
    pub fn put_shared(
        &mut self,
        path: &ObjectPath,
        content: ContentRef,
        size: u64,
        meta: Metadata,
    ) -> Result<Written, TxnError> {
        match &content {
            ContentRef::Inline(_) => self.check_room()?,
            ContentRef::Blob(blob) => self.hold_blob(*blob)?,
        }
        self.put_record(path, content, size, meta)
    }

    fn put_record(
        &mut self,
        path: &ObjectPath,
        content: ContentRef,
        size: u64,
        mut meta: Metadata,
    ) -> Result<Written, TxnError> {
        let bucket = view::bucket_of(self, path)?;
        let versioning = bucket.as_ref().map_or(Versioning::Unversioned, |b| b.versioning);
        lock(bucket.as_ref(), &mut meta)?;
        let deleter = Deleter::plain(meta.modified_ms);
        let (null, null_below) = self.make_way(path, versioning, deleter)?;
        let version = Version(self.next_sequence());
        let kind = ObjectKind::Object;
        let record = ObjectRecord { version, kind, null, null_below, size, content, meta };
        self.add_version(path, &record);
        Ok(Written { version, versioning })
    }

    /// Removes what a new version on top replaces; whether that is to be the null version, and if not,
    /// where that one is.
    fn make_way(
        &mut self,
        path: &ObjectPath,
        versioning: Versioning,
        deleter: Deleter,
    ) -> Result<(bool, Option<Version>), TxnError> {
        let newest = view::newest(self, path)?;
        match versioning {
            Versioning::Enabled => {
                let newest = newest.as_ref();
                let below = newest.and_then(|record| match record.null {
                    true => Some(record.version),
                    false => record.null_below,
                });
                Ok((false, below))
            }
            Versioning::Unversioned | Versioning::Suspended => {
                if let Some(newest) = newest
                    && let Some(null) = view::null_version(self, path, newest)?
                {
                    self.remove_version(path, &null, deleter)?;
                }
                Ok((true, None))
            }
        }
    }

    /// Deletes an object, or the version that is named.
    ///
    /// # Errors
    /// When the index fails, or object lock protects the version.
    pub fn delete_object(
        &mut self,
        path: &ObjectPath,
        version: Option<VersionRef>,
        deleter: Deleter,
    ) -> Result<Deleted, TxnError> {
        let versioning = match version {
            Some(_) => Versioning::Unversioned,
            None => view::versioning(self, path)?,
        };
        if versioning == Versioning::Unversioned {
            let version = version.unwrap_or(VersionRef::Null);
            let Some(record) = view::object_version(self, path, version)? else {
                return Ok(Deleted::Nothing);
            };
            let marker = record.is_marker();
            self.remove_version(path, &record, deleter)?;
            return Ok(Deleted::Removed { version, marker });
        }
        let (null, null_below) = self.make_way(path, versioning, deleter)?;
        let number = Version(self.next_sequence());
        let marker = ObjectRecord::marker(number, null, null_below, deleter.now_ms);
        self.add_version(path, &marker);
        Ok(Deleted::Marked { version: marker.version_ref() })
    }

    /// Changes what is said about a version that this transaction has read; its content, its number and
    /// its place among the versions stay.
    pub fn change_object(&mut self, path: &ObjectPath, record: &ObjectRecord, meta: Metadata) {
        let record = ObjectRecord { meta, ..record.clone() };
        self.put_value(object_key(path, Some(record.version)), &record);
    }

    fn add_version(&mut self, path: &ObjectPath, record: &ObjectRecord) {
        self.put_value(object_key(path, Some(record.version)), record);
        if !record.is_marker() {
            self.tally.objects += 1;
            self.tally.bytes += record.size.cast_signed();
        }
    }

    fn remove_version(
        &mut self,
        path: &ObjectPath,
        record: &ObjectRecord,
        deleter: Deleter,
    ) -> Result<(), TxnError> {
        if record.meta.is_locked(deleter.now_ms, deleter.bypass_governance) {
            return Err(TxnError::Locked);
        }
        self.delete(object_key(path, Some(record.version)));
        if !record.is_marker() {
            self.tally.objects -= 1;
            self.tally.bytes -= record.size.cast_signed();
        }
        match record.content {
            ContentRef::Blob(blob) => self.release_blob(blob),
            ContentRef::Inline(_) => Ok(()),
        }
    }
}

/// Gives a new version the retention of its bucket, if it has none of its own.
fn lock(bucket: Option<&BucketRecord>, meta: &mut Metadata) -> Result<(), TxnError> {
    match bucket {
        Some(bucket) if bucket.object_lock => {
            let default = bucket.default_retention.map(|default| default.from(meta.modified_ms));
            meta.retention = meta.retention.or(default);
            Ok(())
        }
        _ if meta.retention.is_some() || meta.legal_hold != LegalHold::Never => {
            Err(TxnError::NoObjectLock)
        }
        _ => Ok(()),
    }
}
