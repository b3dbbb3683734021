//! What zoned does with an attempt: read a reducer's inputs, settle it.
//!
//! An attempt is a record, and its task names it. Whatever settles, loses or cuts off an attempt takes
//! that record away in the same transaction, after it found the task naming the attempt: so exactly one
//! outcome of exactly one attempt counts, whatever comes late, twice, or never.

use super::claim::output_base;
use super::input::{gone, note, to_open};
use super::job::{Hand, Job};
use super::key;
use super::name::{Name, OutputBase};
use super::progress::Event;
use super::record::{AttemptRecord, Input, Record, TaskRecord, TaskState};
use super::time::now_ms;
use super::verdict::{self, Failure, Verdict};
use super::{Jobs, JobsError};
use crate::index::View;
use crate::store::{Content, Metadata, ObjectRecord, Sealed, Txn, object};
use wire::job::JobId;
use wire::task::{AttemptId, Ending, Settled};

/// Attempts cut off in one transaction.
const CUT_OFF_PAGE: usize = 64;
/// The most inputs in one answer to `NextInputs`: a descriptor each.
pub const INPUTS_MAX: usize = wire::frame::FDS_MAX;

/// What is to be written for an attempt that is over.
#[derive(Debug)]
pub enum Outcome {
    /// Its output.
    Commit {
        /// The sealed stdout.
        stdout: Sealed,
    },
    /// Its failure.
    Fail {
        /// What happened.
        failure: Failure,
        /// The sealed stderr, if there is any.
        stderr: Option<Sealed>,
    },
    /// Nothing: its task is ready again.
    Retry(TaskRecord),
}

/// A page of a reducer's inputs.
#[derive(Debug, Clone)]
pub struct InputPage {
    /// Names and records to open.
    pub inputs: Vec<(String, ObjectRecord)>,
    /// No input follows.
    pub end: bool,
}

/// A living attempt's task and job.
struct Living {
    job: Job,
    phase: usize,
    number: u64,
    task: TaskRecord,
}

impl Living {
    fn find(view: &dyn View, attempt: AttemptId) -> Result<Option<Self>, JobsError> {
        let Some(record) = AttemptRecord::find(view, &key::attempt(attempt))? else {
            return Ok(None);
        };
        let (phase, number) = (record.phase as usize, record.task);
        let task = TaskRecord::load(view, &key::task(record.job, phase, number))?;
        if task.state != (TaskState::Running { attempt }) {
            return Ok(None);
        }
        Ok(Some(Self { job: Job::load(view, record.job)?, phase, number, task }))
    }

    fn load(view: &dyn View, attempt: AttemptId) -> Result<Self, JobsError> {
        Self::find(view, attempt)?.ok_or(JobsError::NoSuchAttempt(attempt.0))
    }

    /// Whether settling this leaves something for the janitor.
    fn leaves_work(&self) -> bool {
        self.task.input.is_none() || self.job.progress.cancelled()
    }

    fn outputs(&self) -> Result<OutputBase, JobsError> {
        let kind = self.job.phase(self.phase)?.kind;
        Ok(output_base(&self.job, kind, self.phase, self.number, self.task.input.as_ref()))
    }
}

impl Jobs {
    /// The next inputs of a reduce attempt, of which it has had `from`.
    ///
    /// # Errors
    /// [`JobsError::NoSuchAttempt`]; or what the index says. `Ok(Err(…))` is the task's own failure: an
    /// input that is gone.
    pub fn next_inputs(
        &self,
        attempt: AttemptId,
        from: u64,
    ) -> Result<Result<InputPage, Failure>, JobsError> {
        let view = self.read()?;
        let living = Living::load(&view, attempt)?;
        let (job, phase) = (&living.job, living.phase);
        let count = u64::from(job.phase(phase)?.reducers());
        let reducer = u32::try_from(living.number).expect("a reducer's number is below its count");
        // Input k of reducer r is the phase's input r + k * count: see `progress::flow_in`.
        let at = |k: u64| u64::from(reducer).saturating_add(k.saturating_mul(count));
        let prefix = key::reducer_inputs(job.id, phase, reducer);
        let last = from.checked_sub(1);
        let after = last.map(|last| key::reducer_input(job.id, phase, reducer, at(last)));
        let mut inputs = Vec::new();
        let page = key::page(&view, &prefix, after.as_deref(), INPUTS_MAX)?;
        for (_, value) in page {
            let input = Input::decode(&value)?;
            match to_open(&view, &job.head, phase, &input)? {
                Some(record) => inputs.push((input.name, record)),
                None => return Ok(Err(gone(&input))),
            }
        }
        let end = at(from.saturating_add(inputs.len() as u64)) >= job.progress.phases[phase].inputs;
        Ok(Ok(InputPage { inputs, end }))
    }

