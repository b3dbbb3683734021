//! A walk through a directory of a tenant's, while the tenant may change it: beneath it, through no link,
//! and with no more descriptors than it is deep.

use super::judge::{Kind, Refusal};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, fstat};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Directories below one another that are walked through: each takes a descriptor meanwhile.
pub const DEPTH_MAX: usize = 64;
/// Entries read of one directory; what has more is gone through once more the next time.
pub const ENTRIES_MAX: usize = 1 << 20;

/// What was met.
#[derive(Debug)]
pub enum Entry {
    /// A regular file, open for reading.
    File(File),
    /// Something that is not taken.
    Refused(Refusal),
}

/// A directory that is being walked through.
struct Level {
    directory: OwnedFd,
    path: Vec<u8>,
    names: VecDeque<Vec<u8>>,
}

/// The walk.
pub struct Walk {
    open: Vec<Level>,
}

impl Walk {
    /// Begins at a directory.
    pub fn begin(directory: BorrowedFd<'_>) -> io::Result<Self> {
        // A directory that is open for its path alone can't be read.
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let directory = open(directory, b".", flags)?;
        Ok(Self { open: vec![Level::new(directory, Vec::new())?] })
    }

    /// The next file, or what is there instead of one, with its path from where the walk began.
    pub fn next(&mut self) -> Option<(Vec<u8>, Entry)> {
        loop {
            let depth = self.open.len();
            let level = self.open.last_mut()?;
            let Some(name) = level.names.pop_front() else {
                self.open.pop();
                continue;
            };
            let mut path = level.path.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            match look(level.directory.as_fd(), &name) {
                Ok(Found::File(file)) => return Some((path, Entry::File(file))),
                Ok(Found::Other(kind)) => return Some((path, Entry::Refused(Refusal::Kind(kind)))),
                Ok(Found::Directory(_)) if depth >= DEPTH_MAX => {
                    return Some((path, Entry::Refused(Refusal::Deep)));
                }
                Ok(Found::Directory(directory)) => match Level::new(directory, path.clone()) {
                    Ok(level) => self.open.push(level),
                    Err(error) => return Some((path, Entry::Refused(refusal(&error)))),
                },
                // It has gone since the directory was read: nobody wants it published.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Some((path, Entry::Refused(refusal(&error)))),
            }
        }
    }
}

impl Level {
    fn new(directory: OwnedFd, path: Vec<u8>) -> io::Result<Self> {
        let mut names = Vec::new();
        for entry in Dir::from_fd(directory.try_clone()?)?.iter().take(ENTRIES_MAX) {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        Ok(Self { directory, path, names: names.into() })
    }
}

enum Found {
    File(File),
    Directory(OwnedFd),
    Other(&'static str),
}

/// Opens what a name leads to. It is looked at before it is opened for reading, so that opening it does
/// nothing; and after, because it may be something else by then.
fn look(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<Found> {
    let seen = open(directory, name, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
    let kind = Kind::of(fstat(&seen)?.st_mode);
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    match kind {
        Kind::Other(kind) => Ok(Found::Other(kind)),
        Kind::Directory => Ok(Found::Directory(open(directory, name, flags | OFlag::O_DIRECTORY)?)),
        Kind::File => {
            let file = open(directory, name, flags)?;
            match Kind::of(fstat(&file)?.st_mode) {
                Kind::File => Ok(Found::File(file.into())),
                Kind::Directory => Ok(Found::Other("something else by now")),
                Kind::Other(kind) => Ok(Found::Other(kind)),
            }
        }
    }
}

fn open(directory: BorrowedFd<'_>, name: &[u8], flags: OFlag) -> io::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(Mode::empty()).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_XDEV,
    );
    Ok(openat2(directory, name, how)?)
}

fn refusal(error: &io::Error) -> Refusal {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES | Errno::EPERM) => Refusal::Unreadable,
        // What was a file is a link, or what was a directory is none.
        Some(Errno::ELOOP | Errno::ENOTDIR | Errno::ENXIO | Errno::EXDEV) => Refusal::Changed,
        Some(_) | None => Refusal::Failed(format!("it cannot be opened: {error}")),
    }
}
