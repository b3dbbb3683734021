//! Configurations of buckets: documents that a bucket's owner puts beside it, by kind.
//!
//! The store keeps them as they were given and never looks inside; they go with their bucket.

use super::txn::{Txn, TxnError};
use super::view::{self, ViewExt, damaged};
use crate::format::{DecodeError, Keyspace, Reader, Value, Writer, bucket_config_key};
use crate::index::{IndexError, View};

/// The most bytes of one configuration. The longest that S3 allows is a lifecycle configuration of 1,000
/// rules; in practice they have a few hundred bytes each. The limit keeps a document far below
/// [`crate::committer::TRANSACTION_BYTES_MAX`].
pub const BUCKET_CONFIG_BYTES_MAX: usize = 2 << 20;

/// A kind of configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum BucketConfig {
    /// Tags of the bucket: XML.
    Tagging = 1,
    /// Which web pages may use the bucket: XML.
    Cors = 2,
    /// Who may do what: JSON.
    Policy = 3,
    /// What no policy and no list can open: XML.
    PublicAccessBlock = 4,
    /// Whether lists of access count: XML.
    OwnershipControls = 5,
    /// The bucket's list of access: XML.
    Acl = 6,
    /// What becomes of old objects: XML.
    Lifecycle = 7,
    /// Default retention: XML.
    ObjectLock = 8,
    /// Who is told of changes: XML.
    Notification = 9,
    /// The region that its maker named: that name.
    Location = 10,
}

impl BucketConfig {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Tagging,
        Self::Cors,
        Self::Policy,
        Self::PublicAccessBlock,
        Self::OwnershipControls,
        Self::Acl,
        Self::Lifecycle,
        Self::ObjectLock,
        Self::Notification,
        Self::Location,
    ];

    /// The kind's number on disk.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

const VERSION: u8 = 1;

/// A document as a value.
struct Document(Vec<u8>);

impl Value for Document {
    const NAME: &'static str = "bucket configuration";

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(1 + self.0.len());
        writer.u8(VERSION);
        writer.raw(&self.0);
        writer.finish()
    }

    fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(&bytes);
        reader.version(VERSION)?;
        let left = reader.left();
        Ok(Self(reader.raw(left)?.to_vec()))
    }
}

/// A configuration of a bucket, if it has one of this kind.
///
/// # Errors
/// When the index fails.
pub fn bucket_config(
    view: &(impl View + ?Sized),
    name: &str,
    kind: BucketConfig,
) -> Result<Option<Vec<u8>>, IndexError> {
    let document: Option<Document> = view.get_value(&bucket_config_key(name, kind))?;
    Ok(document.map(|document| document.0))
}

/// The names of all buckets that have a configuration of this kind, in order.
///
/// # Errors
/// When the index fails.
pub fn buckets_with(
    view: &(impl View + ?Sized),
    kind: BucketConfig,
) -> Result<Vec<String>, IndexError> {
    let mut found = Vec::new();
    let mut outcome = Ok(());
    view.within(&[Keyspace::BucketConfigs.byte()], &mut |key, _| {
        use std::ops::ControlFlow::{Break, Continue};
        match crate::format::config_of_key(key) {
            Ok((name, number)) => {
                if number == kind.number() {
                    found.push(name.to_owned());
                }
                Continue(())
            }
            Err(error) => {
                outcome = Err(damaged(Document::NAME)(error));
                Break(())
            }
        }
    })?;
    outcome.map(|()| found)
}

