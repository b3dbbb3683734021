//! Ids of blobs: each is used once. They are reserved in blocks, on disk, before they are used.

use crate::format::state_key;
use crate::store::{BlobId, Txn, TxnError, ViewExt};
use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

/// Ids reserved at a time: one directory of objects.
pub const BLOCK_IDS: u64 = 1 << super::DIRECTORY_BITS;
/// The state key of the end of all that is reserved.
pub(super) const RESERVED: &str = "blob-reserved";
/// The state key of the lowest id that may be without a record.
pub(crate) const FLOOR: &str = "blob-floor";

/// The ids of this run of the store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ids(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    free: VecDeque<Range<u64>>,
    /// Starts of blocks that a transaction has reserved and nobody has added yet.
    promised: BTreeSet<u64>,
    /// Given out, and without a record that is committed.
    in_flight: BTreeSet<u64>,
}

impl Ids {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// The next id, if one is reserved.
    pub(crate) fn take(&self) -> Option<BlobId> {
        let mut state = self.state();
        let range = state.free.front_mut()?;
        let id = range.start;
        range.start += 1;
        if range.is_empty() {
            state.free.pop_front();
        }
        state.in_flight.insert(id);
        Some(BlobId(id))
    }

    /// Adds a block that was reserved.
    pub(crate) fn add(&self, block: Range<u64>) {
        let mut state = self.state();
        state.promised.remove(&block.start);
        state.free.push_back(block);
    }

    /// An id that has its record now, or whose file is gone.
    pub(crate) fn settle(&self, blob: BlobId) {
        self.state().in_flight.remove(&blob.0);
    }

    /// The lowest id that may be without a record, `None` when no id is given out, free or promised; then
    /// promises a block. If the block's transaction fails, the promise stays: the floor is only lower than it
    /// might be.
    fn promise(&self, block: &Range<u64>) -> Option<u64> {
        let mut state = self.state();
        let free = state.free.iter().map(|range| range.start).min();
        let firsts = [state.in_flight.first().copied(), state.promised.first().copied(), free];
        state.promised.insert(block.start);
        firsts.into_iter().flatten().min()
    }

    /// What reserves the next block, as a transaction.
    pub(crate) fn reserve(
        &self,
    ) -> impl FnOnce(&mut Txn<'_>) -> Result<Range<u64>, TxnError> + Send + use<> {
        let ids = self.clone();
        move |txn| {
            let start: u64 = txn.get_value(&state_key(RESERVED))?.unwrap_or(0);
            let block = start..start + BLOCK_IDS;
            // Within the transaction: of several that reserve at once, each must see the blocks of those
            // before it, or the floor would rise above ids that are about to be given out.
            let floor = ids.promise(&block).unwrap_or(start).min(start);
            txn.put_value(state_key(RESERVED), &block.end);
            txn.put_value(state_key(FLOOR), &floor);
            Ok(block)
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn ids_are_given_out_once_and_in_order() {
        let ids = Ids::default();
        assert_eq!(ids.take(), None);
        ids.add(0..2);
        ids.add(8..9);
        let taken: Vec<_> = std::iter::from_fn(|| ids.take()).map(|id| id.0).collect();
        assert_eq!(taken, [0, 1, 8]);
    }

    #[test]
    fn the_floor_is_below_all_that_may_be_without_a_record() {
        let ids = Ids::default();
        assert_eq!(ids.promise(&(5..9)), None);
        ids.add(5..9);
        let (first, second) = (ids.take().unwrap(), ids.take().unwrap());
        ids.settle(second);
        assert_eq!(ids.promise(&(9..13)), Some(first.0));
        ids.settle(first);
        assert_eq!(ids.promise(&(13..17)), Some(7));
    }

    // Two first uploads came at once, each found no id and reserved a block; the second one's transaction
    // took the floor to the start of its own block, and files that a power cut left without a record in the
    // first one's block were never looked at again.
    #[test]
    fn a_block_that_is_reserved_and_not_yet_added_holds_the_floor() {
        let ids = Ids::default();
        assert_eq!(ids.promise(&(0..4)), None);
        assert_eq!(ids.promise(&(4..8)), Some(0));
        ids.add(4..8);
        assert_eq!(ids.promise(&(8..12)), Some(0));
    }
}
