//! Records of standing zones on disk: what is wanted, and what never changes about a zone.
//!
//! ```text
//!   <data>/zones/<name>/zone.json     the record, replaced whole ([`crate::disk::file`])
//!                      /log.0, log.1  what its command said
//!                      /out           what is to become objects
//! ```
//!
//! A folder without a record is a zone that was never acknowledged, or one whose deletion was: it goes.
//! Names come from [`ZoneName`] and so are single components; nothing here follows links.

use super::life::Desired;
use crate::disk::file::{self, Whose, failed};
use crate::disk::{FileError, Job, Replacement, tree};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;
use wire::standing::{ZoneName, ZoneSpec};

/// The version of records that this code writes, and the only one it reads.
const VERSION: u32 = 1;
/// The most bytes in a record: a specification fits one message of the wire.
pub const RECORD_BYTES_MAX: u64 = 128 * 1024;
const FILE: &str = "zone.json";

/// What is on disk of a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Of the record's own form.
    pub version: u32,
    /// Its number on this node: from it come its user ids and its project.
    pub number: u32,
    /// The account that pays.
    pub account: u32,
    /// When it was created, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// What is wanted of it.
    pub desired: Desired,
    /// As it was asked for, changes included.
    pub spec: ZoneSpec,
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
    /// Its specification makes no sense.
    #[error("the record's specification is none")]
    Spec(#[from] wire::standing::SpecError),
    /// It is another zone's.
    #[error("the record is that of {got}")]
    Name {
        /// Whose it is.
        got: ZoneName,
    },
    /// A file could not be used.
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
    record.spec.check()?;
    Ok(record)
}

impl Record {
    /// A zone's first record.
    #[must_use]
    pub const fn new(number: u32, account: u32, created_unix_ms: u64, spec: ZoneSpec) -> Self {
        let desired = Desired::Running;
        Self { version: VERSION, number, account, created_unix_ms, desired, spec }
    }
}

/// The folder of all records.
#[derive(Debug)]
pub struct Records {
    folder: PathBuf,
}

/// What was found at start.
#[derive(Debug, Default)]
pub struct Found {
    /// Records that can be read.
    pub records: BTreeMap<ZoneName, Record>,
    /// Folders whose records can't, and why: they are left as they are, for a person to look at.
    pub damaged: Vec<(PathBuf, RecordError)>,
}

impl Records {
    /// Opens the folder, made if need be; removes what was half made or half removed.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn open(folder: &Path) -> Result<(Self, Found), FileError> {
        fs::create_dir_all(folder).map_err(failed("make", folder))?;
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        fs::set_permissions(folder, permissions).map_err(failed("set the mode of", folder))?;
        let records = Self { folder: folder.to_owned() };
        let mut found = Found::default();
        for entry in fs::read_dir(folder).map_err(failed("list", folder))? {
            let path = entry.map_err(failed("list", folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
            let name = name.and_then(|name| ZoneName::try_from(name).ok());
            // Not ours: lost+found, or whatever an operator keeps here.
            let Some(name) = name.filter(|_| path.is_dir() && !path.is_symlink()) else { continue };
            match records.read(&name) {
                Ok(Some(record)) => drop(found.records.insert(name, record)),
                Ok(None) => {
                    if let Err(error) = records.removal(&name, false)() {
                        found.damaged.push((path, error.into()));
                    }
                }
                Err(error) => found.damaged.push((path, error)),
            }
        }
        Ok((records, found))
    }

    /// Where a zone's files are.
    #[must_use]
    pub fn place(&self, name: &ZoneName) -> PathBuf {
        self.folder.join(name.as_str())
    }

    fn read(&self, name: &ZoneName) -> Result<Option<Record>, RecordError> {
        let path = self.place(name).join(FILE);
        let Some(bytes) = file::read(&path, RECORD_BYTES_MAX)? else { return Ok(None) };
        let record = parse(&bytes)?;
        if record.spec.name != *name {
            return Err(RecordError::Name { got: record.spec.name });
        }
        Ok(Some(record))
    }

    /// What puts a record on disk.
    #[must_use]
    pub fn job(&self, record: &Record) -> Job {
        let bytes =
            serde_json::to_vec_pretty(record).expect("numbers, texts and lists can be JSON");
        let path = self.place(&record.spec.name).join(FILE);
        Job::Replace(Replacement::new(Whose::Zone, path, bytes))
    }

    /// What removes a zone's files, its record first: what is left then is a folder without one. With `synced` they
    /// stay gone over a power cut; without, the record must say already that the zone is to go.
    pub fn removal(
        &self,
        name: &ZoneName,
        synced: bool,
    ) -> impl FnOnce() -> Result<(), FileError> + Send + use<> {
        let (folder, place) = (self.folder.clone(), self.place(name));
        move || {
            let path = place.join(FILE);
            match fs::remove_file(&path) {
                Ok(()) if synced => file::sync_folder(&place)?,
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("remove", &path)(error)),
            }
            crate::failpoint::hit("record-removed");
            tree::remove(&place)?;
            if synced { file::sync_folder(&folder) } else { Ok(()) }
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn record(name: &str) -> Record {
        let text = format!(r#"{{"name":"{name}","login":"ann","image":"base"}}"#);
        Record::new(3, 7, 1, serde_json::from_str(&text).unwrap())
    }

    fn write(records: &Records, record: &Record) {
        let Job::Replace(record) = records.job(record) else { panic!("no record") };
        file::replace_all(vec![record]).pop().unwrap().unwrap();
    }

    #[test]
    fn a_record_is_found_again_as_it_was_written_last() {
        let folder = tempfile::tempdir().unwrap();
        let (records, found) = Records::open(folder.path()).unwrap();
        assert!(found.records.is_empty());
        write(&records, &record("web"));
        let last = Record { desired: Desired::Paused, ..record("web") };
        write(&records, &last);
        let (_, found) = Records::open(folder.path()).unwrap();
        assert_eq!(found.records.into_values().collect::<Vec<_>>(), [last]);
    }

    #[test]
    fn a_zone_without_a_record_was_never_promised_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let half = folder.path().join("half");
        fs::create_dir_all(half.join("out/deep")).unwrap();
        fs::write(half.join("zone.new"), "{").unwrap();
        fs::create_dir(folder.path().join("lost+found")).unwrap();
        Records::open(folder.path()).unwrap();
        assert!(!half.exists() && folder.path().join("lost+found").exists());
    }

    #[test]
    fn a_damaged_record_is_told_and_left_for_a_person() {
        let folder = tempfile::tempdir().unwrap();
        let (records, _) = Records::open(folder.path()).unwrap();
        write(&records, &record("web"));
        fs::rename(folder.path().join("web"), folder.path().join("other")).unwrap();
        fs::create_dir(folder.path().join("torn")).unwrap();
        fs::write(folder.path().join("torn/zone.json"), "{").unwrap();
        let (_, found) = Records::open(folder.path()).unwrap();
        assert_eq!((found.records.len(), found.damaged.len()), (0, 2));
        assert!(folder.path().join("torn/zone.json").exists());
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer(bytes: Vec<u8>, at in 0..400usize, byte: u8) {
            drop(parse(&bytes));
            let mut text = serde_json::to_vec(&record("web")).unwrap();
            let at = at % text.len();
            text[at] = byte;
            if let Ok(record) = parse(&text) {
                prop_assert_eq!(record.version, VERSION);
            }
        }
    }
}
