//! An image written as its files come: a directory is entered, filled and left.
//!
//! ```text
//!   begin ─▶ enter "a" ─▶ file, absent, link … ─▶ leave ─▶ file … ─▶ finish
//! ```
//! Of what was written, only the names in the directories still open are kept in memory.

mod reserve;

pub use reserve::Reserved;

use crate::directory::{self, Entries, Rename};
use crate::error::Error;
use crate::meta::{Device, Meta, attributes};
use crate::record::{
    INODE_BYTES, InodeRecord, Kind, Layout, NO_BLOCK, SLOT_BYTES, SUPERBLOCK_AT, SUPERBLOCK_BYTES,
    SuperblockRecord,
};
use crate::space::{Space, byte_of};
use crate::{ABSENT_BYTES_MAX, BLOCK_BYTES, LINK_BYTES_MAX};
use std::io::{Read, Seek, Write};

/// Where the root's inode is: the superblock has 16 bits for it, so it must be near the start.
const ROOT_AT: usize = SUPERBLOCK_AT + SUPERBLOCK_BYTES;
/// Blocks of a file copied at once.
const COPY_BLOCKS: usize = 64;

/// An inode that was written, to be given a further name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode {
    number: u64,
    kind: Kind,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The image's size.
    pub bytes: u64,
    /// Its inodes.
    pub inodes: u64,
}

/// A directory that was entered and not left.
struct Open {
    name: Vec<u8>,
    meta: Meta,
    entries: Entries,
    /// Where the `..` of each directory in it has its inode's number.
    parents: Vec<u64>,
}

/// An image being written.
pub struct Stream<W> {
    space: Space<W>,
    /// The first block, written last.
    first: Vec<u8>,
    open: Vec<Open>,
    inodes: u64,
    chunks: bool,
    buffer: Vec<u8>,
    rename: Option<Rename>,
}

impl<W: Write + Seek> Stream<W> {
    /// Begins an image at the start of `out`, which is empty, with this root.
    ///
    /// # Errors
    /// [`Error::Attribute`] if the root's do not fit the first block.
    pub fn begin(out: W, root: &Meta) -> Result<Self, Error> {
        if ROOT_AT + INODE_BYTES + attributes(root)?.len() > BLOCK_BYTES {
            let name = "of the root".to_owned();
            return Err(Error::Attribute { name, why: "they do not fit the first block" });
        }
        Ok(Self {
            space: Space::new(out, 1),
            first: vec![0; BLOCK_BYTES],
            open: vec![Open::new(b"", root)],
            inodes: 0,
            chunks: false,
            buffer: Vec::new(),
            rename: None,
        })
    }

    /// From here on, whatever has the name of a directory beside it is called as `rename` says; it comes
    /// to light when the directory above is left.
    #[must_use]
    pub fn renaming(mut self, rename: fn(&[u8]) -> Vec<u8>) -> Self {
        self.rename = Some(rename);
        self
    }

    /// Begins a directory; what follows is in it.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Attribute`].
    pub fn enter(&mut self, name: &[u8], meta: &Meta) -> Result<(), Error> {
        directory::check(name)?;
        attributes(meta)?;
        self.open.push(Open::new(name, meta));
        Ok(())
    }

