//! The store: what the fronts and the jobs see of everything below them.
//!
//! ```text
//!   read      a snapshot of the index, without a lock
//!   transact  a closure on the committer thread ─▶ journal (fdatasync, once a batch) ─▶ index ─▶ answer
//!   stage     a file in staging/ ─▶ write … ─▶ seal ─▶ objects/…  ─▶ transact: its record
//! ```
//! Futures are woken by the store's own threads; any executor will do, and none is needed.

mod config;
pub(crate) mod errno;
mod home;
pub mod hot;
mod list;
mod list_versions;
pub(crate) mod offline;
mod options;
mod reaper;
mod record;
pub(crate) mod recover;
mod txn;
mod types;
pub mod uploads;
mod versions;
mod view;

pub use self::config::{BUCKET_CONFIG_BYTES_MAX, BucketConfig, bucket_config, buckets_with};
pub use self::record::{
    BucketRecord, ChecksumType, DefaultRetention, ETagValue, LegalHold, Metadata, ObjectKind,
    ObjectRecord, PartRecord, Period, Retention, RetentionMode, VersionRef, Versioning,
};
pub(crate) use self::txn::{Effects, OBJECT_BYTES, OBJECTS, Tally};
pub use self::txn::{Made, Removed, Room, Txn, TxnError};
pub use self::types::{
    AccountId, Area, BlobId, BlobRecord, BlobState, Content, ContentRef, Digest,
    INLINE_BYTES_LIMIT, INLINE_BYTES_MAX, ObjectPath, PATH_BYTES_MAX, PathError, Version,
};
pub use self::versions::{Deleted, Deleter, Written};
pub(crate) use self::view::numbered;
pub use self::view::{
    ViewExt, account, accounts, blob, bucket, buckets, newest, object, object_version, versioning,
};
pub(crate) use self::view::{damaged, decoded};
pub use crate::committer::TransactError;
pub use crate::files::{
    FilesError, ObjectFile, OpenBlobError, SealError, Sealed, StageError, Staging, ViewFile,
};
pub use crate::format::Summary;
pub use crate::index::{IndexError, View, Visitor};
pub use crate::journal::RecoverError;
pub use home::HomeError;
pub use list::{After, ListEntry, ListPage, ListQuery, list};
pub use list_versions::{AfterVersion, VersionEntry, VersionsPage, VersionsQuery, list_versions};
pub use options::{DISK_THREADS, Durability, OpenError, Options};

use crate::committer::{Committer, Latch, Surroundings};
use crate::files::Files;
use crate::index::SharedView;
use crate::scrub::{self, Scrub};
use crate::snapshot::{self, Keeper, SnapshotError};
use home::Home;
use hot::Hot;
use reaper::{Bell, Reaper};
use recover::{Ground, RealPlace};
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use uuid::Uuid;
use wire::task::StoreStatus;

/// An open store. Clones are the same store; the last one that goes shuts it down.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    scrub: Scrub,
    keeper: Keeper,
    reaper: Reaper,
    committer: Arc<Committer>,
    files: Files,
    hot: Arc<Hot>,
    latch: Arc<Latch>,
    id: Uuid,
    inline_bytes: usize,
    // Last: the directory stays locked until all threads are gone.
    _home: Home,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Inner {
    /// Ends the threads, those that use others first.
    fn stop(&self) {
        self.scrub.stop();
        self.keeper.stop();
        self.reaper.stop();
        self.committer.shutdown();
    }
}

/// A consistent view of the index. Keep it for one page or one answer, not across a wait.
#[derive(Clone)]
pub struct Snapshot(SharedView);

impl View for Snapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        self.0.get(key)
    }

    fn range(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), IndexError> {
        self.0.range(from, to, visit)
    }
}

/// An object's record and, if its content is not inline, its file.
pub type OpenObject = (ObjectRecord, Option<Arc<ObjectFile>>);

