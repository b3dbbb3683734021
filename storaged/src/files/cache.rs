//! Open files of blobs, the least recently used closed first.

use super::ObjectFile;
use crate::store::BlobId;
use lru::LruCache;
use nix::sys::resource::{Resource, getrlimit};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard};

/// The most files of objects that are kept open for the next reader.
pub const OPEN_FILES_MAX: usize = 4096;
/// Parts of the cache with a lock each, so that cores rarely meet.
const SHARDS: usize = 16;

/// A quarter of the descriptors this process may have, within limits: connections, uploads and zones need
/// them too.
pub(super) fn capacity() -> usize {
    let allowed = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(allowed / 4).unwrap_or(OPEN_FILES_MAX).clamp(SHARDS, OPEN_FILES_MAX)
}

/// The most files that may be kept open, ready to be sent: mostly the same ones as here.
pub(crate) fn ready_max() -> usize {
    capacity()
}

type Shard = LruCache<BlobId, Arc<ObjectFile>>;

pub(super) struct OpenFiles(Vec<Mutex<Shard>>);

impl std::fmt::Debug for OpenFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFiles").finish_non_exhaustive()
    }
}

impl OpenFiles {
    pub(super) fn new(capacity: usize) -> Self {
        let each = NonZeroUsize::new(capacity / SHARDS).unwrap_or(NonZeroUsize::MIN);
        Self((0..SHARDS).map(|_| Mutex::new(LruCache::new(each))).collect())
    }

    fn shard(&self, blob: BlobId) -> MutexGuard<'_, Shard> {
        let number = usize::try_from(blob.0 % SHARDS as u64).expect("it is below 16");
        self.0[number].lock().expect("no holder of this lock panics")
    }

    pub(super) fn get(&self, blob: BlobId) -> Option<Arc<ObjectFile>> {
        self.shard(blob).get(&blob).cloned()
    }

    /// Keeps a file; what it displaces is closed outside of the lock.
    pub(super) fn put(&self, file: Arc<ObjectFile>) {
        let displaced = self.shard(file.blob()).push(file.blob(), file);
        drop(displaced);
    }

    pub(super) fn forget(&self, blob: BlobId) {
        let forgotten = self.shard(blob).pop(&blob);
        drop(forgotten);
    }
}
