//! One thing after another: what happens to a zone is done whole before the next that happens to it, though
//! its record may take its time to get to the disk.
//!
//! ```text
//!   happens ──▶ Free ──▶ Acting ──────all done──────▶ Free
//!     │                  │    ▲
//!     │ otherwise        ▼    │ the disk has done it
//!     └─▶ waits         OnDisk(what, and what follows)
//! ```
//!
//! Other zones, and people who only look, wait for none of this. [`Course`] decides, the daemon acts.

use super::answer::{Asker, no_such};
use super::life::{Action, Desired, Event};
use super::update::Update;
use crate::chain;
use crate::daemon::{Daemon, Written};
use crate::disk::{FileError, Job};
use std::collections::VecDeque;
use wire::carve::CarveChange;
use wire::standing::{ZoneName, ZoneReply};

/// What someone who waits is told at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// How the zone is then.
    View,
    /// That it is done.
    Done,
}

/// What follows from something that happened to a zone: actions, and the events that those bring about. Pure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Course {
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    /// Nothing was taken in yet: if it is refused, so is the request.
    is_new: bool,
    waits: Option<(Asker, Told)>,
}

/// What a course asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// To do this.
    Act(Action),
    /// To take this in.
    Take(Event),
    /// Nothing more.
    Over,
}

impl Course {
    /// What follows from an event.
    pub(super) fn of(event: Event) -> Self {
        Self { actions: VecDeque::new(), events: [event].into(), is_new: true, waits: None }
    }

    /// What follows from a request.
    pub(super) fn asked(event: Event, asker: Asker, told: Told) -> Self {
        Self { waits: Some((asker, told)), ..Self::of(event) }
    }

    /// Actions that were decided on elsewhere, and then perhaps an event.
    pub(super) fn decided(actions: Vec<Action>, then: Option<Event>) -> Self {
        let events = then.into_iter().collect();
        Self { actions: actions.into(), events, is_new: false, waits: None }
    }

    fn next(&mut self) -> Next {
        match self.actions.pop_front() {
            Some(action) => Next::Act(action),
            None => self.events.pop_front().map_or(Next::Over, Next::Take),
        }
    }
}

/// What a zone is waiting for the disk to do, and what follows then.
#[derive(Debug)]
pub(super) enum OnDisk {
    /// To take its record in, which says that this is wanted.
    Record(Desired, Course),
    /// To make its files.
    Files(Course),
    /// To remove its files.
    Removal(Course),
    /// To take in other limits.
    Update(Box<Update>),
}

/// Whether something may happen to a zone now.
#[derive(Debug, Default)]
pub(super) enum Turn {
    /// It may.
    #[default]
    Free,
    /// What happened before is being done.
    Acting,
    /// The disk is at it.
    OnDisk(OnDisk),
}

/// Something that happens to a zone, as soon as nothing else does.
#[derive(Debug)]
pub(super) enum Happening {
    /// An event, a request, a decision.
    Course(Course),
    /// A person wants it to have other limits.
    Update(Asker, Box<CarveChange>),
}

/// What came of an action.
#[derive(Debug)]
pub(super) enum Did {
    /// It is done, and this happened.
    Now(Option<Event>),
    /// It is done as soon as the disk has done this.
    Later(Job, Later),
}

/// Which of the actions the disk has its part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Later {
    /// [`Action::Record`].
    Record(Desired),
    /// [`Action::Make`].
    Files,
    /// [`Action::Forget`].
    Removal,
}

impl Daemon {
    /// Something happens to a zone: at once, or when what happened before is done.
    pub(super) fn zone_happens(&mut self, name: &ZoneName, event: Event) {
        self.happens(name, Happening::Course(Course::of(event)));
    }

    /// As [`Self::zone_happens`], for anything.
    pub(super) fn happens(&mut self, name: &ZoneName, what: Happening) {
        self.standing.later.push_back((name.clone(), what));
        self.take_turns(name);
    }

    /// Does what waits for a zone, one after the other, until something of it is on its way to the disk.
    fn take_turns(&mut self, name: &ZoneName) {
        while self.standing.zones.get(name).is_none_or(|zone| matches!(zone.turn, Turn::Free)) {
            let Some(at) = self.standing.later.iter().position(|(whose, _)| whose == name) else {
                return;
            };
            match self.standing.later.remove(at) {
                Some((_, Happening::Course(course))) => self.follow(name, course),
                Some((_, Happening::Update(asker, change))) => {
                    self.begin_update(asker, name, &change);
                }
                None => return,
            }
        }
    }

    /// Does what follows, as far as it can be done now.
    fn follow(&mut self, name: &ZoneName, mut course: Course) {
        if let Some(zone) = self.standing.zones.get_mut(name) {
            zone.turn = Turn::Acting;
        }
        loop {
            match course.next() {
                Next::Act(action) => match self.do_action(name, action) {
                    Did::Now(event) => course.events.extend(event),
                    Did::Later(job, later) => return self.leave_to_disk(name, course, job, later),
                },
                Next::Take(event) => match self.take_in(name, event) {
                    Some(Ok(actions)) => {
                        course.is_new = false;
                        course.actions.extend(actions);
                    }
                    // What follows from an event is no request.
                    Some(Err(_)) if !course.is_new => {}
                    Some(Err(refused)) => match course.waits.take() {
                        Some((asker, _)) => self.answer_zone(asker, Err(refused.into()), &[]),
                        None => eprintln!("zoned: zone {name}: {refused}"),
                    },
                    // It is forgotten.
                    None if !course.is_new => {}
                    None => {
                        if let Some((asker, _)) = course.waits.take() {
                            self.answer_zone(asker, Err(no_such(name)), &[]);
                        }
                    }
                },
                Next::Over => break,
            }
        }
        self.free_turn(name);
        if let Some((asker, told)) = course.waits {
            let answer = match told {
                Told::View => self.zone_view(name),
                Told::Done => Ok(ZoneReply::Done),
            };
            self.answer_zone(asker, answer, &[]);
        }
    }

