//! Makes a zone's root and the mounts in it, as root of the node, in namespaces of the zone's own.
//!
//! ```text
//!   <ground>           what the namespace begins with: the /dev that zones share ([`system`])
//!     lower            the image, its owners shifted to the zone's users, read-only
//!     <stage>          tmpfs of the zone's size, charged to the zone, over it
//!     upper, work      what the zone writes
//!     <overlay>        of all three, over the stage ─▶ becomes /, and its dev /dev, where devices work
//!     tmp, shm ─────────────────────────────▶ /tmp, /dev/shm
//!   objects            tmpfs for the places of objects ─────▶ /manta
//! ```
//!
//! The overlay is mounted here, before the user namespace is entered: its mount belongs to the node's
//! users, and nothing in the zone may change it. Paths in the image are never followed through links. The
//! namespace begins as a copy of the nursery's, in which every mount is private, and so are those made here.

use super::resolver;
use super::system::{self, Kind};
use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, fchownat};
use std::ffi::{CStr, CString, NulError};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use sys::mountfd::{self, Filesystem, Restrictions};
use sys::namespace;
use thiserror::Error;
use wire::zone::{OBJECTS, OUTPUT, PUBLISHER, Plan, StandingPlan};

/// The directories and files that objects are shown over: a task has one, the next one another.
const OBJECTS_BYTES: &CStr = c"1m";
const OBJECTS_FILES: &CStr = c"4096";

