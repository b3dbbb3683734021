//! What a job's owner does: create it, add inputs, end them, cancel it, look at it.

use super::input::{Looked, look};
use super::job::{Hand, Job};
use super::key::{self, List};
use super::progress::{Event, Intake, Life, Progress};
use super::record::{Bytes, ErrorRecord, Head, NameRecord, Record};
use super::time::now_ms;
use super::{Jobs, JobsError};
use crate::index::View;
use crate::store::{AccountId, BlobId, Txn, blob};
use uuid::Uuid;
use wire::job::{JobError, JobId, JobSpec, JobView};

/// The most lines of input in one transaction: bounds how long everybody else's commits wait.
pub const LINES_MAX: usize = 256;

/// Which jobs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only jobs that are not done.
    pub live: bool,
    /// Only jobs of this name.
    pub name: Option<String>,
}

impl JobFilter {
    fn admits(&self, job: &Job) -> bool {
        let live = !matches!(job.progress.life, Life::Done { .. });
        let named = self.name.as_ref().is_none_or(|name| *name == job.head.spec.name);
        (live || !self.live) && named
    }
}

/// An entry of the list of jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Names the job.
    pub id: JobId,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
}

impl Jobs {
    /// Makes a job.
    ///
    /// # Errors
    /// [`JobsError::Spec`], or what the store says.
    pub async fn create(
        &self,
        account: AccountId,
        login: &str,
        spec: JobSpec,
    ) -> Result<JobId, JobsError> {
        spec.check()?;
        let id = JobId(Uuid::new_v4());
        let progress = Progress::new(&spec);
        let head = Head { account: account.0, login: login.to_owned(), created_ms: now_ms(), spec };
        let made = self.store.transact(move |txn| {
            txn.put(key::head(id), head.encode());
            txn.put(key::progress(id), progress.encode());
            txn.put(key::listed(account, head.created_ms, id), Vec::new());
            txn.put(key::active(id), Vec::new());
            Ok::<_, JobsError>(())
        });
        made.await?;
        Ok(id)
    }

    /// Adds a page of inputs, at most [`LINES_MAX`].
    ///
    /// # Errors
    /// [`JobsError::Refused`] once input is over, or what the store says; none of the page counts then.
    pub async fn add_inputs(
        &self,
        account: AccountId,
        id: JobId,
        lines: Vec<String>,
    ) -> Result<(), JobsError> {
        assert!(lines.len() <= LINES_MAX, "the caller pages");
        // Looked up before the transaction: everybody's commits wait for those.
        let looked = {
            let view = self.read()?;
            let head = owned(&view, account, id)?.head;
            lines.iter().map(|line| look(&view, &head, line)).collect::<Result<Vec<_>, _>>()?
        };
        let added = self.store.transact(move |txn| {
            let mut job = owned(txn, account, id)?;
            for (line, looked) in lines.into_iter().zip(looked) {
                add_input(txn, &mut job, line, looked)?;
            }
            job.save(txn);
            Ok::<_, JobsError>(())
        });
        added.await?;
        self.notices.changed(id);
        Ok(())
    }

    /// Says that no input follows.
    ///
    /// # Errors
    /// [`JobsError::Refused`] if the job is cancelled or done, or what the store says.
    pub async fn end_input(&self, account: AccountId, id: JobId) -> Result<(), JobsError> {
        self.happen(account, id, Event::InputEnded).await
    }

    /// Stops a job: what waits is settled as cancelled, what runs is killed.
    ///
    /// # Errors
    /// [`JobsError::Refused`] if it is cancelled or done already, or what the store says.
    pub async fn cancel(&self, account: AccountId, id: JobId) -> Result<(), JobsError> {
        self.happen(account, id, Event::Cancelled).await?;
        self.notices.cancelled(id);
        self.janitor.look_at(id);
        Ok(())
    }

    async fn happen(&self, account: AccountId, id: JobId, event: Event) -> Result<(), JobsError> {
        let happened = self.store.transact(move |txn| {
            let mut job = owned(txn, account, id)?;
            job.happen(txn, event, &Hand::default())?;
            job.save(txn);
            Ok::<_, JobsError>(())
        });
        happened.await?;
        self.notices.changed(id);
        Ok(())
    }

    /// A job as GetJob shows it.
    ///
    /// # Errors
    /// [`JobsError::NoSuchJob`], also for somebody else's.
    pub fn view(&self, account: AccountId, id: JobId) -> Result<JobView, JobsError> {
        let mut view = owned(&self.read()?, account, id)?.view();
        view.input_done |= view.cancelled;
        if view.state != wire::job::JobState::Done && view.stats.tasks_done < view.stats.tasks {
            view.waits = self.held();
        }
        Ok(view)
    }

