//! What an attempt's ending means for its task: decided here, in words that Manta's users know.
//!
//! The rules of trying again:
//! - What the owner's program did is final: it is never run twice for a failure of its own.
//! - What the system did wrong ([`Ending::Lost`], a refused seal) is tried again [`RETRIES_MAX`] times.
//! - A restart of storaged or zoned cuts attempts off. That is no fault of the task and does not count
//!   against those retries, so that an update of a node eats nobody's work; but a task that was cut off
//!   [`CUT_OFFS_MAX`] times is given up, since it may be what brings the daemon down.

use super::record::TaskRecord;
use wire::job::Phase;
use wire::task::Ending;

/// How often a task is tried again after a fault of the system, as with Manta.
pub const RETRIES_MAX: u8 = 2;
/// How often a task may be cut off by the restart of a daemon. Generous: a crash loop with back-off
/// restarts about as often in ten minutes.
pub const CUT_OFFS_MAX: u8 = 12;

/// What becomes of an ended attempt's task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Its output becomes an object.
    Commit,
    /// It failed for good.
    Fail(Failure),
    /// It is ready again; the task as it is then.
    Retry(TaskRecord),
}

/// A failure as the job's owner reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A stable word.
    pub code: Code,
    /// What happened, and what to do.
    pub message: String,
}

impl Failure {
    /// A failure with these words.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// What every task of a cancelled job ends with.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(Code::JobCancelled, "job was cancelled")
    }
}

/// The stable words of Manta's job errors that are used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The owner may not read the object.
    Authorization,
    /// The system failed, more often than is tried again.
    Internal,
    /// An input that is no object.
    InvalidArgument,
    /// The job was cancelled before the task was over.
    JobCancelled,
    /// No such object.
    ResourceNotFound,
    /// Assets or `init` failed.
    TaskInit,
    /// The owner's program failed.
    UserTask,
}

impl Code {
    /// As Manta spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authorization => "AuthorizationError",
            Self::Internal => "InternalError",
            Self::InvalidArgument => "InvalidArgumentError",
            Self::JobCancelled => "JobCancelledError",
            Self::ResourceNotFound => "ResourceNotFoundError",
            Self::TaskInit => "TaskInitError",
            Self::UserTask => "UserTaskError",
        }
    }
}

/// What becomes of `task` when its attempt ended like this.
#[must_use]
pub fn judge(ending: &Ending, task: &TaskRecord, phase: &Phase) -> Verdict {
    let user = |message: String| Verdict::Fail(Failure::new(Code::UserTask, message));
    match ending {
        Ending::Exited { code: 0 } => Verdict::Commit,
        Ending::Exited { code } => user(format!("user command exited with code {code}")),
        Ending::Signalled { signal } => {
            user(format!("user command terminated by {}", signal_name(*signal)))
        }
        Ending::OutOfMemory => user(format!(
            "user command ran out of memory: its limit is {} MiB, \"memory\" of the phase sets it",
            phase.memory_mib()
        )),
        Ending::OutOfDisk => user(format!(
            "user command ran out of disk space: its limit is {} GiB, \"disk\" of the phase sets it",
            phase.disk_gib()
        )),
        Ending::InitFailed { message } => {
            Verdict::Fail(Failure::new(Code::TaskInit, message.clone()))
        }
        Ending::Cancelled => lost(task, "its zone was killed"),
        Ending::Lost { message } => lost(task, message),
    }
}

/// What becomes of a task whose attempt the system lost by a fault of its own.
#[must_use]
pub fn lost(task: &TaskRecord, why: &str) -> Verdict {
    if task.lost >= RETRIES_MAX {
        let tries = u32::from(task.lost) + 1;
        let message = format!("the system lost the task {tries} times, at last: {why}");
        return Verdict::Fail(Failure::new(Code::Internal, message));
    }
    let again = TaskRecord::ready(task.input.clone());
    Verdict::Retry(TaskRecord { lost: task.lost + 1, cut_off: task.cut_off, ..again })
}

/// What becomes of a task whose attempt ended with a daemon.
#[must_use]
pub fn cut_off(task: &TaskRecord) -> Verdict {
    if task.cut_off >= CUT_OFFS_MAX {
        let message = format!(
            "the task was cut off by {} restarts of a daemon and may be their cause; it is not tried again",
            u32::from(task.cut_off) + 1
        );
        return Verdict::Fail(Failure::new(Code::Internal, message));
    }
    let again = TaskRecord::ready(task.input.clone());
    Verdict::Retry(TaskRecord { lost: task.lost, cut_off: task.cut_off + 1, ..again })
}

/// The name of a signal on Linux, x86-64 (signal(7)).
fn signal_name(signal: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let index = usize::try_from(signal).ok().and_then(|n| n.checked_sub(1));
    match index.and_then(|n| NAMES.get(n)) {
        Some(name) => format!("SIG{name}"),
        None => format!("signal {signal}"),
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn phase() -> Phase {
        serde_json::from_str(r#"{"exec":"x","memory":256}"#).unwrap()
    }

    fn ending() -> impl Strategy<Value = Ending> {
        prop_oneof![
            any::<u8>().prop_map(|code| Ending::Exited { code }),
            any::<i32>().prop_map(|signal| Ending::Signalled { signal }),
            Just(Ending::OutOfMemory),
            Just(Ending::OutOfDisk),
            Just(Ending::InitFailed { message: "asset".into() }),
            Just(Ending::Cancelled),
            Just(Ending::Lost { message: "no zone".into() }),
        ]
    }

    fn failure(ending: &Ending) -> (Code, String) {
        match judge(ending, &TaskRecord::ready(None), &phase()) {
            Verdict::Fail(failure) => (failure.code, failure.message),
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn only_losses_are_tried_again_and_at_most_twice(ending in ending(), lost in 0..6_u8) {
            let task = TaskRecord { lost, ..TaskRecord::ready(None) };
            let of_system = matches!(ending, Ending::Cancelled | Ending::Lost { .. });
            let retried = matches!(judge(&ending, &task, &phase()), Verdict::Retry(_));
            prop_assert_eq!(retried, of_system && lost < RETRIES_MAX);
        }

        #[test]
        fn a_restart_does_not_use_up_retries(lost in 0..6_u8, cut in 0..CUT_OFFS_MAX) {
            let task = TaskRecord { lost, cut_off: cut, ..TaskRecord::ready(None) };
            let again = TaskRecord { cut_off: cut + 1, ..task.clone() };
            prop_assert_eq!(cut_off(&task), Verdict::Retry(again));
        }
    }

    #[test]
    fn a_task_that_is_always_cut_off_is_given_up() {
        let task = TaskRecord { cut_off: CUT_OFFS_MAX, ..TaskRecord::ready(None) };
        assert!(matches!(cut_off(&task), Verdict::Fail(Failure { code: Code::Internal, .. })));
    }

    #[test]
    fn the_words_are_mantas() {
        let exited = failure(&Ending::Exited { code: 127 });
        assert_eq!(exited, (Code::UserTask, "user command exited with code 127".into()));
        let killed = failure(&Ending::Signalled { signal: 9 });
        assert_eq!(killed, (Code::UserTask, "user command terminated by SIGKILL".into()));
        let (code, message) = failure(&Ending::OutOfMemory);
        assert_eq!(code, Code::UserTask);
        assert!(
            message.starts_with("user command ran out of memory") && message.contains("256 MiB")
        );
    }
}
