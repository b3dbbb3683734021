//! Opening blobs: to serve them, and to show them to zones.

use super::error::OpenBlobError;
use super::{Files, INLINE_DIRECTORY, Inner, directory_name, file_name, next_name};
use crate::index::SharedView;
use crate::store::errno::{Doing, Verdict, verdict};
use crate::store::{
    BlobId, BlobRecord, BlobState, ContentRef, Digest, ObjectRecord, View, blob as blob_record,
};
use nix::libc;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is read at once of a blob that is read from end to end, in bytes.
const READ_BYTES: usize = 1 << 20;

/// An open blob, read-only and sealed. Its descriptor stays good when the blob is deleted.
#[derive(Debug)]
pub struct ObjectFile {
    file: File,
    blob: BlobId,
    size: u64,
}

impl ObjectFile {
    /// Which blob.
    #[must_use]
    pub fn blob(&self) -> BlobId {
        self.blob
    }

    /// Bytes in it.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl AsFd for ObjectFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// An object's bytes as a zone gets them: opened beneath the read-only view. Keep it until the zone is gone,
/// because the file of a small object goes with it.
#[derive(Debug)]
pub struct ViewFile {
    file: File,
    shown: Option<PathBuf>,
}

impl ViewFile {
    /// Whether it is a small object's, whose name goes with it.
    pub(crate) const fn is_small(&self) -> bool {
        self.shown.is_some()
    }
}

impl AsFd for ViewFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for ViewFile {
    fn drop(&mut self) {
        if let Some(path) = &self.shown
            && let Err(error) = fs::remove_file(path)
        {
            log::warn!("could not remove {}: {error}; the next start will", path.display());
        }
    }
}

impl Files {
    pub(crate) fn open_blob(
        &self,
        view: &dyn Fn() -> SharedView,
        blob: BlobId,
    ) -> Result<Arc<ObjectFile>, OpenBlobError> {
        if let Some(file) = self.inner.open.get(blob) {
            return Ok(file);
        }
        let record = blob_record(&*view(), blob)?.ok_or(OpenBlobError::Missing { blob })?;
        let file = Arc::new(self.inner.open_checked(&self.inner.objects, blob, &record)?);
        self.inner.open.put(Arc::clone(&file));
        // The blob may have been deleted, and forgotten, before it was put there: an open file that nobody
        // asks for again would keep its space.
        if blob_record(&*view(), blob)?.is_none() {
            self.inner.open.forget(blob);
        }
        Ok(file)
    }

    /// Reads a blob from end to end on a disk thread, giving its bytes to `take` piece by piece.
    pub(crate) async fn read_through<T: Send + 'static>(
        &self,
        file: Arc<ObjectFile>,
        mut state: T,
        take: fn(&mut T, &[u8]),
    ) -> io::Result<T> {
        let read = move || {
            let mut buffer = vec![0; READ_BYTES];
            let mut at = 0;
            while at < file.size {
                let got = file.file.read_at(&mut buffer, at)?;
                if got == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                take(&mut state, &buffer[..got]);
                at += got as u64;
            }
            Ok(state)
        };
        self.inner.pool.run(read).await?
    }

    pub(crate) fn open_view(
        &self,
        view: &dyn View,
        record: &ObjectRecord,
    ) -> Result<ViewFile, OpenBlobError> {
        match &record.content {
            ContentRef::Inline(bytes) => self.inner.show(bytes).map_err(OpenBlobError::Show),
            ContentRef::Blob(blob) => {
                let blob = *blob;
                let known = blob_record(view, blob)?.ok_or(OpenBlobError::Missing { blob })?;
                let opened = self.inner.open_checked(&self.inner.view, blob, &known)?;
                Ok(ViewFile { file: opened.file, shown: None })
            }
        }
    }
}

fn open_read_only(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)
}

impl Inner {
    fn open_checked(
        &self,
        objects: &Path,
        blob: BlobId,
        record: &BlobRecord,
    ) -> Result<ObjectFile, OpenBlobError> {
        let BlobState::Sealed(expected) = record.state else {
            return Err(OpenBlobError::Sealing { blob });
        };
        let failed = |source| match verdict(Doing::Read, &source) {
            Verdict::Missing => OpenBlobError::Missing { blob },
            Verdict::Full | Verdict::Busy | Verdict::Refuse | Verdict::Latch => {
                OpenBlobError::Io { blob, source }
            }
        };
        let path = objects.join(directory_name(blob)).join(file_name(blob));
        let file = open_read_only(&path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        if size != record.size {
            return Err(OpenBlobError::Size { blob, found: size, expected: record.size });
        }
        if self.abilities.verity {
            // The kernel checks the pages against what it measures; that it is what we sealed is ours to check.
            let found = sys::verity::measure(file.as_fd()).ok().map(Digest);
            if found != Some(expected) {
                log::error!("blob {} is damaged: it measures {found:?}", blob.0);
                return Err(OpenBlobError::Digest { blob, found, expected });
            }
        }
        Ok(ObjectFile { file, blob, size })
    }

    /// Puts a small content into a file of its own, for as long as it is looked at.
    fn show(&self, bytes: &[u8]) -> io::Result<ViewFile> {
        let name = next_name();
        let path = self.objects.join(INLINE_DIRECTORY).join(&name);
        let mut options = OpenOptions::new();
        let mut writer = options.write(true).create_new(true).mode(0o400).open(&path)?;
        let opened = writer
            .write_all(bytes)
            .and_then(|()| open_read_only(&self.view.join(INLINE_DIRECTORY).join(&name)));
        match opened {
            Ok(file) => Ok(ViewFile { file, shown: Some(path) }),
            Err(error) => {
                fs::remove_file(&path)?;
                Err(error)
            }
        }
    }
}
