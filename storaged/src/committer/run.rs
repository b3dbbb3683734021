//! The committer's loop: one batch is on its way to disk, the next is in the making.
//!
//! ```text
//!   batch n     ──▶ journal's thread: write, fdatasync ──▶ index, new view, answers
//!   batch n+1        transactions run over what n changes ──▶ to the journal as soon as n is on disk
//! ```
//! Nobody is answered before its batch, and each before it, is on disk and can be read.

use super::batch::{Batch, Waiting};
use super::work::{Failure, Work};
use super::writer::{Writer, Written};
use super::{CHECKPOINT_BYTES, CHECKPOINT_INTERVAL, Message, Shared, Surroundings};
use crate::format::{Keyspace, Value, state_key};
use crate::index::{Changes, Index, IndexError, Persist};
use crate::journal::{AppendError, Journal};
use crate::store::{OBJECT_BYTES, OBJECTS, Tally, ViewExt};
use crossbeam::channel::{Receiver, Select, never};
use futures_channel::oneshot;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Objects in the store, and their bytes.
#[derive(Debug, Clone, Copy)]
struct Totals {
    objects: u64,
    bytes: u64,
}

impl Totals {
    fn with(self, tally: &Tally) -> Self {
        Self {
            objects: self.objects.saturating_add_signed(tally.objects),
            bytes: self.bytes.saturating_add_signed(tally.bytes),
        }
    }
}

/// A batch that is on its way to disk.
struct Flight {
    changes: Arc<Changes>,
    waiting: Waiting,
    sequence: u64,
    totals: Totals,
}

/// Where the journal is.
enum Desk {
    /// Here: nothing is on its way.
    Idle(Journal),
    /// With the journal's thread.
    Busy(Flight),
    /// Lost with that thread.
    Gone,
}

pub(super) struct Loop {
    index: Box<dyn Index>,
    desk: Desk,
    writer: Writer,
    open: Option<Batch>,
    surroundings: Surroundings,
    messages: Receiver<Message>,
    shared: Arc<Shared>,
    /// The last sequence given to anybody, committed or not.
    sequence: u64,
    /// With what is committed.
    totals: Totals,
    /// When the oldest change was made that the index has not persisted.
    behind_since: Option<Instant>,
    behind_bytes: u64,
    after: After,
}

/// What is to be done once all that was taken is answered.
enum After {
    GoOn,
    Persist(oneshot::Sender<()>),
    Stop,
}

