//! Snapshots: all entries of the index as of one sequence, in the order of their keys.
//!
//! ```text
//!   snapshot: header (64 bytes) | chunk | chunk | … | a chunk of no entries: the end
//!   chunk:    header (32 bytes) | entries
//! ```
//! A snapshot is whole or worth nothing: without its end, with a byte changed, or with a chunk that belongs
//! elsewhere it is refused. Each chunk's checksum covers its place, and says how many entries came before.

use super::record::crc32c;
use super::{DecodeError, Reader, Writer};
use thiserror::Error;
use uuid::Uuid;

/// Bytes in front of the first chunk.
pub const SNAPSHOT_HEADER_BYTES: usize = 64;
/// Bytes in front of a chunk's entries.
pub const CHUNK_HEADER_BYTES: usize = 32;
/// Bytes of entries after which a chunk is closed: what is held in memory of a snapshot at a time.
pub const CHUNK_BYTES: usize = 1 << 20;
/// The most bytes of entries in a chunk: [`CHUNK_BYTES`] and one entry, which fits in a journal's record.
pub const CHUNK_BYTES_MAX: usize = CHUNK_BYTES + super::RECORD_BYTES_MAX;

const SNAPSHOT_MAGIC: [u8; 8] = *b"MOBULASN";
const CHUNK_MAGIC: [u8; 4] = *b"MSNC";
const VERSION: u32 = 1;

/// Why a snapshot is not one, or not a whole one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SnapshotDamage {
    /// It has no valid header, or another store's or sequence's.
    #[error("its header is damaged or another snapshot's")]
    Header,
    /// A chunk is not what was written there, or missing.
    #[error("it is damaged or cut off at byte {offset}")]
    Chunk {
        /// Where the chunk starts.
        offset: u64,
    },
    /// Bytes follow its end.
    #[error("bytes follow its end at byte {offset}")]
    Long {
        /// Where it ends.
        offset: u64,
    },
    /// It is of another version.
    #[error("this release can't read it")]
    Version(#[source] DecodeError),
}

/// What a snapshot says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// The store it belongs to.
    pub store: Uuid,
    /// The sequence up to which everything is in it.
    pub sequence: u64,
}

impl SnapshotHeader {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; SNAPSHOT_HEADER_BYTES] {
        let mut bytes = [0; SNAPSHOT_HEADER_BYTES];
        bytes[..8].copy_from_slice(&SNAPSHOT_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(self.store.as_bytes());
        bytes[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        let crc = crc32c(&[&bytes[..60]]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// It from the first bytes of a snapshot.
    ///
    /// # Errors
    /// When it is damaged, or whole and of a version that this build does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotDamage> {
        let bytes = bytes.first_chunk::<SNAPSHOT_HEADER_BYTES>().ok_or(SnapshotDamage::Header)?;
        let crc = u32::from_le_bytes([bytes[60], bytes[61], bytes[62], bytes[63]]);
        if bytes[..8] != SNAPSHOT_MAGIC || crc != crc32c(&[&bytes[..60]]) {
            return Err(SnapshotDamage::Header);
        }
        let read = || {
            let mut reader = Reader::new(&bytes[8..]);
            let (version, flags) = (reader.u32()?, reader.u32()?);
            for (what, found, known) in
                [("a snapshot's version", version, VERSION), ("a snapshot's flags", flags, 0)]
            {
                if found != known {
                    return Err(DecodeError::Number { what, found: found.into() });
                }
            }
            Ok(Self { store: Uuid::from_bytes(reader.array()?), sequence: reader.u64()? })
        };
        read().map_err(SnapshotDamage::Version)
    }

    fn place(&self, offset: u64) -> [u8; 32] {
        let mut place = [0; 32];
        place[..16].copy_from_slice(self.store.as_bytes());
        place[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        place[24..].copy_from_slice(&offset.to_le_bytes());
        place
    }
}

/// A chunk in the making.
#[derive(Debug, Default)]
pub struct ChunkWriter {
    count: u32,
    entries: Writer,
    bytes: usize,
    /// Entries in the chunks before.
    before: u64,
}

impl ChunkWriter {
    /// Adds an entry; whether the chunk is to be closed.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.entries.bytes(key);
        self.entries.bytes(value);
        self.count += 1;
        self.bytes += 8 + key.len() + value.len();
        self.bytes >= CHUNK_BYTES
    }

    /// Whether it has no entry yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Entries so far, in this chunk and those before.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.before + u64::from(self.count)
    }

    /// The chunk for that offset; the next one is begun. Without an entry it is the end.
    pub fn close(&mut self, header: &SnapshotHeader, offset: u64) -> Vec<u8> {
        let body = std::mem::take(&mut self.entries).finish();
        let mut head = Writer::with_capacity(CHUNK_HEADER_BYTES + body.len());
        head.raw(&CHUNK_MAGIC);
        head.u32(self.count);
        head.u32(u32::try_from(body.len()).expect("a chunk is below 4 GiB"));
        head.u32(crc32c(&[&body]));
        head.u64(self.before);
        head.u32(0);
        let mut bytes = head.finish();
        let crc = crc32c(&[&bytes, &header.place(offset)]);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&body);
        self.before = self.entries();
        (self.count, self.bytes) = (0, 0);
        bytes
    }
}

