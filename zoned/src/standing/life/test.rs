//! The life of a zone against a model of the world it acts on.

use super::*;
use proptest::prelude::*;

/// The world: what the daemon and the kernel make of actions.
#[derive(Debug, Default)]
struct World {
    alive: bool,
    /// Its first process has its plan.
    planned: bool,
    /// It was told to end, or has said that it is over.
    ends: bool,
    frozen: bool,
    made: bool,
    cleared: bool,
    forgotten: bool,
    recorded: Option<Desired>,
    /// What comes of the actions so far, in order.
    due: Vec<Event>,
}

impl World {
    /// Acts; panics where no daemon could.
    fn act(&mut self, life: &Life, action: Action, luck: bool) {
        assert!(!self.forgotten, "{action:?} after all was forgotten");
        match action {
            Action::Record => self.recorded = Some(life.desired),
            Action::Make => {
                assert!(!self.alive);
                self.made = luck;
                let no = || Event::NotMade("no disk".to_owned());
                self.due.push(if luck { Event::Made } else { no() });
            }
            Action::Start => {
                assert!(!self.alive && self.made && self.cleared, "started over another one");
                (self.alive, self.planned) = (luck, luck);
                (self.frozen, self.ends, self.cleared) = (false, false, !luck);
                let no = || Event::NotStarted("no memory".to_owned());
                self.due.push(if luck { Event::Started } else { no() });
            }
            Action::Acknowledge => self.due.push(Event::Gone(None)),
            Action::Terminate => {
                assert!(!self.frozen, "a frozen command hears nothing");
                self.ends = self.alive;
                self.tell_if_not_started();
            }
            Action::Freeze => {
                assert!(self.alive);
                self.frozen = true;
            }
            Action::Thaw => {
                assert!(self.alive);
                self.frozen = false;
            }
            Action::Kill => {
                if self.alive {
                    self.due.push(Event::Gone(None));
                }
                self.tell_if_not_started();
            }
            Action::Clear => {
                assert!(!self.alive, "cleared under living processes");
                self.due.push(Event::Cleared);
            }
            Action::Forget => {
                assert!(!self.alive && self.cleared);
                self.forgotten = true;
            }
        }
    }
}

impl World {
    /// A start that is on its way is called off; nothing of it runs.
    fn tell_if_not_started(&mut self) {
        let told = self.due.iter().any(|event| matches!(event, Event::NotStarted(_)));
        if !self.alive && !told {
            self.due.push(Event::NotStarted("called off".to_owned()));
        }
    }
}

struct Play {
    life: Life,
    world: World,
    now_ms: u64,
    restart: bool,
    /// Whether what is tried works.
    luck: bool,
}

impl Play {
    fn new(restart: bool) -> Self {
        let world = World { cleared: true, ..World::default() };
        let life = Life::recorded(Desired::Running, 0);
        let mut play = Self { life, world, now_ms: 0, restart, luck: true };
        play.happen(Event::Begin).unwrap();
        play
    }

    fn happen(&mut self, event: Event) -> Result<(), Refused> {
        match &event {
            Event::Gone(_) => (self.world.alive, self.world.frozen) = (false, false),
            Event::Cleared => self.world.cleared = true,
            Event::Started => assert!(self.world.planned),
            _ => {}
        }
        let before = self.life.desired;
        let (life, actions) = step(&self.life, self.restart, self.now_ms, event)?;
        self.life = life;
        assert!(
            before == self.life.desired || actions.first() == Some(&Action::Record),
            "what is wanted is on disk first"
        );
        for action in actions {
            self.world.act(&self.life, action, self.luck);
        }
        assert_eq!(self.life.state == State::Deleted, self.world.forgotten);
        assert!(self.life.state != State::Running || self.world.planned, "nothing runs in it");
        Ok(())
    }

    /// The next thing that the world has to say, if any.
    fn settle_one(&mut self) -> bool {
        if self.world.due.is_empty() {
            return false;
        }
        let event = self.world.due.remove(0);
        // What is gone, or was never there, says nothing more.
        let stale = match event {
            Event::Started | Event::Gone(_) => !self.world.alive,
            _ => false,
        };
        if !stale {
            self.happen(event).unwrap();
        }
        true
    }

    /// Lets time pass until nothing changes any more.
    fn settle(&mut self) {
        for _ in 0..60 {
            while self.settle_one() {}
            if self.world.alive && self.world.ends && !self.world.frozen {
                self.world.ends = false;
                self.happen(Event::Over(None)).unwrap();
            } else if let Some(at) = self.life.deadline_ms() {
                self.now_ms = self.now_ms.max(at);
                self.happen(Event::Clock).unwrap();
            } else {
                return;
            }
        }
    }
}

fn any_event() -> impl Strategy<Value = Option<Event>> {
    prop_oneof![
        3 => Just(None),
        1 => Just(Some(Event::Start)),
        1 => (0..20_000u64).prop_map(|within_ms| Some(Event::Stop { within_ms })),
        1 => Just(Some(Event::Stop { within_ms: 0 })),
        1 => Just(Some(Event::Pause)),
        1 => Just(Some(Event::Resume)),
        1 => Just(Some(Event::Clock)),
        1 => Just(Some(Event::Cleared)),
        1 => Just(Some(Event::Over(None))),
        1 => Just(Some(Event::Gone(Some("killed".to_owned())))),
        1 => Just(Some(Event::Rubbish("odd".to_owned()))),
    ]
}

