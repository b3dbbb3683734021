//! Tasks in zoned's hands: what they read and write is opened when they are claimed, and settled when they end.

use super::connection::ConnectionId;
use super::living::Attempt;
use super::work::{Answer, Office, refusal};
use crate::committer::wait;
use crate::jobs::JobsError;
use crate::jobs::attempt::Outcome;
use crate::jobs::claim::Claim;
use crate::jobs::verdict::{Code, Failure, Verdict};
use crate::s3::chain;
use crate::store::{ContentRef, ObjectRecord, OpenBlobError, SealError, Staging, ViewFile};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::time::Duration;
use wire::job::JobId;
use wire::task::{AttemptId, Ending, Reply, Settled};

/// How long a claim that the store can't serve now is held back: zoned asks again at once, and a full
/// disk is not emptied within microseconds.
const HELD_BACK: Duration = Duration::from_millis(500);
/// How often cutting attempts off is tried while the store is too busy for it, a second apart.
const CUT_OFF_TRIES: u32 = 60;
/// Bytes of names in one answer to `NextInputs`, so that it fits a message however they are escaped.
const NAMES_BYTES_MAX: usize = 8 * 1024;

impl Office {
    pub(super) fn claim(
        &self,
        connection: ConnectionId,
        job: JobId,
        phase: u32,
        project: u32,
    ) -> Answer {
        let claim = match self.jobs.claim(job, phase) {
            Ok(Some(claim)) => claim,
            Ok(None) | Err(JobsError::NoSuchJob(_)) => return Reply::NothingReady.into(),
            Err(error) => {
                std::thread::sleep(HELD_BACK);
                return error.into();
            }
        };
        let id = claim.task.attempt;
        match self.prepare(&claim, project) {
            Ok(prepared) => self.hand_out(connection, claim, prepared),
            Err(error) => {
                log::warn!("job {job}: a task could not be prepared: {}", chain(&error));
                self.give_back(id, &error);
                std::thread::sleep(HELD_BACK);
                error.into()
            }
        }
    }

    /// Opens what a task reads and makes what it writes.
    fn prepare(&self, claim: &Claim, project: u32) -> Result<Prepared, JobsError> {
        let store = self.jobs.store();
        let mut prepared = Prepared {
            stdout: wait(store.stage(None, Some(project)))?,
            stderr: wait(store.stage(None, Some(project)))?,
            stdin: None,
            assets: Vec::new(),
        };
        prepared.stdin = claim.stdin.as_ref().map(|record| store.open_view(record)).transpose()?;
        for record in &claim.assets {
            prepared.assets.push(store.open_view(record)?);
        }
        Ok(prepared)
    }

    fn hand_out(&self, connection: ConnectionId, claim: Claim, prepared: Prepared) -> Answer {
        let id = claim.task.attempt;
        let Prepared { mut stdout, mut stderr, stdin, assets } = prepared;
        let fds = match descriptors(&mut stdout, &mut stderr, stdin.as_ref(), &assets) {
            Ok(fds) => fds,
            Err(error) => {
                self.give_back(id, &error);
                return error.into();
            }
        };
        let records = claim.stdin.iter().chain(&claim.assets);
        let views: Vec<ViewFile> = stdin.into_iter().chain(assets).collect();
        let account = claim.task.account;
        let held = self.hold(account, records.zip(&views));
        let attempt = Attempt { stdout, stderr, views, account, held, fault: None };
        if let Err(attempt) = self.living.add(connection, id, attempt) {
            self.cut_off(&BTreeMap::from([(id, *attempt)]));
            return refusal("Gone", "the connection that claimed the task is gone".to_owned());
        }
        Answer { reply: Ok(Reply::Claimed(claim.task)), fds }
    }

