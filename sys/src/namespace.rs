//! Namespaces that are kept by a descriptor and entered later.
//!
//! namespaces(7), user_namespaces(7), setns(2). A namespace lives as long as something refers to it:
//! a process, or the descriptor that these functions give. They need root and a mounted /proc.
#![allow(unsafe_code)]

use crate::clone::{Namespaces, Paused};
use std::fs::{self, File};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What [`within_processes`] runs on: a few frames and a message of an error.
const ERRAND_STACK_BYTES: usize = 64 * 1024;

/// A network of its own, with no device but a loopback that is down (network_namespaces(7)).
///
/// # Errors
/// What clone(2) or open(2) say.
///
/// # Panics
/// When the way back from it is barred, as [`within_network`].
pub fn network() -> io::Result<OwnedFd> {
    const LINK: &str = "/proc/thread-self/ns/net";
    let own: OwnedFd = File::open(LINK)?.into();
    // SAFETY: unshare(2) takes an integer; it moves this thread alone, and no memory.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // No process is started to hold it: that takes longer than all else, the larger this one is.
    let made = File::open(LINK);
    enter_network(own.as_fd()).expect("root may go back to where it came from");
    Ok(made?.into())
}

/// Users 0 to `count` - 1 that are `base` and up outside, groups alike (user_namespaces(7)).
///
/// # Errors
/// What clone(2), open(2) or the maps say.
pub fn users(base: u32, count: u32) -> io::Result<OwnedFd> {
    let map = format!("0 {base} {count}\n");
    mapped(&map, &map)
}

fn mapped(users: &str, groups: &str) -> io::Result<OwnedFd> {
    let holder = Paused::start(Namespaces::USER)?;
    fs::write(format!("/proc/{}/uid_map", holder.pid()), users)?;
    fs::write(format!("/proc/{}/gid_map", holder.pid()), groups)?;
    take(&holder, "user")
}

/// A namespace to show files through, not to be entered: what `owner` and `group` own is shown as owned by
/// `user` and its group.
///
/// # Errors
/// As [`users`].
pub fn owner_as(owner: u32, group: u32, user: u32) -> io::Result<OwnedFd> {
    mapped(&format!("{owner} {user} 1\n"), &format!("{group} {user} 1\n"))
}

/// Moves this process into a namespace of [`network`] (setns(2)).
///
/// # Errors
/// What setns(2) says.
pub fn enter_network(namespace: BorrowedFd<'_>) -> io::Result<()> {
    enter(namespace, libc::CLONE_NEWNET)
}

/// Moves this process into a namespace of [`users`]; it holds every capability in there, and none outside.
///
/// The bounding set is full again afterwards: drop capabilities after this, not before.
///
/// # Errors
/// What setns(2) says; EINVAL for a process with several threads.
pub fn enter_users(namespace: BorrowedFd<'_>) -> io::Result<()> {
    enter(namespace, libc::CLONE_NEWUSER)
}

/// The mount namespace of this process, to come back to (mount_namespaces(7)).
///
/// # Errors
/// What open(2) says.
pub fn mounts() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/self/ns/mnt")?.into())
}

/// Moves this process into a mount namespace: that of [`mounts`], or that of the process which a pidfd names.
/// Its root and its working directory are the namespace's root then.
///
/// # Errors
/// What setns(2) says; EINVAL for a thread that shares its directories with others ([`own_directories`]), ESRCH if the
/// process is gone.
pub fn enter_mounts(of: BorrowedFd<'_>) -> io::Result<()> {
    enter(of, libc::CLONE_NEWNS)
}

