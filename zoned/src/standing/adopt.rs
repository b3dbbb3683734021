//! Finding standing zones again: after a boot from their records alone, after a crash of zoned with the
//! descriptors that init kept. [`fate`] decides for each; a zone is adopted whole or started anew, and what
//! nobody knows is killed.

use super::ears::Ears;
use super::life::{Action, Desired, Event, Life};
use super::notes::Notes;
use super::record::{Record, Records};
use super::store::{self, Kept};
use super::turn::{Course, Happening};
use super::{Body, Standing, Zone};
use crate::carve::Place;
use crate::chain;
use crate::daemon::Daemon;
use crate::disk::FileError;
use crate::disk::file::failed;
use crate::failpoint;
use crate::manifest::Workbench;
use crate::meter::Key;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use sys::clone::kill;
use sys::wait::{For, wait};
use wire::standing::ZoneName;
use wire::zone::Order;

/// What is left of a zone that an earlier zoned knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Nothing, or not all that it takes.
    Nothing,
    /// Its first process lives, and there is a socket to it.
    Alive,
    /// It went down while nobody looked.
    Dead,
}

/// What becomes of a zone on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It goes on.
    Adopt,
    /// It begins again, and becomes what is wanted.
    Begin,
    /// It is not wanted to run any more, and that is to be noted.
    Retire,
}

/// Decides; a zone that was not to be restarted, and ended by itself, is not started by a crash of zoned.
const fn fate(record: &Record, left: Left, first_since_boot: bool) -> Fate {
    let up = matches!(record.desired, Desired::Running | Desired::Paused);
    match left {
        Left::Alive => Fate::Adopt,
        Left::Dead if up && !record.spec.restart => Fate::Retire,
        Left::Nothing if up && first_since_boot && !record.spec.autoboot => Fate::Retire,
        Left::Dead | Left::Nothing => Fate::Begin,
    }
}

/// A zone on record, what is left of it, and what becomes of it. That is decided once: a zone that ends a moment
/// later is adopted and seen to be gone like any other, or its cgroup would be left alone and belong to nobody.
#[derive(Debug)]
pub(crate) struct Found {
    record: Record,
    kept: Kept,
    fate: Fate,
}

/// All that is known at start, before the cgroups are opened.
#[derive(Debug)]
pub(crate) struct Opening {
    records: Records,
    zones: Vec<Found>,
    /// First processes of which there is no record.
    orphans: BTreeMap<u32, Kept>,
    notes: Notes,
    workbench: Workbench,
    ears: Ears,
}

/// Reads the records and takes what init kept out of what it handed over.
///
/// # Errors
/// [`FileError`], if the records can't be read at all.
pub(crate) fn open(
    data: &Path,
    run: &Path,
    handed: Vec<(String, OwnedFd)>,
) -> Result<(Opening, Vec<(String, OwnedFd)>), FileError> {
    let (records, found) = Records::open(&data.join("zones"))?;
    for (path, error) in &found.damaged {
        eprintln!("zoned: {} is left alone: {}", path.display(), chain(error));
    }
    let (mut kept, others) = store::sort(handed);
    // On the node's memory: it is not there after a boot.
    let mark = run.join("started");
    let first_since_boot = !mark.exists();
    fs::write(&mark, "").map_err(failed("make", &mark))?;
    let folder = run.join("standing");
    let notes = Notes::open(&folder).map_err(failed("make", &folder))?;
    let folder = run.join("workbench");
    let workbench = Workbench::open(&folder).map_err(failed("make", &folder))?;
    let find = |record: Record| {
        let kept = kept.remove(&record.number).unwrap_or_default();
        Found { fate: fate(&record, left(&kept), first_since_boot), record, kept }
    };
    let zones = found.records.into_values().map(find).collect();
    let ears = Ears::new().map_err(failed("make", Path::new("an epoll instance")))?;
    failpoint::hit(failpoint::FOUND);
    Ok((Opening { records, zones, orphans: kept, notes, workbench, ears }, others))
}