    /// Has objects read ahead; those in files, which others may read too.
    fn hold<'a>(
        &self,
        account: u32,
        objects: impl Iterator<Item = (&'a ObjectRecord, &'a ViewFile)>,
    ) -> BTreeSet<u64> {
        let mut held = BTreeSet::new();
        for (record, file) in objects {
            if let ContentRef::Blob(blob) = record.content
                && !held.contains(&blob.0)
                && self.prefetcher.hold(account, blob.0, record.size, file.as_fd())
            {
                held.insert(blob.0);
            }
        }
        held
    }

    fn release(&self, held: &BTreeSet<u64>) {
        held.iter().for_each(|blob| self.prefetcher.release(*blob));
    }

    /// The task could not start, and it is not its fault.
    fn give_back(&self, id: AttemptId, error: &JobsError) {
        let given = match error {
            // It waits until there is room, or the object is sealed, as often as it takes.
            JobsError::Stage(_)
            | JobsError::Full
            | JobsError::Open(OpenBlobError::Sealing { .. }) => self.jobs.give_back(id),
            other => self.jobs.judge_lost(id, &chain(other)).and_then(|verdict| {
                self.jobs.commit_attempt(id, outcome_of_loss(verdict)).map(|_| ())
            }),
        };
        if let Err(error) = given {
            log::error!("attempt {}: cannot give its task back: {}", id.0, chain(&error));
            self.cut_off_ids(&[id]);
        }
    }

    pub(super) fn next_inputs(&self, id: AttemptId, from: u64) -> Answer {
        let Some(account) = self.living.with(id, |attempt| attempt.account) else {
            return JobsError::NoSuchAttempt(id.0).into();
        };
        let mut page = match self.jobs.next_inputs(id, from) {
            Ok(Ok(page)) => page,
            Ok(Err(failure)) => return self.fault(id, failure),
            Err(error) => return error.into(),
        };
        let mut bytes = 0;
        let fitting = page.inputs.iter().take_while(|(name, _)| {
            bytes += name.len();
            bytes <= NAMES_BYTES_MAX
        });
        let fitting = fitting.count().max(1);
        if fitting < page.inputs.len() {
            page.inputs.truncate(fitting);
            page.end = false;
        }
        let mut views = Vec::new();
        for (name, record) in &page.inputs {
            match self.jobs.store().open_view(record) {
                Ok(view) => views.push(view),
                Err(error) => {
                    let message = format!("cannot open \"{name}\": {}", chain(&error));
                    return self.fault(id, Failure::new(Code::Internal, message));
                }
            }
        }
        let records = page.inputs.iter().map(|(_, record)| record);
        let held = self.hold(account, records.zip(&views));
        // Counted once an attempt: what it held before is held once more than is noted.
        let again = self.living.with(id, |attempt| {
            let again: BTreeSet<u64> = attempt.held.intersection(&held).copied().collect();
            attempt.held.extend(&held);
            again
        });
        self.release(&again.unwrap_or(held));
        let names = page.inputs.into_iter().map(|(name, _)| name).collect();
        let fds = views.into_iter().map(|view| Box::new(view) as Box<dyn AsFd + Send>).collect();
        Answer { reply: Ok(Reply::Inputs { names, end: page.end }), fds }
    }

    fn fault(&self, id: AttemptId, failure: Failure) -> Answer {
        let answer = refusal(failure.code.name(), failure.message.clone());
        self.living.with(id, |attempt| attempt.fault = Some(failure));
        answer
    }

    pub(super) fn ended(&self, id: AttemptId, ending: &Ending) -> Answer {
        let Some(attempt) = self.living.take(id) else {
            return Reply::Settled(Settled::Discarded).into();
        };
        let Attempt { stdout, stderr, views, account: _, held, fault } = attempt;
        let settled = self.settle(id, ending, (stdout, stderr), fault);
        self.release(&held);
        drop(views);
        match settled {
            Ok(settled) => Reply::Settled(settled).into(),
            Err(JobsError::NoSuchAttempt(_)) => Reply::Settled(Settled::Discarded).into(),
            Err(error) => {
                log::error!("attempt {}: cannot settle it: {}", id.0, chain(&error));
                self.cut_off_ids(&[id]);
                error.into()
            }
        }
    }

    fn settle(
        &self,
        id: AttemptId,
        ending: &Ending,
        (stdout, stderr): (Staging, Staging),
        fault: Option<Failure>,
    ) -> Result<Settled, JobsError> {
        let verdict = match (self.jobs.judge(id, ending)?, fault) {
            // A cancelled job's failures say so; any other fault is the reason.
            (Verdict::Fail(failure), Some(_)) if failure.code == Code::JobCancelled => {
                Verdict::Fail(failure)
            }
            (_, Some(fault)) => Verdict::Fail(fault),
            (verdict, None) => verdict,
        };
        let outcome = match verdict {
            Verdict::Commit => match wait(self.jobs.store().seal(stdout)) {
                Ok(stdout) => Outcome::Commit { stdout },
                Err(SealError::WriterLeft) => {
                    Outcome::Fail { failure: writer_left(), stderr: None }
                }
                Err(error) => outcome_of_loss(self.jobs.judge_lost(id, &chain(&error))?),
            },
            Verdict::Fail(failure) => {
                let stderr = self.seal_stderr(id, stderr);
                Outcome::Fail { failure, stderr }
            }
            Verdict::Retry(task) => Outcome::Retry(task),
        };
        self.jobs.commit_attempt(id, outcome)
    }

    /// The stderr of a failure; it is recorded without one if that can't be had.
    fn seal_stderr(&self, id: AttemptId, stderr: Staging) -> Option<crate::store::Sealed> {
        match wait(self.jobs.store().seal(stderr)) {
            Ok(sealed) => Some(sealed).filter(|sealed| sealed.size() > 0),
            Err(error) => {
                log::warn!("attempt {}: its stderr is lost: {}", id.0, chain(&error));
                None
            }
        }
    }

    pub(super) fn cut_off(&self, attempts: &BTreeMap<AttemptId, Attempt>) {
        let ids: Vec<AttemptId> = attempts.keys().copied().collect();
        self.cut_off_ids(&ids);
        attempts.values().for_each(|attempt| self.release(&attempt.held));
    }

    fn cut_off_ids(&self, ids: &[AttemptId]) {
        for _ in 0..CUT_OFF_TRIES {
            match self.jobs.cut_off(ids) {
                Ok(()) => return,
                Err(JobsError::Full) | Err(JobsError::Busy) => {
                    std::thread::sleep(Duration::from_secs(1));
                }
                Err(error) => {
                    return log::error!(
                        "tasks wait until storaged starts again: {}",
                        chain(&error)
                    );
                }
            }
        }
        log::error!("tasks wait until storaged starts again: the store stayed too busy");
    }
}

