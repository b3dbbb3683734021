//! Staging files: objects on their way in.

use super::digest::Gathered;
use super::error::StageError;
use super::hasher::Md5;
use super::{Files, Inner, STAGINGS_MAX, next_name};
use crate::store::errno::{Doing, Verdict, verdict};
use crate::store::{Digest, Room};
use bytes::Bytes;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// Bytes that are gathered before a disk thread is asked to write them: an object of up to 1 MiB, which
/// many are, is written, digested and sealed in one go.
pub const BUFFER_BYTES: usize = 1 << 20;
/// From this length on, the space of an upload is asked for at its beginning.
pub(super) const ALLOCATE_BYTES_MIN: u64 = 1 << 20;

/// A staging file. Dropped, it is gone.
#[derive(Debug)]
pub struct Staging {
    pub(super) body: Arc<Body>,
    pieces: Vec<Bytes>,
    waiting: usize,
    accepted: u64,
    /// Of what was flushed; none once a flush has failed.
    md5: Option<Md5>,
    handed_out: bool,
}

/// The part that disk threads share: it outlives a future that was dropped while one was writing.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) inner: Arc<Inner>,
    pub(super) path: PathBuf,
    pub(super) project: Option<u32>,
    pub(super) state: Mutex<State>,
}

#[derive(Debug)]
pub(super) enum State {
    /// Being written.
    Open(Writer),
    /// Whole.
    Closed,
    /// Renamed away or removed.
    Moved,
}

#[derive(Debug)]
pub(super) struct Writer {
    file: File,
    offset: u64,
    /// Of what was written, where the kernel keeps no digest.
    digest: Option<Gathered>,
    /// A failed write leaves a hole: nothing may follow it.
    failed: bool,
}

impl Drop for Body {
    fn drop(&mut self) {
        self.inner.staged.fetch_sub(1, Ordering::Relaxed);
        let state = self.state.get_mut().expect("no holder of this lock panics");
        if matches!(state, State::Moved) {
            return;
        }
        let path = std::mem::take(&mut self.path);
        // Unlinking a large file takes a while, and this may be anybody's thread.
        self.inner.pool.post(move || {
            if let Err(error) = fs::remove_file(&path) {
                log::warn!("could not remove {}: {error}; the next start will", path.display());
            }
        });
    }
}

impl Files {
    pub(crate) async fn stage(
        &self,
        length: Option<u64>,
        project: Option<u32>,
    ) -> Result<Staging, StageError> {
        if let Some(why) = self.inner.latch.closed() {
            return Err(StageError::ReadOnly(why));
        }
        if let Room::Short { .. } = self.room(length.unwrap_or(0)) {
            return Err(StageError::Full);
        }
        // Counted before it is made: the body's drop takes it back.
        let before = self.inner.staged.fetch_add(1, Ordering::Relaxed);
        let path = self.inner.staging.join(next_name());
        let inner = Arc::clone(&self.inner);
        let state = Mutex::new(State::Moved);
        // Where there are no projects there are no quotas either: it was said at start.
        let project = project.filter(|_| inner.abilities.project);
        let body = Arc::new(Body { inner, path, project, state });
        if before >= STAGINGS_MAX {
            return Err(StageError::Busy);
        }
        let made = Arc::clone(&body);
        let made = self.inner.pool.run(move || made.create(length)).await;
        made.map_err(|source| StageError::Io { doing: "make", source })??;
        let (pieces, waiting, accepted, handed_out) = (Vec::new(), 0, 0, false);
        let md5 = Some(Md5::default());
        Ok(Staging { body, pieces, waiting, accepted, md5, handed_out })
    }
}

impl Body {
    fn failed(&self, doing: &'static str, what: Doing, source: io::Error) -> StageError {
        match verdict(what, &source) {
            Verdict::Full => StageError::Full,
            Verdict::Latch => StageError::ReadOnly(
                self.inner.latch.close(format!("could not {doing} a staging file: {source}")),
            ),
            Verdict::Busy | Verdict::Missing | Verdict::Refuse => StageError::Io { doing, source },
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn create(&self, length: Option<u64>) -> Result<(), StageError> {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.path)
            .map_err(|source| self.failed("make", Doing::Write, source))?;
        let digest = (!self.inner.abilities.verity).then(Gathered::default);
        let writer = Writer { file, offset: 0, digest, failed: false };
        let mut state = self.lock();
        *state = State::Open(writer);
        let State::Open(writer) = &mut *state else { unreachable!("it was set to this") };
        if let Some(project) = self.project {
            sys::project::set_project(writer.file.as_fd(), project).map_err(|errno| {
                StageError::Io { doing: "set the project of", source: errno.into() }
            })?;
        }
        match length {
            Some(length) if length >= ALLOCATE_BYTES_MIN => {
                let size = i64::try_from(length).map_err(|_| StageError::Full)?;
                match fallocate(&writer.file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, size) {
                    // Not every file system can; then the writes will say when there is no room.
                    Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP) => Ok(()),
                    Err(errno) => Err(self.failed("make room for", Doing::Write, errno.into())),
                }
            }
            _ => Ok(()),
        }
    }

