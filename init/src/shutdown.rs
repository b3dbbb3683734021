//! The node's ordered end, decided here and acted out by the supervisor.
//!
//! ```text
//!  Up ──▶ Services(0) ──▶ Services(1) … ──▶ Sweep ──▶ Unmount ──▶ Over
//!         stop a stage,   the next one      kill all  sync and    reboot(2)
//!         then its zones                    others    unmount
//! ```
//!
//! Every phase has a deadline and goes on without what did not end in it: a node that is told to end
//! ends. A second order hurries the phases that are left.

use crate::service::HURRY_MS;
use sys::power::End;
use wire::service::ServiceName;

/// What a stage gets beyond the longest stop timeout in it: the kill of its cgroup takes effect within
/// milliseconds, unless a disk hangs.
pub const STAGE_GRACE_MS: u64 = 3_000;
/// Time for processes that belong to no service, zones above all, to vanish after their kill.
pub const SWEEP_MS: u64 = 5_000;
/// Time to write back what is dirty and to unmount; a slow disk may have much to write.
pub const UNMOUNT_MS: u64 = 60_000;
/// The same, once somebody is in a hurry.
pub const UNMOUNT_HURRY_MS: u64 = 10_000;

/// A stage of the stop: its services and the longest time one of them may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Who ends in it.
    pub services: Vec<ServiceName>,
    /// The longest stop timeout among them.
    pub timeout_ms: u64,
}

/// How far the end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nobody has asked for it.
    Up,
    /// A stage's services are ending.
    Services {
        /// Which stage.
        stage: usize,
        /// When the next one begins, whatever happens.
        deadline_ms: u64,
    },
    /// Whatever else runs is being killed.
    Sweep {
        /// When the next phase begins.
        deadline_ms: u64,
    },
    /// Filesystems are being synced and unmounted.
    Unmount {
        /// When the machine ends without that.
        deadline_ms: u64,
    },
    /// The machine is to end now.
    Over,
}

/// The end of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shutdown {
    /// How far.
    pub phase: Phase,
    /// How the machine ends.
    pub end: End,
    /// Whether somebody asked twice.
    pub hurry: bool,
    /// The stages, first first; set by the first order.
    pub stages: Vec<Stage>,
}

/// What happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody asks for the end; the stages count the first time.
    Ordered(End, Vec<Stage>),
    /// Every service of the stage has ended.
    StageOver,
    /// Nothing but init and the kernel runs.
    Swept,
    /// Filesystems are as good as they get.
    Unmounted,
    /// Time has passed.
    Clock,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask these services to end.
    Stop {
        /// Whom.
        services: Vec<ServiceName>,
        /// Whether somebody is in a hurry.
        hurry: bool,
    },
    /// Kill what these services manage themselves: the zones of zoned.
    KillManaged(Vec<ServiceName>),
    /// Kill everything that is not init.
    Sweep,
    /// Sync and unmount.
    Unmount,
    /// End the machine.
    End(End),
    /// Tell people.
    Say(String),
}

impl Shutdown {
    /// A node that nobody has asked to end.
    #[must_use]
    pub const fn new() -> Self {
        Self { phase: Phase::Up, end: End::Off, hurry: false, stages: Vec::new() }
    }

