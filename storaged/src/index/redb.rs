//! The index on redb: one table of bytes to bytes, and beside it the sequence that is applied.
//!
//! Batches are committed without durability, since the journal has them; every few seconds a commit
//! is made durable, with redb's quick repair, so that opening after a crash does not walk the file.

use super::{Changes, Index, IndexError, Persist, SharedView, View, Visitor};
use redb::{
    Database, DatabaseError, Durability, ReadOnlyTable, ReadableDatabase, StorageError,
    TableDefinition, TableError, TransactionError,
};
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Arc;

/// The most memory that redb's cache may take, in bytes: a sixteenth of the machine's memory, but
/// not more than this. What is above it is better spent on the pages of objects.
pub const CACHE_BYTES_MAX: usize = 256 << 20;

/// The least memory for redb's cache, in bytes: below it every batch would go to the disk.
pub const CACHE_BYTES_MIN: usize = 16 << 20;

const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
const STATE: TableDefinition<'_, &str, u64> = TableDefinition::new("state");
const APPLIED: &str = "applied";

/// An index in a redb file.
pub struct RedbIndex {
    database: Database,
}

fn engine<E>(doing: &'static str) -> impl FnOnce(E) -> IndexError
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |source| IndexError::Engine { doing, source: Box::new(source) }
}

/// redb panicked: what it found in its file cannot be there.
#[derive(Debug, thiserror::Error)]
#[error("redb panicked over its file")]
struct Panicked;

/// Whether redb found its own file damaged, at once or as the cause of something else.
pub(super) fn is_damage(error: &(dyn std::error::Error + 'static)) -> bool {
    let damaged = |storage: &StorageError| match storage {
        StorageError::Corrupted(_) => true,
        StorageError::Io(error) => {
            matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData)
        }
        _ => false,
    };
    let mut next = Some(error);
    while let Some(error) = next {
        let found = match error.downcast_ref::<DatabaseError>() {
            None if error.is::<Panicked>() => true,
            Some(DatabaseError::Storage(storage)) => damaged(storage),
            Some(DatabaseError::RepairAborted | DatabaseError::UpgradeRequired(_)) => true,
            Some(_) => false,
            None => match error.downcast_ref::<TableError>() {
                Some(TableError::Storage(storage)) => damaged(storage),
                // Our tables, with other types: not what we wrote.
                Some(_) => true,
                None => match error.downcast_ref::<TransactionError>() {
                    Some(TransactionError::Storage(storage)) => damaged(storage),
                    Some(_) => false,
                    None => error.downcast_ref::<StorageError>().is_some_and(damaged),
                },
            },
        };
        if found {
            return true;
        }
        next = error.source();
    }
    false
}

impl RedbIndex {
    /// Opens the index in the file at `path`, made if missing.
    ///
    /// # Errors
    /// When redb can't open or repair it.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self, IndexError> {
        // redb reads the pages that its newest commit names, and panics where they are none. Nothing of ours is
        // left half done by that: the file is given up, and the index made anew.
        let opened = catch_unwind(|| {
            let mut builder = Database::builder();
            builder.set_cache_size(cache_bytes.min(CACHE_BYTES_MAX)).create(path)
        });
        let opened = opened.map_err(|_| engine("open its file")(Panicked))?;
        let (index, fresh) = Self::begin(opened.map_err(engine("open its file"))?)?;
        if fresh {
            let folder = path.parent().unwrap_or(Path::new("."));
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(engine("bring its file's name to disk"))?;
        }
        Ok(index)
    }
}

impl RedbIndex {
    /// Opens the index on something else than a file.
    #[cfg(test)]
    pub(crate) fn on(backend: impl redb::StorageBackend) -> Result<Self, IndexError> {
        let database = Database::builder()
            .set_cache_size(1 << 20)
            .create_with_backend(backend)
            .map_err(engine("open its file"))?;
        Ok(Self::begin(database)?.0)
    }