    /// The next that happens to a zone may.
    pub(super) fn free_turn(&mut self, name: &ZoneName) {
        if let Some(zone) = self.standing.zones.get_mut(name) {
            zone.turn = Turn::Free;
        }
    }

    fn leave_to_disk(&mut self, name: &ZoneName, course: Course, job: Job, later: Later) {
        let on_disk = match later {
            Later::Record(desired) => OnDisk::Record(desired, course),
            Later::Files => OnDisk::Files(course),
            Later::Removal => OnDisk::Removal(course),
        };
        self.zone_to_disk(name, job, on_disk);
    }

    /// Has the disk do something for a zone, to which nothing else happens until then.
    pub(super) fn zone_to_disk(&mut self, name: &ZoneName, job: Job, on_disk: OnDisk) {
        let Some(zone) = self.standing.zones.get_mut(name) else { return };
        // Trees are removed beside everything else: they may be large, and nobody waits for their room.
        let worker = match &on_disk {
            OnDisk::Removal(_) => &mut self.sweeper,
            OnDisk::Record(..) | OnDisk::Files(_) | OnDisk::Update(_) => &mut self.disk,
        };
        zone.turn = Turn::OnDisk(on_disk);
        worker.submit(job, Written::Zone(name.clone()));
    }

    /// The disk has done, or not, what a zone was waiting for.
    pub(crate) fn zone_written(&mut self, name: &ZoneName, written: Result<(), FileError>) {
        let Some(zone) = self.standing.zones.get_mut(name) else { return };
        match std::mem::replace(&mut zone.turn, Turn::Acting) {
            Turn::OnDisk(OnDisk::Record(desired, course)) => {
                self.record_written(name, desired, written.map_err(|error| chain(&error)));
                self.follow(name, course);
            }
            Turn::OnDisk(OnDisk::Files(mut course)) => {
                course.events.push_back(self.files_made(written));
                self.follow(name, course);
            }
            Turn::OnDisk(OnDisk::Removal(course)) => {
                self.forgotten(name, written);
                self.follow(name, course);
            }
            Turn::OnDisk(OnDisk::Update(update)) => self.go_on_updating(name, *update, written),
            turn @ (Turn::Free | Turn::Acting) => {
                debug_assert!(false, "nothing of {name} was on its way");
                zone.turn = turn;
            }
        }
        self.take_turns(name);
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::standing::life::{Life, step};
    use proptest::prelude::*;

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Start),
            (0..3_u64).prop_map(|s| Event::Stop { within_ms: s * 1000 }),
            Just(Event::Pause),
            Just(Event::Resume),
            Just(Event::Delete),
            Just(Event::Started),
            Just(Event::Over(None)),
            Just(Event::Gone(None)),
            Just(Event::Cleared),
            Just(Event::Close),
            Just(Event::Made),
        ]
    }

    /// A zone whose actions are noted; those for the disk take as many moments as they are told to.
    struct Play {
        life: Life,
        turn: Option<Course>,
        later: VecDeque<Event>,
        did: Vec<Action>,
    }

    impl Play {
        fn new() -> Self {
            let life = Life::recorded(Desired::Running, 0);
            Self { life, turn: None, later: VecDeque::new(), did: Vec::new() }
        }

        /// As [`Daemon::follow`]; false if the disk has to do something first.
        fn follow(&mut self, mut course: Course, slow: bool) {
            loop {
                match course.next() {
                    Next::Over => return,
                    Next::Take(event) => {
                        if let Ok((life, actions)) = step(&self.life, false, 0, event) {
                            self.life = life;
                            course.actions.extend(actions);
                        }
                    }
                    Next::Act(action) => {
                        self.did.push(action);
                        if slow && matches!(action, Action::Record | Action::Make) {
                            self.turn = Some(course);
                            return;
                        }
                    }
                }
            }
        }

        fn happens(&mut self, event: Event, slow: bool) {
            self.later.push_back(event);
            while self.turn.is_none()
                && let Some(event) = self.later.pop_front()
            {
                self.follow(Course::of(event), slow);
            }
        }

        fn written(&mut self, slow: bool) {
            if let Some(course) = self.turn.take() {
                self.follow(course, slow);
            }
            while self.turn.is_none()
                && let Some(event) = self.later.pop_front()
            {
                self.follow(Course::of(event), slow);
            }
        }
    }

    proptest! {
        /// However long the disk takes, the same is done in the same order: only others see that it takes longer.
        #[test]
        fn a_slow_disk_changes_nothing_but_the_time(
            events in prop::collection::vec((any_event(), any::<bool>()), 0..60),
        ) {
            let (mut fast, mut slow) = (Play::new(), Play::new());
            for (event, written) in events {
                fast.happens(event.clone(), false);
                slow.happens(event, true);
                if written {
                    slow.written(true);
                }
                // Nothing is done that is not done with a fast disk, and nothing before its time.
                prop_assert!(fast.did.starts_with(&slow.did));
            }
            while slow.turn.is_some() {
                slow.written(true);
            }
            prop_assert_eq!((&fast.life, &fast.did), (&slow.life, &slow.did));
        }
    }
}
