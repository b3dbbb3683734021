//! Doing what [`super::life`] decides: events of zones go in, actions come out and are done at once, and
//! what they bring about goes in again.

use super::life::{Action, Desired, Event, Refused, State, step};
use super::publish::Whom;
use super::{Body, Publication, Zone};
use crate::chain;
use crate::daemon::Daemon;
use crate::failpoint;
use crate::meter::Key;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use sys::clone::{kill, reap};
use sys::{project, quota};
use wire::standing::{Subject, What, ZoneName};
use wire::zone::Order;

/// How long a zone may take from its first process to its command.
const START_MS_MAX: u64 = 60_000;
const MIB: u64 = 1 << 20;
/// The log's files, in a zone's folder.
pub(super) const LOGS: [&str; 2] = ["log.0", "log.1"];
/// Where a zone's output is, in its folder.
pub(super) const OUT: &str = "out";

impl Daemon {
    /// Milliseconds since zoned started: the clock of zones' lives.
    pub(super) fn now_ms(&self) -> u64 {
        self.now_us() / 1000
    }

    /// Takes an event in, does what follows from it, and so on until nothing follows.
    ///
    /// # Errors
    /// [`Refused`], for requests of people.
    pub(super) fn zone_event(&mut self, name: &ZoneName, event: Event) -> Result<(), Refused> {
        let mut events = VecDeque::from([event]);
        let mut first = true;
        while let Some(event) = events.pop_front() {
            let now_ms = self.now_ms();
            let Some(zone) = self.standing.zones.get_mut(name) else { return Ok(()) };
            let (life, actions) = match step(&zone.life, zone.record.spec.restart, now_ms, event) {
                Ok(decided) => decided,
                Err(refused) if first => return Err(refused),
                // What follows from an event is no request.
                Err(_) => continue,
            };
            first = false;
            self.standing.restless.insert(name.clone());
            let before = std::mem::replace(&mut zone.life, life);
            let from = before.shown();
            let to = zone.life.shown();
            let why = match &zone.life.state {
                State::Failed { why, .. } if zone.life.state != before.state => Some(why.clone()),
                _ => None,
            };
            if let Some(why) = &why {
                eprintln!("zoned: zone {name}: {why}");
                zone.note(why.clone());
            }
            if from != to {
                let what = What::State { from, to, why };
                self.events.tell(Subject::Zone(name.clone()), what);
            }
            for action in actions {
                events.extend(self.do_action(name, action));
            }
        }
        Ok(())
    }

    /// As [`Self::zone_event`], for what is no request.
    pub(super) fn zone_happens(&mut self, name: &ZoneName, event: Event) {
        if let Err(refused) = self.zone_event(name, event) {
            eprintln!("zoned: zone {name}: {refused}");
        }
    }

    /// Does what was decided elsewhere, and what follows.
    pub(super) fn do_later(&mut self, name: &ZoneName, action: Action) {
        if let Some(event) = self.do_action(name, action) {
            self.zone_happens(name, event);
        }
    }

    fn do_action(&mut self, name: &ZoneName, action: Action) -> Option<Event> {
        match action {
            Action::Record => self.write_record(name),
            Action::Make => return Some(self.make_files(name)),
            Action::Start => return self.start_zone(name),
            Action::Acknowledge => {
                self.order(name, &Order::Acknowledged, &[]);
                failpoint::hit("acknowledged");
            }
            Action::Terminate => return self.terminate(name),
            Action::Freeze => self.freeze(name, true),
            Action::Thaw => self.freeze(name, false),
            Action::Kill => return self.kill_zone(name),
            Action::Clear => return self.clear_zone(name),
            Action::Forget => self.forget(name),
        }
        None
    }

    fn write_record(&mut self, name: &ZoneName) {
        let Some(zone) = self.standing.zones.get_mut(name) else { return };
        zone.record.desired = zone.life.desired;
        if zone.recorded == Some(zone.life.desired) {
            return;
        }
        let written = self.standing.records.write(&zone.record);
        zone.recorded = written.is_ok().then_some(zone.life.desired);
        if let Err(error) = written {
            // What is wanted holds until zoned ends; a person is told that it is not on disk.
            let why = chain(&error);
            eprintln!("zoned: zone {name}: {why}");
            zone.note(format!("its record could not be written: {why}"));
        }
    }

    fn make_files(&self, name: &ZoneName) -> Event {
        let Some(zone) = self.standing.zones.get(name) else { return Event::Made };
        match self.try_make_files(zone) {
            Ok(()) => {
                failpoint::hit("files-made");
                Event::Made
            }
            Err((what, error)) => Event::NotMade(format!("cannot make {what}: {error}")),
        }
    }

