//! Jobs as their owners see them: phases, states, counts, errors (Manta's job API, v1).

use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;
use uuid::Uuid;

/// The most phases in one job.
pub const PHASES_MAX: usize = 16;
/// The most reducers in one reduce phase, as in Manta's code (its documents say 1,024).
pub const REDUCERS_MAX: u32 = 128;
/// The most bytes in a job's description, as in Manta.
pub const JOB_BYTES_MAX: usize = 100_000;
/// The most bytes in one `exec` or `init` line.
pub const EXEC_BYTES_MAX: usize = 16 * 1024;
/// The most assets in one phase: they and the task's own descriptors travel in one message.
pub const ASSETS_MAX: usize = 12;
/// Memory a task gets when its phase names none, in MiB.
pub const MEMORY_MIB_DEFAULT: u32 = 1024;
/// The sizes of memory that a phase may ask for, in MiB, as in Manta's code.
pub const MEMORY_MIB: [u32; 7] = [128, 256, 512, 1024, 2048, 4096, 8192];
/// Scratch and output space a task gets when its phase names none, in GiB.
pub const DISK_GIB_DEFAULT: u32 = 8;
/// The sizes of disk that a phase may ask for, in GiB.
pub const DISK_GIB: [u32; 10] = [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
/// The zone image of a phase that names none.
pub const IMAGE_DEFAULT: &str = "base";

/// Names a job for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub Uuid);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for JobId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(text).map(Self)
    }
}

/// One input object a task, or all inputs of the phase through a few tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PhaseKind {
    /// One task for each input object, which is its stdin.
    #[serde(alias = "storage-map")]
    Map,
    /// `count` tasks; the inputs, one after another, are their stdin.
    Reduce,
}

/// One phase of a job, as its owner writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Map or reduce; map if not said.
    #[serde(rename = "type", default = "Phase::kind_default")]
    pub kind: PhaseKind,
    /// The command line, run as `bash --norc -c`.
    pub exec: String,
    /// A command line run once in a zone before its first task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// Objects that stand in the zone under `/assets` before anything runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assets: Vec<String>,
    /// Reducers of a reduce phase, 1 to [`REDUCERS_MAX`]; 1 if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Memory of a task in MiB, one of [`MEMORY_MIB`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u32>,
    /// Scratch and output space of a task in GiB, one of [`DISK_GIB`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<u32>,
    /// The zone image's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

impl Phase {
    const fn kind_default() -> PhaseKind {
        PhaseKind::Map
    }

    /// Reducers of this phase: 1 unless it says more.
    #[must_use]
    pub fn reducers(&self) -> u32 {
        self.count.unwrap_or(1)
    }

    /// Memory of one task, in MiB.
    #[must_use]
    pub fn memory_mib(&self) -> u32 {
        self.memory.unwrap_or(MEMORY_MIB_DEFAULT)
    }

    /// Scratch and output space of one task, in GiB.
    #[must_use]
    pub fn disk_gib(&self) -> u32 {
        self.disk.unwrap_or(DISK_GIB_DEFAULT)
    }
}

/// A job as its owner writes it: the body of CreateJob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// A name for people; not unique.
    #[serde(default)]
    pub name: String,
    /// The phases, run in this order.
    pub phases: Vec<Phase>,
}

/// What is wrong with a job's description.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SpecError {
    /// No phase, or too many.
    #[error("a job has 1 to {PHASES_MAX} phases, this one has {got}")]
    Phases {
        /// How many it has.
        got: usize,
    },
    /// An `exec` that is empty or too long.
    #[error("phase {phase}: exec must have 1 to {EXEC_BYTES_MAX} bytes, it has {got}")]
    Exec {
        /// The phase, from 0.
        phase: usize,
        /// Its bytes.
        got: usize,
    },
    /// A count out of range, or on a map phase.
    #[error("phase {phase}: count is 1 to {REDUCERS_MAX}, and for reduce phases only")]
    Count {
        /// The phase, from 0.
        phase: usize,
    },
    /// A size of memory that is not offered.
    #[error("phase {phase}: memory is one of {MEMORY_MIB:?} MiB")]
    Memory {
        /// The phase, from 0.
        phase: usize,
    },
    /// A size of disk that is not offered.
    #[error("phase {phase}: disk is one of {DISK_GIB:?} GiB")]
    Disk {
        /// The phase, from 0.
        phase: usize,
    },
    /// Too many assets.
    #[error("phase {phase}: at most {ASSETS_MAX} assets, it names {got}")]
    Assets {
        /// The phase, from 0.
        phase: usize,
        /// How many it names.
        got: usize,
    },
}

