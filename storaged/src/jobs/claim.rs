//! Claiming: the next ready task of a phase becomes an attempt, and is described as zoned needs it.

use super::input::{gone, to_open};
use super::job::{Hand, Job};
use super::key;
use super::name::{Name, OutputBase, in_zone};
use super::progress::Event;
use super::record::{AttemptRecord, Input, Record, TaskRecord, TaskState};
use super::verdict::{Code, Failure};
use super::{Jobs, JobsError};
use crate::index::View;
use crate::store::{ObjectRecord, Txn, object};
use wire::job::{JobId, PhaseKind};
use wire::task::{AttemptId, Runnable, Task};

/// Ready tasks that one claim may find unable to start, and settle as failed, before it gives up.
const REFUSED_MAX: usize = 64;

/// A task that was claimed.
#[derive(Debug, Clone)]
pub struct Claim {
    /// What zoned is told.
    pub task: Task,
    /// A map's input, to be opened.
    pub stdin: Option<ObjectRecord>,
    /// The assets, to be opened, in the order of [`Task::assets`].
    pub assets: Vec<ObjectRecord>,
}

impl Jobs {
    /// What could run of `job` now, an entry for each phase; nothing for a job that is gone.
    ///
    /// # Errors
    /// What the index says.
    pub fn runnable(&self, id: JobId) -> Result<Vec<Runnable>, JobsError> {
        let job = match Job::load(&self.read()?, id) {
            Err(JobsError::NoSuchJob(_)) => return Ok(Vec::new()),
            other => other?,
        };
        let entry = |(index, phase): (usize, &wire::job::Phase)| Runnable {
            job: id,
            phase: u32::try_from(index).expect("a job has few phases"),
            account: job.head.account,
            ready: job.progress.claimable(index),
            memory_mib: phase.memory_mib(),
            disk_gib: phase.disk_gib(),
            image: image(phase),
        };
        Ok(job.head.spec.phases.iter().enumerate().map(entry).collect())
    }

    /// Claims the next ready task of a phase, if there is one. Tasks whose input or assets are gone are
    /// settled as failed on the way.
    ///
    /// # Errors
    /// [`JobsError::NoSuchJob`], or what the store says.
    pub fn claim(&self, id: JobId, phase: u32) -> Result<Option<Claim>, JobsError> {
        let (claimed, refused) = self.store.transact_wait(move |txn| {
            let mut job = Job::load(txn, id)?;
            let errors = job.progress.errors;
            let claimed = claim_in(txn, &mut job, phase as usize)?;
            job.save(txn);
            Ok::<_, JobsError>((claimed, job.progress.errors > errors))
        })?;
        self.after_settling(id, refused);
        Ok(claimed)
    }
}

/// The names of what a task writes.
pub(super) fn output_base(
    job: &Job,
    kind: PhaseKind,
    phase: usize,
    number: u64,
    input: Option<&Input>,
) -> OutputBase {
    let origin = input.and_then(|input| input.origin(phase));
    let input = input.map(|input| input.name.as_str());
    OutputBase::new(&job.head.login, job.id, kind, (phase, number), origin, input)
}

fn image(phase: &wire::job::Phase) -> String {
    phase.image.clone().unwrap_or_else(|| wire::job::IMAGE_DEFAULT.to_owned())
}

fn claim_in(txn: &mut Txn<'_>, job: &mut Job, phase: usize) -> Result<Option<Claim>, JobsError> {
    for _ in 0..REFUSED_MAX {
        if job.progress.claimable(phase) == 0 {
            return Ok(None);
        }
        let queue = key::page(txn, &key::all_ready(job.id, phase), None, 1)?;
        let Some(number) = queue.first().and_then(|(key, _)| key::last_number(key)) else {
            return Ok(None);
        };
        let task = TaskRecord::load(txn, &key::task(job.id, phase, number))?;
        txn.delete(key::ready(job.id, phase, number));
        match openings(txn, job, phase, &task)? {
            Ok(openings) => {
                return start(txn, job, (phase, number), task, openings).map(Some);
            }
            Err(failure) => refuse(txn, job, (phase, number), task, &failure)?,
        }
    }
    Ok(None)
}

type Openings = (Option<ObjectRecord>, Vec<ObjectRecord>);

