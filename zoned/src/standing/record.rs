//! Records of standing zones on disk: what is wanted, and what never changes about a zone.
//!
//! ```text
//!   <data>/zones/<name>/zone.json     the record, replaced whole: written, synced, renamed, synced
//!                      /log.0, log.1  what its command said
//!                      /out           what is to become objects
//! ```
//!
//! A folder without a record is a zone that was never acknowledged, or one whose deletion was: it goes.
//! Names come from [`ZoneName`] and so are single components; nothing here follows links.

use super::life::Desired;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;
use wire::standing::{ZoneName, ZoneSpec};

/// The version of records that this code writes, and the only one it reads.
const VERSION: u32 = 1;
/// The most bytes in a record: a specification fits one message of the wire.
pub const RECORD_BYTES_MAX: u64 = 128 * 1024;
const FILE: &str = "zone.json";
const NEW_FILE: &str = "zone.json.new";

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
    /// [`RecordError::File`].
    pub fn open(folder: &Path) -> Result<(Self, Found), RecordError> {
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
                Ok(None) => records.remove(&name, false)?,
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
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", &path)(error)),
        };
        let mut bytes = Vec::new();
        let limited = file.take(RECORD_BYTES_MAX + 1).read_to_end(&mut bytes);
        limited.map_err(failed("read", &path))?;
        if bytes.len() as u64 > RECORD_BYTES_MAX {
            return Err(RecordError::Long);
        }
        let record = parse(&bytes)?;
        if record.spec.name != *name {
            return Err(RecordError::Name { got: record.spec.name });
        }
        Ok(Some(record))
    }

    /// Writes a record; when this returns, it outlives the power.
    ///
    /// # Errors
    /// [`RecordError::File`]; the record is then as it was, or as it should be, and never half.
    pub fn write(&self, record: &Record) -> Result<(), RecordError> {
        self.write_all(&[record]).pop().unwrap_or(Ok(()))
    }

    /// As [`Self::write`], each for itself. The disk gets them all before one is waited for: what syncs the
    /// first then syncs most of the others.
    pub fn write_all(&self, records: &[&Record]) -> Vec<Result<(), RecordError>> {
        let mut sketches: Vec<_> = records.iter().map(|record| self.sketch(record)).collect();
        for sketch in &mut sketches {
            step(sketch, |s| sys::file::start_writing(&s.file).map_err(failed("write", &s.new)));
        }
        for sketch in &mut sketches {
            step(sketch, |s| {
                s.file.sync_all().map_err(failed("sync", &s.new))?;
                crate::failpoint::hit("record-written");
                fs::rename(&s.new, &s.path).map_err(failed("replace", &s.path))
            });
        }
        for sketch in &mut sketches {
            step(sketch, |s| sync(&s.place));
        }
        for sketch in sketches.iter_mut().filter(|s| s.as_ref().is_ok_and(|s| s.is_new)) {
            step(sketch, |_| sync(&self.folder));
        }
        let written =
            |sketch: Result<Sketch, _>| sketch.map(|_| crate::failpoint::hit("record-renamed"));
        sketches.into_iter().map(written).collect()
    }

    /// Writes a record beside the one that is there.
    fn sketch(&self, record: &Record) -> Result<Sketch, RecordError> {
        let place = self.place(&record.spec.name);
        let is_new = match fs::create_dir(&place) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(failed("make", &place)(error)),
        };
        let bytes = serde_json::to_vec_pretty(record)?;
        let (new, path) = (place.join(NEW_FILE), place.join(FILE));
        let mut file = File::create(&new).map_err(failed("make", &new))?;
        file.write_all(&bytes).map_err(failed("write", &new))?;
        Ok(Sketch { file, new, path, place, is_new })
    }

    /// Removes a zone's files, its record first: what is left then is a folder without one. With `synced` they
    /// stay gone over a power cut; without, the record must say already that the zone is to go.
    ///
    /// # Errors
    /// [`RecordError::File`].
    pub fn remove(&self, name: &ZoneName, synced: bool) -> Result<(), RecordError> {
        let place = self.place(name);
        let path = place.join(FILE);
        match fs::remove_file(&path) {
            Ok(()) if synced => sync(&place)?,
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("remove", &path)(error)),
        }
        crate::failpoint::hit("record-removed");
        // Follows no links (openat(2), unlinkat(2)): the zone's own names are below.
        match fs::remove_dir_all(&place) {
            Ok(()) if synced => sync(&self.folder),
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("remove", &place)(error)),
        }
    }
}

/// A record that is on its way to the disk.
struct Sketch {
    file: File,
    new: PathBuf,
    path: PathBuf,
    place: PathBuf,
    /// Whether its folder is.
    is_new: bool,
}

/// The next step of one that has not failed.
fn step(
    sketch: &mut Result<Sketch, RecordError>,
    take: impl FnOnce(&Sketch) -> Result<(), RecordError>,
) {
    let taken = match sketch {
        Ok(sketch) => take(sketch),
        Err(_) => return,
    };
    if let Err(error) = taken {
        *sketch = Err(error);
    }
}

fn sync(folder: &Path) -> Result<(), RecordError> {
    let opened = File::open(folder).map_err(failed("open", folder))?;
    opened.sync_all().map_err(failed("sync", folder))
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn record(name: &str) -> Record {
        let text = format!(r#"{{"name":"{name}","login":"ann","image":"base"}}"#);
        Record::new(3, 7, 1, serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn a_record_is_found_again_as_it_was_written_last() {
        let folder = tempfile::tempdir().unwrap();
        let (records, found) = Records::open(folder.path()).unwrap();
        assert!(found.records.is_empty());
        records.write(&record("web")).unwrap();
        let last = Record { desired: Desired::Paused, ..record("web") };
        records.write(&last).unwrap();
        let (_, found) = Records::open(folder.path()).unwrap();
        assert_eq!(found.records.into_values().collect::<Vec<_>>(), [last]);
    }

    #[test]
    fn a_zone_without_a_record_was_never_promised_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let half = folder.path().join("half");
        fs::create_dir_all(half.join("out/deep")).unwrap();
        fs::write(half.join(NEW_FILE), "{").unwrap();
        fs::create_dir(folder.path().join("lost+found")).unwrap();
        Records::open(folder.path()).unwrap();
        assert!(!half.exists() && folder.path().join("lost+found").exists());
    }

    #[test]
    fn a_damaged_record_is_told_and_left_for_a_person() {
        let folder = tempfile::tempdir().unwrap();
        let (records, _) = Records::open(folder.path()).unwrap();
        records.write(&record("web")).unwrap();
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
