//! The value of an object's version. What a listing shows comes first; what an object does not have takes
//! no room but a bit.
//!
//! ```text
//!   2 | version u64 | flags u16 | null below u64? | size u64 | modified u64 | MD5 16 | parts u32?
//!     | checksums? | content type? | headers? | user? | tags? | retention? | list? | parts? | content
//!   1 | version u64 | size u64 | modified u64 | MD5 16 | content type | headers | user | checksums | content
//! ```
//! Version 1 is still read: its records are null versions of objects.

use super::value::Value;
use super::{DecodeError, Reader, Writer};
use crate::store::{
    BlobId, ChecksumType, ContentRef, ETagValue, LegalHold, Metadata, ObjectKind, ObjectRecord,
    PartRecord, Retention, RetentionMode, Version, VersionRef,
};
use bytes::Bytes;

const VERSION: u8 = 2;
const INLINE: u8 = 0;
const BLOB: u8 = 1;
const GOVERNANCE: u8 = 0;
const COMPLIANCE: u8 = 1;

/// The bits that say what a record has.
mod flag {
    pub(super) const MARKER: u16 = 1;
    pub(super) const NULL: u16 = 1 << 1;
    pub(super) const NULL_BELOW: u16 = 1 << 2;
    pub(super) const ETAG_PARTS: u16 = 1 << 3;
    pub(super) const COMPOSITE: u16 = 1 << 4;
    pub(super) const LEGAL_HOLD: u16 = 1 << 5;
    pub(super) const CHECKSUMS: u16 = 1 << 6;
    pub(super) const CONTENT_TYPE: u16 = 1 << 7;
    pub(super) const HEADERS: u16 = 1 << 8;
    pub(super) const USER: u16 = 1 << 9;
    pub(super) const TAGS: u16 = 1 << 10;
    pub(super) const RETENTION: u16 = 1 << 11;
    pub(super) const ACL: u16 = 1 << 12;
    pub(super) const PARTS: u16 = 1 << 13;
    pub(super) const LEGAL_HOLD_OFF: u16 = 1 << 14;
    /// All of them.
    pub(super) const KNOWN: u16 = (1 << 15) - 1;
}

/// What a listing shows of a version: the fields at the front of its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Which version.
    pub version: Version,
    /// What it is.
    pub kind: ObjectKind,
    /// Whether it is the null version.
    pub null: bool,
    /// Bytes of content.
    pub size: u64,
    /// Milliseconds since 1970.
    pub modified_ms: u64,
    /// The entity tag.
    pub etag: ETagValue,
    /// The algorithm of its first checksum.
    pub checksum: Option<String>,
    /// What that is of.
    pub checksum_type: ChecksumType,
}

impl Summary {
    /// The summary at the front of an object's record.
    ///
    /// # Errors
    /// When the bytes are not those of a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let front = Front::read(&mut reader)?;
        let checksum = if front.flags & flag::CHECKSUMS == 0 {
            None
        } else {
            reader.u32()?;
            Some(reader.text()?)
        };
        let Front { version, flags, size, modified_ms, etag, .. } = front;
        let kind = kind_of(flags);
        let checksum_type = checksum_type_of(flags);
        let null = flags & flag::NULL != 0;
        Ok(Self { version, kind, null, size, modified_ms, etag, checksum, checksum_type })
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

/// Whether the bytes are a delete marker's: the cheapest question there is about a record.
///
/// # Errors
/// When they are too short, or of a version that is not known.
pub fn is_marker(bytes: &[u8]) -> Result<bool, DecodeError> {
    let mut reader = Reader::new(bytes);
    match reader.version(VERSION)? {
        1 => Ok(false),
        _ => {
            reader.u64()?;
            Ok(u16::from_le_bytes(reader.array()?) & flag::MARKER != 0)
        }
    }
}

/// The fields of fixed places.
struct Front {
    format: u8,
    version: Version,
    flags: u16,
    null_below: Option<Version>,
    size: u64,
    modified_ms: u64,
    etag: ETagValue,
}

impl Front {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let format = reader.version(VERSION)?;
        let version = Version(reader.u64()?);
        let flags = match format {
            1 => flag::NULL,
            _ => u16::from_le_bytes(reader.array()?),
        };
        if flags & !flag::KNOWN != 0 {
            return Err(DecodeError::Number {
                what: "the flags of an object",
                found: flags.into(),
            });
        }
        let null_below = match flags & flag::NULL_BELOW {
            0 => None,
            _ => Some(Version(reader.u64()?)),
        };
        let (size, modified_ms, md5) = (reader.u64()?, reader.u64()?, reader.array()?);
        let parts = match flags & flag::ETAG_PARTS {
            0 => None,
            _ => Some(reader.u32()?),
        };
        let etag = ETagValue { md5, parts };
        Ok(Self { format, version, flags, null_below, size, modified_ms, etag })
    }
}