/// Gives this thread a root and a working directory of its own: a thread that shares them may not enter another mount
/// namespace ([`enter_mounts`]), so whoever starts threads beside one that does has them begin with this.
///
/// # Errors
/// What unshare(2) says.
pub fn own_directories() -> io::Result<()> {
    // SAFETY: unshare(2) takes an integer; it copies what this thread knows of directories, and no memory.
    let done = unsafe { libc::unshare(libc::CLONE_FS) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn enter(namespace: BorrowedFd<'_>, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: setns(2) takes integers.
    let done = unsafe { libc::setns(namespace.as_raw_fd(), kind) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs `act` in a namespace of [`network`], on this thread alone, and comes back: sockets that it opens
/// stay in there.
///
/// # Errors
/// What open(2) and setns(2) say.
///
/// # Panics
/// When the way back is barred: to go on in a zone's network would be worse.
pub fn within_network<T>(namespace: BorrowedFd<'_>, act: impl FnOnce() -> T) -> io::Result<T> {
    let own: OwnedFd = File::open("/proc/thread-self/ns/net")?.into();
    enter_network(namespace)?;
    let result = act();
    enter_network(own.as_fd()).expect("root may go back to where it came from");
    Ok(result)
}

/// What the child of [`within_processes`] does, on the memory of its parent.
struct Errand {
    act: fn() -> io::Result<OwnedFd>,
    done: Option<io::Result<OwnedFd>>,
}

/// Has `act` done by a process of the namespace of processes that the one of this pidfd is in, and gives what it made.
/// The process runs on this one's memory and descriptors while this thread stands still, then it is gone.
///
/// Other threads go on meanwhile: of what setns(2) changes here, they have their own.
///
/// # Errors
/// What setns(2) and clone(2) say, and `act`; ENOMEM if the namespace's first process is gone.
///
/// # Panics
/// When the way back is barred: whatever was started later would be in there.
pub fn within_processes(
    process: BorrowedFd<'_>,
    act: fn() -> io::Result<OwnedFd>,
) -> io::Result<OwnedFd> {
    let own = File::open("/proc/self/ns/pid")?;
    enter(process, libc::CLONE_NEWPID)?;
    let done = on_this_memory(act);
    enter(own.as_fd(), libc::CLONE_NEWPID).expect("root may go back to where it came from");
    done
}

fn on_this_memory(act: fn() -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    let mut stack: Vec<u128> = Vec::with_capacity(ERRAND_STACK_BYTES / size_of::<u128>());
    let mut errand = Errand { act, done: None };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: the stack grows down from its end, which is aligned to 16 bytes. `errand` and `stack` outlive the
    // child's use of them: CLONE_VFORK holds this thread until the child has left this memory by its end. Until then the
    // child is the only one that runs on it, as if this thread had called `act`.
    let pid = unsafe {
        let end = stack.as_mut_ptr().add(stack.capacity()).cast();
        libc::clone(go, end, flags, (&raw mut errand).cast())
    };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None)?;
    // SAFETY: `errand` is live; read where the child wrote it, which the compiler has not seen, and not again.
    let done = unsafe { std::ptr::read_volatile(&raw const errand.done) };
    std::mem::forget(errand);
    done.unwrap_or_else(|| Err(io::ErrorKind::Interrupted.into()))
}

/// The child's part of [`on_this_memory`].
extern "C" fn go(errand: *mut libc::c_void) -> libc::c_int {
    let errand: *mut Errand = errand.cast();
    // SAFETY: it is the one that `on_this_memory` has lent, which stands still meanwhile.
    let errand = unsafe { &mut *errand };
    errand.done = Some((errand.act)());
    0
}

fn take(holder: &Paused, kind: &str) -> io::Result<OwnedFd> {
    Ok(File::open(format!("/proc/{}/ns/{kind}", holder.pid()))?.into())
}

#[cfg(test)]
mod test {
    use super::*;
    use std::process::Command;

    #[test]
    fn an_errand_among_other_processes_is_done_and_over() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let first = Paused::start(Namespaces::ZONE).unwrap();
        let made = within_processes(first.pidfd(), || {
            // By its own numbers it is the second process.
            let own = nix::unistd::getpid().as_raw();
            if own == 2 { Ok(File::open("/dev/null")?.into()) } else { Err(io::Error::other("?")) }
        });
        assert!(made.is_ok(), "{made:?}");
        let failed = within_processes(first.pidfd(), || Err(io::Error::other("no")));
        assert_eq!(failed.unwrap_err().to_string(), "no");
        // Children are in this process's own namespace again.
        assert!(Command::new("/bin/true").status().unwrap().success());
    }
}