/// What a chunk says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHead {
    /// Its entries; none: the end.
    pub count: u32,
    /// Bytes of them.
    pub length: usize,
    crc: u32,
    before: u64,
}

/// What has been read of a snapshot: every chunk must follow the one before.
#[derive(Debug)]
pub struct SnapshotReader {
    header: SnapshotHeader,
    offset: u64,
    entries: u64,
    last: Option<Vec<u8>>,
}

impl SnapshotReader {
    /// At the first chunk.
    #[must_use]
    pub fn new(header: SnapshotHeader) -> Self {
        Self { header, offset: SNAPSHOT_HEADER_BYTES as u64, entries: 0, last: None }
    }

    /// Where the next chunk starts.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Entries so far.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries
    }

    fn damaged(&self) -> SnapshotDamage {
        SnapshotDamage::Chunk { offset: self.offset }
    }

    /// The head of the next chunk, from its first [`CHUNK_HEADER_BYTES`].
    ///
    /// # Errors
    /// When it is not the head of the chunk that comes next.
    pub fn head(&self, bytes: &[u8]) -> Result<ChunkHead, SnapshotDamage> {
        let read = || {
            let bytes = bytes.first_chunk::<CHUNK_HEADER_BYTES>()?;
            let mut reader = Reader::new(bytes);
            let magic = reader.array::<4>().ok()?;
            let (count, length) = (reader.u32().ok()?, reader.u32().ok()? as usize);
            let (body_crc, before) = (reader.u32().ok()?, reader.u64().ok()?);
            let zero = reader.u32().ok()?;
            let crc = reader.u32().ok()?;
            let whole = crc == crc32c(&[&bytes[..28], &self.header.place(self.offset)]);
            let sound = magic == CHUNK_MAGIC && zero == 0 && length <= CHUNK_BYTES_MAX;
            (whole && sound && before == self.entries).then_some(ChunkHead {
                count,
                length,
                crc: body_crc,
                before,
            })
        };
        read().ok_or_else(|| self.damaged())
    }

    /// Shows the entries of the next chunk; whether there may be more.
    ///
    /// # Errors
    /// When they are not what was written.
    pub fn entries_of(
        &mut self,
        head: ChunkHead,
        body: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<bool, SnapshotDamage> {
        if body.len() != head.length || crc32c(&[body]) != head.crc || head.before != self.entries {
            return Err(self.damaged());
        }
        let mut reader = Reader::new(body);
        for _ in 0..head.count {
            let entry = (|| Ok::<_, DecodeError>((reader.bytes()?, reader.bytes()?)))();
            let (key, value) = entry.map_err(|_| self.damaged())?;
            if self.last.as_deref().is_some_and(|last| last >= key) {
                return Err(self.damaged());
            }
            self.last = Some(key.to_vec());
            visit(key, value);
        }
        reader.end().map_err(|_| self.damaged())?;
        self.entries += u64::from(head.count);
        self.offset += (CHUNK_HEADER_BYTES + head.length) as u64;
        Ok(head.count > 0)
    }
}

