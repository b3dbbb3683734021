//! What the workers do: they wait for the store, so that the poll thread need not.

use super::Bell;
use super::connection::{ConnectionId, Outgoing};
use super::living::{Attempt, Living};
use super::objects::Shown;
use super::staged::Staged;
use crate::hourly::{Usage, pieced};
use crate::jobs::{Jobs, JobsError};
use crate::prefetch::Prefetcher;
use crate::s3::chain;
use crossbeam::channel::{Receiver, Sender, unbounded};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use wire::frame::{FrameError, Kind, Refusal, encode};
use wire::job::JobId;
use wire::task::{ACCOUNTS_MAX, AttemptId, Reply, Request};

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
                // Who comes next says it again.
                self.jobs.hold(None);
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
            Request::Held { why } => {
                self.jobs.hold(why);
                Reply::Noted.into()
            }
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
