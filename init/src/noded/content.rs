//! What a disk holds, told from its first and last bytes, and the mark of a format that has begun.
//!
//! ```text
//!  0                     4 MiB                          size - 4 MiB    mark    size
//!  | head: looked at     |   …                            | tail: looked at |     |
//!  |<------------- the filesystem, up to the mark ------------------------->|1 MiB|
//! ```
//!
//! The last whole MiB of the disk is kept out of the filesystem for the mark: mke2fs clears the first and
//! last blocks of what it formats, so that a mark inside would not outlive the format it stands for. The
//! mark holds the UUID that the filesystem is to get, so it stands for that one format and no other.

/// Bytes looked at, at both ends of a disk.
pub const LOOK_BYTES: usize = 4 * 1024 * 1024;
/// The room that the mark has at the end of the disk.
pub const MARK_ROOM: u64 = 1024 * 1024;
/// Bytes of the mark: one sector of any disk.
pub const MARK_BYTES: usize = 4096;
/// The label of the data disk.
pub const LABEL: &[u8] = b"MOBULA-DATA";
/// The least disk that is taken: the journal and the node's own files need room.
pub const DISK_BYTES_MIN: u64 = 128 * 1024 * 1024;

const MARK_MAGIC: &[u8; 16] = b"MOBULA-FORMAT-01";
/// Where ext4 has its superblock, and in it magic, UUID and label.
const SUPERBLOCK: usize = 1024;
/// Where the superblock ends: enough of a head for [`is_data`].
pub const SUPERBLOCK_END: usize = SUPERBLOCK + 1024;
const EXT4_MAGIC: usize = SUPERBLOCK + 0x38;
const EXT4_UUID: usize = SUPERBLOCK + 0x68;
const EXT4_LABEL: usize = SUPERBLOCK + 0x78;

/// A filesystem's UUID.
pub type Uuid = [u8; 16];

/// What a disk holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Zeros at both ends.
    Blank,
    /// The data filesystem.
    Data,
    /// A format of the data filesystem that was begun and not finished.
    HalfFormatted,
    /// Something else, named for people.
    Other(&'static str),
}

/// What the mark says: this disk, of this size, is being given the filesystem with this UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The UUID.
    pub uuid: Uuid,
    /// The disk's size in bytes.
    pub disk_bytes: u64,
}

impl Mark {
    /// Where the mark stands on a disk of this size; none if the disk is too small to be marked.
    #[must_use]
    pub const fn offset(disk_bytes: u64) -> Option<u64> {
        match (disk_bytes / MARK_ROOM).checked_sub(1) {
            None | Some(0) => None,
            Some(room) => Some(room * MARK_ROOM),
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; MARK_BYTES] {
        let mut bytes = [0; MARK_BYTES];
        bytes[..16].copy_from_slice(MARK_MAGIC);
        bytes[16..32].copy_from_slice(&self.uuid);
        bytes[32..40].copy_from_slice(&self.disk_bytes.to_le_bytes());
        let sum = checksum(&bytes[..40]);
        bytes[40..48].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads it; none if these bytes are no mark.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..MARK_BYTES)?;
        let sum = u64::from_le_bytes(bytes[40..48].try_into().ok()?);
        if &bytes[..16] != MARK_MAGIC || sum != checksum(&bytes[..40]) {
            return None;
        }
        let disk_bytes = u64::from_le_bytes(bytes[32..40].try_into().ok()?);
        Some(Self { uuid: bytes[16..32].try_into().ok()?, disk_bytes })
    }
}

/// FNV-1a: a torn or rotten sector is not taken for a mark.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The ext4 filesystem in a disk's head: its UUID and label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ext4<'a> {
    uuid: Uuid,
    label: &'a [u8],
}

fn ext4(head: &[u8]) -> Option<Ext4<'_>> {
    if head.get(EXT4_MAGIC..EXT4_MAGIC + 2)? != [0x53, 0xef] {
        return None;
    }
    let label = head.get(EXT4_LABEL..EXT4_LABEL + 16)?;
    let end = label.iter().position(|byte| *byte == 0).unwrap_or(label.len());
    let uuid = head.get(EXT4_UUID..EXT4_UUID + 16)?.try_into().ok()?;
    Some(Ext4 { uuid, label: &label[..end] })
}