    fn try_make_files(&self, zone: &Zone) -> Result<(), (&'static str, std::io::Error)> {
        let place = self.standing.records.place(&zone.record.spec.name);
        let of = |what| move |error| (what, error);
        let folder = File::open(&place).map_err(of("its folder"))?;
        self.limit_disk(zone).map_err(of("its quota"))?;
        let project = crate::slot::PROJECT_BASE + zone.record.number;
        if self.quota.is_some() {
            let set = project::set_project_below(folder.as_fd(), project);
            set.map_err(|errno| ("its project", errno.into()))?;
        }
        for log in LOGS {
            let mut how = File::options();
            how.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
            how.open(place.join(log)).map_err(of("its log"))?;
        }
        let out = place.join(OUT);
        match fs::create_dir(&out) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
            Err(error) => return Err(("its /out", error)),
        }
        let user = crate::slot::USER_BASE + zone.record.number * crate::slot::USERS;
        fs::set_permissions(&out, fs::Permissions::from_mode(0o755)).map_err(of("its /out"))?;
        std::os::unix::fs::chown(&out, Some(user), Some(user)).map_err(of("its /out"))
    }

    /// Limits what the zone may keep on the data disk.
    pub(super) fn limit_disk(&self, zone: &Zone) -> std::io::Result<()> {
        let Some(data) = &self.quota else { return Ok(()) };
        let project = crate::slot::PROJECT_BASE + zone.record.number;
        quota::limit_project(data.as_fd(), project, zone.record.spec.carve.disk_mib * MIB)
    }

    fn terminate(&mut self, name: &ZoneName) -> Option<Event> {
        if self.has_body(name) {
            self.order(name, &Order::Terminate, &[]);
            return None;
        }
        self.call_off(name)
    }

    fn kill_zone(&mut self, name: &ZoneName) -> Option<Event> {
        let Some(body) = self.standing.zones.get(name).and_then(|zone| zone.body.as_ref()) else {
            return self.call_off(name);
        };
        // The first process's end is the end of all; the cgroup makes sure of it.
        let killed = kill(body.pidfd.as_fd(), libc::SIGKILL);
        if let Err(error) = body.cgroup.kill() {
            eprintln!("zoned: {}", chain(&error));
        }
        match killed {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                eprintln!("zoned: cannot kill zone {name}: {error}");
            }
            _ => {}
        }
        None
    }

    /// A start that waited for something does not happen.
    fn call_off(&mut self, name: &ZoneName) -> Option<Event> {
        self.drop_pending(name);
        Some(Event::NotStarted("its start was called off".to_owned()))
    }

    fn has_body(&self, name: &ZoneName) -> bool {
        self.standing.zones.get(name).is_some_and(|zone| zone.body.is_some())
    }

    fn freeze(&mut self, name: &ZoneName, on: bool) {
        let Some(zone) = self.standing.zones.get_mut(name) else { return };
        if let Some(Err(error)) = zone.body.as_ref().map(|body| body.cgroup.freeze(on)) {
            let why = chain(&error);
            eprintln!("zoned: zone {name}: {why}");
            zone.note(why);
        }
    }

    /// Takes a zone that is gone apart; none if the kernel is not done with it.
    pub(super) fn clear_zone(&mut self, name: &ZoneName) -> Option<Event> {
        let now_ms = self.now_ms();
        let zone = self.standing.zones.get_mut(name)?;
        match zone.publication {
            Publication::Over => {}
            Publication::Asked => return None,
            Publication::Due => {
                zone.publication = Publication::Asked;
                match self.publish(name, Whom::Nobody) {
                    Ok(()) => return None,
                    // It is published when storaged is back.
                    Err(refused) if refused.code == "Unavailable" => {
                        self.standing.zones.get_mut(name)?.publication = Publication::Due;
                        return None;
                    }
                    // What it wrote stays, and is published with what it writes next.
                    Err(refused) => {
                        let zone = self.standing.zones.get_mut(name)?;
                        zone.publication = Publication::Over;
                        zone.note(format!("its output was not published: {}", refused.message));
                    }
                }
            }
        }
        let zone = self.standing.zones.get_mut(name)?;
        if let Some(body) = &zone.body {
            match body.cgroup.remove() {
                Ok(true) => {}
                Ok(false) => return None,
                // It is named at the next start again; the zone can't have it twice.
                Err(error) => eprintln!("zoned: zone {name}: {}", chain(&error)),
            }
        }
        let number = zone.record.number;
        let had_network = zone.record.spec.network.is_some();
        zone.pace.forget(now_ms);
        if let Some(body) = zone.body.take() {
            if let Some(slot) = body.slot {
                self.standing.put_slot(slot, had_network);
            }
            self.release(&body.note.manifests);
        }
        self.standing.notes.remove(name);
        super::store::forget(number);
        failpoint::hit("cleared");
        Some(Event::Cleared)
    }

    fn forget(&mut self, name: &ZoneName) {
        let zone = self.standing.zones.get(name);
        // That it is to go is on disk, and its files with it whenever the power goes.
        let synced = zone.is_none_or(|zone| zone.recorded != Some(Desired::Deleted));
        if let Err(error) = self.standing.records.remove(name, synced) {
            eprintln!("zoned: zone {name} leaves files: {}", chain(&error));
        }
        if let (Some(data), Some(zone)) = (&self.quota, self.standing.zones.get(name)) {
            let project = crate::slot::PROJECT_BASE + zone.record.number;
            if let Err(error) = quota::limit_project(data.as_fd(), project, 0) {
                eprintln!("zoned: zone {name} leaves a quota: {error}");
            }
        }
        self.standing.remove(name);
    }

    /// A first process has ended, and every process of its zone with it.
    pub(crate) fn standing_gone(&mut self, number: u32) {
        self.hear_standing(number);
        let Some(name) = self.standing.by_number.get(&number).cloned() else { return };
        let Some(zone) = self.standing.zones.get_mut(&name) else { return };
        let Some(body) = zone.body.as_mut().filter(|body| !body.gone) else { return };
        (body.gone, body.listening) = (true, false);
        self.standing.ears.ignore(body.control.as_fd());
        self.standing.ears.ignore(body.pidfd.as_fd());
        match reap(body.pidfd.as_fd()) {
            Ok(()) => {}
            // Of an earlier zoned: init has reaped it.
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {}
            Err(error) => eprintln!("zoned: cannot reap zone {name}: {error}"),
        }
        failpoint::hit("gone");
        let out_of_memory = body.cgroup.measure().out_of_memory;
        let unasked = matches!(zone.life.state, State::Ready | State::Running | State::Paused);
        // It ended while nobody looked, and may have told a zoned that is no more.
        let unheard = zone.life.state == State::Ready && body.is_adopted();
        let fault = match (unasked, out_of_memory) {
            (true, true) => {
                zone.note("it ran out of its memory and was killed whole".to_owned());
                self.events.tell(Subject::Zone(name.clone()), What::OutOfMemory);
                None
            }
            (true, false) if unheard => None,
            (true, false) => Some("its first process ended without a word".to_owned()),
            (false, _) => None,
        };
        self.end_sessions(&name);
        self.end_accounts(&name, out_of_memory);
        self.zone_happens(&name, Event::Gone(fault));
    }

    /// Takes a zone's network away and closes its account of what it used.
    fn end_accounts(&mut self, name: &ZoneName, out_of_memory: bool) {
        let Some(zone) = self.standing.zones.get(name) else { return };
        let stats = self.zone_stats(zone);
        let how = match &zone.last_outcome {
            _ if out_of_memory => "out of memory".to_owned(),
            Some(outcome) => super::view::words(outcome),
            None => "ended".to_owned(),
        };
        self.meter.end(&Key::Zone(name.clone()), &stats, &how);
        self.cgroups.spend_network(zone.record.account, &stats);
        let id = zone.body.as_ref().map(|body| body.cgroup.id());
        if let (Some(networks), Some(id)) = (&mut self.networks, id)
            && let Err(error) = networks.disconnect(id)
        {
            eprintln!("zoned: zone {name} leaves a network: {}", chain(&error));
        }
    }

    /// Looks after deadlines, after zones that the kernel was not done with, and after starts that waited.
    pub(crate) fn tidy_standing(&mut self) {
        self.standing.calm();
        let now_ms = self.now_ms();
        // One that lived on had its time at an earlier zoned: it may be slow to say so, and is not killed for it.
        let late =
            |body: &Body| !body.is_adopted() && now_ms.saturating_sub(body.since_ms) > START_MS_MAX;
        let due: Vec<(ZoneName, Event)> = self
            .standing
            .restless()
            .filter_map(|(name, zone)| {
                let event = match zone.life.state {
                    State::Ready if zone.body.as_ref().is_some_and(late) => {
                        Event::Rubbish("it did not start in a minute".to_owned())
                    }
                    _ if zone.life.deadline_ms().is_some_and(|at| at <= now_ms) => Event::Clock,
                    _ => return None,
                };
                Some((name.clone(), event))
            })
            .collect();
        due.into_iter().for_each(|(name, event)| self.zone_happens(&name, event));
        self.publish_what_waits();
        self.grant_wishes();
        let waiting = |zone: &Zone| zone.pending.is_some() || zone.life.state == State::Down;
        let waiting = self.standing.restless().filter(|(_, zone)| waiting(zone));
        let waiting: Vec<ZoneName> = waiting.map(|(name, _)| name.clone()).collect();
        for name in waiting {
            let down = self.standing.zones.get(&name).is_some_and(|z| z.pending.is_none());
            let event = if down { self.clear_zone(&name) } else { self.go_on_starting(&name) };
            if let Some(event) = event {
                self.zone_happens(&name, event);
            }
        }
    }

    /// Ends all zones; what is wanted of them stays on record.
    pub(crate) fn close_standing(&mut self) {
        self.standing.closing = true;
        let names: Vec<ZoneName> = self.standing.zones.keys().cloned().collect();
        names.into_iter().for_each(|name| self.zone_happens(&name, Event::Close));
    }
}
