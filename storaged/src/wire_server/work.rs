//! What the workers do: they wait for the store, so that the poll thread need not.

use super::Bell;
use super::connection::{ConnectionId, Outgoing};
use super::living::{Attempt, Living};
use super::objects::Shown;
use super::staged::Staged;
use crate::committer::wait;
use crate::hourly::{Usage, pieced};
use crate::jobs::attempt::Outcome;
use crate::jobs::claim::Claim;
use crate::jobs::verdict::{Code, Failure, Verdict};
use crate::jobs::{Jobs, JobsError};
use crate::prefetch::Prefetcher;
use crate::s3::chain;
use crate::store::{ContentRef, ObjectRecord, OpenBlobError, SealError, Staging, ViewFile};
use crossbeam::channel::{Receiver, Sender, unbounded};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use wire::frame::{FrameError, Kind, Refusal, encode};
use wire::job::JobId;
use wire::task::{ACCOUNTS_MAX, AttemptId, Ending, Reply, Request, Settled};

/// How long a claim that the store can't serve now is held back: zoned asks again at once, and a full
/// disk is not emptied within microseconds.
const HELD_BACK: Duration = Duration::from_millis(500);
/// How often cutting attempts off is tried while the store is too busy for it, a second apart.
const CUT_OFF_TRIES: u32 = 60;
/// Bytes of names in one answer to `NextInputs`, so that it fits a message however they are escaped.
const NAMES_BYTES_MAX: usize = 8 * 1024;

/// Something to do.
pub enum Work {
    /// Answer a request.
    Serve {
        /// Whose.
        connection: ConnectionId,
        /// Its number.
        id: u64,
        /// What it is.
        request: Request,
        /// What came beside it.
        beside: Option<OwnedFd>,
    },
    /// Attempts whose zoned is gone.
    CutOff(BTreeMap<AttemptId, Attempt>),
}

/// An answer.
pub struct Done {
    /// For whom.
    pub connection: ConnectionId,
    /// What it is.
    pub message: Outgoing,
    /// A job of which zoned must be told again what could run. Whoever is told that nothing is ready
    /// asks no more until it hears otherwise, and what it heard last may be older than this answer.
    pub tell_again: Option<JobId>,
}

/// What the workers share.
pub struct Office {
    /// All jobs.
    pub jobs: Jobs,
    /// Who reads ahead.
    pub prefetcher: Prefetcher,
    /// Who keeps usage, if somebody does.
    pub usage: Option<Usage>,
    /// Attempts in zoned's hands.
    pub living: Living,
    /// Files that zoned has something write.
    pub staged: Staged,
    /// Small objects that it has opened.
    pub shown: Shown,
}

impl Work {
    /// Whether it may take minutes: what does has workers of its own, so that tasks need not wait for it.
    pub const fn is_long(&self) -> bool {
        match self {
            Self::Serve { request, .. } => {
                matches!(
                    request,
                    Request::Manifest { .. } | Request::Publish { .. } | Request::Damaged { .. }
                )
            }
            Self::CutOff(_) => false,
        }
    }
}

/// The queues, of short and of long work, the answers, the threads.
type Started = ((Sender<Work>, Sender<Work>), Receiver<Done>, Vec<JoinHandle<()>>);

/// Starts `count` workers, and `long` more for what takes long. The queues are bounded by the windows of the
/// connections.
pub fn start(
    office: &Arc<Office>,
    bell: &Bell,
    (count, long): (usize, usize),
) -> io::Result<Started> {
    let (work, to_do) = unbounded::<Work>();
    let (long_work, long_to_do) = unbounded::<Work>();
    let (answers, done) = unbounded();
    let mut threads = Vec::new();
    for number in 0..count + long {
        let (office, bell) = (Arc::clone(office), bell.clone());
        let to_do = if number < count { to_do.clone() } else { long_to_do.clone() };
        let answers = answers.clone();
        let name = format!("wire-{number}");
        threads.push(std::thread::Builder::new().name(name).spawn(move || {
            for work in to_do {
                let Some(answer) = office.work(work) else { continue };
                // The poll thread may have ended: then nobody wants the answer.
                if answers.send(answer).is_ok() {
                    bell.ring();
                }
            }
        })?);
    }
    Ok(((work, long_work), done, threads))
}

/// An answer before it is bytes.
pub(super) struct Answer {
    pub(super) reply: Result<Reply, Refusal>,
    pub(super) fds: Vec<Box<dyn AsFd + Send>>,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self { reply: Ok(reply), fds: Vec::new() }
    }
}

impl From<JobsError> for Answer {
    fn from(error: JobsError) -> Self {
        let code = match &error {
            JobsError::NoSuchJob(_) => "NoSuchJob",
            JobsError::NoSuchAttempt(_) => "NoSuchAttempt",
            JobsError::Full => "Full",
            JobsError::Unavailable(_) => "Unavailable",
            _ => "Internal",
        };
        refusal(code, chain(&error))
    }
}

