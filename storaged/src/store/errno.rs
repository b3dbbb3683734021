//! What each errno of the data disk means for the store: the one table of it.
//!
//! | errno | from | what the store does |
//! | --- | --- | --- |
//! | `ENOSPC`, `EDQUOT` | a write, a new file or directory | refuses that batch or upload, cleanly; goes on |
//! | any | an fsync or fdatasync | becomes read-only: which pages are on disk is unknown, and asking again lies |
//! | `ENOSPC`, `EDQUOT` | sealing a file | refuses that upload; goes on |
//! | `ETXTBSY` | sealing a file | asks again for a second: a writer may be on its way out; then refuses |
//! | `ENOENT` | opening or unlinking a file | it is missing: an answer, not a failure |
//! | `EMFILE`, `ENFILE`, `ENOMEM`, `EINTR` | anything but a sync | refuses that operation; goes on |
//! | `EIO`, `EROFS`, and all others | a write, a rename, a seal | becomes read-only: the disk has failed |
//! | `EIO` | a read | refuses that operation: other objects may be fine |

use nix::errno::Errno;
use std::io;

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    /// Writing, making or renaming something.
    Write,
    /// An fsync or fdatasync.
    Sync,
    /// Sealing a file.
    Seal,
    /// Opening or reading something.
    Read,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Refuse this: the disk is full.
    Full,
    /// A writer is left: ask again, within limits.
    Busy,
    /// It is not there.
    Missing,
    /// Refuse this and go on.
    Refuse,
    /// Refuse all changes from here on.
    Latch,
}

/// The table.
pub(crate) fn verdict(doing: Doing, error: &io::Error) -> Verdict {
    let errno = error.raw_os_error().map(Errno::from_raw);
    match (doing, errno) {
        (Doing::Sync, _) => Verdict::Latch,
        (Doing::Write | Doing::Seal, Some(Errno::ENOSPC | Errno::EDQUOT)) => Verdict::Full,
        (Doing::Seal, Some(Errno::ETXTBSY)) => Verdict::Busy,
        (Doing::Read, Some(Errno::ENOENT)) => Verdict::Missing,
        (Doing::Read, _)
        | (_, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EINTR)) => {
            Verdict::Refuse
        }
        (Doing::Write | Doing::Seal, _) => Verdict::Latch,
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn of(doing: Doing, errno: Errno) -> Verdict {
        verdict(doing, &io::Error::from(errno))
    }

    #[test]
    fn a_full_disk_refuses_writes_but_a_failed_sync_latches_whatever_it_says() {
        assert_eq!(of(Doing::Write, Errno::ENOSPC), Verdict::Full);
        assert_eq!(of(Doing::Write, Errno::EDQUOT), Verdict::Full);
        assert_eq!(of(Doing::Sync, Errno::ENOSPC), Verdict::Latch);
        assert_eq!(of(Doing::Sync, Errno::EIO), Verdict::Latch);
    }

    #[test]
    fn a_failed_disk_latches_on_writes_and_not_on_reads() {
        assert_eq!(of(Doing::Write, Errno::EIO), Verdict::Latch);
        assert_eq!(of(Doing::Write, Errno::EROFS), Verdict::Latch);
        assert_eq!(of(Doing::Read, Errno::EIO), Verdict::Refuse);
        assert_eq!(of(Doing::Read, Errno::ENOENT), Verdict::Missing);
    }

    #[test]
    fn a_writer_left_is_asked_again_and_too_many_files_refuse_one_operation() {
        assert_eq!(of(Doing::Seal, Errno::ETXTBSY), Verdict::Busy);
        assert_eq!(of(Doing::Write, Errno::EMFILE), Verdict::Refuse);
    }
}
