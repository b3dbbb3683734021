//! The worker: one thread, a pass at each midnight, small steps with pauses between them.

use super::act::{Done, Job, Outcome};
use super::plan::{Day, aborts};
use super::rules::{Rules, RulesError};
use super::walk::{Candidate, Moment, Walk};
use crate::events::{Change, EventKind, Events, Who};
use crate::store::uploads::{AbortError, UploadEntry, UploadQuery, list_uploads};
use crate::store::{
    BucketConfig, IndexError, Store, TransactError, TxnError, bucket, bucket_config, buckets_with,
};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use thiserror::Error;

/// Versions acted on in one transaction: bounds how long everybody else's commits wait.
const BATCH: usize = 128;
/// Uploads that are looked at in one view.
const UPLOADS: usize = 256;
/// The pause after each page and each batch: the machine is for its clients.
const PAUSE: Duration = Duration::from_millis(5);
/// Of a day, how long until changed rules are noticed: a minute of a real one.
const LOOKS_A_DAY: u64 = 24 * 60;
/// The shortest and longest of these: days may be set short.
const LOOK_MIN: Duration = Duration::from_millis(50);
/// See [`LOOK_MIN`].
const LOOK_MAX: Duration = Duration::from_secs(60);
/// How often a busy store is asked again, and after how long: a minute in all.
const TRIES: u32 = 60;
/// See [`TRIES`].
const RETRY: Duration = Duration::from_secs(1);

/// What tells the time, in milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Why there is no worker.
#[derive(Debug, Error)]
pub enum LifecycleError {
    /// No thread.
    #[error("can't start the thread of the lifecycle")]
    Thread(#[source] std::io::Error),
}

/// Why a pass did not come to its end.
#[derive(Debug, Error)]
pub(super) enum PassError {
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("its rules can't be read")]
    Rules(#[from] RulesError),
    #[error("a change could not be made")]
    Transact(#[from] TransactError<TxnError>),
    /// It is told to stop, or the store is.
    #[error("it is told to end")]
    Stop,
}

/// What a pass did to a bucket.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) removed: u64,
    pub(super) marked: u64,
    pub(super) locked: u64,
    pub(super) aborted: u64,
}

/// The thread's handle; it ends with it.
pub struct Lifecycle {
    stop: Sender<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Lifecycle {
    /// Starts the worker.
    ///
    /// # Errors
    /// When its thread can't be started.
    pub fn start(
        store: Store,
        events: Events,
        day: Day,
        clock: Clock,
    ) -> Result<Self, LifecycleError> {
        let (stop, stopped) = bounded(1);
        let worker = Worker { store, events, day, clock, stopped };
        let thread = std::thread::Builder::new()
            .name("lifecycle".into())
            .spawn(move || worker.run())
            .map_err(LifecycleError::Thread)?;
        Ok(Self { stop, thread: Mutex::new(Some(thread)) })
    }

    /// Ends the thread after its current step; again it does nothing.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn stop(&self) {
        let thread = self.thread.lock().expect("no holder of this lock panics").take();
        if let Some(thread) = thread {
            if self.stop.send(()).is_err() {
                log::debug!("the lifecycle's thread has ended already");
            }
            if thread.join().is_err() {
                log::error!("the lifecycle's thread panicked");
            }
        }
    }
}

impl Drop for Lifecycle {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(super) struct Worker {
    pub(super) store: Store,
    pub(super) events: Events,
    pub(super) day: Day,
    pub(super) clock: Clock,
    pub(super) stopped: Receiver<()>,
}

impl Worker {
    fn run(self) {
        let look = Duration::from_millis(self.day.ms() / LOOKS_A_DAY).clamp(LOOK_MIN, LOOK_MAX);
        // The rules that each bucket had in its last whole pass.
        let mut passed = HashMap::new();
        let (mut generation, mut midnight) = (None, 0);
        loop {
            let now_ms = (self.clock)();
            let latest = self.store.settings_generation();
            if now_ms >= midnight {
                passed.clear();
            }
            if now_ms >= midnight || generation != Some(latest) {
                match self.pass(now_ms, &mut passed) {
                    Ok(whole) => {
                        // If something is left, the next look tries it again.
                        generation = whole.then_some(latest);
                        midnight = self.day.next_midnight(now_ms);
                    }
                    Err(_) => return,
                }
            }
            if self.pause(look).is_err() {
                return;
            }
        }
    }

    /// Goes through all buckets whose rules have not had their pass; whether all are through.
    fn pass(&self, now_ms: u64, passed: &mut HashMap<String, Vec<u8>>) -> Result<bool, PassError> {
        let found = self.store.read().and_then(|view| buckets_with(&view, BucketConfig::Lifecycle));
        let names = match found {
            Ok(names) => names,
            Err(error) => {
                log::error!("lifecycle: the buckets can't be listed: {error}");
                return Ok(false);
            }
        };
        passed.retain(|name, _| names.contains(name));
        let mut whole = true;
        for name in names {
            let before = passed.get(&name).map(Vec::as_slice);
            match self.bucket(&name, now_ms, before) {
                Ok(Some(document)) => drop(passed.insert(name, document)),
                Ok(None) => {}
                Err(PassError::Stop) => return Err(PassError::Stop),
                Err(error) => {
                    log::error!("lifecycle of {name}: {}", crate::s3::chain(&error));
                    whole = false;
                }
            }
        }
        Ok(whole)
    }

