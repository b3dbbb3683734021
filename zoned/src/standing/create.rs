//! Zones that are to be. One is known to nobody but those who ask for its name, until its record is on disk:
//!
//! ```text
//!   asked ──▶ its account ──▶ unborn: name and number taken ──▶ written ──▶ in the books, begun, answered
//! ```

use super::answer::{Asker, refusal};
use super::life::{Event, Life};
use super::record::Record;
use super::turn::{Course, Happening, Told};
use super::{Zone, unix_ms};
use crate::chain;
use crate::daemon::{Daemon, Written};
use crate::disk::FileError;
use crate::images::ImageError;
use wire::frame::Refusal;
use wire::standing::{ZoneName, ZoneSpec};

impl Daemon {
    /// Checks a specification; a zone is on record once storaged has named its account.
    pub(super) fn create(&mut self, asker: Asker, spec: Box<ZoneSpec>) -> Result<(), Refusal> {
        spec.check().map_err(|error| refusal("InvalidSpec", error.to_string()))?;
        self.check_new(&spec)?;
        if let Some(account) = self.accounts.number(&spec.login) {
            return self.put_on_record(asker, account, *spec);
        }
        if self.ask_account(asker, *spec) {
            return Ok(());
        }
        let message = "storaged, which knows the accounts, is not there: try again";
        Err(refusal("Unavailable", message))
    }

    /// storaged has named an account, or not.
    pub(crate) fn account_known(
        &mut self,
        asker: Asker,
        spec: ZoneSpec,
        account: Result<u32, Refusal>,
    ) {
        let on_its_way = account.and_then(|account| {
            self.learn_account(&spec.login, account);
            // Another one may have been first since it was checked.
            self.check_new(&spec)?;
            self.put_on_record(asker, account, spec)
        });
        if let Err(refused) = on_its_way {
            self.answer_zone(asker, Err(refused), &[]);
        }
    }

    /// Has a new zone's record written; nobody else has its name or its number from here on.
    fn put_on_record(&mut self, asker: Asker, account: u32, spec: ZoneSpec) -> Result<(), Refusal> {
        self.admit_zone(&spec.login, account)
            .map_err(|full| refusal("AccountFull", full.to_string()))?;
        let number = self.standing.free_number().ok_or_else(too_many)?;
        let name = spec.name.clone();
        let record = Record::new(number, account, unix_ms(), spec);
        self.disk.submit(self.standing.records.job(&record), Written::New(asker, name.clone()));
        self.standing.expect(name, record);
        Ok(())
    }

    /// A new zone's record is on disk, or is not.
    pub(crate) fn new_zone_written(
        &mut self,
        asker: Asker,
        name: &ZoneName,
        written: Result<(), FileError>,
    ) {
        let Some(record) = self.standing.expected(name) else { return };
        if let Err(error) = written {
            let refused = refusal("Internal", chain(&error));
            return self.answer_zone(asker, Err(refused), &[]);
        }
        let life = Life::recorded(record.desired, self.now_ms());
        self.standing.add(Zone::new(record, life));
        let course = Course::asked(Event::Begin, asker, Told::View);
        self.happens(name, Happening::Course(course));
    }

    /// Whether a zone of this kind can be here at all.
    fn check_new(&mut self, spec: &ZoneSpec) -> Result<(), Refusal> {
        if self.standing.has(&spec.name) {
            return Err(refusal("ZoneExists", format!("there is a zone {} already", spec.name)));
        }
        if self.standing.free_number().is_none() {
            return Err(too_many());
        }
        match (&spec.network, &self.networks) {
            (Some(network), Some(networks)) => networks
                .check(network)
                .map_err(|error| refusal("InvalidSpec", error.to_string()))?,
            (Some(_), None) => {
                let message = "this node's kernel cannot give zones a network";
                return Err(refusal("NotOffered", message));
            }
            (None, _) => {}
        }
        match self.images.get(&spec.image) {
            Ok(_) => Ok(()),
            Err(error @ ImageError::Waiting { .. }) => {
                Err(refusal("Unavailable", format!("{}: try again", chain(&error))))
            }
            Err(error) => Err(refusal("NoSuchImage", chain(&error))),
        }
    }
}

fn too_many() -> Refusal {
    refusal("TooMany", "the node has as many zones as it can have")
}
