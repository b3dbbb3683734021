//! Recovery: the index, brought up to the end of the journal, or made anew from snapshot and journal.
//!
//! ```text
//!   index sound ─▶ replay what it has not applied
//!   index missing, damaged, or older than the journal reaches back
//!     ─▶ a new one beside it: newest whole snapshot, then the journal after that ─▶ takes its place
//! ```

use super::{Durability, OpenError};
use crate::format::{Batch, SnapshotHeader};
use crate::index::{Changes, Index, IndexError, Persist, RedbIndex};
use crate::journal::{Disk, Journal, RealDisk, SEGMENT_SUFFIX, SNAPSHOT_SUFFIX};
use crate::snapshot::{self, SnapshotError};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Entries of a snapshot that are put into a new index before it is persisted: what redb keeps of a commit
/// that is not on disk is memory.
const REBUILD_PERSIST_ENTRIES: usize = 1 << 18;

/// Where the index is kept, and where a new one is made.
pub(crate) trait IndexPlace {
    /// The index, if there is one.
    ///
    /// # Errors
    /// When it can't be opened; [`IndexError::is_damage`] says whether a new one would help.
    fn open(&mut self) -> Result<Option<Box<dyn Index>>, IndexError>;
    /// An empty index beside it; one that was begun before is gone.
    fn begin(&mut self) -> Result<Box<dyn Index>, IndexError>;
    /// Lets the one that was begun take the place.
    fn install(&mut self) -> io::Result<()>;
}

/// What recovery works on.
pub(crate) struct Ground<'a> {
    pub(crate) store: Uuid,
    pub(crate) durability: Durability,
    pub(crate) journal: Box<dyn Disk>,
    pub(crate) snapshots: &'a mut dyn Disk,
    pub(crate) place: &'a mut dyn IndexPlace,
}

/// What is to be done about the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// It is there and the journal goes on from it.
    Replay,
    /// It must be made anew, for this reason.
    Rebuild(&'static str),
}

/// Decides from what the index has applied, if there is one, and the names of segments and snapshots.
fn plan(applied: Option<u64>, segments: &[u64], snapshots: &[u64]) -> Plan {
    let Some(applied) = applied else { return Plan::Rebuild("it is missing or damaged") };
    let reaches = segments.is_empty() || segments.iter().any(|&name| name <= applied + 1);
    let helps = snapshots.iter().any(|&sequence| sequence > applied);
    if !reaches && helps {
        return Plan::Rebuild("it is older than the journal");
    }
    Plan::Replay
}

/// Opens the index and brings it up to the end of the journal; `anew` makes it from scratch.
pub(crate) fn recover(
    ground: Ground<'_>,
    anew: bool,
) -> Result<(Box<dyn Index>, Journal), OpenError> {
    let Ground { store, durability, mut journal, snapshots, place } = ground;
    let listed = |source| OpenError::Io { doing: "list the journal and the snapshots", source };
    let mut segments = journal.list().map_err(listed)?;
    segments.sort_unstable();
    let there = snapshot::list(snapshots).map_err(listed)?;
    if !anew {
        let found = match place.open() {
            Ok(found) => found,
            Err(error) if error.is_damage() => {
                log::error!("{}", crate::s3::chain(&error));
                None
            }
            Err(error) => return Err(error.into()),
        };
        let applied = found.as_ref().map(|index| index.applied()).transpose()?;
        match (plan(applied, &segments, &there), found) {
            (Plan::Replay, Some(index)) => return replay(index, journal, store, durability),
            // A store that never held anything has no index yet, and that is no news.
            (Plan::Rebuild(why), _) if !(segments.is_empty() && there.is_empty()) => {
                log::warn!("the index is made anew from snapshot and journal: {why}");
            }
            (Plan::Rebuild(_) | Plan::Replay, _) => {}
        }
    }
    let index = load(place, snapshots, store, &there)?;
    let recovered = replay(index, journal, store, durability)?;
    let installed = place.install();
    installed
        .map_err(|source| OpenError::Io { doing: "put the new index in its place", source })?;
    Ok(recovered)
}

/// A second index, beside the first, from snapshot and journal alone; it is not installed.
pub(crate) fn rebuilt(
    place: &mut dyn IndexPlace,
    snapshots: &mut dyn Disk,
    journal: Box<dyn Disk>,
    store: Uuid,
) -> Result<Box<dyn Index>, OpenError> {
    let there = snapshot::list(snapshots);
    let there = there.map_err(|source| OpenError::Io { doing: "list the snapshots", source })?;
    let index = load(place, snapshots, store, &there)?;
    Ok(replay(index, journal, store, Durability::Fsync)?.0)
}