/// Why a zone could not be made.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A step failed.
    #[error("cannot {step}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A file of the plan could not be shown.
    #[error("cannot show {path}")]
    File {
        /// Where it was to stand.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// A text of the plan has a zero byte in it.
    #[error("the plan holds a zero byte")]
    Zero(#[from] NulError),
    /// More or fewer mounts came than the plan has files.
    #[error("{mounts} mounts came for {files} files")]
    Mounts {
        /// Files in the plan.
        files: usize,
        /// Mounts beside it.
        mounts: usize,
    },
}

/// Says what was tried when it fails.
fn step<T, E: Into<io::Error>>(step: &'static str, result: Result<T, E>) -> Result<T, BuildError> {
    result.map_err(|source| BuildError::Step { step, source: source.into() })
}

/// Makes the zone: afterwards this process's root is the zone's, and nothing else is mounted. Gives the
/// input, opened for reading, if there is one.
///
/// # Errors
/// [`BuildError`]; the process must end then.
pub fn build(
    plan: &Plan,
    image: BorrowedFd<'_>,
    users: BorrowedFd<'_>,
    network: BorrowedFd<'_>,
    mounts: Vec<OwnedFd>,
) -> Result<Option<OwnedFd>, BuildError> {
    let files = plan.assets.len() + usize::from(plan.input.is_some());
    if mounts.len() != files {
        return Err(BuildError::Mounts { files, mounts: mounts.len() });
    }
    let root = begin(plan, image, (users, network), Kind::Task)?;
    let mut mounts = mounts.into_iter();
    let mut stdin = None;
    for (path, mount) in plan.input.iter().zip(&mut mounts) {
        let failed = |source| BuildError::File { path: path.clone(), source };
        let objects = add_objects(root.as_fd())?;
        stdin = Some(show_object(objects.as_fd(), path, mount.as_fd()).map_err(failed)?);
    }
    for (path, mount) in plan.assets.iter().zip(&mut mounts) {
        show_asset(root.as_fd(), path, mount.as_fd())
            .map_err(|source| BuildError::File { path: path.clone(), source })?;
    }
    end(root.as_fd())?;
    Ok(stdin)
}

/// Makes a standing zone, as [`build`] does a task's: the mounts are directories, and behind them comes
/// the publisher's if there is an output. Gives what is missing, in words.
///
/// # Errors
/// As [`build`].
pub fn build_standing(
    plan: &StandingPlan,
    image: BorrowedFd<'_>,
    users: BorrowedFd<'_>,
    network: BorrowedFd<'_>,
    mounts: &[OwnedFd],
) -> Result<Option<String>, BuildError> {
    let has_output = plan.mounts.iter().any(|path| path == OUTPUT);
    let files = plan.mounts.len() + usize::from(has_output);
    if mounts.len() != files {
        return Err(BuildError::Mounts { files, mounts: mounts.len() });
    }
    let root = begin(&plan.root, image, (users, network), Kind::Standing)?;
    if !plan.command.is_empty() {
        let proc = step("make /proc", system::proc(Kind::Standing))?;
        let terminals = step("make the zone's terminals", system::terminals())?;
        let furnished = system::furnish(root.as_fd(), proc.as_fd(), terminals.as_fd());
        step("place /proc and the terminals", furnished)?;
    } else {
        // They come with its first session. An image in which they have no place is refused now, as any other.
        step("find the place of /proc", folder(root.as_fd(), "proc"))?;
    }
    for (path, mount) in plan.mounts.iter().zip(mounts) {
        show_folder(root.as_fd(), path, mount.as_fd())
            .map_err(|source| BuildError::File { path: path.clone(), source })?;
    }
    let mut missing = None;
    for publisher in &mounts[plan.mounts.len()..] {
        // In an image that has links on the way: its zones do without, or ask at the socket themselves.
        if let Err(error) = show(root.as_fd(), PUBLISHER, publisher.as_fd()) {
            missing = Some(format!("there is no {PUBLISHER}: {error}"));
        }
    }
    if let Some(text) = &plan.resolver {
        let placed = resolver::place(root.as_fd(), plan.root.user, text);
        step("say who resolves names", placed)?;
    }
    end(root.as_fd())?;
    Ok(missing)
}

/// The zone's names, its root and what every zone has.
fn begin(
    plan: &Plan,
    image: BorrowedFd<'_>,
    (users, network): (BorrowedFd<'_>, BorrowedFd<'_>),
    kind: Kind,
) -> Result<OwnedFd, BuildError> {
    step("enter the zone's network", namespace::enter_network(network))?;
    step("set the host name", nix::unistd::sethostname(&plan.host_name))?;
    nix::sys::stat::umask(Mode::empty());
    let stage = make_stage(plan)?;
    step("make the home of root", home(image, stage.as_fd(), plan.user))?;
    let root = make_root(image, users, stage.as_fd(), kind)?;
    add_system(stage.as_fd(), root.as_fd(), kind)?;
    Ok(root)
}

fn end(root: BorrowedFd<'_>) -> Result<(), BuildError> {
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    step("make it the root", mountfd::enter_root(root))
}

/// The scratch filesystem and the directories in it; the process's working directory from here.
fn make_stage(plan: &Plan) -> Result<OwnedFd, BuildError> {
    let bytes = CString::new(plan.scratch_bytes.to_string())?;
    let count = CString::new(plan.scratch_files.to_string())?;
    let stage = step("make the scratch space", tmpfs(&bytes, &count, Restrictions::PLAIN))?;
    step("place the scratch space", mountfd::place(stage.as_fd(), AT_FDCWD, c"/"))?;
    step("go to the scratch space", nix::unistd::fchdir(&stage))?;
    for (name, mode, owned) in [
        ("work", 0o700, false),
        ("upper", 0o755, true),
        ("tmp", 0o1777, true),
        ("shm", 0o1777, true),
    ] {
        step(
            "make the scratch directories",
            mkdirat(&stage, name, Mode::from_bits_truncate(mode)),
        )?;
        if owned {
            step("give the scratch directories away", give(stage.as_fd(), name, plan.user))?;
        }
    }
    Ok(stage)
}

/// The overlay of the shared layer, the image and what the zone writes.
fn make_root(
    lower: BorrowedFd<'_>,
    users: BorrowedFd<'_>,
    stage: BorrowedFd<'_>,
    kind: Kind,
) -> Result<OwnedFd, BuildError> {
    let mapped = mountfd::map_owners(lower, users, Restrictions::READ_ONLY);
    step("shift the owners in the image", mapped)?;
    // Paths are looked up from the working directory, the stage, and from the root that it is over.
    step("place the image", mountfd::place(lower, AT_FDCWD, system::IMAGE))?;
    let overlay = step("begin the overlay", Filesystem::new(c"overlay"))?;
    let parts = [(c"source", c"zone"), (c"lowerdir", kind.layers()), (c"upperdir", c"upper")];
    for (key, value) in parts.into_iter().chain([(c"workdir", c"work")]) {
        step("set up the overlay", overlay.set(key, value))?;
    }
    let root = step("mount the overlay", overlay.mount(Restrictions::PLAIN))?;
    // Over the stage: from below nothing is seen of it, and nobody has to take it away.
    step("place the overlay", mountfd::place(root.as_fd(), stage, c"."))?;
    Ok(root)
}

/// What every zone has: /dev, /tmp, and a task's /proc.
fn add_system(stage: BorrowedFd<'_>, root: BorrowedFd<'_>, kind: Kind) -> Result<(), BuildError> {
    if kind == Kind::Task {
        let proc = step("make /proc", system::proc(kind))?;
        step("place /proc", cover(root, "proc", proc.as_fd()))?;
    }
    let dev = step("make /dev", mountfd::copy(root, c"dev"))?;
    step("let devices work in /dev", mountfd::allow_only(dev.as_fd(), Restrictions::DEVICES))?;
    step("place /dev", cover(root, "dev", dev.as_fd()))?;
    for (name, path) in [(c"tmp", "tmp"), (c"shm", "dev/shm")] {
        let part = step("copy the scratch space's mount", mountfd::copy(stage, name))?;
        step("place the scratch space's parts", cover(root, path, part.as_fd()))?;
    }
    Ok(())
}

/// Puts a mount over a directory of the zone, which is made if it is not there; never over what a link leads to.
pub(super) fn cover(root: BorrowedFd<'_>, path: &str, mount: BorrowedFd<'_>) -> io::Result<()> {
    let name = CString::new(path)?;
    // It is there in most images, and a mount is not placed over a link (move_mount(2)).
    match mountfd::place(mount, root, &name) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
        placed => return placed,
    }
    folder(root, path)?;
    mountfd::place(mount, root, &name)
}

