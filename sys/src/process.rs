//! Starting a program in its cgroup, with exactly what it is to have, and learning how it ended.
//!
//! clone3(2) with `CLONE_PIDFD` and `CLONE_INTO_CGROUP` (Linux 5.7): the child never runs outside its
//! cgroup and is signalled by a descriptor, so never by mistake. Between clone and exec the child only
//! makes system calls on memory prepared before: it allocates nothing and takes no lock.
#![allow(unsafe_code)]

use std::ffi::{CString, NulError};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use thiserror::Error;

/// Capabilities that exist (`CAP_CHECKPOINT_RESTORE` is 40); higher numbers are refused by the kernel.
const CAPABILITIES: u64 = 41;
/// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h.
const CAPABILITY_VERSION: u32 = 0x2008_0522;
/// The first descriptor after stdin, stdout and stderr.
const FIRST: RawFd = 3;
/// Digits of the largest pid: 4194304.
const PID_DIGITS: usize = 7;
/// `CLONE_INTO_CGROUP` of linux/sched.h (Linux 5.7), which does not fit the C library's `int`.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const LISTEN_PID: &[u8] = b"LISTEN_PID=";
/// What a shell's convention has for a program that could not be run.
const EXIT_NOT_RUN: i32 = 127;

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
        let step = usize::try_from(number(step)).ok().and_then(|step| STEPS.get(step));
        Some(NotRun { step: step.copied().unwrap_or("start"), errno: number(errno) })
    }
}

/// What the child does before exec, for messages; the index travels over the failure pipe.
const STEPS: [&str; 11] = [
    "make a session",
    "reset signals",
    "place descriptors",
    "set limits",
    "set oom_score_adj",
    "drop capabilities",
    "set groups and user",
    "keep capabilities",
    "set no_new_privs",
    "enter /",
    "run the program",
];

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Everything the child needs, made before the clone.
struct Prepared {
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    /// What `argv` and `envp` point into.
    _words: Vec<CString>,
    listen_pid: Vec<u8>,
    stdio: [OwnedFd; 2],
    descriptors: Vec<OwnedFd>,
    failure: OwnedFd,
    limits: Vec<(libc::__rlimit_resource_t, libc::rlimit)>,
    groups: Vec<libc::gid_t>,
    oom_score_adj: Vec<u8>,
    user: u32,
    group: u32,
    capabilities: Option<u64>,
    no_new_privs: bool,
}

impl Prepared {
    fn new(program: &Program<'_>, failure: &OwnedFd) -> Result<Self, SpawnError> {
        let count = program.descriptors.len();
        let mut words = Vec::new();
        for word in program.command {
            words.push(CString::new(word.as_bytes())?);
        }
        for (name, value) in program.environment {
            words.push(CString::new(format!("{name}={value}"))?);
        }
        if count > 0 {
            let names: Vec<_> = program.descriptors.iter().map(|(name, _)| name.as_str()).collect();
            words.push(CString::new(format!("LISTEN_FDS={count}"))?);
            words.push(CString::new(format!("LISTEN_FDNAMES={}", names.join(":")))?);
        }
        let mut listen_pid = LISTEN_PID.to_vec();
        listen_pid.resize(LISTEN_PID.len() + PID_DIGITS + 1, 0);
        let (command, environment) = words.split_at(program.command.len());
        let mut argv: Vec<_> = command.iter().map(|word| word.as_ptr()).collect();
        let mut envp: Vec<_> = environment.iter().map(|word| word.as_ptr()).collect();
        argv.push(std::ptr::null());
        envp.push(listen_pid.as_ptr().cast());
        envp.push(std::ptr::null());
        // Above every number that the child fills, so that no dup2 there hits a source.
        let above = FIRST + i32::try_from(count).unwrap_or(i32::MAX - FIRST);
        let dup = |fd: RawFd| duplicate(fd, above).map_err(SpawnError::Descriptors);
        let descriptors =
            program.descriptors.iter().map(|(_, fd)| dup(fd.as_raw_fd())).collect::<Result<_, _>>();
        Ok(Self {
            argv,
            envp,
            _words: words,
            listen_pid,
            stdio: [dup(program.stdin.as_raw_fd())?, dup(program.output.as_raw_fd())?],
            descriptors: descriptors?,
            failure: dup(failure.as_raw_fd())?,
            limits: program.limits.iter().map(|limit| rlimit(*limit)).collect(),
            groups: program.groups.to_vec(),
            oom_score_adj: program.oom_score_adj.to_string().into_bytes(),
            user: program.user,
            group: program.group,
            capabilities: program.capabilities,
            no_new_privs: program.no_new_privs,
        })
    }
}

