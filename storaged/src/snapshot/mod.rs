//! Snapshots: the whole index in one checksummed file, so that the journal before it may go.
//!
//! ```text
//!   view of the index ─▶ unfinished ─▶ fsync ─▶ (the index persists as much) ─▶ renamed to its sequence
//!     ─▶ names synced ─▶ read back from the disk ─▶ older snapshots and covered segments go
//! ```
//! Until the new one has been read back the one before it and the whole journal after that are kept. A crash
//! leaves an unfinished file, which the next snapshot writes anew, or a segment too many.

mod keeper;

#[cfg(test)]
pub(crate) use keeper::Snapshots;
pub(crate) use keeper::{Keeper, Surroundings};

use crate::format::{
    CHUNK_HEADER_BYTES, ChunkWriter, SNAPSHOT_HEADER_BYTES, SnapshotDamage, SnapshotHeader,
    SnapshotReader,
};
use crate::index::{IndexError, View};
use crate::journal::{Disk, SegmentFile};
use std::io;
use std::ops::{Bound, ControlFlow};
use thiserror::Error;

/// The name of a snapshot that is being written: no sequence ever gets there.
pub const UNFINISHED: u64 = u64::MAX;

/// Bytes of journal after which a snapshot is made, unless the last one was larger: what a rebuild replays,
/// and at most half of all that is written for the index goes into snapshots.
pub const JOURNAL_BYTES: u64 = 256 << 20;

/// Why there is no snapshot, or not a usable one.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The disk failed.
    #[error("could not {doing} a snapshot")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It is not what was written.
    #[error("snapshot {sequence:016x} is damaged")]
    Damaged {
        /// Which.
        sequence: u64,
        /// How.
        #[source]
        source: SnapshotDamage,
    },
    /// The index could not be read, or not be filled.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The disk is too full for one.
    #[error("there is no room for a snapshot")]
    Full,
    /// The store takes no changes any more.
    #[error("the store is read-only or ending")]
    Ending,
}

fn at(doing: &'static str) -> impl FnOnce(io::Error) -> SnapshotError {
    move |source| SnapshotError::Io { doing, source }
}

/// The snapshots that are there, oldest first; the unfinished one is none.
pub(crate) fn list(disk: &mut dyn Disk) -> io::Result<Vec<u64>> {
    let mut names = disk.list()?;
    names.retain(|&name| name != UNFINISHED);
    names.sort_unstable();
    Ok(names)
}

/// The segments that hold nothing after `sequence`: never the last one, which is written to.
pub(crate) fn covered(segments: &[u64], sequence: u64) -> &[u64] {
    // A segment ends where the next one begins.
    let count =
        segments.windows(2).take_while(|pair| pair[1] <= sequence.saturating_add(1)).count();
    &segments[..count]
}

/// Writes what a view holds to the unfinished snapshot, and brings it to disk. Asked before each chunk is
/// whether to go on.
pub(crate) fn write(
    disk: &mut dyn Disk,
    view: &dyn View,
    header: &SnapshotHeader,
    go_on: &dyn Fn() -> Result<(), SnapshotError>,
) -> Result<(), SnapshotError> {
    match disk.remove(UNFINISHED) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(at("remove an unfinished")(error));
        }
        Ok(()) | Err(_) => {}
    }
    let mut file = disk.create(UNFINISHED).map_err(at("make"))?;
    file.write_at(&header.encode(), 0).map_err(at("write"))?;
    let (mut chunk, mut end) = (ChunkWriter::default(), SNAPSHOT_HEADER_BYTES as u64);
    let mut put = |chunk: &mut ChunkWriter| {
        go_on()?;
        let bytes = chunk.close(header, end);
        file.write_at(&bytes, end).map_err(at("write"))?;
        end += bytes.len() as u64;
        Ok(())
    };
    let mut result: Result<(), SnapshotError> = Ok(());
    view.range(Bound::Unbounded, Bound::Unbounded, &mut |key, value| {
        if chunk.add(key, value) {
            result = put(&mut chunk);
        }
        if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    result?;
    if !chunk.is_empty() {
        put(&mut chunk)?;
    }
    put(&mut chunk)?;
    file.sync().map_err(at("sync"))
}

/// What is shown the entries of a snapshot, a chunk at a time.
pub(crate) type Show<'a> = dyn FnMut(Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), SnapshotError> + 'a;

/// Reads a snapshot from the disk and shows its entries, chunk by chunk; how many there were.
pub(crate) fn read(
    disk: &mut dyn Disk,
    expected: SnapshotHeader,
    show: &mut Show<'_>,
) -> Result<u64, SnapshotError> {
    let damaged = |source| SnapshotError::Damaged { sequence: expected.sequence, source };
    let mut file = disk.open(expected.sequence).map_err(at("open"))?;
    // What it looks like in memory says nothing about the disk.
    file.forget().map_err(at("read back"))?;
    let head = read_some(&mut *file, 0, SNAPSHOT_HEADER_BYTES)?;
    if SnapshotHeader::decode(&head).map_err(damaged)? != expected {
        return Err(damaged(SnapshotDamage::Header));
    }
    let mut reader = SnapshotReader::new(expected);
    loop {
        let offset = reader.offset();
        let head = read_some(&mut *file, offset, CHUNK_HEADER_BYTES)?;
        let head = reader.head(&head).map_err(damaged)?;
        let body = read_some(&mut *file, offset + CHUNK_HEADER_BYTES as u64, head.length)?;
        let mut entries = Vec::with_capacity(head.count.min(1 << 16) as usize);
        let more = reader.entries_of(head, &body, &mut |key, value| {
            entries.push((key.to_vec(), value.to_vec()));
        });
        if !more.map_err(damaged)? {
            break;
        }
        show(entries)?;
    }
    let (end, length) = (reader.offset(), file.length().map_err(at("look at"))?);
    if length != end {
        return Err(damaged(SnapshotDamage::Long { offset: end }));
    }
    Ok(reader.entries())
}

fn read_some(
    file: &mut dyn SegmentFile,
    offset: u64,
    count: usize,
) -> Result<Vec<u8>, SnapshotError> {
    let mut bytes = vec![0; count];
    let got = file.read_at(&mut bytes, offset).map_err(at("read"))?;
    bytes.truncate(got);
    Ok(bytes)
}

#[cfg(test)]
mod test;
