//! Records of what was set for accounts, on disk.
//!
//! ```text
//!   <data>/accounts/<number>.json   replaced whole ([`crate::disk::file`]); none if nothing is set
//! ```
//!
//! The file's name is the account's number, which storaged gives once and for ever, and no word of a tenant.

use crate::disk::file::{self, NEW_ENDING, Whose, failed};
use crate::disk::{FileError, Job, Replacement};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use thiserror::Error;
use wire::account::AccountLimits;
use wire::machine::Login;

/// The version of records that this code writes, and the only one it reads.
const VERSION: u32 = 1;
/// The most bytes in a record: ten numbers and a login.
const RECORD_BYTES_MAX: u64 = 4 * 1024;
const ENDING: &str = "json";

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
    /// The file could not be used.
    #[error(transparent)]
    File(#[from] FileError),
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
    /// [`FileError`].
    pub fn open(folder: &Path) -> Result<(Self, Found), FileError> {
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

    /// What puts a record on disk, or removes it if nothing is set.
    #[must_use]
    pub fn job(&self, number: u32, record: &Record) -> Job {
        let path = self.folder.join(format!("{number}.{ENDING}"));
        if record.set.is_empty() {
            return Job::alone(move || file::remove(&path));
        }
        let bytes = serde_json::to_vec_pretty(record).expect("numbers and texts can be JSON");
        Job::Replace(Replacement::new(Whose::Account, path, bytes))
    }
}

fn read(path: &Path) -> Result<Record, RecordError> {
    // It was there a moment ago; what is nothing is damaged.
    parse(&file::read(path, RECORD_BYTES_MAX)?.unwrap_or_default())
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn record(zones: u32) -> Record {
        let login = Login::try_from("ann".to_owned()).unwrap();
        Record::new(login, AccountLimits { zones: Some(zones), ..AccountLimits::default() })
    }

    fn write(records: &Records, number: u32, record: &Record) {
        match records.job(number, record) {
            Job::Replace(record) => file::replace_all(vec![record]).pop().unwrap().unwrap(),
            Job::Alone(remove) => remove().unwrap(),
        }
    }

    fn found(folder: &Path) -> Found {
        Records::open(folder).unwrap().1
    }

    #[test]
    fn a_record_is_found_again_as_it_was_written_last_and_none_when_nothing_is_set() {
        let folder = tempfile::tempdir().unwrap();
        let (records, _) = Records::open(folder.path()).unwrap();
        write(&records, 7, &record(3));
        write(&records, 7, &record(4));
        write(&records, 9, &record(1));
        assert_eq!(found(folder.path()).records, [(7, record(4)), (9, record(1))].into());
        let nothing = Record { set: AccountLimits::default(), ..record(0) };
        write(&records, 7, &nothing);
        write(&records, 8, &nothing);
        assert_eq!(found(folder.path()).records, [(9, record(1))].into());
    }

    #[test]
    fn what_was_half_written_goes_and_what_is_damaged_is_left_for_a_person() {
        let folder = tempfile::tempdir().unwrap();
        let (records, _) = Records::open(folder.path()).unwrap();
        write(&records, 7, &record(3));
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
