//! What zoned and storaged do together: claims, inputs, settlements, and the loss of the connection.

use crate::carve::Change;
use crate::chain;
use crate::daemon::{Asked, Daemon};
use crate::images::ImageError;
use crate::link::{LinkError, Said};
use crate::room::{Limited, Room};
use crate::running::{Entry, size_of_all};
use crate::scheduler::Grant;
use crate::slot::Slot;
use crate::warm::{Idle, Kin};
use std::os::fd::OwnedFd;
use std::time::Instant;
use wire::frame::Refusal;
use wire::standing::{Stats, Subject, What};
use wire::task::{AttemptId, Ending, Push, Reply, Request, Task, Usage};

impl Daemon {
    /// Connects to storaged when that is due.
    pub(crate) fn connect(&mut self) {
        match self.link.connect_if_due(Instant::now()) {
            Ok(true) => {
                eprintln!("zoned: connected to storaged");
                self.ask_manifests(None);
                if self.admission.is_held() {
                    self.tell_held();
                }
            }
            Ok(false) => {}
            // Said when it was lost; at start, storaged may simply not be there yet.
            Err(LinkError::Connect(_)) => {}
            Err(error) => eprintln!("zoned: {}", chain(&error)),
        }
    }

    /// Claims what may run now.
    pub(crate) fn claim(&mut self) {
        self.scheduler.advance(self.now_us());
        self.scheduler.review(|image| self.images.awaits(image).is_some());
        self.watch_pressure();
        self.pick_rooms();
        self.claim_limited();
    }

    /// Finds rooms for what may run now, and has their quotas set.
    fn pick_rooms(&mut self) {
        while self.link.has_room() && self.may_start() {
            let Some(next) = self.scheduler.next() else { return };
            if self.images.awaits(&next.image).is_some() {
                self.scheduler.hold(next.image);
                continue;
            }
            let Some(room) = self.room(&next) else { return };
            let Some(grant) = self.scheduler.pick() else { return self.leave_room(room) };
            self.admission.admitted(self.now_us());
            self.limit_room(grant, room);
        }
    }

    /// Whether another zone may start now, or the node is too short of something.
    pub(crate) fn may_start(&self) -> bool {
        self.admission.admits(self.now_us())
    }

    /// Holds work back, or lets it go on, as the node's pressure has it.
    pub(crate) fn watch_pressure(&mut self) {
        // Nobody who waits, nobody who needs to know.
        if self.scheduler.waiting() > 0 || self.admission.is_held() {
            self.look_at_pressure();
        }
    }

    /// Reads the node's pressure, if it was not read a moment ago.
    pub(crate) fn look_at_pressure(&mut self) {
        let now_us = self.now_us();
        let what = match self.admission.look(now_us) {
            None => return,
            Some(Change::Held { why }) => {
                eprintln!("zoned: new work waits: {why}");
                What::Held { why }
            }
            Some(Change::Released) => {
                eprintln!("zoned: work goes on");
                What::Released
            }
        };
        self.events.tell(Subject::Node, what);
        self.tell_held();
    }

    /// Has storaged tell owners of jobs what their tasks wait for; one that is not there hears it when it is.
    fn tell_held(&mut self) {
        if !self.link.has_room() {
            return;
        }
        let why = self.admission.held().map(str::to_owned);
        if let Err((error, _)) = self.link.ask(&Request::Held { why }, Asked::Held) {
            self.lose_link(&chain(&error));
        }
    }

    /// Takes in everything that storaged has said.
    pub(crate) fn hear_storaged(&mut self) {
        loop {
            match self.link.hear() {
                Ok(Some(Said::Push(push))) => self.news(push),
                Ok(Some(Said::Reply(asked, reply, fds))) => self.answered(asked, *reply, fds),
                Ok(Some(Said::Refusal(asked, refusal))) => self.refused(asked, &refusal),
                Ok(None) => return,
                Err(error) => return self.lose_link(&chain(&error)),
            }
        }
    }

    fn news(&mut self, push: Push) {
        match push {
            Push::Runnable(entries) => {
                self.scheduler.advance(self.now_us());
                self.scheduler.update(entries);
            }
            Push::Cancel { job } => {
                self.scheduler.forget(job);
                self.cancel(job);
            }
        }
    }

