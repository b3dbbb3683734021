//! The committer's loop.

use super::work::{Failure, Work};
use super::{
    BATCH_BYTES_MAX, BATCH_TRANSACTIONS_MAX, CHECKPOINT_BYTES, CHECKPOINT_INTERVAL, Message,
    Shared, Surroundings, TRANSACTION_BYTES_MAX,
};
use crate::files::Pending;
use crate::format::{Keyspace, Value, state_key};
use crate::index::{Changes, Index, IndexError, Layer, Persist, View};
use crate::journal::{AppendError, Journal};
use crate::store::{Effects, OBJECT_BYTES, OBJECTS, Room, Tally, Txn, ViewExt};
use crossbeam::channel::{Receiver, RecvTimeoutError};
use futures_channel::oneshot;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

pub(super) struct Loop {
    index: Box<dyn Index>,
    journal: Journal,
    surroundings: Surroundings,
    messages: Receiver<Message>,
    shared: Arc<Shared>,
    /// The last sequence given to anybody, committed or not.
    sequence: u64,
    objects: u64,
    object_bytes: u64,
    /// When the oldest change was made that the index has not persisted.
    behind_since: Option<Instant>,
    behind_bytes: u64,
}

/// What is to be done once a batch is answered.
enum After {
    GoOn,
    Persist(oneshot::Sender<()>),
    Stop,
}

/// A batch in the making.
#[derive(Default)]
struct Batch {
    works: Vec<(Box<dyn Work>, Option<Failure>)>,
    changes: Changes,
    bytes: usize,
    tally: Tally,
    pending: Vec<Pending>,
}

impl Loop {
    pub(super) fn new(
        index: Box<dyn Index>,
        journal: Journal,
        surroundings: Surroundings,
        messages: Receiver<Message>,
        shared: Arc<Shared>,
    ) -> Result<Self, IndexError> {
        let view = shared.view();
        let number = |name| Ok::<u64, IndexError>(view.get_value(&state_key(name))?.unwrap_or(0));
        Ok(Self {
            sequence: journal.sequence(),
            objects: number(OBJECTS)?,
            object_bytes: number(OBJECT_BYTES)?,
            behind_since: None,
            behind_bytes: 0,
            index,
            journal,
            surroundings,
            messages,
            shared,
        })
    }

    pub(super) fn run(mut self) {
        loop {
            let message = match self.behind_since {
                None => self.messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(since) => self.messages.recv_deadline(since + CHECKPOINT_INTERVAL),
            };
            let after = match message {
                Ok(Message::Work(first)) => self.batch(first),
                Err(RecvTimeoutError::Timeout) => After::GoOn,
                Ok(Message::Persist(reply)) => After::Persist(reply),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => After::Stop,
            };
            let due = self.behind_since.is_some_and(|since| since.elapsed() >= CHECKPOINT_INTERVAL);
            if due || self.behind_bytes >= CHECKPOINT_BYTES || !matches!(after, After::GoOn) {
                self.checkpoint();
            }
            match after {
                After::GoOn => {}
                // Whoever asked may have gone away.
                After::Persist(reply) => drop(reply.send(())),
                After::Stop => return,
            }
        }
    }

    /// Gathers, commits and answers one batch; what to do after it.
    fn batch(&mut self, first: Box<dyn Work>) -> After {
        if let Some(why) = self.surroundings.latch.closed() {
            first.done(Some(Failure::ReadOnly(why)));
            return After::GoOn;
        }
        let base = self.shared.view();
        let room = (self.surroundings.room)();
        let mut batch = Batch::default();
        let mut after = After::GoOn;
        let mut next = Some(first);
        while let Some(work) = next.take() {
            self.run_one(work, &*base, room, &mut batch);
            if batch.works.len() < BATCH_TRANSACTIONS_MAX && batch.bytes < BATCH_BYTES_MAX {
                next = match self.messages.try_recv() {
                    Ok(Message::Work(work)) => Some(work),
                    Ok(Message::Persist(reply)) => {
                        after = After::Persist(reply);
                        None
                    }
                    Ok(Message::Stop) => {
                        after = After::Stop;
                        None
                    }
                    Err(_) => None,
                };
            }
        }
        drop(base);
        let result = self.commit(&mut batch);
        match &result {
            Ok(()) => batch.pending.into_iter().for_each(Pending::keep),
            // Their records may be on disk: the next start decides.
            Err(Failure::ReadOnly(_)) => batch.pending.into_iter().for_each(Pending::leave),
            Err(_) => drop(batch.pending),
        }
        let failure = result.err();
        for (work, own) in batch.works {
            work.done(own.or_else(|| failure.clone()));
        }
        after
    }

