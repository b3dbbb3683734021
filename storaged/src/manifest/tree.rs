//! From objects in the order of their names to a tree of files: which directories are entered and left.

use super::names::{beside_directory, shown};
use erofs::{Error, Meta, Stream, Time, Written};
use std::io::{Seek, Write};

/// The attributes by which an overlay finds a file's bytes in the layer below
/// (`Documentation/filesystems/overlayfs.rst`, "Data-only lower layers").
const METACOPY: &[u8] = b"trusted.overlay.metacopy";
const REDIRECT: &[u8] = b"trusted.overlay.redirect";
/// Of a `struct ovl_metacopy`: version 0, 36 bytes in all, no flags, SHA-256.
const METACOPY_HEAD: [u8; 4] = [0, 36, 0, 1];

/// What anyone in a zone may do with files and directories.
const FILE_MODE: u16 = 0o444;
const DIRECTORY_MODE: u16 = 0o555;

/// Where the bytes of an object are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bytes<'a> {
    /// Here.
    Here(&'a [u8]),
    /// In a file of the layer below.
    Below {
        /// The file's path in it, from its root.
        path: String,
        /// How many.
        size: u64,
        /// What the file measures (fs-verity).
        digest: [u8; 32],
    },
}

/// A manifest being written.
pub struct Growing<W> {
    stream: Stream<W>,
    /// The directories that are open, as their components are in the names of objects.
    open: Vec<Vec<u8>>,
    objects: u64,
}

impl<W: Write + Seek> Growing<W> {
    /// A manifest of nothing yet.
    ///
    /// # Errors
    /// [`Error`].
    pub fn begin(out: W) -> Result<Self, Error> {
        let root = Meta::of_mode(DIRECTORY_MODE);
        let stream = Stream::begin(out, &root)?.renaming(beside_directory);
        Ok(Self { stream, open: Vec::new(), objects: 0 })
    }

    /// Adds an object, whose name comes after those of all before it, byte by byte.
    ///
    /// # Errors
    /// [`Error`].
    pub fn add(&mut self, name: &[u8], modified_ms: u64, bytes: &Bytes<'_>) -> Result<(), Error> {
        let mut parts: Vec<&[u8]> = name.split(|&byte| byte == b'/').collect();
        let file = parts.pop().expect("a split has at least one part");
        self.go_to(&parts)?;
        self.objects += 1;
        // It stands for its directory, which is there now.
        if file.is_empty() && *bytes == Bytes::Here(b"") {
            return Ok(());
        }
        let mut meta = Meta { modified: time(modified_ms), ..Meta::of_mode(FILE_MODE) };
        let file = shown(file);
        match bytes {
            Bytes::Here(here) => {
                self.stream.file(&file, &meta, 1, here.len() as u64, &mut &**here)?;
            }
            Bytes::Below { path, size, digest } => {
                let metacopy = [&METACOPY_HEAD[..], digest].concat();
                meta.attributes = vec![
                    (METACOPY.to_vec(), metacopy),
                    (REDIRECT.to_vec(), path.as_bytes().to_vec()),
                ];
                self.stream.absent(&file, &meta, 1, *size)?;
            }
        }
        Ok(())
    }

    /// Leaves the directories that the next object is not in, and enters those that it is.
    fn go_to(&mut self, parts: &[&[u8]]) -> Result<(), Error> {
        let shared = self.open.iter().zip(parts).take_while(|(open, part)| open == *part).count();
        while self.open.len() > shared {
            self.stream.leave()?;
            self.open.pop();
        }
        for part in &parts[shared..] {
            self.stream.enter(&shown(part), &Meta::of_mode(DIRECTORY_MODE))?;
            self.open.push(part.to_vec());
        }
        Ok(())
    }

    /// Ends it: the output, how many objects it names, and how large it is.
    ///
    /// # Errors
    /// [`Error`].
    pub fn finish(self) -> Result<(W, u64, Written), Error> {
        let (out, written) = self.stream.finish()?;
        Ok((out, self.objects, written))
    }
}

fn time(ms: u64) -> Time {
    let nanoseconds = u32::try_from(ms % 1000).expect("it is below 1000") * 1_000_000;
    Time { seconds: (ms / 1000).cast_signed(), nanoseconds }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::io::Cursor;

    proptest! {
        /// Whatever the keys are, in whatever way they get in each other's way: all are shown.
        #[test]
        fn any_keys_make_a_tree(
            names in proptest::collection::btree_set("[a%=/.\0-]{1,8}", 0..60), empty: bool
        ) {
            let names: BTreeSet<String> = names;
            let mut growing = Growing::begin(Cursor::new(Vec::new())).unwrap();
            for name in &names {
                let bytes: &[u8] = if empty { b"" } else { b"bytes" };
                growing.add(name.as_bytes(), 1, &Bytes::Here(bytes)).unwrap();
            }
            let (out, objects, written) = growing.finish().unwrap();
            prop_assert_eq!(objects, names.len() as u64);
            let mut files = names.len();
            if empty {
                files -= names.iter().filter(|name| name.ends_with('/')).count();
            }
            let directories: BTreeSet<&str> = names
                .iter()
                .flat_map(|name| name.match_indices('/').map(|(at, _)| &name[..at]))
                .collect();
            // And the root.
            prop_assert_eq!(written.inodes, (files + directories.len() + 1) as u64);
            let parsed = erofs::superblock::parse(&out.into_inner()).unwrap();
            prop_assert_eq!(parsed.inodes, written.inodes);
        }
    }
}
