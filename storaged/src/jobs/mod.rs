//! Jobs: Manta's map and reduce over objects, as records of the index.
//!
//! ```text
//!   progress   pure: what becomes of a job when something happens     verdict   pure: what an ending means
//!   job        one job inside a transaction: events in, records out   key, record   how it is kept
//!   owner      what its owner does: create, add inputs, end, cancel, look
//!   claim      what zoned does: get the next ready task …
//!   attempt    … read its inputs, settle it
//!   archive    what is long done becomes objects; lists: line by line
//!   janitor    what is too long for one transaction: cancelled tasks, consumed intermediates
//! ```
//! A job's records are changed by transactions of the store alone, each whole or not at all: a task's
//! output object, the task of the next phase that reads it and the counters are one of them. Nothing
//! here holds a job in memory; what waits is a range of keys.
//!
//! This module never runs anything: zoned does, and asks through [`crate::wire_server`].

pub mod archive;
pub mod attempt;
pub mod claim;
mod held;
mod input;
mod janitor;
mod job;
pub mod key;
pub mod lists;
pub mod name;
pub mod notice;
mod owner;
pub mod progress;
pub mod record;
pub use crate::calendar as time;
pub mod verdict;

pub use held::held_blob;
pub use job::Job;
pub use owner::{JobFilter, LINES_MAX, Listed};

use crate::index::{IndexError, View};
use crate::store::{
    OpenBlobError, SealError, Snapshot, StageError, Store, TransactError, TxnError,
};
use notice::Notices;
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;
use wire::job::{JobId, SpecError};

/// Why something about jobs was not done.
#[derive(Debug, Error)]
pub enum JobsError {
    /// There is no such job, or it is somebody else's.
    #[error("there is no job {0}")]
    NoSuchJob(JobId),
    /// The description breaks a rule.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The event does not apply to the job as it is.
    #[error(transparent)]
    Refused(#[from] progress::Refusal),
    /// The attempt is not the one that may settle its task, or is over.
    #[error("attempt {0} is over: it was settled, cut off or never made")]
    NoSuchAttempt(u64),
    /// A record is damaged or the index failed.
    #[error(transparent)]
    Record(#[from] record::RecordError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// An object could not be written or removed.
    #[error(transparent)]
    Object(#[from] TxnError),
    /// A staging file could not be made.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// A file could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// An object's file could not be opened.
    #[error(transparent)]
    Open(#[from] OpenBlobError),
    /// The store does not take the transaction now; its words say why.
    #[error("{0}")]
    Unavailable(String),
    /// Too many transactions wait.
    #[error("the store is too busy; try again later")]
    Busy,
    /// The data disk is full.
    #[error("the data disk is full; delete objects")]
    Full,
}

impl From<TransactError<JobsError>> for JobsError {
    fn from(error: TransactError<JobsError>) -> Self {
        match error {
            TransactError::Refused(error) => error,
            TransactError::Full => Self::Full,
            TransactError::Busy => Self::Busy,
            // Read-only, shutting down, or a transaction that fell over: the words say which.
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// All jobs of a store. Clones are the same jobs.
#[derive(Clone)]
pub struct Jobs {
    store: Store,
    notices: Notices,
    janitor: Arc<janitor::Janitor>,
    /// Held for its end; none for the archivist itself.
    _archivist: Option<Arc<archive::Archivist>>,
    /// What the node is short of while tasks wait for it, as zoned says.
    held: Arc<Mutex<Option<String>>>,
}

impl Jobs {
    /// Takes up the jobs of a store: attempts that were alive when storaged last ended are cut off, and
    /// what was being cleared goes on.
    ///
    /// # Errors
    /// When the index fails or a record is damaged.
    pub fn open(store: Store) -> Result<Self, JobsError> {
        let notices = Notices::default();
        let janitor = Arc::new(janitor::Janitor::start(store.clone(), notices.clone()));
        let held = Arc::default();
        let jobs = Self { store, notices, janitor, _archivist: None, held };
        jobs.recover()?;
        let (store, notices) = (jobs.store.clone(), jobs.notices.clone());
        let janitor = Arc::downgrade(&jobs.janitor);
        let archivist = archive::Archivist::start(move || {
            let (store, notices, held) = (store.clone(), notices.clone(), Arc::default());
            Some(Self { store, notices, janitor: janitor.upgrade()?, _archivist: None, held })
        });
        Ok(Self { _archivist: Some(Arc::new(archivist)), ..jobs })
    }

    /// Notes what tasks wait for; nothing when they go on.
    pub fn hold(&self, why: Option<String>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    fn held(&self) -> Option<String> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where changes are announced.
    #[must_use]
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// The store below.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    fn read(&self) -> Result<Snapshot, JobsError> {
        Ok(self.store.read()?)
    }

    /// Jobs that are not done, in the order of their names, after `after`.
    ///
    /// # Errors
    /// When the index fails.
    pub fn active(&self, after: Option<JobId>, max: usize) -> Result<Vec<JobId>, JobsError> {
        let view = self.read()?;
        let after = after.map(key::active);
        let page = key::page(&view, &key::all_active(), after.as_deref(), max)?;
        Ok(page.iter().filter_map(|(key, _)| key::last_job(key)).collect())
    }

    fn recover(&self) -> Result<(), JobsError> {
        self.cut_off_all()?;
        let mut after = None;
        loop {
            let page = self.active(after, RECOVERY_PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(*last);
            for job in page {
                self.resume_clearing(job)?;
            }
        }
    }

    fn resume_clearing(&self, job: JobId) -> Result<(), JobsError> {
        let view = self.read()?;
        let clearing = !key::page(&view, &key::all_clearing(job), None, 1)?.is_empty();
        if clearing || Job::load(&view, job)?.progress.cancelled() {
            self.janitor.look_at(job);
        }
        Ok(())
    }
}

/// Jobs, or attempts, looked at in one go at start.
const RECOVERY_PAGE: usize = 256;

/// Whether any object lies below `name`, so that it is like a directory.
fn is_directory(view: &dyn View, path: &crate::store::ObjectPath) -> Result<bool, IndexError> {
    let mut prefix = path.bytes().to_vec();
    prefix.push(b'/');
    // A listing: what is hidden behind a delete marker makes no directory.
    let mut query = crate::store::ListQuery {
        account: path.account,
        area: path.area,
        prefix,
        delimiter: Vec::new(),
        after: None,
        max: 1,
    };
    loop {
        let page = crate::store::list(view, &query)?;
        match (page.entries.is_empty(), page.next) {
            (false, _) => return Ok(true),
            (true, None) => return Ok(false),
            (true, next) => query.after = next,
        }
    }
}
