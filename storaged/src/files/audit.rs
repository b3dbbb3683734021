//! Auditing: whether a blob's file is what its record says, without the rest of the store.

use super::digest::Tree;
use super::{XATTR_FORMAT, XATTR_NAME, directory_name, file_name};
use crate::store::{BlobId, BlobRecord, BlobState, Digest};
use nix::errno::Errno;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::libc;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Bytes read at a time: a multiple of the digest's blocks.
pub(crate) const READ_BYTES: usize = 1 << 20;

const _: () = assert!(READ_BYTES.is_multiple_of(sys::verity::BLOCK_BYTES));

/// What is wrong with a blob's file.
#[derive(Debug, Error)]
pub(crate) enum Fault {
    #[error("its file is missing")]
    Missing,
    #[error("it has {found} bytes instead of {expected}")]
    Size { found: u64, expected: u64 },
    #[error("its mode {mode:o} lets it be written")]
    Writable { mode: u32 },
    #[error("it is marked as blob {found}")]
    Mark { found: u64 },
    #[error("it measures {} instead of {expected}", found.map_or("nothing".to_owned(), |found| found.to_string()))]
    Digest { found: Option<Digest>, expected: Digest },
    #[error("it can't be read: {0}")]
    Read(io::Error),
}

/// How much of a file is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Its names and numbers.
    Outside,
    /// Every byte.
    Whole,
}

/// Asked before each piece is read, with its bytes; it may wait, or end the reading.
pub(crate) type Pace<'a> = dyn FnMut(u64) -> ControlFlow<()> + 'a;

/// What is wrong with a blob's file, if anything is; `None`, too, if the pace ended the reading.
pub(crate) fn audit(
    objects: &Path,
    blob: BlobId,
    record: &BlobRecord,
    depth: Depth,
    pace: &mut Pace<'_>,
) -> Option<Fault> {
    let path = path_of(objects, blob);
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(Fault::Missing),
        Err(error) => return Some(Fault::Read(error)),
    };
    outside(&file, blob, record).err().or_else(|| match depth {
        Depth::Outside => None,
        Depth::Whole => inside(&file, record, pace).err(),
    })
}

/// Where a blob's file is, beneath the directory of objects.
pub(crate) fn path_of(objects: &Path, blob: BlobId) -> PathBuf {
    objects.join(directory_name(blob)).join(file_name(blob))
}

fn outside(file: &File, blob: BlobId, record: &BlobRecord) -> Result<(), Fault> {
    let metadata = file.metadata().map_err(Fault::Read)?;
    let (found, expected) = (metadata.len(), record.size);
    if found != expected {
        return Err(Fault::Size { found, expected });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o222 != 0 {
        return Err(Fault::Writable { mode });
    }
    let mut buffer = [0; 16];
    // A file system without attributes, or a copy that lost them, is no damage: nothing relies on them.
    if let Ok([XATTR_FORMAT, id @ ..]) = sys::xattr::get(file.as_fd(), XATTR_NAME, &mut buffer)
        && let Ok(id) = <[u8; 8]>::try_from(id)
        && u64::from_le_bytes(id) != blob.0
    {
        return Err(Fault::Mark { found: u64::from_le_bytes(id) });
    }
    Ok(())
}

/// Reads it all. What the kernel sealed, the kernel checks, page by page; of what it did not seal the
/// digest is computed.
fn inside(file: &File, record: &BlobRecord, pace: &mut Pace<'_>) -> Result<(), Fault> {
    let BlobState::Sealed(expected) = record.state else { return Ok(()) };
    let own = match sys::verity::measure(file.as_fd()).map(Digest) {
        Ok(found) if found == expected => false,
        Ok(found) => return Err(Fault::Digest { found: Some(found), expected }),
        // The file system seals files, and this one is not sealed.
        Err(Errno::ENODATA) => return Err(Fault::Digest { found: None, expected }),
        Err(_) => true,
    };
    let mut tree = Tree::default();
    let mut buffer = vec![0; READ_BYTES];
    let mut offset = 0;
    while offset < record.size {
        let want = usize::try_from(record.size - offset).unwrap_or(READ_BYTES).min(READ_BYTES);
        if pace(want as u64).is_break() {
            return Ok(());
        }
        // What is in memory already stays there; what is not is not wanted there.
        let cached = sys::transfer::cached_pages(file, offset, want as u64).unwrap_or(0);
        file.read_exact_at(&mut buffer[..want], offset).map_err(Fault::Read)?;
        if cached == 0 {
            let (offset, want) = (offset.cast_signed(), (want as u64).cast_signed());
            let advice = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
            posix_fadvise(file, offset, want, advice).map_err(|e| Fault::Read(e.into()))?;
        }
        if own {
            tree.update(&buffer[..want]);
        }
        offset += want as u64;
    }
    let found = tree.finish();
    if own && found != expected {
        return Err(Fault::Digest { found: Some(found), expected });
    }
    Ok(())
}
