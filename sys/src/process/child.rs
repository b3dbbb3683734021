//! The child between clone3(2) and execve(2), and what must be made before.
#![allow(unsafe_code)]

use super::{Limit, Program, SpawnError, check};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Capabilities that exist (`CAP_CHECKPOINT_RESTORE` is 40); higher numbers are refused by the kernel.
const CAPABILITIES: u64 = 41;
/// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h.
const CAPABILITY_VERSION: u32 = 0x2008_0522;
/// The first descriptor after stdin, stdout and stderr.
const FIRST: RawFd = 3;
/// Digits of the largest pid: 4194304.
const PID_DIGITS: usize = 7;
const LISTEN_PID: &[u8] = b"LISTEN_PID=";
/// What a shell's convention has for a program that could not be run.
const EXIT_NOT_RUN: i32 = 127;

/// What the child does before exec, for messages; the index travels over the failure pipe.
pub(super) const STEPS: [&str; 11] = [
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

/// Everything the child needs, made before the clone.
pub(super) struct Prepared {
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
    pub(super) fn new(program: &Program<'_>, failure: &OwnedFd) -> Result<Self, SpawnError> {
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
        // Two more: `LISTEN_PID`, which only the child can write, and the end.
        envp.extend([std::ptr::null(); 2]);
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

/// The child, from clone to exec. Other threads of the parent do not exist here, and a lock one of them
/// held would stay held: so nothing is allocated, nothing is freed, nothing but system calls is made.
pub(super) fn run(prepared: &mut Prepared) -> ! {
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
    if let Some(slot) = prepared.envp.iter_mut().rev().nth(1) {
        *slot = prepared.listen_pid.as_ptr().cast();
    }
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
}
