//! The nouns of uploads in parts. Plain data; their bytes on disk are the business of [`crate::format`].

use crate::store::{ChecksumType, Metadata, ObjectPath};
use std::fmt;

/// An upload, by the sequence number of its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(pub u64);

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl UploadId {
    /// The upload that a text names: 16 hexadecimal digits in lower case, as [`fmt::Display`] writes them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let id = Self(u64::from_str_radix(text, 16).ok()?);
        // No other spelling of the same number: an id is compared as text by those who list.
        (id.to_string() == text).then_some(id)
    }
}

/// A file in the directory of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartFile(pub u64);

impl fmt::Display for PartFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Where the bytes of a part are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a file that parts share, from this byte on.
    Shared {
        /// Which file.
        file: PartFile,
        /// Its first byte there.
        offset: u64,
    },
    /// In a file of its own.
    Own {
        /// Which file.
        file: PartFile,
    },
}

impl Place {
    /// The file.
    #[must_use]
    pub fn file(self) -> PartFile {
        match self {
            Self::Shared { file, .. } | Self::Own { file } => file,
        }
    }

    /// Where in the file the part starts.
    #[must_use]
    pub fn offset(self) -> u64 {
        match self {
            Self::Shared { offset, .. } => offset,
            Self::Own { .. } => 0,
        }
    }
}

/// The file that parts are written into where they are to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedFile {
    /// Which file.
    pub file: PartFile,
    /// Bytes of a slot: part `n` starts at `(n - 1)` times this.
    pub slot_bytes: u64,
}

/// The checksum that an upload was begun with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SumChoice {
    /// The algorithm, as records name it.
    pub algorithm: String,
    /// How it is made.
    pub kind: ChecksumType,
}

/// An upload that has begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Which.
    pub id: UploadId,
    /// The bucket it goes to.
    pub bucket: String,
    /// Where the object will be.
    pub path: ObjectPath,
    /// The name of the account that began it; empty for nobody's.
    pub initiator: String,
    /// When it was begun, milliseconds since 1970.
    pub initiated_ms: u64,
    /// The checksum it was begun with.
    pub sum: Option<SumChoice>,
    /// The file that parts share, once there is one.
    pub shared: Option<SharedFile>,
    /// What its beginner said of the object.
    pub meta: Metadata,
}

impl Upload {
    /// The key in its bucket.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.path.bytes().get(self.bucket.len() + 1..).unwrap_or_default()
    }
}

/// A part that is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadedPart {
    /// Which, from 1 on.
    pub number: u32,
    /// Bytes in it.
    pub size: u64,
    /// Their MD5.
    pub md5: [u8; 16],
    /// When it came, milliseconds since 1970.
    pub modified_ms: u64,
    /// Its checksum: algorithm and value.
    pub sum: Option<(String, String)>,
    /// Where its bytes are.
    pub place: Place,
}

/// An upload that has become an object, kept for those who ask again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedUpload {
    /// Which.
    pub id: UploadId,
    /// Where the object was put.
    pub path: ObjectPath,
    /// When, milliseconds since 1970.
    pub completed_ms: u64,
    /// What the list of its parts came to, so that another list is told from it.
    pub list: [u8; 16],
    /// The answer that was given.
    pub answer: Vec<(String, String)>,
}