fn rlimit(limit: Limit) -> (libc::__rlimit_resource_t, libc::rlimit) {
    let (resource, value) = match limit {
        Limit::OpenFiles(value) => (libc::RLIMIT_NOFILE, value),
        Limit::LockedMemory(value) => (libc::RLIMIT_MEMLOCK, value),
        Limit::Processes(value) => (libc::RLIMIT_NPROC, value),
        Limit::Core(value) => (libc::RLIMIT_CORE, value),
    };
    (resource, libc::rlimit { rlim_cur: value, rlim_max: value })
}

fn duplicate(fd: RawFd, above: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes an integer; on a bad descriptor it fails and does nothing.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, above) };
    check(copy.into())?;
    // SAFETY: the call just gave us `copy`, open and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
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
    let mut prepared = Prepared::new(program, &writer)?;
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers, for which all zeros is a value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = libc::CLONE_PIDFD as u64 | CLONE_INTO_CGROUP;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = program.cgroup.as_raw_fd() as u64;
    // SAFETY: `args` is a clone_args of the size given; without CLONE_VM and with no stack the child gets
    // a copy of this address space and returns here as after fork(2); `pidfd` outlives the call. In the
    // child only `run` follows, which makes nothing but system calls (see there) and never returns.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    if pid == 0 {
        run(&mut prepared);
    }
    let pid = check(pid).map_err(SpawnError::Clone)?;
    // SAFETY: clone3 with CLONE_PIDFD succeeded, so it stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = i32::try_from(pid).expect("the kernel's pids end at 4194304");
    Ok(Child { pid, pidfd, failure })
}

