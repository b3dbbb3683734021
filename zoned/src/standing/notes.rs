//! What the next zoned must know of a zone that lives, and nobody else can tell it: a small file each on the
//! node's memory, gone with a boot like the zone itself. Of a zone with nothing to be noted there is none: its file
//! would take more than a page.

use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use wire::standing::ZoneName;
use wire::task::ManifestId;

/// What is noted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// The manifests that are mounted in it.
    pub(super) manifests: Vec<ManifestId>,
    /// Its own address.
    pub(super) address: Option<Ipv4Addr>,
}

/// Where notes are.
#[derive(Debug)]
pub(super) struct Notes(PathBuf);

impl Notes {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self(folder.to_owned()))
    }

    /// Notes something, before the zone has its first process.
    pub(super) fn write(&self, name: &ZoneName, note: &Note) -> io::Result<()> {
        if *note == Note::default() {
            return self.try_remove(name);
        }
        let new = self.0.join(format!("{name}.new"));
        fs::write(&new, serde_json::to_vec(note)?)?;
        fs::rename(new, self.0.join(name.as_str()))
    }

    /// What was noted; nothing if that can't be read: the zone is then like one without mounts.
    pub(super) fn read(&self, name: &ZoneName) -> Note {
        let read = match fs::read(self.0.join(name.as_str())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Note::default(),
            read => read,
        };
        let note = read.and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        note.unwrap_or_else(|error| {
            eprintln!("zoned: zone {name}: its note is lost: {error}");
            Note::default()
        })
    }

    /// Forgets it: nothing of the zone lives.
    pub(super) fn remove(&self, name: &ZoneName) {
        if let Err(error) = self.try_remove(name) {
            eprintln!("zoned: zone {name} leaves a note: {error}");
        }
    }

    fn try_remove(&self, name: &ZoneName) -> io::Result<()> {
        match fs::remove_file(self.0.join(name.as_str())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn what_is_noted_is_read_again_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes::open(folder.path()).unwrap();
        let name = ZoneName::try_from("web".to_owned()).unwrap();
        let note = Note { manifests: vec![], address: Some(Ipv4Addr::new(100, 64, 0, 9)) };
        notes.write(&name, &note).unwrap();
        assert_eq!(notes.read(&name), note);
        notes.remove(&name);
        assert_eq!(notes.read(&name), Note::default());
        notes.write(&name, &note).unwrap();
        notes.write(&name, &Note::default()).unwrap();
        assert_eq!(notes.read(&name), Note::default());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
