//! A part on its way in: claimed, written, synced; and then recorded, or worth nothing.

use super::entry::Guard;
use super::{PartError, file_path};
use crate::files::error::StageError;
use crate::files::{BUFFER_BYTES, Inner, STAGINGS_MAX, sync_directory};
use crate::store::errno::{Doing, Verdict, verdict};
use crate::store::uploads::{Place, SharedFile, UploadId};
use crate::store::{Durability, ObjectFile, Room};
use bytes::Bytes;
use md5::{Digest as _, Md5};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::uio::pread;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

/// A part being written. Dropped, it is gone.
#[derive(Debug)]
pub struct PartWriter {
    pub(super) body: Arc<PartBody>,
    pieces: Vec<Bytes>,
    waiting: usize,
    accepted: u64,
}

/// The share of the disk threads: it outlives a future that was dropped while one of them was writing.
#[derive(Debug)]
pub(super) struct PartBody {
    pub(super) guard: Guard,
    pub(super) number: u32,
    pub(super) place: Place,
    /// The shared file as it was when the place in it was claimed, for the upload's record.
    pub(super) shared: Option<SharedFile>,
    /// The most bytes; beyond them is somebody else's place.
    limit: u64,
    state: Mutex<State>,
    fate: Mutex<Fate>,
}

#[derive(Debug)]
enum State {
    Open(Writer),
    /// All of it is written, and nothing more may be.
    Written {
        size: u64,
        md5: [u8; 16],
        file: File,
    },
    Synced,
    /// The upload was completed or aborted meanwhile.
    Revoked,
}

#[derive(Debug)]
struct Writer {
    file: File,
    written: u64,
    md5: Md5,
    /// A failed write leaves a hole: nothing may follow it.
    failed: bool,
}

/// What becomes of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// They have no record.
    Remove,
    /// They have one.
    Keep,
    /// They may have one: the next start looks.
    Leave,
}

/// A part that is written, and not yet recorded.
#[derive(Debug)]
pub struct WrittenPart {
    pub(super) body: Arc<PartBody>,
    size: u64,
    md5: [u8; 16],
}

impl WrittenPart {
    /// Bytes in it.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Their MD5.
    #[must_use]
    pub fn md5(&self) -> [u8; 16] {
        self.md5
    }

    /// Whether its bytes are where they will stay.
    #[must_use]
    pub fn in_place(&self) -> bool {
        matches!(self.body.place, Place::Shared { .. })
    }
}

impl Inner {
    pub(super) fn part_failed(
        &self,
        doing: &'static str,
        what: Doing,
        source: io::Error,
    ) -> StageError {
        match verdict(what, &source) {
            Verdict::Full => StageError::Full,
            Verdict::Latch => StageError::ReadOnly(
                self.latch.close(format!("could not {doing} the file of a part: {source}")),
            ),
            Verdict::Busy | Verdict::Missing | Verdict::Refuse => StageError::Io { doing, source },
        }
    }
}

impl Drop for PartBody {
    fn drop(&mut self) {
        let inner = self.guard.inner();
        inner.staged.fetch_sub(1, Ordering::Relaxed);
        let fate = *self.fate.get_mut().expect("no holder of this lock panics");
        let abandoned = self.guard.release(self.number, self.place, fate != Fate::Remove);
        let own = matches!(self.place, Place::Own { .. });
        if fate == Fate::Remove && (own || abandoned) {
            inner.unlink_part_file(self.guard.id(), self.place.file());
        }
    }
}

impl Inner {
    /// Removes a file of an upload, soon.
    pub(super) fn unlink_part_file(&self, id: UploadId, file: crate::store::uploads::PartFile) {
        let path = file_path(&self.uploads, id, file);
        self.pool.post(move || match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("could not remove {}: {error}; the next start will", path.display());
            }
            Ok(()) | Err(_) => {}
        });
    }
}

