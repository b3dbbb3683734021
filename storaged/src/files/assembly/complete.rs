//! Completing: from parts to one sealed file, and to the object, in one job that goes on when whoever asked
//! has gone.

use super::entry::Completion;
use super::plan::{Copy, FileState, Plan, plan};
use super::{entry::new_part_file, file_path};
use crate::committer::TransactError;
use crate::files::error::SealError;
use crate::files::seal::seal_linked;
use crate::files::{Files, Inner};
use crate::store::errno::Doing;
use crate::store::uploads::{PartFile, Upload, UploadId, UploadedPart, parts, upload};
use crate::store::{Content, INLINE_BYTES_MAX, Room, Store, Txn, TxnError};
use nix::errno::Errno;
use nix::fcntl::copy_file_range;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Bytes copied with one call: enough to cost nothing, few enough to notice the disk filling up.
const COPY_BYTES: u64 = 64 << 20;
/// Bytes copied by hand where the kernel can't.
const COPY_BUFFER_BYTES: usize = 1 << 20;

/// What is to be assembled.
#[derive(Debug, Clone)]
pub(crate) struct Assembly {
    /// The parts, in the order of the object, as they were when they were chosen.
    pub(crate) chosen: Vec<UploadedPart>,
    /// What stands for the MD5 of the whole.
    pub(crate) md5: [u8; 16],
}

/// Why an upload was not completed.
#[derive(Debug, Error)]
pub(crate) enum AssembleError<E> {
    /// There is no such upload, or not any more.
    #[error("the upload has ended")]
    Ended,
    /// A part was sent again, or went, since it was chosen.
    #[error("part {number} has changed meanwhile")]
    Changed {
        /// Which.
        number: u32,
    },
    /// The file could not be made.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The transaction failed.
    #[error("the object could not be recorded")]
    Record(TransactError<E>),
}

