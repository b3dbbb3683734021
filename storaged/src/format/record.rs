//! Records of the journal: one batch each, checksummed, at a place they know.
//!
//! ```text
//!   segment:  header (64 bytes) | record | record | … | nothing, or zeros, or a torn record
//!   record:   header (40 bytes) | changes | zeros up to a multiple of 8 bytes
//! ```
//! The checksum of a record covers the store, the segment and the offset it was written for: a record
//! that lies anywhere else, left over or misdirected, is no record.

use super::{DecodeError, Reader, Writer};
use crate::index::Changes;
use crc_fast::{CrcAlgorithm, Digest};
use uuid::Uuid;

/// Bytes in front of the first record of a segment.
pub const SEGMENT_HEADER_BYTES: usize = 64;
/// Bytes in front of a record's changes.
pub const RECORD_HEADER_BYTES: usize = 40;
/// Records start at multiples of this.
pub const RECORD_ALIGNMENT: usize = 8;
/// The most bytes in one record: a batch's limit and one transaction's over it, with room to spare.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

const SEGMENT_MAGIC: [u8; 8] = *b"MOBULAJL";
const RECORD_MAGIC: [u8; 4] = *b"MREC";
const VERSION: u32 = 1;
const UNSYNCED: u32 = 1;
const DELETE: u8 = 0;
const PUT: u8 = 1;

pub(super) fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    parts.iter().for_each(|part| digest.update(part));
    u32::try_from(digest.finalize()).expect("CRC-32C has 32 bits")
}

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The store it belongs to.
    pub store: Uuid,
    /// The last sequence before its first record; its name is one more than that.
    pub after: u64,
    /// Whether its records were written without waiting for the disk, so that a power cut may have lost
    /// some before others.
    pub unsynced: bool,
}

impl SegmentHeader {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&u32::from(self.unsynced).to_le_bytes());
        bytes[16..32].copy_from_slice(self.store.as_bytes());
        bytes[32..40].copy_from_slice(&self.after.to_le_bytes());
        let crc = crc32c(&[&bytes[..60]]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// It from the first bytes of a segment; `None` when they are torn or not a header.
    ///
    /// # Errors
    /// When it is whole and of a version that this build does not know.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, DecodeError> {
        let Some(bytes) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else { return Ok(None) };
        let mut reader = Reader::new(bytes);
        let (magic, version, flags) = (reader.array::<8>()?, reader.u32()?, reader.u32()?);
        let store = Uuid::from_bytes(reader.array()?);
        let after = reader.u64()?;
        let crc = u32::from_le_bytes([bytes[60], bytes[61], bytes[62], bytes[63]]);
        if magic != SEGMENT_MAGIC || crc != crc32c(&[&bytes[..60]]) {
            return Ok(None);
        }
        if version != VERSION {
            return Err(DecodeError::Number { what: "a segment's version", found: version.into() });
        }
        if flags > UNSYNCED {
            return Err(DecodeError::Number { what: "a segment's flags", found: flags.into() });
        }
        Ok(Some(Self { store, after, unsynced: flags == UNSYNCED }))
    }

    fn place(&self, offset: u64) -> [u8; 32] {
        let mut place = [0; 32];
        place[..16].copy_from_slice(self.store.as_bytes());
        place[16..24].copy_from_slice(&self.after.to_le_bytes());
        place[24..].copy_from_slice(&offset.to_le_bytes());
        place
    }
}

/// One batch of changes, with the sequences it moves between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The last sequence of the batch before.
    pub previous: u64,
    /// The last sequence of this one: above `previous`.
    pub sequence: u64,
    /// What it changes.
    pub changes: Changes,
}

