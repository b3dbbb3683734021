//! Objects in parts: how parts get to disk, and how a file is made of them.
//!
//! ```text
//!   uploads/<upload>/<file>   a file that parts share, each in its slot: part n at (n - 1) × slot
//!                             files of single parts: of another size, sent again, of unknown length
//!   claim ─▶ write ─▶ fsync ─▶ record (one transaction) ─▶ 200
//!   complete: no writer left ─▶ plan ─▶ copies ─▶ seal ─▶ link into objects/ ─▶ fsync ─▶ object (one transaction)
//!                             ─▶ the upload's directory goes
//! ```
//! The slot's size is that of the largest part that has begun; when a larger one begins, a new shared file is
//! begun with it. Nothing depends on the choice but how much completing has to copy: records say where each
//! part is. A part that has a record is never written over: sent again, it goes elsewhere.
//!
//! The object's file is linked, not renamed: until its record is committed the upload keeps its own name for
//! it, so that a crash, or the sweep of objects without a record, takes nothing from the upload.

mod complete;
mod entry;
mod part;
mod plan;
mod sweep;
#[cfg(test)]
mod test;

pub(crate) use complete::{AssembleError, Assembly};
pub(in crate::files) use entry::Entries;
pub use entry::{Begun, Completion};
pub use part::{PartWriter, WrittenPart};

use super::{Files, Inner, sync_directory};
use crate::committer::TransactError;
use crate::files::error::StageError;
use crate::store::uploads::{
    PartFile, Place, SharedFile, UploadId, UploadedPart, part as recorded_part, upload,
};
use crate::store::{Durability, IndexError, Room, Store, TxnError};
use entry::{Guard, Phase, new_part_file};
use part::{Fate, PartBody};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// The least bytes of a part that is not the last, as AWS has it ("Amazon S3 multipart upload limits").
pub const PART_BYTES_MIN: u64 = 5 << 20;
/// The most bytes of a part: as AWS has it.
pub const PART_BYTES_MAX: u64 = 5 << 30;
/// The most parts: as AWS has it.
pub const PARTS_MAX: u32 = 10_000;
/// The most bytes of an object made of parts. AWS allows 10,000 parts of 5 GiB, 48.8 TiB; a file of ext4 with
/// blocks of 4 KiB ends at 16 TiB, and fs-verity's tree, 1/127 of the content, is behind it in the same file.
pub const ASSEMBLED_BYTES_MAX: u64 = 15 << 40;
/// Threads that complete uploads: sealing 5 TiB takes an hour, and it should not keep smaller ones waiting.
pub(in crate::files) const COMPLETERS: usize = 8;

/// Why a part can't be taken.
#[derive(Debug, Error)]
pub enum PartError {
    /// The disk, or too many uploads.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// There is no such upload, or not any more.
    #[error("the upload has ended")]
    Ended,
    /// It is being completed.
    #[error("the upload is being completed; try again later")]
    Completing,
    /// More bytes came than were announced, or than a part may have.
    #[error("the part is longer than {limit} bytes")]
    TooLong {
        /// The most it may have.
        limit: u64,
    },
    /// The shared file takes no writes any more: another is begun.
    #[error("the upload's shared file is sealed")]
    Frozen,
    /// Its record could not be committed.
    #[error("could not record the part")]
    Record(#[source] TransactError<TxnError>),
}

/// The directory of an upload.
fn directory(uploads: &Path, id: UploadId) -> PathBuf {
    uploads.join(id.to_string())
}

fn file_path(uploads: &Path, id: UploadId, file: PartFile) -> PathBuf {
    directory(uploads, id).join(file.to_string())
}

impl Inner {
    fn make_upload_directory(&self, id: UploadId) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(directory(&self.uploads, id)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            made => made?,
        }
        if self.durability == Durability::Fsync {
            sync_directory(&self.uploads)?;
        }
        Ok(())
    }
}

