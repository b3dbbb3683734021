//! The disk threads: a bounded number of them, for what blocks.
//!
//! They take what callers await one piece at a time, so the queue is bounded by the callers: staging files,
//! which are limited, and removals.

use crossbeam::channel::{Sender, unbounded};
use futures_channel::oneshot;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

type Job = Box<dyn FnOnce() + Send>;

/// The threads' handle; they end when it is dropped and the queue is empty.
#[derive(Debug)]
pub(super) struct Pool {
    queue: Sender<Job>,
}

impl Pool {
    pub(super) fn start(name: &str, threads: usize) -> io::Result<Self> {
        let (queue, jobs) = unbounded::<Job>();
        for number in 0..threads.max(1) {
            let jobs = jobs.clone();
            std::thread::Builder::new().name(format!("{name}-{number}")).spawn(move || {
                for job in jobs {
                    // A job that panics drops what its caller waits on; the thread goes on.
                    if catch_unwind(AssertUnwindSafe(job)).is_err() {
                        log::error!("a job on a disk thread panicked");
                    }
                }
            })?;
        }
        Ok(Self { queue })
    }

    /// Runs a job on a disk thread and waits for it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let (reply, answer) = oneshot::channel();
        self.post(move || drop(reply.send(job())));
        answer.await.map_err(|_| io::Error::other("the disk thread panicked"))
    }

    /// Runs a job on a disk thread, sooner or later.
    pub(super) fn post(&self, job: impl FnOnce() + Send + 'static) {
        let sent = self.queue.send(Box::new(job));
        assert!(sent.is_ok(), "the disk threads live as long as their handle");
    }
}