/// What a task needs to have opened, or why it can't start.
fn openings(
    view: &dyn View,
    job: &Job,
    phase: usize,
    task: &TaskRecord,
) -> Result<Result<Openings, Failure>, JobsError> {
    let stdin = match &task.input {
        None => None,
        Some(input) => match to_open(view, &job.head, phase, input)? {
            Some(record) => Some(record),
            None => return Ok(Err(gone(input))),
        },
    };
    let mut assets = Vec::new();
    for asset in &job.phase(phase)?.assets {
        match find_asset(view, job, asset)? {
            Ok(record) => assets.push(record),
            Err(failure) => return Ok(Err(failure)),
        }
    }
    Ok(Ok((stdin, assets)))
}

fn find_asset(
    view: &dyn View,
    job: &Job,
    asset: &str,
) -> Result<Result<ObjectRecord, Failure>, JobsError> {
    let failed = |why: &str| {
        Ok(Err(Failure::new(Code::TaskInit, format!("cannot load asset \"{asset}\": {why}"))))
    };
    let Ok(name) = Name::parse(asset) else { return failed("malformed object name") };
    if name.login != job.head.login {
        return failed("permission denied");
    }
    let Ok(path) = name.object(job.head.account()) else { return failed("not an object") };
    match object(view, &path)? {
        Some(record) => Ok(Ok(record)),
        None => failed("no such object"),
    }
}

fn refuse(
    txn: &mut Txn<'_>,
    job: &mut Job,
    (phase, number): (usize, u64),
    task: TaskRecord,
    failure: &Failure,
) -> Result<(), JobsError> {
    let task = TaskRecord { state: TaskState::Failed, ..task };
    txn.put(key::task(job.id, phase, number), task.encode());
    let error = job.error(phase, task.input.as_ref(), failure, None);
    let hand = Hand { error: Some(error), settled: Some((number, &task)), ..Hand::default() };
    job.happen(txn, Event::Refused(phase), &hand)
}

fn start(
    txn: &mut Txn<'_>,
    job: &mut Job,
    (phase, number): (usize, u64),
    task: TaskRecord,
    (stdin, assets): Openings,
) -> Result<Claim, JobsError> {
    let attempt = AttemptId(txn.next_sequence());
    let at = u32::try_from(phase).expect("a job has few phases");
    let record = AttemptRecord { job: job.id, phase: at, task: number };
    let task = TaskRecord { state: TaskState::Running { attempt }, ..task };
    txn.put(key::attempt(attempt), record.encode());
    txn.put(key::task(job.id, phase, number), task.encode());
    job.happen(txn, Event::Claimed(phase), &Hand::default())?;
    let task = described(job, phase, number, attempt, task.input.as_ref())?;
    Ok(Claim { task, stdin, assets })
}

/// The task as zoned is told it.
fn described(
    job: &Job,
    phase: usize,
    number: u64,
    attempt: AttemptId,
    input: Option<&Input>,
) -> Result<Task, JobsError> {
    let spec = job.phase(phase)?;
    let shown = input.map(|input| in_zone(&input.name));
    let base = output_base(job, spec.kind, phase, number, input);
    Ok(Task {
        attempt,
        job: job.id,
        phase: u32::try_from(phase).expect("a job has few phases"),
        kind: spec.kind,
        account: job.head.account,
        login: job.head.login.clone(),
        exec: spec.exec.clone(),
        init: spec.init.clone(),
        assets: spec.assets.iter().map(|asset| format!("/assets{}", in_zone(asset))).collect(),
        environment: environment(job, spec.kind, number, &base, input, shown.as_deref()),
        input: shown,
        memory_mib: spec.memory_mib(),
        disk_gib: spec.disk_gib(),
        image: image(spec),
    })
}

/// The variables that Manta gives to a task.
fn environment(
    job: &Job,
    kind: PhaseKind,
    number: u64,
    base: &OutputBase,
    input: Option<&Input>,
    shown: Option<&str>,
) -> Vec<(String, String)> {
    let mut variables = vec![
        ("MANTA_JOB_ID", job.id.to_string()),
        ("MANTA_NO_AUTH", "true".to_owned()),
        ("MANTA_URL", "http://localhost:80/".to_owned()),
        ("MANTA_USER", job.head.login.clone()),
        ("MANTA_OUTPUT_BASE", base.prefix()),
    ];
    if let (Some(input), Some(shown)) = (input, shown) {
        let file = format!("/manta{shown}");
        variables.extend([
            ("MANTA_INPUT_OBJECT", input.name.clone()),
            ("MANTA_INPUT_FILE", file.clone()),
            ("mc_input_key", input.name.clone()),
            ("mc_input_file", file),
        ]);
    }
    if kind == PhaseKind::Reduce {
        variables.push(("MANTA_REDUCER", number.to_string()));
    }
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