    /// Whether the end has begun.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        !matches!(self.phase, Phase::Up)
    }

    /// The services of the stage that is ending now.
    #[must_use]
    pub fn stage(&self) -> &[ServiceName] {
        match self.phase {
            Phase::Services { stage, .. } => {
                self.stages.get(stage).map_or(&[], |stage| stage.services.as_slice())
            }
            Phase::Up | Phase::Sweep { .. } | Phase::Unmount { .. } | Phase::Over => &[],
        }
    }

    /// When [`Event::Clock`] will change something.
    #[must_use]
    pub const fn deadline_ms(&self) -> Option<u64> {
        match self.phase {
            Phase::Services { deadline_ms, .. }
            | Phase::Sweep { deadline_ms }
            | Phase::Unmount { deadline_ms } => Some(deadline_ms),
            Phase::Up | Phase::Over => None,
        }
    }

    fn is_late(&self, now_ms: u64) -> bool {
        self.deadline_ms().is_some_and(|deadline_ms| now_ms >= deadline_ms)
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

/// Decides what an event makes of the end. An event that means nothing in its phase changes nothing.
#[must_use]
pub fn step(shutdown: Shutdown, now_ms: u64, event: Event) -> (Shutdown, Vec<Action>) {
    match (shutdown.phase, event) {
        (Phase::Up, Event::Ordered(end, stages)) => {
            let what = match end {
                End::Off => "power off",
                End::Restart => "reboot",
            };
            let say = Action::Say(format!("{what}: stopping all services in order"));
            let (shutdown, mut actions) =
                enter_stage(Shutdown { end, stages, ..shutdown }, 0, now_ms);
            actions.insert(0, say);
            (shutdown, actions)
        }
        (_, Event::Ordered(end, _)) => hurry(shutdown, end, now_ms),
        (Phase::Services { stage, .. }, Event::StageOver) => leave_stage(shutdown, stage, now_ms),
        (Phase::Services { stage, .. }, Event::Clock) if shutdown.is_late(now_ms) => {
            let late: Vec<_> = shutdown.stage().iter().map(ToString::to_string).collect();
            let say = format!("gave up waiting for {} to end", late.join(", "));
            let (shutdown, mut actions) = leave_stage(shutdown, stage, now_ms);
            actions.insert(0, Action::Say(say));
            (shutdown, actions)
        }
        (Phase::Sweep { .. }, Event::Swept) => {
            let say = Action::Say("all services stopped".to_owned());
            unmount(shutdown, now_ms, say)
        }
        (Phase::Sweep { .. }, Event::Clock) if shutdown.is_late(now_ms) => {
            let say = Action::Say("some processes do not die; going on without them".to_owned());
            unmount(shutdown, now_ms, say)
        }
        (Phase::Unmount { .. }, Event::Unmounted) => over(shutdown, vec![]),
        (Phase::Unmount { .. }, Event::Clock) if shutdown.is_late(now_ms) => {
            let say = "the data disk takes too long to sync and unmount; ending without".to_owned();
            over(shutdown, vec![Action::Say(say)])
        }
        (_, Event::StageOver | Event::Swept | Event::Unmounted | Event::Clock) => {
            (shutdown, vec![])
        }
    }
}

fn enter_stage(shutdown: Shutdown, stage: usize, now_ms: u64) -> (Shutdown, Vec<Action>) {
    let hurry = shutdown.hurry;
    let Some(next) = shutdown.stages.get(stage) else {
        let phase = Phase::Sweep { deadline_ms: now_ms + SWEEP_MS };
        return (Shutdown { phase, ..shutdown }, vec![Action::Sweep]);
    };
    let timeout_ms = if hurry { next.timeout_ms.min(HURRY_MS) } else { next.timeout_ms };
    let phase = Phase::Services { stage, deadline_ms: now_ms + timeout_ms + STAGE_GRACE_MS };
    let stop = Action::Stop { services: next.services.clone(), hurry };
    (Shutdown { phase, ..shutdown }, vec![stop])
}

fn leave_stage(shutdown: Shutdown, stage: usize, now_ms: u64) -> (Shutdown, Vec<Action>) {
    let managed = Action::KillManaged(shutdown.stage().to_vec());
    let (shutdown, mut actions) = enter_stage(shutdown, stage + 1, now_ms);
    actions.insert(0, managed);
    (shutdown, actions)
}

fn hurry(shutdown: Shutdown, end: End, now_ms: u64) -> (Shutdown, Vec<Action>) {
    let sooner = |deadline_ms: u64, within_ms: u64| deadline_ms.min(now_ms + within_ms);
    let (phase, stop) = match shutdown.phase {
        Phase::Services { stage, deadline_ms } => {
            let deadline_ms = sooner(deadline_ms, HURRY_MS + STAGE_GRACE_MS);
            let services = shutdown.stage().to_vec();
            let stop = Action::Stop { services, hurry: true };
            (Phase::Services { stage, deadline_ms }, Some(stop))
        }
        Phase::Unmount { deadline_ms } => {
            (Phase::Unmount { deadline_ms: sooner(deadline_ms, UNMOUNT_HURRY_MS) }, None)
        }
        phase @ (Phase::Up | Phase::Sweep { .. } | Phase::Over) => (phase, None),
    };
    let mut actions = vec![Action::Say("asked again: hurrying".to_owned())];
    actions.extend(stop);
    (Shutdown { phase, end, hurry: true, ..shutdown }, actions)
}

fn unmount(shutdown: Shutdown, now_ms: u64, say: Action) -> (Shutdown, Vec<Action>) {
    let within_ms = if shutdown.hurry { UNMOUNT_HURRY_MS } else { UNMOUNT_MS };
    let phase = Phase::Unmount { deadline_ms: now_ms + within_ms };
    (Shutdown { phase, ..shutdown }, vec![say, Action::Unmount])
}

fn over(shutdown: Shutdown, mut actions: Vec<Action>) -> (Shutdown, Vec<Action>) {
    actions.push(Action::End(shutdown.end));
    (Shutdown { phase: Phase::Over, ..shutdown }, actions)
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> ServiceName {
        ServiceName::try_from(text.to_owned()).unwrap()
    }

    fn stages() -> Vec<Stage> {
        vec![
            Stage { services: vec![name("zoned")], timeout_ms: 10_000 },
            Stage { services: vec![name("storaged")], timeout_ms: 30_000 },
        ]
    }

    fn ordered() -> Event {
        Event::Ordered(End::Off, stages())
    }

    fn run(events: &[(u64, Event)]) -> (Shutdown, Vec<Action>) {
        let mut all = Vec::new();
        let mut shutdown = Shutdown::new();
        for (now_ms, event) in events {
            let (next, actions) = step(shutdown, *now_ms, event.clone());
            shutdown = next;
            all.extend(actions.into_iter().filter(|action| !matches!(action, Action::Say(_))));
        }
        (shutdown, all)
    }

    #[test]
    fn all_goes_in_order_when_all_goes_well() {
        let (shutdown, actions) = run(&[
            (0, ordered()),
            (1, Event::StageOver),
            (2, Event::StageOver),
            (3, Event::Swept),
            (4, Event::Unmounted),
        ]);
        let expected = [
            Action::Stop { services: vec![name("zoned")], hurry: false },
            Action::KillManaged(vec![name("zoned")]),
            Action::Stop { services: vec![name("storaged")], hurry: false },
            Action::KillManaged(vec![name("storaged")]),
            Action::Sweep,
            Action::Unmount,
            Action::End(End::Off),
        ];
        assert_eq!(actions, expected);
        assert_eq!(shutdown.phase, Phase::Over);
    }

    #[test]
    fn a_second_order_shortens_the_deadline_and_may_change_the_end() {
        let (shutdown, _) = run(&[(0, ordered()), (100, Event::Ordered(End::Restart, vec![]))]);
        assert_eq!(shutdown.deadline_ms(), Some(100 + HURRY_MS + STAGE_GRACE_MS));
        assert_eq!((shutdown.end, shutdown.stages.len()), (End::Restart, 2));
    }

    #[test]
    fn a_node_without_services_ends_too() {
        let (shutdown, actions) = run(&[(0, Event::Ordered(End::Off, vec![]))]);
        assert_eq!(actions, [Action::Sweep]);
        assert!(matches!(shutdown.phase, Phase::Sweep { .. }));
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(ordered()),
            Just(Event::StageOver),
            Just(Event::Swept),
            Just(Event::Unmounted),
            Just(Event::Clock),
        ]
    }

    proptest! {
        #[test]
        fn the_machine_ends_once_and_only_after_an_unmount_was_tried(
            story in proptest::collection::vec((any_event(), 0..90_000_u64), 0..60),
        ) {
            let mut now_ms = 0;
            let mut story: Vec<_> = story
                .into_iter()
                .map(|(event, passed)| {
                    now_ms += passed;
                    (now_ms, event)
                })
                .collect();
            let begun = story.iter().any(|(_, event)| matches!(event, Event::Ordered(..)));
            // Time alone ends what has begun: two stages, sweep, unmount.
            for _ in 0..4 {
                now_ms += 100_000;
                story.push((now_ms, Event::Clock));
            }
            let (_, actions) = run(&story);
            let ends = actions.iter().filter(|action| matches!(action, Action::End(_))).count();
            prop_assert_eq!(ends, usize::from(begun));
            let place = |what: fn(&Action) -> bool| actions.iter().position(what);
            let unmount = place(|action| matches!(action, Action::Unmount));
            let end = place(|action| matches!(action, Action::End(_)));
            prop_assert!(!begun || unmount < end);
        }
    }
}