impl JobSpec {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first rule of [`SpecError`] that the description breaks.
    pub fn check(&self) -> Result<(), SpecError> {
        if self.phases.is_empty() || self.phases.len() > PHASES_MAX {
            return Err(SpecError::Phases { got: self.phases.len() });
        }
        for (phase, p) in self.phases.iter().enumerate() {
            for line in [Some(&p.exec), p.init.as_ref()].into_iter().flatten() {
                if line.is_empty() || line.len() > EXEC_BYTES_MAX {
                    return Err(SpecError::Exec { phase, got: line.len() });
                }
            }
            let counted = p.count.is_none_or(|n| (1..=REDUCERS_MAX).contains(&n));
            if !counted || (p.kind == PhaseKind::Map && p.reducers() != 1) {
                return Err(SpecError::Count { phase });
            }
            if !MEMORY_MIB.contains(&p.memory_mib()) {
                return Err(SpecError::Memory { phase });
            }
            if !DISK_GIB.contains(&p.disk_gib()) {
                return Err(SpecError::Disk { phase });
            }
            if p.assets.len() > ASSETS_MAX {
                return Err(SpecError::Assets { phase, got: p.assets.len() });
            }
        }
        Ok(())
    }
}

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Accepted; no task has started.
    Queued,
    /// Tasks run, or may still come.
    Running,
    /// Input has ended and no task is left, or it was cancelled.
    Done,
}

/// What has become of a job's tasks, as GetJob shows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobStats {
    /// Errors so far, see [`JobError`].
    pub errors: u64,
    /// Outputs of the last phase so far.
    pub outputs: u64,
    /// Attempts that were lost by the system and made again.
    pub retries: u64,
    /// Tasks known so far.
    pub tasks: u64,
    /// Tasks that are over, well or not.
    pub tasks_done: u64,
}

/// A job as GetJob shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobView {
    /// Names the job.
    pub id: JobId,
    /// Its name for people.
    pub name: String,
    /// Where it is in its life.
    pub state: JobState,
    /// Whether its owner cancelled it.
    pub cancelled: bool,
    /// Whether its input has ended.
    pub input_done: bool,
    /// What has become of its tasks.
    pub stats: JobStats,
    /// What the node is short of, while tasks wait for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
    /// When it was made, RFC 3339, UTC, milliseconds.
    pub time_created: String,
    /// When it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_done: Option<String>,
    /// Its phases.
    pub phases: Vec<Phase>,
}

/// One line of a job's errors (`live/err`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// The phase, from 0, as text: so Manta has it.
    pub phase: String,
    /// What failed: `phase 0: input "/a/stor/b"`.
    pub what: String,
    /// A stable word: `UserTaskError`, `ResourceNotFoundError`.
    pub code: String,
    /// What happened, and what to do.
    pub message: String,
    /// The object that holds the task's stderr.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    /// The task's input object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The job's input from which it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p0input: Option<String>,
}

#[cfg(test)]
mod test {
    use super::*;

    fn spec(json: &str) -> JobSpec {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_job_of_the_manual_is_accepted() {
        let job = spec(
            r#"{"name":"","phases":[{"exec":"wc"},{"type":"reduce","exec":"sort","count":4}]}"#,
        );
        assert_eq!(job.check(), Ok(()));
        assert_eq!((job.phases[0].kind, job.phases[1].reducers()), (PhaseKind::Map, 4));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let odd = serde_json::from_str::<JobSpec>(r#"{"phases":[{"exec":"wc","colour":1}]}"#);
        assert!(odd.unwrap_err().to_string().contains("colour"));
    }

    #[test]
    fn each_rule_names_its_phase() {
        let bad = |json| spec(json).check().unwrap_err();
        assert_eq!(bad(r#"{"phases":[]}"#), SpecError::Phases { got: 0 });
        assert_eq!(bad(r#"{"phases":[{"exec":""}]}"#), SpecError::Exec { phase: 0, got: 0 });
        assert_eq!(
            bad(r#"{"phases":[{"exec":"a"},{"exec":"a","count":2}]}"#),
            SpecError::Count { phase: 1 }
        );
        assert_eq!(
            bad(r#"{"phases":[{"exec":"a","memory":100}]}"#),
            SpecError::Memory { phase: 0 }
        );
        assert_eq!(bad(r#"{"phases":[{"exec":"a","disk":3}]}"#), SpecError::Disk { phase: 0 });
    }
}