    /// The index in a database, and whether it is a new one.
    fn begin(database: Database) -> Result<(Self, bool), IndexError> {
        let mut index = Self { database };
        let fresh = {
            let txn = index.database.begin_read().map_err(engine("begin to read"))?;
            txn.open_table(STATE).is_err()
        };
        if fresh {
            index.apply(&Changes::new(), 0, Persist::Now)?;
        }
        Ok((index, fresh))
    }
}

impl Index for RedbIndex {
    fn view(&self) -> Result<SharedView, IndexError> {
        let txn = self.database.begin_read().map_err(engine("begin to read"))?;
        let table = txn.open_table(ENTRIES).map_err(engine("open its table"))?;
        Ok(Arc::new(RedbView { table }))
    }

    fn apply(
        &mut self,
        changes: &Changes,
        sequence: u64,
        persist: Persist,
    ) -> Result<(), IndexError> {
        let mut txn = self.database.begin_write().map_err(engine("begin to write"))?;
        match persist {
            Persist::Later => {
                txn.set_durability(Durability::None).map_err(engine("set durability"))?;
            }
            Persist::Now => txn.set_quick_repair(true),
        }
        {
            let mut table = txn.open_table(ENTRIES).map_err(engine("open its table"))?;
            for (key, change) in changes {
                match change {
                    Some(value) => table
                        .insert(key.as_slice(), value.as_slice())
                        .map(drop)
                        .map_err(engine("put a key"))?,
                    None => {
                        table.remove(key.as_slice()).map(drop).map_err(engine("remove a key"))?;
                    }
                }
            }
            let mut state = txn.open_table(STATE).map_err(engine("open its state"))?;
            state.insert(APPLIED, sequence).map_err(engine("note the sequence"))?;
        }
        txn.commit().map_err(engine("commit"))
    }

    fn applied(&self) -> Result<u64, IndexError> {
        let txn = self.database.begin_read().map_err(engine("begin to read"))?;
        let state = txn.open_table(STATE).map_err(engine("open its state"))?;
        let applied = state.get(APPLIED).map_err(engine("read the sequence"))?;
        Ok(applied.map_or(0, |guard| guard.value()))
    }

    fn is_sound(&mut self) -> Result<bool, IndexError> {
        self.database.check_integrity().map_err(engine("check itself"))
    }
}

struct RedbView {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
}

impl View for RedbView {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        let found = self.table.get(key).map_err(engine("get a key"))?;
        Ok(found.map(|guard| guard.value().to_vec()))
    }

    fn range(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), IndexError> {
        if super::layer::is_empty(from, to) {
            return Ok(());
        }
        for entry in self.table.range::<&[u8]>((from, to)).map_err(engine("seek a range"))? {
            let (key, value) = entry.map_err(engine("read a range"))?;
            if visit(key.value(), value.value()).is_break() {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn put(key: &[u8], value: &[u8]) -> Changes {
        Changes::from([(key.to_vec(), Some(value.to_vec()))])
    }

    #[test]
    fn what_is_applied_is_seen_by_new_views_only() {
        let folder = tempfile::tempdir().unwrap();
        let mut index = RedbIndex::open(&folder.path().join("index"), 1 << 20).unwrap();
        let before = index.view().unwrap();
        index.apply(&put(b"a", b"1"), 7, Persist::Later).unwrap();
        assert_eq!(before.get(b"a").unwrap(), None);
        assert_eq!(index.view().unwrap().get(b"a").unwrap(), Some(b"1".to_vec()));
        assert_eq!(index.applied().unwrap(), 7);
    }

    #[test]
    fn a_reopened_index_has_what_was_persisted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let mut index = RedbIndex::open(&path, 1 << 20).unwrap();
        index.apply(&put(b"a", b"1"), 7, Persist::Later).unwrap();
        index.apply(&put(b"b", b"2"), 9, Persist::Now).unwrap();
        drop(index);
        let index = RedbIndex::open(&path, 1 << 20).unwrap();
        assert_eq!(index.applied().unwrap(), 9);
        assert_eq!(index.view().unwrap().get(b"a").unwrap(), Some(b"1".to_vec()));
    }
}