/// Whether this is the head of the data filesystem; for partitions, which are never formatted.
#[must_use]
pub fn is_data(head: &[u8]) -> bool {
    ext4(head).is_some_and(|found| found.label == LABEL)
}

/// Tells what a disk of `disk_bytes` holds from its first and last [`LOOK_BYTES`] (or all of it).
#[must_use]
pub fn classify(head: &[u8], tail: &[u8], disk_bytes: u64) -> Content {
    let found = ext4(head);
    if let Some(mark) = mark_in(tail, disk_bytes) {
        let unfinished = match found {
            Some(found) => found.uuid == mark.uuid,
            None => is_zero(head.get(..SUPERBLOCK).unwrap_or(head)) && foreign(head).is_none(),
        };
        if unfinished {
            return Content::HalfFormatted;
        }
    }
    match found {
        Some(found) if found.label == LABEL => Content::Data,
        Some(_) => Content::Other("an ext filesystem with another label"),
        None if is_zero(head) && is_zero(tail) => Content::Blank,
        None => Content::Other(foreign(head).unwrap_or("data of an unknown kind")),
    }
}

/// The mark in a disk's tail, if it is there and stands for a disk of this size.
fn mark_in(tail: &[u8], disk_bytes: u64) -> Option<Mark> {
    let from_end = usize::try_from(disk_bytes - Mark::offset(disk_bytes)?).ok()?;
    let mark = Mark::decode(tail.get(tail.len().checked_sub(from_end)?..)?)?;
    (mark.disk_bytes == disk_bytes).then_some(mark)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Things that other systems put at the start of a disk, to be named to people, and never to be taken for
/// the remains of our own format.
fn foreign(head: &[u8]) -> Option<&'static str> {
    const SIGNATURES: [(usize, &[u8], &str); 10] = [
        (510, b"\x55\xaa", "a partition table"),
        (512, b"EFI PART", "a partition table"),
        (0, b"XFSB", "an XFS filesystem"),
        (0, b"LUKS", "an encrypted disk"),
        (512, b"LABELONE", "a part of an LVM"),
        (0x10040, b"_BHRfS_M", "a btrfs filesystem"),
        (4096, b"\xfc\x4e\x2b\xa9", "a part of a RAID"),
        (4086, b"SWAPSPACE2", "swap space"),
        (1024, b"\xe2\xe1\xf5\xe0", "an EROFS image"),
        (0, b"hsqs", "a squashfs image"),
    ];
    SIGNATURES
        .iter()
        .find(|(at, bytes, _)| head.get(*at..at + bytes.len()) == Some(*bytes))
        .map(|(_, _, name)| *name)
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    const SIZE: u64 = 256 * 1024 * 1024 + 512 * 1024;
    const UUID: Uuid = *b"0123456789abcdef";

    fn zeros() -> Vec<u8> {
        vec![0; LOOK_BYTES]
    }

    fn with_ext4(label: &[u8]) -> Vec<u8> {
        let mut head = zeros();
        head[EXT4_MAGIC..EXT4_MAGIC + 2].copy_from_slice(&[0x53, 0xef]);
        head[EXT4_UUID..EXT4_UUID + 16].copy_from_slice(&UUID);
        head[EXT4_LABEL..EXT4_LABEL + label.len()].copy_from_slice(label);
        head
    }

    fn with_mark(uuid: Uuid, disk_bytes: u64) -> Vec<u8> {
        let mut tail = zeros();
        let at = LOOK_BYTES - usize::try_from(SIZE - Mark::offset(SIZE).unwrap()).unwrap();
        tail[at..at + MARK_BYTES].copy_from_slice(&Mark { uuid, disk_bytes }.encode());
        tail
    }

    #[test]
    fn zeros_are_blank_and_one_bit_anywhere_is_not() {
        assert_eq!(classify(&zeros(), &zeros(), SIZE), Content::Blank);
        let mut tail = zeros();
        tail[LOOK_BYTES - 1] = 1;
        assert!(matches!(classify(&zeros(), &tail, SIZE), Content::Other(_)));
        let mut head = zeros();
        head[LOOK_BYTES - 1] = 1;
        assert!(matches!(classify(&head, &zeros(), SIZE), Content::Other(_)));
    }

    #[test]
    fn the_data_filesystem_is_known_by_its_label() {
        assert_eq!(classify(&with_ext4(LABEL), &zeros(), SIZE), Content::Data);
        assert!(is_data(&with_ext4(LABEL)));
        assert!(matches!(classify(&with_ext4(b"root"), &zeros(), SIZE), Content::Other(_)));
        assert!(matches!(
            classify(&with_ext4(b"MOBULA-DATA-2"), &zeros(), SIZE),
            Content::Other(_)
        ));
    }

    #[test]
    fn a_marked_disk_is_half_formatted_before_and_after_the_superblock_is_there() {
        let tail = with_mark(UUID, SIZE);
        assert_eq!(classify(&zeros(), &tail, SIZE), Content::HalfFormatted);
        let mut tables = zeros();
        tables[2_000_000] = 7;
        assert_eq!(classify(&tables, &tail, SIZE), Content::HalfFormatted);
        assert_eq!(classify(&with_ext4(LABEL), &tail, SIZE), Content::HalfFormatted);
    }

    #[test]
    fn a_mark_of_another_format_does_not_give_a_filesystem_away() {
        let tail = with_mark([9; 16], SIZE);
        assert_eq!(classify(&with_ext4(LABEL), &tail, SIZE), Content::Data);
        assert!(matches!(classify(&with_ext4(b"root"), &tail, SIZE), Content::Other(_)));
    }

    #[test]
    fn a_mark_does_not_give_away_what_others_wrote_since() {
        let tail = with_mark(UUID, SIZE);
        let mut table = zeros();
        table[510..512].copy_from_slice(b"\x55\xaa");
        assert_eq!(classify(&table, &tail, SIZE), Content::Other("a partition table"));
        let mut btrfs = zeros();
        btrfs[0x10040..0x10048].copy_from_slice(b"_BHRfS_M");
        assert_eq!(classify(&btrfs, &tail, SIZE), Content::Other("a btrfs filesystem"));
    }

    #[test]
    fn a_mark_of_a_disk_of_another_size_counts_for_nothing() {
        let tail = with_mark(UUID, SIZE + 512);
        assert!(matches!(classify(&zeros(), &tail, SIZE), Content::Other(_)));
    }

    #[test]
    fn the_mark_lies_in_the_part_that_is_looked_at_and_outside_of_the_filesystem() {
        let at = Mark::offset(SIZE).unwrap();
        assert!(SIZE - at <= LOOK_BYTES as u64 && at + MARK_BYTES as u64 <= SIZE);
        assert_eq!(at % 4096, 0);
        assert_eq!(Mark::offset(MARK_ROOM), None);
    }

    proptest! {
        #[test]
        fn a_mark_is_read_back_and_a_damaged_one_is_not(
            uuid: Uuid, disk_bytes: u64, at in 0..48_usize, bit in 0..8_u32,
        ) {
            let mark = Mark { uuid, disk_bytes };
            let mut bytes = mark.encode();
            prop_assert_eq!(Mark::decode(&bytes), Some(mark));
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(Mark::decode(&bytes), None);
        }

        #[test]
        fn any_bytes_are_an_answer_and_none_of_them_blank(
            head in proptest::collection::vec(any::<u8>(), 0..5000),
            tail in proptest::collection::vec(any::<u8>(), 0..5000),
            disk_bytes: u64,
        ) {
            let content = classify(&head, &tail, disk_bytes);
            let zero = is_zero(&head) && is_zero(&tail);
            prop_assert_eq!(content == Content::Blank, zero);
            prop_assert_ne!(content, Content::HalfFormatted);
        }
    }
}
