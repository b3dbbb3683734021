//! What a new process does before its exec: system calls, and nothing else.
#![allow(unsafe_code)]

use super::{Besides, DESCRIPTORS_MAX, Program, Spawn};
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, RawFd};

/// The child's half of [`spawn`]: returns the errno of what failed, to be told through `mouth`, which moves
/// out of the way of the program's descriptors.
pub(super) fn become_program(
    (spawn, besides): (&Spawn<'_>, &Besides<'_>),
    argv: &[*const libc::c_char],
    envp: &[*const libc::c_char],
    mouth: Option<&mut RawFd>,
) -> i32 {
    // Copies above all of 0..DESCRIPTORS_MAX first, so that none is overwritten before it is in place; unless all
    // are above what is written.
    let count = spawn.descriptors.len() as RawFd;
    let apart = spawn.descriptors.iter().all(|fd| fd.as_raw_fd() >= count);
    let mut copies = [-1; DESCRIPTORS_MAX];
    for (copy, fd) in copies.iter_mut().zip(spawn.descriptors) {
        let least = DESCRIPTORS_MAX as libc::c_int;
        *copy = if apart {
            fd.as_raw_fd()
        } else {
            // SAFETY: fcntl takes integers here.
            unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) }
        };
        if *copy < 0 {
            return errno();
        }
    }
    if let Some(mouth) = mouth {
        let least = DESCRIPTORS_MAX as libc::c_int;
        // SAFETY: as above.
        let moved = unsafe { libc::fcntl(*mouth, libc::F_DUPFD_CLOEXEC, least) };
        if moved < 0 {
            return errno();
        }
        *mouth = moved;
    }
    let program = match spawn.program {
        // SAFETY: as above.
        Program::File(fd) => unsafe {
            libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, DESCRIPTORS_MAX as libc::c_int)
        },
        Program::Path(_) => 0,
    };
    if program < 0 {
        return errno();
    }
    for (copy, to) in copies.iter().zip(0..spawn.descriptors.len() as RawFd) {
        // SAFETY: dup2(2) takes integers. The program's own descriptors may lose theirs: nothing of this
        // process's memory is used again but `spawn`, `argv` and `envp`.
        if unsafe { libc::dup2(*copy, to) } < 0 {
            return errno();
        }
    }
    let first = spawn.descriptors.len() as libc::c_uint;
    // SAFETY: close_range(2) takes integers; it marks, and closes nothing before the exec.
    let marked =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if marked < 0 {
        return errno();
    }
    if let Err(errno) = fresh_signals() {
        return errno;
    }
    // SAFETY: setsid(2) takes nothing and setpgid(2) integers; they fail only for a process group's or a session's leader,
    // which a new child is not.
    unsafe { if besides.same_session { libc::setpgid(0, 0) } else { libc::setsid() } };
    if let Err(errno) = take_besides(besides) {
        return errno;
    }
    let (folder, path, flags) = match spawn.program {
        Program::File(_) => (program, c"", libc::AT_EMPTY_PATH),
        Program::Path(path) => (libc::AT_FDCWD, path, 0),
    };
    // SAFETY: `path` is a C string; `argv` and `envp` are arrays of pointers to C strings that outlive
    // this call, each with a null at its end.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            folder,
            path.as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            flags,
        )
    };
    errno()
}

/// In the child's new session: its terminal, its user, its directory.
fn take_besides(besides: &Besides<'_>) -> Result<(), i32> {
    let check = |done: libc::c_long| if done < 0 { Err(errno()) } else { Ok(()) };
    if besides.terminal {
        // SAFETY: TIOCSCTTY takes an integer; 0 steals no terminal from another session.
        check(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) }.into())?;
    }
    if let Some((user, group)) = besides.user {
        let none = std::ptr::null::<libc::gid_t>();
        // SAFETY: no groups are read where there are none. The system calls and not glibc's functions,
        // which would signal threads that this copy of the parent does not have.
        check(unsafe { libc::syscall(libc::SYS_setgroups, 0, none) })?;
        // SAFETY: the call takes integers.
        check(unsafe { libc::syscall(libc::SYS_setresgid, group, group, group) })?;
        // SAFETY: the call takes integers.
        check(unsafe { libc::syscall(libc::SYS_setresuid, user, user, user) })?;
    }
    if let Some(directory) = besides.directory {
        // SAFETY: `directory` is a C string that the call only reads.
        check(unsafe { libc::chdir(directory.as_ptr()) }.into())?;
    }
    Ok(())
}

/// Unblocks every signal and gives SIGPIPE, which Rust ignores, its default again.
fn fresh_signals() -> Result<(), i32> {
    // SAFETY: sigset_t is plain integers, for which all zeros is the empty set on Linux.
    let none: libc::sigset_t = unsafe { zeroed() };
    // SAFETY: `none` is live; a null old set is allowed.
    let unblocked =
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
    // SAFETY: SIG_DFL is no function of ours; signal(2) takes integers here.
    let default = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    if unblocked < 0 || default == libc::SIG_ERR { Err(errno()) } else { Ok(()) }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}
