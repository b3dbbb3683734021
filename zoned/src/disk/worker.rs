//! A thread that does one job after the other, in the order in which they were handed over, and tells by a descriptor
//! what became of them.
//!
//! It knows nothing of zones; what hangs on a job is kept here beside it. A job that panics ends zoned: whoever waits
//! for it would wait for ever, and the next zoned finds everything again.

use super::batch::{Sort, together};
use super::file::{FileError, Replacement, replace_all};
use crate::slot::{SLOTS_MAX, TASK_SLOTS_MAX};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use sys::event::Event;
use sys::namespace;
use thiserror::Error;
use wire::standing::ZONES_MAX;

/// The most jobs at once: a standing zone has one, a slot of tasks two, and there are some for what is no zone's. Who
/// would wait in line for longer is not heard until there is room ([`crate::status`]).
pub const JOBS_MAX: usize = 2 * SLOTS_MAX as usize;
const _: () = assert!(JOBS_MAX >= ZONES_MAX + 256 && JOBS_MAX >= 2 * TASK_SLOTS_MAX as usize);
/// The thread's stack: names of files, and buffers of directories.
const STACK_BYTES: usize = 256 << 10;

/// Why there is no worker.
#[derive(Debug, Error)]
#[error("cannot {act} a thread that writes to the disk")]
pub struct WorkerError {
    act: &'static str,
    source: io::Error,
}

type Result<T = ()> = std::result::Result<T, FileError>;

/// Something for the disk.
pub enum Job {
    /// To replace a record; several of them share a sync.
    Replace(Replacement),
    /// Anything else.
    Alone(Box<dyn FnOnce() -> Result + Send>),
}

impl Job {
    /// Anything that is no record.
    pub fn alone(act: impl FnOnce() -> Result + Send + 'static) -> Self {
        Self::Alone(Box::new(act))
    }

    fn sort(&self) -> Sort<'_> {
        match self {
            Self::Replace(record) => Sort::Record(record.path()),
            Self::Alone(_) => Sort::Alone,
        }
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.sort().fmt(f)
    }
}

/// What both sides see.
#[derive(Debug, Default)]
struct Line {
    jobs: VecDeque<Job>,
    done: VecDeque<Result>,
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    line: Mutex<Line>,
    /// There is a job, or there will be none.
    filled: Condvar,
    /// Rung as long as something is done that nobody has taken.
    bell: Event,
}

impl Shared {
    fn line(&self) -> MutexGuard<'_, Line> {
        // Nobody panics while he holds it: it is never half changed.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread, and what hangs on its jobs.
#[derive(Debug)]
pub struct Worker<B> {
    shared: Arc<Shared>,
    /// Jobs of this turn.
    fresh: Vec<Job>,
    /// Of each job that was handed over and not taken back, in their order.
    beside: VecDeque<B>,
    thread: Option<JoinHandle<()>>,
}

impl<B> Worker<B> {
    /// A worker with nothing to do.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub fn start(name: &str) -> std::result::Result<Self, WorkerError> {
        let failed = |act| move |source| WorkerError { act, source };
        let bell = Event::new().map_err(failed("make the descriptor of"))?;
        let (line, filled) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { line, filled, bell });
        let (theirs, (tell, told)) = (Arc::clone(&shared), std::sync::mpsc::sync_channel(1));
        let thread =
            Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(move || {
                let apart = namespace::own_directories();
                let goes_on = apart.is_ok();
                // Its sender waits for it.
                if tell.send(apart).is_ok() && goes_on {
                    work(&theirs);
                }
            });
        let thread = thread.map_err(failed("start"))?;
        let apart = told.recv().unwrap_or_else(|gone| Err(io::Error::other(gone)));
        apart.map_err(failed("set apart"))?;
        Ok(Self { shared, fresh: Vec::new(), beside: VecDeque::new(), thread: Some(thread) })
    }

    /// Has something done, after all that was submitted before.
    pub fn submit(&mut self, job: Job, beside: B) {
        debug_assert!(self.beside.len() < JOBS_MAX, "more jobs than there can be");
        self.fresh.push(job);
        self.beside.push_back(beside);
    }

    /// Hands over what was submitted in this turn.
    pub fn flush(&mut self) {
        if !self.fresh.is_empty() {
            self.shared.line().jobs.extend(self.fresh.drain(..));
            self.shared.filled.notify_one();
        }
    }

    /// The next job that is done, and what hung on it; none if none is.
    pub fn take_done(&mut self) -> Option<(B, Result)> {
        let mut line = self.shared.line();
        let result = line.done.pop_front()?;
        if line.done.is_empty()
            && let Err(error) = self.shared.bell.hear()
        {
            // It goes on ringing, and is looked at for nothing.
            eprintln!("zoned: a worker's descriptor cannot be read: {error}");
        }
        drop(line);
        Some((self.beside.pop_front()?, result))
    }

    /// Jobs that are not done, or not taken back.
    #[must_use]
    pub fn len(&self) -> usize {
        self.beside.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.beside.is_empty()
    }

    /// Waits until all is done that was submitted, and ends.
    pub fn finish(&mut self) {
        self.flush();
        self.shared.line().closed = true;
        self.shared.filled.notify_one();
        // One that panicked has ended this process.
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("zoned: a worker ended before its jobs");
        }
    }
}

