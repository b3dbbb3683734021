//! The records of jobs: values of the index, each with a version in its first byte.
//!
//! Paged by design: a job's inputs, tasks, outputs and errors are a key each (see [`super::key`]), the
//! counters are one small record, and nothing here ever holds a whole job. docs/formats.md lists them.

use super::progress::Progress;
use crate::index::View;
use crate::store::AccountId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;
use wire::job::{JobId, JobSpec};
use wire::task::AttemptId;

/// The version of every value written here.
const VERSION: u8 = 1;

/// Why a value could not be read.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The index failed.
    #[error("cannot read the records of jobs")]
    Index(#[from] crate::index::IndexError),
    /// A value is not what its key says.
    #[error("a job's {what} record is damaged")]
    Damaged {
        /// Which record.
        what: &'static str,
        /// What the decoder says.
        #[source]
        source: postcard::Error,
    },
    /// A value from a later program.
    #[error(
        "a job's {what} record has version {got}, this program reads {VERSION}: update storaged"
    )]
    Version {
        /// Which record.
        what: &'static str,
        /// Its version.
        got: u8,
    },
    /// A record that another one points to is not there.
    #[error("a job's {what} record is missing")]
    Missing {
        /// Which record.
        what: &'static str,
    },
}

/// A value with a name for messages.
pub trait Record: Serialize + DeserializeOwned {
    /// What it is, in words.
    const WHAT: &'static str;

    /// Its bytes in the index.
    fn encode(&self) -> Vec<u8> {
        let value = vec![VERSION];
        postcard::to_extend(self, value)
            .expect("a vector takes any bytes and these types have a form")
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`RecordError::Version`] and [`RecordError::Damaged`].
    fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let what = Self::WHAT;
        match value.split_first() {
            Some((&VERSION, body)) => {
                postcard::from_bytes(body).map_err(|source| RecordError::Damaged { what, source })
            }
            Some((&got, _)) => Err(RecordError::Version { what, got }),
            None => Err(RecordError::Version { what, got: 0 }),
        }
    }

    /// Reads it from `view`, if it is there.
    ///
    /// # Errors
    /// [`RecordError`].
    fn find(view: &dyn View, key: &[u8]) -> Result<Option<Self>, RecordError> {
        view.get(key)?.map(|value| Self::decode(&value)).transpose()
    }

    /// Reads it from `view`, where another record says that it is.
    ///
    /// # Errors
    /// [`RecordError`].
    fn load(view: &dyn View, key: &[u8]) -> Result<Self, RecordError> {
        Self::find(view, key)?.ok_or(RecordError::Missing { what: Self::WHAT })
    }
}

/// What never changes in a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Whose it is.
    pub account: u32,
    /// That account's name when the job was made: its outputs stand under it.
    pub login: String,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// The owner's description, as JSON.
    #[serde(with = "as_json")]
    pub spec: JobSpec,
}

impl Head {
    /// The account as the store names it.
    #[must_use]
    pub const fn account(&self) -> AccountId {
        AccountId(self.account)
    }
}

/// `JobSpec` leaves out what is not said, which only a self-describing format can read back.
mod as_json {
    use super::JobSpec;
    use serde::{
        Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _,
    };

    pub fn serialize<S: Serializer>(spec: &JobSpec, to: S) -> Result<S::Ok, S::Error> {
        serde_json::to_string(spec).map_err(S::Error::custom)?.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<JobSpec, D::Error> {
        serde_json::from_str(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// Where the bytes of an input were when it became one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bytes {
    /// In this blob. The job holds a reference to the blobs of its own inputs, so that they can be read
    /// whatever becomes of the object; a blob between two phases is its object's.
    Blob(u64),
    /// In the record of the object, which must still have the same bytes when they are read: what
    /// earlier releases wrote.
    Inline,
    /// In the record of this version of the object, by its number. In a bucket that keeps versions it
    /// stays when the object is replaced.
    Version(u64),
}

/// An object that a task reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Its full name, `/login/stor/…` or `/login/jobs/<id>/stor/…`.
    pub name: String,
    /// The job's input from which it came; none behind a reduce phase, and none for the job's inputs.
    pub p0: Option<String>,
    /// Where its bytes were when it became an input.
    pub bytes: Bytes,
    /// Their number.
    pub size: u64,
    /// Their MD5: a task runs on these bytes or not at all.
    pub md5: [u8; 16],
}

impl Input {
    /// The job's input from which this one came: itself, in phase 0.
    #[must_use]
    pub fn origin(&self, phase: usize) -> Option<&str> {
        if phase == 0 { Some(&self.name) } else { self.p0.as_deref() }
    }
}

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskState {
    /// Waits to be claimed.
    Ready,
    /// This attempt, and no other, may settle it.
    Running {
        /// Which one.
        attempt: AttemptId,
    },
    /// Its output is an object.
    Done,
    /// Its failure is on record.
    Failed,
}

/// One task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Where it is in its life.
    pub state: TaskState,
    /// Attempts that the system lost by a fault of its own.
    pub lost: u8,
    /// Attempts that a restart of a daemon cut off.
    pub cut_off: u8,
    /// A map's input; none for a reducer.
    pub input: Option<Input>,
}

impl TaskRecord {
    /// A task that has just become ready.
    #[must_use]
    pub const fn ready(input: Option<Input>) -> Self {
        Self { state: TaskState::Ready, lost: 0, cut_off: 0, input }
    }
}

/// Which task a living attempt is at, and what was promised to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// The job.
    pub job: JobId,
    /// The phase.
    pub phase: u32,
    /// The task's number in the phase.
    pub task: u64,
}

/// An error of a job, as `live/err` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// The phase.
    pub phase: u32,
    /// A stable word.
    pub code: String,
    /// What happened.
    pub message: String,
    /// The object that holds the task's stderr.
    pub stderr: Option<String>,
    /// The task's input.
    pub input: Option<String>,
    /// The job's input from which that came.
    pub p0: Option<String>,
}

/// A name, in a list of names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRecord {
    /// The object's full name.
    pub name: String,
}

impl Record for Head {
    const WHAT: &'static str = "head";
}

impl Record for Progress {
    const WHAT: &'static str = "progress";
}

impl Record for TaskRecord {
    const WHAT: &'static str = "task";
}

impl Record for Input {
    const WHAT: &'static str = "reducer's input";
}

impl Record for AttemptRecord {
    const WHAT: &'static str = "attempt";
}

impl Record for ErrorRecord {
    const WHAT: &'static str = "error";
}

impl Record for NameRecord {
    const WHAT: &'static str = "name";
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_head_with_unsaid_things_comes_back_as_it_was() {
        let spec = serde_json::from_str(r#"{"phases":[{"exec":"wc","memory":256}]}"#).unwrap();
        let head = Head { account: 3, login: "ann".into(), created_ms: 9, spec };
        assert_eq!(Head::decode(&head.encode()).unwrap(), head);
    }

    #[test]
    fn a_later_version_is_refused_by_name() {
        let mut value = TaskRecord::ready(None).encode();
        value[0] = 2;
        let refused = TaskRecord::decode(&value);
        assert!(matches!(refused, Err(RecordError::Version { what: "task", got: 2 })));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_never_a_panic(bytes: Vec<u8>) {
            let answers = [
                Head::decode(&bytes).is_ok(),
                Progress::decode(&bytes).is_ok(),
                TaskRecord::decode(&bytes).is_ok(),
            ];
            prop_assert!(bytes.first() == Some(&VERSION) || answers == [false; 3]);
        }
    }
}
