//! The committer: one thread that runs all transactions, and the queue before it.

use crate::format::{Value, state_key};
use crate::index::{Changes, Index, IndexError, Layer, Persist, SharedView};
use crate::store::{OBJECT_BYTES, OBJECTS, Room, Tally, Txn};
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use futures_channel::oneshot;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use thiserror::Error;

/// Transactions that may wait for the committer: more are refused, since they would wait too long.
pub const QUEUE_MAX: usize = 16 * 1024;
/// The most transactions in a batch: bounds how long the first one waits for the last.
pub const BATCH_TRANSACTIONS_MAX: usize = 1024;

/// Why a transaction did not happen.
#[derive(Debug, Error)]
pub enum TransactError<E> {
    /// The closure refused, with this.
    #[error("the transaction was refused")]
    Refused(E),
    /// Too many wait already: try again later.
    #[error("too many transactions wait; try again later")]
    Busy,
    /// The disk has no room for it; nothing of it was kept.
    #[error("the data disk is full; delete objects")]
    Full,
    /// The store takes no changes any more. Whether this one happened is known after a restart.
    #[error("the store is read-only: {0}")]
    ReadOnly(Arc<str>),
    /// The store is shutting down.
    #[error("the store is shutting down")]
    ShutDown,
}

/// The committer's handle.
pub(crate) struct Committer {
    queue: Sender<Box<dyn Work>>,
    shared: Arc<Shared>,
}

struct Shared {
    view: RwLock<SharedView>,
    sequence: AtomicU64,
}

trait Work: Send {
    fn run(&mut self, txn: &mut Txn<'_>) -> bool;
    fn done(self: Box<Self>, failure: Option<Failure>);
}

#[derive(Clone)]
enum Failure {
    ReadOnly(Arc<str>),
}

struct Transaction<T, E, F> {
    work: Option<F>,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, TransactError<E>>>,
}

impl<T, E, F> Work for Transaction<T, E, F>
where
    F: FnOnce(&mut Txn<'_>) -> Result<T, E> + Send,
    T: Send,
    E: Send,
{
    fn run(&mut self, txn: &mut Txn<'_>) -> bool {
        let work = self.work.take().expect("a transaction is run once");
        let result = work(txn);
        let keep = result.is_ok();
        self.result = Some(result);
        keep
    }

    fn done(self: Box<Self>, failure: Option<Failure>) {
        let answer = match (failure, self.result) {
            (None, Some(Ok(value))) => Ok(value),
            (None, Some(Err(error))) => Err(TransactError::Refused(error)),
            (Some(Failure::ReadOnly(why)), _) => Err(TransactError::ReadOnly(why)),
            (None, None) => Err(TransactError::ShutDown),
        };
        // Whoever asked may have gone away; what was committed stays.
        drop(self.reply.send(answer));
    }
}

impl Committer {
    pub(crate) fn start(index: Box<dyn Index>) -> Result<Self, IndexError> {
        let (queue, work) = bounded(QUEUE_MAX);
        let sequence = index.applied()?;
        let shared =
            Arc::new(Shared { view: RwLock::new(index.view()?), sequence: sequence.into() });
        let thread = Loop { index, work, shared: Arc::clone(&shared), sequence };
        std::thread::spawn(move || thread.run());
        Ok(Self { queue, shared })
    }

    pub(crate) async fn transact<T, E, F>(&self, work: F) -> Result<T, TransactError<E>>
    where
        F: FnOnce(&mut Txn<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let work = Box::new(Transaction { work: Some(work), result: None, reply });
        match self.queue.try_send(work) {
            Ok(()) => answer.await.unwrap_or(Err(TransactError::ShutDown)),
            Err(TrySendError::Full(_)) => Err(TransactError::Busy),
            Err(TrySendError::Disconnected(_)) => Err(TransactError::ShutDown),
        }
    }

    pub(crate) fn view(&self) -> SharedView {
        Arc::clone(&self.shared.view.read().expect("no holder of this lock panics"))
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.shared.sequence.load(Ordering::Acquire)
    }

    pub(crate) fn shutdown(&self) {}
}

struct Loop {
    index: Box<dyn Index>,
    work: Receiver<Box<dyn Work>>,
    shared: Arc<Shared>,
    sequence: u64,
}

impl Loop {
    fn run(mut self) {
        while let Ok(first) = self.work.recv() {
            let mut batch = vec![first];
            batch.extend(self.work.try_iter().take(BATCH_TRANSACTIONS_MAX - 1));
            let failure = self.commit(&mut batch).err();
            for work in batch {
                work.done(failure.clone());
            }
        }
    }

    fn commit(&mut self, batch: &mut [Box<dyn Work>]) -> Result<(), Failure> {
        let base = Arc::clone(&self.shared.view.read().expect("no holder of this lock panics"));
        let mut changes = Changes::new();
        let mut tally = Tally::default();
        for work in batch {
            let layer = Layer { base: &*base, changes: &changes };
            let mut txn = Txn::new(&layer, &mut self.sequence, Room::Enough);
            if work.run(&mut txn) {
                let effects = txn.finish();
                tally.objects += effects.tally.objects;
                tally.bytes += effects.tally.bytes;
                drop(effects.pending);
                changes.extend(effects.changes);
            }
        }
        let failed = |error: IndexError| Failure::ReadOnly(error.to_string().into());
        for (name, change) in [(OBJECTS, tally.objects), (OBJECT_BYTES, tally.bytes)] {
            let key = state_key(name);
            let old = base.get(&key).map_err(failed)?.map(u64::decode);
            let old = old.transpose().unwrap_or_default().unwrap_or_default();
            if change != 0 {
                changes.insert(key, Some(old.saturating_add_signed(change).encode()));
            }
        }
        self.index.apply(&changes, self.sequence, Persist::Later).map_err(failed)?;
        let view = self.index.view().map_err(failed)?;
        *self.shared.view.write().expect("no holder of this lock panics") = view;
        self.shared.sequence.store(self.sequence, Ordering::Release);
        Ok(())
    }
}

/// Waits for a future on this thread.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
