//! Acting on candidates: a transaction that looks again, plans again, and does what still holds.

use super::plan::{Action, State, Subject, Tags, plan};
use super::rules::Rules;
use super::walk::{Candidate, Moment};
use crate::format::object_key;
use crate::store::{
    Area, BucketConfig, BucketRecord, Deleted, Deleter, ObjectPath, ObjectRecord, Txn, TxnError,
    ViewExt, bucket, bucket_config, newest,
};
use std::ops::ControlFlow;
use std::sync::Arc;

/// A bucket whose turn it is.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) name: Arc<str>,
    pub(super) record: BucketRecord,
    /// The document that the rules are from.
    pub(super) document: Arc<[u8]>,
    pub(super) rules: Arc<Rules>,
    pub(super) moment: Moment,
}

/// What was done to a key.
pub(super) struct Done {
    pub(super) key: Vec<u8>,
    pub(super) deleted: Deleted,
    pub(super) sequence: u64,
}

/// What became of some candidates.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) done: Vec<Done>,
    /// Versions that object lock protects.
    pub(super) locked: u64,
    /// The bucket or its rules are no longer what they were: the pass is over.
    pub(super) outdated: bool,
}

impl Job {
    /// Does what is still to be done.
    pub(super) fn act(
        &self,
        txn: &mut Txn<'_>,
        candidates: Vec<Candidate>,
    ) -> Result<Outcome, TxnError> {
        let mut outcome = Outcome::default();
        if !self.is_current(txn)? {
            outcome.outdated = true;
            return Ok(outcome);
        }
        for candidate in candidates {
            let path = ObjectPath::new(self.record.owner, Area::Stor, candidate.path.clone());
            // It was the path of a key, so it is one.
            let Ok(path) = path else { continue };
            let Some((record, action)) = self.look_again(txn, &path, &candidate)? else { continue };
            let version = match action {
                Action::Expire => None,
                Action::Remove | Action::RemoveMarker => Some(record.version_ref()),
            };
            let deleter = Deleter::plain(self.moment.now_ms);
            match txn.delete_object(&path, version, deleter) {
                Ok(Deleted::Nothing) => {}
                Ok(deleted) => {
                    let sequence = txn.next_sequence();
                    let key = self.key(&candidate.path).to_vec();
                    outcome.done.push(Done { key, deleted, sequence });
                }
                Err(TxnError::Locked) => outcome.locked += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(outcome)
    }

    fn key<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        path.get(self.name.len() + 1..).unwrap_or_default()
    }

    /// Whether bucket and rules are those of the walk.
    fn is_current(&self, txn: &Txn<'_>) -> Result<bool, TxnError> {
        let same = |found: &BucketRecord| {
            (found.owner, found.created_ms) == (self.record.owner, self.record.created_ms)
        };
        if !bucket(txn, &self.name)?.as_ref().is_some_and(same) {
            return Ok(false);
        }
        let document = bucket_config(txn, &self.name, BucketConfig::Lifecycle)?;
        Ok(document.as_deref() == Some(&*self.document))
    }

    /// The version, and what is to be done with it now.
    fn look_again(
        &self,
        txn: &Txn<'_>,
        path: &ObjectPath,
        candidate: &Candidate,
    ) -> Result<Option<(ObjectRecord, Action)>, TxnError> {
        let stored = |version| txn.get_value::<ObjectRecord>(&object_key(path, Some(version)));
        let found = match candidate.state {
            State::Current | State::Marker { .. } => {
                newest(txn, path)?.filter(|record| record.version == candidate.version)
            }
            State::Noncurrent { .. } => match candidate.above {
                // Versions come on top and go anywhere: one that is still below the same one is no more
                // current than it was.
                Some(above) if stored(above)?.is_some() => stored(candidate.version)?,
                Some(_) | None => None,
            },
        };
        let Some(record) = found else { return Ok(None) };
        if candidate.state == (State::Marker { alone: true }) && versions(txn, path)? != 1 {
            return Ok(None);
        }
        let subject = Subject {
            key: self.key(path.bytes()),
            size: record.size,
            modified_ms: record.meta.modified_ms,
            tags: Tags::Read(&record.meta.tags),
            state: candidate.state,
        };
        let action = plan(&self.rules, &subject, self.moment.now_ms, self.moment.day);
        Ok(action.map(|action| (record, action)))
    }
}

/// How many versions there are, counted up to two.
fn versions(txn: &Txn<'_>, path: &ObjectPath) -> Result<u32, TxnError> {
    let mut count = 0;
    txn.within(&object_key(path, None), &mut |_, _| {
        count += 1;
        if count < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(count)
}
