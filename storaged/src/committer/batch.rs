//! A batch: transactions that have run, what they change together, and who waits for them.

use super::work::{Failure, Work};
use super::{BATCH_BYTES_MAX, BATCH_TRANSACTIONS_MAX, TRANSACTION_BYTES_MAX};
use crate::files::Pending;
use crate::index::{Changes, Layer, SharedView};
use crate::store::{Effects, Room, Tally, Txn};
use std::sync::Arc;

/// A batch in the making.
pub(super) struct Batch {
    /// What its transactions see below what they change: what is committed, and over it the batch that is on
    /// its way to disk.
    base: SharedView,
    before: Arc<Changes>,
    room: Room,
    works: Vec<(Box<dyn Work>, Option<Failure>)>,
    pub(super) changes: Changes,
    bytes: usize,
    pub(super) tally: Tally,
    pending: Vec<Pending>,
}

impl Batch {
    pub(super) fn new(base: SharedView, before: Arc<Changes>, room: Room) -> Self {
        let (works, pending, changes) = (Vec::new(), Vec::new(), Changes::new());
        Self { base, before, room, works, changes, bytes: 0, tally: Tally::default(), pending }
    }

    /// Whether it takes another transaction.
    pub(super) fn has_room(&self) -> bool {
        self.works.len() < BATCH_TRANSACTIONS_MAX && self.bytes < BATCH_BYTES_MAX
    }

    /// Runs a transaction over what the batch changed so far.
    pub(super) fn run(&mut self, mut work: Box<dyn Work>, sequence: &mut u64) {
        let below = Layer { base: &*self.base, changes: &self.before };
        let layer = Layer { base: &below, changes: &self.changes };
        let mut txn = Txn::new(&layer, sequence, self.room);
        if !work.run(&mut txn) {
            drop(txn);
            self.works.push((work, None));
            return;
        }
        let Effects { changes, tally, pending } = txn.finish();
        let size = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| {
            16 + key.len() + value.as_ref().map_or(0, Vec::len)
        };
        let bytes = changes.iter().map(size).sum();
        if bytes > TRANSACTION_BYTES_MAX {
            self.works.push((work, Some(Failure::TooLarge { bytes })));
            return;
        }
        self.works.push((work, None));
        self.bytes += bytes;
        self.changes.extend(changes);
        self.tally.objects += tally.objects;
        self.tally.bytes += tally.bytes;
        self.pending.extend(pending);
    }

    /// No more transactions: what it changes, for others to see, and who waits.
    pub(super) fn close(self) -> (Arc<Changes>, Waiting) {
        (Arc::new(self.changes), Waiting { works: self.works, pending: self.pending })
    }
}

/// Who waits for a batch.
pub(super) struct Waiting {
    works: Vec<(Box<dyn Work>, Option<Failure>)>,
    pending: Vec<Pending>,
}

impl Waiting {
    /// Tells them.
    pub(super) fn answer(self, result: &Result<(), Failure>) {
        match result {
            Ok(()) => self.pending.into_iter().for_each(Pending::keep),
            // Their records may be on disk: the next start decides.
            Err(Failure::ReadOnly(_)) => self.pending.into_iter().for_each(Pending::leave),
            Err(_) => drop(self.pending),
        }
        let failure = result.as_ref().err();
        for (work, own) in self.works {
            work.done(own.or_else(|| failure.cloned()));
        }
    }
}