struct Prepared {
    stdout: Staging,
    stderr: Staging,
    stdin: Option<ViewFile>,
    assets: Vec<ViewFile>,
}

fn writer_left() -> Failure {
    let message = "the task's output could not be sealed: a process still has it open for writing";
    Failure::new(Code::Internal, message)
}

fn outcome_of_loss(verdict: Verdict) -> Outcome {
    match verdict {
        Verdict::Retry(task) => Outcome::Retry(task),
        Verdict::Fail(failure) => Outcome::Fail { failure, stderr: None },
        Verdict::Commit => unreachable!("a loss is never committed"),
    }
}

/// In the order that `Claimed` promises: stdin, stdout, stderr, assets.
fn descriptors(
    stdout: &mut Staging,
    stderr: &mut Staging,
    stdin: Option<&ViewFile>,
    assets: &[ViewFile],
) -> Result<Vec<Box<dyn AsFd + Send>>, JobsError> {
    let copy = |file: &ViewFile| -> Result<Box<dyn AsFd + Send>, JobsError> {
        let copied = file.as_fd().try_clone_to_owned();
        Ok(Box::new(copied.map_err(|error| JobsError::Unavailable(error.to_string()))?))
    };
    let mut fds = Vec::new();
    if let Some(stdin) = stdin {
        fds.push(copy(stdin)?);
    }
    fds.push(Box::new(stdout.writer_fd()?));
    fds.push(Box::new(stderr.writer_fd()?));
    for asset in assets {
        fds.push(copy(asset)?);
    }
    Ok(fds)
}