    /// Goes through a bucket, unless it has these rules still; the rules it went by.
    pub(super) fn bucket(
        &self,
        name: &str,
        now_ms: u64,
        unless: Option<&[u8]>,
    ) -> Result<Option<Vec<u8>>, PassError> {
        let view = self.store.read()?;
        let document = bucket_config(&view, name, BucketConfig::Lifecycle)?;
        let Some(document) = document.filter(|document| unless != Some(document)) else {
            return Ok(None);
        };
        let Some(record) = bucket(&view, name)? else { return Ok(None) };
        drop(view);
        let job = Job {
            name: name.into(),
            record,
            rules: Arc::new(Rules::parse(&document)?),
            document: document.as_slice().into(),
            moment: Moment { now_ms, day: self.day },
        };
        let sums = Sums { aborted: self.abort_uploads(&job)?, ..self.work(&job)? };
        if sums != Sums::default() {
            let Sums { removed, marked, locked, aborted } = sums;
            log::info!(
                "lifecycle of {name}: {removed} versions removed, {marked} objects hidden by delete markers, {locked} locked ones left, {aborted} uploads aborted"
            );
        }
        Ok(Some(document))
    }

    fn work(&self, job: &Job) -> Result<Sums, PassError> {
        let mut sums = Sums::default();
        let mut walk = Walk::new(job.record.owner, &job.name, &job.rules, job.moment);
        loop {
            // The view lasts for one page.
            let view = self.store.read()?;
            let Some(candidates) = walk.page(&view)? else { return Ok(sums) };
            drop(view);
            for batch in candidates.chunks(BATCH) {
                let outcome = self.act(job, batch)?;
                sums.locked += outcome.locked;
                for done in &outcome.done {
                    match done.deleted {
                        crate::store::Deleted::Marked { .. } => sums.marked += 1,
                        _ => sums.removed += 1,
                    }
                }
                self.tell(job, outcome.done);
                if outcome.outdated {
                    return Ok(sums);
                }
                self.pause(PAUSE)?;
            }
            self.pause(PAUSE)?;
        }
    }

    /// Ends the uploads that nobody ended; how many.
    fn abort_uploads(&self, job: &Job) -> Result<u64, PassError> {
        let (mut aborted, mut after) = (0, None);
        if !job.rules.enabled().any(|rule| rule.abort.is_some()) {
            return Ok(0);
        }
        loop {
            let view = self.store.read()?;
            let document = bucket_config(&view, &job.name, BucketConfig::Lifecycle)?;
            if document.as_deref() != Some(&*job.document) {
                return Ok(aborted);
            }
            let query = UploadQuery {
                bucket: job.name.to_string(),
                prefix: Vec::new(),
                delimiter: Vec::new(),
                after,
                max: UPLOADS,
            };
            let page = list_uploads(&view, &query)?;
            drop(view);
            for entry in page.entries {
                let UploadEntry::Upload(upload) = entry else { continue };
                let Moment { now_ms, day } = job.moment;
                if !aborts(&job.rules, upload.key(), upload.initiated_ms, now_ms, day) {
                    continue;
                }
                match self.store.wait(self.store.abort_upload(upload.id)) {
                    Ok(true) => aborted += 1,
                    // Somebody else has ended it, or is about to.
                    Ok(false) | Err(AbortError::Completing) => {}
                    Err(AbortError::Record(TransactError::ShutDown)) => {
                        return Err(PassError::Stop);
                    }
                    Err(AbortError::Record(error)) => return Err(error.into()),
                }
                self.pause(PAUSE)?;
            }
            let Some(next) = page.next else { return Ok(aborted) };
            after = Some(next);
        }
    }

    fn act(&self, job: &Job, batch: &[Candidate]) -> Result<Outcome, PassError> {
        let mut tries = 0;
        loop {
            let (job, batch) = (job.clone(), batch.to_vec());
            match self.store.transact_wait(move |txn| job.act(txn, batch)) {
                Ok(outcome) => return Ok(outcome),
                Err(TransactError::Busy) if tries < TRIES => {
                    tries += 1;
                    self.pause(RETRY)?;
                }
                Err(TransactError::ShutDown) => return Err(PassError::Stop),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn tell(&self, job: &Job, done: Vec<Done>) {
        if done.is_empty() || self.events.rules(&job.name).is_none() {
            return;
        }
        let who = Who { principal: "lifecycle".to_owned(), ..Who::default() };
        let kinds = (EventKind::ExpiredDelete, EventKind::ExpiredMarker);
        let change = |done: Done| {
            let key = String::from_utf8_lossy(&done.key).into_owned();
            Change::deleted(kinds, key, done.deleted, done.sequence, job.moment.now_ms)
        };
        self.store.wait(self.events.tell(&who, &job.name, done.into_iter().filter_map(change)));
    }

    /// Waits, unless it is told to end.
    fn pause(&self, time: Duration) -> Result<(), PassError> {
        match self.stopped.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Err(PassError::Stop),
        }
    }
}
