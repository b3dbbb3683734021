//! Starting programs with what `std::process` cannot give: namespaces, a cgroup, a pidfd, descriptors.
//!
//! clone3(2), clone(2), execveat(2), close_range(2); Linux 5.9 or newer. The child runs nothing but
//! system calls between the clone and the exec, so a parent with threads may call this too.
#![allow(unsafe_code)]

mod child;
mod paused;

use self::child::become_program;
pub(crate) use self::paused::Paused;
use std::ffi::CStr;
use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The most descriptors that a program may be started with.
pub const DESCRIPTORS_MAX: usize = 8;
/// clone3(2) only: its bit does not fit the flags of clone(2).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// What a child needs of a stack before its exec, twice: a few frames of this file, 1 KiB when they are optimised.
const STACK_BYTES: usize = if cfg!(debug_assertions) { 16 * 1024 } else { 2 * 1024 };
/// Stands at the end of a child's stack for as long as it has not needed all of it.
const STACK_END: u128 = 0x6d6f_6275_6c61_2d73_7461_636b_2d65_6e64;
/// What the child's exit status says when its exec failed, as a shell has it.
const EXEC_FAILED: i32 = 127;

/// New namespaces for a program (namespaces(7)); none by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Namespaces(libc::c_int);

impl Namespaces {
    /// What every zone gets of its own: mounts, processes, IPC, host name, view of the cgroups.
    pub const ZONE: Self = Self(
        libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWCGROUP,
    );
    /// Mounts alone.
    pub const MOUNTS: Self = Self(libc::CLONE_NEWNS);
    /// A network without any device but a loopback that is down.
    pub const NETWORK: Self = Self(libc::CLONE_NEWNET);
    /// Users and capabilities.
    pub const USER: Self = Self(libc::CLONE_NEWUSER);
}

/// Where a program is.
#[derive(Debug, Clone, Copy)]
pub enum Program<'a> {
    /// In this file, wherever it is or was.
    File(BorrowedFd<'a>),
    /// At this path, resolved in the child.
    Path(&'a CStr),
}

/// What to start, and how.
#[derive(Debug, Clone, Copy)]
pub struct Spawn<'a> {
    /// The program.
    pub program: Program<'a>,
    /// Its arguments, its own name first.
    pub arguments: &'a [&'a CStr],
    /// Its whole environment.
    pub environment: &'a [&'a CStr],
    /// Its descriptors 0, 1, 2 and so on; it gets no other.
    pub descriptors: &'a [BorrowedFd<'a>],
    /// The cgroup it starts in, a directory of cgroup v2; its parent's if none.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// What it does not share with its parent.
    pub namespaces: Namespaces,
}

/// What a program is given besides, by [`spawn_with`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Besides<'a> {
    /// Its descriptor 0 becomes the controlling terminal of its session (ioctl_tty(2), `TIOCSCTTY`).
    pub terminal: bool,
    /// The directory it starts in, as the new user sees it; its parent's if none.
    pub directory: Option<&'a CStr>,
    /// The user and the group that it becomes, without further groups; its parent's if none.
    pub user: Option<(u32, u32)>,
    /// It leads a group of processes of its own, in its parent's session: a session is also a group for the scheduler
    /// (sched(7), autogroup), which takes as long to make as all else before the exec.
    pub same_session: bool,
}

/// A process that was started here.
#[derive(Debug)]
pub struct Child {
    /// Its number, in the parent's view.
    pub pid: i32,
    /// Names it for ever; readable once it is over (pidfd_open(2)).
    pub pidfd: OwnedFd,
}

/// Starts a program; returns once it runs.
///
/// It gets an empty signal mask, the default for SIGPIPE and, if nothing else is said, a session of its own.
///
/// # Errors
/// What clone3(2) or execveat(2) say; nothing is left running then.
pub fn spawn(spawn: &Spawn<'_>) -> io::Result<Child> {
    spawn_with(spawn, &Besides::default())
}