    /// How many directories are entered and not left, the root aside.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.open.len() - 1
    }

    /// Ends the directory entered last.
    ///
    /// # Errors
    /// [`Error::Twice`], [`Error::Io`], [`Error::Kind`] if there is none but the root.
    pub fn leave(&mut self) -> Result<(), Error> {
        if self.depth() == 0 {
            let name = "/".to_owned();
            return Err(Error::Kind { name, is: "the root, which is left last" });
        }
        let mut open = self.open.pop().expect("there is more than the root");
        let packed = open.entries.pack(self.rename)?;
        let extra = attributes(&open.meta)?;
        let head = INODE_BYTES + extra.len();
        let inline = head + packed.last_bytes <= BLOCK_BYTES;
        let place = self.space.place(head + if inline { packed.last_bytes } else { 0 })?;
        let number = place / SLOT_BYTES as u64;
        open.entries.point(b".", number);
        let blocks = packed.whole() + usize::from(!inline);
        let first = self.put_directory(&open.entries, &packed, blocks)?;
        if inline {
            let last = open.entries.block(&packed, packed.whole());
            self.space.set(place + head as u64, &last)?;
        }
        let layout = if inline { Layout::Tail { first } } else { Layout::Blocks { first } };
        let record = open.record(layout, packed.size(), extra.len(), self.count());
        self.space.set(place, &[&record[..], &extra].concat())?;
        for parent in &open.parents {
            self.space.set(*parent, &number.to_le_bytes())?;
        }
        let at = open.entries.place_of(&packed, b"..");
        let whole = (packed.whole() * BLOCK_BYTES) as u64;
        let parent = match at.checked_sub(whole).filter(|_| inline) {
            Some(within) => place + head as u64 + within,
            None => byte_of(first) + at,
        };
        let above = self.open.last_mut().expect("the root is never left");
        above.parents.push(parent);
        above.entries.add(&open.name, Kind::Directory, number)
    }

    /// Adds a file of `size` bytes, which are taken from `contents`, that has `links` names in all.
    ///
    /// # Errors
    /// [`Error`].
    pub fn file(
        &mut self,
        name: &[u8],
        meta: &Meta,
        links: u32,
        size: u64,
        contents: &mut dyn Read,
    ) -> Result<Inode, Error> {
        directory::check(name)?;
        let head = INODE_BYTES + attributes(meta)?.len();
        let rest = usize::try_from(size % BLOCK_BYTES as u64).expect("it is below a block");
        let inline = rest > 0 && head + rest <= BLOCK_BYTES;
        let blocks =
            if inline { size / BLOCK_BYTES as u64 } else { size.div_ceil(BLOCK_BYTES as u64) };
        let first = self.space.take(blocks)?;
        let whole = (blocks * BLOCK_BYTES as u64).min(size);
        self.copy(name, first, whole, size, contents)?;
        let mut tail = vec![0; if inline { rest } else { 0 }];
        fill(name, contents, &mut tail, whole, size)?;
        let layout = if inline { Layout::Tail { first } } else { Layout::Blocks { first } };
        self.settle(name, meta, Kind::File, (layout, size, links), &tail)
    }

    /// Adds a file with `links` names in all that has a size and no bytes here: reading it gives zeros.
    ///
    /// # Errors
    /// [`Error::Absent`] if it is too large; [`Error`].
    pub fn absent(
        &mut self,
        name: &[u8],
        meta: &Meta,
        links: u32,
        size: u64,
    ) -> Result<Inode, Error> {
        let most = ABSENT_BYTES_MAX;
        if size > most {
            return Err(Error::Absent { size, most });
        }
        if size == 0 {
            let layout = Layout::Blocks { first: 0 };
            return self.settle(name, meta, Kind::File, (layout, 0, links), &[]);
        }
        self.chunks = true;
        let blocks = size.div_ceil(BLOCK_BYTES as u64).next_power_of_two();
        let bits = u8::try_from(blocks.trailing_zeros()).expect("it is below 64");
        let one = NO_BLOCK.to_le_bytes();
        self.settle(name, meta, Kind::File, (Layout::Chunks { bits }, size, links), &one)
    }

    /// Adds a symbolic link with `links` names in all.
    ///
    /// # Errors
    /// [`Error::Link`]; [`Error`].
    pub fn symlink(
        &mut self,
        name: &[u8],
        meta: &Meta,
        links: u32,
        target: &[u8],
    ) -> Result<Inode, Error> {
        if target.is_empty() || target.len() > LINK_BYTES_MAX {
            return Err(Error::Link { bytes: target.len(), most: LINK_BYTES_MAX });
        }
        directory::check(name)?;
        let (size, head) = (target.len() as u64, INODE_BYTES + attributes(meta)?.len());
        if head + target.len() <= BLOCK_BYTES {
            let layout = Layout::Tail { first: 0 };
            return self.settle(name, meta, Kind::Link, (layout, size, links), target);
        }
        let first = self.space.take(1)?;
        self.copy(name, first, size, size, &mut &*target)?;
        self.settle(name, meta, Kind::Link, (Layout::Blocks { first }, size, links), &[])
    }

    /// Adds a device, a pipe or a socket with `links` names in all.
    ///
    /// # Errors
    /// [`Error::Device`]; [`Error`].
    pub fn device(
        &mut self,
        name: &[u8],
        meta: &Meta,
        links: u32,
        device: Device,
    ) -> Result<Inode, Error> {
        let kind = match device {
            Device::Character { .. } => Kind::Character,
            Device::Block { .. } => Kind::Block,
            Device::Fifo => Kind::Fifo,
            Device::Socket => Kind::Socket,
        };
        let layout = Layout::Device { packed: device.packed()? };
        self.settle(name, meta, kind, (layout, 0, links), &[])
    }

    /// Gives what was written a further name, which it was counted with.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn name(&mut self, name: &[u8], inode: Inode) -> Result<(), Error> {
        self.here().entries.add(name, inode.kind, inode.number)
    }

    /// Leaves every directory and ends the image; gives the output back.
    ///
    /// # Errors
    /// [`Error`].
    pub fn finish(mut self) -> Result<(W, Written), Error> {
        while self.depth() > 0 {
            self.leave()?;
        }
        let mut root = self.open.pop().expect("the root is never left");
        let number = (ROOT_AT / SLOT_BYTES) as u64;
        let packed = root.entries.pack(self.rename)?;
        root.entries.point(b".", number);
        root.entries.point(b"..", number);
        let first = self.put_directory(&root.entries, &packed, packed.whole() + 1)?;
        for parent in &root.parents {
            self.space.set(*parent, &number.to_le_bytes())?;
        }
        let extra = attributes(&root.meta)?;
        let layout = Layout::Blocks { first };
        let record = root.record(layout, packed.size(), extra.len(), self.count());
        let root = [&record[..], &extra].concat();
        self.first[ROOT_AT..ROOT_AT + root.len()].copy_from_slice(&root);
        let superblock = SuperblockRecord {
            root: u16::try_from(number).expect("it is in the first block"),
            inodes: self.inodes,
            blocks: self.space.blocks(),
            chunks: self.chunks,
        };
        superblock.put_into(&mut self.first);
        self.space.set(0, &self.first)?;
        let bytes = byte_of(self.space.blocks());
        Ok((self.space.finish()?, Written { bytes, inodes: self.inodes }))
    }

    /// Writes the inode with what stands behind it, and enters it in its directory.
    fn settle(
        &mut self,
        name: &[u8],
        meta: &Meta,
        kind: Kind,
        (layout, size, links): (Layout, u64, u32),
        behind: &[u8],
    ) -> Result<Inode, Error> {
        directory::check(name)?;
        let extra = attributes(meta)?;
        let attribute_bytes = extra.len();
        let number = self.count();
        let record = InodeRecord { meta, kind, layout, size, links, number, attribute_bytes };
        let bytes = [&record.encode()[..], &extra, behind].concat();
        let place = self.space.place(bytes.len())?;
        self.space.set(place, &bytes)?;
        let inode = Inode { number: place / SLOT_BYTES as u64, kind };
        self.name(name, inode)?;
        Ok(inode)
    }

    /// Writes the first `count` blocks of a directory; the first one's number.
    fn put_directory(
        &mut self,
        entries: &Entries,
        packed: &directory::Packed,
        count: usize,
    ) -> Result<u32, Error> {
        let first = self.space.take(count as u64)?;
        for number in 0..count {
            let mut block = entries.block(packed, number);
            block.resize(BLOCK_BYTES, 0);
            self.space.set(byte_of(first) + (number * BLOCK_BYTES) as u64, &block)?;
        }
        Ok(first)
    }

    /// Copies a file's bytes into its blocks, the last one filled up with zeros.
    fn copy(
        &mut self,
        name: &[u8],
        first: u32,
        bytes: u64,
        size: u64,
        contents: &mut dyn Read,
    ) -> Result<(), Error> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut done = 0;
        while done < bytes {
            let piece = (bytes - done).min((COPY_BLOCKS * BLOCK_BYTES) as u64);
            let piece = usize::try_from(piece).expect("it is small");
            buffer.clear();
            buffer.resize(piece, 0);
            fill(name, contents, &mut buffer, done, size)?;
            buffer.resize(piece.next_multiple_of(BLOCK_BYTES), 0);
            self.space.set(byte_of(first) + done, &buffer)?;
            done += piece as u64;
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Counts one more inode.
    fn count(&mut self) -> u32 {
        self.inodes += 1;
        // It only matters to 32-bit programs that compare them; beyond 2³² they would meet twins.
        u32::try_from(self.inodes).unwrap_or(u32::MAX)
    }

    fn here(&mut self) -> &mut Open {
        self.open.last_mut().expect("the root is never left")
    }
}

impl Open {
    fn new(name: &[u8], meta: &Meta) -> Self {
        Self {
            name: name.to_vec(),
            meta: meta.clone(),
            entries: Entries::default(),
            parents: Vec::new(),
        }
    }

    fn record(&self, layout: Layout, size: u64, attribute_bytes: usize, number: u32) -> [u8; 64] {
        // Its name, its `.`, and the `..` of each directory in it.
        let links = 2 + self.entries.directories;
        let (meta, kind) = (&self.meta, Kind::Directory);
        InodeRecord { meta, kind, layout, size, links, number, attribute_bytes }.encode()
    }
}

/// Fills the buffer, or says how far a file's bytes went.
fn fill(
    name: &[u8],
    contents: &mut dyn Read,
    buffer: &mut [u8],
    before: u64,
    size: u64,
) -> Result<(), Error> {
    let mut got = 0;
    while got < buffer.len() {
        match contents.read(&mut buffer[got..]) {
            Ok(0) => return Err(Error::short(name, before + got as u64, size)),
            Ok(count) => got += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read a file's bytes")(error)),
        }
    }
    Ok(())
}