impl Files {
    /// Makes a file of parts and, with `finish`, an object of the file, in one transaction that also forgets
    /// the upload; then calls `after`. When it fails the upload is as it was.
    pub(crate) async fn assemble<T, E, F>(
        &self,
        store: &Store,
        completion: Completion,
        assembly: Assembly,
        finish: F,
        after: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, AssembleError<E>>
    where
        F: FnOnce(&mut Txn<'_>, Content, &Upload) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<TxnError> + Send + 'static,
    {
        let store = store.clone();
        let job = move || {
            let done = assemble_blocking(&store, &completion, &assembly, finish)?;
            // Who asks again may have the answer now.
            drop(completion);
            after(&done);
            Ok(done)
        };
        let done = self.inner.completers.run(job).await;
        done.map_err(|source| SealError::Io { doing: "complete", source })?
    }
}

impl Files {
    /// Forgets an upload and lets go of its files: whether it was there. One job, as above.
    pub(crate) async fn abort(
        &self,
        store: &Store,
        completion: Completion,
    ) -> Result<bool, TransactError<TxnError>> {
        let store = store.clone();
        let job = move || {
            let id = completion.guard.id();
            let there = store.transact_wait(move |txn| txn.forget_upload(id))?;
            completion.guard.end();
            Ok(there)
        };
        self.inner.pool.run(job).await.unwrap_or(Err(TransactError::Panicked))
    }
}

fn assemble_blocking<T, E, F>(
    store: &Store,
    completion: &Completion,
    assembly: &Assembly,
    finish: F,
) -> Result<T, AssembleError<E>>
where
    F: FnOnce(&mut Txn<'_>, Content, &Upload) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<TxnError> + Send + 'static,
{
    let inner = completion.guard.inner();
    if let Some(why) = inner.latch.closed() {
        return Err(SealError::ReadOnly(why).into());
    }
    let id = completion.guard.id();
    completion.guard.revoke_writers();
    let (upload, recorded) = records(store, id)?;
    unchanged(&assembly.chosen, &recorded)?;
    let (content, fresh) = make_file(store, inner, id, assembly, &recorded)?;
    let done = store.transact_wait(move |txn| {
        let done = finish(txn, content, &upload)?;
        txn.forget_upload(id)?;
        Ok(done)
    });
    match &done {
        Ok(_) => completion.guard.end(),
        // Unknown: the next start looks.
        Err(TransactError::ReadOnly(_)) => {}
        Err(_) => {
            if let Some(file) = fresh {
                inner.unlink_part_file(id, file);
            }
        }
    }
    done.map_err(AssembleError::Record)
}

/// The upload and all its parts, by way of the committer: what was to be recorded before this is.
fn records<E>(
    store: &Store,
    id: UploadId,
) -> Result<(Upload, Vec<UploadedPart>), AssembleError<E>> {
    let read = move |txn: &mut Txn<'_>| -> Result<_, TxnError> {
        let Some(upload) = upload(txn, id)? else { return Ok(None) };
        Ok(Some((upload, parts(txn, id, 0, usize::MAX)?.0)))
    };
    match store.transact_wait(read) {
        Ok(found) => found.ok_or(AssembleError::Ended),
        Err(TransactError::ReadOnly(why)) => Err(SealError::ReadOnly(why).into()),
        Err(TransactError::Full) => Err(SealError::Full.into()),
        Err(TransactError::Busy | TransactError::ShutDown) => Err(SealError::Busy.into()),
        Err(error) => {
            let source = io::Error::other(error);
            Err(SealError::Io { doing: "read the parts of", source }.into())
        }
    }
}

fn unchanged<E>(
    chosen: &[UploadedPart],
    recorded: &[UploadedPart],
) -> Result<(), AssembleError<E>> {
    let known: HashMap<u32, &UploadedPart> =
        recorded.iter().map(|part| (part.number, part)).collect();
    let changed = chosen.iter().find(|part| known.get(&part.number) != Some(part));
    changed.map_or(Ok(()), |part| Err(AssembleError::Changed { number: part.number }))
}

/// The object's content, and the file that was made for it beside those of the parts.
fn make_file(
    store: &Store,
    inner: &Arc<Inner>,
    id: UploadId,
    assembly: &Assembly,
    recorded: &[UploadedPart],
) -> Result<(Content, Option<PartFile>), SealError> {
    let total: u64 = assembly.chosen.iter().map(|part| part.size).sum();
    let path = |file| file_path(&inner.uploads, id, file);
    if total <= store.inline_bytes() as u64 {
        return Ok((Content::Inline(read_small(inner, &assembly.chosen, path)?.into()), None));
    }
    let plan = plan(&assembly.chosen, recorded, |file| state(&path(file), total));
    // What is there already may become an object on a full disk, too.
    let tree = if inner.abilities.verity { total / 127 } else { 0 };
    let more = plan.bytes() + tree;
    if more > 0
        && let Room::Short { .. } = inner.room(more)
    {
        return Err(SealError::Full);
    }
    let (file, fresh, copies) = match plan {
        Plan::Keep { file, copies } => (file, None, copies),
        Plan::Fresh { copies } => {
            let file = new_part_file();
            (file, Some(file), copies)
        }
    };
    let made = fill(inner, &path(file), fresh.is_some(), total, &copies, path);
    let sealed = made.and_then(|()| {
        let pending = crate::committer::wait(inner.pending(store))?;
        seal_linked(pending, &path(file), total, assembly.md5)
    });
    match (sealed, fresh) {
        (Ok(sealed), fresh) => Ok((Content::Blob(sealed), fresh)),
        (Err(error), Some(fresh)) => {
            inner.unlink_part_file(id, fresh);
            Err(error)
        }
        (Err(error), None) => Err(error),
    }
}

/// How a file is; a missing one, which is damage, has no bytes and can't be kept.
fn state(path: &Path, total: u64) -> FileState {
    let length = fs::metadata(path).map_or(0, |metadata| metadata.len());
    // One that needs nothing done to it need not be tried.
    let frozen = length != total && open_to_write(path, false).is_err();
    FileState { length, frozen: frozen || sealed(path) }
}

fn sealed(path: &Path) -> bool {
    use std::os::fd::AsFd;
    File::open(path).is_ok_and(|file| sys::verity::measure(file.as_fd()).is_ok())
}

fn open_to_write(path: &Path, fresh: bool) -> io::Result<File> {
    if !fresh {
        // A completion that failed may have taken the right to.
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    OpenOptions::new().write(true).create_new(fresh).mode(0o600).open(path)
}

/// Copies what is elsewhere, and cuts what is behind. The file is closed then.
fn fill(
    inner: &Inner,
    path: &Path,
    fresh: bool,
    total: u64,
    copies: &[Copy],
    path_of: impl Fn(PartFile) -> PathBuf,
) -> Result<(), SealError> {
    let failed = |doing| move |source| inner.failed(doing, Doing::Write, source);
    let length = if fresh { 0 } else { fs::metadata(path).map_err(failed("look at"))?.len() };
    if !fresh && copies.is_empty() && length == total {
        return Ok(());
    }
    let to = open_to_write(path, fresh).map_err(failed("open"))?;
    let mut from: Option<(PartFile, File)> = None;
    for copy in copies {
        if from.as_ref().is_none_or(|(file, _)| *file != copy.from) {
            let opened = File::open(path_of(copy.from)).map_err(failed("open"))?;
            from = Some((copy.from, opened));
        }
        let (_, source) = from.as_ref().expect("it was opened above");
        copy_bytes(inner, source, &to, *copy)?;
    }
    to.set_len(total).map_err(failed("cut"))
}

fn copy_bytes(inner: &Inner, from: &File, to: &File, copy: Copy) -> Result<(), SealError> {
    let failed = |source| inner.failed("copy a part to", Doing::Write, source);
    let (mut read, mut written) = (copy.offset, copy.to);
    let mut left = copy.length;
    let mut by_hand = false;
    while left > 0 {
        if let Room::Short { .. } = inner.room(0) {
            return Err(SealError::Full);
        }
        let now = left.min(COPY_BYTES);
        let moved = if by_hand {
            copy_by_hand(from, to, read, written, now).map_err(failed)?
        } else {
            match copy_in_kernel(from, to, read, written, now) {
                Ok(moved) => moved,
                Err(Errno::EXDEV | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::EINVAL) => {
                    by_hand = true;
                    continue;
                }
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(failed(errno.into())),
            }
        };
        if moved == 0 {
            let source = io::Error::other("the file of a part is shorter than its record says");
            return Err(SealError::Io { doing: "copy a part to", source });
        }
        (read, written, left) = (read + moved, written + moved, left - moved);
    }
    Ok(())
}

fn copy_in_kernel(
    from: &File,
    to: &File,
    read: u64,
    written: u64,
    count: u64,
) -> Result<u64, Errno> {
    let offset = |at: u64| i64::try_from(at).map_err(|_| Errno::EFBIG);
    let (mut read, mut written) = (offset(read)?, offset(written)?);
    let count = usize::try_from(count).map_err(|_| Errno::EFBIG)?;
    copy_file_range(from, Some(&mut read), to, Some(&mut written), count).map(|moved| moved as u64)
}

fn copy_by_hand(from: &File, to: &File, read: u64, written: u64, count: u64) -> io::Result<u64> {
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(COPY_BUFFER_BYTES);
    let mut buffer = vec![0; count];
    let moved = from.read_at(&mut buffer, read)?;
    to.write_all_at(&buffer[..moved], written)?;
    Ok(moved as u64)
}

fn read_small(
    inner: &Inner,
    chosen: &[UploadedPart],
    path: impl Fn(PartFile) -> PathBuf,
) -> Result<Vec<u8>, SealError> {
    let failed = |source| inner.failed("read a part from", Doing::Read, source);
    let mut bytes = Vec::with_capacity(INLINE_BYTES_MAX);
    for part in chosen.iter().filter(|part| part.size > 0) {
        let file = File::open(path(part.place.file())).map_err(failed)?;
        let start = bytes.len();
        bytes.resize(start + part.size as usize, 0);
        file.read_exact_at(&mut bytes[start..], part.place.offset()).map_err(failed)?;
    }
    Ok(bytes)
}
