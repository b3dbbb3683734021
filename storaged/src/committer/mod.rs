//! The committer: one thread that runs all transactions, in one order, and the queue before it.
//!
//! ```text
//!   transact ─▶ queue ─▶ run each closure over what the batch changed so far
//!                         ─▶ one record in the journal, one fdatasync ─▶ index ─▶ new view ─▶ answers
//! ```
//! While one batch is being synced the transactions of the next one run over it: the busier, the larger the
//! batches. A closure that fails leaves nothing; a batch that the journal refuses leaves nothing; a batch whose sync
//! fails makes the store read-only ([`Latch`]), since nobody knows what of it is on disk.

mod batch;
mod latch;
mod run;
mod wait;
mod work;
mod writer;

pub use latch::Latch;
pub(crate) use wait::wait;

use crate::index::{Changes, Index, IndexError, SharedView};
use crate::journal::Journal;
use crate::store::{Room, Txn};
use crossbeam::channel::{Sender, TrySendError, bounded};
use futures_channel::oneshot;
use run::Loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;
use thiserror::Error;
use work::{Transaction, Work};

/// Transactions that may wait for the committer: more are refused, since they would wait too long.
pub const QUEUE_MAX: usize = 16 * 1024;
/// The most transactions in a batch: bounds how long the first one waits for the last.
pub const BATCH_TRANSACTIONS_MAX: usize = 1024;
/// Bytes of changes after which a batch takes no further transaction.
pub const BATCH_BYTES_MAX: usize = 8 << 20;
/// The most bytes of changes in one transaction: with a batch before it, it still fits in one record.
pub const TRANSACTION_BYTES_MAX: usize = 16 << 20;
/// How long the index may be behind the disk: bounds the replay after a crash.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
/// Bytes of journal after which the index is persisted, however short ago it was.
pub const CHECKPOINT_BYTES: u64 = 64 << 20;

const _: () = assert!(
    BATCH_BYTES_MAX + 2 * TRANSACTION_BYTES_MAX < crate::format::RECORD_BYTES_MAX,
    "a batch fits in a record"
);

/// Why a transaction did not happen.
#[derive(Debug, Error)]
pub enum TransactError<E> {
    /// The closure refused, with this.
    #[error("the transaction was refused")]
    Refused(E),
    /// Too many wait already: try again later.
    #[error("more than {QUEUE_MAX} transactions wait; try again later")]
    Busy,
    /// The disk has no room for it; nothing of it was kept.
    #[error("the data disk is full; delete objects")]
    Full,
    /// It changes too much at once.
    #[error("a transaction changes at most {TRANSACTION_BYTES_MAX} bytes, this one {bytes}")]
    TooLarge {
        /// Bytes that it changes.
        bytes: usize,
    },
    /// The closure panicked; nothing of it was kept.
    #[error("the transaction panicked: this is a bug, please report it with the log")]
    Panicked,
    /// The store takes no changes any more. Whether this one happened is known after a restart.
    #[error("the store is read-only: {0}")]
    ReadOnly(Arc<str>),
    /// The store is shutting down.
    #[error("the store is shutting down")]
    ShutDown,
}

/// Told what a batch changed, and its sequence.
pub(crate) type Changed = dyn Fn(&Changes, u64) + Send;

/// What the committer needs of its surroundings.
pub(crate) struct Surroundings {
    /// Whether there is room for new objects.
    pub(crate) room: Box<dyn Fn() -> Room + Send>,
    /// Called after each batch that left files to unlink.
    pub(crate) unlink: Box<dyn Fn() + Send>,
    /// Called after each batch was applied, before anybody sees it: what changed, and its sequence.
    pub(crate) changed: Box<Changed>,
    /// Called after each batch that began a segment of the journal.
    pub(crate) segment: Box<dyn Fn() + Send>,
    /// Where the end of all writing is noted.
    pub(crate) latch: Arc<Latch>,
}