/// What there is to do next.
enum Next {
    Message(Message),
    Written(Written),
    /// The index has been behind for long.
    Due,
    /// Nobody will ask for anything any more.
    Closed,
    /// The journal's thread has panicked.
    Lost,
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
        let writer = Writer::start().map_err(|error| IndexError::Engine {
            doing: "start the journal's thread",
            source: Box::new(error),
        })?;
        Ok(Self {
            sequence: journal.sequence(),
            totals: Totals { objects: number(OBJECTS)?, bytes: number(OBJECT_BYTES)? },
            behind_since: None,
            behind_bytes: 0,
            after: After::GoOn,
            open: None,
            index,
            desk: Desk::Idle(journal),
            writer,
            surroundings,
            messages,
            shared,
        })
    }

    pub(super) fn run(mut self) {
        loop {
            match self.next() {
                Next::Message(Message::Work(work)) => self.add(work),
                Next::Message(Message::Persist(reply)) => self.after = After::Persist(reply),
                Next::Message(Message::Stop) | Next::Closed => self.after = After::Stop,
                Next::Written(written) => self.land(written),
                Next::Lost => self.lose(),
                Next::Due => {}
            }
            if !matches!(self.desk, Desk::Busy(_)) {
                self.fill();
                self.send_off();
            }
            if matches!(self.desk, Desk::Busy(_)) {
                continue;
            }
            if self.is_due() || !matches!(self.after, After::GoOn) {
                self.checkpoint();
            }
            match std::mem::replace(&mut self.after, After::GoOn) {
                After::GoOn => {}
                // Whoever asked may have gone away.
                After::Persist(reply) => drop(reply.send(())),
                After::Stop => return,
            }
        }
    }

    /// Whether the index has been behind for too long.
    fn is_due(&self) -> bool {
        let long = |since: Instant| since.elapsed() >= CHECKPOINT_INTERVAL;
        self.behind_bytes >= CHECKPOINT_BYTES || self.behind_since.is_some_and(long)
    }

    /// Whether another transaction may be taken now.
    fn takes_more(&self) -> bool {
        // What is due waits for an idle journal: it comes when nothing more is taken.
        matches!(self.after, After::GoOn)
            && !self.is_due()
            && self.open.as_ref().is_none_or(Batch::has_room)
    }

    /// Waits for what there is to do.
    fn next(&self) -> Next {
        let is_busy = matches!(self.desk, Desk::Busy(_));
        let (no_messages, nothing_written) = (never(), never());
        let messages = if self.takes_more() { &self.messages } else { &no_messages };
        let written = if is_busy { self.writer.written() } else { &nothing_written };
        let mut select = Select::new();
        let message = select.recv(messages);
        let _written = select.recv(written);
        let ready = match self.behind_since {
            // An index that is behind is looked after when the journal is idle.
            Some(since) if !is_busy => select.select_deadline(since + CHECKPOINT_INTERVAL),
            Some(_) | None => Ok(select.select()),
        };
        match ready {
            Err(_) => Next::Due,
            Ok(ready) if ready.index() == message => {
                ready.recv(messages).map_or(Next::Closed, Next::Message)
            }
            Ok(ready) => ready.recv(written).map_or(Next::Lost, Next::Written),
        }
    }

    /// Takes what waits, as far as it goes into the batch in the making.
    fn fill(&mut self) {
        while self.open.is_some() && self.takes_more() {
            match self.messages.try_recv() {
                Ok(Message::Work(work)) => self.add(work),
                Ok(Message::Persist(reply)) => self.after = After::Persist(reply),
                Ok(Message::Stop) => self.after = After::Stop,
                Err(_) => return,
            }
        }
    }

    /// Runs a transaction in the batch in the making.
    fn add(&mut self, work: Box<dyn Work>) {
        if let Some(why) = self.surroundings.latch.closed() {
            work.done(Some(Failure::ReadOnly(why)));
            return;
        }
        let batch = self.open.get_or_insert_with(|| {
            let before = match &self.desk {
                Desk::Busy(flight) => Arc::clone(&flight.changes),
                Desk::Idle(_) | Desk::Gone => Arc::default(),
            };
            Batch::new(self.shared.view(), before, (self.surroundings.room)())
        });
        batch.run(work, &mut self.sequence);
    }

    /// Gives the batch in the making to the journal, which is idle.
    fn send_off(&mut self) {
        let Some(mut batch) = self.open.take() else { return };
        if batch.changes.is_empty() {
            batch.close().1.answer(&Ok(()));
            return;
        }
        let journal = match std::mem::replace(&mut self.desk, Desk::Gone) {
            Desk::Idle(journal) => journal,
            desk @ (Desk::Busy(_) | Desk::Gone) => {
                self.desk = desk;
                let failure = self.latch_because("the journal is not at hand".to_owned());
                batch.close().1.answer(&Err(failure));
                return;
            }
        };
        let totals = self.totals.with(&batch.tally);
        if batch.tally != Tally::default() {
            batch.changes.insert(state_key(OBJECTS), Some(totals.objects.encode()));
            batch.changes.insert(state_key(OBJECT_BYTES), Some(totals.bytes.encode()));
        }
        // A batch needs a number of its own, even if none of its transactions asked for one.
        self.sequence += 1;
        let sequence = self.sequence;
        let (changes, waiting) = batch.close();
        self.writer.write(journal, sequence, Arc::clone(&changes));
        self.desk = Desk::Busy(Flight { changes, waiting, sequence, totals });
    }

    /// The batch that was on its way is on disk, or not.
    fn land(&mut self, written: Written) {
        let Written { journal, result, began_segment } = written;
        let Desk::Busy(flight) = std::mem::replace(&mut self.desk, Desk::Idle(journal)) else {
            return;
        };
        let bytes = match result {
            Ok(bytes) => bytes,
            Err(error) => {
                let failure = match error {
                    AppendError::Full => Failure::Full,
                    error @ AppendError::Failed { .. } => self.latch(&error),
                };
                return self.fail(flight.waiting, failure);
            }
        };
        // The totals count from here on, also for the batch that follows at once.
        self.totals = flight.totals;
        self.fill();
        // One without changes is answered after this one, of which it may have seen something.
        if self.open.as_ref().is_some_and(|batch| !batch.changes.is_empty()) {
            self.send_off();
        }
        let result = self.apply(&flight, bytes, began_segment);
        flight.waiting.answer(&result);
        if let Err(failure) = result
            && let Some(batch) = self.open.take()
        {
            batch.close().1.answer(&Err(failure));
        }
    }

    /// Nobody knows what became of the batch that was on its way.
    fn lose(&mut self) {
        let failure = self.latch_because("the journal's thread panicked: see the log".to_owned());
        if let Desk::Busy(flight) = std::mem::replace(&mut self.desk, Desk::Gone) {
            self.fail(flight.waiting, failure);
        }
    }

    /// A batch did not happen, and so did not the one that was run over what it changed.
    fn fail(&mut self, waiting: Waiting, failure: Failure) {
        let result = Err(failure);
        waiting.answer(&result);
        if let Some(batch) = self.open.take() {
            batch.close().1.answer(&result);
        }
    }

    /// Makes a batch that is in the journal readable.
    fn apply(&mut self, flight: &Flight, bytes: u64, began_segment: bool) -> Result<(), Failure> {
        // If the index could not follow the batch before, it can't follow this one.
        if let Some(why) = self.surroundings.latch.closed() {
            return Err(Failure::ReadOnly(why));
        }
        // The batch has happened. If the index can't follow, reads are of the past: no more writes then, and
        // the next start replays the journal.
        let (changes, sequence) = (&*flight.changes, flight.sequence);
        let applied = self.index.apply(changes, sequence, Persist::Later);
        let view = applied.and_then(|()| self.index.view()).map_err(|error| self.latch(&error))?;
        (self.surroundings.changed)(changes, sequence);
        self.shared.publish(view, sequence);
        if changed_settings(changes) {
            // After the view: who reads the new number reads the new settings.
            self.shared.settings.fetch_add(1, Ordering::AcqRel);
        }
        self.behind_since.get_or_insert_with(Instant::now);
        self.behind_bytes += bytes;
        if began_segment {
            (self.surroundings.segment)();
        }
        let unlinks = changes.range(vec![Keyspace::ToUnlink.byte()]..);
        let unlink = unlinks
            .take_while(|(key, _)| key.first() == Some(&Keyspace::ToUnlink.byte()))
            .any(|(_, change)| change.is_some());
        if unlink {
            (self.surroundings.unlink)();
        }
        Ok(())
    }

    /// Persists the index: what is in it need not be replayed after a crash. The journal is idle.
    fn checkpoint(&mut self) {
        if self.behind_since.take().is_none() || self.surroundings.latch.closed().is_some() {
            return;
        }
        self.behind_bytes = 0;
        let Desk::Idle(journal) = &mut self.desk else { return };
        // The index must never be ahead of the journal on disk.
        if let Err(error) = journal.sync() {
            self.latch(&error);
            return;
        }
        let sequence = journal.sequence();
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
        self.latch_because(text)
    }

    fn latch_because(&self, why: String) -> Failure {
        Failure::ReadOnly(self.surroundings.latch.close(why))
    }
}

fn changed_settings(changes: &Changes) -> bool {
    [Keyspace::Buckets, Keyspace::BucketConfigs].into_iter().any(|keyspace| {
        let first = changes.range(vec![keyspace.byte()]..).next();
        first.is_some_and(|(key, _)| key.first() == Some(&keyspace.byte()))
    })
}
