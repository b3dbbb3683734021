//! Pseudo-terminals of a given devpts (pts(4), ioctl_tty(2)).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The terminal behind this master, unlocked: `TIOCSPTLCK`, `TIOCGPTPEER` (Linux 4.13). It needs no path,
/// and so no trust in one.
///
/// # Errors
/// ENOTTY if `master` is none.
pub fn terminal(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, which is live.
    let done =
        unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, std::ptr::from_ref(&unlocked)) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes the flags of open(2) as an integer.
    let fd = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded and installed the descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Sets a terminal's size; its programs get SIGWINCH.
///
/// # Errors
/// ENOTTY if it is none.
pub fn set_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize, which is live.
    let done =
        unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, std::ptr::from_ref(&size)) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod test {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn what_is_written_to_one_end_is_read_at_the_other() {
        let mut master = File::options().read(true).write(true).open("/dev/ptmx").unwrap();
        let mut terminal = File::from(terminal(master.as_fd()).unwrap());
        set_size(master.as_fd(), 24, 80).unwrap();
        terminal.write_all(b"hello").unwrap();
        let mut got = [0; 5];
        master.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
    }

    #[test]
    fn a_file_has_no_terminal() {
        let null = File::open("/dev/null").unwrap();
        assert!(terminal(null.as_fd()).is_err() && set_size(null.as_fd(), 1, 1).is_err());
    }
}
