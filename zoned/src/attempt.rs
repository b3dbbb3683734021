//! The life of an attempt in its zone, as a state machine: `step` decides, the daemon acts.
//!
//! ```text
//!   Starting ──Started──▶ Running ──Over──▶ Reported ──Gone──▶ settled as it was reported
//!      │                     │                  (acknowledged)
//!      │                     ├──Done──▶ settled as it was reported; the zone stays for the next attempt
//!      │                     ├──Gone──▶ settled as out of memory, or lost
//!      └─────────┬───────────┘
//!     Cancel, Overdue, Rubbish, LinkLost ──▶ Killing ──Gone──▶ settled as the reason says, or forgotten
//! ```
//!
//! The end is the end of the zone's first process, which the kernel lets be seen only after every other
//! process of the zone is gone; or, in a zone that stays, that process's word that it is alone.

use wire::task::Ending;
use wire::zone::Outcome;

/// Where an attempt is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The zone is being made.
    Starting,
    /// The tenant's programs run.
    Running,
    /// It is over, and the zone's first process is about to end.
    Reported(Outcome),
    /// It was killed and is about to be gone.
    Killing(Reason),
    /// Nothing is left of it.
    Gone,
}

/// Why an attempt was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Its job was cancelled.
    Cancelled,
    /// The connection it was claimed on has ended: storaged has given it up.
    LinkLost,
    /// The zone did not do what zones do.
    Broken(String),
}

/// What happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its first program runs.
    Started,
    /// zone-init says how it went.
    Over(Outcome),
    /// zone-init says how it went, and its zone is to be kept; with what the kernel knows of how.
    Done(Outcome, Facts),
    /// zone-init has ended, and every process with it; with what the kernel knows of how.
    Gone(Facts),
    /// Its job was cancelled.
    Cancel,
    /// The connection to storaged has ended.
    LinkLost,
    /// It took too long to start, or to end.
    Overdue(&'static str),
    /// Something came from the zone that nothing should have sent.
    Rubbish(String),
}

/// What the kernel knows of an attempt that is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// The zone's memory limit killed (`memory.events`).
    pub out_of_memory: bool,
    /// The output's quota is used up.
    pub out_of_disk: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Tell zone-init that its report has arrived.
    Acknowledge,
    /// Kill everything in the zone.
    Kill,
    /// Clean up and tell storaged.
    Settle(Ending),
    /// Tell storaged, and keep the zone for another attempt.
    Keep(Ending),
    /// Clean up and tell nobody.
    Forget,
}

/// What becomes of an attempt, and what is to be done about it.
#[must_use]
pub fn step(state: &State, event: Event) -> (State, Option<Action>) {
    match (state, event) {
        (State::Starting, Event::Started) => (State::Running, None),
        (State::Starting | State::Running, Event::Over(outcome)) => {
            (State::Reported(outcome), Some(Action::Acknowledge))
        }
        (State::Starting | State::Running, Event::Done(outcome, facts)) => {
            (State::Gone, Some(Action::Keep(ending(&outcome, facts))))
        }
        (State::Starting | State::Running, Event::Gone(facts)) => {
            (State::Gone, Some(Action::Settle(unreported(facts))))
        }
        (State::Reported(outcome), Event::Gone(facts)) => {
            (State::Gone, Some(Action::Settle(ending(outcome, facts))))
        }
        (State::Killing(reason), Event::Gone(facts)) => {
            let action = match reason {
                Reason::LinkLost => Action::Forget,
                Reason::Cancelled => Action::Settle(Ending::Cancelled),
                Reason::Broken(_) if facts.out_of_memory => Action::Settle(Ending::OutOfMemory),
                Reason::Broken(message) => {
                    Action::Settle(Ending::Lost { message: message.clone() })
                }
            };
            (State::Gone, Some(action))
        }
        // Nobody waits for it any more, whatever it was killed for.
        (State::Killing(_), Event::LinkLost) => (State::Killing(Reason::LinkLost), None),
        (State::Starting | State::Running | State::Reported(_), Event::LinkLost) => {
            (State::Killing(Reason::LinkLost), Some(Action::Kill))
        }
        (State::Starting | State::Running, Event::Cancel) => {
            (State::Killing(Reason::Cancelled), Some(Action::Kill))
        }
        (State::Starting | State::Reported(_), Event::Overdue(what)) => {
            (State::Killing(Reason::Broken(what.to_owned())), Some(Action::Kill))
        }
        (State::Starting | State::Running, Event::Rubbish(message)) => {
            (State::Killing(Reason::Broken(message)), Some(Action::Kill))
        }
        (State::Running, Event::Started) => {
            let message = "zone-init started its task twice".to_owned();
            (State::Killing(Reason::Broken(message)), Some(Action::Kill))
        }
        // A running task may take its time, a reported one cannot be cancelled, and from a zone that is
        // being killed anything may come.
        (State::Running, Event::Overdue(_))
        | (
            State::Reported(_),
            Event::Started | Event::Over(_) | Event::Done(..) | Event::Cancel | Event::Rubbish(_),
        )
        | (
            State::Killing(_),
            Event::Started
            | Event::Over(_)
            | Event::Done(..)
            | Event::Cancel
            | Event::Overdue(_)
            | Event::Rubbish(_),
        )
        | (State::Gone, _) => (state.clone(), None),
    }
}