/// Where objects are shown: not in the overlay, in which making a file copies directories, and closed to
/// the zone, so that no name in it can lead elsewhere when zoned shows the next task's object.
fn add_objects(root: BorrowedFd<'_>) -> Result<OwnedFd, BuildError> {
    let name = OBJECTS.trim_start_matches('/');
    let objects = tmpfs(OBJECTS_BYTES, OBJECTS_FILES, Restrictions::DATA);
    let objects = step("make the place of objects", objects)?;
    step("place the place of objects", cover(root, name, objects.as_fd()))?;
    Ok(objects)
}

/// Shows an object at a path below [`OBJECTS`], where `objects` stands, and opens it there: through the zone's own
/// mount, so that /dev/stdin can be opened again in the zone.
///
/// # Errors
/// What the system calls say; [`io::ErrorKind::InvalidInput`] for a path that is not below.
pub fn show_object(
    objects: BorrowedFd<'_>,
    path: &str,
    mount: BorrowedFd<'_>,
) -> io::Result<OwnedFd> {
    let beneath = path.strip_prefix(OBJECTS).ok_or(io::ErrorKind::InvalidInput)?;
    let (parent, name) = parent(objects, beneath)?;
    // Nobody in the zone can make anything here: what is there is a file like it.
    match mknodat(&parent, name.as_c_str(), SFlag::S_IFREG, Mode::from_bits_truncate(0o444), 0) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    mountfd::place(mount, parent.as_fd(), &name)?;
    Ok(open(parent.as_fd(), name.as_c_str(), OFlag::O_RDONLY, Mode::empty())?)
}

/// The home of the zone's root, if the image has none: in the upper layer, where to make it takes less than to look for
/// it through all of them.
fn home(image: BorrowedFd<'_>, stage: BorrowedFd<'_>, user: u32) -> nix::Result<()> {
    match fstatat(image, "root", AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(()),
        Err(Errno::ENOENT) => {
            mkdirat(stage, "upper/root", Mode::from_bits_truncate(0o700))?;
            give(stage, "upper/root", user)
        }
        Err(error) => Err(error),
    }
}

fn tmpfs(bytes: &CStr, files: &CStr, restrictions: Restrictions) -> io::Result<OwnedFd> {
    let filesystem = Filesystem::new(c"tmpfs")?;
    filesystem.set(c"source", c"zone")?;
    filesystem.set(c"size", bytes)?;
    filesystem.set(c"nr_inodes", files)?;
    filesystem.set(c"mode", c"0755")?;
    filesystem.mount(restrictions)
}