/// As [`spawn`], with what few programs need.
///
/// # Errors
/// As [`spawn`]; EPERM for a terminal that another session has.
pub fn spawn_with(spawn: &Spawn<'_>, besides: &Besides<'_>) -> io::Result<Child> {
    if spawn.descriptors.len() > DESCRIPTORS_MAX {
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    let argv = pointers(spawn.arguments);
    let envp = pointers(spawn.environment);
    if is_plain(spawn, besides) {
        let mut pidfd: RawFd = -1;
        let pid = spawn_at_once((spawn, besides), &argv, &envp, Some(&mut pidfd))?;
        // SAFETY: the call succeeded and installed `pidfd` for us alone.
        return Ok(Child { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } });
    }
    let (ears, mouth) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    match clone(spawn.namespaces, spawn.cgroup)? {
        Side::Parent(child) => {
            drop(mouth);
            let mut errno = [0; 4];
            match nix::unistd::read(&ears, &mut errno) {
                Ok(0) => Ok(child),
                Ok(_) => {
                    reap(child.pidfd.as_fd())?;
                    Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
                }
                Err(error) => {
                    kill(child.pidfd.as_fd(), libc::SIGKILL)?;
                    reap(child.pidfd.as_fd())?;
                    Err(error.into())
                }
            }
        }
        Side::Child => {
            let mut mouth = mouth.as_raw_fd();
            let told = become_program((spawn, besides), &argv, &envp, Some(&mut mouth));
            let told = told.to_ne_bytes();
            // SAFETY: `told` is four live bytes; a failure leaves nothing else to be done.
            unsafe { libc::write(mouth, told.as_ptr().cast(), told.len()) };
            // SAFETY: _exit(2) takes an integer and does not return.
            unsafe { libc::_exit(EXEC_FAILED) }
        }
    }
}

/// As [`spawn_with`], for a process that reaps whatever ends and knows its children by their numbers.
///
/// # Errors
/// As [`spawn_with`].
pub fn start_with(spawn: &Spawn<'_>, besides: &Besides<'_>) -> io::Result<i32> {
    if !is_plain(spawn, besides) || spawn.descriptors.len() > DESCRIPTORS_MAX {
        return spawn_with(spawn, besides).map(|child| child.pid);
    }
    let (argv, envp) = (pointers(spawn.arguments), pointers(spawn.environment));
    spawn_at_once((spawn, besides), &argv, &envp, None)
}

/// Whether a program can be started on its parent's memory.
fn is_plain(spawn: &Spawn<'_>, besides: &Besides<'_>) -> bool {
    spawn.cgroup.is_none() && spawn.namespaces == Namespaces::default() && besides.user.is_none()
}

/// What the child of [`spawn_at_once`] works with, on the memory of its parent.
struct Loan<'a> {
    spawn: (&'a Spawn<'a>, &'a Besides<'a>),
    argv: &'a [*const libc::c_char],
    envp: &'a [*const libc::c_char],
    /// What failed; 0 if nothing did.
    errno: i32,
}

/// As [`spawn_with`], without a copy of this process's memory, which costs more than all else: the child runs on
/// it, and on a stack of its own, while this thread stands still until the exec (vfork(2)). Gives its number and,
/// if there is a place for it, its pidfd.
fn spawn_at_once(
    spawn: (&Spawn<'_>, &Besides<'_>),
    argv: &[*const libc::c_char],
    envp: &[*const libc::c_char],
    pidfd: Option<&mut RawFd>,
) -> io::Result<i32> {
    // On this thread's own stack, where it was used before: no page of it has to be found first.
    let mut stack = [const { MaybeUninit::<u128>::uninit() }; STACK_BYTES / size_of::<u128>()];
    stack[0].write(STACK_END);
    let mut loan = Loan { spawn, argv, envp, errno: 0 };
    let mut flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let place = pidfd.map_or(std::ptr::null_mut(), |pidfd| {
        flags |= libc::CLONE_PIDFD;
        std::ptr::from_mut(pidfd)
    });
    // SAFETY: the stack grows down from its end, which is aligned to 16 bytes. `loan` and `stack` outlive
    // the child's use of them: CLONE_VFORK holds this thread until the child has left this memory, by an
    // exec or its end. Until then the child makes system calls and writes to its stack, to `loan.errno` and
    // to this thread's errno; signal handlers that it might run are none, as init and zones have none.
    // `place` is a live integer where CLONE_PIDFD puts it, and null without that flag.
    let pid = unsafe {
        libc::clone(
            borrow,
            stack.as_mut_ptr_range().end.cast(),
            flags,
            (&raw mut loan).cast(),
            place,
        )
    };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was written above; read where the child may have written over it, which the compiler has not seen.
    if unsafe { std::ptr::read_volatile(stack[0].as_ptr()) } != STACK_END {
        // It has written over more than that.
        std::process::abort();
    }
    // SAFETY: `loan` is live; read where the child wrote it, which the compiler has not seen.
    let errno = unsafe { std::ptr::read_volatile(&raw const loan.errno) };
    if errno == 0 {
        return Ok(pid);
    }
    if !place.is_null() {
        // SAFETY: as its place says, CLONE_PIDFD installed it, and nobody has taken it.
        drop(unsafe { OwnedFd::from_raw_fd(*place) });
    }
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None)?;
    Err(io::Error::from_raw_os_error(errno))
}