    fn answered(&mut self, asked: Asked, reply: Reply, fds: Vec<OwnedFd>) {
        match (asked, reply) {
            (Asked::Claim(place), Reply::Claimed(mut task)) => {
                self.add_environment(&mut task);
                self.claimed(place, &task, fds);
            }
            (Asked::Claim(place), Reply::NothingReady) => {
                self.scheduler.nothing_ready(&place.grant);
                self.leave(place);
            }
            (Asked::Inputs { attempt }, Reply::Inputs { names: _, end }) => {
                self.feed(attempt, &fds, end);
            }
            (asked @ Asked::Ended { .. }, Reply::Settled(_)) => self.give_up(asked),
            (Asked::Image(question), reply) => self.image_answered(question, reply, fds),
            (Asked::Meter, Reply::Metered) => {
                self.meter.delivered_lines();
            }
            (Asked::Held, Reply::Noted) => {}
            (Asked::Standing(beside), reply) => {
                let said = name(&reply);
                if !self.standing_answered(beside, reply, fds) {
                    self.lose_link(&format!("storaged answered with {said}"));
                }
            }
            (asked, reply) => {
                self.give_up(asked);
                self.lose_link(&format!("storaged answered with {}", name(&reply)));
            }
        }
    }

    fn refused(&mut self, asked: Asked, refusal: &Refusal) {
        let Refusal { code, message } = refusal;
        if let Asked::Standing(beside) = asked {
            return self.standing_refused(beside, refusal);
        }
        if let Asked::Image(question) = asked {
            return self.image_refused(question, refusal);
        }
        match &asked {
            Asked::Claim(Limited { grant, .. }) => {
                eprintln!(
                    "zoned: storaged refused a claim of job {}: {code}: {message}",
                    grant.job
                );
                // Or it would be claimed again at once, and for ever.
                self.scheduler.nothing_ready(grant);
            }
            Asked::Inputs { attempt } => {
                let message = format!("its inputs were refused: {message}");
                self.rubbish(*attempt, message);
            }
            // Tried again a second later: the disk may be full now.
            Asked::Meter if code != "BadLines" => eprintln!("zoned: usage is not kept: {message}"),
            Asked::Meter => return self.meter.refused(message),
            Asked::Image(_) => {}
            Asked::Held => {
                eprintln!("zoned: storaged does not tell what tasks wait for: {message}");
            }
            Asked::Ended { attempt, .. } => {
                eprintln!(
                    "zoned: storaged did not settle attempt {}: {code}: {message}",
                    attempt.0
                );
            }
            Asked::Standing(_) => {}
        }
        self.give_up(asked);
    }

    /// Gives a task the variables of its image; its own come after them, and count.
    fn add_environment(&mut self, task: &mut Task) {
        // An image that cannot be used is told when the zone is started.
        let Ok(configuration) = self.images.configuration(&task.image) else { return };
        if !configuration.environment.is_empty() {
            let own = std::mem::take(&mut task.environment);
            task.environment = configuration.environment.iter().cloned().chain(own).collect();
        }
    }

    /// A task was claimed for a room.
    fn claimed(&mut self, place: Limited, task: &Task, fds: Vec<OwnedFd>) {
        let Limited { grant, room, unlimited } = place;
        // It could fill the disk: it does not start.
        let Some(why) = unlimited else {
            return match room {
                Room::Fresh(slot) => self.begin(grant, slot, task, fds),
                Room::Warm(idle) => self.go_on(grant, *idle, task, fds),
            };
        };
        eprintln!("zoned: attempt {} did not start: {why}", task.attempt.0);
        self.scheduler.release(&grant);
        let slot = match room {
            Room::Fresh(slot) => Some(slot),
            Room::Warm(idle) => {
                self.unused(*idle);
                None
            }
        };
        self.settle(task.attempt, slot, Ending::Lost { message: why }, Usage::default());
    }

    /// Starts the zone of a claimed task; storaged hears at once if that fails.
    fn begin(&mut self, grant: Grant, mut slot: Slot, task: &Task, fds: Vec<OwnedFd>) {
        // Its stdin and its assets; what it writes to is new and empty.
        let delivered = size_of_all(&fds);
        self.learn_account(&task.login, task.account);
        let ending = match self.images.get(&task.image) {
            // The task's own mistake: another try would not help.
            Err(error @ (ImageError::Name { .. } | ImageError::Missing { .. })) => {
                Ending::InitFailed { message: chain(&error) }
            }
            Err(error) => {
                // For the next try.
                self.images.ask_again(&task.image);
                Ending::Lost { message: chain(&error) }
            }
            Ok(image) => match self.launcher.start(task, fds, &mut slot, &image, &mut self.cgroups)
            {
                Ok(zone) => {
                    self.counts.started += 1;
                    self.meter_task(task, delivered, &Stats::default());
                    self.zones.insert(task.attempt, Entry::new(zone, grant, slot, task));
                    return;
                }
                Err(error) => Ending::Lost { message: chain(&error) },
            },
        };
        eprintln!("zoned: attempt {} did not start: {ending:?}", task.attempt.0);
        self.scheduler.release(&grant);
        self.settle(task.attempt, Some(slot), ending, Usage::default());
    }