impl<B> Drop for Worker<B> {
    fn drop(&mut self) {
        self.finish();
    }
}

impl<B> AsFd for Worker<B> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.bell.as_fd()
    }
}

/// Ends this process if the thread that has it panics.
struct Fuse;

impl Drop for Fuse {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

fn work(shared: &Shared) {
    let _fuse = Fuse;
    while let Some(batch) = next(shared) {
        let done = act(batch);
        let mut line = shared.line();
        line.done.extend(done);
        if let Err(error) = shared.bell.ring() {
            // Nobody would ever hear of it.
            eprintln!("zoned: a worker cannot tell that it is done: {error}");
            std::process::abort();
        }
    }
}

/// Waits for jobs; none when there will be no more.
fn next(shared: &Shared) -> Option<Vec<Job>> {
    let line = shared.line();
    let idle = |line: &mut Line| line.jobs.is_empty() && !line.closed;
    let waited = shared.filled.wait_while(line, idle);
    let mut line = waited.unwrap_or_else(PoisonError::into_inner);
    let count = together(line.jobs.iter().map(Job::sort));
    (count > 0).then(|| line.jobs.drain(..count).collect())
}

/// Does the jobs of a batch: one that is alone, or records.
fn act(batch: Vec<Job>) -> Vec<Result> {
    let mut records = Vec::with_capacity(batch.len());
    for job in batch {
        match job {
            Job::Replace(record) => records.push(record),
            Job::Alone(act) => return vec![act()],
        }
    }
    replace_all(records)
}

#[cfg(test)]
mod test {
    use super::super::file::{Whose, failed};
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::{Path, PathBuf};

    fn record(path: &Path, text: &str) -> Job {
        Job::Replace(Replacement::new(Whose::Image, path.to_owned(), text.as_bytes().to_vec()))
    }

    fn is_rung<B>(worker: &Worker<B>, timeout: PollTimeout) -> bool {
        poll(&mut [PollFd::new(worker.as_fd(), PollFlags::POLLIN)], timeout).unwrap() == 1
    }

    #[test]
    fn it_rings_until_all_that_is_done_is_taken() {
        let place = tempfile::tempdir().unwrap();
        let mut worker = Worker::start("test").unwrap();
        worker.submit(record(&place.path().join("a"), "1"), 'a');
        worker
            .submit(Job::alone(|| Err(failed("do", Path::new("it"))(io::Error::other("no")))), 'b');
        assert!(worker.take_done().is_none() && !is_rung(&worker, PollTimeout::ZERO));
        worker.flush();
        let mut got = Vec::new();
        while got.len() < 2 {
            assert!(is_rung(&worker, PollTimeout::NONE));
            got.extend(worker.take_done());
        }
        assert!(!is_rung(&worker, PollTimeout::ZERO) && worker.is_empty());
        assert!(matches!(&got[..], [('a', Ok(())), ('b', Err(_))]), "{got:?}");
    }

    #[test]
    fn it_ends_when_all_is_done() {
        let place = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..100).map(|at| place.path().join(at.to_string())).collect();
        let mut worker = Worker::start("test").unwrap();
        for path in &paths {
            worker.submit(record(path, "all"), ());
        }
        drop(worker);
        assert!(paths.iter().all(|path| fs::read_to_string(path).unwrap() == "all"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Whatever is submitted, in how many turns: what is on disk is what came last, and results come in order.
        #[test]
        fn the_last_word_counts(
            jobs in prop::collection::vec((0..6_usize, any::<Option<u8>>(), any::<bool>()), 1..60),
        ) {
            let place = tempfile::tempdir().unwrap();
            let path = |at: usize| place.path().join(at.to_string());
            let mut worker = Worker::start("test").unwrap();
            let mut expected: BTreeMap<usize, Option<u8>> = BTreeMap::new();
            for (number, (at, text, flush)) in jobs.iter().enumerate() {
                let job = match text {
                    Some(text) => record(&path(*at), &text.to_string()),
                    None => {
                        let path = path(*at);
                        Job::alone(move || super::super::file::remove(&path))
                    }
                };
                worker.submit(job, number);
                expected.insert(*at, *text);
                if *flush {
                    worker.flush();
                }
            }
            worker.flush();
            for number in 0..jobs.len() {
                prop_assert!(is_rung(&worker, PollTimeout::NONE));
                let (got, result) = worker.take_done().unwrap();
                prop_assert_eq!(got, number);
                prop_assert!(result.is_ok(), "{:?}", result);
            }
            for (at, text) in expected {
                let found = fs::read_to_string(path(at)).ok();
                prop_assert_eq!(found, text.map(|text| text.to_string()));
            }
        }
    }
}
