//! Opening device files so that neither opening nor using them ever waits (open(2)); files on their way to the
//! disk.
#![allow(unsafe_code)]

use nix::fcntl::OFlag;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// `O_NOCTTY`: a terminal must not become the one that interrupts us.
fn flags() -> i32 {
    (OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).bits()
}

/// Opens for reading.
///
/// # Errors
/// What open(2) says.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(flags()).open(path)
}

/// Opens for writing; nothing is made and nothing is cut.
///
/// # Errors
/// What open(2) says.
pub fn open_to_write(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).custom_flags(flags()).open(path)
}

/// Has the kernel begin to write what was written to a file, and find places for it (sync_file_range(2)). Waits
/// for nothing and promises nothing: fsync(2) does, and takes less time then when there are many files.
///
/// # Errors
/// What sync_file_range(2) says.
pub fn start_writing(file: &File) -> io::Result<()> {
    // SAFETY: sync_file_range(2) takes integers; from 0, a length of 0 is the whole file.
    let done =
        unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
