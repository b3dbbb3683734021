//! Records of objects and buckets, as everything above the index sees them. Plain data; their bytes on
//! disk are the business of [`crate::format`].
//!
//! An object is a stack of versions, the newest on top. At most one of them is the *null* version: the
//! one that a bucket without versioning has, and that writes to a suspended one replace.
//!
//! ```text
//!   put 7 (enabled)      7 ── null_below: 4        the top says where the null version is,
//!   put 5 (enabled)      5 ── null_below: 4        so that nothing ever looks through the stack
//!   put 4 (unversioned)  4 ── null
//! ```

use super::types::{AccountId, ContentRef, Version};
use bytes::Bytes;
use std::fmt;

/// The hexadecimal digits of a version's id on the wire.
const VERSION_DIGITS: usize = 16;

/// Which version of an object is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VersionRef {
    /// The one that was written while the bucket's versioning was off or suspended.
    Null,
    /// The one with this number.
    Id(Version),
}

impl VersionRef {
    /// A version's id as clients write it: `null`, or 16 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "null" {
            return Some(Self::Null);
        }
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != VERSION_DIGITS || !text.bytes().all(digit) {
            return None;
        }
        u64::from_str_radix(text, 16).ok().map(|number| Self::Id(Version(number)))
    }
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Id(version) => write!(f, "{:016x}", version.0),
        }
    }
}

/// An object's entity tag: the MD5 of the content, or that of the parts' MD5s and how many there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ETagValue {
    /// The MD5.
    pub md5: [u8; 16],
    /// Of how many parts an upload in parts was.
    pub parts: Option<u32>,
}

impl From<[u8; 16]> for ETagValue {
    fn from(md5: [u8; 16]) -> Self {
        Self { md5, parts: None }
    }
}

impl fmt::Display for ETagValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.md5) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).expect("hexadecimal digits are ASCII"))?;
        self.parts.map_or(Ok(()), |parts| write!(f, "-{parts}"))
    }
}

/// What the checksums of an object in parts are of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ChecksumType {
    /// Of its bytes.
    #[default]
    FullObject,
    /// Of its parts' checksums.
    Composite,
}

/// How firmly a version is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetentionMode {
    /// Who has the permission may remove it, or shorten its time.
    Governance,
    /// Nobody may.
    Compliance,
}

/// Until when a version is not to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Retention {
    /// How firmly.
    pub mode: RetentionMode,
    /// Until when, in milliseconds since 1970.
    pub until_ms: u64,
}

/// One part of an object that was uploaded in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartRecord {
    /// Its number, from 1.
    pub number: u32,
    /// Its bytes.
    pub size: u64,
    /// Its checksum: algorithm and value, as [`Metadata::checksums`] has them.
    pub checksum: Option<(String, String)>,
}

/// What is said about an object: by its writer, and later by those who may change that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The entity tag.
    pub etag: ETagValue,
    /// Milliseconds since 1970, for people; nothing is ordered by it.
    pub modified_ms: u64,
    /// The content type, if one was given.
    pub content_type: Option<String>,
    /// Further headers to give back as they came (`cache-control`, `content-encoding`, …).
    pub headers: Vec<(String, String)>,
    /// The user's own metadata, names without their protocol's prefix.
    pub user: Vec<(String, String)>,
    /// Checksums that the writer gave and that held: algorithm and value as it was written.
    pub checksums: Vec<(String, String)>,
    /// What they are of.
    pub checksum_type: ChecksumType,
    /// The object's tags.
    pub tags: Vec<(String, String)>,
    /// Until when it is kept.
    pub retention: Option<Retention>,
    /// Whether it is kept until this is lifted.
    pub legal_hold: LegalHold,
    /// Its access control list, a document of the access module; none: the owner's alone.
    pub acl: Option<String>,
    /// Its parts, in order; none if it came whole.
    pub parts: Vec<PartRecord>,
}

impl Metadata {
    /// Whether the version may not be removed at `now_ms`; `bypass` overrides governance.
    #[must_use]
    pub fn is_locked(&self, now_ms: u64, bypass: bool) -> bool {
        let retained = self.retention.is_some_and(|retention| {
            let firm = !bypass || retention.mode == RetentionMode::Compliance;
            firm && retention.until_ms > now_ms
        });
        self.legal_hold == LegalHold::On || retained
    }
}

/// A legal hold on a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LegalHold {
    /// There never was one.
    #[default]
    Never,
    /// It was lifted, or said from the start not to be.
    Off,
    /// The version is kept until it is lifted.
    On,
}

/// What a version is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// An object with a content.
    #[default]
    Object,
    /// The sign that the object was deleted: it has no content, and hides the versions below it.
    DeleteMarker,
}

/// A version of an object as the index knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRecord {
    /// Which version this is.
    pub version: Version,
    /// What it is.
    pub kind: ObjectKind,
    /// Whether it is the null version.
    pub null: bool,
    /// Where the null version was when this was written; it may have gone since. Nothing if there was
    /// none, or this is it.
    pub null_below: Option<Version>,
    /// Bytes of content.
    pub size: u64,
    /// Where they are.
    pub content: ContentRef,
    /// What is said about it.
    pub meta: Metadata,
}