    /// What an ending means for its task, before anything is sealed. A cancelled job's attempts fail.
    ///
    /// # Errors
    /// [`JobsError::NoSuchAttempt`], or what the index says.
    pub fn judge(&self, attempt: AttemptId, ending: &Ending) -> Result<Verdict, JobsError> {
        let living = Living::load(&self.read()?, attempt)?;
        if living.job.progress.cancelled() {
            return Ok(Verdict::Fail(Failure::cancelled()));
        }
        Ok(verdict::judge(ending, &living.task, living.job.phase(living.phase)?))
    }

    /// What becomes of an attempt that failed by a fault of the system.
    ///
    /// # Errors
    /// As [`Self::judge`].
    pub fn judge_lost(&self, attempt: AttemptId, why: &str) -> Result<Verdict, JobsError> {
        self.judge(attempt, &Ending::Lost { message: why.to_owned() })
    }

    /// Settles an attempt: outputs, next tasks and counters in one transaction, if it is still the one
    /// that its task names.
    ///
    /// # Errors
    /// What the store says; the attempt lives on then.
    pub fn commit_attempt(
        &self,
        attempt: AttemptId,
        outcome: Outcome,
    ) -> Result<Settled, JobsError> {
        let (settled, job) = self.store.transact_wait(move |txn| {
            let Some(living) = Living::find(txn, attempt)? else {
                return Ok((Settled::Discarded, None));
            };
            let job = (living.job.id, living.leaves_work());
            Ok::<_, JobsError>((settle(txn, attempt, living, outcome)?, Some(job)))
        })?;
        if let Some((job, leaves_work)) = job {
            self.after_settling(job, leaves_work);
        }
        Ok(settled)
    }

    /// Puts the task of an attempt that could not start back where it was: nothing is counted.
    ///
    /// # Errors
    /// As [`Self::commit_attempt`].
    pub fn give_back(&self, attempt: AttemptId) -> Result<(), JobsError> {
        let task = Living::load(&self.read()?, attempt)?.task;
        let task = TaskRecord { state: TaskState::Ready, ..task };
        self.commit_attempt(attempt, Outcome::Retry(task)).map(|_| ())
    }

    pub(super) fn after_settling(&self, job: JobId, leaves_work: bool) {
        self.notices.changed(job);
        if leaves_work {
            self.janitor.look_at(job);
        }
    }

    /// Cuts attempts off: whoever ran them is gone.
    ///
    /// # Errors
    /// What the store says.
    pub fn cut_off(&self, attempts: &[AttemptId]) -> Result<(), JobsError> {
        for page in attempts.chunks(CUT_OFF_PAGE) {
            let page = page.to_vec();
            let jobs = self.store.transact_wait(move |txn| {
                let mut jobs = Vec::new();
                for attempt in page {
                    let Some(living) = Living::find(txn, attempt)? else { continue };
                    jobs.push((living.job.id, living.leaves_work()));
                    let outcome = match verdict::cut_off(&living.task) {
                        Verdict::Retry(task) => Outcome::Retry(task),
                        Verdict::Fail(failure) => Outcome::Fail { failure, stderr: None },
                        Verdict::Commit => unreachable!("nothing is committed by cutting off"),
                    };
                    settle(txn, attempt, living, outcome)?;
                }
                Ok::<_, JobsError>(jobs)
            })?;
            jobs.into_iter().for_each(|(job, work)| self.after_settling(job, work));
        }
        Ok(())
    }