/// How an attempt ended that zone-init reported on.
fn ending(outcome: &Outcome, facts: Facts) -> Ending {
    // A write that was refused may have gone unnoticed by the program, so its exit code says nothing.
    if facts.out_of_disk {
        return Ending::OutOfDisk;
    }
    match outcome {
        Outcome::Exited { code: 0 } => Ending::Exited { code: 0 },
        // A part of it was killed for want of memory, and the rest failed of it.
        Outcome::Exited { .. } | Outcome::Signalled { .. } | Outcome::InitFailed { .. }
            if facts.out_of_memory =>
        {
            Ending::OutOfMemory
        }
        Outcome::Exited { code } => Ending::Exited { code: *code },
        Outcome::Signalled { signal } => Ending::Signalled { signal: *signal },
        Outcome::InitFailed { message } => Ending::InitFailed { message: message.clone() },
        Outcome::Broken { message } => Ending::Lost { message: message.clone() },
    }
}

/// How an attempt ended whose zone went without a word.
fn unreported(facts: Facts) -> Ending {
    if facts.out_of_memory {
        Ending::OutOfMemory
    } else {
        Ending::Lost { message: "the zone ended without a report".to_owned() }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    const QUIET: Facts = Facts { out_of_memory: false, out_of_disk: false };

    fn run(events: Vec<Event>) -> (State, Vec<Action>) {
        let mut state = State::Starting;
        let mut actions = Vec::new();
        for event in events {
            let (next, action) = step(&state, event);
            state = next;
            actions.extend(action);
        }
        (state, actions)
    }

    fn exited(code: u8) -> Event {
        Event::Over(Outcome::Exited { code })
    }

    #[test]
    fn a_task_that_succeeds_is_acknowledged_and_then_settled() {
        let (_, actions) = run(vec![Event::Started, exited(0), Event::Gone(QUIET)]);
        assert_eq!(actions, [Action::Acknowledge, Action::Settle(Ending::Exited { code: 0 })]);
    }

    #[test]
    fn a_zone_killed_whole_for_memory_is_out_of_memory() {
        let facts = Facts { out_of_memory: true, ..QUIET };
        let (_, actions) = run(vec![Event::Started, Event::Gone(facts)]);
        assert_eq!(actions, [Action::Settle(Ending::OutOfMemory)]);
    }

    #[test]
    fn success_with_a_full_disk_is_none() {
        let facts = Facts { out_of_disk: true, ..QUIET };
        let (_, actions) = run(vec![Event::Started, exited(0), Event::Gone(facts)]);
        assert_eq!(actions.last(), Some(&Action::Settle(Ending::OutOfDisk)));
    }

    #[test]
    fn a_cancelled_task_is_killed_and_one_that_is_over_is_not() {
        let (_, actions) = run(vec![Event::Started, Event::Cancel, exited(3), Event::Gone(QUIET)]);
        assert_eq!(actions, [Action::Kill, Action::Settle(Ending::Cancelled)]);
        let (_, actions) = run(vec![Event::Started, exited(3), Event::Cancel, Event::Gone(QUIET)]);
        assert_eq!(actions, [Action::Acknowledge, Action::Settle(Ending::Exited { code: 3 })]);
    }

    #[test]
    fn a_task_whose_zone_stays_is_settled_at_once_and_its_zone_kept() {
        let done = |facts| Event::Done(Outcome::Exited { code: 0 }, facts);
        let (state, actions) = run(vec![Event::Started, done(QUIET), exited(0)]);
        assert_eq!(actions, [Action::Keep(Ending::Exited { code: 0 })]);
        assert_eq!(state, State::Gone);
        let (_, actions) = run(vec![Event::Cancel, done(QUIET), Event::Gone(QUIET)]);
        assert_eq!(actions, [Action::Kill, Action::Settle(Ending::Cancelled)]);
    }

    #[test]
    fn nobody_is_told_of_an_attempt_whose_connection_has_ended() {
        let (_, actions) = run(vec![Event::Cancel, Event::LinkLost, Event::Gone(QUIET)]);
        assert_eq!(actions, [Action::Kill, Action::Forget]);
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let facts = (any::<bool>(), any::<bool>())
            .prop_map(|(out_of_memory, out_of_disk)| Facts { out_of_memory, out_of_disk });
        prop_oneof![
            Just(Event::Started),
            any::<u8>().prop_map(exited),
            Just(Event::Over(Outcome::Broken { message: "x".to_owned() })),
            facts.clone().prop_map(Event::Gone),
            (any::<u8>(), facts)
                .prop_map(|(code, facts)| Event::Done(Outcome::Exited { code }, facts)),
            Just(Event::Cancel),
            Just(Event::LinkLost),
            Just(Event::Overdue("late")),
            Just(Event::Rubbish("odd".to_owned())),
        ]
    }

    proptest! {
        #[test]
        fn every_attempt_is_settled_or_forgotten_exactly_once_when_it_is_gone(
            events in prop::collection::vec(any_event(), 0..30)
        ) {
            let ended = events.iter().any(|event| matches!(event, Event::Gone(_)));
            let (state, actions) = run(events);
            let last = |action: &&Action| {
                matches!(action, Action::Settle(_) | Action::Keep(_) | Action::Forget)
            };
            let gone = state == State::Gone;
            prop_assert!(gone || !ended);
            prop_assert_eq!(actions.iter().filter(last).count(), usize::from(gone));
            prop_assert!(!gone || last(&actions.last().unwrap()));
            prop_assert!(actions.iter().filter(|&action| *action == Action::Kill).count() <= 1);
        }

        #[test]
        fn after_the_connection_has_ended_nothing_is_ever_settled(
            before in prop::collection::vec(any_event(), 0..10),
            after in prop::collection::vec(any_event(), 0..10),
        ) {
            let (state, _) = run(before);
            prop_assume!(state != State::Gone);
            let (mut state, _) = step(&state, Event::LinkLost);
            for event in after {
                let (next, action) = step(&state, event);
                prop_assert!(!matches!(action, Some(Action::Settle(_) | Action::Keep(_))));
                state = next;
            }
        }
    }
}
