//! What a job does when something happens to it: the pure core of jobs.
//!
//! [`Progress`] is the counted part of a job's record and [`step`] the only code that changes it. It
//! reads no clock, no index and no file; what is to be written beside the new counters comes back as
//! [`Effect`]s, and whoever acts writes both in one transaction of the store.
//!
//! ```text
//!   a task:   (reduce: waits for the barrier) ─▶ ready ─▶ running ─▶ settled, exactly once
//!                                                 ▲  │lost  │
//!                                                 └──┴──────┘
//!   a job:    queued ── first task claimed ──▶ running ── input over, all settled, all cleared ──▶ done
//! ```
//!
//! Outputs flow on as they commit: an output of phase n is at once a task of phase n + 1, or an input of
//! one of its reducers. A reduce phase is a barrier (docs/decisions/0020-reduce-is-a-barrier.md): its
//! tasks become ready when the phase before is over, so that all of their inputs are known.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use wire::job::{JobSpec, JobState, JobStats, PhaseKind};

/// What [`step`] needs to know of a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// A task for each input.
    Map,
    /// So many tasks, whatever the inputs.
    Reduce {
        /// How many reducers.
        count: u32,
    },
}

/// The counters of one phase.
///
/// `tasks = waiting for the barrier + ready + running + settled`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseProgress {
    /// Map or reduce.
    pub shape: Shape,
    /// Inputs so far; the next one gets this number.
    pub inputs: u64,
    /// Tasks known so far. Those of a reduce phase are known from the start.
    pub tasks: u64,
    /// Tasks that could be claimed.
    pub ready: u64,
    /// Tasks with a living attempt.
    pub running: u64,
    /// Tasks that are over.
    pub settled: u64,
    /// Whether a reduce phase has passed its barrier.
    pub opened: bool,
    /// Settled reducers whose consumed inputs are not all cleared away yet.
    pub clearing: u64,
}

impl PhaseProgress {
    fn new(shape: Shape) -> Self {
        let tasks = match shape {
            Shape::Map => 0,
            Shape::Reduce { count } => u64::from(count),
        };
        Self {
            shape,
            inputs: 0,
            tasks,
            ready: 0,
            running: 0,
            settled: 0,
            opened: false,
            clearing: 0,
        }
    }
}

/// Whether more input may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intake {
    /// Inputs may be added.
    Open,
    /// The owner ended the input.
    Ended,
    /// The owner cancelled the job, which ends its input too.
    Cancelled,
}

/// Where the job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Life {
    /// No task has started.
    Queued,
    /// A task has started.
    Running,
    /// Input is over and no task is left.
    Done {
        /// When, in milliseconds since 1970.
        at_ms: u64,
    },
}

/// The counted part of a job's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Whether more input may come.
    pub intake: Intake,
    /// Where the job is in its life.
    pub life: Life,
    /// Lines of input so far, good and bad; the next one gets this number.
    pub inputs: u64,
    /// Errors so far; the next one gets this number.
    pub errors: u64,
    /// Outputs of the last phase so far; the next one gets this number.
    pub outputs: u64,
    /// Attempts that were lost and made again.
    pub retries: u64,
    /// One entry for each phase.
    pub phases: Vec<PhaseProgress>,
}

impl Progress {
    /// A job that has just been made.
    #[must_use]
    pub fn new(spec: &JobSpec) -> Self {
        let phases = spec.phases.iter().map(|phase| {
            PhaseProgress::new(match phase.kind {
                PhaseKind::Map => Shape::Map,
                PhaseKind::Reduce => Shape::Reduce { count: phase.reducers() },
            })
        });
        Self {
            intake: Intake::Open,
            life: Life::Queued,
            inputs: 0,
            errors: 0,
            outputs: 0,
            retries: 0,
            phases: phases.collect(),
        }
    }

    /// Whether the owner cancelled it.
    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.intake == Intake::Cancelled
    }

    /// The state that GetJob shows.
    #[must_use]
    pub fn state(&self) -> JobState {
        match self.life {
            Life::Queued => JobState::Queued,
            Life::Running => JobState::Running,
            Life::Done { .. } => JobState::Done,
        }
    }

    /// The counters that GetJob shows.
    #[must_use]
    pub fn stats(&self) -> JobStats {
        JobStats {
            errors: self.errors,
            outputs: self.outputs,
            retries: self.retries,
            tasks: self.phases.iter().map(|p| p.tasks).sum(),
            tasks_done: self.phases.iter().map(|p| p.settled).sum(),
        }
    }

    /// Tasks of `phase` that may be claimed now: none once the job is cancelled.
    #[must_use]
    pub fn claimable(&self, phase: usize) -> u64 {
        match (self.cancelled(), self.phases.get(phase)) {
            (false, Some(p)) => p.ready,
            (true, _) | (_, None) => 0,
        }
    }

    fn is_last(&self, phase: usize) -> bool {
        phase + 1 == self.phases.len()
    }

    fn phase(&mut self, phase: usize) -> Result<&mut PhaseProgress, Refusal> {
        self.phases
            .get_mut(phase)
            .ok_or(Refusal::Impossible { what: "a phase beyond the last", phase })
    }
}

