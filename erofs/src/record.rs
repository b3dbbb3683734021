//! The records of the format, byte by byte (`fs/erofs/erofs_fs.h`), little-endian.

use crate::meta::Meta;

/// Bytes in an inode: the extended kind, which alone has a time of its own.
pub(crate) const INODE_BYTES: usize = 64;
/// Inodes are named by their place in units of this.
pub(crate) const SLOT_BYTES: usize = 32;
/// Where the superblock starts.
pub(crate) const SUPERBLOCK_AT: usize = 1024;
/// Bytes in it.
pub(crate) const SUPERBLOCK_BYTES: usize = 128;
/// `EROFS_SUPER_MAGIC_V1`.
pub(crate) const MAGIC: u32 = 0xe0f5_e1e2;
/// The block that is none (`EROFS_NULL_ADDR`).
pub(crate) const NO_BLOCK: u32 = u32::MAX;

/// What an inode is, as its mode has it and as its directory entry has it (`EROFS_FT_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Character,
    Block,
    Fifo,
    Socket,
    Link,
}

impl Kind {
    pub(crate) fn entry(self) -> u8 {
        match self {
            Self::File => 1,
            Self::Directory => 2,
            Self::Character => 3,
            Self::Block => 4,
            Self::Fifo => 5,
            Self::Socket => 6,
            Self::Link => 7,
        }
    }

    /// `S_IFMT` of inode(7).
    fn format(self) -> u16 {
        match self {
            Self::File => 0o100_000,
            Self::Directory => 0o040_000,
            Self::Character => 0o020_000,
            Self::Block => 0o060_000,
            Self::Fifo => 0o010_000,
            Self::Socket => 0o140_000,
            Self::Link => 0o120_000,
        }
    }
}

/// Where an inode's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// In whole blocks from this one on (`EROFS_INODE_FLAT_PLAIN`).
    Blocks { first: u32 },
    /// Likewise, but the last ones behind the inode (`EROFS_INODE_FLAT_INLINE`).
    Tail { first: u32 },
    /// In chunks of so many bits more than a block, whose places stand behind the inode
    /// (`EROFS_INODE_CHUNK_BASED`).
    Chunks { bits: u8 },
    /// It is a device.
    Device { packed: u32 },
}

impl Layout {
    /// The number that says so, and the word that goes with it.
    fn parts(self) -> (u16, u32) {
        match self {
            Self::Blocks { first } => (0, first),
            Self::Device { packed } => (0, packed),
            Self::Tail { first } => (2, first),
            Self::Chunks { bits } => (4, bits.into()),
        }
    }
}

/// An inode without what follows it.
pub(crate) struct InodeRecord<'a> {
    pub(crate) meta: &'a Meta,
    pub(crate) kind: Kind,
    pub(crate) layout: Layout,
    pub(crate) size: u64,
    pub(crate) links: u32,
    /// A number for 32-bit programs; the place counts.
    pub(crate) number: u32,
    /// Bytes of extended attributes behind it.
    pub(crate) attribute_bytes: usize,
}

impl InodeRecord<'_> {
    pub(crate) fn encode(&self) -> [u8; INODE_BYTES] {
        const EXTENDED: u16 = 1;
        let (layout, word) = self.layout.parts();
        // The header counts as one, each word behind it too.
        let count = match self.attribute_bytes.checked_sub(12) {
            None => 0,
            Some(rest) => u16::try_from(rest / 4).expect("attributes were measured") + 1,
        };
        let mut bytes = [0; INODE_BYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &(EXTENDED | (layout << 1)).to_le_bytes());
        put(2, &count.to_le_bytes());
        put(4, &(self.kind.format() | (self.meta.mode & 0o7777)).to_le_bytes());
        put(8, &self.size.to_le_bytes());
        put(16, &word.to_le_bytes());
        put(20, &self.number.to_le_bytes());
        put(24, &self.meta.user.to_le_bytes());
        put(28, &self.meta.group.to_le_bytes());
        put(32, &self.meta.modified.seconds.to_le_bytes());
        put(40, &self.meta.modified.nanoseconds.to_le_bytes());
        put(44, &self.links.to_le_bytes());
        bytes
    }
}

/// The superblock, as far as ours differ.
pub(crate) struct SuperblockRecord {
    pub(crate) root: u16,
    pub(crate) inodes: u64,
    pub(crate) blocks: u32,
    pub(crate) chunks: bool,
}

/// `EROFS_FEATURE_COMPAT_SB_CHKSUM | EROFS_FEATURE_COMPAT_MTIME`.
const COMPATIBLE: u32 = 3;
/// `EROFS_FEATURE_INCOMPAT_CHUNKED_FILE`.
pub(crate) const CHUNKED: u32 = 4;

impl SuperblockRecord {
    /// Puts it into the first block, and its checksum over all of the block from there on.
    pub(crate) fn put_into(&self, block: &mut [u8]) {
        const BLOCK_BITS: u8 = 12;
        let record = &mut block[SUPERBLOCK_AT..];
        let mut put = |at: usize, value: &[u8]| record[at..at + value.len()].copy_from_slice(value);
        put(0, &MAGIC.to_le_bytes());
        put(8, &COMPATIBLE.to_le_bytes());
        put(12, &[BLOCK_BITS]);
        put(14, &self.root.to_le_bytes());
        put(16, &self.inodes.to_le_bytes());
        put(36, &self.blocks.to_le_bytes());
        put(80, &(if self.chunks { CHUNKED } else { 0 }).to_le_bytes());
        let checksum = checksum(record);
        record[4..8].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// CRC-32C without the last inversion, over the superblock's block with its checksum zero.
pub(crate) fn checksum(record: &[u8]) -> u32 {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, record);
    !u32::try_from(crc).expect("a CRC-32 has 32 bits")
}
