//! Small files that must be there whole or not at all.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What can go wrong with a file.
#[derive(Debug, Error)]
#[error("cannot {act} {}: {source}", path.display())]
pub struct FileError {
    act: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    /// Says what was tried on which file.
    pub fn of(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { act, path, source }
    }
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readers {
    /// The group it belongs to.
    pub group: u32,
    /// Its mode.
    pub mode: u32,
}

impl Readers {
    /// Root alone.
    pub const ROOT: Self = Self { group: 0, mode: 0o600 };
}

/// Replaces a file by these bytes: after a crash it holds the old ones or the new ones.
///
/// # Errors
/// [`FileError`], with the step that failed.
pub fn replace(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), FileError> {
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&new).map_err(FileError::of("make", &new))?;
    file.write_all(bytes).map_err(FileError::of("write", &new))?;
    chown(&new, None, Some(readers.group)).map_err(FileError::of("give away", &new))?;
    let permissions = Permissions::from_mode(readers.mode);
    file.set_permissions(permissions).map_err(FileError::of("set the mode of", &new))?;
    file.sync_all().map_err(FileError::of("sync", &new))?;
    std::fs::rename(&new, path).map_err(FileError::of("put in place", path))?;
    sync_folder_of(path)
}

/// Makes a rename in the folder of `path` last.
///
/// # Errors
/// [`FileError`], with the step that failed.
pub fn sync_folder_of(path: &Path) -> Result<(), FileError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let opened = File::open(folder).map_err(FileError::of("open", folder))?;
    opened.sync_all().map_err(FileError::of("sync", folder))
}

/// A file's bytes, at most `bytes_max` and one more (so that a longer one is seen to be); none if there is
/// no such file.
///
/// # Errors
/// [`FileError`] if it is there and can't be read.
pub fn read(path: &Path, bytes_max: usize) -> Result<Option<Vec<u8>>, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::of("open", path)(error)),
    };
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(FileError::of("read", path))?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        let group = std::os::unix::fs::MetadataExt::gid(&folder.path().metadata().unwrap());
        let readers = Readers { group, mode: 0o640 };
        replace(&path, b"old and long", readers).unwrap();
        replace(&path, b"new", readers).unwrap();
        assert_eq!(read(&path, 10).unwrap().unwrap(), b"new");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_not_there_is_none_and_a_long_one_is_seen_to_be() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(&folder.path().join("x"), 10).unwrap(), None);
        std::fs::write(folder.path().join("x"), [7; 100]).unwrap();
        assert_eq!(read(&folder.path().join("x"), 10).unwrap().unwrap().len(), 11);
    }
}