    fn write(&self, pieces: &[Bytes]) -> Result<(), StageError> {
        let mut state = self.lock();
        let State::Open(writer) = &mut *state else {
            let source = io::ErrorKind::BrokenPipe.into();
            return Err(StageError::Io { doing: "write to a closed", source });
        };
        if writer.failed {
            let source = io::ErrorKind::BrokenPipe.into();
            return Err(StageError::Io { doing: "write after a failure to", source });
        }
        // Asked for again and again: an upload need not say how long it gets, and deletes need room, too.
        if let Room::Short { .. } = self.inner.room(0) {
            writer.failed = true;
            return Err(StageError::Full);
        }
        for piece in pieces {
            if let Err(source) = writer.file.write_all_at(piece, writer.offset) {
                writer.failed = true;
                return Err(self.failed("write", Doing::Write, source));
            }
            writer.offset += piece.len() as u64;
            if let Some(digest) = &mut writer.digest {
                digest.update(piece);
            }
        }
        Ok(())
    }

    /// Closes the file; what was written through here, its length and its digest, if we keep them.
    pub(super) fn close(&self) -> Result<Option<(u64, Digest)>, StageError> {
        match std::mem::replace(&mut *self.lock(), State::Closed) {
            State::Open(writer) if writer.failed => {
                let source = io::ErrorKind::BrokenPipe.into();
                Err(StageError::Io { doing: "seal a half-written", source })
            }
            State::Open(writer) => Ok(writer.digest.map(Gathered::finish)),
            State::Closed => Ok(None),
            State::Moved => unreachable!("a staging file that was moved away is not used any more"),
        }
    }
}

impl Staging {
    /// Appends bytes. They are gathered, and written by a disk thread once there are enough.
    ///
    /// # Errors
    /// When the disk is full or fails; the upload is over then.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StageError> {
        self.accepted += bytes.len() as u64;
        self.waiting += bytes.len();
        self.pieces.push(bytes);
        if self.waiting > BUFFER_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Bytes taken by [`Staging::write`].
    #[must_use]
    pub fn written(&self) -> u64 {
        self.accepted
    }

    /// A descriptor to write to the file with, and nothing else. What is written through it counts against
    /// the file's project; [`crate::store::Store::seal`] waits a second for all its copies to be closed.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn writer_fd(&mut self) -> Result<OwnedFd, StageError> {
        let file = OpenOptions::new().write(true).open(&self.body.path);
        let file = file.map_err(|source| self.body.failed("open", Doing::Write, source))?;
        self.handed_out = true;
        Ok(file.into())
    }

    /// Writes what is gathered, and hashes it meanwhile.
    async fn flush(&mut self) -> Result<(), StageError> {
        if self.pieces.is_empty() {
            return Ok(());
        }
        let failed = |source| StageError::Io { doing: "write", source };
        let pieces = std::mem::take(&mut self.pieces);
        self.waiting = 0;
        let broken = || failed(io::ErrorKind::BrokenPipe.into());
        let md5 = self.md5.take().ok_or_else(broken)?;
        let hashed = self.body.inner.hasher.update(md5, &pieces);
        let body = Arc::clone(&self.body);
        self.body.inner.pool.run(move || body.write(&pieces)).await.map_err(failed)??;
        let md5 = hashed.await.map_err(|_| failed(io::Error::other("hashing panicked")))?;
        self.md5 = Some(md5);
        Ok(())
    }

    /// Takes what is left to write and, if all bytes came through [`Staging::write`], the MD5 of those before.
    pub(super) fn into_parts(mut self) -> (Arc<Body>, Vec<Bytes>, Option<Md5>) {
        let md5 = self.md5.take().filter(|_| !self.handed_out);
        (Arc::clone(&self.body), std::mem::take(&mut self.pieces), md5)
    }
}

impl Body {
    /// Writes the last pieces and closes the file, as [`Body::close`] does.
    pub(super) fn finish(&self, pieces: &[Bytes]) -> Result<Option<(u64, Digest)>, StageError> {
        if !pieces.is_empty() {
            self.write(pieces)?;
        }
        self.close()
    }

    /// Notes that the file is no longer under its staging name.
    pub(super) fn moved(&self) {
        *self.lock() = State::Moved;
    }
}
