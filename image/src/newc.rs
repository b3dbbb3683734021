//! Writes cpio archives in the "newc" format, as the kernel unpacks them for its first root.
//!
//! The same entries give the same bytes: sorted by path, one fixed time, inode numbers in order, owner
//! root. Device nodes are plain fields of the format, so nothing here needs privilege. It reads no file
//! and never compresses.

use std::collections::BTreeMap;
use thiserror::Error;

const MAGIC: &str = "070701";
const TRAILER: &str = "TRAILER!!!";
/// Names and contents start at multiples of this many bytes.
const ALIGNMENT: usize = 4;
/// The most bytes in one file: the format's size field has 32 bits.
const FILE_BYTES_MAX: u64 = u32::MAX as u64;

const TYPE_DIRECTORY: u32 = 0o040_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_SYMLINK: u32 = 0o120_000;
const TYPE_CHARACTER: u32 = 0o020_000;
const DIRECTORY_MODE: u32 = 0o755;

/// What can't be put into an archive.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NewcError {
    /// A path that is absolute, empty, or has empty, `.` or `..` parts.
    #[error(
        "{path:?} is no path for an archive: give it without a leading slash and without . or .."
    )]
    Path {
        /// The path as given.
        path: String,
    },
    /// Two entries of one name.
    #[error("{path:?} is in the archive twice")]
    Twice {
        /// The path as given.
        path: String,
    },
    /// A file over the format's limit.
    #[error("{path:?} has {bytes} bytes and the archive format ends at {FILE_BYTES_MAX}")]
    TooLarge {
        /// The path as given.
        path: String,
        /// Its size.
        bytes: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory { mode: u32 },
    File { mode: u32, content: Vec<u8> },
    Symlink { target: String },
    Character { mode: u32, major: u32, minor: u32 },
}

/// An archive being put together. Directories above an entry are made with mode 0755 where not given.
#[derive(Debug, Default)]
pub struct Archive {
    entries: BTreeMap<String, Node>,
}

impl Archive {
    /// An archive with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory; giving one again sets its mode.
    ///
    /// # Errors
    /// A bad path, or something else of that name.
    pub fn directory(&mut self, path: &str, mode: u32) -> Result<(), NewcError> {
        self.parents(path)?;
        match self.entries.insert(path.to_owned(), Node::Directory { mode }) {
            None | Some(Node::Directory { .. }) => Ok(()),
            Some(_) => Err(NewcError::Twice { path: path.to_owned() }),
        }
    }

