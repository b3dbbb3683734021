//! How a store is opened, and why it may not open.

use super::{FilesError, HomeError, INLINE_BYTES_MAX, IndexError, RecoverError};
use crate::files::SweepError;
use crate::snapshot::{self, SnapshotError};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// What an acknowledgement means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On disk.
    Fsync,
    /// In the kernel: a power cut may lose the last seconds. For tests and throw-away stores.
    None,
}

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// The store's directory; made if missing.
    pub data: PathBuf,
    /// The read-only view of its objects, beneath which whatever goes to a zone is opened.
    pub objects_view: Option<PathBuf>,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// Bytes that must stay free for deletes; `None`: the larger of 1 % and 256 MiB.
    pub kept_bytes: Option<u64>,
    /// Memory for the index's cache, in bytes; cut down to [`crate::index::CACHE_BYTES_MAX`].
    pub cache_bytes: usize,
    /// Threads that write, seal and sync files.
    pub disk_threads: usize,
    /// Bytes of journal after which a snapshot is made.
    pub snapshot_journal_bytes: u64,
    /// Bytes after which the journal begins a new segment.
    pub segment_bytes: u64,
    /// Bytes a second that the scrub reads; 0: there is none.
    pub scrub_rate: u64,
    /// The largest content that is kept in the index, in bytes; cut down to [`super::INLINE_BYTES_LIMIT`].
    pub inline_bytes: usize,
}

/// Threads that write, seal and sync files, unless told otherwise: enough that fsyncs of several
/// uploads share one commit of the file system's journal.
pub const DISK_THREADS: usize = 16;

/// The part of the machine's memory that the index's cache takes, up to its limit.
const CACHE_PART: u64 = 16;

fn cache_bytes() -> usize {
    let memory = nix::sys::sysinfo::sysinfo().map_or(0, |info| info.ram_total());
    usize::try_from(memory / CACHE_PART)
        .unwrap_or(usize::MAX)
        .clamp(crate::index::CACHE_BYTES_MIN, crate::index::CACHE_BYTES_MAX)
}

impl Options {
    /// A durable store in this directory.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            objects_view: None,
            durability: Durability::Fsync,
            kept_bytes: None,
            cache_bytes: cache_bytes(),
            disk_threads: DISK_THREADS,
            snapshot_journal_bytes: snapshot::JOURNAL_BYTES,
            segment_bytes: crate::journal::SEGMENT_BYTES_MAX,
            scrub_rate: 0,
            inline_bytes: INLINE_BYTES_MAX,
        }
    }
}

/// Why a store does not open.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Its directory is not a store's, or not ours to open.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The journal is damaged.
    #[error(transparent)]
    Journal(#[from] RecoverError),
    /// A snapshot failed.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The files' directories failed.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Something else failed.
    #[error("could not {doing}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl From<SweepError> for OpenError {
    fn from(error: SweepError) -> Self {
        match error {
            SweepError::Index(error) => Self::Index(error),
            SweepError::Files(error) => Self::Files(error),
        }
    }
}
