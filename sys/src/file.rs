//! Opening device files so that neither opening nor using them ever waits (open(2)).

use nix::fcntl::OFlag;
use std::fs::{File, OpenOptions};
use std::io;
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
