//! What can go wrong with files.

use crate::store::{BlobId, Digest, IndexError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Why the files of a store can't be opened.
#[derive(Debug, Error)]
#[error("could not {doing} {}", .path.display())]
pub struct FilesError {
    /// What was tried.
    pub doing: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

impl FilesError {
    pub(super) fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { doing, path, source }
    }
}

/// Why a staging file can't be made or written.
#[derive(Debug, Error)]
pub enum StageError {
    /// The disk is too full for new objects.
    #[error("the data disk is full; delete objects")]
    Full,
    /// Too many uploads at once.
    #[error("{} uploads are open, more are refused; try again later", super::STAGINGS_MAX)]
    Busy,
    /// The store takes no changes any more.
    #[error("the store is read-only: {0}")]
    ReadOnly(Arc<str>),
    /// The disk failed, or the process is out of something.
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
    /// Somebody still has it open for writing.
    #[error("a process still has the file open for writing: end whatever was given its descriptor")]
    WriterLeft,
    /// The disk is full.
    #[error("the data disk is full; delete objects")]
    Full,
    /// The store takes no changes any more.
    #[error("the store is read-only: {0}")]
    ReadOnly(Arc<str>),
    /// Too many transactions wait.
    #[error("the store is busy; try again later")]
    Busy,
    /// The disk failed, or the process is out of something.
    #[error("could not {doing} a file")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl From<StageError> for SealError {
    fn from(error: StageError) -> Self {
        match error {
            StageError::Full => Self::Full,
            StageError::Busy => Self::Busy,
            StageError::ReadOnly(why) => Self::ReadOnly(why),
            StageError::Io { doing, source } => Self::Io { doing, source },
        }
    }
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
    /// Its file is not sealed yet.
    #[error("blob {} is being sealed; try again later", .blob.0)]
    Sealing {
        /// Which.
        blob: BlobId,
    },
    /// Its file has another size than the index says.
    #[error("blob {} is damaged: it has {found} bytes instead of {expected}", .blob.0)]
    Size {
        /// Which.
        blob: BlobId,
        /// Bytes it has.
        found: u64,
        /// Bytes it should have.
        expected: u64,
    },
    /// Its file is sealed with another digest than the index says, or not at all.
    #[error("blob {} is damaged: it measures {found:?} instead of {expected}", .blob.0)]
    Digest {
        /// Which.
        blob: BlobId,
        /// What the kernel measured.
        found: Option<Digest>,
        /// What it should be.
        expected: Digest,
    },
    /// The disk failed, or the process is out of something.
    #[error("could not open blob {}", .blob.0)]
    Io {
        /// Which.
        blob: BlobId,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A small content could not be shown as a file.
    #[error("could not show a small object as a file")]
    Show(#[source] io::Error),
}