/// Reads a whole snapshot from memory; what is larger is read chunk by chunk.
///
/// # Errors
/// When it is not a whole snapshot.
pub fn parse_snapshot(
    bytes: &[u8],
    visit: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<SnapshotHeader, SnapshotDamage> {
    let header = SnapshotHeader::decode(bytes)?;
    let mut reader = SnapshotReader::new(header);
    loop {
        let offset = reader.offset();
        let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        let head = reader.head(rest)?;
        let body = rest.get(CHUNK_HEADER_BYTES..CHUNK_HEADER_BYTES + head.length);
        let body = body.ok_or(SnapshotDamage::Chunk { offset })?;
        if !reader.entries_of(head, body, visit)? {
            let end = reader.offset();
            return if end == bytes.len() as u64 {
                Ok(header)
            } else {
                Err(SnapshotDamage::Long { offset: end })
            };
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Map = BTreeMap<Vec<u8>, Vec<u8>>;

    const HEADER: SnapshotHeader = SnapshotHeader { store: Uuid::from_u128(5), sequence: 77 };

    /// Chunks of a few entries, so that there are several.
    fn written(map: &Map, chunk: usize) -> Vec<u8> {
        let mut bytes = HEADER.encode().to_vec();
        let mut writer = ChunkWriter::default();
        for (number, (key, value)) in map.iter().enumerate() {
            writer.add(key, value);
            if (number + 1) % chunk == 0 {
                let at = bytes.len() as u64;
                bytes.extend(writer.close(&HEADER, at));
            }
        }
        if !map.len().is_multiple_of(chunk) {
            let at = bytes.len() as u64;
            bytes.extend(writer.close(&HEADER, at));
        }
        let at = bytes.len() as u64;
        bytes.extend(writer.close(&HEADER, at));
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Map, SnapshotDamage> {
        let mut map = Map::new();
        parse_snapshot(bytes, &mut |key, value| {
            map.insert(key.to_vec(), value.to_vec());
        })?;
        Ok(map)
    }

    fn map() -> impl Strategy<Value = Map> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..12);
        proptest::collection::btree_map(bytes(), bytes(), 0..12)
    }

    proptest! {
        #[test]
        fn a_snapshot_comes_back_and_a_cut_or_longer_one_is_refused(map in map(), chunk in 1_usize..5) {
            let bytes = written(&map, chunk);
            prop_assert_eq!(read(&bytes), Ok(map));
            for cut in 0..bytes.len() {
                prop_assert!(read(&bytes[..cut]).is_err(), "cut at {}", cut);
            }
            let longer = [bytes.as_slice(), &[0]].concat();
            let long = matches!(read(&longer), Err(SnapshotDamage::Long { .. }));
            prop_assert!(long);
        }

        #[test]
        fn a_changed_bit_is_found(map in map(), chunk in 1_usize..5, at: prop::sample::Index, bit in 0..8_u8) {
            let mut bytes = written(&map, chunk);
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(read(&bytes).is_err(), "byte {}", at);
        }

        #[test]
        fn a_chunk_that_is_missing_or_elsewhere_is_found(first in map(), second in map()) {
            prop_assume!(first.len() > 2 && second.len() > 2 && first != second);
            let (first, second) = (written(&first, 1), written(&second, 1));
            let length = |bytes: &[u8]| {
                let at = SNAPSHOT_HEADER_BYTES + 8;
                let field = bytes[at..at + 4].try_into().unwrap();
                CHUNK_HEADER_BYTES + u32::from_le_bytes(field) as usize
            };
            let mut without = first.clone();
            without.drain(SNAPSHOT_HEADER_BYTES..SNAPSHOT_HEADER_BYTES + length(&first));
            prop_assert!(read(&without).is_err());
            let mut twice = second.clone();
            let chunk = twice[SNAPSHOT_HEADER_BYTES..SNAPSHOT_HEADER_BYTES + length(&second)].to_vec();
            twice.splice(SNAPSHOT_HEADER_BYTES..SNAPSHOT_HEADER_BYTES, chunk);
            prop_assert!(read(&twice).is_err());
        }

        #[test]
        fn any_bytes_are_a_snapshot_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), headed: bool
        ) {
            let bytes = if headed { [&HEADER.encode()[..], &bytes].concat() } else { bytes };
            prop_assert!(read(&bytes).is_err());
        }
    }

    #[test]
    fn a_later_version_is_named() {
        let mut bytes = written(&Map::new(), 1);
        bytes[8] = 2;
        let crc = crc32c(&[&bytes[..60]]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(read(&bytes), Err(SnapshotDamage::Version(_))));
    }
}
