//! Sealing: from a staging file to a blob that the kernel lets nobody write, on disk under its final name.
//!
//! ```text
//!   write the rest, close ─▶ project 0 ─▶ no writer left? fs-verity (or a refused lease, and our own digest)
//!     ─▶ 0400 ─▶ rename into objects/ ─▶ fsync: data, tree, mode and name ─▶ Sealed
//! ```

use super::digest::{Measured, measure};
use super::error::{SealError, StageError};
use super::staging::{Body, Staging};
use super::{Files, Inner, XATTR_FORMAT, XATTR_NAME, sync_directory};
use crate::committer::TransactError;
use crate::store::errno::{Doing, Verdict, verdict};
use crate::store::{BlobId, Digest, Durability, Store};
use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a writer may be on its way out: a dead process's io_uring has been seen to hold a file for 96 ms.
const WRITER_WAIT: Duration = Duration::from_secs(1);
/// Between two looks for a writer.
const WRITER_POLL: Duration = Duration::from_millis(10);

/// A sealed file without a record yet. Dropped, it is gone; given to a transaction, it is an object.
#[derive(Debug)]
pub struct Sealed {
    pending: Pending,
    size: u64,
    digest: Digest,
    md5: [u8; 16],
}

impl Sealed {
    /// Its blob.
    #[must_use]
    pub fn blob(&self) -> BlobId {
        self.pending.blob
    }

    /// Bytes in it.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its fs-verity digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The MD5 of its bytes.
    #[must_use]
    pub fn md5(&self) -> [u8; 16] {
        self.md5
    }

    pub(crate) fn into_pending(self) -> Pending {
        self.pending
    }
}

/// The file of a blob between its sealing and its record.
#[derive(Debug)]
pub(crate) struct Pending {
    blob: BlobId,
    inner: Arc<Inner>,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It has no record: it goes.
    Remove,
    /// It has one.
    Keep,
    /// It may have one: the next start looks.
    Leave,
}

impl Pending {
    /// Its record is committed.
    pub(crate) fn keep(mut self) {
        self.fate = Fate::Keep;
    }

    /// Whether its record is committed is unknown.
    pub(crate) fn leave(mut self) {
        self.fate = Fate::Leave;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        match self.fate {
            Fate::Keep => self.inner.ids.settle(self.blob),
            Fate::Leave => {}
            Fate::Remove => {
                let (inner, blob) = (Arc::clone(&self.inner), self.blob);
                self.inner.pool.post(move || inner.remove_unrecorded(blob));
            }
        }
    }
}

impl Inner {
    fn remove_unrecorded(&self, blob: BlobId) {
        match fs::remove_file(self.path_of(blob)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("could not remove blob {}: {error}; the next start will", blob.0);
            }
            Ok(()) | Err(_) => self.ids.settle(blob),
        }
    }

    pub(super) fn failed(&self, doing: &'static str, what: Doing, source: io::Error) -> SealError {
        match verdict(what, &source) {
            Verdict::Full => SealError::Full,
            Verdict::Busy => SealError::WriterLeft,
            Verdict::Latch => {
                SealError::ReadOnly(self.latch.close(format!("could not {doing} a file: {source}")))
            }
            Verdict::Missing | Verdict::Refuse => SealError::Io { doing, source },
        }
    }
}

impl Files {
    pub(crate) async fn seal(&self, store: &Store, staging: Staging) -> Result<Sealed, SealError> {
        if let Some(why) = self.inner.latch.closed() {
            return Err(SealError::ReadOnly(why));
        }
        let pending = self.inner.pending(store).await?;
        let (body, pieces, md5) = staging.into_parts();
        let failed = |source| SealError::Io { doing: "seal", source };
        // The last pieces are hashed while they are written, and the file is sealed and synced.
        let hashed = md5.map(|md5| self.inner.hasher.update(md5, &pieces));
        let unseen = hashed.is_none();
        let work = move || seal_blocking(pending, &body, &pieces, unseen);
        let mut sealed = self.inner.pool.run(work).await.map_err(failed)??;
        if let Some(hashed) = hashed {
            let md5 = hashed.await.map_err(|_| failed(io::Error::other("hashing panicked")))?;
            sealed.md5 = md5.finish();
        }
        Ok(sealed)
    }
}