/// Appends the record of a batch, for that offset of that segment.
pub fn encode_record(
    segment: &SegmentHeader,
    offset: u64,
    batch: (u64, u64, &Changes),
    buffer: &mut Vec<u8>,
) {
    let (previous, sequence, changes) = batch;
    let start = buffer.len();
    let mut writer = Writer::appending(std::mem::take(buffer));
    writer.raw(&[0; RECORD_HEADER_BYTES]);
    writer.u32(u32::try_from(changes.len()).expect("a batch has fewer than 4 Gi changes"));
    for (key, change) in changes {
        writer.u8(if change.is_some() { PUT } else { DELETE });
        writer.bytes(key);
        if let Some(value) = change {
            writer.bytes(value);
        }
    }
    *buffer = writer.finish();
    let body = start + RECORD_HEADER_BYTES;
    let length = u32::try_from(buffer.len() - body).expect("a record is below 4 GiB");
    let mut header = Writer::with_capacity(RECORD_HEADER_BYTES);
    header.raw(&RECORD_MAGIC);
    header.u32(VERSION);
    header.u32(length);
    header.u32(crc32c(&[&buffer[body..]]));
    header.u64(previous);
    header.u64(sequence);
    header.u32(0);
    let mut header = header.finish();
    let crc = crc32c(&[&header, &segment.place(offset)]);
    header.extend_from_slice(&crc.to_le_bytes());
    buffer[start..body].copy_from_slice(&header);
    buffer.resize(start + (buffer.len() - start).next_multiple_of(RECORD_ALIGNMENT), 0);
}

/// What lies at an offset of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A whole record, and where the next one starts.
    Record(Batch, usize),
    /// Nothing more was written.
    End,
    /// Something else: torn, or damaged.
    Broken,
}

/// Reads the record at `offset` of a segment.
///
/// # Errors
/// When the record is whole and of a version, or with changes, that this build does not know.
pub fn read_record(
    segment: &SegmentHeader,
    bytes: &[u8],
    offset: usize,
) -> Result<Found, DecodeError> {
    let rest = bytes.get(offset..).unwrap_or_default();
    if rest.iter().all(|&byte| byte == 0) {
        return Ok(Found::End);
    }
    let Some(head) = read_head(segment, rest, offset) else { return Ok(Found::Broken) };
    let body = RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + head.length;
    let Some(body) = rest.get(body).filter(|body| crc32c(&[body]) == head.crc) else {
        return Ok(Found::Broken);
    };
    if head.version != VERSION {
        let found = head.version.into();
        return Err(DecodeError::Number { what: "a record's version", found });
    }
    let changes = read_changes(body)?;
    let next = offset + (RECORD_HEADER_BYTES + head.length).next_multiple_of(RECORD_ALIGNMENT);
    let Head { previous, sequence, .. } = head;
    Ok(Found::Record(Batch { previous, sequence, changes }, next))
}

/// Where, from `offset` on, the next header of a record stands, if any does.
#[must_use]
pub fn find_record(segment: &SegmentHeader, bytes: &[u8], offset: usize) -> Option<usize> {
    (offset.next_multiple_of(RECORD_ALIGNMENT)..bytes.len())
        .step_by(RECORD_ALIGNMENT)
        .find(|&at| read_head(segment, &bytes[at..], at).is_some())
}

struct Head {
    version: u32,
    length: usize,
    crc: u32,
    previous: u64,
    sequence: u64,
}

fn read_head(segment: &SegmentHeader, bytes: &[u8], offset: usize) -> Option<Head> {
    let header = bytes.first_chunk::<RECORD_HEADER_BYTES>()?;
    let mut reader = Reader::new(header);
    if reader.array::<4>().ok()? != RECORD_MAGIC {
        return None;
    }
    let head = Head {
        version: reader.u32().ok()?,
        length: reader.u32().ok()? as usize,
        crc: reader.u32().ok()?,
        previous: reader.u64().ok()?,
        sequence: reader.u64().ok()?,
    };
    let _reserved = reader.u32().ok()?;
    let crc = reader.u32().ok()?;
    let place = segment.place(offset as u64);
    (crc == crc32c(&[&header[..36], &place])).then_some(head)
}