fn kind_of(flags: u16) -> ObjectKind {
    if flags & flag::MARKER == 0 { ObjectKind::Object } else { ObjectKind::DeleteMarker }
}

fn checksum_type_of(flags: u16) -> ChecksumType {
    if flags & flag::COMPOSITE == 0 { ChecksumType::FullObject } else { ChecksumType::Composite }
}

fn legal_hold_of(flags: u16) -> Result<LegalHold, DecodeError> {
    match (flags & flag::LEGAL_HOLD != 0, flags & flag::LEGAL_HOLD_OFF != 0) {
        (false, false) => Ok(LegalHold::Never),
        (false, true) => Ok(LegalHold::Off),
        (true, false) => Ok(LegalHold::On),
        (true, true) => {
            Err(DecodeError::Number { what: "the flags of an object", found: flags.into() })
        }
    }
}

fn flags_of(record: &ObjectRecord) -> u16 {
    let ObjectRecord { version: _, kind, null, null_below, size: _, content: _, meta } = record;
    let Metadata { etag, modified_ms: _, content_type, headers, user, .. } = meta;
    let Metadata { checksums, checksum_type, tags, retention, legal_hold, acl, parts, .. } = meta;
    let bits = [
        (flag::MARKER, *kind == ObjectKind::DeleteMarker),
        (flag::NULL, *null),
        (flag::NULL_BELOW, null_below.is_some()),
        (flag::ETAG_PARTS, etag.parts.is_some()),
        (flag::COMPOSITE, *checksum_type == ChecksumType::Composite),
        (flag::LEGAL_HOLD, *legal_hold == LegalHold::On),
        (flag::LEGAL_HOLD_OFF, *legal_hold == LegalHold::Off),
        (flag::CHECKSUMS, !checksums.is_empty()),
        (flag::CONTENT_TYPE, content_type.is_some()),
        (flag::HEADERS, !headers.is_empty()),
        (flag::USER, !user.is_empty()),
        (flag::TAGS, !tags.is_empty()),
        (flag::RETENTION, retention.is_some()),
        (flag::ACL, acl.is_some()),
        (flag::PARTS, !parts.is_empty()),
    ];
    bits.into_iter().filter(|(_, set)| *set).fold(0, |flags, (bit, _)| flags | bit)
}

impl Value for ObjectRecord {
    const NAME: &'static str = "object record";

    fn encode(&self) -> Vec<u8> {
        let inline = match &self.content {
            ContentRef::Inline(bytes) => bytes.len(),
            ContentRef::Blob(_) => 0,
        };
        let meta = &self.meta;
        let mut writer = Writer::with_capacity(256 + inline);
        writer.u8(VERSION);
        writer.u64(self.version.0);
        writer.raw(&flags_of(self).to_le_bytes());
        self.null_below.iter().for_each(|version| writer.u64(version.0));
        writer.u64(self.size);
        writer.u64(meta.modified_ms);
        writer.raw(&meta.etag.md5);
        meta.etag.parts.iter().for_each(|&parts| writer.u32(parts));
        some_pairs(&mut writer, &meta.checksums);
        meta.content_type.iter().for_each(|text| writer.bytes(text.as_bytes()));
        some_pairs(&mut writer, &meta.headers);
        some_pairs(&mut writer, &meta.user);
        some_pairs(&mut writer, &meta.tags);
        if let Some(Retention { mode, until_ms }) = &meta.retention {
            writer.u8(mode_number(*mode));
            writer.u64(*until_ms);
        }
        meta.acl.iter().for_each(|text| writer.bytes(text.as_bytes()));
        write_parts(&mut writer, &meta.parts);
        write_content(&mut writer, &self.content);
        writer.finish()
    }

    fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        // The content is a slice of the value that was read, not a copy of it.
        let bytes = Bytes::from(bytes);
        let mut reader = Reader::new(&bytes);
        let front = Front::read(&mut reader)?;
        let meta = match front.format {
            1 => read_meta_1(&mut reader, &front)?,
            _ => read_meta(&mut reader, &front)?,
        };
        let content = match reader.u8()? {
            INLINE => ContentRef::Inline(bytes.slice_ref(reader.bytes()?)),
            BLOB => ContentRef::Blob(BlobId(reader.u64()?)),
            found => {
                return Err(DecodeError::Number { what: "a kind of content", found: found.into() });
            }
        };
        reader.end()?;
        let Front { version, flags, null_below, size, .. } = front;
        let (kind, null) = (kind_of(flags), flags & flag::NULL != 0);
        Ok(Self { version, kind, null, null_below, size, content, meta })
    }
}