/// The child, from clone to exec. Other threads of the parent do not exist here, and a lock one of them
/// held would stay held: so nothing is allocated, nothing is freed, nothing but system calls is made.
fn run(prepared: &mut Prepared) -> ! {
    let (step, errno) = match become_program(prepared) {
        Ok(never) => match never {},
        Err(failed) => failed,
    };
    let mut bytes = [0_u8; 8];
    bytes[..4].copy_from_slice(&step.to_ne_bytes());
    bytes[4..].copy_from_slice(&errno.to_ne_bytes());
    // SAFETY: `bytes` is 8 live bytes; the descriptor is open until exec or exit.
    unsafe { libc::write(prepared.failure.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    // SAFETY: _exit ends this process; no destructor is to run in the copy of the parent.
    unsafe { libc::_exit(EXIT_NOT_RUN) }
}

/// A result of the child: which step failed, and with what.
type Step<T> = Result<T, (i32, i32)>;

fn at(step: i32, result: libc::c_long) -> Step<libc::c_long> {
    if result < 0 {
        // SAFETY: __errno_location gives this thread's errno, always valid.
        Err((step, unsafe { *libc::__errno_location() }))
    } else {
        Ok(result)
    }
}

fn become_program(prepared: &mut Prepared) -> Step<std::convert::Infallible> {
    // SAFETY: setsid(2) takes nothing; it can't fail in a new process, which leads no group.
    at(0, unsafe { libc::setsid() }.into())?;
    reset_signals()?;
    place_descriptors(prepared)?;
    for (resource, limit) in &prepared.limits {
        // SAFETY: `limit` is a live rlimit.
        at(3, unsafe { libc::setrlimit(*resource, limit) }.into())?;
    }
    write_oom_score(&prepared.oom_score_adj)?;
    drop_bounding(prepared.capabilities)?;
    set_identity(prepared)?;
    keep_capabilities(prepared)?;
    if prepared.no_new_privs {
        // SAFETY: PR_SET_NO_NEW_PRIVS takes integers.
        at(8, unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
    }
    // SAFETY: the path is a NUL-terminated literal.
    at(9, unsafe { libc::chdir(c"/".as_ptr()) }.into())?;
    // SAFETY: umask(2) takes an integer.
    unsafe { libc::umask(0o022) };
    write_pid(&mut prepared.listen_pid);
    // SAFETY: both arrays end with null and point to NUL-terminated words (and to `listen_pid`, whose last
    // byte stays 0) that `prepared` owns; `argv` has a first word, as `spawn` checked.
    let failed =
        unsafe { libc::execve(prepared.argv[0], prepared.argv.as_ptr(), prepared.envp.as_ptr()) };
    at(10, failed.into())?;
    Err((10, libc::EIO))
}

fn reset_signals() -> Step<()> {
    // SAFETY: sigset_t is plain integers, for which all zeros is a value.
    let mut none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `none` is a live sigset_t.
    unsafe { libc::sigemptyset(&raw mut none) };
    // SAFETY: `none` is a live sigset_t, and the old mask is not asked for.
    let unblocked =
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
    at(1, unblocked.into())?;
    // Rust's runtime ignores SIGPIPE, and exec keeps that.
    // SAFETY: SIG_DFL is a disposition, no function of ours runs.
    let old = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    at(1, if old == libc::SIG_ERR { -1 } else { 0 })?;
    Ok(())
}

fn place_descriptors(prepared: &Prepared) -> Step<()> {
    let [stdin, output] = &prepared.stdio;
    let place = |from: &OwnedFd, to: RawFd| {
        // SAFETY: dup2(2) takes integers; `from` is open and every source lies above every target.
        at(2, unsafe { libc::dup2(from.as_raw_fd(), to) }.into())
    };
    place(stdin, 0)?;
    place(output, 1)?;
    place(output, 2)?;
    let mut next = FIRST;
    for descriptor in &prepared.descriptors {
        place(descriptor, next)?;
        next += 1;
    }
    // Whatever else is open goes at exec, also what some library forgot to mark (Linux 5.11).
    // SAFETY: close_range(2) with CLOSE_RANGE_CLOEXEC marks descriptors and closes none now.
    at(2, unsafe {
        libc::syscall(libc::SYS_close_range, next, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    })?;
    Ok(())
}

fn write_oom_score(text: &[u8]) -> Step<()> {
    // SAFETY: the path is a NUL-terminated literal.
    let fd = unsafe {
        libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC)
    };
    at(4, fd.into())?;
    // SAFETY: `text` is live for its length.
    at(4, unsafe { libc::write(fd, text.as_ptr().cast(), text.len()) } as libc::c_long)?;
    // SAFETY: `fd` was opened above and is used no more.
    unsafe { libc::close(fd) };
    Ok(())
}

fn drop_bounding(keep: Option<u64>) -> Step<()> {
    let Some(keep) = keep else { return Ok(()) };
    for capability in 0..CAPABILITIES {
        if keep & (1 << capability) == 0 {
            // SAFETY: PR_CAPBSET_DROP takes an integer.
            let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
            at(5, done.into())?;
        }
    }
    Ok(())
}

fn set_identity(prepared: &Prepared) -> Step<()> {
    let Prepared { user, group, groups, .. } = prepared;
    // The plain system calls: the C library's wrappers would talk to threads that the child has not.
    // SAFETY: `groups` is a live array of the length given.
    at(6, unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    // SAFETY: setresgid(2) takes integers.
    at(6, unsafe { libc::syscall(libc::SYS_setresgid, *group, *group, *group) })?;
    if *user != 0 && prepared.capabilities.is_some_and(|keep| keep != 0) {
        // SAFETY: PR_SET_KEEPCAPS takes an integer.
        at(6, unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) }.into())?;
    }
    // SAFETY: setresuid(2) takes integers.
    at(6, unsafe { libc::syscall(libc::SYS_setresuid, *user, *user, *user) })?;
    Ok(())
}

/// `struct __user_cap_header_struct` of linux/capability.h.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

/// `struct __user_cap_data_struct`, of which version 3 has two.
#[repr(C)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// A user other than 0 keeps capabilities across exec only as ambient ones.
fn keep_capabilities(prepared: &Prepared) -> Step<()> {
    let Some(keep) = prepared.capabilities else { return Ok(()) };
    if prepared.user == 0 || keep == 0 {
        return Ok(());
    }
    let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let half = |bits: u32| CapabilityData { effective: bits, permitted: bits, inheritable: bits };
    let data = [half(keep as u32), half((keep >> 32) as u32)];
    // SAFETY: version 3 takes a header and two data structures, laid out as above, both live.
    at(7, unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })?;
    for capability in (0..CAPABILITIES).filter(|number| keep & (1 << number) != 0) {
        // SAFETY: PR_CAP_AMBIENT takes integers.
        let raised = unsafe {
            libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0)
        };
        at(7, raised.into())?;
    }
    Ok(())
}

/// Writes this process's pid behind `LISTEN_PID=`, its last byte staying 0.
fn write_pid(variable: &mut [u8]) {
    // SAFETY: getpid(2) takes nothing and can't fail.
    let mut pid = unsafe { libc::getpid() };
    let mut digits = [0_u8; PID_DIGITS];
    let mut count = 0;
    while pid > 0 && count < PID_DIGITS {
        digits[count] = b'0' + (pid % 10) as u8;
        pid /= 10;
        count += 1;
    }
    let text = variable.iter_mut().skip(LISTEN_PID.len());
    for (to, digit) in text.zip(digits[..count].iter().rev()) {
        *to = *digit;
    }
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
    fn the_pid_is_written_as_text_that_ends() {
        let mut variable = LISTEN_PID.to_vec();
        variable.resize(LISTEN_PID.len() + PID_DIGITS + 1, 0);
        write_pid(&mut variable);
        let text = std::ffi::CStr::from_bytes_until_nul(&variable).unwrap().to_str().unwrap();
        assert_eq!(text, format!("LISTEN_PID={}", std::process::id()));
    }

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
