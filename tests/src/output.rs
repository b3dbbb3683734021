//! A load of job output, and of objects that zoned makes: jobs are submitted, their tasks claimed and ended by a stand-in
//! of zoned; what it was told is settled must be there afterwards.

use crate::load::{Act, History, LARGE_BYTES_MIN, Operation, Position, SMALL_BYTES_MAX, content};
use crate::manta::Jobs;
use crate::zoned::{Claimed, Zoned};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use wire::job::{JobId, JobSpec};
use wire::task::{Ending, Reply, Request, Settled};

/// Tasks of a job.
pub const TASKS: usize = 6;
/// Objects that zoned makes and removes.
const KEYS: usize = 4;
/// The largest output.
const BYTES_MAX: usize = 200_000;
/// How long a task that was submitted may take to be ready.
const READY_TIME: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// Who works for whom.
#[derive(Debug)]
pub struct Office<'a> {
    /// The account.
    pub login: &'a str,
    /// Its bucket for objects that zoned makes.
    pub bucket: &'a str,
    /// Its bucket with an object for each task to read: `0`, `1`, ….
    pub inputs: &'a str,
    /// Submits.
    pub jobs: &'a Jobs,
}

/// What a task wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    seed: u64,
    bytes: usize,
    /// The position by which it was settled.
    settled: u64,
}

/// A job, and what its tasks wrote, by their inputs.
#[derive(Debug, Clone)]
struct Job {
    id: JobId,
    /// The position by which it was submitted with all its inputs.
    submitted: u64,
    written: BTreeMap<String, Written>,
}

/// All jobs of a load.
#[derive(Debug, Clone, Default)]
pub struct Output(Vec<Job>);

impl Output {
    /// Submits jobs and does their tasks until told to stop. Also gives the objects that zoned made and removed.
    ///
    /// # Errors
    /// If something is refused.
    pub fn work(
        office: &Office<'_>,
        mut zoned: Zoned,
        seed: u64,
        position: &Position,
        stop: &AtomicBool,
    ) -> Result<(Self, History)> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut all, mut made) = (Vec::new(), History::default());
        while !stop.load(Ordering::Relaxed) {
            let mut job = submit(office, position)?;
            for _ in 0..TASKS {
                let claimed = claim(&mut zoned, job.id)?;
                let (input, written) = carry_out(&mut zoned, claimed, &mut rng, position)?;
                job.written.insert(input, written);
                let operation = make(office, &mut zoned, &mut rng, position)?;
                made.keys.entry(operation.key.clone()).or_default().push(operation);
            }
            all.push(job);
        }
        Ok((Self(all), made))
    }

    /// How many jobs were submitted and outputs settled by `position`.
    #[must_use]
    pub fn promised(&self, position: u64) -> usize {
        let settled = |job: &Job| job.written.values().filter(|w| w.settled <= position).count();
        let submitted = |job: &Job| usize::from(job.submitted <= position);
        self.0.iter().map(|job| submitted(job) + settled(job)).sum()
    }

    /// Reads every job and its output, and gives what is wrong; and how many outputs there are, each a file.
    ///
    /// # Errors
    /// If a request about a job that is there gets no answer.
    pub fn check(&self, office: &Office<'_>, position: u64) -> Result<(Vec<String>, usize)> {
        let (mut wrong, mut files) = (Vec::new(), 0);
        for job in &self.0 {
            let id = job.id;
            if let Err(error) = office.jobs.status(id) {
                // What nobody was promised need not be there.
                if job.submitted <= position {
                    wrong.push(format!("job {id} is lost: {error:#}"));
                }
                continue;
            }
            let names = office.jobs.outputs(id)?;
            let errors = office.jobs.errors(id)?;
            if !errors.is_empty() {
                wrong.push(format!("job {id} has errors: {errors:?}"));
            }
            let mut unknown = names.len();
            for (input, written) in &job.written {
                let base = format!("/{}/jobs/{id}/stor{input}.", office.login);
                let own: Vec<_> = names.iter().filter(|name| name.starts_with(&base)).collect();
                unknown -= own.len();
                match own[..] {
                    [] if written.settled > position => {}
                    [name] => {
                        let found = office.jobs.object(name)?;
                        if found != content(written.seed, written.bytes) {
                            wrong.push(format!("{name} is not what the task wrote"));
                        }
                        files += 1;
                    }
                    _ => wrong.push(format!("job {id} has {} outputs for {input}", own.len())),
                }
            }
            if unknown > 0 {
                wrong.push(format!("job {id} has {unknown} outputs that no task wrote: {names:?}"));
            }
        }
        Ok((wrong, files))
    }
}

