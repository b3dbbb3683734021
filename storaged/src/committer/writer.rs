//! The journal's own thread: it appends one batch while the committer runs the transactions of the next.
//!
//! The journal goes to it with each batch and comes back with the answer, so that nobody else can touch it
//! meanwhile.

use crate::index::Changes;
use crate::journal::{AppendError, Journal};
use crossbeam::channel::{Receiver, Sender, bounded};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

/// A batch on its way to disk.
struct Order {
    journal: Journal,
    sequence: u64,
    changes: Arc<Changes>,
}

/// What became of it.
pub(super) struct Written {
    /// The journal, back again.
    pub(super) journal: Journal,
    /// The bytes it took.
    pub(super) result: Result<u64, AppendError>,
    /// Whether it is the first of a new segment.
    pub(super) began_segment: bool,
}

/// The thread's handle.
pub(super) struct Writer {
    orders: Option<Sender<Order>>,
    written: Receiver<Written>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start() -> io::Result<Self> {
        // One batch at a time: the next is written only when this one is on disk.
        let (orders, coming) = bounded::<Order>(1);
        let (done, written) = bounded(1);
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || {
            for Order { mut journal, sequence, changes } in coming {
                let segment = journal.segment();
                let result = journal.append(sequence, &changes);
                drop(changes);
                let began_segment = journal.segment() != segment;
                // Nobody there to hear it: the committer has panicked, and nothing is answered.
                if done.send(Written { journal, result, began_segment }).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { orders: Some(orders), written, thread: Some(thread) })
    }

    /// Has a batch written. There is none on its way yet.
    pub(super) fn write(&self, journal: Journal, sequence: u64, changes: Arc<Changes>) {
        if let Some(orders) = &self.orders {
            // Fails when the thread has panicked: that is seen at the other end.
            drop(orders.send(Order { journal, sequence, changes }));
        }
    }

    /// Where what became of batches comes from; disconnected when the thread has panicked.
    pub(super) fn written(&self) -> &Receiver<Written> {
        &self.written
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the journal's thread panicked");
        }
    }
}
