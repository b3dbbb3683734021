//! Giving up privileges for good.
//!
//! capabilities(7), prctl(2), setresuid(2). Each step can't be undone by the process or what it starts.
#![allow(unsafe_code)]

use std::io;

/// The version of capset(2)'s header that holds 64 capabilities (`_LINUX_CAPABILITY_VERSION_3`).
const VERSION: u32 = 0x2008_0522;
/// No kernel has more capabilities than bits in a capability set.
const CAPABILITIES: u64 = 64;
/// capabilities(7): being user 0 means nothing, ids may change without effect on sets, sets do not
/// outlive an exec, and nothing may be put into the ambient set; each with its lock.
const SECUREBITS: libc::c_ulong = (libc::SECBIT_NOROOT
    | libc::SECBIT_NOROOT_LOCKED
    | libc::SECBIT_NO_SETUID_FIXUP
    | libc::SECBIT_NO_SETUID_FIXUP_LOCKED
    | libc::SECBIT_KEEP_CAPS_LOCKED
    | libc::SECBIT_NO_CAP_AMBIENT_RAISE
    | libc::SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED) as libc::c_ulong;

/// capabilities(7): user 0 is special, as programs expect, and the rest as in [`SECUREBITS`].
const ROOT_SECUREBITS: libc::c_ulong = (libc::SECBIT_NOROOT_LOCKED
    | libc::SECBIT_NO_SETUID_FIXUP_LOCKED
    | libc::SECBIT_KEEP_CAPS_LOCKED
    | libc::SECBIT_NO_CAP_AMBIENT_RAISE
    | libc::SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED)
    as libc::c_ulong;

/// Capabilities by their numbers (linux/capability.h), for [`keep_for_root`].
pub mod capability {
    /// Change owners.
    pub const CHOWN: u64 = 1 << 0;
    /// Pass over a file's mode.
    pub const DAC_OVERRIDE: u64 = 1 << 1;
    /// Do what a file's owner may.
    pub const FOWNER: u64 = 1 << 3;
    /// Keep set-id bits.
    pub const FSETID: u64 = 1 << 4;
    /// Signal other users' processes.
    pub const KILL: u64 = 1 << 5;
    /// Change groups.
    pub const SETGID: u64 = 1 << 6;
    /// Change users.
    pub const SETUID: u64 = 1 << 7;
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn prctl(option: libc::c_int, one: libc::c_ulong, two: libc::c_ulong) -> io::Result<()> {
    // SAFETY: every option used here takes integers, and zeros for what it has no use for.
    check(unsafe { libc::prctl(option, one, two, 0, 0) }.into())
}

/// Becomes user and group `id` in all their kinds, with no further groups (setresuid(2), setgroups(2)).
///
/// # Errors
/// EPERM without CAP_SETUID and CAP_SETGID, EINVAL for an id that the user namespace does not map.
pub fn become_user(id: u32) -> io::Result<()> {
    // The system calls, not glibc's functions: those would signal other threads, of which there are none.
    // SAFETY: no groups are read where there are none.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) })?;
    // SAFETY: the call takes integers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, id, id, id) })?;
    // SAFETY: the call takes integers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, id, id, id) })
}

/// Empties all five capability sets and locks the securebits, so that user 0 is a user like others.
///
/// # Errors
/// EPERM without CAP_SETPCAP: the state is then undefined, and the process had better end.
pub fn drop_all() -> io::Result<()> {
    keep(0, SECUREBITS)
}

/// Keeps these capabilities, a bit each, for user 0 of the user namespace and what it starts, and gives
/// up all others for good. A process that becomes another user loses them, as everywhere.
///
/// # Errors
/// As [`drop_all`].
pub fn keep_for_root(capabilities: u64) -> io::Result<()> {
    keep(capabilities, ROOT_SECUREBITS)
}

fn keep(kept: u64, securebits: libc::c_ulong) -> io::Result<()> {
    for capability in 0..CAPABILITIES {
        if kept & 1 << capability != 0 {
            continue;
        }
        match prctl(libc::PR_CAPBSET_DROP, capability, 0) {
            // The first number that this kernel does not know.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && capability > 0 => break,
            other => other?,
        }
    }
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0)?;
    prctl(libc::PR_SET_SECUREBITS, securebits, 0)?;
    let header = Header { version: VERSION, pid: 0 };
    let half = |bits: u64| {
        let bits = (bits & u64::from(u32::MAX)) as u32;
        Sets { effective: bits, permitted: bits, inheritable: 0 }
    };
    let sets = [half(kept), half(kept >> 32)];
    // SAFETY: both are laid out as capset(2) has them for this version, live, and only read.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) })
}

/// Sees to it that no exec gives privileges (`PR_SET_NO_NEW_PRIVS`).
///
/// # Errors
/// None on a kernel of this century.
pub fn no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)
}

/// Hides this process's memory, descriptors and program from others of its user (`PR_SET_DUMPABLE`).
///
/// # Errors
/// None.
pub fn not_dumpable() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0, 0)
}
