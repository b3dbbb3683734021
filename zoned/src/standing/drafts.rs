//! Zones that are to be, and zones that are to go: what is asked for in one turn of the daemon is written
//! together and then acted on, because a disk takes hardly longer to sync many records than to sync one.
//!
//! ```text
//!   asked ──▶ drafts ── end of the turn ──▶ written, one sync for all ──▶ acted on ──▶ answered
//! ```

use super::answer::{Asker, internal, no_such, refusal};
use super::life::{Desired, Event, Life};
use super::record::{Record, RecordError};
use super::{Zone, unix_ms};
use crate::chain;
use crate::daemon::Daemon;
use std::collections::BTreeSet;
use wire::frame::Refusal;
use wire::standing::{ZoneName, ZoneReply, ZoneSpec};

/// Zones that are begun or ended in one turn: they share a sync, and others have their turn soon.
const TURN_MAX: usize = 8;

/// What is wanted.
#[derive(Debug)]
enum Draft {
    /// A zone of this account.
    Create(u32, Box<ZoneSpec>),
    /// No zone of this name.
    Delete(ZoneName),
}

/// What is wanted, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Drafts(Vec<(Asker, Draft)>);

impl Drafts {
    /// Whether there are none.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of one turn: the first ones, up to the second about the same zone.
    fn take(&mut self) -> Vec<(Asker, Draft)> {
        let mut names = BTreeSet::new();
        let again = |(_, draft): &(Asker, Draft)| !names.insert(draft.name().clone());
        let count = self.0.iter().take(TURN_MAX).position(again);
        self.0.drain(..count.unwrap_or(TURN_MAX.min(self.0.len()))).collect()
    }
}

impl Draft {
    fn name(&self) -> &ZoneName {
        match self {
            Self::Create(_, spec) => &spec.name,
            Self::Delete(name) => name,
        }
    }
}

impl Daemon {
    /// Checks a specification; a zone is on record once storaged has named its account.
    pub(super) fn create(&mut self, asker: Asker, spec: Box<ZoneSpec>) -> Result<(), Refusal> {
        spec.check().map_err(|error| refusal("InvalidSpec", error.to_string()))?;
        self.check_new(&spec)?;
        if let Some(account) = self.accounts.number(&spec.login) {
            self.standing.drafts.0.push((asker, Draft::Create(account, spec)));
            return Ok(());
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
        match account {
            Ok(account) => {
                self.learn_account(&spec.login, account);
                self.standing.drafts.0.push((asker, Draft::Create(account, Box::new(spec))));
            }
            Err(refusal) => self.answer_zone(asker, Err(refusal), &[]),
        }
    }

    pub(super) fn delete(&mut self, asker: Asker, name: ZoneName) {
        self.standing.drafts.0.push((asker, Draft::Delete(name)));
    }

    /// Does what was wanted in this turn, as far as there is time for it; what is left has the next, at once.
    pub(crate) fn write_drafts(&mut self) {
        let mut wanted = Vec::new();
        for (asker, draft) in self.standing.drafts.take() {
            match self.record_of(&draft) {
                Ok(record) => wanted.push((asker, draft, record)),
                Err(refusal) => self.answer_zone(asker, Err(refusal), &[]),
            }
        }
        let records: Vec<&Record> = wanted.iter().filter_map(|(_, _, r)| r.as_ref()).collect();
        let mut written = self.standing.records.write_all(&records).into_iter();
        for (asker, draft, record) in wanted {
            let written = record.and_then(|_| written.next()).unwrap_or(Ok(()));
            let answer = match draft {
                Draft::Create(_, spec) => self.begin_new(&spec.name, written),
                Draft::Delete(name) => self.begin_end(&name, written),
            };
            self.answer_zone(asker, answer, &[]);
        }
    }

    /// The record that is to be written; none if it is on disk already. A new zone is in the books from here
    /// on, so that nobody else has its name or its number.
    fn record_of(&mut self, draft: &Draft) -> Result<Option<Record>, Refusal> {
        match draft {
            Draft::Create(account, spec) => {
                // Another one may have been first since it was checked.
                self.check_new(spec)?;
                self.admit_zone(&spec.login, *account)
                    .map_err(|full| refusal("AccountFull", full.to_string()))?;
                let Some(number) = self.standing.free_number() else { return Err(too_many()) };
                let record = Record::new(number, *account, unix_ms(), (**spec).clone());
                let life = Life::recorded(record.desired, self.now_ms());
                self.standing.add(Zone::new(record.clone(), life));
                Ok(Some(record))
            }
            Draft::Delete(name) => {
                let zone = self.standing.zones.get(name).ok_or_else(|| no_such(name))?;
                if zone.recorded == Some(Desired::Deleted) {
                    return Ok(None);
                }
                Ok(Some(Record { desired: Desired::Deleted, ..zone.record.clone() }))
            }
        }
    }

    fn begin_new(
        &mut self,
        name: &ZoneName,
        written: Result<(), RecordError>,
    ) -> Result<ZoneReply, Refusal> {
        if let Err(error) = written {
            self.standing.remove(name);
            return Err(internal(&error));
        }
        self.zone_event(name, Event::Begin)?;
        self.zone_view(name)
    }

    fn begin_end(
        &mut self,
        name: &ZoneName,
        written: Result<(), RecordError>,
    ) -> Result<ZoneReply, Refusal> {
        if let Some(zone) = self.standing.zones.get_mut(name) {
            // What is not on disk is tried once more, and goes on all the same: a full disk has to be emptied.
            zone.recorded = match written {
                Ok(()) => Some(Desired::Deleted),
                Err(error) => {
                    eprintln!("zoned: zone {name}: {}", chain(&error));
                    None
                }
            };
        }
        self.zone_event(name, Event::Delete)?;
        Ok(ZoneReply::Done)
    }

    /// Whether a zone of this kind can be here at all.
    fn check_new(&mut self, spec: &ZoneSpec) -> Result<(), Refusal> {
        if self.standing.zones.contains_key(&spec.name) {
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
            Err(error) => Err(refusal("NoSuchImage", chain(&error))),
        }
    }
}

fn too_many() -> Refusal {
    refusal("TooMany", "the node has as many zones as it can have")
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn what_is_wanted_of_one_zone_is_done_one_after_the_other() {
        let asker = Asker { peer: 1, request: 1 };
        let delete =
            |name: &str| (asker, Draft::Delete(ZoneName::try_from(name.to_owned()).unwrap()));
        let counts = |names: &[&str]| {
            let mut drafts = Drafts(names.iter().copied().map(delete).collect());
            let mut counts = Vec::new();
            while !drafts.is_empty() {
                counts.push(drafts.take().len());
            }
            counts
        };
        assert_eq!(counts(&["a", "b", "a", "c", "a"]), [2, 2, 1]);
        assert_eq!(counts(&["a", "b", "c", "d", "e", "f", "g", "h", "i"]), [TURN_MAX, 1]);
    }
}
