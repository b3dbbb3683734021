//! What the journal and the snapshots need of a disk: few enough operations that a test can be one.

use crate::store::errno::{Doing, Verdict, verdict};
use nix::fcntl::{AT_FDCWD, PosixFadviseAdvice, RenameFlags, posix_fadvise, renameat2};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where numbered files are: segments of the journal, snapshots.
pub trait Disk: Send {
    /// The names that are there, in any order.
    ///
    /// # Errors
    /// When the disk fails.
    fn list(&mut self) -> io::Result<Vec<u64>>;
    /// Makes a segment that was not there.
    ///
    /// # Errors
    /// When it is there, or the disk is full or fails.
    fn create(&mut self, name: u64) -> io::Result<Box<dyn SegmentFile>>;
    /// Opens a segment that is there.
    ///
    /// # Errors
    /// When it is not there or the disk fails.
    fn open(&mut self, name: u64) -> io::Result<Box<dyn SegmentFile>>;
    /// Removes a segment.
    ///
    /// # Errors
    /// When it is not there or the disk fails.
    fn remove(&mut self, name: u64) -> io::Result<()>;
    /// Gives a file another name, under which none may be; after a crash it has one of the two.
    ///
    /// # Errors
    /// When it is not there, the other is, or the disk fails.
    fn rename(&mut self, from: u64, to: u64) -> io::Result<()>;
    /// Brings the names to disk.
    ///
    /// # Errors
    /// When the disk fails.
    fn sync_names(&mut self) -> io::Result<()>;
}

/// One open segment.
pub trait SegmentFile: Send {
    /// All of it.
    ///
    /// # Errors
    /// When the disk fails.
    fn read(&mut self) -> io::Result<Vec<u8>>;
    /// Its bytes' number.
    ///
    /// # Errors
    /// When the disk fails.
    fn length(&mut self) -> io::Result<u64>;
    /// Some of it, from that byte on; fewer than asked for only at its end.
    ///
    /// # Errors
    /// When the disk fails.
    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes bytes; what an error leaves of them is unknown.
    ///
    /// # Errors
    /// When the disk is full or fails.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts it to this length.
    ///
    /// # Errors
    /// When the disk fails.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Brings its bytes and its length to disk.
    ///
    /// # Errors
    /// When the disk fails; what is on it is unknown from then on.
    fn sync(&mut self) -> io::Result<()>;
    /// Lets the memory go that holds what is on disk, so that the next read asks the disk.
    ///
    /// # Errors
    /// When the kernel does not know the file.
    fn forget(&mut self) -> io::Result<()>;
}

/// A directory of a file system.
#[derive(Debug)]
pub struct RealDisk {
    path: PathBuf,
    directory: File,
    suffix: &'static str,
}

/// What the file name of a journal's segment ends with.
pub const SEGMENT_SUFFIX: &str = ".journal";
/// What a snapshot's file name ends with.
pub const SNAPSHOT_SUFFIX: &str = ".snapshot";

impl RealDisk {
    /// The files in this directory, made if missing, whose names end so.
    ///
    /// # Errors
    /// When it can't be made or opened.
    pub fn open(path: &Path, suffix: &'static str) -> io::Result<Self> {
        if !path.exists() {
            fs::create_dir(path)?;
            File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(Self { path: path.to_owned(), directory: File::open(path)?, suffix })
    }

    fn file(&self, name: u64) -> PathBuf {
        self.path.join(format!("{name:016x}{}", self.suffix))
    }

    fn opened(&self, file: File, length: u64) -> Box<dyn SegmentFile> {
        // A snapshot is written once, and synced once.
        if self.suffix == SEGMENT_SUFFIX {
            Box::new(Ahead { file, zeros_until: length })
        } else {
            Box::new(file)
        }
    }
}

impl Disk for RealDisk {
    fn list(&mut self) -> io::Result<Vec<u64>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let file = entry?.file_name();
            let name = file.to_str().and_then(|text| text.strip_suffix(self.suffix));
            match name.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
                Some(name) => names.push(name),
                None => log::warn!(
                    "{}: {} is none of the store's and is left alone",
                    self.path.display(),
                    file.display()
                ),
            }
        }
        Ok(names)
    }

    fn create(&mut self, name: u64) -> io::Result<Box<dyn SegmentFile>> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(self.file(name))?;
        Ok(self.opened(file, 0))
    }

    fn open(&mut self, name: u64) -> io::Result<Box<dyn SegmentFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.file(name))?;
        let length = file.metadata()?.len();
        Ok(self.opened(file, length))
    }

    fn remove(&mut self, name: u64) -> io::Result<()> {
        fs::remove_file(self.file(name))
    }

    fn rename(&mut self, from: u64, to: u64) -> io::Result<()> {
        let (from, to) = (self.file(from), self.file(to));
        Ok(renameat2(AT_FDCWD, &from, AT_FDCWD, &to, RenameFlags::RENAME_NOREPLACE)?)
    }

    fn sync_names(&mut self) -> io::Result<()> {
        self.directory.sync_all()
    }
}