    fn run_one(&mut self, mut work: Box<dyn Work>, base: &dyn View, room: Room, batch: &mut Batch) {
        let layer = Layer { base, changes: &batch.changes };
        let mut txn = Txn::new(&layer, &mut self.sequence, room);
        if !work.run(&mut txn) {
            drop(txn);
            batch.works.push((work, None));
            return;
        }
        let Effects { changes, tally, pending } = txn.finish();
        let size = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| {
            16 + key.len() + value.as_ref().map_or(0, Vec::len)
        };
        let bytes = changes.iter().map(size).sum();
        if bytes > TRANSACTION_BYTES_MAX {
            batch.works.push((work, Some(Failure::TooLarge { bytes })));
            return;
        }
        batch.works.push((work, None));
        batch.bytes += bytes;
        batch.changes.extend(changes);
        batch.tally.objects += tally.objects;
        batch.tally.bytes += tally.bytes;
        batch.pending.extend(pending);
    }

    fn commit(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        if batch.changes.is_empty() {
            return Ok(());
        }
        let objects = self.objects.saturating_add_signed(batch.tally.objects);
        let object_bytes = self.object_bytes.saturating_add_signed(batch.tally.bytes);
        if batch.tally != Tally::default() {
            batch.changes.insert(state_key(OBJECTS), Some(objects.encode()));
            batch.changes.insert(state_key(OBJECT_BYTES), Some(object_bytes.encode()));
        }
        // A batch needs a number of its own, even if none of its transactions asked for one.
        self.sequence += 1;
        let segment = self.journal.segment();
        let written = match self.journal.append(self.sequence, &batch.changes) {
            Ok(written) => written,
            Err(AppendError::Full) => return Err(Failure::Full),
            Err(error) => return Err(self.latch(&error)),
        };
        // From here on the batch has happened. If the index can't follow, reads are of the past: no more
        // writes then, and the next start replays the journal.
        let applied = self.index.apply(&batch.changes, self.sequence, Persist::Later);
        let view = applied.and_then(|()| self.index.view()).map_err(|error| self.latch(&error))?;
        (self.surroundings.changed)(&batch.changes, self.sequence);
        self.shared.publish(view, self.sequence);
        if changed_settings(&batch.changes) {
            // After the view: who reads the new number reads the new settings.
            self.shared.settings.fetch_add(1, Ordering::AcqRel);
        }
        (self.objects, self.object_bytes) = (objects, object_bytes);
        self.behind_since.get_or_insert_with(Instant::now);
        self.behind_bytes += written;
        if self.journal.segment() != segment {
            (self.surroundings.segment)();
        }
        let unlinks = batch.changes.range(vec![Keyspace::ToUnlink.byte()]..);
        let unlink = unlinks
            .take_while(|(key, _)| key.first() == Some(&Keyspace::ToUnlink.byte()))
            .any(|(_, change)| change.is_some());
        if unlink {
            (self.surroundings.unlink)();
        }
        Ok(())
    }

    /// Persists the index: what is in it need not be replayed after a crash.
    fn checkpoint(&mut self) {
        if self.behind_since.take().is_none() || self.surroundings.latch.closed().is_some() {
            return;
        }
        self.behind_bytes = 0;
        // The index must never be ahead of the journal on disk.
        if let Err(error) = self.journal.sync() {
            self.latch(&error);
            return;
        }
        let sequence = self.journal.sequence();
        match self.index.apply(&Changes::new(), sequence, Persist::Now) {
            Ok(()) => self.shared.persisted.store(sequence, Ordering::Release),
            Err(error) => drop(self.latch(&error)),
        }
    }

    fn latch(&self, error: &dyn std::error::Error) -> Failure {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.ends_with(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        Failure::ReadOnly(self.surroundings.latch.close(text))
    }
}

fn changed_settings(changes: &Changes) -> bool {
    [Keyspace::Buckets, Keyspace::BucketConfigs].into_iter().any(|keyspace| {
        let first = changes.range(vec![keyspace.byte()]..).next();
        first.is_some_and(|(key, _)| key.first() == Some(&keyspace.byte()))
    })
}