impl Store {
    /// Opens a store, recovering what a crash left.
    ///
    /// # Errors
    /// When the directory is no store, another process has it, or it is damaged.
    #[expect(clippy::needless_pass_by_value, reason = "what it was told is not said twice")]
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let home = Home::open(&options.data)?;
        let latch = Arc::new(Latch::default());
        let files = Files::open(&options, Arc::clone(&latch))?;
        let mut place = RealPlace::new(&options.data, options.cache_bytes);
        let mut snapshots = place.snapshots()?;
        let ground = Ground {
            store: home.format.store,
            durability: options.durability,
            journal: place.journal()?,
            snapshots: &mut *snapshots,
            place: &mut place,
        };
        let (index, mut journal) = recover::recover(ground, false)?;
        journal.set_segment_bytes(options.segment_bytes);
        files.sweep(&*index.view()?)?;
        let (bell, end) = Bell::new();
        let keeper = Keeper::new();
        let hot = Arc::new(Hot::new(
            options.cache_bytes.min(crate::index::CACHE_BYTES_MAX),
            crate::files::ready_max(),
        ));
        let surroundings = Surroundings {
            room: Box::new({
                let files = files.clone();
                move || files.room(0)
            }),
            unlink: Box::new({
                let bell = bell.clone();
                move || bell.ring()
            }),
            changed: Box::new({
                let hot = Arc::clone(&hot);
                move |changes, sequence| hot.forget(changes, sequence)
            }),
            segment: Box::new(keeper.bell()),
            latch: Arc::clone(&latch),
        };
        let committer = Arc::new(Committer::start(index, journal, surroundings)?);
        let reaper = Reaper::start(Arc::clone(&committer), files.clone(), &bell, end)
            .map_err(|source| OpenError::Io { doing: "start the reaper's thread", source })?;
        let id = home.format.store;
        let started = keeper.start(snapshot::Surroundings {
            store: id,
            committer: Arc::clone(&committer),
            journal: place.journal()?,
            snapshots,
            room: Box::new({
                let files = files.clone();
                move || files.room(0)
            }),
            latch: Arc::clone(&latch),
            journal_bytes: options.snapshot_journal_bytes,
        });
        started.map_err(|source| OpenError::Io { doing: "start the snapshots' thread", source })?;
        let scrub = Scrub::start(scrub::Surroundings {
            committer: Arc::clone(&committer),
            objects: options.data.join("objects"),
            rate: options.scrub_rate,
        });
        let scrub =
            scrub.map_err(|source| OpenError::Io { doing: "start the scrub's thread", source })?;
        if !files.abilities().verity {
            log::warn!(
                "no fs-verity here: storaged keeps digests of its own, and nothing checks pages as they are read"
            );
        }
        if !files.abilities().project {
            log::warn!("no project quotas here: what tasks write is not held to their disk limits");
        }
        let inline_bytes = options.inline_bytes.min(INLINE_BYTES_LIMIT);
        let inner = Inner {
            scrub,
            keeper,
            reaper,
            committer,
            files,
            hot,
            latch,
            id,
            inline_bytes,
            _home: home,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs a closure as one atomic transaction on the committer thread, where it sees all earlier ones.
    /// When this returns, what it changed is as durable as the store was told; when the closure fails,
    /// or this does, nothing of it is visible. The closure must not wait for anything.
    ///
    /// # Errors
    /// The closure's own, or why it could not be run or committed.
    pub async fn transact<T, E, F>(&self, work: F) -> Result<T, TransactError<E>>
    where
        F: FnOnce(&mut Txn<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.inner.committer.transact(work).await
    }

    /// As [`Store::transact`], for threads that may block.
    ///
    /// # Errors
    /// As [`Store::transact`].
    pub fn transact_wait<T, E, F>(&self, work: F) -> Result<T, TransactError<E>>
    where
        F: FnOnce(&mut Txn<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        crate::committer::wait(self.transact(work))
    }

    /// Waits for a future of this store, on a thread that may block.
    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        crate::committer::wait(future)
    }

    /// A consistent view of everything committed so far.
    ///
    /// # Errors
    /// When the index fails.
    pub fn read(&self) -> Result<Snapshot, IndexError> {
        Ok(Snapshot(self.inner.committer.view()))
    }

    /// A number that grows when a bucket or one of its configurations changed, after the change can be
    /// read. What was derived from a view taken after this number was read holds as long as it stays.
    #[must_use]
    pub fn settings_generation(&self) -> u64 {
        self.inner.committer.settings_generation()
    }

    /// Objects that are ready to be sent.
    #[must_use]
    pub fn hot(&self) -> &Hot {
        &self.inner.hot
    }

    /// The sequence that is committed: a view that is taken after this shows at least it.
    #[must_use]
    pub fn mark(&self) -> u64 {
        self.inner.committer.sequence()
    }

    /// The current version of an object.
    ///
    /// # Errors
    /// When the index fails.
    pub fn object(&self, path: &ObjectPath) -> Result<Option<ObjectRecord>, IndexError> {
        view::object(&self.read()?, path)
    }

    /// A version of an object, the newest one if none is named: delete markers too.
    ///
    /// # Errors
    /// When the index fails.
    pub fn version(
        &self,
        path: &ObjectPath,
        version: Option<VersionRef>,
    ) -> Result<Option<ObjectRecord>, IndexError> {
        let view = self.read()?;
        match version {
            None => view::newest(&view, path),
            Some(version) => view::object_version(&view, path, version),
        }
    }

    /// The current version of an object and, if it is not inline, its file.
    ///
    /// # Errors
    /// When the index fails or the file can't be opened or is not what the index says.
    pub fn open_object(&self, path: &ObjectPath) -> Result<Option<OpenObject>, OpenBlobError> {
        let found = self.open_version(path, None)?;
        Ok(found.filter(|(record, _)| !record.is_marker()))
    }

