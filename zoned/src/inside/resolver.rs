//! `/etc/resolv.conf` of a zone that has a network: whatever the image has there, the zone's names are
//! resolved as the node's are.

use super::build::open;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, unlinkat};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

const FOLDER: &str = "etc";
const NAME: &str = "resolv.conf";

/// Puts it into the zone's root, in the place of a file or a link.
///
/// # Errors
/// What the system calls say.
pub fn place(root: BorrowedFd<'_>, user: u32, text: &str) -> io::Result<()> {
    match mkdirat(root, FOLDER, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let folder = open(root, FOLDER, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())?;
    match unlinkat(&folder, NAME, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let file = open(folder.as_fd(), NAME, flags, Mode::from_bits_truncate(0o644))?;
    File::from(file).write_all(text.as_bytes())?;
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    fchownat(&folder, NAME, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok(())
}
