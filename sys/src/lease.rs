//! Leases as a question: is anybody left who could write to this file?
//!
//! `F_SETLEASE` (fcntl(2)), any kernel with `CONFIG_FILE_LOCKING`.
#![allow(unsafe_code)]

use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Whether no descriptor could write to the file that `file`, open for reading only, is open on.
///
/// The kernel refuses a read lease while there is a writer. The lease is given back at once, so the answer
/// holds for that moment only; a shared writable mapping keeps its file open and so counts as a writer.
///
/// # Errors
/// `EACCES` for someone else's file without `CAP_LEASE`, `EINVAL` where there are no leases.
pub fn no_writer(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    match set(file, libc::F_RDLCK) {
        Ok(()) => set(file, libc::F_UNLCK).map(|()| true),
        Err(Errno::EAGAIN) => Ok(false),
        Err(error) => Err(error),
    }
}

fn set(file: BorrowedFd<'_>, lease: libc::c_int) -> Result<(), Errno> {
    // SAFETY: F_SETLEASE takes an open descriptor, which `file` is for the length of the call, and an int; it
    // touches no memory of this process.
    Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, lease) }).map(drop)
}

#[cfg(test)]
mod test {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_writer_is_seen_until_it_is_gone() {
        let writer = tempfile::NamedTempFile::new().unwrap();
        let reader = std::fs::File::open(writer.path()).unwrap();
        assert_eq!(no_writer(reader.as_fd()), Ok(false));
        let path = writer.into_temp_path();
        assert_eq!(no_writer(reader.as_fd()), Ok(true));
        path.close().unwrap();
    }
}
