//! Record files, each replaced whole: written beside, synced, renamed, the folder synced. After a crash or a power cut
//! there is the record as it was or as it should be, and never half of one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// What a record is called while it is written; one that is found is of a zoned that was killed.
pub const NEW_ENDING: &str = "new";

/// What could not be done with a file.
#[derive(Debug, Error)]
#[error("cannot {act} {}", path.display())]
pub struct FileError {
    act: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Says what was tried with which file.
pub fn failed<'a>(
    act: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> FileError + use<'a> {
    move |source| FileError { act, path: path.to_owned(), source }
}

/// Whose a record is: by it tests find the places at which zoned is to be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// A standing zone's.
    Zone,
    /// An account's.
    Account,
    /// An image's.
    Image,
}

/// A record that is to be on disk, in place of the one that is there.
#[derive(Debug)]
pub struct Replacement {
    whose: Whose,
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Replacement {
    /// These bytes in this file.
    #[must_use]
    pub const fn new(whose: Whose, path: PathBuf, bytes: Vec<u8>) -> Self {
        Self { whose, path, bytes }
    }

    /// Which file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it beside the one that is there, in a folder that is made if need be.
    fn sketch(self) -> Result<Sketch, FileError> {
        let folder = self.path.parent().unwrap_or(Path::new("/")).to_owned();
        let above = match fs::create_dir(&folder) {
            Ok(()) => folder.parent().map(Path::to_owned),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
            Err(error) => return Err(failed("make", &folder)(error)),
        };
        let new = self.path.with_extension(NEW_ENDING);
        let mut file = File::create(&new).map_err(failed("make", &new))?;
        file.write_all(&self.bytes).map_err(failed("write", &new))?;
        Ok(Sketch { whose: self.whose, file, new, path: self.path, folder, above })
    }
}

/// A record that is on its way to the disk.
struct Sketch {
    whose: Whose,
    file: File,
    new: PathBuf,
    path: PathBuf,
    folder: PathBuf,
    /// Where its folder is, if that is new.
    above: Option<PathBuf>,
}

/// Writes records; when this returns, they outlive the power, each for itself. The disk gets them all before one is
/// waited for: what syncs the first then syncs most of the others.
pub fn replace_all(records: Vec<Replacement>) -> Vec<Result<(), FileError>> {
    let mut all: Vec<_> = records.into_iter().map(Replacement::sketch).collect();
    each(&mut all, |s| sys::file::start_writing(&s.file).map_err(failed("write", &s.new)));
    each(&mut all, |s| {
        s.file.sync_all().map_err(failed("sync", &s.new))?;
        match s.whose {
            Whose::Zone => crate::failpoint::hit("record-written"),
            Whose::Account => crate::failpoint::hit("account-written"),
            Whose::Image => {}
        }
        fs::rename(&s.new, &s.path).map_err(failed("replace", &s.path))
    });
    let mut folders = Folders::default();
    each(&mut all, |s| folders.sync(&s.folder));
    let mut folders = Folders::default();
    each(&mut all, |s| s.above.as_ref().map_or(Ok(()), |above| folders.sync(above)));
    let written = |sketch: Sketch| match sketch.whose {
        Whose::Zone => crate::failpoint::hit("record-renamed"),
        Whose::Account => crate::failpoint::hit("account-renamed"),
        Whose::Image => {}
    };
    all.into_iter().map(|sketch| sketch.map(written)).collect()
}

/// The next step of those that have not failed.
fn each(
    all: &mut [Result<Sketch, FileError>],
    mut take: impl FnMut(&Sketch) -> Result<(), FileError>,
) {
    for one in all {
        let Ok(sketch) = one else { continue };
        if let Err(error) = take(sketch) {
            *one = Err(error);
        }
    }
}

/// Folders that were synced. Each is synced once for all records in it: the kernel tells of a failure once, and asked
/// again it would say that all is well.
#[derive(Default)]
struct Folders(BTreeMap<PathBuf, Option<Arc<io::Error>>>);

impl Folders {
    fn sync(&mut self, folder: &Path) -> Result<(), FileError> {
        let known = self.0.entry(folder.to_owned()).or_insert_with(|| {
            let synced = File::open(folder).and_then(|opened| opened.sync_all());
            synced.err().map(Arc::new)
        });
        match known {
            None => Ok(()),
            Some(error) => {
                Err(failed("sync", folder)(io::Error::new(error.kind(), Arc::clone(error))))
            }
        }
    }
}

/// Removes a record; when this returns, it stays gone over a power cut.
///
/// # Errors
/// [`FileError`].
pub fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("remove", path)(error)),
    }
    sync_folder(path.parent().unwrap_or(Path::new("/")))
}

/// Has the names in a folder outlive the power.
///
/// # Errors
/// [`FileError`].
pub fn sync_folder(folder: &Path) -> Result<(), FileError> {
    Folders::default().sync(folder)
}

/// What is in a record; none if there is none.
///
/// # Errors
/// [`FileError`], for one with more than `bytes_max` bytes as well.
pub fn read(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed("read", path))?;
    if bytes.len() as u64 > bytes_max {
        let long = io::Error::other(format!("it has more than {bytes_max} bytes"));
        return Err(failed("read", path)(long));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod test {
    use super::*;

    fn replacement(path: &Path, text: &str) -> Replacement {
        Replacement::new(Whose::Account, path.to_owned(), text.as_bytes().to_vec())
    }

    #[test]
    fn records_are_replaced_each_for_itself() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        fs::write(path("a.json"), "old").unwrap();
        fs::create_dir(path("b.json")).unwrap();
        let all = ["a.json", "b.json", "no/ne/c.json"].map(|name| replacement(&path(name), "new"));
        let got = replace_all(all.into());
        assert!(got[0].is_ok() && got[1].is_err() && got[2].is_err(), "{got:?}");
        assert!(crate::chain(got[1].as_ref().unwrap_err()).contains("cannot replace"));
        assert_eq!(read(&path("a.json"), 3).unwrap().unwrap(), b"new");
        assert!(!path("a.new").exists());
        assert!(read(&path("a.json"), 2).unwrap_err().source.to_string().contains("2 bytes"));
        remove(&path("a.json")).unwrap();
        remove(&path("a.json")).unwrap();
        assert!(read(&path("a.json"), 3).unwrap().is_none());
    }

    #[test]
    fn a_folder_is_made_with_its_first_record() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("web/zone.json");
        for text in ["one", "two"] {
            let record = Replacement::new(Whose::Zone, path.clone(), text.as_bytes().to_vec());
            replace_all(vec![record]).pop().unwrap().unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_folder_that_could_not_be_synced_has_failed_for_all_in_it() {
        let place = tempfile::tempdir().unwrap();
        let missing = place.path().join("missing");
        let mut folders = Folders::default();
        let first = folders.sync(&missing).unwrap_err();
        // It would be fine now, and what was to be in it is lost all the same.
        fs::create_dir(&missing).unwrap();
        let second = folders.sync(&missing).unwrap_err();
        assert_eq!(first.source.kind(), second.source.kind());
        assert!(sync_folder(&missing).is_ok());
    }
}
