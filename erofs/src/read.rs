//! A reader for the tests alone: it follows the format from the superblock, as the kernel does, and checks
//! what it meets on the way.

use crate::BLOCK_BYTES;
use crate::record::{INODE_BYTES, SUPERBLOCK_AT};
use std::collections::BTreeMap;

/// A node as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) mode: u16,
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) modified: (i64, u32),
    pub(crate) links: u32,
    pub(crate) attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) number: u64,
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Directory,
    File(Vec<u8>),
    Absent(u64),
    Link(Vec<u8>),
    Device(u32),
}

pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    fn bytes(&self, at: u64, count: usize) -> &[u8] {
        let at = usize::try_from(at).unwrap();
        &self.0[at..at + count]
    }

    fn half(&self, at: u64) -> u16 {
        u16::from_le_bytes(self.bytes(at, 2).try_into().unwrap())
    }

    fn word(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.bytes(at, 4).try_into().unwrap())
    }

    fn long(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.bytes(at, 8).try_into().unwrap())
    }

    /// Every path with what is there.
    pub(crate) fn all(&self) -> BTreeMap<Vec<u8>, Found> {
        let root = u64::from(self.half(SUPERBLOCK_AT as u64 + 14));
        let mut all = BTreeMap::new();
        self.walk(b"", root, root, &mut all);
        all
    }

    fn walk(&self, path: &[u8], number: u64, parent: u64, all: &mut BTreeMap<Vec<u8>, Found>) {
        let found = self.inode(number);
        if found.what == What::Directory {
            let entries = self.entries(number);
            let names: Vec<&Vec<u8>> = entries.iter().map(|(name, ..)| name).collect();
            assert!(names.is_sorted_by(|one, other| one < other), "{names:?}");
            let mut directories = 0;
            for (name, inode, kind) in &entries {
                match name.as_slice() {
                    b"." => assert_eq!(*inode, number),
                    b".." => assert_eq!(*inode, parent),
                    name => {
                        let below = [path, b"/", name].concat();
                        self.walk(&below, *inode, number, all);
                        let mode = all[&below].mode;
                        assert_eq!(*kind, kind_of(mode));
                        directories += u32::from(*kind == 2);
                    }
                }
            }
            assert_eq!(found.links, 2 + directories);
        }
        all.insert(path.to_vec(), found);
    }

    fn inode(&self, number: u64) -> Found {
        let at = number * 32;
        let format = self.half(at);
        assert_eq!(format & 1, 1, "extended");
        let mode = self.half(at + 4);
        let size = self.long(at + 8);
        let what = match (mode & 0o170_000, format >> 1) {
            (0o040_000, _) => What::Directory,
            (0o100_000, 4) => {
                let bits = self.word(at + 16);
                assert!(size <= (BLOCK_BYTES as u64) << bits && bits < 32);
                assert_eq!(self.word(at + self.head(at)), u32::MAX);
                What::Absent(size)
            }
            (0o100_000, _) => What::File(self.data(number)),
            (0o120_000, _) => What::Link(self.data(number)),
            _ => What::Device(self.word(at + 16)),
        };
        Found {
            mode,
            user: self.word(at + 24),
            group: self.word(at + 28),
            modified: (self.long(at + 32).cast_signed(), self.word(at + 40)),
            links: self.word(at + 44),
            attributes: self.attributes(at),
            number,
            what,
        }
    }

    /// Bytes of the inode and its attributes.
    fn head(&self, at: u64) -> u64 {
        let count = u64::from(self.half(at + 2));
        INODE_BYTES as u64 + if count == 0 { 0 } else { 12 + 4 * (count - 1) }
    }

    fn attributes(&self, at: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let (mut from, end) = (at + INODE_BYTES as u64 + 12, at + self.head(at));
        let mut all = BTreeMap::new();
        while from < end {
            let (length, index) = (self.bytes(from, 1)[0], self.bytes(from + 1, 1)[0]);
            let size = self.half(from + 2);
            let prefix: &[u8] = match index {
                1 => b"user.",
                2 => b"system.posix_acl_access",
                3 => b"system.posix_acl_default",
                4 => b"trusted.",
                6 => b"security.",
                other => panic!("attribute {other}"),
            };
            let name = [prefix, self.bytes(from + 4, length.into())].concat();
            let value = self.bytes(from + 4 + u64::from(length), size.into()).to_vec();
            all.insert(name, value);
            from += (4 + u64::from(length) + u64::from(size)).next_multiple_of(4);
        }
        all
    }

    fn data(&self, number: u64) -> Vec<u8> {
        let at = number * 32;
        let size = usize::try_from(self.long(at + 8)).unwrap();
        let from = u64::from(self.word(at + 16)) * BLOCK_BYTES as u64;
        match self.half(at) >> 1 {
            0 => self.bytes(from, size).to_vec(),
            2 => {
                let tail = size % BLOCK_BYTES;
                assert!(tail > 0);
                let behind = at + self.head(at);
                let (first, last) = (behind, behind + tail as u64 - 1);
                let block = BLOCK_BYTES as u64;
                assert_eq!(first / block, last / block, "a tail lies in one block");
                [self.bytes(from, size - tail), self.bytes(behind, tail)].concat()
            }
            other => panic!("layout {other}"),
        }
    }

    fn entries(&self, number: u64) -> Vec<(Vec<u8>, u64, u8)> {
        let mut all = Vec::new();
        for block in self.data(number).chunks(BLOCK_BYTES) {
            let half = |at: usize| usize::from(u16::from_le_bytes([block[at], block[at + 1]]));
            let count = half(8) / 12;
            for entry in 0..count {
                let inode =
                    u64::from_le_bytes(block[entry * 12..entry * 12 + 8].try_into().unwrap());
                let from = half(entry * 12 + 8);
                let name = if entry + 1 < count {
                    &block[from..half((entry + 1) * 12 + 8)]
                } else {
                    block[from..].split(|byte| *byte == 0).next().unwrap()
                };
                all.push((name.to_vec(), inode, block[entry * 12 + 10]));
            }
        }
        all
    }
}

fn kind_of(mode: u16) -> u8 {
    match mode & 0o170_000 {
        0o100_000 => 1,
        0o040_000 => 2,
        0o020_000 => 3,
        0o060_000 => 4,
        0o010_000 => 5,
        0o140_000 => 6,
        0o120_000 => 7,
        other => panic!("mode {other:o}"),
    }
}