    /// Cuts off every attempt there is: nobody runs any when storaged starts.
    pub(super) fn cut_off_all(&self) -> Result<(), JobsError> {
        loop {
            let view = self.read()?;
            let page = key::page(&view, &key::all_attempts(), None, CUT_OFF_PAGE)?;
            let attempts: Vec<AttemptId> =
                page.iter().filter_map(|(key, _)| key::last_number(key)).map(AttemptId).collect();
            if attempts.is_empty() {
                return Ok(());
            }
            log::info!(
                "{} attempts were cut off by a restart: their tasks run again",
                attempts.len()
            );
            self.cut_off(&attempts)?;
        }
    }
}

/// Writes the outcome of the attempt that the task names.
fn settle(
    txn: &mut Txn<'_>,
    attempt: AttemptId,
    mut living: Living,
    outcome: Outcome,
) -> Result<Settled, JobsError> {
    txn.delete(key::attempt(attempt));
    let cancelled = living.job.progress.cancelled();
    let settled = match outcome {
        _ if cancelled => {
            fail(txn, &mut living, &Failure::cancelled(), None)?;
            Settled::Discarded
        }
        Outcome::Commit { stdout } => {
            commit(txn, &mut living, stdout)?;
            Settled::Committed
        }
        Outcome::Fail { failure, stderr } => {
            fail(txn, &mut living, &failure, stderr)?;
            Settled::Failed
        }
        Outcome::Retry(task) => {
            living.job.put_ready(txn, living.phase, living.number, &task);
            living.job.happen(txn, Event::Lost(living.phase), &Hand::default())?;
            Settled::Retried
        }
    };
    living.job.save(txn);
    Ok(settled)
}

fn put_output(
    txn: &mut Txn<'_>,
    job: &Job,
    name: &str,
    sealed: Sealed,
    content_type: &str,
) -> Result<ObjectRecord, JobsError> {
    let path = Name::parse_long(name)
        .ok()
        .and_then(|name| name.object(job.head.account()).ok())
        .expect("names of outputs are bounded by those of inputs");
    let meta = Metadata {
        etag: sealed.md5().into(),
        modified_ms: now_ms(),
        content_type: Some(content_type.to_owned()),
        ..Metadata::default()
    };
    txn.put_object(&path, Content::Blob(sealed), meta)?;
    let missing = super::record::RecordError::Missing { what: "output" };
    Ok(object(txn, &path)?.ok_or(missing)?)
}

fn commit(txn: &mut Txn<'_>, living: &mut Living, stdout: Sealed) -> Result<(), JobsError> {
    let name = living.outputs()?.stdout();
    let record = put_output(txn, &living.job, &name, stdout, "application/octet-stream")?;
    // Behind a reduce phase no job input is known any more.
    let p0 = living.task.input.as_ref().and_then(|input| input.origin(living.phase));
    let input = note(name.clone(), p0.map(str::to_owned), &record);
    let task = TaskRecord { state: TaskState::Done, ..living.task.clone() };
    txn.put(key::task(living.job.id, living.phase, living.number), task.encode());
    let settled = Some((living.number, &task));
    let hand = Hand { input: Some(input), output: Some(&name), settled, error: None };
    living.job.happen(txn, Event::Committed(living.phase), &hand)
}

fn fail(
    txn: &mut Txn<'_>,
    living: &mut Living,
    failure: &Failure,
    stderr: Option<Sealed>,
) -> Result<(), JobsError> {
    let stderr = match stderr {
        None => None,
        Some(sealed) => {
            let name = living.outputs()?.stderr();
            put_output(txn, &living.job, &name, sealed, "text/plain")?;
            Some(name)
        }
    };
    let task = TaskRecord { state: TaskState::Failed, ..living.task.clone() };
    txn.put(key::task(living.job.id, living.phase, living.number), task.encode());
    let error = living.job.error(living.phase, task.input.as_ref(), failure, stderr);
    let settled = Some((living.number, &task));
    let hand = Hand { error: Some(error), settled, ..Hand::default() };
    living.job.happen(txn, Event::Failed(living.phase), &hand)
}
