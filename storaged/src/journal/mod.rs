//! The journal: the truth of the store, an append-only sequence of batches in segments.
//!
//! ```text
//!   append ─▶ write at the end ─▶ fdatasync ─▶ acknowledged
//!              │ no space: cut back to the end, refuse the batch, go on
//!              └ anything else, or a failed sync: fail for good
//!   recover ─▶ segments from the applied sequence on, each record chained to the one before
//!              broken and nothing follows: torn, cut off     broken and a record follows: damage, refused
//! ```
//! A batch is one record, written only when the one before is on disk, so what a crash leaves is a whole
//! number of batches and at most one torn record at the very end. Segments are kept until a snapshot covers them.

mod disk;
#[cfg(test)]
pub(crate) mod simulation;

pub use disk::{Disk, RealDisk, SEGMENT_SUFFIX, SNAPSHOT_SUFFIX, SegmentFile};

use crate::format::{
    Batch, DecodeError, Found, SEGMENT_HEADER_BYTES, SegmentHeader, encode_record, find_record,
    read_record,
};
use crate::index::Changes;
use crate::store::Durability;
use crate::store::errno::{Doing, Verdict, verdict};
use std::io;
use thiserror::Error;
use uuid::Uuid;

/// Bytes after which a new segment is begun: small enough to be read into memory at recovery.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// Why a journal can't be recovered.
#[derive(Debug, Error)]
pub enum RecoverError {
    /// The disk failed.
    #[error("could not {doing} segment {segment:016x} of the journal")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Which segment.
        segment: u64,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A record, with more records after it, is not what was written.
    #[error(
        "the journal is damaged: segment {segment:016x} at byte {offset}, and records follow; \
         acknowledged changes are lost, restore the store from a copy"
    )]
    Damaged {
        /// Which segment.
        segment: u64,
        /// Where in it.
        offset: usize,
    },
    /// A record or a segment that should be there is not.
    #[error(
        "the journal misses what follows sequence {after}: {what}; acknowledged changes are lost, \
         restore the store from a copy"
    )]
    Missing {
        /// The last sequence that is there.
        after: u64,
        /// How it is known.
        what: &'static str,
    },
    /// Written by a later release.
    #[error("segment {segment:016x} of the journal can't be read by this release")]
    Version {
        /// Which segment.
        segment: u64,
        /// What the codec says.
        #[source]
        source: DecodeError,
    },
    /// The replay failed.
    #[error("could not replay the journal")]
    Replay(#[source] crate::index::IndexError),
}