    /// At most `max` of an account's jobs, the newest first, after `after`; whether there may be more.
    /// At most `max` jobs are looked at, so that a page may hold fewer than there are.
    ///
    /// # Errors
    /// When the index fails.
    pub fn list(
        &self,
        account: AccountId,
        filter: &JobFilter,
        after: Option<&Listed>,
        max: usize,
    ) -> Result<(Vec<Listed>, Option<Listed>), JobsError> {
        let view = self.read()?;
        let after = after.map(|last| key::listed(account, last.created_ms, last.id));
        let page = key::page(&view, &key::all_listed(account), after.as_deref(), max)?;
        let (full, mut last, mut found) = (page.len() == max, None, Vec::new());
        for id in page.iter().filter_map(|(key, _)| key::last_job(key)) {
            let job = Job::load(&view, id)?;
            let listed = Listed { id, created_ms: job.head.created_ms };
            if filter.admits(&job) {
                found.push(listed.clone());
            }
            last = Some(listed);
        }
        Ok((found, last.filter(|_| full)))
    }

    /// A job's entry of the list.
    ///
    /// # Errors
    /// [`JobsError::NoSuchJob`], or what the index says.
    pub fn listed(&self, account: AccountId, id: JobId) -> Result<Listed, JobsError> {
        let job = owned(&self.read()?, account, id)?;
        Ok(Listed { id, created_ms: job.head.created_ms })
    }

    /// At most `max` names of a job's inputs or outputs, with their numbers, from number `from` on.
    ///
    /// # Errors
    /// [`JobsError::NoSuchJob`], or what the index says.
    pub fn names(
        &self,
        account: AccountId,
        id: JobId,
        list: List,
        from: u64,
        max: usize,
    ) -> Result<Vec<(u64, String)>, JobsError> {
        let entry = |number, value: &[u8]| Ok((number, NameRecord::decode(value)?.name));
        self.entries(account, id, list, from, max, entry)
    }

    /// At most `max` of a job's errors, with their numbers, from number `from` on.
    ///
    /// # Errors
    /// [`JobsError::NoSuchJob`], or what the index says.
    pub fn errors(
        &self,
        account: AccountId,
        id: JobId,
        from: u64,
        max: usize,
    ) -> Result<Vec<(u64, JobError)>, JobsError> {
        let entry = |number, value: &[u8]| Ok((number, shown(ErrorRecord::decode(value)?)));
        self.entries(account, id, List::Errors, from, max, entry)
    }

    fn entries<T>(
        &self,
        account: AccountId,
        id: JobId,
        list: List,
        from: u64,
        max: usize,
        entry: impl Fn(u64, &[u8]) -> Result<T, JobsError>,
    ) -> Result<Vec<T>, JobsError> {
        let view = self.read()?;
        owned(&view, account, id)?;
        let after = from.checked_sub(1).map(|before| key::listed_in(list, id, before));
        let page = key::page(&view, &key::list(list, id), after.as_deref(), max)?;
        page.iter()
            .map(|(key, value)| entry(key::last_number(key).unwrap_or_default(), value))
            .collect()
    }
}

/// Loads a job of this account's; somebody else's is as good as none.
fn owned(view: &dyn View, account: AccountId, id: JobId) -> Result<Job, JobsError> {
    let job = Job::load(view, id)?;
    if job.head.account() == account { Ok(job) } else { Err(JobsError::NoSuchJob(id)) }
}

fn add_input(
    txn: &mut Txn<'_>,
    job: &mut Job,
    line: String,
    looked: Looked,
) -> Result<(), JobsError> {
    if job.progress.intake != Intake::Open {
        return Err(JobsError::Refused(super::progress::Refusal::InputOver));
    }
    let number = job.progress.inputs;
    let looked = still_there(txn, job, &line, looked)?;
    let (event, hand) = match looked {
        Looked::Object(input) => {
            if let Bytes::Blob(blob) = input.bytes {
                txn.hold_blob(BlobId(blob))?;
            }
            (Event::InputAccepted, Hand { input: Some(input), ..Hand::default() })
        }
        Looked::Failure(failure) => {
            let error = job.error(0, None, &failure, None);
            let error = ErrorRecord { input: Some(line.clone()), p0: Some(line.clone()), ..error };
            (Event::InputRefused, Hand { error: Some(error), ..Hand::default() })
        }
    };
    txn.put(key::listed_in(List::Inputs, job.id, number), NameRecord { name: line }.encode());
    job.happen(txn, event, &hand)
}

/// The object may have been replaced since it was looked up: then it is looked up again, here, where
/// nothing can change.
fn still_there(txn: &Txn<'_>, job: &Job, line: &str, looked: Looked) -> Result<Looked, JobsError> {
    if let Looked::Object(input) = &looked
        && let Bytes::Blob(id) = input.bytes
        && blob(txn, BlobId(id))?.is_none()
    {
        return look(txn, &job.head, line);
    }
    Ok(looked)
}

fn shown(error: ErrorRecord) -> JobError {
    let ErrorRecord { phase, code, message, stderr, input, p0 } = error;
    let what = match (&input, &p0) {
        (None, _) => format!("phase {phase}: reduce"),
        (Some(input), Some(p0)) if p0 != input => {
            format!("phase {phase}: input \"{input}\" (from job input \"{p0}\")")
        }
        (Some(input), _) => format!("phase {phase}: input \"{input}\""),
    };
    JobError { phase: phase.to_string(), what, code, message, stderr, input, p0input: p0 }
}
