//! Records of what was set for accounts, on disk.
//!
//! ```text
//!   <data>/accounts/<number>.json   replaced whole: written, synced, renamed, synced; none if nothing is set
//! ```
//!
//! The file's name is the account's number, which storaged gives once and for ever, and no word of a tenant.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;
use wire::account::AccountLimits;
use wire::machine::Login;

/// The version of records that this code writes, and the only one it reads.
const VERSION: u32 = 1;
/// The most bytes in a record: ten numbers and a login.
const RECORD_BYTES_MAX: u64 = 4 * 1024;
const ENDING: &str = "json";
const NEW_ENDING: &str = "new";

/// What is on disk of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Of the record's own form.
    version: u32,
    /// Its login.
    pub login: Login,
    /// What was set for it.
    pub set: AccountLimits,
}

impl Record {
    /// A record of this version.
    #[must_use]
    pub const fn new(login: Login, set: AccountLimits) -> Self {
        Self { version: VERSION, login, set }
    }
}

/// What is wrong with a record, or with where they are.
#[derive(Debug, Error)]
pub enum RecordError {
    /// It is no record of this version.
    #[error("the record is damaged")]
    Damaged(#[from] serde_json::Error),
    /// It is of another version.
    #[error("the record is of version {got}, and version {VERSION} can be read")]
    Version {
        /// Which.
        got: u32,
    },
    /// A limit in it is none.
    #[error("the record's limits are none")]
    Limits(#[from] wire::carve::CarveError),
    /// It is larger than any.
    #[error("the record has more than {RECORD_BYTES_MAX} bytes")]
    Long,
    /// A file could not be used.
    #[error("cannot {act} {}", path.display())]
    File {
        /// What was tried.
        act: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn failed<'a>(act: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> RecordError + 'a {
    move |source| RecordError::File { act, path: path.to_owned(), source }
}

/// Reads a record from bytes.
///
/// # Errors
/// [`RecordError`].
pub fn parse(bytes: &[u8]) -> Result<Record, RecordError> {
    let record: Record = serde_json::from_slice(bytes)?;
    if record.version != VERSION {
        return Err(RecordError::Version { got: record.version });
    }
    record.set.check()?;
    Ok(record)
}

/// The folder of all records.
#[derive(Debug)]
pub struct Records {
    folder: PathBuf,
}

/// What was found at start.
#[derive(Debug, Default)]
pub struct Found {
    /// Records that can be read, by the account's number.
    pub records: BTreeMap<u32, Record>,
    /// Files that can't, and why: they are left as they are, for a person to look at.
    pub damaged: Vec<(PathBuf, RecordError)>,
}

impl Records {
    /// Opens the folder, made if need be; removes what was half written.
    ///
    /// # Errors
    /// [`RecordError::File`].
    pub fn open(folder: &Path) -> Result<(Self, Found), RecordError> {
        fs::create_dir_all(folder).map_err(failed("make", folder))?;
        let mut found = Found::default();
        for entry in fs::read_dir(folder).map_err(failed("list", folder))? {
            let path = entry.map_err(failed("list", folder))?.path();
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u32>().ok());
            let ending = path.extension().and_then(|ending| ending.to_str());
            match (number, ending) {
                (Some(_), Some(NEW_ENDING)) => {
                    fs::remove_file(&path).map_err(failed("remove", &path))?;
                }
                (Some(number), Some(ENDING)) => match read(&path) {
                    Ok(record) => drop(found.records.insert(number, record)),
                    Err(error) => found.damaged.push((path, error)),
                },
                // Not ours.
                _ => {}
            }
        }
        Ok((Self { folder: folder.to_owned() }, found))
    }

    /// Writes a record, or removes it if nothing is set; when this returns, that outlives the power.
    ///
    /// # Errors
    /// [`RecordError::File`]; the record is then as it was, or as it should be, and never half.
    pub fn write(&self, number: u32, record: &Record) -> Result<(), RecordError> {
        let path = self.folder.join(format!("{number}.{ENDING}"));
        if record.set.is_empty() {
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(failed("remove", &path)(error)),
            }
            return sync(&self.folder);
        }
        let bytes = serde_json::to_vec_pretty(record)?;
        let new = self.folder.join(format!("{number}.{NEW_ENDING}"));
        let mut file = File::create(&new).map_err(failed("make", &new))?;
        file.write_all(&bytes).map_err(failed("write", &new))?;
        file.sync_all().map_err(failed("sync", &new))?;
        crate::failpoint::hit("account-written");
        fs::rename(&new, &path).map_err(failed("replace", &path))?;
        sync(&self.folder)?;
        crate::failpoint::hit("account-renamed");
        Ok(())
    }
}

fn read(path: &Path) -> Result<Record, RecordError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed("open", path))?;
    file.take(RECORD_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed("read", path))?;
    if bytes.len() as u64 > RECORD_BYTES_MAX {
        return Err(RecordError::Long);
    }
    parse(&bytes)
}

fn sync(folder: &Path) -> Result<(), RecordError> {
    let opened = File::open(folder).map_err(failed("open", folder))?;
    opened.sync_all().map_err(failed("sync", folder))
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn record(zones: u32) -> Record {
        let login = Login::try_from("ann".to_owned()).unwrap();
        Record::new(login, AccountLimits { zones: Some(zones), ..AccountLimits::default() })
    }

    fn found(folder: &Path) -> Found {
        Records::open(folder).unwrap().1
    }

    #[test]
    fn a_record_is_found_again_as_it_was_written_last_and_none_when_nothing_is_set() {
        let folder = tempfile::tempdir().unwrap();
        let (records, _) = Records::open(folder.path()).unwrap();
        records.write(7, &record(3)).unwrap();
        records.write(7, &record(4)).unwrap();
        records.write(9, &record(1)).unwrap();
        assert_eq!(found(folder.path()).records, [(7, record(4)), (9, record(1))].into());
        let nothing = Record { set: AccountLimits::default(), ..record(0) };
        records.write(7, &nothing).unwrap();
        records.write(8, &nothing).unwrap();
        assert_eq!(found(folder.path()).records, [(9, record(1))].into());
    }

    #[test]
    fn what_was_half_written_goes_and_what_is_damaged_is_left_for_a_person() {
        let folder = tempfile::tempdir().unwrap();
        let (records, _) = Records::open(folder.path()).unwrap();
        records.write(7, &record(3)).unwrap();
        fs::write(folder.path().join("7.new"), "{").unwrap();
        fs::write(folder.path().join("8.json"), "{").unwrap();
        fs::write(folder.path().join("notes.txt"), "mine").unwrap();
        let found = found(folder.path());
        assert_eq!((found.records.len(), found.damaged.len()), (1, 1));
        assert!(!folder.path().join("7.new").exists() && folder.path().join("8.json").exists());
        assert!(folder.path().join("notes.txt").exists());
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer(bytes: Vec<u8>, at in 0..400usize, byte: u8) {
            drop(parse(&bytes));
            let mut text = serde_json::to_vec(&record(3)).unwrap();
            let at = at % text.len();
            text[at] = byte;
            if let Ok(record) = parse(&text) {
                prop_assert!(record.version == VERSION && record.set.check().is_ok());
            }
        }
    }
}
