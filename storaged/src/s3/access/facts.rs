//! What deciding about a bucket takes, read once and kept in memory.

use super::super::{KEY_BYTES_MAX, error};
use super::acl::Acl;
use super::control::{Block, Ownership};
use super::policy::{Key, Policy};
use crate::store::{AccountId, BucketConfig, BucketRecord, ObjectPath, Snapshot, bucket_config};
use s3s::{S3Result, s3_error};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Buckets that are remembered, at about 500 bytes each and what their policies take; beyond that they are
/// all forgotten and read anew.
const KNOWN_MAX: usize = 10_000;

/// A bucket's policy.
#[derive(Debug, Clone)]
pub enum Rules {
    /// It has none.
    None,
    /// It has this one.
    Policy(Policy),
    /// It has one that can't be read: an older or newer version of this program took it.
    Broken,
}

/// A bucket, as far as access to it goes.
#[derive(Debug)]
pub struct Facts {
    /// Its name.
    pub name: String,
    /// Its record.
    pub record: BucketRecord,
    /// The name of its owner.
    pub owner_name: String,
    /// Its policy.
    pub rules: Rules,
    /// How far it may be public.
    pub block: Block,
    /// Whether lists count, and whose is what others write.
    pub ownership: Ownership,
    /// Its list.
    pub acl: Acl,
}

impl Facts {
    /// Reads them.
    ///
    /// # Errors
    /// When the index fails.
    pub(super) fn read(
        view: &Snapshot,
        name: &str,
        record: BucketRecord,
        owner_name: String,
    ) -> S3Result<Facts> {
        let document = |kind| bucket_config(view, name, kind).map_err(|e| error::index(&e));
        let broken = |what: &str, why: &dyn std::fmt::Display| {
            log::error!(
                "bucket {name}: its {what} can't be read, and all but its owner are kept out: {why}"
            );
        };
        let rules = match document(BucketConfig::Policy)? {
            None => Rules::None,
            Some(document) => Policy::parse(&document, name).map_or_else(
                |e| {
                    broken("policy", &e);
                    Rules::Broken
                },
                Rules::Policy,
            ),
        };
        let block = match document(BucketConfig::PublicAccessBlock)? {
            None => Block::ALL,
            Some(document) => Block::parse(&document).map_or_else(
                |e| {
                    broken("public access block", &e);
                    Block::ALL
                },
                |block| block.unwrap_or(Block::OPEN),
            ),
        };
        let ownership = match document(BucketConfig::OwnershipControls)? {
            None => Ownership::BucketOwnerEnforced,
            Some(document) => Ownership::parse(&document).map_or_else(
                |e| {
                    broken("ownership controls", &e);
                    Ownership::BucketOwnerEnforced
                },
                |ownership| ownership.unwrap_or(Ownership::ObjectWriter),
            ),
        };
        let acl = match document(BucketConfig::Acl)? {
            None => Acl::private(&owner_name),
            Some(document) => Acl::parse(&document).unwrap_or_else(|e| {
                broken("access control list", &e);
                Acl::private(&owner_name)
            }),
        };
        let name = name.to_owned();
        Ok(Facts { name, record, owner_name, rules, block, ownership, acl })
    }

    /// Whose it is.
    #[must_use]
    pub const fn owner(&self) -> AccountId {
        self.record.owner
    }

    /// Whether its owner may do anything at all, and nothing about a request need be looked at for that: then
    /// requests are answered the short way. Whatever can deny the owner must say no here.
    #[must_use]
    pub fn owner_reads_all(&self) -> bool {
        match &self.rules {
            Rules::None => true,
            Rules::Policy(policy) => !policy.denies(),
            Rules::Broken => false,
        }
    }

    /// Whether nobody but its owner can be allowed anything.
    #[must_use]
    pub fn owner_is_alone(&self) -> bool {
        matches!(self.rules, Rules::None) && self.ownership == Ownership::BucketOwnerEnforced
    }

    /// Whether its policy lets in the public.
    #[must_use]
    pub fn has_public_policy(&self) -> bool {
        match &self.rules {
            Rules::Policy(policy) => policy.is_public(),
            Rules::None | Rules::Broken => false,
        }
    }

    /// Whether its policy asks about the tags of objects there are.
    pub(super) fn asks_for_tags(&self) -> bool {
        let old = |key: &Key| matches!(key, Key::ExistingTag(_));
        matches!(&self.rules, Rules::Policy(policy) if policy.asks(old))
    }

    /// Whether its policy asks about tags that are to be.
    pub(super) fn asks_for_new_tags(&self) -> bool {
        let new = |key: &Key| matches!(key, Key::RequestTag(_) | Key::RequestTagKeys);
        matches!(&self.rules, Rules::Policy(policy) if policy.asks(new))
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
        Arc::new(Facts {
            name: name.to_owned(),
            record: BucketRecord::new(AccountId(1), created_ms),
            owner_name: "ada".to_owned(),
            rules: Rules::None,
            block: Block::ALL,
            ownership: Ownership::BucketOwnerEnforced,
            acl: Acl::private("ada"),
        })
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