    /// Runs a claimed task in an instance; storaged hears at once if that fails.
    fn go_on(&mut self, grant: Grant, mut idle: Idle, task: &Task, fds: Vec<OwnedFd>) {
        let delivered = size_of_all(fds.get(..1).filter(|_| task.input.is_some()).unwrap_or(&[]));
        let failed = if Kin::of(task) == idle.kin {
            match self.launcher.again(&mut idle.zone, task, fds, &mut idle.slot) {
                Ok(()) => {
                    self.counts.started += 1;
                    self.meter_task(task, delivered, &idle.stats);
                    self.zones.insert(task.attempt, Entry::again(idle, grant, task));
                    return;
                }
                Err(error) => chain(&error),
            }
        } else {
            "it is not like the tasks before it in its phase".to_owned()
        };
        eprintln!("zoned: attempt {} did not start in its instance: {failed}", task.attempt.0);
        self.scheduler.release(&grant);
        self.end_instance(idle);
        self.settle(task.attempt, None, Ending::Lost { message: failed }, Usage::default());
    }

    /// Tells storaged how an attempt ended whose zone is gone.
    pub(crate) fn settle(
        &mut self,
        attempt: AttemptId,
        slot: Option<Slot>,
        ending: Ending,
        usage: Usage,
    ) {
        let count = match &ending {
            Ending::Exited { code: 0 } => &mut self.counts.succeeded,
            Ending::Exited { .. } | Ending::Signalled { .. } | Ending::InitFailed { .. } => {
                &mut self.counts.failed
            }
            Ending::OutOfMemory => &mut self.counts.out_of_memory,
            Ending::OutOfDisk => &mut self.counts.out_of_disk,
            Ending::Cancelled => &mut self.counts.cancelled,
            Ending::Lost { .. } => &mut self.counts.lost,
        };
        *count += 1;
        let request = Request::Ended { attempt, ending, usage };
        if let Err((error, asked)) = self.link.ask(&request, Asked::Ended { attempt, slot }) {
            self.give_up(asked);
            self.lose_link(&chain(&error));
        }
    }

    /// Puts back what was held for an answer.
    fn give_up(&mut self, asked: Asked) {
        match asked {
            Asked::Claim(place) => self.leave(place),
            Asked::Ended { attempt: _, slot: Some(slot) } => self.put_back(slot),
            Asked::Ended { attempt: _, slot: None } => {}
            Asked::Inputs { attempt: _ } | Asked::Held => {}
            Asked::Meter => self.meter.not_delivered(),
            Asked::Standing(beside) => self.standing_unanswered(beside),
            // What becomes of it is decided for all of them at once.
            Asked::Image(_) => {}
        }
    }

    /// The connection has ended: so have all attempts that were claimed on it.
    pub(crate) fn lose_link(&mut self, why: &str) {
        if self.link.socket().is_some() {
            eprintln!("zoned: the connection to storaged has ended: {why}");
        }
        for asked in self.link.drop_connection(Instant::now()) {
            self.give_up(asked);
        }
        self.leave_limited();
        self.images_lose_link();
        self.scheduler.forget_all();
        self.kill_all();
    }
}

const fn name(reply: &Reply) -> &'static str {
    match reply {
        Reply::Claimed(_) => "Claimed",
        Reply::NothingReady => "NothingReady",
        Reply::Inputs { .. } => "Inputs",
        Reply::Settled(_) => "Settled",
        Reply::Status(_) => "Status",
        Reply::Account { .. } => "Account",
        Reply::Accounts(_) => "Accounts",
        Reply::Metered => "Metered",
        Reply::Noted => "Noted",
        Reply::Manifest { .. } => "Manifest",
        Reply::Manifests(_) => "Manifests",
        Reply::Released => "Released",
        Reply::Opened { .. } => "Opened",
        Reply::Staged { .. } => "Staged",
        Reply::Committed { .. } => "Committed",
        Reply::Removed => "Removed",
        Reply::Published(_) => "Published",
        Reply::Damaged { .. } => "Damaged",
    }
}