/// Zeros that are written ahead of what is appended to a segment of the journal. A sync of bytes that were
/// written over others brings them to disk and no more; one that makes a file longer also waits for its new
/// length, and takes twice as long. More at once would make whoever waits for that sync wait too long.
const AHEAD_BYTES: usize = 1 << 20;

/// A segment that has zeros beyond its end: the format takes them for the end.
struct Ahead {
    file: File,
    zeros_until: u64,
}

impl SegmentFile for Ahead {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        self.file.read()
    }

    fn length(&mut self) -> io::Result<u64> {
        self.file.length()
    }

    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        SegmentFile::read_at(&mut self.file, buffer, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        SegmentFile::write_at(&mut self.file, bytes, offset)?;
        let end = offset + bytes.len() as u64;
        // Not behind a header, by whose length a segment is known that was never finished.
        if offset > 0 && end > self.zeros_until {
            // The next sync brings them to disk. Where there is no room for them, there is none for them:
            // what counts is written.
            self.zeros_until = match self.file.write_all_at(&vec![0; AHEAD_BYTES], end) {
                Ok(()) => end + AHEAD_BYTES as u64,
                Err(error) if verdict(Doing::Write, &error) == Verdict::Full => end,
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.zeros_until = self.zeros_until.min(length);
        self.file.truncate(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }

    fn forget(&mut self) -> io::Result<()> {
        self.file.forget()
    }
}

impl SegmentFile for File {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        let length = self.length()?;
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    fn length(&mut self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match FileExt::read_at(self, &mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn forget(&mut self) -> io::Result<()> {
        Ok(posix_fadvise(&*self, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?)
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn zeros_are_written_ahead_and_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = RealDisk::open(&folder.path().join("journal"), SEGMENT_SUFFIX).unwrap();
        let mut file = disk.create(1).unwrap();
        file.write_at(b"first", 0).unwrap();
        assert_eq!(file.length().unwrap(), 5);
        file.write_at(b"second", 5).unwrap();
        let length = file.length().unwrap();
        assert_eq!(length, 11 + AHEAD_BYTES as u64);
        file.write_at(b"second", 5).unwrap();
        assert_eq!(file.length().unwrap(), length);
        let bytes = file.read().unwrap();
        assert!(bytes.starts_with(b"firstsecond") && bytes[11..].iter().all(|&byte| byte == 0));
        file.truncate(5).unwrap();
        assert_eq!(file.length().unwrap(), 5);
        file.write_at(b"third", 5).unwrap();
        assert!(file.read().unwrap().starts_with(b"firstthird\0"));
        drop(file);
        let mut file = disk.open(1).unwrap();
        let length = file.length().unwrap();
        file.write_at(b"4", 10).unwrap();
        assert_eq!(file.length().unwrap(), length);
    }

    #[test]
    fn a_snapshot_is_as_long_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = RealDisk::open(&folder.path().join("s"), SNAPSHOT_SUFFIX).unwrap();
        let mut file = disk.create(1).unwrap();
        file.write_at(b"all", 0).unwrap();
        assert_eq!(file.length().unwrap(), 3);
    }
}
