//! Mounts as descriptors: made, changed and copied before anything can see them, then put in place.
//!
//! fsopen(2), fsconfig(2), fsmount(2), open_tree(2), move_mount(2), mount_setattr(2), pivot_root(2);
//! Linux 5.12 or newer, and root. A mount that is never put in place goes with its descriptor.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const OPEN_TREE_CLONE: libc::c_uint = 1;
const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
/// Bytes of what a filesystem says about a mount that failed.
const MESSAGE_BYTES: usize = 512;

/// What may not be done through a mount, whatever its files allow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restrictions(u64);

impl Restrictions {
    /// Every bit of them.
    const ALL: u64 = 1 | 2 | 4 | 8;
    /// Nothing is restricted.
    pub const NONE: Self = Self(0);
    /// No set-user-id programs and no devices.
    pub const PLAIN: Self = Self(2 | 4);
    /// As [`Self::PLAIN`], and no programs.
    pub const DATA: Self = Self(2 | 4 | 8);
    /// As [`Self::PLAIN`], and no writing.
    pub const READ_ONLY: Self = Self(1 | 2 | 4);
    /// As [`Self::DATA`], and no writing.
    pub const READ_ONLY_DATA: Self = Self(1 | 2 | 4 | 8);
    /// Device nodes work; set-user-id programs and programs do not.
    pub const DEVICES: Self = Self(2 | 8);
}

/// A filesystem that is being configured (fsopen(2)).
#[derive(Debug)]
pub struct Filesystem(OwnedFd);

#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

fn check(result: libc::c_long) -> io::Result<RawFd> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}

/// Takes what a call that makes a descriptor gave.
fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    // SAFETY: called with the result of a call that installs a descriptor for us alone when it succeeds.
    check(result).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

impl Filesystem {
    /// Begins a filesystem of this type: `tmpfs`, `overlay`.
    ///
    /// # Errors
    /// ENODEV if the kernel has no such type.
    pub fn new(kind: &CStr) -> io::Result<Self> {
        // SAFETY: `kind` is a C string that the call only reads.
        let fd = unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) };
        owned(fd).map(Self)
    }

    /// Sets an option with a value.
    ///
    /// # Errors
    /// What the filesystem says of it.
    pub fn set(&self, key: &CStr, value: &CStr) -> io::Result<&Self> {
        self.configure(FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr())
    }

    /// Sets an option that has no value.
    ///
    /// # Errors
    /// What the filesystem says of it.
    pub fn flag(&self, key: &CStr) -> io::Result<&Self> {
        self.configure(FSCONFIG_SET_FLAG, key.as_ptr(), std::ptr::null())
    }

    /// Makes the filesystem and a mount of it that is nowhere yet.
    ///
    /// # Errors
    /// What the filesystem says.
    pub fn mount(&self, restrictions: Restrictions) -> io::Result<OwnedFd> {
        self.configure(FSCONFIG_CMD_CREATE, std::ptr::null(), std::ptr::null())?;
        // SAFETY: fsmount(2) takes integers.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_fsmount,
                self.0.as_raw_fd(),
                FSMOUNT_CLOEXEC,
                restrictions.0 as libc::c_uint,
            )
        };
        owned(fd)
    }

    fn configure(
        &self,
        command: libc::c_uint,
        key: *const libc::c_char,
        value: *const libc::c_char,
    ) -> io::Result<&Self> {
        // SAFETY: `key` and `value` are null or C strings that outlive the call, as the callers above
        // pass them, and fsconfig(2) only reads them.
        let done = unsafe {
            libc::syscall(libc::SYS_fsconfig, self.0.as_raw_fd(), command, key, value, 0)
        };
        match check(done) {
            Ok(_) => Ok(self),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Adds the filesystem's own words to an error: the descriptor of fsopen(2) is its log.
    fn explain(&self, error: io::Error) -> io::Error {
        let mut said = [0; MESSAGE_BYTES];
        match nix::unistd::read(&self.0, &mut said) {
            Ok(bytes) if bytes > 0 => {
                let said = String::from_utf8_lossy(&said[..bytes]);
                io::Error::new(error.kind(), format!("{error}: {}", said.trim()))
            }
            // ENODATA: it has nothing to say.
            Ok(_) | Err(_) => error,
        }
    }
}

/// Copies the mount that holds `path`, seen from `folder` and from there down, as one that is nowhere yet
/// (`OPEN_TREE_CLONE`); mounts below it are left out. An empty path copies `folder` itself.
///
/// # Errors
/// EINVAL if the mount belongs to another mount namespace.
pub fn copy(folder: BorrowedFd<'_>, path: &CStr) -> io::Result<OwnedFd> {
    let empty = if path.is_empty() { libc::AT_EMPTY_PATH as libc::c_uint } else { 0 };
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | empty;
    // SAFETY: `path` is a C string that the call only reads.
    let fd =
        unsafe { libc::syscall(libc::SYS_open_tree, folder.as_raw_fd(), path.as_ptr(), flags) };
    owned(fd)
}

/// Adds restrictions to a mount (mount_setattr(2)).
///
/// # Errors
/// What the call says.
pub fn restrict(mount: BorrowedFd<'_>, restrictions: Restrictions) -> io::Result<()> {
    set_attributes(mount, &MountAttr { set: restrictions.0, ..MountAttr::default() })
}

/// Gives a mount exactly these restrictions: those that it had besides are lifted.
///
/// # Errors
/// EPERM in a user namespace that the mount was locked for.
pub fn allow_only(mount: BorrowedFd<'_>, restrictions: Restrictions) -> io::Result<()> {
    let clear = Restrictions::ALL & !restrictions.0;
    set_attributes(mount, &MountAttr { set: restrictions.0, clear, ..MountAttr::default() })
}

/// Shows a mount's files as if owned by the users that `users` maps their owners to, and restricts it.
///
/// # Errors
/// EINVAL if the filesystem can't (tmpfs, ext4 and EROFS can on 6.12) or the mount is in place already.
pub fn map_owners(
    mount: BorrowedFd<'_>,
    users: BorrowedFd<'_>,
    restrictions: Restrictions,
) -> io::Result<()> {
    let attributes = MountAttr {
        set: MOUNT_ATTR_IDMAP | restrictions.0,
        userns_fd: users.as_raw_fd() as u64,
        ..MountAttr::default()
    };
    set_attributes(mount, &attributes)
}

fn set_attributes(mount: BorrowedFd<'_>, attributes: &MountAttr) -> io::Result<()> {
    // SAFETY: `attributes` is laid out as struct mount_attr, live, and of the size given; the path is a
    // C string. Both are only read.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(attributes),
            size_of::<MountAttr>(),
        )
    };
    check(done).map(|_| ())
}

