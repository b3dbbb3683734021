//! A standing zone's log: what its command writes to stdout and stderr, in two files of a bounded size.
//!
//! The zone's first process moves it from a pipe to the files, on the zone's account: a flood is held back
//! by the pipe, and costs nobody else. One file is written until it is full, then the other is emptied and
//! written. Whoever reads finds the older part in the full one.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{ftruncate, pipe2};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes in each of the two files.
pub const FILE_BYTES: u64 = 1 << 20;
/// Bytes moved at once.
const MOVE_BYTES: usize = 16 * 1024;
/// Moves before other events have their turn.
const MOVES: usize = 16;

/// The log and the pipe that fills it.
#[derive(Debug)]
pub struct Log {
    files: [File; 2],
    current: usize,
    bytes: u64,
    reader: File,
    /// For whatever is started next; kept open, so that the reader never sees an end.
    writer: OwnedFd,
}

impl Log {
    /// A log that goes on where these files, opened for appending, end.
    ///
    /// # Errors
    /// What pipe2(2) and fstat(2) say.
    pub fn new(files: [OwnedFd; 2]) -> io::Result<Self> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let files = files.map(File::from);
        let sizes = [files[0].metadata()?.len(), files[1].metadata()?.len()];
        // A full one has been left for the other.
        let current = usize::from(sizes[0] >= FILE_BYTES);
        let bytes = sizes[current];
        Ok(Self { files, current, bytes, reader: reader.into(), writer })
    }

    /// Readable when there is something to be moved.
    pub fn reader(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// What programs write to.
    pub fn writer(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }

    /// Moves what the pipe holds, within bounds; false when it is empty.
    ///
    /// # Errors
    /// What read(2) says of the pipe.
    pub fn take(&mut self) -> io::Result<bool> {
        let mut buffer = [0; MOVE_BYTES];
        for _ in 0..MOVES {
            match self.reader.read(&mut buffer) {
                Ok(got) => self.write(&buffer[..got]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Writes a line of the zone's own.
    pub fn say(&mut self, line: &str) {
        self.write(format!("mobula: {line}\n").as_bytes());
    }

    /// What does not fit the disk is lost: a zone is not held up by its own log.
    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.bytes >= FILE_BYTES && !self.turn() {
                return;
            }
            let room = usize::try_from(FILE_BYTES - self.bytes).unwrap_or(usize::MAX);
            match self.files[self.current].write(&bytes[..bytes.len().min(room)]) {
                Ok(0) => return,
                Ok(wrote) => {
                    self.bytes += wrote as u64;
                    bytes = &bytes[wrote..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // ENOSPC, EDQUOT, EIO.
                Err(_) => return,
            }
        }
    }

    /// Goes on with the other file, from its beginning.
    fn turn(&mut self) -> bool {
        let other = 1 - self.current;
        match ftruncate(&self.files[other], 0) {
            Ok(()) => {
                self.current = other;
                self.bytes = 0;
                true
            }
            Err(Errno::EINTR) => self.turn(),
            Err(_) => false,
        }
    }
}

/// Which of two files of these sizes is the older part.
#[must_use]
pub const fn older(sizes: [u64; 2]) -> usize {
    // While the first is being written for the first time, the second is empty: whichever comes first.
    if sizes[1] >= FILE_BYTES && sizes[0] < FILE_BYTES { 1 } else { 0 }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    fn open(folder: &Path) -> Log {
        let file = |name| File::options().append(true).create(true).open(folder.join(name));
        Log::new([file("0").unwrap().into(), file("1").unwrap().into()]).unwrap()
    }

    fn read(folder: &Path) -> Vec<u8> {
        let texts = ["0", "1"].map(|name| std::fs::read(folder.join(name)).unwrap());
        let first = older([texts[0].len() as u64, texts[1].len() as u64]);
        [texts[first].clone(), texts[1 - first].clone()].concat()
    }

    #[test]
    fn what_goes_through_the_pipe_is_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path());
        File::from(log.writer().try_clone_to_owned().unwrap()).write_all(b"hello\n").unwrap();
        assert!(!log.take().unwrap());
        log.say("over");
        assert_eq!(read(folder.path()), b"hello\nmobula: over\n");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_end_of_all_that_was_written_is_there_and_no_more_than_two_files(
            parts in prop::collection::vec((any::<u8>(), 1..700_000usize, any::<bool>()), 1..12)
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut log = open(folder.path());
            let mut all = Vec::new();
            for (byte, len, again) in parts {
                let part = vec![byte; len];
                log.write(&part);
                all.extend(part);
                if again {
                    log = open(folder.path());
                }
            }
            let kept = read(folder.path());
            prop_assert!(all.ends_with(&kept));
            prop_assert!(kept.len() as u64 <= 2 * FILE_BYTES);
            prop_assert!(kept.len() == all.len() || kept.len() as u64 >= FILE_BYTES);
        }
    }
}
