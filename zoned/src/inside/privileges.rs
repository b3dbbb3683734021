//! Gives up, for good, whatever a zone's processes must not have.
//!
//! The order matters. Entering the user namespace fills the capability sets, so they are emptied after
//! it; Landlock and the filter need no_new_privs; the filter comes last because it forbids the rest.

use crate::filter::{compile::compile, policy};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::LazyLock;
use sys::caps::{self, capability};
use sys::seccomp::{self, Instruction};
use sys::{landlock, namespace};
use thiserror::Error;

/// Above all daemons of the node when the kernel looks for something to kill.
const OOM_SCORE: &str = "500";
/// Open files: what programs expect, and what they may raise it to.
const FILES: (u64, u64) = (1024, 65_536);
/// Memory a process may lock. More would let it pin an object's pages, which others pay for.
const LOCKED_BYTES: u64 = 64 * 1024;
/// Queued signals and POSIX timers of a zone's user.
const SIGNALS: u64 = 1024;

/// What could not be given up.
#[derive(Debug, Error)]
#[error("cannot {step}")]
pub struct PrivilegeError {
    step: &'static str,
    source: io::Error,
}

fn step<T, E: Into<io::Error>>(
    step: &'static str,
    result: Result<T, E>,
) -> Result<T, PrivilegeError> {
    result.map_err(|source| PrivilegeError { step, source: source.into() })
}

/// What a standing zone's root may do, in its own user namespace: look after its files and its users.
const STANDING: u64 = capability::CHOWN
    | capability::DAC_OVERRIDE
    | capability::FOWNER
    | capability::FSETID
    | capability::SETUID
    | capability::SETGID
    | capability::KILL;

/// Whose privileges are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A task's zone: no capability at all.
    Task,
    /// A standing zone.
    Standing,
}

static TASK_FILTER: LazyLock<Vec<Instruction>> = LazyLock::new(|| compile(&policy::task()));
static STANDING_FILTER: LazyLock<Vec<Instruction>> = LazyLock::new(|| compile(&policy::standing()));

/// Compiles the filters, for all processes that are copied from this one.
pub fn prepare() {
    LazyLock::force(&TASK_FILTER);
    LazyLock::force(&STANDING_FILTER);
}

/// Becomes user 0 of the user namespace, with no privilege but those of its kind, under their filter.
///
/// # Errors
/// [`PrivilegeError`]; no program of a tenant may run then.
pub fn give_up(users: BorrowedFd<'_>, kind: Kind) -> Result<(), PrivilegeError> {
    let score = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    step("offer the zone to the out-of-memory killer first", score)?;
    for (resource, (soft, hard)) in [
        (Resource::RLIMIT_NOFILE, FILES),
        (Resource::RLIMIT_MEMLOCK, (LOCKED_BYTES, LOCKED_BYTES)),
        (Resource::RLIMIT_SIGPENDING, (SIGNALS, SIGNALS)),
        (Resource::RLIMIT_CORE, (0, 0)),
        (Resource::RLIMIT_MSGQUEUE, (0, 0)),
        (Resource::RLIMIT_NICE, (0, 0)),
        (Resource::RLIMIT_RTPRIO, (0, 0)),
    ] {
        // Limits that the node has set lower already stay.
        let (_, most) = step("read the resource limits", getrlimit(resource))?;
        let (soft, hard) = (soft.min(most), hard.min(most));
        step("set the resource limits", setrlimit(resource, soft, hard))?;
    }
    step("enter the zone's user namespace", namespace::enter_users(users))?;
    step("become the zone's user", caps::become_user(0))?;
    match kind {
        Kind::Task => step("drop all capabilities", caps::drop_all())?,
        Kind::Standing => step("keep few capabilities", caps::keep_for_root(STANDING))?,
    }
    step("set no_new_privs", caps::no_new_privileges())?;
    step("hide from other processes", caps::not_dumpable())?;
    // zoned says at start when the kernel has no Landlock; it is the second wall, not the first.
    if landlock::version().is_ok() {
        let root = step("open the root", File::open("/"))?;
        step("confine the zone by Landlock", landlock::confine(root.as_fd()))?;
    }
    let filter = match kind {
        Kind::Task => &TASK_FILTER,
        Kind::Standing => &STANDING_FILTER,
    };
    step("load the system-call filter", seccomp::install(filter))
}
