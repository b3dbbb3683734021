//! Which files become objects: decided by what the kernel says of them, never by asking their owner.

use std::fmt;

/// Bytes that a publication may read which are nowhere on a disk, in all: a file of 1 PiB may consist of
/// holes, and an object has none.
pub const HOLE_BYTES_MAX: u64 = 1 << 30;
/// The most bytes in the name of a file as a message shows it.
const SHOWN_BYTES_MAX: usize = 200;

/// What an inode is (inode(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Something else: what it is called.
    Other(&'static str),
}

impl Kind {
    /// The kind in a mode.
    #[must_use]
    pub const fn of(mode: u32) -> Self {
        match mode & 0o170_000 {
            0o100_000 => Self::File,
            0o040_000 => Self::Directory,
            0o120_000 => Self::Other("a symbolic link"),
            0o010_000 => Self::Other("a pipe"),
            0o140_000 => Self::Other("a socket"),
            0o020_000 | 0o060_000 => Self::Other("a device"),
            _ => Self::Other("of no known kind"),
        }
    }
}

/// What the kernel says of a file that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// What it is.
    pub kind: Kind,
    /// Names it has.
    pub links: u64,
    /// Its size.
    pub size: u64,
    /// Bytes it takes on the disk.
    pub allocated: u64,
}

/// Why a file does not become an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It is no regular file.
    Kind(&'static str),
    /// It has more names than the one: another may be anywhere.
    Links(u64),
    /// Too much of it is holes.
    Holes,
    /// A process may write to it.
    Writer,
    /// It was changed while it was read.
    Changed,
    /// It belongs to a user of the zone other than root, and only root's can be watched for writers.
    Owner,
    /// Its mode lets nobody read it, or its directory.
    Unreadable,
    /// No object can have its name.
    Name(&'static str),
    /// It is too far down.
    Deep,
    /// It is larger than an object may be.
    Large,
    /// The object that it would replace is locked.
    Locked,
    /// The bucket that it would be in is another account's.
    Bucket,
    /// The disk, or something else that the file is not to blame for.
    Failed(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "it is {kind}: only files become objects"),
            Self::Links(count) => write!(f, "it has {count} names: remove the others"),
            Self::Holes => write!(f, "it is mostly holes: an object has none"),
            Self::Writer => write!(f, "a process has it open for writing: close it"),
            Self::Changed => write!(f, "it changed while it was read: publish again"),
            Self::Owner => write!(f, "it is not root's: change its owner"),
            Self::Unreadable => write!(f, "its mode forbids its owner to read it"),
            Self::Name(why) => write!(f, "no object can have its name: {why}"),
            Self::Deep => write!(f, "it is too many directories down"),
            Self::Large => write!(f, "it is larger than an object may be"),
            Self::Locked => write!(f, "the object of that name is locked"),
            Self::Bucket => {
                write!(f, "its bucket is another account's: give the zone another output")
            }
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// Whether a file may become an object, given how many bytes of holes may still be read; how many of
/// those it takes.
///
/// # Errors
/// [`Refusal`].
pub const fn judge(facts: &Facts, holes_left: u64, size_max: u64) -> Result<u64, Refusal> {
    match facts.kind {
        Kind::File => {}
        Kind::Directory => return Err(Refusal::Kind("a directory")),
        Kind::Other(kind) => return Err(Refusal::Kind(kind)),
    }
    if facts.links != 1 {
        return Err(Refusal::Links(facts.links));
    }
    let holes = facts.size.saturating_sub(facts.allocated);
    if holes > holes_left {
        return Err(Refusal::Holes);
    }
    if facts.size > size_max {
        return Err(Refusal::Large);
    }
    Ok(holes)
}

/// The name that an object gets for a file of this name, below the directory's.
///
/// # Errors
/// [`Refusal::Name`].
pub fn check_name(name: &[u8], path_bytes: usize, path_bytes_max: usize) -> Result<&str, Refusal> {
    let text = std::str::from_utf8(name).map_err(|_| Refusal::Name("it is not UTF-8"))?;
    if path_bytes > path_bytes_max {
        return Err(Refusal::Name("its path is too long"));
    }
    Ok(text)
}

/// A line about a file that was refused, for people: on one line whatever its name is.
#[must_use]
pub fn line(path: &[u8], refusal: &Refusal) -> String {
    let mut name = path.escape_ascii().to_string();
    if name.len() > SHOWN_BYTES_MAX {
        name.truncate(SHOWN_BYTES_MAX);
        name.push('…');
    }
    format!("{name}: {refusal}")
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn file() -> Facts {
        Facts { kind: Kind::File, links: 1, size: 5000, allocated: 8192 }
    }

    #[test]
    fn only_files_of_one_name_with_their_bytes_on_disk_become_objects() {
        let judged = |facts| judge(&facts, 100, 1 << 40);
        assert_eq!(judged(file()), Ok(0));
        assert_eq!(judged(Facts { links: 2, ..file() }), Err(Refusal::Links(2)));
        assert_eq!(judged(Facts { links: 0, ..file() }), Err(Refusal::Links(0)));
        assert_eq!(judged(Facts { size: 8292, ..file() }), Ok(100));
        assert_eq!(judged(Facts { size: 8293, ..file() }), Err(Refusal::Holes));
        assert_eq!(judged(Facts { size: 1 << 50, ..file() }), Err(Refusal::Holes));
        let large = Facts { size: 2 << 40, allocated: 2 << 40, ..file() };
        assert_eq!(judged(large), Err(Refusal::Large));
        for (mode, kind) in
            [(0o010_644, "a pipe"), (0o020_644, "a device"), (0o140_644, "a socket")]
        {
            let facts = Facts { kind: Kind::of(mode), ..file() };
            assert_eq!(judged(facts), Err(Refusal::Kind(kind)));
        }
    }

    proptest! {
        #[test]
        fn a_line_is_one_line_and_short(path in proptest::collection::vec(any::<u8>(), 0..400)) {
            let line = line(&path, &Refusal::Writer);
            prop_assert!(line.bytes().all(|byte| byte >= b' ') && line.len() < 300, "{}", line);
        }
    }
}