impl ObjectRecord {
    /// A null version with this content.
    #[must_use]
    pub fn new(version: Version, content: ContentRef, size: u64, meta: Metadata) -> Self {
        let (kind, null, null_below) = (ObjectKind::Object, true, None);
        Self { version, kind, null, null_below, size, content, meta }
    }

    /// A delete marker.
    #[must_use]
    pub fn marker(version: Version, null: bool, null_below: Option<Version>, now_ms: u64) -> Self {
        let meta = Metadata { modified_ms: now_ms, ..Metadata::default() };
        let (kind, content) = (ObjectKind::DeleteMarker, ContentRef::Inline(Bytes::new()));
        Self { version, kind, null, null_below, size: 0, content, meta }
    }

    /// Whether it is a delete marker.
    #[must_use]
    pub fn is_marker(&self) -> bool {
        self.kind == ObjectKind::DeleteMarker
    }

    /// What clients call this version.
    #[must_use]
    pub const fn version_ref(&self) -> VersionRef {
        if self.null { VersionRef::Null } else { VersionRef::Id(self.version) }
    }
}

/// What becomes of an object's old content when a new one is written, or it is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Versioning {
    /// It goes; the bucket never kept versions.
    #[default]
    Unversioned,
    /// It stays, as a version.
    Enabled,
    /// Versions stay; the null version goes.
    Suspended,
}

impl Versioning {
    /// What clients are told of a version that was written or read in such a bucket.
    #[must_use]
    pub fn shows(self, version: VersionRef) -> Option<VersionRef> {
        (self != Self::Unversioned).then_some(version)
    }
}

/// How long versions are kept that are written without a retention of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// Days.
    Days(u32),
    /// Years of 365 days.
    Years(u32),
}

/// The retention of versions that are written without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DefaultRetention {
    /// How firmly they are kept.
    pub mode: RetentionMode,
    /// For how long.
    pub period: Period,
}

/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

impl DefaultRetention {
    /// The retention of a version that is written at `now_ms`.
    #[must_use]
    pub fn from(self, now_ms: u64) -> Retention {
        let days = match self.period {
            Period::Days(days) => u64::from(days),
            Period::Years(years) => u64::from(years) * 365,
        };
        Retention { mode: self.mode, until_ms: now_ms.saturating_add(days * DAY_MS) }
    }
}

/// A bucket as the index knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketRecord {
    /// Whose it is.
    pub owner: AccountId,
    /// When it was made, milliseconds since 1970.
    pub created_ms: u64,
    /// Whether it keeps versions.
    pub versioning: Versioning,
    /// Whether its versions may be locked. Once set it stays, and so do versions.
    pub object_lock: bool,
    /// The retention of versions that are written without one.
    pub default_retention: Option<DefaultRetention>,
}

impl BucketRecord {
    /// A bucket with nothing switched on.
    #[must_use]
    pub const fn new(owner: AccountId, created_ms: u64) -> Self {
        let versioning = Versioning::Unversioned;
        Self { owner, created_ms, versioning, object_lock: false, default_retention: None }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn version_ids_come_back_as_they_were_shown() {
        for version in
            [VersionRef::Null, VersionRef::Id(Version(0xab)), VersionRef::Id(Version(u64::MAX))]
        {
            assert_eq!(VersionRef::parse(&version.to_string()), Some(version));
        }
        for text in ["", "Null", "ab", "00000000000000AB", "+000000000000001", "0000000000000001 "]
        {
            assert_eq!(VersionRef::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_etag_tells_of_parts_only_where_there_were_some() {
        let whole = ETagValue::from([0xab; 16]);
        assert_eq!(whole.to_string(), "ab".repeat(16));
        assert_eq!(ETagValue { parts: Some(3), ..whole }.to_string(), "ab".repeat(16) + "-3");
    }

    #[test]
    fn a_lock_ends_with_its_time_and_governance_with_permission() {
        let until = |mode| Metadata {
            retention: Some(Retention { mode, until_ms: 10 }),
            ..Metadata::default()
        };
        let governance = until(RetentionMode::Governance);
        assert!(governance.is_locked(9, false) && !governance.is_locked(9, true));
        assert!(!governance.is_locked(10, false));
        let compliance = until(RetentionMode::Compliance);
        assert!(compliance.is_locked(9, true) && !compliance.is_locked(10, false));
        let held = Metadata { legal_hold: LegalHold::On, ..compliance };
        assert!(held.is_locked(11, true));
        assert!(!Metadata::default().is_locked(0, false));
    }

    #[test]
    fn a_default_period_counts_from_the_write() {
        let days = DefaultRetention { mode: RetentionMode::Governance, period: Period::Days(2) };
        assert_eq!(days.from(5).until_ms, 5 + 2 * DAY_MS);
        let years = DefaultRetention { period: Period::Years(1), ..days };
        assert_eq!(years.from(5).until_ms, 5 + 365 * DAY_MS);
    }
}
