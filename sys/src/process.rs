//! Starting a program in its cgroup, with exactly what it is to have, and learning how it ended.
//!
//! clone3(2) with `CLONE_PIDFD` and `CLONE_INTO_CGROUP` (Linux 5.7): the child never runs outside its
//! cgroup and is signalled by a descriptor, so never by mistake. Between clone and exec the child only
//! makes system calls on memory prepared before: it allocates nothing and takes no lock.
#![allow(unsafe_code)]

mod child;

use std::ffi::NulError;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use thiserror::Error;

/// `CLONE_INTO_CGROUP` of linux/sched.h (Linux 5.7), which does not fit the C library's `int`.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// A limit of setrlimit(2), soft and hard alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `RLIMIT_NOFILE`.
    OpenFiles(u64),
    /// `RLIMIT_MEMLOCK`, in bytes.
    LockedMemory(u64),
    /// `RLIMIT_NPROC`.
    Processes(u64),
    /// `RLIMIT_CORE`, in bytes.
    Core(u64),
}

/// A program to start, and all that it is to have.
#[derive(Debug)]
pub struct Program<'a> {
    /// Its absolute path, then its arguments.
    pub command: &'a [String],
    /// Its whole environment, but for `LISTEN_*`.
    pub environment: &'a [(String, String)],
    /// The cgroup directory it starts in.
    pub cgroup: BorrowedFd<'a>,
    /// Its stdin.
    pub stdin: BorrowedFd<'a>,
    /// Its stdout and stderr.
    pub output: BorrowedFd<'a>,
    /// Descriptors handed over by name (sd_listen_fds(3)).
    pub descriptors: &'a [(String, BorrowedFd<'a>)],
    /// User id.
    pub user: u32,
    /// Group id.
    pub group: u32,
    /// Further group ids.
    pub groups: &'a [u32],
    /// Capabilities it keeps, a bit each; none leaves what the caller has.
    pub capabilities: Option<u64>,
    /// Sets `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
    /// `oom_score_adj`.
    pub oom_score_adj: i16,
    /// Limits.
    pub limits: &'a [Limit],
}

/// Why a program was not started.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// A word of the command or the environment has a NUL byte in it.
    #[error("a word of the command or environment holds a NUL byte")]
    Nul(#[from] NulError),
    /// The command is empty.
    #[error("the command is empty")]
    Empty,
    /// A descriptor could not be prepared.
    #[error("cannot prepare descriptors")]
    Descriptors(#[source] io::Error),
    /// clone3(2) failed.
    #[error("cannot start a process in its cgroup")]
    Clone(#[source] io::Error),
}

/// What the child could not do before its program ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotRun {
    /// What it tried.
    pub step: &'static str,
    /// The kernel's answer.
    pub errno: i32,
}

impl std::fmt::Display for NotRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot {}: {}", self.step, io::Error::from_raw_os_error(self.errno))
    }
}

/// A started process.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    pidfd: OwnedFd,
    failure: OwnedFd,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
        }
    }
}

impl Child {
    /// Its number, for people and for the table of who is who.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends SIGTERM (pidfd_send_signal(2)); a process that is gone is no error.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn terminate(&self) -> io::Result<()> {
        let fd = self.pidfd.as_raw_fd();
        // SAFETY: the call takes a descriptor, which `self` keeps open, a number, a null siginfo and 0.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                fd,
                libc::SIGTERM,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match check(sent) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other.map(drop),
        }
    }

    /// What it could not do before its program ran, once it has ended; none if the program ran.
    #[must_use]
    pub fn not_run(&self) -> Option<NotRun> {
        let mut bytes = [0_u8; 8];
        // SAFETY: `bytes` has room for the 8 bytes asked for; the descriptor is open and non-blocking.
        let got =
            unsafe { libc::read(self.failure.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
        if got != 8 {
            return None;
        }
        let (step, errno) = bytes.split_at(4);
        let number = |part: &[u8]| i32::from_ne_bytes([part[0], part[1], part[2], part[3]]);
        let step = usize::try_from(number(step)).ok().and_then(|step| child::STEPS.get(step));
        Some(NotRun { step: step.copied().unwrap_or("start"), errno: number(errno) })
    }
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A pipe whose ends are close-on-exec: what is written to the second is read from the first, which
/// never waits.
///
/// # Errors
/// What pipe2(2) says.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((reader, writer))
}

/// Starts a program. Its end is learnt by [`reap`].
///
/// # Errors
/// [`SpawnError`]. What the child itself can't do is told by [`Child::not_run`] when it has ended.
pub fn spawn(program: &Program<'_>) -> Result<Child, SpawnError> {
    if program.command.is_empty() {
        return Err(SpawnError::Empty);
    }
    let (failure, writer) = pipe().map_err(SpawnError::Descriptors)?;
    let mut prepared = child::Prepared::new(program, &writer)?;
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers, for which all zeros is a value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = libc::CLONE_PIDFD as u64 | CLONE_INTO_CGROUP;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = program.cgroup.as_raw_fd() as u64;
    // SAFETY: `args` is a clone_args of the size given; without CLONE_VM and with no stack the child gets
    // a copy of this address space and returns here as after fork(2); `pidfd` outlives the call. In the
    // child only `child::run` follows, which makes nothing but system calls (see there) and never returns.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    if pid == 0 {
        child::run(&mut prepared);
    }
    let pid = check(pid).map_err(SpawnError::Clone)?;
    // SAFETY: clone3 with CLONE_PIDFD succeeded, so it stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = i32::try_from(pid).expect("the kernel's pids end at 4194304");
    Ok(Child { pid, pidfd, failure })
}

/// Takes one ended child of this process, whoever started it; none if none has ended.
///
/// # Errors
/// What waitid(2) says, but that there is no child at all.
pub fn reap() -> io::Result<Option<(i32, Exit)>> {
    // SAFETY: siginfo_t is plain data, for which all zeros is a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is a live siginfo_t that the call may fill.
    let done = unsafe {
        libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOHANG | libc::__WALL)
    };
    match check(done.into()) {
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    // SAFETY: waitid succeeded: it filled the fields of a SIGCHLD, or left si_pid 0.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let exited = info.si_code == libc::CLD_EXITED;
    Ok(Some((pid, if exited { Exit::Code(status) } else { Exit::Signal(status) })))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_word_with_nul_is_refused_before_anything_starts() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let fd = std::os::fd::AsFd::as_fd(&null);
        let program = Program {
            command: &["/bin/true".to_owned(), "a\0b".to_owned()],
            environment: &[],
            cgroup: fd,
            stdin: fd,
            output: fd,
            descriptors: &[],
            user: 0,
            group: 0,
            groups: &[],
            capabilities: None,
            no_new_privs: true,
            oom_score_adj: 0,
            limits: &[],
        };
        assert!(matches!(spawn(&program), Err(SpawnError::Nul(_))));
    }

    #[test]
    fn a_cgroup_that_is_none_is_an_error_of_the_start() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let fd = std::os::fd::AsFd::as_fd(&null);
        let program = Program {
            command: &["/bin/true".to_owned()],
            environment: &[],
            cgroup: fd,
            stdin: fd,
            output: fd,
            descriptors: &[],
            user: 0,
            group: 0,
            groups: &[],
            capabilities: None,
            no_new_privs: true,
            oom_score_adj: 0,
            limits: &[],
        };
        assert!(matches!(spawn(&program), Err(SpawnError::Clone(_))));
    }
}
