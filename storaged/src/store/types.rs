//! The nouns of the store: accounts, paths, contents, records. Plain data; their bytes on disk are
//! the business of [`crate::format`].

use crate::files::Sealed;
use bytes::Bytes;
use std::fmt;
use thiserror::Error;

/// The most bytes in the path of an object: a bucket, a slash and an S3 key of 1,024 bytes fit four
/// times over, and so does what Manta allows.
pub const PATH_BYTES_MAX: usize = 4096;

/// The largest content that is kept in the journal and the index instead of a file, in bytes (decision 66): two
/// pages. A file costs an inode, a block and an fsync of its own.
pub const INLINE_BYTES_MAX: usize = 8 * 1024;

/// The most that a store may be told to keep so, in bytes: what was measured (decision 66). A store reads whatever
/// another limit has left.
pub const INLINE_BYTES_LIMIT: usize = 64 * 1024;

/// An account, by the number that its name was given when it was first seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub u32);

/// The top directories of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Area {
    /// `/login/stor`: private objects; an S3 bucket is a directory of it.
    Stor = 1,
    /// `/login/public`: objects that anybody may read.
    Public = 2,
    /// `/login/jobs`: what jobs leave behind.
    Jobs = 3,
    /// `/login/reports`: what the system reports.
    Reports = 4,
    /// `/login/uploads`: uploads in parts.
    Uploads = 5,
}

impl Area {
    /// All areas, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Stor, Self::Public, Self::Jobs, Self::Reports, Self::Uploads];

    /// The area with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|area| area.number() == number)
    }

    /// The area's number on disk.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The area's name in Manta's paths.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stor => "stor",
            Self::Public => "public",
            Self::Jobs => "jobs",
            Self::Reports => "reports",
            Self::Uploads => "uploads",
        }
    }

    /// The area with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|area| area.name() == name)
    }
}

/// Where an object is: bytes below an area of an account, never normalised.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectPath {
    /// Whose it is.
    pub account: AccountId,
    /// Under which top directory.
    pub area: Area,
    path: Vec<u8>,
}

/// Why a path can't be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PathError {
    /// No bytes at all.
    #[error("a path must not be empty")]
    Empty,
    /// More than [`PATH_BYTES_MAX`].
    #[error("a path has at most {PATH_BYTES_MAX} bytes, this one has {got}")]
    TooLong {
        /// How many it has.
        got: usize,
    },
}

impl ObjectPath {
    /// A path from its parts; `path` is what follows `/login/area/`.
    ///
    /// # Errors
    /// When it is empty or too long; any bytes are fine.
    pub fn new(
        account: AccountId,
        area: Area,
        path: impl Into<Vec<u8>>,
    ) -> Result<Self, PathError> {
        let path = path.into();
        match path.len() {
            0 => Err(PathError::Empty),
            1..=PATH_BYTES_MAX => Ok(Self { account, area, path }),
            got => Err(PathError::TooLong { got }),
        }
    }

    /// What S3 calls `key` in `bucket`, a bucket that `owner` owns.
    ///
    /// # Errors
    /// When both together are too long.
    pub fn of_key(owner: AccountId, bucket: &str, key: &[u8]) -> Result<Self, PathError> {
        let mut path = Vec::with_capacity(bucket.len() + 1 + key.len());
        path.extend_from_slice(bucket.as_bytes());
        path.push(b'/');
        path.extend_from_slice(key);
        Self::new(owner, Area::Stor, path)
    }

    /// The bytes below the area.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.path
    }
}

impl fmt::Debug for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (account, area) = (self.account.0, self.area.name());
        write!(f, "account {account} {area}/{}", self.path.escape_ascii())
    }
}

/// A blob: one immutable file, named by this number for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(pub u64);

/// What identifies one version of one object: the sequence number of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// The fs-verity digest of a file: SHA-256, blocks of 4 KiB, no salt. Where the kernel has no
/// fs-verity the store computes the same digest itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The bytes of an object on their way in.
#[derive(Debug)]
pub enum Content {
    /// At most [`INLINE_BYTES_MAX`], kept in the record.
    Inline(Bytes),
    /// A sealed file. Dropped before it was committed, the file goes too.
    Blob(Sealed),
}

/// Where the bytes of an object are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentRef {
    /// In the record.
    Inline(Bytes),
    /// In a file.
    Blob(BlobId),
}

/// Whether a blob's file is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobState {
    /// On disk and complete, its digest still to come: no zone maps it.
    Sealing,
    /// Sealed; what it must measure.
    Sealed(Digest),
}

/// A blob as the index knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobRecord {
    /// Bytes in the file.
    pub size: u64,
    /// How many records point to it.
    pub references: u32,
    /// Whether it is sealed.
    pub state: BlobState,
}