/// The child's part of [`spawn_at_once`].
extern "C" fn borrow(loan: *mut libc::c_void) -> libc::c_int {
    let loan: *mut Loan<'_> = loan.cast();
    // SAFETY: `loan` is the one that `spawn_at_once` has lent, which stands still meanwhile.
    let Loan { spawn, argv, envp, .. } = unsafe { &*loan };
    let errno = become_program(*spawn, argv, envp, None);
    // SAFETY: as above; the borrow has ended.
    unsafe { (*loan).errno = errno };
    // glibc ends the process with this, by a system call and without handlers of exit(3).
    EXEC_FAILED
}

/// Which of two processes this is.
#[derive(Debug)]
pub enum Fork {
    /// The one that was there before, with the other one.
    Parent(Child),
    /// The copy.
    Child,
}

/// Copies this process into namespaces of its own and a cgroup, as another child of this process's parent.
///
/// For a process with one thread: in the copy a lock that another thread held is held for ever.
///
/// # Errors
/// What clone3(2) says.
pub fn fork_sibling(namespaces: Namespaces, cgroup: BorrowedFd<'_>) -> io::Result<Fork> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers, for which all zeros is a value.
    let mut arguments: libc::clone_args = unsafe { zeroed() };
    // With CLONE_PARENT the signal at its end is the one of this process.
    let flags = namespaces.0 | libc::CLONE_PIDFD | libc::CLONE_PARENT;
    arguments.flags = flags as u64 | CLONE_INTO_CGROUP;
    arguments.pidfd = (&raw mut pidfd) as u64;
    arguments.cgroup = cgroup.as_raw_fd() as u64;
    // SAFETY: no CLONE_VM and no stack of its own: the child goes on here on a copy of this memory, as after
    // fork(2). `pidfd` is writable and outlives the call.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>())
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => {
            // SAFETY: the call succeeded and installed `pidfd` for us alone.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Fork::Parent(Child { pid: pid as i32, pidfd }))
        }
    }
}

/// Sends a signal to the process that `pidfd` names (pidfd_send_signal(2)).
///
/// # Errors
/// ESRCH if it has been reaped.
pub fn kill(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed; the other arguments are integers.
    let done =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Waits for a child to be over and lets the kernel forget it (waitid(2)); any ending will do.
///
/// # Errors
/// ECHILD if it is no child of this process or was reaped already.
pub fn reap(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    loop {
        // SAFETY: siginfo_t is plain integers, for which all zeros is a value.
        let mut info: libc::siginfo_t = unsafe { zeroed() };
        let id = pidfd.as_raw_fd() as libc::id_t;
        // SAFETY: `info` is writable and outlives the call.
        let done = unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, libc::WEXITED) };
        if done == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

enum Side {
    Parent(Child),
    Child,
}

/// Both in a process that must stay as it is and in its copy. The copy has this thread alone, and may
/// do nothing but system calls: a lock that another thread held is held in it for ever.
fn clone(namespaces: Namespaces, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Side> {
    let mut pidfd: RawFd = -1;
    let pid = if let Some(cgroup) = cgroup {
        // SAFETY: clone_args is plain integers, for which all zeros is a value.
        let mut arguments: libc::clone_args = unsafe { zeroed() };
        let flags = namespaces.0 | libc::CLONE_PIDFD;
        arguments.flags = flags as u64 | CLONE_INTO_CGROUP;
        arguments.pidfd = (&raw mut pidfd) as u64;
        arguments.exit_signal = libc::SIGCHLD as u64;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
        let size = size_of::<libc::clone_args>();
        // SAFETY: no CLONE_VM and no stack of its own: the child goes on here on a copy of this memory,
        // as after fork(2). `pidfd` is writable and outlives the call.
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size) }
    } else {
        // A zone's filter answers clone3 with ENOSYS, because it can't read the flags behind its pointer.
        let flags = namespaces.0 | libc::CLONE_PIDFD | libc::SIGCHLD;
        // SAFETY: as above; a stack of 0 means this one, and `pidfd` is where CLONE_PIDFD puts it.
        unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) }
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        pid => {
            // SAFETY: the call succeeded and installed `pidfd` for us alone.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Side::Parent(Child { pid: pid as i32, pidfd }))
        }
    }
}

fn pointers(texts: &[&CStr]) -> Vec<*const libc::c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

#[cfg(test)]
mod test;
