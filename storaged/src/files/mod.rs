//! The files of objects.

use crate::index::{IndexError, View};
use crate::store::{BlobId, Digest, ObjectRecord, Options};
use bytes::Bytes;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use thiserror::Error;

/// Why a staging file can't be made or written.
#[derive(Debug, Error)]
pub enum StageError {
    /// The disk is too full for new objects.
    #[error("the data disk is full; delete objects")]
    Full,
    /// The disk failed.
    #[error("could not {doing} a staging file")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Why a staging file can't be sealed.
#[derive(Debug, Error)]
pub enum SealError {
    /// Somebody has it open for writing still.
    #[error("a process still has the file open for writing")]
    WriterLeft,
    /// The disk is full.
    #[error("the data disk is full; delete objects")]
    Full,
    /// The disk failed.
    #[error("could not {doing} a file")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Why a blob's file can't be opened.
#[derive(Debug, Error)]
pub enum OpenBlobError {
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// There is no such blob, or its file is missing.
    #[error("blob {} is missing", .blob.0)]
    Missing {
        /// Which.
        blob: BlobId,
    },
    /// The disk failed.
    #[error("could not open blob {}", .blob.0)]
    Io {
        /// Which.
        blob: BlobId,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// A staging file. Dropped, it is gone.
#[derive(Debug)]
pub struct Staging {
    written: u64,
}

impl Staging {
    /// Appends bytes.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StageError> {
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Bytes written through [`Staging::write`].
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// A descriptor to write to the file with, and nothing else.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn writer_fd(&mut self) -> Result<OwnedFd, StageError> {
        let doing = "open";
        Err(StageError::Io { doing, source: io::ErrorKind::Unsupported.into() })
    }
}

/// A sealed file without a record yet. Dropped, it is gone; given to a transaction, it is an object.
#[derive(Debug)]
pub struct Sealed {
    pending: Pending,
    size: u64,
    digest: Digest,
    md5: [u8; 16],
}

/// The file of a blob between its sealing and its record.
#[derive(Debug)]
pub(crate) struct Pending {
    blob: BlobId,
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

/// An open blob.
#[derive(Debug)]
pub struct ObjectFile {
    file: OwnedFd,
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

/// An object's bytes as a zone gets them.
#[derive(Debug)]
pub struct ViewFile {
    file: OwnedFd,
}

impl AsFd for ViewFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

pub(crate) struct Files;

impl Files {
    pub(crate) fn open(_options: &Options) -> Self {
        Self
    }

    pub(crate) async fn stage(
        &self,
        _: Option<u64>,
        _: Option<u32>,
    ) -> Result<Staging, StageError> {
        Ok(Staging { written: 0 })
    }

    pub(crate) async fn seal(&self, _staging: Staging) -> Result<Sealed, SealError> {
        Err(SealError::Io { doing: "seal", source: io::ErrorKind::Unsupported.into() })
    }

    pub(crate) fn open_blob(
        &self,
        _: &dyn View,
        blob: BlobId,
    ) -> Result<Arc<ObjectFile>, OpenBlobError> {
        Err(OpenBlobError::Missing { blob })
    }

    pub(crate) fn open_view(
        &self,
        _: &dyn View,
        _: &ObjectRecord,
    ) -> Result<ViewFile, OpenBlobError> {
        Err(OpenBlobError::Missing { blob: BlobId(0) })
    }
}
