//! fs-verity: files that the kernel seals, and checks page by page as they are read in.
//!
//! See Documentation/filesystems/fsverity.rst; ext4 has it since kernel 5.4, if the file system was made
//! with `-O verity`. Only SHA-256 over blocks of 4 KiB without salt is used here.
#![allow(unsafe_code)]

use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes in a digest.
pub const DIGEST_BYTES: usize = 32;
/// Bytes in a block of the Merkle tree.
pub const BLOCK_BYTES: usize = 4096;

const SHA256: u32 = 1;

/// `struct fsverity_enable_arg` of `<linux/fsverity.h>`.
#[repr(C)]
struct EnableArgument {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt_ptr: u64,
    sig_size: u32,
    reserved1: u32,
    sig_ptr: u64,
    reserved2: [u64; 11],
}

/// `struct fsverity_digest` of `<linux/fsverity.h>`, with room for a SHA-256.
#[repr(C)]
struct MeasureArgument {
    digest_algorithm: u16,
    digest_size: u16,
    digest: [u8; DIGEST_BYTES],
}

/// The raw calls: unsafe functions that nix writes, kept where only this file sees them.
mod raw {
    #![allow(missing_docs)]
    use super::EnableArgument;
    nix::ioctl_write_ptr!(enable_verity, b'f', 133, EnableArgument);
    // The kernel defines FS_IOC_MEASURE_VERITY with the size of the struct without its flexible array.
    nix::ioctl_readwrite!(measure_verity, b'f', 134, [u16; 2]);
}

/// Seals a file: from here on nobody can open it for writing, and every page is checked as it is read in.
///
/// `file` is open for reading only. That no writer is left is checked atomically. What was sealed is in
/// the page cache and its journal; it is on disk only after an fsync.
///
/// # Errors
/// `ETXTBSY` while any descriptor or mapping could still write; `EEXIST` if it is sealed already;
/// `EOPNOTSUPP` or `ENOTTY` where the file system or the kernel can't; see the man page of the ioctl.
pub fn seal(file: BorrowedFd<'_>) -> Result<(), Errno> {
    let argument = EnableArgument {
        version: 1,
        hash_algorithm: SHA256,
        block_size: BLOCK_BYTES as u32,
        salt_size: 0,
        salt_ptr: 0,
        sig_size: 0,
        reserved1: 0,
        sig_ptr: 0,
        reserved2: [0; 11],
    };
    // SAFETY: `file` is an open descriptor for the length of the call, and `argument` is a whole, initialised
    // `fsverity_enable_arg` that outlives it. Its salt and signature pointers are null with sizes of 0, so the
    // kernel reads nothing but the struct, and it writes nothing.
    unsafe { raw::enable_verity(file.as_raw_fd(), &raw const argument) }.map(drop)
}

/// The digest of a sealed file, as the kernel enforces it.
///
/// # Errors
/// `ENODATA` when it is not sealed, `EOVERFLOW` when it is with a longer hash, `EOPNOTSUPP` or `ENOTTY` where
/// the file system or the kernel can't; `EINVAL` when it is sealed with another hash.
pub fn measure(file: BorrowedFd<'_>) -> Result<[u8; DIGEST_BYTES], Errno> {
    let mut argument = MeasureArgument {
        digest_algorithm: 0,
        digest_size: DIGEST_BYTES as u16,
        digest: [0; DIGEST_BYTES],
    };
    // SAFETY: `file` is an open descriptor for the length of the call. The kernel reads `digest_size` first and
    // writes at most that many bytes behind the two header fields; the pointer is to the whole struct, which
    // has exactly that room, is exclusively borrowed here and outlives the call. The cast only names the part
    // whose size the request number carries.
    unsafe { raw::measure_verity(file.as_raw_fd(), (&raw mut argument).cast()) }?;
    let fits = usize::from(argument.digest_size) == DIGEST_BYTES;
    let sha256 = u32::from(argument.digest_algorithm) == SHA256;
    if fits && sha256 { Ok(argument.digest) } else { Err(Errno::EINVAL) }
}

#[cfg(test)]
mod test {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn the_structs_have_the_sizes_of_the_kernel() {
        assert_eq!(size_of::<EnableArgument>(), 128);
        assert_eq!(size_of::<MeasureArgument>(), 4 + DIGEST_BYTES);
    }

    /// With fs-verity or without: a file is sealed and measured, or the kernel says that it can't.
    #[test]
    fn a_file_is_sealed_or_the_kernel_says_that_it_can_not() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"some bytes").unwrap();
        let path = file.into_temp_path();
        let file = std::fs::File::open(&path).unwrap();
        let cannot = [Errno::EOPNOTSUPP, Errno::ENOTTY];
        match seal(file.as_fd()) {
            Ok(()) => assert_ne!(measure(file.as_fd()).unwrap(), [0; DIGEST_BYTES]),
            Err(error) => {
                assert!(cannot.contains(&error), "{error}");
                assert!(measure(file.as_fd()).is_err());
            }
        }
    }
}