fn read_changes(body: &[u8]) -> Result<Changes, DecodeError> {
    let mut reader = Reader::new(body);
    let count = reader.u32()?;
    let mut changes = Changes::new();
    for _ in 0..count {
        let kind = reader.u8()?;
        let key = reader.bytes()?.to_vec();
        let change = match kind {
            DELETE => None,
            PUT => Some(reader.bytes()?.to_vec()),
            found => {
                return Err(DecodeError::Number { what: "a kind of change", found: found.into() });
            }
        };
        changes.insert(key, change);
    }
    reader.end()?;
    Ok(changes)
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    const SEGMENT: SegmentHeader =
        SegmentHeader { store: Uuid::from_u128(42), after: 9, unsynced: false };

    fn changes() -> impl Strategy<Value = Changes> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..20);
        proptest::collection::btree_map(bytes(), proptest::option::of(bytes()), 0..6)
    }

    fn segment(batches: &[Changes]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = SEGMENT.encode().to_vec();
        let mut starts = Vec::new();
        for (number, changes) in batches.iter().enumerate() {
            starts.push(bytes.len());
            let mut record = Vec::new();
            let sequence = 10 + number as u64;
            let batch = (sequence - 1, sequence, changes);
            encode_record(&SEGMENT, bytes.len() as u64, batch, &mut record);
            bytes.extend_from_slice(&record);
        }
        (bytes, starts)
    }

    fn whole(bytes: &[u8]) -> (Vec<Changes>, Found, usize) {
        let (mut seen, mut offset) = (Vec::new(), SEGMENT_HEADER_BYTES);
        loop {
            match read_record(&SEGMENT, bytes, offset).unwrap() {
                Found::Record(batch, next) => {
                    seen.push(batch.changes);
                    offset = next;
                }
                other => return (seen, other, offset),
            }
        }
    }

    proptest! {
        #[test]
        fn batches_come_back_and_zeros_end_them(batches in proptest::collection::vec(changes(), 0..5), zeros in 0_usize..100) {
            let (mut bytes, _) = segment(&batches);
            bytes.resize(bytes.len() + zeros, 0);
            prop_assert_eq!(SegmentHeader::decode(&bytes), Ok(Some(SEGMENT)));
            let (seen, end, _) = whole(&bytes);
            prop_assert_eq!((seen, end), (batches, Found::End));
        }

        #[test]
        fn a_cut_segment_gives_the_batches_before_the_cut(batches in proptest::collection::vec(changes(), 1..5), cut in any::<prop::sample::Index>()) {
            let (bytes, starts) = segment(&batches);
            let cut = SEGMENT_HEADER_BYTES + cut.index(bytes.len() - SEGMENT_HEADER_BYTES);
            let (seen, end, offset) = whole(&bytes[..cut]);
            prop_assert!(batches.starts_with(&seen));
            // The padding of a record is no part of it: a cut in there loses nothing.
            prop_assert!(seen.len() >= starts.iter().filter(|&&start| start <= cut).count() - 1);
            prop_assert!(end != Found::Broken || find_record(&SEGMENT, &bytes[..cut], offset + 1).is_none());
        }

        #[test]
        fn a_flipped_bit_is_noticed_and_the_records_after_it_found(batches in proptest::collection::vec(changes(), 2..5), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let (mut bytes, starts) = segment(&batches);
            let first = starts[0]..starts[1];
            let at = first.start + at.index(RECORD_HEADER_BYTES + 4);
            bytes[at] ^= 1 << bit;
            let (seen, end, offset) = whole(&bytes);
            prop_assert_eq!((seen.len(), end, offset), (0, Found::Broken, starts[0]));
            prop_assert_eq!(find_record(&SEGMENT, &bytes, offset + 1), Some(starts[1]));
        }

        #[test]
        fn any_bytes_are_calmly_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(SegmentHeader::decode(&bytes), Ok(None));
            prop_assert!(!matches!(read_record(&SEGMENT, &bytes, 0), Ok(Found::Record(..))));
        }
    }

    #[test]
    fn a_record_that_lies_elsewhere_is_no_record() {
        let (bytes, starts) = segment(&[Changes::new(), Changes::new()]);
        let mut moved = bytes.clone();
        moved.copy_within(starts[0]..starts[1], starts[1]);
        assert_eq!(whole(&bytes).0.len(), 2);
        assert_eq!((whole(&moved).0.len(), whole(&moved).1), (1, Found::Broken));
    }
}