impl Files {
    /// Begins a part: of so many bytes, if that is known. The upload has a record.
    pub(crate) async fn begin_part(
        &self,
        store: &Store,
        id: UploadId,
        number: u32,
        size: Option<u64>,
    ) -> Result<PartWriter, PartError> {
        if let Some(why) = self.inner.latch.closed() {
            return Err(StageError::ReadOnly(why).into());
        }
        if let Room::Short { .. } = self.room(size.unwrap_or(0)) {
            return Err(StageError::Full.into());
        }
        let mut tries = 0;
        loop {
            let body = self.claim(store, id, number, size)?;
            let opened = Arc::clone(&body);
            let opened = self.inner.pool.run(move || opened.open(size)).await;
            match opened.map_err(|source| StageError::Io { doing: "make", source })? {
                Ok(()) => return Ok(PartWriter::new(body)),
                Err(PartError::Frozen) if tries == 0 => {
                    tries += 1;
                    body.guard.retire(body.place.file());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Decides where a part goes, and keeps others out of there.
    fn claim(
        &self,
        store: &Store,
        id: UploadId,
        number: u32,
        size: Option<u64>,
    ) -> Result<Arc<PartBody>, PartError> {
        let guard = Guard::of(&self.inner, id);
        let mut state = guard.lock();
        match state.phase {
            Phase::Open => {}
            Phase::Completing(_) => return Err(PartError::Completing),
            Phase::Ended => return Err(PartError::Ended),
        }
        // Read under the lock: who held the slot before has committed its record by now, or never will.
        let view = store.read()?;
        let record = upload(&view, id)?.ok_or(PartError::Ended)?;
        let recorded = recorded_part(&view, id, number)?;
        let shared = state.shared.map(|(shared, _)| shared).or(record.shared);
        let busy = state.writing.get(&number).is_some_and(|body| body.strong_count() > 0);
        let limit = size.unwrap_or(PART_BYTES_MAX).min(PART_BYTES_MAX);
        let free = slot(number, size, shared, new_part_file).filter(|(shared, _)| {
            !busy && recorded.as_ref().is_none_or(|part| part.place.file() != shared.file)
        });
        let Some((shared, offset)) = free else {
            let place = Place::Own { file: new_part_file() };
            return Ok(Arc::new(PartBody::new(guard.again(), number, place, None, limit)));
        };
        let known = state.shared.is_some_and(|(known, recorded)| known == shared && recorded);
        state.shared = Some((shared, known || record.shared == Some(shared)));
        let place = Place::Shared { file: shared.file, offset };
        let body = Arc::new(PartBody::new(guard.again(), number, place, Some(shared), limit));
        state.writing.insert(number, Arc::downgrade(&body));
        Ok(body)
    }

    /// Sees to it that a part is on disk, and then records it. It is one job of a disk thread, which goes on
    /// when whoever waits for it has gone.
    pub(crate) async fn record_part(
        &self,
        store: &Store,
        written: WrittenPart,
        sum: Option<(String, String)>,
        modified_ms: u64,
    ) -> Result<(), PartError> {
        let store = store.clone();
        let job = move || record_blocking(&store, &written.body, sum, modified_ms);
        let recorded = self.inner.pool.run(job).await;
        recorded.map_err(|source| StageError::Io { doing: "record", source })?
    }

    /// Begins to complete an upload.
    pub(crate) fn begin_completion(&self, id: UploadId) -> Begun {
        Completion::begin(&self.inner, id)
    }
}

/// The slot of a part in the shared file, which is a new one if this part is larger than all before it.
/// `None`: it has none.
fn slot(
    number: u32,
    size: Option<u64>,
    shared: Option<SharedFile>,
    new_file: impl FnOnce() -> PartFile,
) -> Option<(SharedFile, u64)> {
    let size = size.filter(|size| *size > 0)?;
    let shared = match shared {
        Some(shared) if size <= shared.slot_bytes => shared,
        // Shorter than every part but the last must be: it says nothing about the others.
        _ if size < PART_BYTES_MIN && number > 1 => return None,
        _ => SharedFile { file: new_file(), slot_bytes: size },
    };
    let offset = u64::from(number - 1).checked_mul(shared.slot_bytes)?;
    (offset.saturating_add(size) <= ASSEMBLED_BYTES_MAX).then_some((shared, offset))
}

fn record_blocking(
    store: &Store,
    body: &Arc<PartBody>,
    sum: Option<(String, String)>,
    modified_ms: u64,
) -> Result<(), PartError> {
    let (size, md5) = body.sync()?;
    let id = body.guard.id();
    let part = UploadedPart { number: body.number, size, md5, modified_ms, sum, place: body.place };
    let claimed = Arc::clone(body);
    let done = store.transact_wait(move |txn| {
        match claimed.guard.lock().phase {
            Phase::Open => {}
            Phase::Completing(_) => return Err(Unrecorded::Completing),
            Phase::Ended => return Err(Unrecorded::Ended),
        }
        let old = txn.record_part(id, &part, claimed.shared).map_err(Unrecorded::Txn)?;
        old.ok_or(Unrecorded::Ended)
    });
    match done {
        Ok(old) => {
            body.fate(Fate::Keep);
            if let Some(Place::Own { file }) = old.map(|old| old.place) {
                body.guard.inner().unlink_part_file(id, file);
            }
            Ok(())
        }
        Err(error) => {
            // Whether it has a record is unknown: only the next start can tell.
            if let TransactError::ReadOnly(_) = error {
                body.fate(Fate::Leave);
            }
            Err(unrecorded(error))
        }
    }
}

enum Unrecorded {
    Completing,
    Ended,
    Txn(TxnError),
}

fn unrecorded(error: TransactError<Unrecorded>) -> PartError {
    PartError::Record(match error {
        TransactError::Refused(Unrecorded::Completing) => return PartError::Completing,
        TransactError::Refused(Unrecorded::Ended) => return PartError::Ended,
        TransactError::Refused(Unrecorded::Txn(error)) => TransactError::Refused(error),
        TransactError::Busy => TransactError::Busy,
        TransactError::Full => TransactError::Full,
        TransactError::TooLarge { bytes } => TransactError::TooLarge { bytes },
        TransactError::Panicked => TransactError::Panicked,
        TransactError::ReadOnly(why) => TransactError::ReadOnly(why),
        TransactError::ShutDown => TransactError::ShutDown,
    })
}
