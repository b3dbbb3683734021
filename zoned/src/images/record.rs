//! Records of imported images on disk: which there are, and which are half made or half removed.
//!
//! ```text
//!   <images>/imported/<name>.json    replaced whole: written, synced, renamed, synced
//! ```
//! The image itself is an object of the store. Every change of the two begins here: what a record says that
//! is being made or removed when zoned starts is removed.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The most bytes of a record.
const BYTES_MAX: u64 = 16 * 1024;
const ENDING: &str = "json";

/// What is known of an imported image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The object that holds it.
    pub object: String,
    /// How far it is.
    pub phase: Phase,
}

/// How far an image is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Phase {
    /// The object may be there, or not.
    Making,
    /// It is an image.
    Ready {
        /// Its SHA-256 in hexadecimal digits.
        sha256: String,
        /// Its size.
        bytes: u64,
    },
    /// The object is being removed.
    Removing,
}

/// Why records cannot be used.
#[derive(Debug, Error)]
#[error("cannot {act} {}", path.display())]
pub struct RecordError {
    act: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed<'a>(act: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> RecordError + 'a {
    move |source| RecordError { act, path: path.to_owned(), source }
}

/// Reads a record.
///
/// # Errors
/// When it is none.
pub fn parse(bytes: &[u8]) -> Result<Record, serde_json::Error> {
    serde_json::from_slice(bytes)
}

/// All records, in memory and on disk.
#[derive(Debug)]
pub struct Records {
    folder: PathBuf,
    known: BTreeMap<String, Record>,
}

impl Records {
    /// Those in the folder, which is made when there is something to write. One that cannot be read is
    /// left where it is, and said.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn open(folder: &Path) -> Result<Self, RecordError> {
        let mut records = Self { folder: folder.to_owned(), known: BTreeMap::new() };
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(records),
            entries => entries.map_err(failed("list", folder))?,
        };
        for entry in entries {
            let path = entry.map_err(failed("list", folder))?.path();
            let name = path.file_stem().and_then(|name| name.to_str());
            let is_record = path.extension().is_some_and(|ending| ending == ENDING);
            let Some(name) = name.filter(|name| is_record && super::is_name(name)) else {
                continue;
            };
            match read(&path) {
                Ok(record) => drop(records.known.insert(name.to_owned(), record)),
                Err(error) => {
                    eprintln!("zoned: the image {name} is not offered: {}", crate::chain(&error));
                }
            }
        }
        Ok(records)
    }

    /// An image's record.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Record> {
        self.known.get(name)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Record)> {
        self.known.iter().map(|(name, record)| (name.as_str(), record))
    }

    /// Writes a record; when this returns, it outlives the power.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn write(&mut self, name: &str, record: Record) -> Result<(), RecordError> {
        fs::create_dir_all(&self.folder).map_err(failed("make", &self.folder))?;
        let path = self.path(name);
        let new = path.with_extension("new");
        let text = serde_json::to_vec(&record).map_err(io::Error::from);
        let text = text.map_err(failed("write", &path))?;
        let mut file = File::create(&new).map_err(failed("make", &new))?;
        file.write_all(&text).map_err(failed("write", &new))?;
        file.sync_all().map_err(failed("sync", &new))?;
        fs::rename(&new, &path).map_err(failed("replace", &path))?;
        self.sync()?;
        self.known.insert(name.to_owned(), record);
        Ok(())
    }

    /// Forgets a record.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn remove(&mut self, name: &str) -> Result<(), RecordError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &path)(error));
            }
            Ok(()) | Err(_) => {}
        }
        self.known.remove(name);
        self.sync()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.{ENDING}"))
    }

    fn sync(&self) -> Result<(), RecordError> {
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.map_err(failed("sync", &self.folder))
    }
}

fn read(path: &Path) -> Result<Record, RecordError> {
    let mut bytes = Vec::new();
    let opened = File::open(path).map_err(failed("open", path))?;
    opened.take(BYTES_MAX).read_to_end(&mut bytes).map_err(failed("read", path))?;
    parse(&bytes).map_err(io::Error::from).map_err(failed("understand", path))
}

#[cfg(test)]
mod test {
    use super::*;

    fn record(phase: Phase) -> Record {
        Record { object: "/mobula/stor/images/a.erofs".to_owned(), phase }
    }

    #[test]
    fn records_are_found_again_and_rubbish_beside_them_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("imported");
        let mut records = Records::open(&place).unwrap();
        let ready = Phase::Ready { sha256: "00".to_owned(), bytes: 7 };
        records.write("a", record(Phase::Making)).unwrap();
        records.write("a", record(ready.clone())).unwrap();
        records.write("b", record(Phase::Removing)).unwrap();
        records.remove("b").unwrap();
        records.remove("never-there").unwrap();
        fs::write(place.join("c.json"), "{").unwrap();
        fs::write(place.join("d.new"), "{}").unwrap();
        fs::write(place.join(".e.json"), "{}").unwrap();
        let again = Records::open(&place).unwrap();
        assert_eq!(again.all().collect::<Vec<_>>(), [("a", &record(ready))]);
        assert!(place.join("c.json").exists());
    }
}
