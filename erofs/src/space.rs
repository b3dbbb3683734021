//! The blocks of an image: which are taken, and the few that are being filled.

use crate::BLOCK_BYTES;
use crate::error::Error;
use crate::record::SLOT_BYTES;
use std::io::{Seek, SeekFrom, Write};

/// Blocks of inodes that are filled at once: the more, the less is left empty.
const OPEN_MAX: usize = 16;
/// A block with less room than this is as good as full: the smallest inode takes so much.
const ROOM_MIN: usize = crate::record::INODE_BYTES;

/// A block that is being filled.
struct Open {
    number: u32,
    bytes: Vec<u8>,
}

/// The output.
pub(crate) struct Space<W> {
    out: W,
    /// Where the output stands.
    at: u64,
    next: u32,
    open: Vec<Open>,
}

impl<W: Write + Seek> Space<W> {
    /// With the first `taken` blocks left to whoever asks, from the start of the output.
    pub(crate) fn new(out: W, taken: u32) -> Self {
        // The output may stand anywhere.
        Self { out, at: u64::MAX, next: taken, open: Vec::new() }
    }

    /// Blocks taken so far.
    pub(crate) fn blocks(&self) -> u32 {
        self.next
    }

    /// Takes so many blocks in a row.
    pub(crate) fn take(&mut self, count: u64) -> Result<u32, Error> {
        let first = self.next;
        let next = u32::try_from(u64::from(first) + count).map_err(|_| Error::Large)?;
        if next == u32::MAX {
            return Err(Error::Large);
        }
        self.next = next;
        Ok(first)
    }

    /// Room for an inode and what follows it, in one block if one can hold it: where it starts. What is
    /// there is zero until it is set.
    pub(crate) fn place(&mut self, bytes: usize) -> Result<u64, Error> {
        if bytes > BLOCK_BYTES {
            let blocks = bytes.div_ceil(BLOCK_BYTES);
            let start = byte_of(self.take(blocks as u64)?);
            self.write(start, &vec![0; blocks * BLOCK_BYTES])?;
            return Ok(start);
        }
        let fitting = self.open.iter_mut().filter(|open| room(open) >= bytes);
        if let Some(open) = fitting.min_by_key(|open| (room(open), open.number)) {
            return Ok(put(open, bytes));
        }
        self.open.sort_by_key(|open| (room(open), open.number));
        while self.open.len() >= OPEN_MAX || self.open.first().is_some_and(|o| room(o) < ROOM_MIN) {
            let open = self.open.remove(0);
            self.write_open(open)?;
        }
        let mut open = Open { number: self.take(1)?, bytes: Vec::with_capacity(BLOCK_BYTES) };
        let start = put(&mut open, bytes);
        self.open.push(open);
        Ok(start)
    }

    /// Sets bytes that were taken.
    pub(crate) fn set(&mut self, start: u64, bytes: &[u8]) -> Result<(), Error> {
        let holds = |open: &&mut Open| {
            let first = byte_of(open.number);
            start >= first && start < first + BLOCK_BYTES as u64
        };
        if let Some(open) = self.open.iter_mut().find(holds) {
            let at = usize::try_from(start - byte_of(open.number)).expect("it is within a block");
            open.bytes[at..at + bytes.len()].copy_from_slice(bytes);
            return Ok(());
        }
        self.write(start, bytes)
    }

    /// Writes what is still being filled; gives the output back.
    pub(crate) fn finish(mut self) -> Result<W, Error> {
        self.open.sort_by_key(|open| open.number);
        for open in std::mem::take(&mut self.open) {
            self.write_open(open)?;
        }
        self.out.flush().map_err(Error::io("write the image"))?;
        Ok(self.out)
    }

    fn write_open(&mut self, mut open: Open) -> Result<(), Error> {
        open.bytes.resize(BLOCK_BYTES, 0);
        self.write(byte_of(open.number), &open.bytes)
    }

    fn write(&mut self, start: u64, bytes: &[u8]) -> Result<(), Error> {
        let failed = Error::io("write the image");
        let mut go = || {
            if self.at != start {
                self.out.seek(SeekFrom::Start(start))?;
            }
            self.out.write_all(bytes)
        };
        let written = go();
        self.at = if written.is_ok() { start + bytes.len() as u64 } else { u64::MAX };
        written.map_err(failed)
    }
}

/// Where a block starts.
pub(crate) fn byte_of(block: u32) -> u64 {
    u64::from(block) * BLOCK_BYTES as u64
}

fn room(open: &Open) -> usize {
    BLOCK_BYTES - open.bytes.len().next_multiple_of(SLOT_BYTES)
}

fn put(open: &mut Open, bytes: usize) -> u64 {
    let at = open.bytes.len().next_multiple_of(SLOT_BYTES);
    open.bytes.resize(at + bytes, 0);
    byte_of(open.number) + at as u64
}
