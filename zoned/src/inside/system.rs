//! What zones have of the system: `/dev`, a layer of their overlays that all share, made once by the nursery; `/proc`,
//! terminals.
//!
//! ```text
//!   ground          tmpfs, the nursery's root, read-only when it is done
//!     lower         a place for a zone's image
//!     task/dev      what is in the /dev of a task's zone
//!     standing/dev  what is in that of a standing one
//! ```
//!
//! Each zone sees the layer's files as its own overlay's: what is done to one (a lock, a watch) is seen in that zone
//! alone, and it has an inode only while it is used. They belong to the node's root, whom a zone has no number for,
//! so nobody in one can change them or add to them.

use super::build::{cover, open};
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, makedev, mkdirat, mknodat, umask};
use nix::unistd::symlinkat;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use sys::mountfd::{self, Filesystem, Restrictions};
use sys::xattr;

/// Terminals in a standing zone: each session may have one, and its programs some.
const TERMINALS: &CStr = c"64";
/// Minor numbers of the memory devices, major 1 (`Documentation/admin-guide/devices.txt`).
const MEMORY_DEVICES: [(&str, u64); 5] =
    [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)];
/// Where a zone's image is mounted, as seen from the nursery's root; in the namespace of that zone alone.
pub const IMAGE: &CStr = c"/lower";
/// Of a directory in a layer: what lower layers have there is not seen (`Documentation/filesystems/overlayfs.rst`).
const OPAQUE: (&CStr, &[u8]) = (c"trusted.overlay.opaque", b"y");

/// What is made for a task and for a person differs in what they see of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A task's zone.
    Task,
    /// A standing zone.
    Standing,
}

impl Kind {
    /// The layers that an overlay of this kind has below what its zone writes, their paths as seen from the nursery's
    /// root: that of the ground, and [`IMAGE`].
    pub const fn layers(self) -> &'static CStr {
        match self {
            Self::Task => c"/task:/lower",
            Self::Standing => c"/standing:/lower",
        }
    }

    const fn layer(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Standing => "standing",
        }
    }
}

/// Makes the ground: a filesystem with a layer for each kind, nowhere yet.
///
/// # Errors
/// What the system calls say.
pub fn ground() -> io::Result<OwnedFd> {
    let ground = Filesystem::new(c"tmpfs")?;
    // Nothing in it takes a page.
    ground.set(c"source", c"nursery")?.set(c"size", c"4k")?.set(c"mode", c"0555")?;
    let ground = ground.mount(Restrictions::DATA)?;
    let mask = umask(Mode::empty());
    let place = mkdirat(&ground, "lower", Mode::from_bits_truncate(0o700));
    let filled = place.map_err(io::Error::from).and_then(|()| fill(ground.as_fd()));
    umask(mask);
    filled?;
    mountfd::restrict(ground.as_fd(), Restrictions::READ_ONLY_DATA)?;
    Ok(ground)
}

/// Makes the layers.
fn fill(ground: BorrowedFd<'_>) -> io::Result<()> {
    [Kind::Task, Kind::Standing].into_iter().try_for_each(|kind| {
        // A layer's own mode is not seen: the topmost's is.
        mkdirat(ground, kind.layer(), Mode::from_bits_truncate(0o755))?;
        let layer = folder(ground, kind.layer())?;
        mkdirat(&layer, "dev", Mode::from_bits_truncate(0o755))?;
        let dev = folder(layer.as_fd(), "dev")?;
        xattr::set(dev.as_fd(), OPAQUE.0, OPAQUE.1)?;
        Ok(fill_dev(dev.as_fd(), kind)?)
    })
}

fn folder(parent: BorrowedFd<'_>, name: &str) -> nix::Result<OwnedFd> {
    open(parent, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())
}

fn fill_dev(dev: BorrowedFd<'_>, kind: Kind) -> nix::Result<()> {
    let all = Mode::from_bits_truncate(0o666);
    for (name, minor) in MEMORY_DEVICES {
        mknodat(dev, name, SFlag::S_IFCHR, all, makedev(1, minor))?;
    }
    mknodat(dev, "tty", SFlag::S_IFCHR, all, makedev(5, 0))?;
    for (name, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlinkat(to, dev, name)?;
    }
    mkdirat(dev, "shm", Mode::from_bits_truncate(0o755))?;
    if kind == Kind::Standing {
        mkdirat(dev, "pts", Mode::from_bits_truncate(0o755))?;
        symlinkat("pts/ptmx", dev, "ptmx")?;
    }
    Ok(())
}

/// The /proc of the namespace of processes that this process is in: only what is about processes, and in a task only
/// about one's own; the root of a standing zone looks after all that run in it.
///
/// # Errors
/// What the filesystem says.
pub fn proc(kind: Kind) -> io::Result<OwnedFd> {
    let proc = Filesystem::new(c"proc")?;
    proc.set(c"subset", c"pid")?;
    if kind == Kind::Task {
        proc.set(c"hidepid", c"2")?;
    }
    proc.mount(Restrictions::DATA)
}

/// Terminals of a standing zone's own: an instance of devpts that nobody else has.
///
/// # Errors
/// What the filesystem says.
pub fn terminals() -> io::Result<OwnedFd> {
    let terminals = Filesystem::new(c"devpts")?;
    terminals.set(c"mode", c"0620")?.set(c"ptmxmode", c"0666")?.set(c"max", TERMINALS)?;
    terminals.mount(Restrictions::DEVICES)
}

/// Places [`proc`] and [`terminals`] in a standing zone. They are there before its first program is: one in which nothing
/// runs has no use for them, and each is a filesystem of its own. The terminals come last: where they are, both are.
///
/// # Errors
/// What the system calls say.
pub fn furnish(
    root: BorrowedFd<'_>,
    proc: BorrowedFd<'_>,
    terminals: BorrowedFd<'_>,
) -> io::Result<()> {
    cover(root, "proc", proc)?;
    // It is a mount by now, which openat2(2) may cross, and nobody in the zone may write to it.
    let dev = open(root, "dev", OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())?;
    mountfd::place(terminals, dev.as_fd(), c"pts")
}