/// Puts a mount in place, over `path` seen from `folder` (move_mount(2)).
///
/// # Errors
/// ENOENT if nothing is there, ENOTDIR or EINVAL if one is a directory and the other a file.
pub fn place(mount: BorrowedFd<'_>, folder: BorrowedFd<'_>, path: &CStr) -> io::Result<()> {
    // SAFETY: both paths are C strings that the call only reads.
    let done = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            folder.as_raw_fd(),
            path.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    check(done).map(|_| ())
}

/// Keeps what is mounted here from being seen elsewhere, and the reverse, in this process's namespace.
///
/// # Errors
/// What mount(2) says.
pub fn make_all_private() -> io::Result<()> {
    let none = std::ptr::null();
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: the target is a C string; the other pointers may be null for a change of propagation.
    let done = unsafe { libc::mount(none, c"/".as_ptr(), none, flags, none.cast()) };
    check(done.into()).map(|_| ())
}

/// Makes the mount at `root` the root of this process's mount namespace, and lets go of all else in it.
///
/// # Errors
/// EINVAL if `root` is no mount, or the present root is the initramfs's own.
pub fn make_root(root: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: fchdir(2) takes an integer.
    check(unsafe { libc::fchdir(root.as_raw_fd()) }.into())?;
    let here = c".".as_ptr();
    // SAFETY: `here` is a C string. The old root is stacked over the new one, as pivot_root(2) describes.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, here, here) })?;
    // SAFETY: `here` is a C string. It is the old root that is on top, and goes with all mounts below.
    check(unsafe { libc::umount2(here, libc::MNT_DETACH) }.into())?;
    // SAFETY: the path is a C string.
    check(unsafe { libc::chdir(c"/".as_ptr()) }.into()).map(|_| ())
}

/// Makes the mount at `root` this process's root (chroot(2)). What is below it in the mount namespace stays
/// there; who can't call chroot(2) can't get back to it.
///
/// # Errors
/// EPERM without CAP_SYS_CHROOT.
pub fn enter_root(root: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: fchdir(2) takes an integer.
    check(unsafe { libc::fchdir(root.as_raw_fd()) }.into())?;
    // SAFETY: the path is a C string.
    check(unsafe { libc::chroot(c".".as_ptr()) }.into()).map(|_| ())
}

/// Takes away what is mounted at `path`, now or as soon as nothing uses it (umount2(2), `MNT_DETACH`).
///
/// # Errors
/// EINVAL if nothing is mounted there.
pub fn detach(path: &CStr) -> io::Result<()> {
    // SAFETY: `path` is a C string.
    check(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) }.into()).map(|_| ())
}