/// Why a batch is not in the journal.
#[derive(Debug, Error)]
pub enum AppendError {
    /// No space; the journal is as it was.
    #[error("the journal has no space left")]
    Full,
    /// The disk failed. Whether the batch is on disk is unknown until the next recovery.
    #[error("could not {doing} the journal: {source}")]
    Failed {
        /// What was tried.
        doing: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// An open journal.
pub struct Journal {
    disk: Box<dyn Disk>,
    durability: Durability,
    header: SegmentHeader,
    file: Box<dyn SegmentFile>,
    end: u64,
    sequence: u64,
    synced: bool,
    segment_bytes: u64,
    buffer: Vec<u8>,
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> AppendError {
    move |source| AppendError::Failed { doing, source }
}

impl Journal {
    /// The last sequence in it.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The name of the segment that is written to.
    #[must_use]
    pub fn segment(&self) -> u64 {
        self.header.after + 1
    }

    /// Begins new segments after so many bytes.
    pub fn set_segment_bytes(&mut self, bytes: u64) {
        self.segment_bytes = bytes.min(SEGMENT_BYTES_MAX);
    }

    /// Appends a batch that ends with `sequence`, and syncs it if the store is durable; the bytes it took.
    ///
    /// # Errors
    /// [`AppendError::Full`] leaves the journal as it was; after [`AppendError::Failed`] it must not be used.
    pub fn append(&mut self, sequence: u64, changes: &Changes) -> Result<u64, AppendError> {
        assert!(sequence > self.sequence, "sequences only grow");
        if self.end > self.segment_bytes {
            self.begin_segment()?;
        }
        self.buffer.clear();
        let batch = (self.sequence, sequence, changes);
        encode_record(&self.header, self.end, batch, &mut self.buffer);
        if let Err(source) = self.file.write_at(&self.buffer, self.end) {
            if verdict(Doing::Write, &source) != Verdict::Full {
                return Err(AppendError::Failed { doing: "write", source });
            }
            // What was written of the record is no record, and the next one is written over it and synced
            // before it counts: the cut need not be on disk before we go on.
            self.file.truncate(self.end).map_err(failed("cut back"))?;
            return Err(AppendError::Full);
        }
        self.synced = false;
        if self.durability == Durability::Fsync {
            self.sync()?;
        }
        self.end += self.buffer.len() as u64;
        self.sequence = sequence;
        Ok(self.buffer.len() as u64)
    }

    /// Brings everything appended so far to disk.
    ///
    /// # Errors
    /// [`AppendError::Failed`]: the journal must not be used any more.
    pub fn sync(&mut self) -> Result<(), AppendError> {
        if !self.synced {
            self.file.sync().map_err(failed("sync"))?;
            self.synced = true;
        }
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<(), AppendError> {
        // A later segment on disk vouches for this one, however durable the store is told to be.
        self.sync()?;
        let (header, file) =
            make(&mut *self.disk, self.header.store, self.sequence, self.durability)?;
        (self.header, self.file, self.end) = (header, file, SEGMENT_HEADER_BYTES as u64);
        Ok(())
    }

    /// Opens the journal of a store whose index has applied everything up to `applied`, hands the batches
    /// after that to `replay`, and cuts off what a crash tore.
    ///
    /// # Errors
    /// When it is damaged or incomplete, or the disk or the replay fails.
    pub fn recover(
        disk: Box<dyn Disk>,
        store: Uuid,
        applied: u64,
        durability: Durability,
        replay: &mut dyn FnMut(&Batch) -> Result<(), crate::index::IndexError>,
    ) -> Result<Self, RecoverError> {
        let mut recovery = Recovery { disk, store, applied, sequence: 0 };
        let tail = recovery.run(replay)?;
        let sequence = recovery.sequence;
        if sequence < applied {
            return Err(RecoverError::Missing { after: sequence, what: "the index has more" });
        }
        let mut disk = recovery.disk;
        let io = |doing, segment| move |source| RecoverError::Io { doing, segment, source };
        let unsynced = durability == Durability::None;
        let (header, file, end) = match tail {
            Some(tail) if tail.header.unsynced == unsynced => {
                (tail.header, tail.file, tail.end as u64)
            }
            tail => {
                // An empty segment of the other kind makes way for one of the same name.
                if let Some(tail) = tail
                    && tail.header.after == sequence
                {
                    let name = sequence + 1;
                    disk.remove(name).map_err(io("remove", name))?;
                    disk.sync_names().map_err(io("sync the names with", name))?;
                }
                let (header, file) = make(&mut *disk, store, sequence, durability)
                    .map_err(|error| match error {
                        AppendError::Full => io::ErrorKind::StorageFull.into(),
                        AppendError::Failed { source, .. } => source,
                    })
                    .map_err(io("make", sequence + 1))?;
                (header, file, SEGMENT_HEADER_BYTES as u64)
            }
        };
        let buffer = Vec::new();
        let (synced, segment_bytes) = (true, SEGMENT_BYTES_MAX);
        Ok(Self { disk, durability, header, file, end, sequence, synced, segment_bytes, buffer })
    }
}

/// What can't be read of the journal, segment by segment; the end of the last one may be torn, and is not
/// looked for here.
pub(crate) fn damages(disk: &mut dyn Disk, store: Uuid) -> Vec<RecoverError> {
    let mut names = match disk.list() {
        Ok(names) => names,
        Err(source) => return vec![RecoverError::Io { doing: "list", segment: 0, source }],
    };
    names.sort_unstable();
    names.iter().filter_map(|&name| damage(disk, store, name).err()).collect()
}

fn damage(disk: &mut dyn Disk, store: Uuid, name: u64) -> Result<(), RecoverError> {
    let version = |source| RecoverError::Version { segment: name, source };
    let read = disk.open(name).and_then(|mut file| file.read());
    let bytes = read.map_err(|source| RecoverError::Io { doing: "read", segment: name, source })?;
    let header = SegmentHeader::decode(&bytes).map_err(version)?;
    let header = header.filter(|header| header.store == store && header.after == name - 1);
    let header = header.ok_or(RecoverError::Damaged { segment: name, offset: 0 })?;
    let mut offset = SEGMENT_HEADER_BYTES;
    loop {
        match read_record(&header, &bytes, offset).map_err(version)? {
            Found::Record(_, next) => offset = next,
            Found::End => return Ok(()),
            Found::Broken => return Err(RecoverError::Damaged { segment: name, offset }),
        }
    }
}

/// Makes the segment that follows `after`, on disk with its name.
fn make(
    disk: &mut dyn Disk,
    store: Uuid,
    after: u64,
    durability: Durability,
) -> Result<(SegmentHeader, Box<dyn SegmentFile>), AppendError> {
    let header = SegmentHeader { store, after, unsynced: durability == Durability::None };
    let made = disk.create(after + 1).and_then(|mut file| {
        file.write_at(&header.encode(), 0)?;
        Ok(file)
    });
    let mut file = match made {
        Ok(file) => file,
        Err(source) if verdict(Doing::Write, &source) == Verdict::Full => {
            match disk.remove(after + 1) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(AppendError::Failed { doing: "undo a segment of", source: error });
                }
                Ok(()) | Err(_) => return Err(AppendError::Full),
            }
        }
        Err(source) => return Err(AppendError::Failed { doing: "begin a segment of", source }),
    };
    file.sync().map_err(failed("sync a new segment of"))?;
    disk.sync_names().map_err(failed("sync the names of"))?;
    Ok((header, file))
}

/// The last segment, after recovery.
struct Tail {
    header: SegmentHeader,
    file: Box<dyn SegmentFile>,
    end: usize,
}

struct Recovery {
    disk: Box<dyn Disk>,
    store: Uuid,
    applied: u64,
    sequence: u64,
}

impl Recovery {
    fn run(
        &mut self,
        replay: &mut dyn FnMut(&Batch) -> Result<(), crate::index::IndexError>,
    ) -> Result<Option<Tail>, RecoverError> {
        let mut names = self.disk.list().map_err(|source| RecoverError::Io {
            doing: "list",
            segment: 0,
            source,
        })?;
        names.sort_unstable();
        let first = names.iter().rposition(|&name| name <= self.applied + 1);
        let Some(first) = first else {
            if names.is_empty() {
                return Ok(None);
            }
            let what = "the first segments are missing";
            return Err(RecoverError::Missing { after: self.applied, what });
        };
        // A segment that was being made when the power went has no header and no records: the one before
        // is the last. (When it is the very first one, there is none before.)
        let mut names = &names[..];
        if let Some((&last, before)) = names.split_last()
            && self.is_unborn(last)?
        {
            self.io("remove", last, |disk| disk.remove(last))?;
            names = before;
        }
        let first = first.min(names.len().saturating_sub(1));
        let mut tail = None;
        let names = &names[first..];
        for (at, &name) in names.iter().enumerate() {
            if at == 0 {
                self.sequence = name - 1;
            }
            tail = Some(self.segment(name, at + 1 == names.len(), replay)?);
        }
        Ok(tail)
    }

    fn io<T>(
        &mut self,
        doing: &'static str,
        segment: u64,
        act: impl FnOnce(&mut dyn Disk) -> io::Result<T>,
    ) -> Result<T, RecoverError> {
        act(&mut *self.disk).map_err(|source| RecoverError::Io { doing, segment, source })
    }

    fn is_unborn(&mut self, name: u64) -> Result<bool, RecoverError> {
        let bytes = self.io("read", name, |disk| disk.open(name)?.read())?;
        let header = SegmentHeader::decode(&bytes)
            .map_err(|source| RecoverError::Version { segment: name, source })?;
        Ok(header.is_none() && bytes.len() <= SEGMENT_HEADER_BYTES)
    }

    fn segment(
        &mut self,
        name: u64,
        last: bool,
        replay: &mut dyn FnMut(&Batch) -> Result<(), crate::index::IndexError>,
    ) -> Result<Tail, RecoverError> {
        let version = |source| RecoverError::Version { segment: name, source };
        let mut file = self.io("open", name, |disk| disk.open(name))?;
        let bytes = self.io("read", name, |_| file.read())?;
        let header = SegmentHeader::decode(&bytes)
            .map_err(version)?
            .filter(|header| header.store == self.store && header.after == name - 1)
            .ok_or(RecoverError::Damaged { segment: name, offset: 0 })?;
        if header.after != self.sequence {
            let what = "the next segment starts later";
            return Err(RecoverError::Missing { after: self.sequence, what });
        }
        let mut offset = SEGMENT_HEADER_BYTES;
        let mut broken = false;
        loop {
            match read_record(&header, &bytes, offset).map_err(version)? {
                Found::Record(batch, next) => {
                    if batch.previous != self.sequence || batch.sequence <= batch.previous {
                        return Err(RecoverError::Damaged { segment: name, offset });
                    }
                    if batch.sequence > self.applied {
                        replay(&batch).map_err(RecoverError::Replay)?;
                    }
                    self.sequence = batch.sequence;
                    offset = next;
                }
                Found::End => break,
                Found::Broken => {
                    broken = true;
                    break;
                }
            }
        }
        let follows = || find_record(&header, &bytes, offset + 1).is_some();
        if broken && (!last || (!header.unsynced && follows())) {
            return Err(RecoverError::Damaged { segment: name, offset });
        }
        if last {
            self.end(name, &mut *file, broken, offset)?;
        }
        Ok(Tail { header, file, end: offset })
    }

    /// Makes the end of the journal one to append to: cut off what is torn, and bring to disk what was
    /// read, since it may have been written but not synced by a process that was killed.
    fn end(
        &mut self,
        name: u64,
        file: &mut dyn SegmentFile,
        torn: bool,
        offset: usize,
    ) -> Result<(), RecoverError> {
        if torn {
            log::warn!(
                "journal segment {name:016x}: cut at byte {offset}: what follows is a batch that was never \
                 acknowledged"
            );
        }
        // Zeros that were written ahead go with it.
        self.io("cut", name, |_| file.truncate(offset as u64))?;
        self.io("sync", name, |_| file.sync())
    }
}

#[cfg(test)]
mod test;