/// A new index, filled from the newest snapshot that is whole; without one it is empty.
fn load(
    place: &mut dyn IndexPlace,
    disk: &mut dyn Disk,
    store: Uuid,
    there: &[u64],
) -> Result<Box<dyn Index>, OpenError> {
    for &sequence in there.iter().rev() {
        let mut index = place.begin()?;
        let header = SnapshotHeader { store, sequence };
        let mut waiting = 0;
        let loaded = snapshot::read(disk, header, &mut |entries| {
            waiting += entries.len();
            let changes = entries.into_iter().map(|(key, value)| (key, Some(value))).collect();
            let now = waiting >= REBUILD_PERSIST_ENTRIES;
            let persist = if now { Persist::Now } else { Persist::Later };
            waiting = if now { 0 } else { waiting };
            Ok(index.apply(&changes, sequence, persist)?)
        });
        match loaded {
            Ok(entries) => {
                index.apply(&Changes::new(), sequence, Persist::Now)?;
                log::info!("snapshot {sequence:016x}: {entries} entries");
                return Ok(index);
            }
            // The one before it may be whole, and the journal is kept from there on until a newer one was
            // read back. If it is not, the replay will say what is missing.
            Err(SnapshotError::Damaged { .. }) => {
                log::error!("snapshot {sequence:016x} is damaged and not used");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(place.begin()?)
}

fn replay(
    mut index: Box<dyn Index>,
    disk: Box<dyn Disk>,
    store: Uuid,
    durability: Durability,
) -> Result<(Box<dyn Index>, Journal), OpenError> {
    let applied = index.applied()?;
    let mut batches = 0_u64;
    let apply = &mut |batch: &Batch| {
        batches += 1;
        index.apply(&batch.changes, batch.sequence, Persist::Later)
    };
    let journal = Journal::recover(disk, store, applied, durability, apply)?;
    if batches > 0 {
        let sequence = journal.sequence();
        index.apply(&Changes::new(), sequence, Persist::Now)?;
        log::info!("replayed {batches} batches of the journal, up to sequence {sequence}");
    }
    Ok((index, journal))
}

/// A store's directory: where its journal, snapshots and index are.
pub(crate) struct RealPlace {
    folder: PathBuf,
    cache_bytes: usize,
}

impl RealPlace {
    pub(crate) fn new(folder: &Path, cache_bytes: usize) -> Self {
        Self { folder: folder.to_owned(), cache_bytes }
    }

    pub(crate) fn journal(&self) -> Result<Box<dyn Disk>, OpenError> {
        let disk = RealDisk::open(&self.folder.join("journal"), SEGMENT_SUFFIX);
        let disk = disk.map_err(|source| OpenError::Io { doing: "open the journal", source })?;
        Ok(Box::new(disk))
    }

    pub(crate) fn snapshots(&self) -> Result<Box<dyn Disk>, OpenError> {
        let disk = RealDisk::open(&self.folder.join("snapshots"), SNAPSHOT_SUFFIX);
        let disk = disk.map_err(|source| OpenError::Io { doing: "open the snapshots", source })?;
        Ok(Box::new(disk))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes an index that was begun and not installed.
    pub(crate) fn forget(&self) -> io::Result<()> {
        match fs::remove_file(self.new_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("index.redb")
    }

    fn new_path(&self) -> PathBuf {
        self.folder.join("index.redb.new")
    }
}

impl IndexPlace for RealPlace {
    fn open(&mut self) -> Result<Option<Box<dyn Index>>, IndexError> {
        let path = self.path();
        if !path.exists() {
            return Ok(None);
        }
        Ok(Some(Box::new(RedbIndex::open(&path, self.cache_bytes)?)))
    }

    fn begin(&mut self) -> Result<Box<dyn Index>, IndexError> {
        let path = self.new_path();
        self.forget().map_err(|source| IndexError::Engine {
            doing: "remove an unfinished index",
            source: Box::new(source),
        })?;
        Ok(Box::new(RedbIndex::open(&path, self.cache_bytes)?))
    }

    fn install(&mut self) -> io::Result<()> {
        fs::rename(self.new_path(), self.path())?;
        File::open(&self.folder)?.sync_all()
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_index_is_made_anew_when_it_is_missing_or_the_journal_does_not_reach_back_to_it() {
        assert_eq!(plan(Some(7), &[1, 5, 9], &[]), Plan::Replay);
        assert_eq!(plan(Some(7), &[8], &[7]), Plan::Replay);
        assert!(matches!(plan(Some(7), &[20], &[25]), Plan::Rebuild(_)));
        // Nothing helps: the replay says what is missing.
        assert_eq!(plan(Some(7), &[20], &[5]), Plan::Replay);
        assert!(matches!(plan(None, &[1], &[]), Plan::Rebuild(_)));
    }
}
