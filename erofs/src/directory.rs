//! The entries of a directory, gathered while what is in it is written, then packed into blocks.

use crate::BLOCK_BYTES;
use crate::error::{Error, shown};
use crate::record::Kind;
use std::ops::Range;

/// Bytes of an entry besides its name: inode, where the name is, kind.
const ENTRY_BYTES: usize = 12;

/// Gives what has the name of a directory another one.
pub(crate) type Rename = fn(&[u8]) -> Vec<u8>;

/// One entry; the names of all are in one text.
#[derive(Debug, Clone, Copy)]
struct Entry {
    name_at: usize,
    name_bytes: u8,
    kind: u8,
    inode: u64,
}

/// A directory whose contents are being written.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    names: Vec<u8>,
    entries: Vec<Entry>,
    /// Directories in it.
    pub(crate) directories: u32,
}

/// How a directory lies in its blocks.
#[derive(Debug)]
pub(crate) struct Packed {
    /// Which entries each block holds.
    blocks: Vec<Range<usize>>,
    /// Bytes in the last block.
    pub(crate) last_bytes: usize,
}

impl Packed {
    /// Its size: whole blocks, and the last one's.
    pub(crate) fn size(&self) -> u64 {
        (self.whole() * BLOCK_BYTES + self.last_bytes) as u64
    }

    /// Blocks before the last one.
    pub(crate) fn whole(&self) -> usize {
        self.blocks.len() - 1
    }
}

impl Entries {
    /// Adds an entry.
    pub(crate) fn add(&mut self, name: &[u8], kind: Kind, inode: u64) -> Result<(), Error> {
        check(name)?;
        self.push(name, kind, inode);
        self.directories += u32::from(kind == Kind::Directory);
        Ok(())
    }

    fn push(&mut self, name: &[u8], kind: Kind, inode: u64) {
        let name_bytes = u8::try_from(name.len()).expect("names are checked");
        let name_at = self.names.len();
        self.names.extend_from_slice(name);
        self.entries.push(Entry { name_at, name_bytes, kind: kind.entry(), inode });
    }

    fn name(&self, entry: &Entry) -> &[u8] {
        &self.names[entry.name_at..entry.name_at + usize::from(entry.name_bytes)]
    }

    /// Sorts them, with `.` and `..` among them, and says how they lie in blocks. Both point to 0 until
    /// they are set. What has the name of a directory beside it is renamed.
    pub(crate) fn pack(&mut self, rename: Option<Rename>) -> Result<Packed, Error> {
        self.push(b".", Kind::Directory, 0);
        self.push(b"..", Kind::Directory, 0);
        self.sort();
        if let Some(rename) = rename {
            self.part(rename)?;
        }
        let twin = |pair: &&[Entry]| self.name(&pair[0]) == self.name(&pair[1]);
        if let Some(pair) = self.entries.windows(2).find(twin) {
            return Err(Error::Twice { name: shown(self.name(&pair[0])) });
        }
        let entries = &self.entries;
        let (mut blocks, mut from, mut bytes) = (Vec::new(), 0, 0);
        for (number, entry) in entries.iter().enumerate() {
            let needed = ENTRY_BYTES + usize::from(entry.name_bytes);
            if bytes + needed > BLOCK_BYTES {
                blocks.push(from..number);
                (from, bytes) = (number, 0);
            }
            bytes += needed;
        }
        blocks.push(from..entries.len());
        Ok(Packed { blocks, last_bytes: bytes })
    }

    /// The kernel searches by bytes. Mostly they came in this order.
    fn sort(&mut self) {
        let Self { names, entries, .. } = self;
        let name =
            |entry: &Entry| &names[entry.name_at..entry.name_at + usize::from(entry.name_bytes)];
        entries.sort_by(|one, other| name(one).cmp(name(other)));
    }

    /// Renames what has the name of a directory beside it.
    fn part(&mut self, rename: Rename) -> Result<(), Error> {
        let directory = Kind::Directory.entry();
        let mut others = Vec::new();
        for at in 1..self.entries.len() {
            let pair = [self.entries[at - 1], self.entries[at]];
            let directories = pair.iter().filter(|entry| entry.kind == directory).count();
            if self.name(&pair[0]) == self.name(&pair[1]) && directories == 1 {
                others.push(if pair[0].kind == directory { at } else { at - 1 });
            }
        }
        for &at in &others {
            let name = rename(self.name(&self.entries[at]));
            check(&name)?;
            let name_bytes = u8::try_from(name.len()).expect("names are checked");
            let name_at = self.names.len();
            self.names.extend_from_slice(&name);
            let entry = &mut self.entries[at];
            (entry.name_at, entry.name_bytes) = (name_at, name_bytes);
        }
        if !others.is_empty() {
            self.sort();
        }
        Ok(())
    }

    /// Points an entry that is there elsewhere: `.`, `..`.
    pub(crate) fn point(&mut self, name: &[u8], inode: u64) {
        let found = self.find(name);
        self.entries[found].inode = inode;
    }

    /// Where the number of the inode that `name` leads to lies in the directory.
    pub(crate) fn place_of(&self, packed: &Packed, name: &[u8]) -> u64 {
        let found = self.find(name);
        let block = packed.blocks.partition_point(|range| range.end <= found);
        (block * BLOCK_BYTES + (found - packed.blocks[block].start) * ENTRY_BYTES) as u64
    }

    fn find(&self, name: &[u8]) -> usize {
        let found = self.entries.binary_search_by(|entry| self.name(entry).cmp(name));
        found.expect("it was packed")
    }

    /// The bytes of one block; all but the last are padded to a block's length.
    pub(crate) fn block(&self, packed: &Packed, number: usize) -> Vec<u8> {
        let entries = &self.entries[packed.blocks[number].clone()];
        let mut bytes = Vec::with_capacity(BLOCK_BYTES);
        let mut name_at = entries.len() * ENTRY_BYTES;
        for entry in entries {
            bytes.extend_from_slice(&entry.inode.to_le_bytes());
            let offset = u16::try_from(name_at).expect("it is within a block");
            bytes.extend_from_slice(&offset.to_le_bytes());
            bytes.extend_from_slice(&[entry.kind, 0]);
            name_at += usize::from(entry.name_bytes);
        }
        for entry in entries {
            bytes.extend_from_slice(self.name(entry));
        }
        if number < packed.whole() {
            bytes.resize(BLOCK_BYTES, 0);
        }
        bytes
    }
}

/// Whether a directory can hold this name.
pub(crate) fn check(name: &[u8]) -> Result<(), Error> {
    let refused = |why| Err(Error::Name { name: shown(name), why });
    match name {
        b"" => refused("it is empty"),
        b"." | b".." => refused("every directory has one of its own"),
        _ if name.len() > crate::NAME_BYTES_MAX => refused("it is longer than 255 bytes"),
        _ if name.contains(&b'/') => refused("it has a slash"),
        _ if name.contains(&0) => refused("it has a zero byte"),
        _ => Ok(()),
    }
}
