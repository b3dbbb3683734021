//! What is too long for one transaction: settling the waiting tasks of a cancelled job, and clearing
//! away what settled reducers have read. One thread, woken by job; its work is found in the index, so
//! that a restart goes on where it was.

use super::job::{Hand, Job};
use super::key;
use super::notice::Notices;
use super::progress::Event;
use super::record::{Input, Record, TaskRecord, TaskState};
use super::verdict::Failure;
use super::{Jobs, JobsError};
use crate::store::{Store, Txn};
use crossbeam::channel::{Receiver, Sender, unbounded};
use std::time::Duration;
use wire::job::JobId;

/// Records settled or cleared in one transaction: bounds how long everybody else's commits wait.
const PAGE: usize = 128;

/// How often a busy store is asked again, and after how long: ten minutes in all.
const TRIES: u32 = 600;
/// See [`TRIES`].
const PAUSE: Duration = Duration::from_secs(1);

/// The thread's handle. Dropped, it ends when its queue is empty.
pub struct Janitor {
    // Unbounded, and bounded all the same: an entry for each settled reducer and each cancelled job.
    queue: Sender<JobId>,
}

impl Janitor {
    /// Starts the thread.
    pub fn start(store: Store, notices: Notices) -> Self {
        let (queue, work) = unbounded();
        std::thread::Builder::new()
            .name("janitor".into())
            .spawn(move || run(&store, &notices, &work))
            .expect("a thread can be started when the store opens");
        Self { queue }
    }

    /// This job has something to settle or to clear.
    pub fn look_at(&self, job: JobId) {
        self.queue.send(job).expect("the thread lives as long as this handle");
    }
}

fn run(store: &Store, notices: &Notices, work: &Receiver<JobId>) {
    for job in work {
        match clean_patiently(store, job) {
            Ok(()) => notices.changed(job),
            // The work is in the index still: the next start of storaged goes on with it.
            Err(error) => log::error!("job {job}: cannot clear up: {}", crate::s3::chain(&error)),
        }
    }
}

/// A busy or full store is waited for: deletes, here and elsewhere, make room.
fn clean_patiently(store: &Store, job: JobId) -> Result<(), JobsError> {
    for _ in 0..TRIES {
        match clean(store, job) {
            Err(JobsError::Busy | JobsError::Full) => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
    clean(store, job)
}

fn clean(store: &Store, id: JobId) -> Result<(), JobsError> {
    while store.transact_wait(move |txn| clean_page(txn, id)).map_err(JobsError::from)? {}
    Ok(())
}

/// Does one page of work; whether there may be more.
fn clean_page(txn: &mut Txn<'_>, id: JobId) -> Result<bool, JobsError> {
    let mut job = Job::load(txn, id)?;
    let worked = sweep_page(txn, &mut job)? || clear_page(txn, &mut job)?;
    if worked {
        job.save(txn);
    }
    Ok(worked)
}

fn sweep_page(txn: &mut Txn<'_>, job: &mut Job) -> Result<bool, JobsError> {
    if !job.progress.cancelled() {
        return Ok(false);
    }
    for phase in 0..job.head.spec.phases.len() {
        let page = key::page(txn, &key::all_ready(job.id, phase), None, PAGE)?;
        for number in page.iter().filter_map(|(key, _)| key::last_number(key)) {
            sweep(txn, job, phase, number)?;
        }
        if !page.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn sweep(txn: &mut Txn<'_>, job: &mut Job, phase: usize, number: u64) -> Result<(), JobsError> {
    let mut task = TaskRecord::load(txn, &key::task(job.id, phase, number))?;
    txn.delete(key::ready(job.id, phase, number));
    task.state = TaskState::Failed;
    txn.put(key::task(job.id, phase, number), task.encode());
    let error = job.error(phase, task.input.as_ref(), &Failure::cancelled(), None);
    let hand = Hand { error: Some(error), settled: Some((number, &task)), ..Hand::default() };
    job.happen(txn, Event::Swept(phase), &hand)
}

fn clear_page(txn: &mut Txn<'_>, job: &mut Job) -> Result<bool, JobsError> {
    let clearing = key::page(txn, &key::all_clearing(job.id), None, 1)?;
    let Some((at, _)) = clearing.first() else { return Ok(false) };
    let Some((phase, reducer)) = key::last_reducer(at) else { return Ok(false) };
    let page = key::page(txn, &key::reducer_inputs(job.id, phase, reducer), None, PAGE)?;
    for (key, value) in &page {
        job.let_go(txn, phase, &Input::decode(value)?)?;
        txn.delete(key.clone());
    }
    if page.len() < PAGE {
        txn.delete(at.clone());
        job.happen(txn, Event::Cleared(phase), &Hand::default())?;
    }
    Ok(true)
}

impl Jobs {
    /// Waits until nothing is left to clear in `job`; for tests, and for those who want to see it gone.
    ///
    /// # Errors
    /// What the index says.
    pub fn clear_now(&self, job: JobId) -> Result<(), JobsError> {
        clean(&self.store, job)
    }
}