pub(super) fn refusal(code: &str, message: String) -> Answer {
    Answer { reply: Err(Refusal { code: code.to_owned(), message }), fds: Vec::new() }
}

impl Office {
    fn work(&self, work: Work) -> Option<Done> {
        match work {
            Work::Serve { connection, id, request, beside } => {
                let claimed = match &request {
                    Request::Claim { job, .. } => Some(*job),
                    _ => None,
                };
                let answer = self.serve(connection, request, beside);
                let got_one = matches!(answer.reply, Ok(Reply::Claimed(_)));
                let tell_again = claimed.filter(|_| !got_one);
                Some(Done { connection, message: answer.message(id), tell_again })
            }
            Work::CutOff(attempts) => {
                self.cut_off(&attempts);
                None
            }
        }
    }

    fn serve(&self, connection: ConnectionId, request: Request, beside: Option<OwnedFd>) -> Answer {
        match request {
            Request::Status => Reply::Status(self.jobs.store().status()).into(),
            Request::Claim { job, phase, project } => self.claim(connection, job, phase, project),
            Request::NextInputs { attempt, from } => self.next_inputs(attempt, from),
            Request::Meter { lines } => self.meter(&lines),
            // What it used is metered; the index keeps what was decided.
            Request::Ended { attempt, ending, usage: _ } => self.ended(attempt, &ending),
            Request::Account { login } => self.account(&login),
            Request::Accounts { after } => self.accounts(after.as_deref()),
            Request::Manifest { login, prefix, project } => self.manifest(&login, &prefix, project),
            Request::Manifests { after } => self.manifests(after),
            Request::Release { manifests } => self.release_manifests(&manifests),
            Request::Damaged { login, prefix, file } => self.damaged(&login, &prefix, file),
            Request::Open { login, path } => self.open(&login, &path),
            Request::Stage { project } => self.stage(connection, project),
            Request::Commit { staged, login, path, content_type } => {
                self.commit(connection, staged, (&login, &path), content_type)
            }
            Request::Discard { staged } => self.discard(connection, staged),
            Request::Remove { login, path } => self.remove(&login, &path),
            Request::Publish { login, output } => self.publish(&login, &output, beside),
        }
    }

    fn account(&self, login: &str) -> Answer {
        let snapshot = match self.jobs.store().read() {
            Ok(snapshot) => snapshot,
            Err(error) => return refusal("Unavailable", chain(&error)),
        };
        match crate::store::account(&snapshot, login) {
            Ok(Some(id)) => Reply::Account { id: id.0 }.into(),
            Ok(None) => refusal("NoSuchAccount", format!("there is no account {login}")),
            Err(error) => refusal("Unavailable", chain(&error)),
        }
    }

    fn accounts(&self, after: Option<&str>) -> Answer {
        let read = self.jobs.store().read().and_then(|snapshot| crate::store::accounts(&snapshot));
        let mut all = match read {
            Ok(all) => all,
            Err(error) => return refusal("Unavailable", chain(&error)),
        };
        all.retain(|(login, _)| after.is_none_or(|after| login.as_str() > after));
        all.sort();
        all.truncate(ACCOUNTS_MAX);
        Reply::Accounts(all.into_iter().map(|(login, id)| (login, id.0)).collect()).into()
    }

    fn meter(&self, lines: &[String]) -> Answer {
        let Some(usage) = &self.usage else {
            return refusal("NoUsage", "nobody keeps usage here".to_owned());
        };
        let piece = match pieced(lines) {
            Ok(piece) => piece,
            Err(error) => return refusal("BadLines", error.to_string()),
        };
        match usage.keep(piece) {
            Ok(()) => Reply::Metered.into(),
            Err(error) => refusal("Unavailable", format!("usage can't be written: {error}")),
        }
    }

    fn claim(&self, connection: ConnectionId, job: JobId, phase: u32, project: u32) -> Answer {
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

    fn next_inputs(&self, id: AttemptId, from: u64) -> Answer {
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

    fn ended(&self, id: AttemptId, ending: &Ending) -> Answer {
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

    fn cut_off(&self, attempts: &BTreeMap<AttemptId, Attempt>) {
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

impl Answer {
    fn message(self, id: u64) -> Outgoing {
        let Self { reply, fds } = self;
        let bytes = match &reply {
            Ok(reply) => encode(Kind::Reply, id, reply, fds.len()),
            Err(refusal) => encode(Kind::Refusal, id, refusal, fds.len()),
        };
        match bytes {
            Ok(bytes) => Outgoing { bytes, fds, answer: true },
            Err(error) => Outgoing { bytes: too_large(id, &error), fds: Vec::new(), answer: true },
        }
    }
}

fn too_large(id: u64, error: &FrameError) -> Vec<u8> {
    let refusal = Refusal { code: "TooLarge".to_owned(), message: error.to_string() };
    encode(Kind::Refusal, id, &refusal, 0).expect("a short refusal fits")
}