/// Plays events; those of processes come only while there are some.
fn play(restart: bool, events: Vec<(Option<Event>, bool, u64)>) -> Play {
    let mut play = Play::new(restart);
    for (event, luck, later_ms) in events {
        play.luck = luck;
        play.now_ms += later_ms;
        match event {
            None => drop(play.settle_one()),
            Some(Event::Over(_) | Event::Rubbish(_)) if play.world.frozen => {}
            Some(event @ (Event::Over(_) | Event::Rubbish(_) | Event::Gone(_))) => {
                if play.world.alive {
                    play.happen(event).unwrap();
                }
            }
            // Only what is being cleared can become clear.
            Some(Event::Cleared) => {}
            // A refusal changes nothing.
            Some(event) => {
                let before = play.life.clone();
                if play.happen(event).is_err() {
                    assert_eq!(play.life, before);
                }
            }
        }
    }
    play.luck = true;
    play
}

fn any_events() -> impl Strategy<Value = Vec<(Option<Event>, bool, u64)>> {
    prop::collection::vec((any_event(), prop::bool::weighted(0.8), 0..30_000u64), 0..40)
}

proptest! {
    #[test]
    fn a_zone_that_is_deleted_is_gone_in_the_end(restart: bool, events in any_events()) {
        let mut play = play(restart, events);
        play.happen(Event::Delete).unwrap();
        play.settle();
        prop_assert_eq!(&play.life.state, &State::Deleted);
        prop_assert!(!play.world.alive && play.world.forgotten);
    }

    #[test]
    fn what_is_wanted_last_is_what_is(restart: bool, events in any_events(), up: bool) {
        let mut play = play(restart, events);
        let wanted = if up { Event::Start } else { Event::Stop { within_ms: 5_000 } };
        play.happen(wanted).unwrap();
        play.settle();
        let shown = play.life.shown();
        if up {
            let paused = play.life.desired == Desired::Paused;
            prop_assert_eq!(shown, if paused { ZoneState::Paused } else { ZoneState::Running });
            prop_assert!(play.world.alive && play.world.frozen == paused);
        } else {
            prop_assert!(matches!(shown, ZoneState::Installed | ZoneState::Failed), "{shown:?}");
            prop_assert!(!play.world.alive);
        }
        if let Some(recorded) = play.world.recorded {
            prop_assert_eq!(recorded, play.life.desired);
        }
    }

    #[test]
    fn a_node_that_ends_takes_its_zones_down_and_keeps_what_is_wanted(
        restart: bool, events in any_events()
    ) {
        let mut play = play(restart, events);
        let wanted = play.life.desired;
        play.happen(Event::Close).unwrap();
        play.settle();
        prop_assert!(!play.world.alive && !play.life.runs());
        prop_assert_eq!(play.life.desired, wanted);
    }

    #[test]
    fn a_zone_that_is_found_alive_becomes_what_is_wanted_and_runs_when_it_says_so(
        planned: bool, frozen: bool, wanted in 0..4usize
    ) {
        // What is frozen had its plan.
        let planned = planned || frozen;
        let all = [Desired::Running, Desired::Paused, Desired::Stopped, Desired::Deleted];
        let desired = all[wanted];
        let (life, actions) = Life::adopted(desired, frozen, 7);
        prop_assert!(life.shown() != ZoneState::Running || frozen);
        let world = World { alive: true, planned, frozen, made: true, ..World::default() };
        let mut play = Play { life, world, now_ms: 7, restart: false, luck: true };
        // It is asked who it is before anything else.
        let no_plan = || Event::Over(Some("it expected its plan".to_owned()));
        play.world.due.push(if planned { Event::Started } else { no_plan() });
        for action in actions {
            play.world.act(&play.life, action, true);
        }
        play.settle();
        let up = matches!(desired, Desired::Running | Desired::Paused);
        prop_assert_eq!(play.world.alive, up);
        prop_assert_eq!(play.world.frozen, desired == Desired::Paused);
        prop_assert_eq!(play.world.forgotten, desired == Desired::Deleted);
    }
}

#[test]
fn a_command_that_ends_takes_its_zone_down_for_good_unless_it_is_to_be_restarted() {
    for restart in [false, true] {
        let mut play = Play::new(restart);
        while play.settle_one() {}
        assert_eq!(play.life.shown(), ZoneState::Running);
        play.happen(Event::Over(None)).unwrap();
        while play.settle_one() {}
        assert_eq!(play.life.desired == Desired::Stopped, !restart);
        assert_eq!(matches!(play.life.state, State::Waiting { .. }), restart);
    }
}

#[test]
fn a_zone_that_cannot_be_started_says_why_and_is_tried_again_ever_more_rarely() {
    let mut play = Play::new(false);
    while play.settle_one() {}
    play.happen(Event::Stop { within_ms: 0 }).unwrap();
    while play.settle_one() {}
    play.luck = false;
    play.happen(Event::Start).unwrap();
    let mut delays = Vec::new();
    for _ in 0..3 {
        while play.settle_one() {}
        let State::Failed { why, retry_ms: Some(at) } = &play.life.state else { panic!() };
        assert!(!why.is_empty());
        delays.push(at - play.now_ms);
        play.now_ms = *at;
        play.happen(Event::Clock).unwrap();
    }
    assert_eq!(delays, [1_000, 2_000, 4_000]);
}

#[test]
fn a_zone_that_does_not_run_cannot_be_paused() {
    let mut play = Play::new(false);
    while play.settle_one() {}
    play.happen(Event::Stop { within_ms: 0 }).unwrap();
    play.settle();
    let refused = play.happen(Event::Pause).unwrap_err();
    assert_eq!(refused.to_string(), "it is installed and not running: start it first");
}
