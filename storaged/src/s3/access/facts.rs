//! What deciding about a bucket takes, read once and kept in memory.

use super::super::KEY_BYTES_MAX;
use crate::store::{AccountId, BucketRecord, ObjectPath};
use s3s::{S3Result, s3_error};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Buckets that are remembered, at about 300 bytes each and what their policies take; beyond that they are
/// all forgotten and read anew.
const KNOWN_MAX: usize = 10_000;

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

    /// Whether its owner may read every object in it and nothing else has to be looked at: then requests
    /// are answered the short way. Whatever can deny the owner, or change an answer, must say no here.
    #[must_use]
    pub const fn owner_reads_all(&self) -> bool {
        true
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

/// The buckets that were asked for lately. All of them are forgotten when any bucket changes: that is rare,
/// and reading one anew costs microseconds.
#[derive(Debug, Default)]
pub(super) struct Known(RwLock<Memory>);

#[derive(Debug, Default)]
struct Memory {
    generation: u64,
    buckets: HashMap<String, Arc<Facts>>,
}

impl Known {
    /// A bucket's facts, if they are known as of this generation of the store's settings.
    pub(super) fn get(&self, bucket: &str, generation: u64) -> Option<Arc<Facts>> {
        let memory = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if memory.generation == generation { memory.buckets.get(bucket).cloned() } else { None }
    }

    /// Remembers facts that were read after the settings had this generation.
    pub(super) fn put(&self, facts: &Arc<Facts>, generation: u64) {
        let mut memory = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if memory.generation > generation {
            return;
        }
        if memory.generation < generation || memory.buckets.len() >= KNOWN_MAX {
            memory.buckets.clear();
            memory.generation = generation;
        }
        memory.buckets.insert(facts.name.clone(), Arc::clone(facts));
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn facts(name: &str, created_ms: u64) -> Arc<Facts> {
        let record = BucketRecord::new(AccountId(1), created_ms);
        Arc::new(Facts { name: name.to_owned(), record })
    }

    #[test]
    fn what_was_known_before_a_change_is_forgotten() {
        let known = Known::default();
        known.put(&facts("b", 1), 0);
        assert_eq!(known.get("b", 0).unwrap().record.created_ms, 1);
        assert!(known.get("b", 1).is_none());
        known.put(&facts("b", 2), 1);
        // A slow reader of the past changes nothing.
        known.put(&facts("b", 1), 0);
        assert_eq!(known.get("b", 1).unwrap().record.created_ms, 2);
        assert!(known.get("b", 0).is_none());
    }

    #[test]
    fn only_so_many_are_known() {
        let known = Known::default();
        for n in 0..=KNOWN_MAX {
            known.put(&facts(&n.to_string(), 0), 0);
        }
        assert!(known.get("0", 0).is_none());
        assert!(known.get(&KNOWN_MAX.to_string(), 0).is_some());
    }
}