impl Inner {
    /// An id for a file that is about to be sealed. From here on it is settled, whatever happens, and
    /// whoever drops this future.
    pub(super) async fn pending(self: &Arc<Self>, store: &Store) -> Result<Pending, SealError> {
        let blob = self.next_id(store).await?;
        Ok(Pending { blob, inner: Arc::clone(self), fate: Fate::Remove })
    }

    async fn next_id(&self, store: &Store) -> Result<BlobId, SealError> {
        loop {
            if let Some(blob) = self.ids.take() {
                return Ok(blob);
            }
            let block = store.transact(self.ids.reserve()).await.map_err(|error| match error {
                TransactError::Full => SealError::Full,
                TransactError::ReadOnly(why) => SealError::ReadOnly(why),
                TransactError::Busy
                | TransactError::ShutDown
                | TransactError::Panicked
                | TransactError::TooLarge { .. } => SealError::Busy,
                TransactError::Refused(error) => {
                    SealError::Io { doing: "reserve an id for", source: io::Error::other(error) }
                }
            })?;
            self.ids.add(block);
        }
    }
}

/// Seals a file. If its bytes were unseen, they are read for their MD5; else that is left to the caller.
fn seal_blocking(
    pending: Pending,
    body: &Body,
    pieces: &[Bytes],
    unseen: bool,
) -> Result<Sealed, SealError> {
    let inner = Arc::clone(&pending.inner);
    let failed = |doing, what| {
        let inner = &inner;
        move |source: io::Error| inner.failed(doing, what, source)
    };
    let seen = body.finish(pieces).map_err(|error: StageError| SealError::from(error))?;
    let seen = seen.filter(|_| !unseen);
    let file = File::open(&body.path).map_err(failed("open", Doing::Write))?;
    if body.project.is_some() {
        // Before the tree is added: that is ours, and the task's quota may be used up.
        sys::project::set_project(file.as_fd(), 0)
            .map_err(|errno| failed("reset the project of", Doing::Write)(errno.into()))?;
    }
    mark(&inner, &file, pending.blob)?;
    bar_writers(&inner, &file)?;
    let (size, digest, md5) = examine(&inner, &file, unseen, seen)?;
    let md5 = md5.unwrap_or_default();
    file.set_permissions(Permissions::from_mode(0o400)).map_err(failed("protect", Doing::Write))?;
    move_in(&inner, body, pending.blob)?;
    settle(&inner, &file, pending.blob)?;
    Ok(Sealed { pending, size, digest, md5 })
}

/// Seals a file of an upload, which keeps its name there until its record is committed: it is linked, so that
/// neither a crash nor a failure takes it from the upload. It may have been sealed before, and then failed.
pub(super) fn seal_linked(
    pending: Pending,
    path: &Path,
    size: u64,
    md5: [u8; 16],
) -> Result<Sealed, SealError> {
    let inner = Arc::clone(&pending.inner);
    let failed = |doing, what| {
        let inner = &inner;
        move |source: io::Error| inner.failed(doing, what, source)
    };
    let file = File::open(path).map_err(failed("open", Doing::Write))?;
    let mode = |mode| Permissions::from_mode(mode);
    // Who may not write to a file may not mark it either.
    file.set_permissions(mode(0o600)).map_err(failed("open up", Doing::Write))?;
    mark(&inner, &file, pending.blob)?;
    bar_writers(&inner, &file)?;
    let (found, digest, _) = examine(&inner, &file, false, None)?;
    if found != size {
        let source = io::Error::other(format!("it has {found} bytes instead of {size}"));
        return Err(SealError::Io { doing: "seal the parts in", source });
    }
    file.set_permissions(mode(0o400)).map_err(failed("protect", Doing::Write))?;
    inner.make_directory_of(pending.blob).map_err(failed("make a directory for", Doing::Write))?;
    // Fails if the name is taken: an id that is used twice would be the loss of an object.
    fs::hard_link(path, inner.path_of(pending.blob)).map_err(failed("link", Doing::Write))?;
    settle(&inner, &file, pending.blob)?;
    Ok(Sealed { pending, size, digest, md5 })
}