impl Txn<'_> {
    /// Gives a bucket a configuration, in place of the one of this kind that it had.
    ///
    /// # Errors
    /// When there is no such bucket, the document is too long, the disk is too full, or the index fails.
    pub fn put_bucket_config(
        &mut self,
        name: &str,
        kind: BucketConfig,
        document: impl Into<Vec<u8>>,
    ) -> Result<(), TxnError> {
        let document = document.into();
        if document.len() > BUCKET_CONFIG_BYTES_MAX {
            return Err(TxnError::ConfigTooLong { got: document.len() });
        }
        if view::bucket(self, name)?.is_none() {
            return Err(TxnError::NoBucket { name: name.to_owned() });
        }
        self.check_room()?;
        self.put_value(bucket_config_key(name, kind), &Document(document));
        Ok(())
    }

    /// Takes a configuration from a bucket; whether it had one.
    ///
    /// # Errors
    /// When the index fails.
    pub fn delete_bucket_config(
        &mut self,
        name: &str,
        kind: BucketConfig,
    ) -> Result<bool, TxnError> {
        let key = bucket_config_key(name, kind);
        let had = self.get(&key)?.is_some();
        if had {
            self.delete(key);
        }
        Ok(had)
    }

    /// Takes all configurations from a bucket: it is going.
    pub(super) fn delete_bucket_configs(&mut self, name: &str) -> Result<(), TxnError> {
        for kind in BucketConfig::ALL {
            self.delete_bucket_config(name, kind)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::index::{Index, MemoryIndex, Persist};
    use crate::store::{AccountId, BucketRecord, Removed, Room};

    fn run<T>(index: &mut MemoryIndex, room: Room, work: impl FnOnce(&mut Txn<'_>) -> T) -> T {
        let view = index.view().unwrap();
        let mut sequence = index.applied().unwrap();
        let mut txn = Txn::new(&*view, &mut sequence, room);
        let result = work(&mut txn);
        let changes = txn.finish().changes;
        index.apply(&changes, sequence + 1, Persist::Now).unwrap();
        result
    }

    fn with_buckets() -> MemoryIndex {
        let mut index = MemoryIndex::default();
        run(&mut index, Room::Enough, |txn| {
            for name in ["b", "b2"] {
                let record = BucketRecord::new(AccountId(1), 0);
                txn.make_bucket(name, &record).unwrap();
            }
        });
        index
    }

    #[test]
    fn a_document_comes_back_and_goes() {
        let mut index = with_buckets();
        let get = |index: &MemoryIndex, name: &str, kind| {
            bucket_config(&*index.view().unwrap(), name, kind).unwrap()
        };
        run(&mut index, Room::Enough, |txn| {
            txn.put_bucket_config("b", BucketConfig::Cors, "cors").unwrap();
            txn.put_bucket_config("b2", BucketConfig::Cors, "other").unwrap();
            txn.put_bucket_config("b2", BucketConfig::Policy, "").unwrap();
        });
        assert_eq!(get(&index, "b", BucketConfig::Cors), Some(b"cors".to_vec()));
        assert_eq!(get(&index, "b", BucketConfig::Policy), None);
        assert_eq!(get(&index, "b2", BucketConfig::Policy), Some(Vec::new()));
        let with = |kind| buckets_with(&*index.view().unwrap(), kind).unwrap();
        assert_eq!(with(BucketConfig::Cors), ["b", "b2"]);
        assert_eq!(with(BucketConfig::Policy), ["b2"]);
        run(&mut index, Room::Enough, |txn| {
            assert!(txn.delete_bucket_config("b", BucketConfig::Cors).unwrap());
            assert!(!txn.delete_bucket_config("b", BucketConfig::Cors).unwrap());
        });
        assert_eq!(get(&index, "b", BucketConfig::Cors), None);
    }

    #[test]
    fn a_bucket_made_anew_has_none() {
        let mut index = with_buckets();
        run(&mut index, Room::Enough, |txn| {
            for kind in BucketConfig::ALL {
                txn.put_bucket_config("b", kind, "x").unwrap();
                txn.put_bucket_config("b2", kind, "y").unwrap();
            }
            assert_eq!(txn.remove_bucket("b").unwrap(), Removed::Gone);
        });
        let view = index.view().unwrap();
        for kind in BucketConfig::ALL {
            assert_eq!(bucket_config(&*view, "b", kind).unwrap(), None);
            assert_eq!(bucket_config(&*view, "b2", kind).unwrap(), Some(b"y".to_vec()));
        }
    }

    #[test]
    fn only_a_bucket_has_a_configuration_of_bounded_length_while_there_is_room() {
        let mut index = with_buckets();
        let long = vec![b'x'; BUCKET_CONFIG_BYTES_MAX + 1];
        run(&mut index, Room::Enough, |txn| {
            let none = txn.put_bucket_config("c", BucketConfig::Acl, "x");
            assert!(matches!(none, Err(TxnError::NoBucket { .. })), "{none:?}");
            let long = txn.put_bucket_config("b", BucketConfig::Acl, long);
            assert!(matches!(long, Err(TxnError::ConfigTooLong { .. })), "{long:?}");
        });
        run(&mut index, Room::Short { free_bytes: 0, kept_bytes: 1 }, |txn| {
            let full = txn.put_bucket_config("b", BucketConfig::Acl, "x");
            assert!(matches!(full, Err(TxnError::Full { .. })), "{full:?}");
        });
    }

    #[test]
    fn the_generation_grows_with_settings_alone() {
        let directory = tempfile::tempdir().unwrap();
        let options = crate::store::Options::new(directory.path());
        let options = crate::store::Options { kept_bytes: Some(0), ..options };
        let store = crate::store::Store::open(options).unwrap();
        let start = store.settings_generation();
        let record = BucketRecord::new(AccountId(1), 0);
        store.transact_wait(move |txn| txn.make_bucket("b", &record)).unwrap();
        let made = store.settings_generation();
        assert!(made > start);
        store.transact_wait(|txn| txn.account("ada")).unwrap();
        assert_eq!(store.settings_generation(), made);
        let put = |txn: &mut Txn<'_>| txn.put_bucket_config("b", BucketConfig::Cors, "x");
        store.transact_wait(put).unwrap();
        assert!(store.settings_generation() > made);
    }
}