fn submit(office: &Office<'_>, position: &Position) -> Result<Job> {
    let spec: JobSpec = serde_json::from_str(r#"{"phases":[{"exec":"cat"}]}"#)?;
    let input = |number| format!("/{}/stor/{}/{number}", office.login, office.inputs);
    let inputs: Vec<_> = (0..TASKS).map(input).collect();
    let id = office.jobs.submit(&spec, &inputs)?;
    Ok(Job { id, submitted: position(), written: BTreeMap::new() })
}

/// The next task of a job.
fn claim(zoned: &mut Zoned, job: JobId) -> Result<Claimed> {
    let deadline = Instant::now() + READY_TIME;
    loop {
        if let Some(claimed) = zoned.claim(job, 0)? {
            return Ok(claimed);
        }
        ensure!(Instant::now() < deadline, "job {job} has no task ready after {READY_TIME:?}");
        std::thread::sleep(POLL);
    }
}

/// How much a task writes: what it writes has a file of its own, however little.
fn some(rng: &mut fastrand::Rng) -> usize {
    if rng.bool() { rng.usize(1..SMALL_BYTES_MAX) } else { rng.usize(LARGE_BYTES_MIN..BYTES_MAX) }
}

fn carry_out(
    zoned: &mut Zoned,
    claimed: Claimed,
    rng: &mut fastrand::Rng,
    position: &Position,
) -> Result<(String, Written)> {
    let Claimed { task, stdout, .. } = claimed;
    let (seed, bytes) = (rng.u64(..), some(rng));
    // Whoever has the file open for writing when the task ends loses it.
    File::from(stdout).write_all(&content(seed, bytes))?;
    let settled = zoned.ended(task.attempt, Ending::Exited { code: 0 })?;
    ensure!(settled == Settled::Committed, "the output of {:?} is {settled:?}", task.input);
    let input = task.input.context("a map has an input")?;
    Ok((input, Written { seed, bytes, settled: position() }))
}

/// Makes an object, or removes one.
fn make(
    office: &Office<'_>,
    zoned: &mut Zoned,
    rng: &mut fastrand::Rng,
    position: &Position,
) -> Result<Operation> {
    let key = format!("zoned/{}", rng.usize(..KEYS));
    let (login, path) =
        (office.login.to_owned(), format!("/{}/stor/{}/{key}", office.login, office.bucket));
    let (act, request) = if rng.u8(..4) == 0 {
        (Act::Delete, Request::Remove { login, path })
    } else {
        let (seed, bytes) = (rng.u64(..), rng.usize(LARGE_BYTES_MIN..BYTES_MAX));
        let (staged, mut file) = zoned.stage()?;
        file.write_all(&content(seed, bytes))?;
        drop(file);
        let content_type = "application/octet-stream".to_owned();
        (Act::Put { seed, bytes }, Request::Commit { staged, login, path, content_type })
    };
    match zoned.ask(&request)?.0 {
        Ok(Reply::Committed { .. } | Reply::Removed) => {}
        other => bail!("{key}: {other:?}"),
    }
    Ok(Operation { key, act, acknowledged: true, ended: position() })
}
