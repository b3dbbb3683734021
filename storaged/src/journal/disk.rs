//! What the journal needs of a disk: few enough operations that a test can be one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where segments are, named by their first sequence.
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
}

/// A directory of a file system.
#[derive(Debug)]
pub struct RealDisk {
    path: PathBuf,
    directory: File,
}

/// What a segment's file name ends with.
const SUFFIX: &str = ".journal";

impl RealDisk {
    /// The journal in this directory, made if missing.
    ///
    /// # Errors
    /// When it can't be made or opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        if !path.exists() {
            fs::create_dir(path)?;
            File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(Self { path: path.to_owned(), directory: File::open(path)? })
    }

    fn file(&self, name: u64) -> PathBuf {
        self.path.join(format!("{name:016x}{SUFFIX}"))
    }
}

impl Disk for RealDisk {
    fn list(&mut self) -> io::Result<Vec<u64>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let file = entry?.file_name();
            let name = file.to_str().and_then(|text| text.strip_suffix(SUFFIX));
            match name.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
                Some(name) => names.push(name),
                None => log::warn!("journal: {} is no segment and is left alone", file.display()),
            }
        }
        Ok(names)
    }

    fn create(&mut self, name: u64) -> io::Result<Box<dyn SegmentFile>> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create_new(true).mode(0o600);
        Ok(Box::new(options.open(self.file(name))?))
    }

    fn open(&mut self, name: u64) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(self.file(name))?))
    }

    fn remove(&mut self, name: u64) -> io::Result<()> {
        fs::remove_file(self.file(name))
    }

    fn sync_names(&mut self) -> io::Result<()> {
        self.directory.sync_all()
    }
}

impl SegmentFile for File {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        let length = self.metadata()?.len();
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
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
}
