//! A person changes a zone's limits: in the kernel first, which may refuse them, then on disk, and what can't be made
//! whole is taken back.

use super::answer::{Asker, no_such, refusal};
use super::record::Record;
use super::turn::OnDisk;
use crate::chain;
use crate::daemon::Daemon;
use crate::disk::{FileError, Job};
use crate::meter::Key;
use wire::carve::{Carve, CarveChange, Network};
use wire::frame::Refusal;
use wire::standing::{Subject, What, ZoneName, ZoneReply, ZoneSpec};

/// A change that is on its way to the disk.
#[derive(Debug)]
pub(super) struct Update {
    asker: Asker,
    /// The record as it is to be.
    record: Record,
    /// That is on disk, and the quota is what is waited for.
    recorded: bool,
}

impl Daemon {
    pub(super) fn begin_update(&mut self, asker: Asker, name: &ZoneName, change: &CarveChange) {
        match self.try_update(name, change) {
            Ok((job, record)) => {
                let update = Update { asker, record, recorded: false };
                self.zone_to_disk(name, job, OnDisk::Update(Box::new(update)));
            }
            Err(refused) => self.answer_zone(asker, Err(refused), &[]),
        }
    }

    fn try_update(
        &mut self,
        name: &ZoneName,
        change: &CarveChange,
    ) -> Result<(Job, Record), Refusal> {
        let zone = self.standing.zones.get(name).ok_or_else(|| no_such(name))?;
        let before = zone.record.clone();
        let (carve, network) = self.changed(&before.spec, change)?;
        if let Err(why) = self.apply(name, &carve, network.as_ref()) {
            self.take_back(name, &before.spec);
            return Err(refusal("Internal", why));
        }
        let spec = ZoneSpec { carve, network, ..before.spec };
        let record = Record { spec, ..before };
        Ok((self.standing.records.job(&record), record))
    }

    /// The disk has taken in, or not, what was to change.
    pub(super) fn go_on_updating(
        &mut self,
        name: &ZoneName,
        update: Update,
        written: Result<(), FileError>,
    ) {
        let asker = update.asker;
        let done = match written {
            Ok(()) if !update.recorded => return self.update_quota(name, update),
            Ok(()) => Ok(()),
            Err(error) => Err(refusal("Internal", chain(&error))),
        };
        if done.is_err()
            && !update.recorded
            && let Some(zone) = self.standing.zones.get(name)
        {
            let before = zone.record.spec.clone();
            self.take_back(name, &before);
        }
        self.free_turn(name);
        let answer = done.and_then(|()| self.updated(name));
        self.answer_zone(asker, answer, &[]);
    }

    fn update_quota(&mut self, name: &ZoneName, update: Update) {
        let Some(zone) = self.standing.zones.get_mut(name) else { return };
        zone.record = update.record.clone();
        let Some(zone) = self.standing.zones.get(name) else { return };
        let job = self.limit_disk(zone);
        let update = Update { recorded: true, ..update };
        self.zone_to_disk(name, job, OnDisk::Update(Box::new(update)));
    }

    /// All is as it is to be.
    fn updated(&mut self, name: &ZoneName) -> Result<ZoneReply, Refusal> {
        let zone = self.standing.zones.get(name).ok_or_else(|| no_such(name))?;
        let (limits, reserved) = (self.zone_limits(zone), zone.reserved());
        self.meter.reserve(&Key::Zone(name.clone()), reserved);
        let what = What::Updated { limits: limits.clone() };
        self.events.tell(Subject::Zone(name.clone()), what);
        Ok(ZoneReply::Limits(limits))
    }

    /// A specification's carve and network with the changes made, if they can be.
    fn changed(
        &self,
        spec: &ZoneSpec,
        change: &CarveChange,
    ) -> Result<(Carve, Option<Network>), Refusal> {
        let invalid = |error: wire::carve::CarveError| refusal("InvalidSpec", error.to_string());
        let carve = spec.carve.changed(change);
        carve.check().map_err(invalid)?;
        let Some(network) = spec.network.as_ref() else {
            if change.changes_network() {
                let message = "the zone has no network whose rates or rules could change: it is made \
                               with one, or without";
                return Err(refusal("InvalidSpec", message));
            }
            return Ok((carve, None));
        };
        let network = network.changed(change);
        network.check().map_err(invalid)?;
        // Rules that a running zone could not keep are none for one that is to be started either.
        if change.changes_network()
            && let Some(networks) = &self.networks
        {
            networks.check(&network).map_err(|error| refusal("InvalidSpec", error.to_string()))?;
        }
        Ok((carve, Some(network)))
    }

    /// Holds a zone that runs to these limits.
    fn apply(
        &mut self,
        name: &ZoneName,
        carve: &Carve,
        network: Option<&Network>,
    ) -> Result<(), String> {
        let Some(zone) = self.standing.zones.get_mut(name) else { return Ok(()) };
        let Some(body) = &mut zone.body else { return Ok(()) };
        self.cgroups.apply(&mut body.cgroup, carve).map_err(|error| chain(&error))?;
        if let (Some(all), Some(network)) = (&mut self.networks, network)
            && zone.record.spec.network.as_ref() != Some(network)
        {
            all.change(body.cgroup.id(), network).map_err(|error| chain(&error))?;
        }
        Ok(())
    }

    /// Has a zone as it was, after a change that could not be made whole.
    fn take_back(&mut self, name: &ZoneName, spec: &ZoneSpec) {
        let Some(zone) = self.standing.zones.get_mut(name) else { return };
        let Some(body) = &mut zone.body else { return };
        let mut failed = Vec::new();
        let limited = self.cgroups.apply(&mut body.cgroup, &spec.carve);
        failed.extend(limited.err().map(|error| chain(&error)));
        if let (Some(all), Some(network)) = (&mut self.networks, &spec.network) {
            failed.extend(all.change(body.cgroup.id(), network).err().map(|error| chain(&error)));
        }
        for why in failed {
            eprintln!("zoned: zone {name} has limits that it should not have: {why}");
        }
    }
}
