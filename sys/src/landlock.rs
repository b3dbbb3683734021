//! Landlock: a process gives up, for itself and what it starts, what no program of a zone needs.
//!
//! landlock(7); the file rules are as old as Linux 5.13, the scopes came with 6.12 (ABI 6).
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_BLOCK: u64 = 1 << 11;
const REFER: u64 = 1 << 13;
const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
const SCOPE_SIGNAL: u64 = 2;
/// The ABI that knows [`REFER`].
const ABI_REFER: u32 = 2;
/// The ABI that knows scopes.
const ABI_SCOPES: u32 = 6;

#[repr(C)]
#[derive(Default)]
struct Ruleset {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: RawFd,
}

/// The version of Landlock that the kernel offers.
///
/// # Errors
/// ENOSYS or EOPNOTSUPP where it is not built in or not turned on (`lsm=`).
pub fn version() -> io::Result<u32> {
    let none = std::ptr::null::<Ruleset>();
    // SAFETY: with this flag the call reads no ruleset and gives a number.
    let abi = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, CREATE_RULESET_VERSION)
    };
    u32::try_from(abi).map_err(|_| io::Error::last_os_error())
}

/// With a kernel of this [`version`]: forbids making device nodes and changing mounts and, where it can, signals to and abstract
/// sockets of processes outside. Files beneath `root` may be moved between directories as before.
///
/// # Errors
/// What the calls say; EPERM without no_new_privs.
pub fn confine(root: BorrowedFd<'_>, abi: u32) -> io::Result<()> {
    let refer = if abi >= ABI_REFER { REFER } else { 0 };
    let scoped = if abi >= ABI_SCOPES { SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL } else { 0 };
    let ruleset = Ruleset {
        handled_access_fs: MAKE_CHAR | MAKE_BLOCK | refer,
        handled_access_net: 0,
        scoped,
    };
    // An older kernel is told of no field that it does not know.
    let size = if abi >= ABI_SCOPES { size_of::<Ruleset>() } else { size_of::<u64>() };
    // SAFETY: `ruleset` is live, laid out as struct landlock_ruleset_attr, and at least `size` bytes.
    let fd =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, size, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded and installed the descriptor for us alone.
    let rules = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
    if refer != 0 {
        let beneath = PathBeneath { allowed_access: refer, parent_fd: root.as_raw_fd() };
        // SAFETY: `beneath` is live and laid out as struct landlock_path_beneath_attr, packed.
        let added = unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                rules.as_raw_fd(),
                RULE_PATH_BENEATH,
                &raw const beneath,
                0,
            )
        };
        if added < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: the call takes integers.
    let done = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
