//! Writes EROFS, the kernel's read-only filesystem (`Documentation/filesystems/erofs.rst`), uncompressed.
//!
//! Two things are made of it: zone images ([`Tree`], [`write()`]) and manifests, trees of names whose files'
//! bytes are elsewhere ([`Stream`]). The same tree gives the same bytes, whatever machine and day it is.
//!
//! ```text
//!   block 0      1024 bytes of nothing │ superblock │ inode of the root
//!   blocks       of inodes: inode, extended attributes, the last bytes of its file or directory
//!                of data: whole blocks of files, whole blocks of directories
//! ```
//! Blocks follow in the order in which they are filled. An inode is named by its place, in units of 32 bytes;
//! a directory is written when all in it has been, and the `..` of those below it are set right then.
//!
//! Owns nothing but the bytes it is given; never reads a directory of the machine it runs on.
#![forbid(unsafe_code)]

mod directory;
mod error;
mod meta;
mod record;
mod space;
mod stream;
pub mod superblock;
mod tree;

#[cfg(test)]
mod read;
#[cfg(test)]
mod test;

pub use error::Error;
pub use meta::{Device, Meta, Time};
pub use stream::{Inode, Reserved, Stream, Written};
pub use tree::{Contents, Node, NodeId, Tree, write};

/// Bytes in a block: a page of every processor this is for.
pub const BLOCK_BYTES: usize = 4096;
/// The most bytes in a name (`EROFS_NAME_LEN`).
pub const NAME_BYTES_MAX: usize = 255;
/// The most bytes in the target of a symbolic link: a block, less than the kernel's `PATH_MAX`.
pub const LINK_BYTES_MAX: usize = BLOCK_BYTES - 1;
/// The most bytes of a file that has none here: the largest chunk that the format can name, 2 to the power
/// of 31 blocks (`EROFS_CHUNK_FORMAT_BLKBITS_MASK`).
pub const ABSENT_BYTES_MAX: u64 = (BLOCK_BYTES as u64) << 31;
