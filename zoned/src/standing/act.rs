//! Doing what [`super::life`] decides: events of zones go in, actions come out and are done ([`super::turn`]), and
//! what they bring about goes in again.

use super::life::{Action, Event, Refused, State, step};
use super::publish::Whom;
use super::turn::{Did, Turn};
use super::{Body, Publication, Zone};
use crate::chain;
use crate::daemon::Daemon;
use crate::failpoint;
use crate::meter::Key;
use std::os::fd::AsFd;
use sys::clone::{kill, reap};
use wire::standing::{Subject, What, ZoneName};
use wire::zone::Order;

/// How long a zone may take from its first process to its command.
const START_MS_MAX: u64 = 60_000;

impl Daemon {
    /// Milliseconds since zoned started: the clock of zones' lives.
    pub(super) fn now_ms(&self) -> u64 {
        self.now_us() / 1000
    }

    /// Takes an event in; gives what is to be done, and nothing for a zone that is not there.
    pub(super) fn take_in(
        &mut self,
        name: &ZoneName,
        event: Event,
    ) -> Option<Result<Vec<Action>, Refused>> {
        let now_ms = self.now_ms();
        let zone = self.standing.zones.get_mut(name)?;
        let (life, actions) = match step(&zone.life, zone.record.spec.restart, now_ms, event) {
            Ok(decided) => decided,
            Err(refused) => return Some(Err(refused)),
        };
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
        Some(Ok(actions))
    }

    pub(super) fn do_action(&mut self, name: &ZoneName, action: Action) -> Did {
        Did::Now(match action {
            Action::Record => return self.write_record(name),
            Action::Make => return self.make_files(name),
            Action::Forget => return self.forget(name),
            Action::Start => self.start_zone(name),
            Action::Acknowledge => {
                self.order(name, &Order::Acknowledged, &[]);
                failpoint::hit("acknowledged");
                None
            }
            Action::Terminate => self.terminate(name),
            Action::Freeze => self.freeze(name, true),
            Action::Thaw => self.freeze(name, false),
            Action::Kill => self.kill_zone(name),
            Action::Clear => self.clear_zone(name),
        })
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

    fn freeze(&mut self, name: &ZoneName, on: bool) -> Option<Event> {
        let zone = self.standing.zones.get_mut(name)?;
        if let Some(Err(error)) = zone.body.as_ref().map(|body| body.cgroup.freeze(on)) {
            let why = chain(&error);
            eprintln!("zoned: zone {name}: {why}");
            zone.note(why);
        }
        None
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
            .filter(|(_, zone)| matches!(zone.turn, Turn::Free))
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
        let waiting = |zone: &Zone| {
            let waits = zone.pending.is_some() || zone.life.state == State::Down;
            waits && matches!(zone.turn, Turn::Free)
        };
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
