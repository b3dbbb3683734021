//! Objects that the kernel refuses to show: what its log says of damaged files, made known to the zones that
//! show them.
//!
//! A zone reads a prefix's objects without zoned or storaged in between, so nobody but the kernel sees that a
//! page is not what was sealed (fs-verity), or that a file is not the one that the manifest means (overlayfs).
//! It says so in its log, and names the file; storaged knows which object that is.
//!
//! Owns the log's reader, and what was told already; reads nothing of a zone. Lines of programs, who may write to
//! the same log, are not the kernel's and count for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use wire::standing::{Subject, What, ZoneName, damaged};
use wire::task::{DamagedFile, Request};

use crate::daemon::Daemon;
use crate::standing::Beside;

/// The kernel's log, one record a read (`Documentation/ABI/testing/dev-kmsg`).
const LOG: &str = "/dev/kmsg";
/// The most bytes of a record, by the same document's reader in the kernel (`PRINTK_MESSAGE_MAX`).
const RECORD_BYTES_MAX: usize = 2048;
/// Records taken in before others have their turn.
const RECORDS_A_TURN: usize = 64;
/// Files that are remembered as told: after so many, the disk is the news, and not its files.
const TOLD_MAX: usize = 1024;
/// Prefixes that are asked about for one file, each of which storaged reads through.
const PREFIXES_MAX: usize = 64;

/// The file that a record of the log says is damaged.
#[must_use]
pub fn damaged_file(record: &str) -> Option<DamagedFile> {
    // "level,number,time,flags;text": the kernel's own records have no facility above the level's three bits.
    let (head, text) = record.split_once(';')?;
    let level: u32 = head.split(',').next()?.parse().ok()?;
    if level > 7 {
        return None;
    }
    let text = text.lines().next()?;
    if let Some(rest) = text.strip_prefix("fs-verity (") {
        let (place, what) = rest.split_once("): ")?;
        let (_, inode) = place.split_once(", inode ")?;
        let of_pages = what.starts_with("FILE CORRUPTED!");
        return of_pages.then(|| inode.parse().ok().map(DamagedFile::Inode))?;
    }
    let (name, what) = text.strip_prefix("overlayfs: lower file '")?.split_once("' has ")?;
    let of_digest =
        what.starts_with("the wrong fs-verity digest") || what.starts_with("no fs-verity digest");
    let number = u64::from_str_radix(name, 16).ok().filter(|_| name.len() == 16);
    of_digest.then(|| number.map(DamagedFile::Number))?
}

/// The log, and what came of it.
#[derive(Debug)]
pub(crate) struct KernelLog {
    log: File,
    told: BTreeSet<DamagedFile>,
}

impl KernelLog {
    /// What is written from now on.
    ///
    /// # Errors
    /// What the log's file says.
    pub(crate) fn open() -> io::Result<Self> {
        let mut log = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(LOG)?;
        log.seek(SeekFrom::End(0))?;
        Ok(Self { log, told: BTreeSet::new() })
    }

    /// To wait for.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.log.as_fd()
    }

    /// Files of which nobody knew yet that they are damaged.
    fn news(&mut self) -> io::Result<Vec<DamagedFile>> {
        let mut found = Vec::new();
        let mut record = [0; RECORD_BYTES_MAX];
        for _ in 0..RECORDS_A_TURN {
            let got = match self.log.read(&mut record) {
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Records fell out before they were read, or one is longer than any that is looked for.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::EINVAL)) => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            let file = damaged_file(&String::from_utf8_lossy(&record[..got]));
            if let Some(file) = file
                && self.told.len() < TOLD_MAX
                && self.told.insert(file)
            {
                found.push(file);
            }
        }
        Ok(found)
    }

    /// Whoever comes new to an object has not been told.
    fn forget(&mut self) {
        self.told.clear();
    }

    /// It could not be found out whose that is: the next word of it counts again.
    fn untold(&mut self, file: DamagedFile) {
        self.told.remove(&file);
    }
}

/// Whether an object is below a prefix.
fn is_below(object: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    object.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
}

/// The prefixes that are shown, each once, with the account that shows it.
fn asked_about<'a>(
    shown: impl Iterator<Item = (&'a str, &'a str)>,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let prefixes: BTreeMap<&str, &str> = shown.map(|(login, prefix)| (prefix, login)).collect();
    prefixes.into_iter().take(PREFIXES_MAX).map(|(prefix, login)| (login, prefix))
}