impl PartBody {
    pub(super) fn new(
        guard: Guard,
        number: u32,
        place: Place,
        shared: Option<SharedFile>,
        limit: u64,
    ) -> Self {
        // Counted here: the drop takes it back.
        guard.inner().staged.fetch_add(1, Ordering::Relaxed);
        let (state, fate) = (Mutex::new(State::Revoked), Mutex::new(Fate::Remove));
        Self { guard, number, place, shared, limit, state, fate }
    }

    pub(super) fn fate(&self, fate: Fate) {
        *self.fate.lock().expect("no holder of this lock panics") = fate;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn path(&self) -> PathBuf {
        file_path(&self.guard.inner().uploads, self.guard.id(), self.place.file())
    }

    /// Nothing is written from here on: waits for the write that is under way, if one is.
    pub(super) fn revoke(&self) {
        *self.lock() = State::Revoked;
    }

    /// Opens the file, makes room.
    pub(super) fn open(&self, size: Option<u64>) -> Result<(), PartError> {
        let inner = self.guard.inner();
        let failed = |doing| move |source| inner.part_failed(doing, Doing::Write, source);
        if inner.staged.load(Ordering::Relaxed) > STAGINGS_MAX {
            return Err(StageError::Busy.into());
        }
        inner.make_upload_directory(self.guard.id()).map_err(failed("make a directory for"))?;
        let own = matches!(self.place, Place::Own { .. });
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600);
        if own {
            options.create_new(true)
        } else {
            options.create(true)
        };
        let file = match options.open(self.path()) {
            // A completion that failed had sealed it.
            Err(error) if !own && error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(PartError::Frozen);
            }
            opened => opened.map_err(failed("make"))?,
        };
        if let Some(size) = size.filter(|size| *size >= crate::files::staging::ALLOCATE_BYTES_MIN) {
            let size = i64::try_from(size).map_err(|_| StageError::Full)?;
            let start = i64::try_from(self.place.offset()).map_err(|_| StageError::Full)?;
            match fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, start, size) {
                // Not every file system can; then the writes will say when there is no room.
                Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP) => {}
                Err(errno) => return Err(failed("make room in")(errno.into()).into()),
            }
        }
        let writer = Writer { file, written: 0, md5: Md5::new(), failed: false };
        *self.lock() = State::Open(writer);
        Ok(())
    }

    fn write(&self, pieces: &[Bytes]) -> Result<(), PartError> {
        let inner = self.guard.inner();
        let mut state = self.lock();
        let State::Open(writer) = &mut *state else { return Err(PartError::Ended) };
        if writer.failed {
            let source = io::ErrorKind::BrokenPipe.into();
            return Err(StageError::Io { doing: "write after a failure to", source }.into());
        }
        // Asked for again and again: deletes need room, too.
        if let Room::Short { .. } = inner.room(0) {
            writer.failed = true;
            return Err(StageError::Full.into());
        }
        for piece in pieces {
            if writer.written + piece.len() as u64 > self.limit {
                writer.failed = true;
                return Err(PartError::TooLong { limit: self.limit });
            }
            writer.md5.update(piece);
            let at = self.place.offset() + writer.written;
            if let Err(source) = writer.file.write_all_at(piece, at) {
                writer.failed = true;
                return Err(inner.part_failed("write", Doing::Write, source).into());
            }
            writer.written += piece.len() as u64;
        }
        Ok(())
    }

    /// Writes the last pieces; nothing may follow them. Bytes and their MD5.
    fn finish(&self, pieces: &[Bytes]) -> Result<(u64, [u8; 16]), PartError> {
        if !pieces.is_empty() {
            self.write(pieces)?;
        }
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Revoked) {
            State::Open(writer) if !writer.failed => {
                let (size, md5) = (writer.written, writer.md5.finalize().into());
                *state = State::Written { size, md5, file: writer.file };
                Ok((size, md5))
            }
            State::Open(_) => {
                let source = io::ErrorKind::BrokenPipe.into();
                Err(StageError::Io { doing: "finish a half-written", source }.into())
            }
            State::Written { .. } | State::Synced | State::Revoked => Err(PartError::Ended),
        }
    }

    /// Sees to it that what was written is on disk, under its name; its size and MD5.
    pub(super) fn sync(&self) -> Result<(u64, [u8; 16]), PartError> {
        let inner = self.guard.inner();
        let mut state = self.lock();
        let State::Written { size, md5, file } = std::mem::replace(&mut *state, State::Synced)
        else {
            return Err(PartError::Ended);
        };
        if inner.durability == Durability::Fsync {
            let failed = |source| inner.part_failed("sync", Doing::Sync, source);
            file.sync_all().map_err(failed)?;
            if !inner.abilities.sync_carries_rename {
                sync_directory(&super::directory(&inner.uploads, self.guard.id()))
                    .map_err(failed)?;
            }
        }
        Ok((size, md5))
    }
}