/// The committer's handle.
pub(crate) struct Committer {
    queue: Sender<Message>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Message {
    Work(Box<dyn Work>),
    Persist(oneshot::Sender<()>),
    Stop,
}

/// What the committer's thread shows to the others.
struct Shared {
    /// What is committed, and the last sequence in it.
    view: RwLock<(SharedView, u64)>,
    /// The sequence up to which the index is on disk.
    persisted: AtomicU64,
    /// Grows with each batch that changed a bucket or a configuration, once that can be read.
    settings: AtomicU64,
}

impl Shared {
    fn view(&self) -> SharedView {
        self.view_at().0
    }

    fn view_at(&self) -> (SharedView, u64) {
        let published = self.view.read().expect("no holder of this lock panics");
        (Arc::clone(&published.0), published.1)
    }

    fn publish(&self, view: SharedView, sequence: u64) {
        *self.view.write().expect("no holder of this lock panics") = (view, sequence);
    }
}

impl Committer {
    /// Starts the thread, on a journal and an index that has applied all of it.
    pub(crate) fn start(
        index: Box<dyn Index>,
        journal: Journal,
        surroundings: Surroundings,
    ) -> Result<Self, IndexError> {
        let (queue, messages) = bounded(QUEUE_MAX);
        let (view, sequence) = (index.view()?, journal.sequence());
        // Whoever opened the index has persisted what was replayed.
        let view = RwLock::new((view, sequence));
        let (persisted, settings) = (sequence.into(), 0.into());
        let shared = Arc::new(Shared { view, persisted, settings });
        let thread = Loop::new(index, journal, surroundings, messages, Arc::clone(&shared))?;
        let thread = std::thread::Builder::new()
            .name("committer".into())
            .spawn(move || thread.run())
            .map_err(|error| IndexError::Engine {
                doing: "start the committer's thread",
                source: Box::new(error),
            })?;
        Ok(Self { queue, shared, thread: Mutex::new(Some(thread)) })
    }

    pub(crate) async fn transact<T, E, F>(&self, work: F) -> Result<T, TransactError<E>>
    where
        F: FnOnce(&mut Txn<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let work = Box::new(Transaction::new(work, reply));
        match self.queue.try_send(Message::Work(work)) {
            Ok(()) => answer.await.unwrap_or(Err(TransactError::ShutDown)),
            Err(TrySendError::Full(_)) => Err(TransactError::Busy),
            Err(TrySendError::Disconnected(_)) => Err(TransactError::ShutDown),
        }
    }

    /// What is committed.
    pub(crate) fn view(&self) -> SharedView {
        self.shared.view()
    }

    /// What is committed, and the last sequence in it.
    pub(crate) fn view_at(&self) -> (SharedView, u64) {
        self.shared.view_at()
    }

    /// The last sequence that is committed.
    pub(crate) fn sequence(&self) -> u64 {
        self.shared.view_at().1
    }

    /// The sequence up to which the index, and so the journal, is on disk.
    pub(crate) fn persisted(&self) -> u64 {
        self.shared.persisted.load(Ordering::Acquire)
    }

    /// Persists the index now; the sequence up to which it is on disk then.
    pub(crate) fn persist(&self) -> u64 {
        let (reply, answer) = oneshot::channel();
        // A queue that is closed, or a committer that ends, answers nothing: then it is what it was.
        if self.queue.send(Message::Persist(reply)).is_ok() {
            let (Ok(()) | Err(_)) = wait(answer);
        }
        self.persisted()
    }

    /// See [`crate::store::Store::settings_generation`].
    pub(crate) fn settings_generation(&self) -> u64 {
        self.shared.settings.load(Ordering::Acquire)
    }

    /// Commits what is queued, persists the index and ends the thread; again it does nothing.
    pub(crate) fn shutdown(&self) {
        let thread = self.thread.lock().expect("no holder of this lock panics").take();
        if let Some(thread) = thread {
            // Fails if the thread is gone already, which is what is wanted.
            drop(self.queue.send(Message::Stop));
            if thread.join().is_err() {
                log::error!("the committer's thread panicked");
            }
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.shutdown();
    }
}

#[cfg(test)]
mod test;