impl Daemon {
    /// The kernel's log has something to read.
    pub(crate) fn hear_kernel(&mut self) {
        let Some(log) = &mut self.kernel_log else { return };
        match log.news() {
            Ok(files) => files.into_iter().for_each(|file| self.ask_whose(file)),
            Err(error) => {
                eprintln!("zoned: cannot read {}: {error}", Path::new(LOG).display());
                self.kernel_log = None;
            }
        }
    }

    fn ask_whose(&mut self, file: DamagedFile) {
        eprintln!("zoned: the kernel refuses pages of a file: {file:?}");
        let shown = self.standing.shown_prefixes();
        let requests: Vec<Request> = asked_about(shown)
            .map(|(login, prefix)| (login.to_owned(), prefix.to_owned()))
            .map(|(login, prefix)| Request::Damaged { login, prefix, file })
            .collect();
        for request in requests {
            if !self.question(&request, Beside::Damaged { file }, &[]) {
                self.damage_unknown(file);
                return;
            }
        }
    }

    /// A zone has started, which may show what others knew to be damaged.
    pub(crate) fn listen_for_damage(&mut self) {
        if let Some(log) = &mut self.kernel_log {
            log.forget();
        }
    }

    /// storaged could not say whose it is; the kernel speaks of it again at the next read.
    pub(crate) fn damage_unknown(&mut self, file: DamagedFile) {
        if let Some(log) = &mut self.kernel_log {
            log.untold(file);
        }
    }

    /// Tells the zones that show them of damaged objects.
    pub(crate) fn objects_damaged(&mut self, objects: &[String]) {
        for object in objects {
            let below = |(_, prefix): (&str, &str)| is_below(object, prefix);
            let showing: Vec<ZoneName> = self.standing.showing(below);
            for name in showing {
                if self.standing.blame(&name, damaged(object)) {
                    let what = What::Damaged { object: object.clone() };
                    self.events.tell(Subject::Zone(name), what);
                }
            }
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kernel_s_words_name_the_file() {
        let corrupted = "3,1234,5678,-;fs-verity (vda, inode 131): FILE CORRUPTED! pos=1228800, level=-1, \
                         want_hash=sha256:ab, real_hash=sha256:cd\n SUBSYSTEM=x\n";
        assert_eq!(damaged_file(corrupted), Some(DamagedFile::Inode(131)));
        let wrong =
            "4,9,9,-;overlayfs: lower file '00000000000000ab' has the wrong fs-verity digest\n";
        assert_eq!(damaged_file(wrong), Some(DamagedFile::Number(0xab)));
        let none = "4,9,9,-;overlayfs: lower file '0000000000000010' has no fs-verity digest\n";
        assert_eq!(damaged_file(none), Some(DamagedFile::Number(16)));
    }

    #[test]
    fn what_others_say_counts_for_nothing() {
        for record in [
            // A program's: facility 1, "user".
            "11,1,1,-;fs-verity (vda, inode 131): FILE CORRUPTED! pos=0",
            "3,1,1,-;fs-verity (vda, inode 131): Unrecognized descriptor version: 2",
            "3,1,1,-;fs-verity (vda, inode x): FILE CORRUPTED! pos=0",
            "3,1,1,-;x fs-verity (vda, inode 131): FILE CORRUPTED! pos=0",
            "4,1,1,-;overlayfs: lower file 'passwd' has the wrong fs-verity digest",
            "4,1,1,-;overlayfs: lower file '00000000000000ab' has a name",
            "nothing",
        ] {
            assert_eq!(damaged_file(record), None, "{record}");
        }
    }

    #[test]
    fn each_prefix_is_asked_about_once() {
        let shown = [("ann", "/ann/stor/a"), ("bob", "/bob/stor"), ("ann", "/ann/stor/a")];
        let asked: Vec<_> = asked_about(shown.into_iter()).collect();
        assert_eq!(asked, [("ann", "/ann/stor/a"), ("bob", "/bob/stor")]);
        assert!(
            is_below("/ann/stor/a/b", "/ann/stor/a") && is_below("/ann/stor/a/b", "/ann/stor/a/")
        );
        assert!(!is_below("/ann/stor/ab", "/ann/stor/a"));
    }

    proptest! {
        #[test]
        fn any_record_is_a_file_or_none(text in ".*", inode: u64) {
            prop_assert!(damaged_file(&text).is_none() || text.contains("fs-verity"));
            let record = format!("3,1,1,-;fs-verity ({}, inode {inode}): FILE CORRUPTED!", "vda");
            prop_assert_eq!(damaged_file(&record), Some(DamagedFile::Inode(inode)));
        }
    }
}