/// Something that happens to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A line of input names an object that the job may read.
    InputAccepted,
    /// A line of input does not; an error is recorded instead of a task.
    InputRefused,
    /// The owner says that no input follows.
    InputEnded,
    /// The owner wants it stopped.
    Cancelled,
    /// A ready task of this phase got an attempt.
    Claimed(usize),
    /// A ready task of this phase failed before any attempt could start.
    Refused(usize),
    /// The attempt ended well and its output is an object.
    Committed(usize),
    /// The attempt ended in a failure that is not tried again.
    Failed(usize),
    /// The attempt is gone and its task is to be tried again.
    Lost(usize),
    /// A ready task of a cancelled job was settled without running.
    Swept(usize),
    /// The consumed inputs of a settled reducer of this phase are gone.
    Cleared(usize),
}

/// What is to be written beside the new counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The input at hand becomes this ready task.
    AddTask {
        /// Of which phase.
        phase: usize,
        /// Its number in the phase.
        number: u64,
    },
    /// The input at hand goes to this reducer.
    AddReducerInput {
        /// Of which phase.
        phase: usize,
        /// Which reducer.
        reducer: u32,
        /// The input's number in the phase.
        number: u64,
    },
    /// The reduce phase passes its barrier: its tasks 0 to `count` - 1 are ready.
    OpenReducers {
        /// Which phase.
        phase: usize,
        /// How many.
        count: u32,
    },
    /// The output at hand is one of the job's.
    AddOutput {
        /// Its number.
        number: u64,
    },
    /// An error is to be recorded.
    AddError {
        /// Its number.
        number: u64,
    },
    /// What the settled task read is not needed any more.
    Consumed {
        /// The task's phase.
        phase: usize,
    },
    /// The job is done.
    Finished,
}

/// Why an event does not apply to this job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Input was ended, the job cancelled, or done.
    #[error("the job takes no more input: it was ended, cancelled, or is done")]
    InputOver,
    /// Cancelling what is cancelled or done.
    #[error("the job is already cancelled or done")]
    Over,
    /// An event that cannot happen to these counters: a fault of ours, never the owner's.
    #[error("the job's counters do not allow {what} in phase {phase}: its records are damaged")]
    Impossible {
        /// What was tried.
        what: &'static str,
        /// In which phase.
        phase: usize,
    },
}

/// What becomes of a job when `event` happens at `now_ms`.
///
/// # Errors
/// A [`Refusal`] leaves the job as it was.
pub fn step(
    before: &Progress,
    event: Event,
    now_ms: u64,
) -> Result<(Progress, Vec<Effect>), Refusal> {
    let mut job = before.clone();
    let mut effects = Vec::new();
    match event {
        Event::InputAccepted => {
            intake_open(&job)?;
            job.inputs += 1;
            flow_in(&mut job, 0, &mut effects)?;
        }
        Event::InputRefused => {
            intake_open(&job)?;
            job.inputs += 1;
            add_error(&mut job, &mut effects);
        }
        Event::InputEnded => end_input(&mut job)?,
        Event::Cancelled => cancel(&mut job, &mut effects)?,
        Event::Claimed(phase) => {
            if job.claimable(phase) == 0 {
                return Err(Refusal::Impossible { what: "a claim without a ready task", phase });
            }
            let p = job.phase(phase)?;
            p.ready -= 1;
            p.running += 1;
            job.life = Life::Running;
        }
        Event::Refused(phase) => {
            settle(&mut job, phase, From::Ready, Outcome::Error, &mut effects)?;
        }
        Event::Committed(phase) => {
            settle(&mut job, phase, From::Running, Outcome::Output, &mut effects)?;
        }
        Event::Failed(phase) => {
            settle(&mut job, phase, From::Running, Outcome::Error, &mut effects)?;
        }
        Event::Swept(phase) => {
            if !job.cancelled() {
                return Err(Refusal::Impossible {
                    what: "sweeping a job that is not cancelled",
                    phase,
                });
            }
            settle(&mut job, phase, From::Ready, Outcome::Error, &mut effects)?;
        }
        Event::Lost(phase) => {
            let p = job.phase(phase)?;
            p.running = less_one(p.running, "losing an attempt that does not run", phase)?;
            p.ready += 1;
            job.retries += 1;
        }
        Event::Cleared(phase) => {
            let p = job.phase(phase)?;
            p.clearing = less_one(p.clearing, "clearing twice", phase)?;
        }
    }
    pass_barriers(&mut job, &mut effects);
    finish(&mut job, now_ms, &mut effects);
    Ok((job, effects))
}