fn left(kept: &Kept) -> Left {
    match kept {
        Kept { process: Some(process), control: Some(_) } => match is_over(process) {
            Ok(false) => Left::Alive,
            Ok(true) => Left::Dead,
            Err(_) => Left::Nothing,
        },
        _ => Left::Nothing,
    }
}

impl Opening {
    /// The cgroups of zones that may be adopted, for the tree to leave alone.
    pub(crate) fn cgroups(&self) -> BTreeSet<String> {
        let adopted = self.zones.iter().filter(|found| found.fate == Fate::Adopt);
        adopted.map(|found| cgroup_name(&found.record)).collect()
    }

    /// The books as they are to be at start; [`Daemon::begin_standing`] goes on from there.
    pub(crate) fn books(self) -> (Standing, Vec<Found>) {
        for (number, orphan) in self.orphans {
            eprintln!("zoned: number {number} has a first process and no record: killing it");
            discard(number, &orphan);
        }
        (Standing::new(self.records, self.notes, self.workbench, self.ears), self.zones)
    }
}

/// The name of a zone's cgroup in the tree.
pub(super) fn cgroup_name(record: &Record) -> String {
    format!("t-{}/{}", record.account, Place::Standing(&record.spec.name).folder())
}

fn is_over(process: &OwnedFd) -> io::Result<bool> {
    Ok(wait(&[(process.as_fd(), For::Input)], Some(0))?[0])
}

/// Ends what init kept of a zone that is not adopted.
fn discard(number: u32, kept: &Kept) {
    if let Some(process) = &kept.process {
        match kill(process.as_fd(), libc::SIGKILL) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                eprintln!("zoned: cannot kill what is left of zone {number}: {error}");
            }
            _ => {}
        }
    }
    store::forget(number);
}

impl Daemon {
    /// Adopts or begins every zone on record.
    pub(crate) fn begin_standing(&mut self, zones: Vec<Found>) {
        let mut began = Vec::new();
        let mut living = BTreeSet::new();
        for Found { record, kept, mut fate } in zones {
            let name = record.spec.name.clone();
            let number = record.number;
            self.learn_account(&record.spec.login, record.account);
            let now_ms = self.now_ms();
            let life = Life::recorded(record.desired, now_ms);
            self.standing.add(Zone::new(record, life));
            let kept = match (fate, kept) {
                (Fate::Adopt, Kept { process: Some(process), control: Some(control) }) => {
                    match self.adopt(&name, process, control) {
                        Ok(id) => {
                            living.insert(id);
                            continue;
                        }
                        Err((why, kept)) => {
                            self.cannot_adopt(&name, &why);
                            fate = Fate::Begin;
                            kept
                        }
                    }
                }
                (_, kept) => kept,
            };
            if kept.process.is_some() || kept.control.is_some() {
                discard(number, &kept);
            }
            began.push((name, fate));
        }
        self.keep_networks(&living);
        for (name, fate) in began {
            self.standing.notes.remove(&name);
            if fate == Fate::Retire
                && let Some(zone) = self.standing.zones.get_mut(&name)
            {
                zone.life = Life::recorded(Desired::Stopped, zone.life.since_ms);
                let course = Course::decided(vec![Action::Record], Some(Event::Begin));
                self.happens(&name, Happening::Course(course));
            } else {
                self.zone_happens(&name, Event::Begin);
            }
        }
    }