    /// A version of an object, the newest one if none is named, and its file if it has one: delete
    /// markers too.
    ///
    /// # Errors
    /// As [`Store::open_object`].
    pub fn open_version(
        &self,
        path: &ObjectPath,
        version: Option<VersionRef>,
    ) -> Result<Option<OpenObject>, OpenBlobError> {
        let mut gone = None;
        loop {
            let Some(record) = self.version(path, version)? else { return Ok(None) };
            let ContentRef::Blob(blob) = record.content else { return Ok(Some((record, None))) };
            match self.open_blob(blob) {
                Ok(file) => return Ok(Some((record, Some(file)))),
                // Replaced and unlinked between the two looks: look again. The same version twice is
                // a file that is missing.
                Err(OpenBlobError::Missing { .. }) if gone != Some(record.version) => {
                    gone = Some(record.version);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A new staging file: `length` if it is known how long it gets, `project` to charge its space to a
    /// task's quota.
    ///
    /// # Errors
    /// When the disk is too full, or the file can't be made.
    pub async fn stage(
        &self,
        length: Option<u64>,
        project: Option<u32>,
    ) -> Result<Staging, StageError> {
        self.inner.files.stage(length, project).await
    }

    /// Seals a staging file: no writer is left, it is on disk under its final name, and measured.
    ///
    /// # Errors
    /// When a writer is left for longer than a second, or the disk fails. The file is gone then.
    pub async fn seal(&self, staging: Staging) -> Result<Sealed, SealError> {
        self.inner.files.seal(self, staging).await
    }

    /// A blob's file, to be served.
    ///
    /// # Errors
    /// When it is missing, or not what the index says.
    pub fn open_blob(&self, blob: BlobId) -> Result<Arc<ObjectFile>, OpenBlobError> {
        self.inner.files.open_blob(&|| self.inner.committer.view(), blob)
    }

    /// Reads a blob from end to end, away from the caller's thread, giving its bytes to `take` piece by piece.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn read_through<T: Send + 'static>(
        &self,
        file: Arc<ObjectFile>,
        state: T,
        take: fn(&mut T, &[u8]),
    ) -> io::Result<T> {
        self.inner.files.read_through(file, state, take).await
    }

    /// An object's bytes for a zone: a descriptor beneath the read-only view, that nobody can reopen for
    /// writing. Keep it until the zone is gone: a small object's file goes with it.
    ///
    /// # Errors
    /// As [`Store::open_blob`].
    pub fn open_view(&self, record: &ObjectRecord) -> Result<ViewFile, OpenBlobError> {
        self.inner.files.open_view(&self.read()?, record)
    }

    /// The directory of objects, read-only where the machine has such a view of it.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open_objects(&self) -> io::Result<std::fs::File> {
        self.inner.files.open_objects()
    }

    /// The largest content that is kept in the index, in bytes; a larger one is a file.
    #[must_use]
    pub fn inline_bytes(&self) -> usize {
        self.inner.inline_bytes
    }

    /// The file of objects with this inode on the data disk, if it is one. All names are read.
    ///
    /// # Errors
    /// What reading the directories says.
    pub(crate) fn find_file(&self, inode: u64) -> io::Result<Option<BlobId>> {
        self.inner.files.find(inode)
    }

    /// Whether the kernel checks the pages of objects as they are read.
    #[must_use]
    pub fn has_verity(&self) -> bool {
        self.inner.files.abilities().verity
    }

    /// Whether files can be charged to projects.
    #[must_use]
    pub fn has_projects(&self) -> bool {
        self.inner.files.abilities().project
    }

    /// Whether the disk has room for more.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.inner.files.room(0) == Room::Enough
    }

    /// The manifests in use.
    pub(crate) fn pins(&self) -> &crate::files::Pins {
        self.inner.files.pins()
    }

    /// Has files unlinked that waited for something.
    pub(crate) fn look_for_unlinks(&self) {
        self.inner.reaper.look();
    }

    /// Stops taking transactions, and persists what was taken.
    pub fn shutdown(&self) {
        self.inner.stop();
    }

    /// Makes a snapshot now, instead of when the journal has grown; the journal that it covers goes.
    ///
    /// # Errors
    /// When the disk is full or fails, or the store takes no changes.
    pub fn make_snapshot(&self) -> Result<(), SnapshotError> {
        self.inner.keeper.make()
    }

    /// How the store is.
    #[must_use]
    pub fn status(&self) -> StoreStatus {
        let number = |name: &str| {
            let value =
                self.read().and_then(|view| view.get_value(&crate::format::state_key(name)));
            value.ok().flatten().unwrap_or(0)
        };
        StoreStatus {
            store: self.inner.id.to_string(),
            objects: number(OBJECTS),
            object_bytes: number(OBJECT_BYTES),
            free_bytes: self.inner.files.free_bytes().unwrap_or(0),
            sequence: self.inner.committer.sequence(),
            verity: self.inner.files.abilities().verity,
            read_only: self.inner.latch.closed().map(|why| why.to_string()),
            scrub: self.inner.scrub.status(),
        }
    }
}

#[cfg(test)]
mod simulation_test;
#[cfg(test)]
mod test;
#[cfg(test)]
mod versions_test;
