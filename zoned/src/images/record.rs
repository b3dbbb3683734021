//! Records of imported images on disk: which there are, and which are half made or half removed.
//!
//! ```text
//!   <images>/.imported/<name>.json    replaced whole ([`crate::disk::file`])
//! ```
//! The image itself is an object of the store. Every change of the two begins here: what a record says that
//! is being made or removed when zoned starts is removed.

use crate::disk::file::{self, Whose, failed};
use crate::disk::{FileError, Job, Replacement};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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

/// Reads a record.
///
/// # Errors
/// When it is none.
pub fn parse(bytes: &[u8]) -> Result<Record, serde_json::Error> {
    serde_json::from_slice(bytes)
}

/// All records, as they are on disk.
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
    /// [`FileError`].
    pub fn open(folder: &Path) -> Result<Self, FileError> {
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

    /// What puts a record on disk, or removes it.
    #[must_use]
    pub fn job(&self, name: &str, record: Option<&Record>) -> Job {
        let path = self.path(name);
        let Some(record) = record else { return Job::alone(move || file::remove(&path)) };
        let bytes = serde_json::to_vec(record).expect("numbers and texts can be JSON");
        Job::Replace(Replacement::new(Whose::Image, path, bytes))
    }

    /// Notes what is on disk, or about to be.
    pub fn set(&mut self, name: &str, record: Option<Record>) {
        match record {
            Some(record) => drop(self.known.insert(name.to_owned(), record)),
            None => drop(self.known.remove(name)),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.{ENDING}"))
    }
}

fn read(path: &Path) -> Result<Record, FileError> {
    // It was there a moment ago; what is nothing is no record.
    let bytes = file::read(path, BYTES_MAX)?.unwrap_or_default();
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
        let records = Records::open(&place).unwrap();
        let ready = Phase::Ready { sha256: "00".to_owned(), bytes: 7 };
        let write = |name, phase| {
            let record = record(phase);
            let Job::Replace(job) = records.job(name, Some(&record)) else { panic!("no record") };
            file::replace_all(vec![job]).pop().unwrap().unwrap();
        };
        write("a", Phase::Making);
        write("a", ready.clone());
        write("b", Phase::Removing);
        for name in ["b", "never-there"] {
            let Job::Alone(remove) = records.job(name, None) else { panic!("no removal") };
            remove().unwrap();
        }
        fs::write(place.join("c.json"), "{").unwrap();
        fs::write(place.join("d.new"), "{}").unwrap();
        fs::write(place.join(".e.json"), "{}").unwrap();
        let again = Records::open(&place).unwrap();
        assert_eq!(again.all().collect::<Vec<_>>(), [("a", &record(ready))]);
        assert!(place.join("c.json").exists());
    }
}
