//! Filesystems in the tree, one function a meaning (mount(2), umount2(2)).

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::io;
use std::path::Path;

/// What a mount forbids or leaves out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Nothing may be written (`MS_RDONLY`).
    pub read_only: bool,
    /// Set-user-id bits mean nothing (`MS_NOSUID`).
    pub no_suid: bool,
    /// Device nodes mean nothing (`MS_NODEV`).
    pub no_devices: bool,
    /// Nothing may be executed (`MS_NOEXEC`).
    pub no_exec: bool,
    /// Access times are not kept (`MS_NOATIME`).
    pub no_atime: bool,
}

impl Options {
    /// Nothing of what is there can gain privilege.
    pub const INERT: Self =
        Self { read_only: false, no_suid: true, no_devices: true, no_exec: true, no_atime: false };

    fn flags(self) -> MsFlags {
        let mut flags = MsFlags::empty();
        flags.set(MsFlags::MS_RDONLY, self.read_only);
        flags.set(MsFlags::MS_NOSUID, self.no_suid);
        flags.set(MsFlags::MS_NODEV, self.no_devices);
        flags.set(MsFlags::MS_NOEXEC, self.no_exec);
        flags.set(MsFlags::MS_NOATIME, self.no_atime);
        flags
    }
}

/// Mounts a filesystem of type `kind` from `source` at `target`, `data` being its own options.
///
/// # Errors
/// What mount(2) says; EBUSY if it is there already.
pub fn attach(
    kind: &str,
    source: &Path,
    target: &Path,
    options: Options,
    data: &str,
) -> io::Result<()> {
    Ok(mount(Some(source), target, Some(kind), options.flags(), Some(data))?)
}

/// Shows the tree at `source` (not what is mounted in it) at `target` too, with its own options.
///
/// # Errors
/// What mount(2) says. On an error of the second step the first is undone.
pub fn bind(source: &Path, target: &Path, options: Options) -> io::Result<()> {
    let none = None::<&str>;
    mount(Some(source), target, none, MsFlags::MS_BIND, none)?;
    let flags = options.flags() | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
    mount(none, target, none, flags, none).map_err(|errno| {
        let undone = umount2(target, MntFlags::MNT_DETACH);
        undone.err().unwrap_or(errno).into()
    })
}

/// Gives this process a root that is a mount of its own.
///
/// The kernel refuses to pivot away from the initramfs's root itself, here and in every mount namespace
/// copied from this one; from a bind of it, it does not. To be called while nothing else is mounted.
///
/// # Errors
/// What mount(2), chdir(2) and chroot(2) say.
pub fn own_root() -> io::Result<()> {
    let none = None::<&str>;
    mount(Some("/"), "/", none, MsFlags::MS_BIND, none)?;
    // `/` still names what lies below the bind; `..` of it walks up into the bind.
    nix::unistd::chdir("/..")?;
    nix::unistd::chroot(".")?;
    Ok(nix::unistd::chdir("/")?)
}

/// Forbids writing through the mount at `target`; the filesystem itself stays writable elsewhere.
///
/// # Errors
/// What mount(2) says.
pub fn close_for_writing(target: &Path) -> io::Result<()> {
    let none = None::<&str>;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    Ok(mount(none, target, none, flags, none)?)
}

/// Takes a mount off the tree.
///
/// # Errors
/// What umount2(2) says: EBUSY while something in it is open.
pub fn detach(target: &Path) -> io::Result<()> {
    Ok(umount2(target, MntFlags::UMOUNT_NOFOLLOW)?)
}

/// Takes a mount off the tree now and off the kernel when its last user is gone.
///
/// # Errors
/// What umount2(2) says.
pub fn detach_lazily(target: &Path) -> io::Result<()> {
    Ok(umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?)
}

/// Makes a filesystem read-only wherever it is mounted.
///
/// # Errors
/// What mount(2) says: EBUSY while a file in it is open for writing.
pub fn make_read_only(target: &Path) -> io::Result<()> {
    let none = None::<&str>;
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    Ok(mount(none, target, none, flags, none)?)
}

/// Writes everything that is dirty in the filesystem at `path` to its disk (syncfs(2)).
///
/// # Errors
/// What open(2) and syncfs(2) say; a write error of an earlier writeback among them.
pub fn sync(path: &Path) -> io::Result<()> {
    let folder = std::fs::File::open(path)?;
    Ok(nix::unistd::syncfs(&folder)?)
}

/// Whether an error means that the mount is busy.
#[must_use]
pub fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EBUSY as i32)
}