/// Writes on a file which blob it is.
fn mark(inner: &Inner, file: &File, blob: BlobId) -> Result<(), SealError> {
    if !inner.abilities.xattr {
        return Ok(());
    }
    let mut value = vec![XATTR_FORMAT];
    value.extend_from_slice(&blob.0.to_le_bytes());
    sys::xattr::set(file.as_fd(), XATTR_NAME, &value)
        .map_err(|errno| inner.failed("mark", Doing::Write, errno.into()))
}

/// Size, digest and, if it is wanted, MD5 of a file that nobody writes to any more; given what was seen of
/// it while it was written, if all was.
fn examine(
    inner: &Inner,
    file: &File,
    want_md5: bool,
    seen: Option<(u64, Digest)>,
) -> Result<(u64, Digest, Option<[u8; 16]>), SealError> {
    let failed = |doing| move |source| inner.failed(doing, Doing::Read, source);
    let size = file.metadata().map_err(failed("look at"))?.len();
    // All bytes went through our hands, and were hashed there: they need not be read back.
    if let Some((length, digest)) = seen.filter(|_| !want_md5) {
        if length != size {
            let text = format!("it has {size} bytes, {length} were written");
            return Err(SealError::Io { doing: "seal", source: io::Error::other(text) });
        }
        return Ok((size, digest, None));
    }
    let verity = inner.abilities.verity;
    let Measured { md5, digest } = measure(file, want_md5, !verity).map_err(failed("read back"))?;
    let digest = match digest {
        Some(digest) => digest,
        None => Digest(
            sys::verity::measure(file.as_fd()).map_err(|errno| failed("measure")(errno.into()))?,
        ),
    };
    Ok((size, digest, md5))
}

/// Sees to it that all of a file is on disk: data, tree, mode and name.
fn settle(inner: &Inner, file: &File, blob: BlobId) -> Result<(), SealError> {
    let failed = |doing| move |source| inner.failed(doing, Doing::Sync, source);
    if inner.durability == Durability::Fsync {
        file.sync_all().map_err(failed("sync"))?;
        if !inner.abilities.sync_carries_rename {
            sync_directory(&inner.directory_of(blob)).map_err(failed("sync the directory of"))?;
        }
    }
    Ok(())
}

/// Waits until nobody can write to the file any more, and sees to it that nobody ever will.
fn bar_writers(inner: &Inner, file: &File) -> Result<(), SealError> {
    let deadline = Instant::now() + WRITER_WAIT;
    loop {
        let barred = if inner.abilities.verity {
            sys::verity::seal(file.as_fd())
        } else {
            // Nobody but us may open it for writing, and we don't.
            sys::lease::no_writer(file.as_fd())
                .and_then(|none| if none { Ok(()) } else { Err(Errno::ETXTBSY) })
        };
        match barred {
            // One that a completion had sealed before it failed is.
            Ok(()) | Err(Errno::EEXIST) => return Ok(()),
            Err(Errno::ETXTBSY) if Instant::now() < deadline => std::thread::sleep(WRITER_POLL),
            Err(errno) => return Err(inner.failed("seal", Doing::Seal, errno.into())),
        }
    }
}

fn move_in(inner: &Inner, body: &Body, blob: BlobId) -> Result<(), SealError> {
    inner
        .make_directory_of(blob)
        .map_err(|source| inner.failed("make a directory for", Doing::Write, source))?;
    let to = inner.path_of(blob);
    // Never over another blob: an id that is used twice would be the loss of an object.
    renameat2(AT_FDCWD, &body.path, AT_FDCWD, &to, RenameFlags::RENAME_NOREPLACE)
        .map_err(|errno| inner.failed("move in", Doing::Write, errno.into()))?;
    body.moved();
    Ok(())
}