    /// Adds a file.
    ///
    /// # Errors
    /// A bad path, a name given twice, or more than 4 GiB.
    pub fn file(
        &mut self,
        path: &str,
        mode: u32,
        content: impl Into<Vec<u8>>,
    ) -> Result<(), NewcError> {
        let content = content.into();
        if content.len() as u64 > FILE_BYTES_MAX {
            return Err(NewcError::TooLarge { path: path.to_owned(), bytes: content.len() as u64 });
        }
        self.add(path, Node::File { mode, content })
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// A bad path or a name given twice.
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<(), NewcError> {
        self.add(path, Node::Symlink { target: target.to_owned() })
    }

    /// Adds a character device node.
    ///
    /// # Errors
    /// A bad path or a name given twice.
    pub fn character(
        &mut self,
        path: &str,
        mode: u32,
        major: u32,
        minor: u32,
    ) -> Result<(), NewcError> {
        self.add(path, Node::Character { mode, major, minor })
    }

    /// The paths in it, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The archive as bytes; every entry gets `time` (seconds since 1970) as its time.
    #[must_use]
    pub fn to_bytes(&self, time: u32) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, (path, node)) in (1_u32..).zip(&self.entries) {
            write_entry(&mut out, number, path, node, time);
        }
        write_header(&mut out, &Fields { links: 1, ..Fields::default() }, TRAILER);
        out
    }

    fn add(&mut self, path: &str, node: Node) -> Result<(), NewcError> {
        self.parents(path)?;
        match self.entries.insert(path.to_owned(), node) {
            None => Ok(()),
            Some(_) => Err(NewcError::Twice { path: path.to_owned() }),
        }
    }

    fn parents(&mut self, path: &str) -> Result<(), NewcError> {
        let fine = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
        if !path.split('/').all(fine) {
            return Err(NewcError::Path { path: path.to_owned() });
        }
        for (end, _) in path.match_indices('/') {
            let parent = &path[..end];
            let node = self
                .entries
                .entry(parent.to_owned())
                .or_insert(Node::Directory { mode: DIRECTORY_MODE });
            if !matches!(node, Node::Directory { .. }) {
                return Err(NewcError::Twice { path: parent.to_owned() });
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Fields {
    inode: u32,
    mode: u32,
    links: u32,
    time: u32,
    bytes: u32,
    major: u32,
    minor: u32,
}

fn write_entry(out: &mut Vec<u8>, inode: u32, path: &str, node: &Node, time: u32) {
    let (mode, links, content, major, minor) = match node {
        Node::Directory { mode } => (TYPE_DIRECTORY | mode, 2, &[][..], 0, 0),
        Node::File { mode, content } => (TYPE_FILE | mode, 1, content.as_slice(), 0, 0),
        Node::Symlink { target } => (TYPE_SYMLINK | 0o777, 1, target.as_bytes(), 0, 0),
        Node::Character { mode, major, minor } => {
            (TYPE_CHARACTER | mode, 1, &[][..], *major, *minor)
        }
    };
    let bytes = u32::try_from(content.len()).expect("the size was checked when the file was added");
    write_header(out, &Fields { inode, mode, links, time, bytes, major, minor }, path);
    out.extend_from_slice(content);
    pad(out);
}

fn write_header(out: &mut Vec<u8>, fields: &Fields, name: &str) {
    let name_bytes = u32::try_from(name.len() + 1).expect("a path has less than 4 GiB");
    let (owner, group, device, check) = (0, 0, 0, 0);
    out.extend_from_slice(MAGIC.as_bytes());
    for field in [
        fields.inode,
        fields.mode,
        owner,
        group,
        fields.links,
        fields.time,
        fields.bytes,
        device,
        device,
        fields.major,
        fields.minor,
        name_bytes,
        check,
    ] {
        out.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    pad(out);
}

/// Fills up to [`ALIGNMENT`]; the kernel also wants an archive appended to another to start there.
pub fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn listed_by_cpio(archive: &[u8]) -> String {
        let mut child = Command::new("cpio")
            .args(["-itv", "--quiet", "--numeric-uid-gid"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cpio is installed");
        child.stdin.take().unwrap().write_all(archive).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn cpio_lists_what_was_put_in_with_parents_before_children() {
        let mut archive = Archive::new();
        archive.file("sbin/noded", 0o755, b"binary".to_vec()).unwrap();
        archive.character("dev/console", 0o600, 5, 1).unwrap();
        archive.symlink("bin", "sbin").unwrap();
        let listing = listed_by_cpio(&archive.to_bytes(0));
        let names: Vec<_> = listing.lines().map(|l| l.split_whitespace().last().unwrap()).collect();
        assert_eq!(names, ["sbin", "dev", "dev/console", "sbin", "sbin/noded"]);
        assert!(listing.contains("crw-------"), "{listing}");
        assert!(listing.contains("5,   1"), "{listing}");
    }

    #[test]
    fn the_order_of_adding_does_not_show() {
        let (mut one, mut two) = (Archive::new(), Archive::new());
        one.file("a", 0o644, b"1".to_vec()).unwrap();
        one.file("b/c", 0o644, b"2".to_vec()).unwrap();
        two.file("b/c", 0o644, b"2".to_vec()).unwrap();
        two.file("a", 0o644, b"1".to_vec()).unwrap();
        assert_eq!(one.to_bytes(7), two.to_bytes(7));
    }

    #[test]
    fn a_name_given_twice_is_refused() {
        let mut archive = Archive::new();
        archive.file("init", 0o755, Vec::new()).unwrap();
        let again = archive.symlink("init", "elsewhere");
        assert_eq!(again, Err(NewcError::Twice { path: "init".into() }));
        let below = archive.file("init/below", 0o644, Vec::new());
        assert_eq!(below, Err(NewcError::Twice { path: "init".into() }));
    }

    proptest! {
        #[test]
        fn paths_that_leave_the_archive_are_refused(path in "(/|\\.\\./|a//|\\./)[a-z]{0,3}") {
            prop_assert_eq!(
                Archive::new().file(&path, 0o644, Vec::new()),
                Err(NewcError::Path { path })
            );
        }

        #[test]
        fn everything_stays_aligned(name in "[a-z]{1,9}", content: Vec<u8>) {
            let mut archive = Archive::new();
            archive.file(&name, 0o644, content).unwrap();
            prop_assert_eq!(archive.to_bytes(0).len() % ALIGNMENT, 0);
        }
    }
}
