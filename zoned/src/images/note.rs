//! Has the disk take in what is to be known of imported images: nothing follows from it before.

use super::record::Record;
use crate::chain;
use crate::daemon::{Daemon, Written};
use crate::disk::FileError;
use crate::standing::{Asker, refusal};
use wire::standing::ZoneReply;

/// A record on its way to the disk, or its removal.
#[derive(Debug)]
pub(crate) struct Note {
    pub(super) name: String,
    pub(super) record: Option<Record>,
    pub(super) whom: Whom,
}

/// Who waits for it.
#[derive(Debug)]
pub(super) enum Whom {
    /// The import, which goes on then.
    Import,
    /// Someone who removes the image; this is its record until then.
    Person(Asker, Record),
    /// Nobody.
    Nobody,
}

impl Daemon {
    pub(super) fn note(&mut self, note: Note) {
        let job = self.images.records.job(&note.name, note.record.as_ref());
        self.images.noting.insert(note.name.clone());
        self.disk.submit(job, Written::Image(note));
    }

    /// The disk has taken it in, or not.
    pub(crate) fn image_noted(&mut self, note: Note, written: Result<(), FileError>) {
        let Note { name, record, whom } = note;
        self.images.noting.remove(&name);
        match (whom, written) {
            (Whom::Import, written) => {
                match written {
                    Ok(()) => self.images.records.set(&name, record),
                    Err(error) => self.import_failed(chain(&error)),
                }
                self.follow_import();
            }
            (Whom::Person(asker, _), Ok(())) => {
                // Its object goes as soon as storaged is there.
                self.images.asked.remove(&name);
                self.answer_zone(asker, Ok(ZoneReply::Done), &[]);
            }
            (Whom::Person(asker, before), Err(error)) => {
                // It is mounted again.
                self.images.records.set(&name, Some(before));
                self.images.asked.remove(&name);
                self.answer_zone(asker, Err(refusal("Internal", chain(&error))), &[]);
            }
            (Whom::Nobody, Ok(())) => self.images.records.set(&name, record),
            (Whom::Nobody, Err(error)) => eprintln!("zoned: {}", chain(&error)),
        }
    }
}