/// The object's bytes, or where they are: last, so that what comes before stays in one cache line.
fn write_content(writer: &mut Writer, content: &ContentRef) {
    match content {
        ContentRef::Inline(bytes) => {
            writer.u8(INLINE);
            writer.bytes(bytes);
        }
        ContentRef::Blob(blob) => {
            writer.u8(BLOB);
            writer.u64(blob.0);
        }
    }
}

fn some_pairs(writer: &mut Writer, pairs: &[(String, String)]) {
    if !pairs.is_empty() {
        writer.pairs(pairs);
    }
}

fn write_parts(writer: &mut Writer, parts: &[PartRecord]) {
    if parts.is_empty() {
        return;
    }
    writer.u32(u32::try_from(parts.len()).expect("an upload has at most 10,000 parts"));
    for PartRecord { number, size, checksum } in parts {
        writer.u32(*number);
        writer.u64(*size);
        match checksum {
            None => writer.u8(0),
            Some((algorithm, value)) => {
                writer.u8(1);
                writer.bytes(algorithm.as_bytes());
                writer.bytes(value.as_bytes());
            }
        }
    }
}

const fn mode_number(mode: RetentionMode) -> u8 {
    match mode {
        RetentionMode::Governance => GOVERNANCE,
        RetentionMode::Compliance => COMPLIANCE,
    }
}

/// The mode with this number.
pub(super) fn mode_of(number: u8) -> Result<RetentionMode, DecodeError> {
    match number {
        GOVERNANCE => Ok(RetentionMode::Governance),
        COMPLIANCE => Ok(RetentionMode::Compliance),
        found => Err(DecodeError::Number { what: "a mode of retention", found: found.into() }),
    }
}

/// The number of a mode, for other values.
pub(super) const fn number_of_mode(mode: RetentionMode) -> u8 {
    mode_number(mode)
}

fn read_meta(reader: &mut Reader<'_>, front: &Front) -> Result<Metadata, DecodeError> {
    let has = |bit: u16| front.flags & bit != 0;
    let pairs = |reader: &mut Reader<'_>, bit| match has(bit) {
        false => Ok(Vec::new()),
        true => not_empty(reader.pairs()?),
    };
    let text = |reader: &mut Reader<'_>, bit| match has(bit) {
        false => Ok(None),
        true => reader.text().map(Some),
    };
    let checksums = pairs(reader, flag::CHECKSUMS)?;
    let content_type = text(reader, flag::CONTENT_TYPE)?;
    let headers = pairs(reader, flag::HEADERS)?;
    let user = pairs(reader, flag::USER)?;
    let tags = pairs(reader, flag::TAGS)?;
    let retention = match has(flag::RETENTION) {
        false => None,
        true => Some(Retention { mode: mode_of(reader.u8()?)?, until_ms: reader.u64()? }),
    };
    let acl = text(reader, flag::ACL)?;
    let parts = match has(flag::PARTS) {
        false => Vec::new(),
        true => not_empty(read_parts(reader)?)?,
    };
    Ok(Metadata {
        etag: front.etag,
        modified_ms: front.modified_ms,
        content_type,
        headers,
        user,
        checksums,
        checksum_type: checksum_type_of(front.flags),
        tags,
        retention,
        legal_hold: legal_hold_of(front.flags)?,
        acl,
        parts,
    })
}

/// A list whose bit is set has entries: each record has one form.
fn not_empty<T>(list: Vec<T>) -> Result<Vec<T>, DecodeError> {
    match list.is_empty() {
        true => Err(DecodeError::Number { what: "the length of a list", found: 0 }),
        false => Ok(list),
    }
}

fn read_parts(reader: &mut Reader<'_>) -> Result<Vec<PartRecord>, DecodeError> {
    let count = reader.u32()?;
    // Grown as they come: the count may be a lie.
    let mut parts = Vec::new();
    for _ in 0..count {
        let (number, size) = (reader.u32()?, reader.u64()?);
        let checksum = match reader.u8()? {
            0 => None,
            1 => Some((reader.text()?, reader.text()?)),
            found => return Err(DecodeError::Number { what: "a flag", found: found.into() }),
        };
        parts.push(PartRecord { number, size, checksum });
    }
    Ok(parts)
}

fn read_meta_1(reader: &mut Reader<'_>, front: &Front) -> Result<Metadata, DecodeError> {
    let content_type = match reader.u8()? {
        0 => None,
        1 => Some(reader.text()?),
        found => return Err(DecodeError::Number { what: "a flag", found: found.into() }),
    };
    let (headers, user, checksums) = (reader.pairs()?, reader.pairs()?, reader.pairs()?);
    let (etag, modified_ms) = (front.etag, front.modified_ms);
    Ok(Metadata {
        etag,
        modified_ms,
        content_type,
        headers,
        user,
        checksums,
        ..Metadata::default()
    })
}

#[cfg(test)]
pub(super) mod test;
