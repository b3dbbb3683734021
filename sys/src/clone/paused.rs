//! A process that does nothing but be there.
#![allow(unsafe_code)]

use super::{Child, Namespaces, kill, reap};
use std::io;
use std::mem::size_of;
#[cfg(test)]
use std::os::fd::BorrowedFd;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

/// What a process needs of one that only waits.
const PAUSED_STACK_BYTES: usize = 16 * 1024;

/// A process that waits to be killed, for its namespaces to be taken; dropping it kills and reaps it.
#[derive(Debug)]
pub(crate) struct Paused {
    child: Child,
    /// What it stands on: it shares this process's memory, a copy of which takes longer than all else.
    _stack: Vec<u128>,
}

impl Paused {
    /// Starts one with these namespaces of its own.
    pub(crate) fn start(namespaces: Namespaces) -> io::Result<Self> {
        let mut stack: Vec<u128> = Vec::with_capacity(PAUSED_STACK_BYTES / size_of::<u128>());
        let mut pidfd: RawFd = -1;
        let flags = namespaces.0 | libc::CLONE_VM | libc::CLONE_PIDFD | libc::SIGCHLD;
        // SAFETY: the stack grows down from its end, which is aligned to 16 bytes; nothing else uses it, and it is
        // freed after `Drop` has seen the child's end. All that the child does on this memory is to call pause(2).
        // `pidfd` is where CLONE_PIDFD puts it.
        let pid = unsafe {
            let end = stack.as_mut_ptr().add(stack.capacity()).cast();
            libc::clone(pause, end, flags, std::ptr::null_mut(), &raw mut pidfd)
        };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded and installed `pidfd` for us alone.
        let child = Child { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } };
        Ok(Self { child, _stack: stack })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.pid
    }

    #[cfg(test)]
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        // Both fail only if the process is gone already, which is what they are for.
        drop(kill(self.child.pidfd.as_fd(), libc::SIGKILL));
        drop(reap(self.child.pidfd.as_fd()));
    }
}

/// What [`Paused`] does.
extern "C" fn pause(_: *mut libc::c_void) -> libc::c_int {
    loop {
        // SAFETY: pause(2) takes nothing; the process ends by the SIGKILL of `Drop`.
        unsafe { libc::pause() };
    }
}