fn give(folder: BorrowedFd<'_>, name: &str, user: u32) -> nix::Result<()> {
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    fchownat(folder, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// A directory of the zone, made if it is not there; never a link.
fn folder(parent: BorrowedFd<'_>, name: &str) -> nix::Result<OwnedFd> {
    let look = || open(parent, name, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty());
    // Most are there, and to look takes less than to find out by making one.
    match look() {
        Err(Errno::ENOENT) => {}
        found => return found,
    }
    match mkdirat(parent, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => look(),
        Err(error) => Err(error),
    }
}

/// Opens what is beneath a directory, never through a link.
///
/// # Errors
/// What openat2(2) says.
pub fn open<P: NixPath + ?Sized>(
    parent: BorrowedFd<'_>,
    name: &P,
    flags: OFlag,
    mode: Mode,
) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(mode).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS,
    );
    openat2(parent, name, how)
}

/// Makes the directories of `path` and puts a mount over the last.
fn show_folder(root: BorrowedFd<'_>, path: &str, mount: BorrowedFd<'_>) -> io::Result<()> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let mut at = root.try_clone_to_owned()?;
    let mut last = None;
    for part in Path::new(path).components() {
        match part {
            Component::RootDir => {}
            Component::Normal(part) => {
                let part = part.to_str().ok_or_else(invalid)?;
                let inner = folder(at.as_fd(), part)?;
                last = Some((std::mem::replace(&mut at, inner), CString::new(part)?));
            }
            Component::Prefix(_) | Component::CurDir | Component::ParentDir => {
                return Err(invalid());
            }
        }
    }
    let (parent, name) = last.ok_or_else(invalid)?;
    mountfd::place(mount, parent.as_fd(), &name)
}

/// The directory at `path`, made with those above it if it is not there.
fn folders(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let mut beneath = PathBuf::new();
    for part in path.components() {
        match part {
            Component::RootDir => {}
            Component::Normal(part) => beneath.push(part),
            Component::Prefix(_) | Component::CurDir | Component::ParentDir => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
    }
    if beneath.as_os_str().is_empty() {
        return root.try_clone_to_owned();
    }
    // One object stands beside the other in most phases.
    match open(root, &beneath, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()) {
        Err(Errno::ENOENT) => {}
        found => return Ok(found?),
    }
    let mut at: Option<OwnedFd> = None;
    for part in &beneath {
        let part = part.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        at = Some(folder(at.as_ref().map_or(root, AsFd::as_fd), part)?);
    }
    at.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// The directory in which `path` stands, made if it is not there, and its name in it.
fn parent(root: BorrowedFd<'_>, path: &str) -> io::Result<(OwnedFd, CString)> {
    let path = Path::new(path);
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = folders(root, path.parent().unwrap_or(Path::new("")))?;
    Ok((parent, CString::new(name.as_encoded_bytes())?))
}

/// Makes an empty file at `path` and the directories above it; gives its directory, its name and itself.
fn make_file(root: BorrowedFd<'_>, path: &str, mode: u32) -> io::Result<(OwnedFd, CString, File)> {
    let (parent, name) = parent(root, path)?;
    let flags = OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_WRONLY | OFlag::O_TRUNC;
    let file = open(parent.as_fd(), name.as_c_str(), flags, Mode::from_bits_truncate(mode))?;
    Ok((parent, name, file.into()))
}

/// Puts the mount of a file over an empty one at `path`.
fn show(root: BorrowedFd<'_>, path: &str, mount: BorrowedFd<'_>) -> io::Result<()> {
    let (parent, name, _) = make_file(root, path, 0o444)?;
    mountfd::place(mount, parent.as_fd(), &name)
}

/// As [`show`], but a program is copied, so that it may be executable: objects never are.
fn show_asset(root: BorrowedFd<'_>, path: &str, mount: BorrowedFd<'_>) -> io::Result<()> {
    let mut asset = open_mount(root, mount)?;
    let mut start = [0; 4];
    let got = asset.read_at(&mut start, 0)?;
    if !start[..got].starts_with(b"#!") && start[..got] != *b"\x7fELF" {
        return show(root, path, mount);
    }
    let (.., mut copy) = make_file(root, path, 0o755)?;
    io::copy(&mut asset, &mut copy).map(|_| ())
}

/// Opens the file that a mount consists of, by the zone's own /proc; the descriptor of the mount itself
/// cannot be read.
fn open_mount(root: BorrowedFd<'_>, mount: BorrowedFd<'_>) -> io::Result<File> {
    let path = format!("proc/self/fd/{}", mount.as_raw_fd());
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    Ok(openat(root, path.as_str(), flags, Mode::empty())?.into())
}
