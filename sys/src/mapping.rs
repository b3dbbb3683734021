//! Files mapped to have their pages in the page cache, charged to the caller's cgroup.
//!
//! mmap(2), madvise(2) with `MADV_POPULATE_READ` (Linux 5.14). A [`Populated`] gives nobody its bytes:
//! they are never read by this process, only brought into memory by the kernel. So it is safe for any
//! file: a writer cannot make a Rust reference lie, and a file that shrinks cannot raise SIGBUS,
//! since no instruction of ours touches the mapping.
#![allow(unsafe_code)]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use thiserror::Error;

/// Why a file was not mapped.
#[derive(Debug, Error)]
pub enum MappingError {
    /// mmap(2) failed.
    #[error("cannot map {length} bytes")]
    Map {
        /// How many.
        length: usize,
        /// What mmap(2) says.
        source: io::Error,
    },
    /// madvise(2) failed: EFAULT stands for a page that cannot be read, as after a failed fs-verity check.
    #[error("cannot read {length} bytes ahead")]
    Populate {
        /// How many.
        length: usize,
        /// What madvise(2) says.
        source: io::Error,
    },
}

/// A read-only, shared mapping of the start of a file, every page of which was in memory once.
#[derive(Debug)]
pub struct Populated {
    address: NonNull<libc::c_void>,
    length: NonZeroUsize,
}

// SAFETY: the mapping belongs to the process and not to a thread, and nothing reads or writes through
// `address`; munmap(2) may be called from any thread.
unsafe impl Send for Populated {}

impl Populated {
    /// Maps the first `length` bytes of `file` and has the kernel read them all.
    ///
    /// # Errors
    /// [`MappingError`]. A `length` beyond the end of the file is an EFAULT of the populating.
    pub fn map(file: BorrowedFd<'_>, length: NonZeroUsize) -> Result<Self, MappingError> {
        let bytes = length.get();
        // SAFETY: a new mapping at an address that the kernel chooses replaces no memory of ours, and
        // `file` is open for the duration of the call; the mapping holds the file itself afterwards.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(MappingError::Map { length: bytes, source: io::Error::last_os_error() });
        }
        let address = NonNull::new(address).expect("mmap(2) without MAP_FIXED never gives page 0");
        let mapping = Self { address, length };
        loop {
            // SAFETY: address and length are those of the mapping just made, which is ours and alive;
            // MADV_POPULATE_READ changes no byte of it.
            let done =
                unsafe { libc::madvise(mapping.address.as_ptr(), bytes, libc::MADV_POPULATE_READ) };
            if done == 0 {
                return Ok(mapping);
            }
            let source = io::Error::last_os_error();
            if source.kind() != io::ErrorKind::Interrupted {
                return Err(MappingError::Populate { length: bytes, source });
            }
        }
    }

    /// Bytes mapped.
    #[must_use]
    pub fn length(&self) -> NonZeroUsize {
        self.length
    }
}

impl Drop for Populated {
    fn drop(&mut self) {
        // SAFETY: `map` made this mapping with this length, nobody else unmaps it, and no reference into
        // it was ever given out.
        let done = unsafe { libc::munmap(self.address.as_ptr(), self.length.get()) };
        debug_assert_eq!(done, 0, "munmap(2) of a mapping that was made");
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use std::os::fd::AsFd;

    fn file_of(bytes: usize) -> std::fs::File {
        let path =
            std::env::temp_dir().join(format!("mobula-mapping-{}-{bytes}", std::process::id()));
        std::fs::write(&path, vec![7; bytes]).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file
    }

    #[test]
    fn a_file_is_mapped_whole_and_let_go_of() {
        let file = file_of(10_000);
        let mapping = Populated::map(file.as_fd(), NonZeroUsize::new(10_000).unwrap()).unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(maps.contains("mobula-mapping-") && mapping.length().get() == 10_000);
        drop(mapping);
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(!maps.contains(&format!("mobula-mapping-{}-10000", std::process::id())));
    }

    #[test]
    fn bytes_beyond_the_end_are_an_error_and_no_signal() {
        let file = file_of(5000);
        let beyond = Populated::map(file.as_fd(), NonZeroUsize::new(50_000).unwrap());
        assert!(matches!(beyond, Err(MappingError::Populate { .. })));
    }
}