    /// Takes over a zone that lives.
    fn adopt(
        &mut self,
        name: &ZoneName,
        pidfd: OwnedFd,
        control: sys::seqpacket::Socket,
    ) -> Result<u64, (String, Kept)> {
        let zone = &self.standing.zones[name];
        let cgroups = &mut self.cgroups;
        let adopted = cgroups.adopt(&cgroup_name(&zone.record)).and_then(|mut cgroup| {
            cgroups.apply(&mut cgroup, &zone.record.spec.carve)?;
            Ok(cgroup)
        });
        let heard = adopted.map_err(|error| chain(&error)).and_then(|cgroup| {
            let number = zone.record.number;
            let listening = self.standing.listen(number, &control, pidfd.as_fd());
            listening.map(|()| cgroup).map_err(|error| format!("it cannot be heard: {error}"))
        });
        let cgroup = match heard {
            Ok(cgroup) => cgroup,
            Err(why) => return Err((why, Kept { process: Some(pidfd), control: Some(control) })),
        };
        let frozen = cgroup.freezes();
        let now_ms = self.now_ms();
        let (id, note) = (cgroup.id(), self.standing.notes.read(name));
        let (since_ms, gone) = (now_ms, false);
        let body =
            Body { cgroup, control, listening: true, pidfd, slot: None, gone, since_ms, note };
        self.meter.adopt(Key::Zone(name.clone()), zone.whose(), zone.reserved());
        let Some(zone) = self.standing.zones.get_mut(name) else { return Ok(id) };
        zone.publication = zone.publication_due();
        let (life, actions) = Life::adopted(zone.record.desired, frozen, now_ms);
        (zone.life, zone.body) = (life, Some(body));
        eprintln!("zoned: zone {name} lived on and is adopted, {}", zone.life.shown().word());
        self.order(name, &Order::Who, &[]);
        self.happens(name, Happening::Course(Course::decided(actions, None)));
        Ok(id)
    }

    /// Lets go of networks of zones that are gone, and tells those of the others again.
    fn keep_networks(&mut self, living: &BTreeSet<u64>) {
        let Some(networks) = &mut self.networks else { return };
        if let Err(error) = networks.keep(living) {
            eprintln!("zoned: networks of earlier zones are left: {}", chain(&error));
        }
        for (name, zone) in &self.standing.zones {
            if let (Some(body), Some(network)) = (&zone.body, &zone.record.spec.network)
                && let Err(error) = networks.change(body.cgroup.id(), network)
            {
                eprintln!("zoned: zone {name} has lost its network: {}", chain(&error));
            }
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use std::fs::File;

    fn record(restart: bool, autoboot: bool, desired: Desired) -> Record {
        let text = format!(
            r#"{{"name":"web","login":"ann","image":"base","restart":{restart},"autoboot":{autoboot}}}"#
        );
        Record { desired, ..Record::new(3, 7, 1, serde_json::from_str(&text).unwrap()) }
    }

    #[test]
    fn what_lives_is_adopted_whatever_is_wanted_of_it() {
        for desired in [Desired::Running, Desired::Paused, Desired::Stopped, Desired::Deleted] {
            assert_eq!(fate(&record(false, true, desired), Left::Alive, false), Fate::Adopt);
        }
    }

    #[test]
    fn what_ended_by_itself_stays_down_unless_it_is_to_be_restarted() {
        let up = Desired::Running;
        assert_eq!(fate(&record(false, true, up), Left::Dead, false), Fate::Retire);
        assert_eq!(fate(&record(true, true, up), Left::Dead, false), Fate::Begin);
        assert_eq!(fate(&record(false, true, up), Left::Nothing, false), Fate::Begin);
    }

    #[test]
    fn after_a_boot_runs_what_ran_unless_it_is_not_to() {
        let up = Desired::Running;
        assert_eq!(fate(&record(false, true, up), Left::Nothing, true), Fate::Begin);
        assert_eq!(fate(&record(false, false, up), Left::Nothing, true), Fate::Retire);
        assert_eq!(fate(&record(false, false, up), Left::Nothing, false), Fate::Begin);
    }

    #[test]
    fn a_deletion_that_was_begun_is_finished() {
        let record = record(true, true, Desired::Deleted);
        assert_eq!(fate(&record, Left::Nothing, true), Fate::Begin);
        assert_eq!(fate(&record, Left::Dead, false), Fate::Begin);
    }

    #[test]
    fn the_end_of_a_process_is_seen() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        assert!(!is_over(&reader).unwrap());
        drop(File::from(writer));
        assert!(is_over(&reader).unwrap());
    }
}
