//! Gives up, for good, whatever a zone's processes must not have.
//!
//! What every zone gives up alike the nursery has given up already, for all that are copied from it: resource
//! limits, new privileges, and the system calls that making a zone does not need.
//!
//! The order matters. Entering the user namespace fills the capability sets, so they are emptied after
//! it; Landlock and the filter need no_new_privs; the filter comes last because it forbids the rest.

use crate::filter::compile::{compile, further};
use crate::filter::policy;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
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

/// The kernel's Landlock, if it has one.
static LANDLOCK: LazyLock<Option<u32>> = LazyLock::new(|| landlock::version().ok());
static TASK_FILTER: LazyLock<Vec<Instruction>> = LazyLock::new(|| beyond(&policy::task()));
static STANDING_FILTER: LazyLock<Vec<Instruction>> = LazyLock::new(|| beyond(&policy::standing()));

fn beyond(policy: &policy::Policy) -> Vec<Instruction> {
    further::compile(&policy::beyond_nursery(policy))
}

/// Gives up, for all processes that are copied from this one, what none of them needs; compiles the filters
/// for the rest.
///
/// # Errors
/// [`PrivilegeError`].
pub fn prepare() -> Result<(), PrivilegeError> {
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
    LazyLock::force(&LANDLOCK);
    LazyLock::force(&TASK_FILTER);
    LazyLock::force(&STANDING_FILTER);
    step("set no_new_privs", caps::no_new_privileges())?;
    let filter = compile(&policy::nursery());
    step("load the nursery's system-call filter", seccomp::install(&filter))
}

/// The nursery's place in the order in which the kernel looks for something to kill: a copy begins where the
/// nursery is at that moment, which costs less than finding /proc in each.
#[derive(Debug)]
pub struct OomScore {
    file: File,
    own: String,
}

impl OomScore {
    /// This process's, from the /proc that it sees now.
    ///
    /// # Errors
    /// What the file says.
    pub fn open() -> io::Result<Self> {
        let mut file = File::options().read(true).write(true).open("/proc/self/oom_score_adj")?;
        let mut own = String::new();
        file.read_to_string(&mut own)?;
        Ok(Self { file, own })
    }

    /// What is copied from this process from now on is the first to be killed.
    ///
    /// # Errors
    /// What the file says.
    pub fn raise(&self) -> io::Result<()> {
        self.file.write_all_at(OOM_SCORE.as_bytes(), 0)
    }

    /// The nursery is where it was. Not to be called in a copy, whose own score this is not.
    ///
    /// # Errors
    /// What the file says.
    pub fn restore(&self) -> io::Result<()> {
        self.file.write_all_at(self.own.as_bytes(), 0)
    }
}

/// Becomes user 0 of the user namespace, with no privilege but those of its kind, under their filter.
///
/// # Errors
/// [`PrivilegeError`]; no program of a tenant may run then.
pub fn give_up(users: BorrowedFd<'_>, kind: Kind) -> Result<(), PrivilegeError> {
    step("enter the zone's user namespace", namespace::enter_users(users))?;
    step("become the zone's user", caps::become_user(0))?;
    match kind {
        Kind::Task => step("drop all capabilities", caps::drop_all())?,
        Kind::Standing => step("keep few capabilities", caps::keep_for_root(STANDING))?,
    }
    step("hide from other processes", caps::not_dumpable())?;
    // zoned says at start when the kernel has no Landlock; it is the second wall, not the first.
    if let Some(version) = *LANDLOCK {
        let root = step("open the root", File::open("/"))?;
        step("confine the zone by Landlock", landlock::confine(root.as_fd(), version))?;
    }
    let filter = match kind {
        Kind::Task => &TASK_FILTER,
        Kind::Standing => &STANDING_FILTER,
    };
    step("load the system-call filter", seccomp::install(filter))
}