#[derive(Clone, Copy)]
enum From {
    Ready,
    Running,
}

#[derive(Clone, Copy)]
enum Outcome {
    Output,
    Error,
}

fn less_one(count: u64, what: &'static str, phase: usize) -> Result<u64, Refusal> {
    count.checked_sub(1).ok_or(Refusal::Impossible { what, phase })
}

fn intake_open(job: &Progress) -> Result<(), Refusal> {
    match job.intake {
        Intake::Open => Ok(()),
        Intake::Ended | Intake::Cancelled => Err(Refusal::InputOver),
    }
}

fn add_error(job: &mut Progress, effects: &mut Vec<Effect>) {
    effects.push(Effect::AddError { number: job.errors });
    job.errors += 1;
}

/// Ending twice is fine while the job lives, as with Manta.
fn end_input(job: &mut Progress) -> Result<(), Refusal> {
    match (job.intake, job.life) {
        (Intake::Cancelled, _) | (_, Life::Done { .. }) => Err(Refusal::InputOver),
        (Intake::Open | Intake::Ended, Life::Queued | Life::Running) => {
            job.intake = Intake::Ended;
            Ok(())
        }
    }
}

/// Reducers before their barrier are opened here, so that the sweeper finds every task that is left in
/// the ready queue.
fn cancel(job: &mut Progress, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
    if job.cancelled() || matches!(job.life, Life::Done { .. }) {
        return Err(Refusal::Over);
    }
    job.intake = Intake::Cancelled;
    for phase in 0..job.phases.len() {
        open_reducers(job, phase, effects);
    }
    Ok(())
}

fn open_reducers(job: &mut Progress, phase: usize, effects: &mut Vec<Effect>) {
    let p = &mut job.phases[phase];
    if let (Shape::Reduce { count }, false) = (p.shape, p.opened) {
        p.opened = true;
        p.ready += u64::from(count);
        effects.push(Effect::OpenReducers { phase, count });
    }
}

/// The input or output at hand enters `phase`.
fn flow_in(job: &mut Progress, phase: usize, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
    let p = job.phase(phase)?;
    let number = p.inputs;
    p.inputs += 1;
    match p.shape {
        Shape::Map => {
            effects.push(Effect::AddTask { phase, number: p.tasks });
            p.tasks += 1;
            p.ready += 1;
        }
        Shape::Reduce { count } => {
            if p.opened {
                return Err(Refusal::Impossible { what: "an input behind the barrier", phase });
            }
            let reducer = u32::try_from(number % u64::from(count)).expect("a remainder of a u32");
            effects.push(Effect::AddReducerInput { phase, reducer, number });
        }
    }
    Ok(())
}

fn settle(
    job: &mut Progress,
    phase: usize,
    from: From,
    outcome: Outcome,
    effects: &mut Vec<Effect>,
) -> Result<(), Refusal> {
    let cancelled = job.cancelled();
    let p = job.phase(phase)?;
    match from {
        From::Ready => p.ready = less_one(p.ready, "settling a task that is not ready", phase)?,
        From::Running => {
            p.running = less_one(p.running, "settling a task that does not run", phase)?;
        }
    }
    p.settled += 1;
    if let Shape::Reduce { .. } = p.shape {
        p.clearing += 1;
    }
    match outcome {
        Outcome::Error => add_error(job, effects),
        Outcome::Output if cancelled => {
            return Err(Refusal::Impossible { what: "an output of a cancelled job", phase });
        }
        Outcome::Output if job.is_last(phase) => {
            effects.push(Effect::AddOutput { number: job.outputs });
            job.outputs += 1;
        }
        Outcome::Output => flow_in(job, phase + 1, effects)?,
    }
    effects.push(Effect::Consumed { phase });
    Ok(())
}

/// Opens every reduce phase all of whose inputs are known.
fn pass_barriers(job: &mut Progress, effects: &mut Vec<Effect>) {
    let mut inputs_known = job.intake != Intake::Open;
    for phase in 0..job.phases.len() {
        if !inputs_known {
            return;
        }
        open_reducers(job, phase, effects);
        let p = &job.phases[phase];
        inputs_known = p.settled == p.tasks;
    }
}

fn finish(job: &mut Progress, now_ms: u64, effects: &mut Vec<Effect>) {
    let over = job.intake != Intake::Open
        && job.phases.iter().all(|p| p.settled == p.tasks && p.clearing == 0);
    if over && !matches!(job.life, Life::Done { .. }) {
        job.life = Life::Done { at_ms: now_ms };
        effects.push(Effect::Finished);
    }
}

#[cfg(test)]
#[path = "progress_test.rs"]
mod test;
