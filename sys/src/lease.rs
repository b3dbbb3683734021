//! Leases as a question: is anybody left who could write to this file, and was anybody since?
//!
//! `F_SETLEASE` (fcntl(2)), any kernel with `CONFIG_FILE_LOCKING`.
//!
//! Whoever wants to write breaks a lease, and its holder gets a signal that ends a process by default. Files
//! of tenants are asked about here: the signal is made one that is ignored by default (`F_SETSIG`, signal(7)).
#![allow(unsafe_code)]

use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `F_SETSIG` of `<linux/fcntl.h>`, on every architecture with the generic header.
const F_SETSIG: libc::c_int = 10;

/// A lease that is held until it is dropped, or broken by somebody who opens the file for writing: they wait
/// for the drop, or for `/proc/sys/fs/lease-break-time`.
#[derive(Debug)]
pub struct Lease<'a>(BorrowedFd<'a>);

impl<'a> Lease<'a> {
    /// Takes a read lease on the file that `file`, open for reading only, is open on; none while there is
    /// a writer. A shared writable mapping keeps its file open and so counts as one.
    ///
    /// # Errors
    /// `EACCES` for someone else's file without `CAP_LEASE`, `EINVAL` where there are no leases.
    pub fn take(file: BorrowedFd<'a>) -> Result<Option<Self>, Errno> {
        // SAFETY: F_SETSIG takes an open descriptor, which `file` is for the length of the call, and an int; it
        // touches no memory of this process.
        let set = unsafe { libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) };
        Errno::result(set)?;
        match set_lease(file, libc::F_RDLCK) {
            Ok(()) => Ok(Some(Self(file))),
            Err(Errno::EAGAIN) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether nobody has come to write since it was taken.
    ///
    /// # Errors
    /// What fcntl(2) says.
    pub fn holds(&self) -> Result<bool, Errno> {
        // SAFETY: F_GETLEASE takes an open descriptor, which the borrow keeps open, and touches no memory of
        // this process.
        let lease = unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_GETLEASE) };
        // While it is being broken, it is what it is to become.
        Ok(Errno::result(lease)? == libc::F_RDLCK)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // It may have been broken and be gone; else it goes with the descriptor in any case.
        if set_lease(self.0, libc::F_UNLCK).is_err() {}
    }
}

/// Whether no descriptor could write to the file that `file`, open for reading only, is open on. The answer
/// holds for that moment only.
///
/// # Errors
/// As [`Lease::take`].
pub fn no_writer(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(Lease::take(file)?.is_some())
}

fn set_lease(file: BorrowedFd<'_>, lease: libc::c_int) -> Result<(), Errno> {
    // SAFETY: F_SETLEASE takes an open descriptor, which `file` is for the length of the call, and an int; it
    // touches no memory of this process.
    Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, lease) }).map(drop)
}

#[cfg(test)]
mod test {
    use super::*;
    use std::fs::{File, OpenOptions};
    use std::os::fd::AsFd;
    use std::os::unix::fs::OpenOptionsExt;

    #[test]
    fn a_writer_is_seen_until_it_is_gone() {
        let writer = tempfile::NamedTempFile::new().unwrap();
        let reader = File::open(writer.path()).unwrap();
        assert_eq!(no_writer(reader.as_fd()), Ok(false));
        let path = writer.into_temp_path();
        assert_eq!(no_writer(reader.as_fd()), Ok(true));
        path.close().unwrap();
    }

    #[test]
    fn who_comes_to_write_is_noticed_and_ends_nobody() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let reader = File::open(&path).unwrap();
        let lease = Lease::take(reader.as_fd()).unwrap().unwrap();
        assert_eq!(lease.holds(), Ok(true));
        // Without waiting: it is refused, and breaks the lease all the same. The signal comes to this process.
        let opened = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
        assert_eq!(opened.err().and_then(|error| error.raw_os_error()), Some(libc::EWOULDBLOCK));
        assert_eq!(lease.holds(), Ok(false));
        drop(lease);
        assert!(OpenOptions::new().write(true).open(&path).is_ok());
    }
}