impl PartWriter {
    pub(super) fn new(body: Arc<PartBody>) -> Self {
        Self { body, pieces: Vec::new(), waiting: 0, accepted: 0 }
    }

    /// Appends bytes. They are gathered, and written by a disk thread once there are enough.
    ///
    /// # Errors
    /// When the disk is full or fails, or the upload ended meanwhile; the part is over then.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), PartError> {
        self.accepted += bytes.len() as u64;
        self.waiting += bytes.len();
        self.pieces.push(bytes);
        if self.waiting < BUFFER_BYTES {
            return Ok(());
        }
        let pieces = std::mem::take(&mut self.pieces);
        self.waiting = 0;
        let body = Arc::clone(&self.body);
        let written = self.body.guard.inner().pool.run(move || body.write(&pieces)).await;
        written.map_err(|source| StageError::Io { doing: "write", source })?
    }

    /// Bytes taken by [`PartWriter::write`].
    #[must_use]
    pub fn written(&self) -> u64 {
        self.accepted
    }

    /// Writes what is left: the part is complete, but neither on disk nor recorded.
    ///
    /// # Errors
    /// As [`PartWriter::write`].
    pub async fn finish(mut self) -> Result<WrittenPart, PartError> {
        let pieces = std::mem::take(&mut self.pieces);
        let body = Arc::clone(&self.body);
        let finished = self.body.guard.inner().pool.run(move || body.finish(&pieces)).await;
        let (size, md5) =
            finished.map_err(|source| StageError::Io { doing: "write", source })??;
        Ok(WrittenPart { body: self.body, size, md5 })
    }
}

/// Bytes of an object that are copied at a time.
const COPY_BYTES: u64 = 1 << 20;

impl PartWriter {
    /// Fills the part with bytes of an object. It takes long, so it is not for the disk threads that others
    /// wait for.
    pub(crate) async fn copy<S: Send + 'static>(
        self,
        from: Arc<ObjectFile>,
        range: Range<u64>,
        mut sink: S,
        take: fn(&mut S, &[u8]),
    ) -> Result<(WrittenPart, S), PartError> {
        let body = Arc::clone(&self.body);
        let job = move || -> Result<(u64, [u8; 16], S), PartError> {
            let mut at = range.start;
            while at < range.end {
                let mut buffer = vec![0; COPY_BYTES.min(range.end - at) as usize];
                let failed = |source| StageError::Io { doing: "read an object into", source };
                match pread(from.as_fd(), &mut buffer, at.cast_signed()) {
                    Ok(0) => return Err(failed(io::ErrorKind::UnexpectedEof.into()).into()),
                    Ok(count) => buffer.truncate(count),
                    Err(Errno::EINTR) => continue,
                    Err(errno) => return Err(failed(errno.into()).into()),
                }
                at += buffer.len() as u64;
                take(&mut sink, &buffer);
                body.write(&[buffer.into()])?;
            }
            let (size, md5) = body.finish(&[])?;
            Ok((size, md5, sink))
        };
        let copied = self.body.guard.inner().completers.run(job).await;
        let (size, md5, sink) =
            copied.map_err(|source| StageError::Io { doing: "fill", source })??;
        Ok((WrittenPart { body: self.body, size, md5 }, sink))
    }
}
