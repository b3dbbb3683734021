//! The store's directory: whose it is, and what it is in.

use crate::format::{Format, FormatError};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;
use uuid::Uuid;

pub(super) const FORMAT: &str = "FORMAT";
const FORMAT_NEW: &str = "FORMAT.new";
const LOCK: &str = "LOCK";
/// What may be in a directory that is to become a store.
const EMPTY: [&str; 3] = [LOCK, FORMAT_NEW, "lost+found"];
/// What may be there too if it is empty: the appliance makes it, to mount a view of it.
const OBJECTS: &str = "objects";

/// Why a directory is not opened as a store.
#[derive(Debug, Error)]
pub enum HomeError {
    /// The disk failed or we may not.
    #[error("could not {doing} {}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("{} is in use by another storaged: stop that one, or name another directory", .path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It has things in it, and is no store.
    #[error(
        "{} is no store and not empty ({found} is in it): name an empty directory, or the store's own",
        .path.display()
    )]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// One thing that is in it.
        found: String,
    },
    /// There is none.
    #[error("{} is no store: it has no file FORMAT", .path.display())]
    NoStore {
        /// The directory.
        path: PathBuf,
    },
    /// Its `FORMAT` can't be read by this release.
    #[error("{} can't be opened", .path.display())]
    Format {
        /// The directory.
        path: PathBuf,
        /// What its `FORMAT` says.
        #[source]
        source: FormatError,
    },
}

/// A store's directory, locked against other processes for as long as this lives.
pub(super) struct Home {
    pub(super) format: Format,
    _lock: Flock<File>,
}

impl Home {
    /// Locks the directory and reads its `FORMAT`; an empty or missing directory becomes a store.
    pub(super) fn open(path: &Path) -> Result<Self, HomeError> {
        let at = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| HomeError::Io { doing, path, source }
        };
        if !path.exists() {
            let made = DirBuilder::new().mode(0o700).recursive(true).create(path);
            made.map_err(at("make the directory", path))?;
        }
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(path.join(LOCK)).map_err(at("open the lock of", path))?;
        let lock =
            Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(
                |(_, errno)| match errno {
                    Errno::EWOULDBLOCK => HomeError::InUse { path: path.to_owned() },
                    errno => at("lock", path)(errno.into()),
                },
            )?;
        let format = match fs::read_to_string(path.join(FORMAT)) {
            Ok(text) => {
                let format = Format::parse(&text)
                    .map_err(|source| HomeError::Format { path: path.to_owned(), source })?;
                let raised = format.raised();
                if raised != format {
                    // Before anything is written that an earlier release can't read.
                    write_format(path, &raised).map_err(at("write FORMAT to", path))?;
                }
                raised
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                check_empty(path).map_err(at("list", path))?.map_or(Ok(()), |found| {
                    Err(HomeError::NotEmpty { path: path.to_owned(), found })
                })?;
                let format = Format::new(Uuid::new_v4());
                write_format(path, &format).map_err(at("write FORMAT to", path))?;
                format
            }
            Err(error) => return Err(at("read FORMAT of", path)(error)),
        };
        Ok(Self { format, _lock: lock })
    }
}

/// Something that is in the directory and should not be.
fn check_empty(path: &Path) -> io::Result<Option<String>> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if name == OBJECTS && fs::read_dir(path.join(OBJECTS))?.next().is_none() {
            continue;
        }
        if !EMPTY.iter().any(|&allowed| name == allowed) {
            return Ok(Some(name.to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

/// Written whole under another name first: a `FORMAT` is there completely, or not at all.
fn write_format(path: &Path, format: &Format) -> io::Result<()> {
    let new = path.join(FORMAT_NEW);
    let mut file = File::create(&new)?;
    file.write_all(format.to_string().as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path.join(FORMAT))?;
    File::open(path)?.sync_all()?;
    // And the directory's own name, which may be new.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn an_empty_directory_becomes_a_store_and_stays_that_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/store");
        let first = Home::open(&path).unwrap().format;
        assert_eq!(Home::open(&path).unwrap().format, first);
    }

    #[test]
    fn a_directory_for_objects_may_be_there_before_the_store_if_nothing_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let (empty, full) = (folder.path().join("empty"), folder.path().join("full"));
        fs::create_dir_all(empty.join(OBJECTS)).unwrap();
        fs::create_dir_all(full.join(OBJECTS).join("0000000000000")).unwrap();
        Home::open(&empty).unwrap();
        let refused = Home::open(&full).err().unwrap();
        assert!(matches!(refused, HomeError::NotEmpty { .. }), "{refused}");
    }

    #[test]
    fn a_store_in_use_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Home::open(folder.path()).unwrap();
        let second = Home::open(folder.path()).err().unwrap();
        assert!(matches!(second, HomeError::InUse { .. }), "{second}");
    }

    #[test]
    fn a_directory_with_anything_else_in_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("holiday.jpg"), b"").unwrap();
        let refused = Home::open(folder.path()).err().unwrap();
        assert!(refused.to_string().contains("holiday.jpg"), "{refused}");
        assert!(!folder.path().join(FORMAT).exists());
    }

    #[test]
    fn an_earlier_release_s_store_is_ours_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let old = Format { version: 1, least_reader: 1, store: Uuid::from_u128(7) };
        fs::write(folder.path().join(FORMAT), old.to_string()).unwrap();
        assert_eq!(Home::open(folder.path()).unwrap().format, Format::new(old.store));
        let text = fs::read_to_string(folder.path().join(FORMAT)).unwrap();
        assert_eq!(Format::parse(&text), Ok(Format::new(old.store)));
    }

    #[test]
    fn a_later_release_s_store_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FORMAT), "mobula store\nformat 9\nleast-reader 9\n").unwrap();
        let refused = Home::open(folder.path()).err().unwrap();
        assert!(matches!(refused, HomeError::Format { .. }), "{refused}");
    }
}
