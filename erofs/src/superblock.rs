//! What an image says of itself: enough to refuse, before it is mounted, what is no image or asks for more
//! of the kernel than is offered.

use crate::BLOCK_BYTES;
use crate::record::{CHUNKED, MAGIC, SUPERBLOCK_AT, SUPERBLOCK_BYTES, checksum};
use thiserror::Error;

/// Bytes from the start of an image that [`parse`] wants: its first block.
pub const START_BYTES: usize = BLOCK_BYTES;
/// `EROFS_FEATURE_COMPAT_SB_CHKSUM`.
const CHECKSUM: u32 = 1;
/// Incompatible features of images that need no second device: LZ4's padding, larger clusters, chunks, the
/// compression header, tails in fragments, long attribute names (`EROFS_FEATURE_INCOMPAT_*`).
const KNOWN: u32 = 0x1 | 0x2 | CHUNKED | 0x10 | 0x20 | 0x40;

/// An image's own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    /// Inodes in it.
    pub inodes: u64,
    /// Its size, in bytes.
    pub bytes: u64,
    /// The features that a kernel must have to read it.
    pub needs: u32,
}

/// Why bytes are no image that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SuperblockError {
    /// Too few, or others.
    #[error("it is no EROFS image")]
    Other,
    /// Damaged.
    #[error("its superblock is damaged: its checksum is {found:08x} and should be {expected:08x}")]
    Checksum {
        /// What its bytes give.
        found: u32,
        /// What it says.
        expected: u32,
    },
    /// Blocks of another size.
    #[error("its blocks have 2^{bits} bytes: only 2^12 are offered")]
    Block {
        /// Bits of a block's size.
        bits: u8,
    },
    /// It needs something that is not offered.
    #[error("it needs features that are not offered: {features:#x}")]
    Features {
        /// Which.
        features: u32,
    },
    /// It leads to devices besides it.
    #[error("it needs {count} more devices")]
    Devices {
        /// How many.
        count: u16,
    },
}

/// Reads the start of an image.
///
/// # Errors
/// [`SuperblockError`].
pub fn parse(start: &[u8]) -> Result<Superblock, SuperblockError> {
    let block = start.get(SUPERBLOCK_AT..START_BYTES).ok_or(SuperblockError::Other)?;
    let (record, _) = block.split_at(SUPERBLOCK_BYTES);
    let half = |at: usize| u16::from_le_bytes([record[at], record[at + 1]]);
    let word = |at: usize| {
        u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]])
    };
    if word(0) != MAGIC {
        return Err(SuperblockError::Other);
    }
    // The size first: the checksum is over a block.
    let bits = record[12];
    if 1_usize.checked_shl(bits.into()) != Some(BLOCK_BYTES) {
        return Err(SuperblockError::Block { bits });
    }
    if word(8) & CHECKSUM != 0 {
        let mut bare = block.to_vec();
        bare[4..8].fill(0);
        let (found, expected) = (checksum(&bare), word(4));
        if found != expected {
            return Err(SuperblockError::Checksum { found, expected });
        }
    }
    let features = word(80) & !KNOWN;
    if features != 0 {
        return Err(SuperblockError::Features { features });
    }
    if half(86) != 0 {
        return Err(SuperblockError::Devices { count: half(86) });
    }
    let inodes = u64::from(word(16)) | (u64::from(word(20)) << 32);
    let bytes = u64::from(word(36)) * BLOCK_BYTES as u64;
    Ok(Superblock { inodes, bytes, needs: word(80) })
}
