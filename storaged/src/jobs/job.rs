//! One job inside a transaction: its head and counters loaded, changed by events, and the effects of
//! those written beside them. Every change of a job's records goes through [`Job::happen`].

use super::JobsError;
use super::key::{self, List};
use super::name::Name;
use super::progress::{Effect, Event, Progress, Refusal, Shape, step};
use super::record::{Bytes, ErrorRecord, Head, Input, NameRecord, Record, TaskRecord, TaskState};
use super::time::now_ms;
use super::verdict::Failure;
use crate::index::View;
use crate::store::{BlobId, Deleter, Txn};
use wire::job::{JobId, JobView, Phase};

/// A job as a transaction holds it.
#[derive(Debug, Clone)]
pub struct Job {
    /// Names it.
    pub id: JobId,
    /// What never changes.
    pub head: Head,
    /// The counters; written by [`Job::save`].
    pub progress: Progress,
}

/// What an event is about: the records that its effects write.
#[derive(Debug, Default)]
pub struct Hand<'a> {
    /// What enters a phase, for [`Effect::AddTask`] and [`Effect::AddReducerInput`].
    pub input: Option<Input>,
    /// The output object's name, for [`Effect::AddOutput`].
    pub output: Option<&'a str>,
    /// For [`Effect::AddError`].
    pub error: Option<ErrorRecord>,
    /// The settled task, for [`Effect::Consumed`].
    pub settled: Option<(u64, &'a TaskRecord)>,
}

impl Job {
    /// Reads a job.
    ///
    /// # Errors
    /// [`JobsError::NoSuchJob`], or what the index says.
    pub fn load(view: &dyn View, id: JobId) -> Result<Self, JobsError> {
        let head = Head::find(view, &key::head(id))?.ok_or(JobsError::NoSuchJob(id))?;
        let progress = Progress::load(view, &key::progress(id))?;
        Ok(Self { id, head, progress })
    }

    /// Writes the counters.
    pub fn save(&self, txn: &mut Txn<'_>) {
        txn.put(key::progress(self.id), self.progress.encode());
    }

    /// The owner's words about a phase.
    ///
    /// # Errors
    /// [`JobsError::Refused`] if there is no such phase.
    pub fn phase(&self, phase: usize) -> Result<&Phase, JobsError> {
        let beyond = Refusal::Impossible { what: "a phase beyond the last", phase };
        self.head.spec.phases.get(phase).ok_or(JobsError::Refused(beyond))
    }

    /// Whether outputs of `phase` are inputs of another one.
    #[must_use]
    pub fn is_intermediate(&self, phase: usize) -> bool {
        phase + 1 < self.head.spec.phases.len()
    }

    /// As GetJob shows it.
    #[must_use]
    pub fn view(&self) -> JobView {
        let progress = &self.progress;
        JobView {
            id: self.id,
            name: self.head.spec.name.clone(),
            state: progress.state(),
            cancelled: progress.cancelled(),
            input_done: progress.intake != super::progress::Intake::Open,
            stats: progress.stats(),
            waits: None,
            time_created: super::time::rfc3339(self.head.created_ms),
            time_done: match progress.life {
                super::progress::Life::Done { at_ms } => Some(super::time::rfc3339(at_ms)),
                super::progress::Life::Queued | super::progress::Life::Running => None,
            },
            phases: self.head.spec.phases.clone(),
        }
    }

    /// Lets `event` happen and writes its effects; the counters are written by [`Job::save`].
    ///
    /// # Errors
    /// [`JobsError::Refused`], or what the index says; the transaction is to be given up then.
    pub fn happen(
        &mut self,
        txn: &mut Txn<'_>,
        event: Event,
        hand: &Hand<'_>,
    ) -> Result<(), JobsError> {
        let (progress, effects) = step(&self.progress, event, now_ms())?;
        self.progress = progress;
        for effect in effects {
            self.act(txn, effect, hand)?;
        }
        Ok(())
    }

    fn act(&self, txn: &mut Txn<'_>, effect: Effect, hand: &Hand<'_>) -> Result<(), JobsError> {
        match effect {
            Effect::AddTask { phase, number } => {
                let input = hand.input.clone().expect("an event that adds a task has an input");
                self.put_ready(txn, phase, number, &TaskRecord::ready(Some(input)));
            }
            Effect::AddReducerInput { phase, reducer, number } => {
                let input =
                    hand.input.as_ref().expect("an event that feeds a reducer has an input");
                txn.put(key::reducer_input(self.id, phase, reducer, number), input.encode());
            }
            Effect::OpenReducers { phase, count } => {
                for number in 0..u64::from(count) {
                    self.put_ready(txn, phase, number, &TaskRecord::ready(None));
                }
            }
            Effect::AddOutput { number } => {
                let name = hand.output.expect("an event that adds an output names it").to_owned();
                let at = key::listed_in(List::Outputs, self.id, number);
                txn.put(at, NameRecord { name }.encode());
            }
            Effect::AddError { number } => {
                let error = hand.error.as_ref().expect("an event that adds an error has it");
                txn.put(key::listed_in(List::Errors, self.id, number), error.encode());
            }
            Effect::Consumed { phase } => {
                let settled = hand.settled.expect("an event that settles a task names it");
                self.consume(txn, phase, settled)?;
            }
            Effect::Finished => txn.delete(key::active(self.id)),
        }
        Ok(())
    }

    /// Writes a task into the ready queue.
    pub fn put_ready(&self, txn: &mut Txn<'_>, phase: usize, number: u64, task: &TaskRecord) {
        debug_assert_eq!(task.state, TaskState::Ready);
        txn.put(key::task(self.id, phase, number), task.encode());
        txn.put(key::ready(self.id, phase, number), Vec::new());
    }

    fn consume(
        &self,
        txn: &mut Txn<'_>,
        phase: usize,
        (number, task): (u64, &TaskRecord),
    ) -> Result<(), JobsError> {
        match (self.progress.phases[phase].shape, &task.input) {
            (Shape::Map, Some(input)) => self.let_go(txn, phase, input),
            (Shape::Map, None) => Err(JobsError::Refused(Refusal::Impossible {
                what: "a map task without an input",
                phase,
            })),
            (Shape::Reduce { .. }, _) => {
                let reducer = u32::try_from(number).expect("a reducer's number is below its count");
                txn.put(key::clearing(self.id, phase, reducer), Vec::new());
                Ok(())
            }
        }
    }

    /// Lets go of an input that no task of `phase` reads any more: the job's hold on a blob, or an
    /// object between two phases.
    ///
    /// # Errors
    /// What the index says.
    pub fn let_go(&self, txn: &mut Txn<'_>, phase: usize, input: &Input) -> Result<(), JobsError> {
        if phase > 0 {
            let name = Name::parse_long(&input.name).expect("storaged made this name");
            let path = name.object(self.head.account()).expect("it is below a job's directory");
            txn.delete_object(&path, None, Deleter::plain(now_ms()))?;
        } else if let Bytes::Blob(blob) = input.bytes {
            txn.release_blob(BlobId(blob))?;
        }
        Ok(())
    }

    /// The record of a failure of a task of `phase`.
    #[must_use]
    pub fn error(
        &self,
        phase: usize,
        input: Option<&Input>,
        failure: &Failure,
        stderr: Option<String>,
    ) -> ErrorRecord {
        ErrorRecord {
            phase: u32::try_from(phase).expect("a job has few phases"),
            code: failure.code.name().to_owned(),
            message: failure.message.clone(),
            stderr,
            input: input.map(|input| input.name.clone()),
            p0: input.and_then(|input| input.origin(phase)).map(str::to_owned),
        }
    }
}
