//! The life of a standing zone, as a state machine: [`step`] decides, the daemon acts.
//!
//! ```text
//!  Configured ─Begin▶ Incomplete ─Made▶ Installed ─Start▶ Ready ─Started▶ Running ◀─Pause, Resume─▶ Paused
//!                        │  NotMade        ▲                │ NotStarted     │ Stop, or its command ended
//!                        ▼                 │                ▼                ▼
//!                      Failed ◀────────────┤              Failed          Stopping ─Clock▶ Killing
//!                        └─after a while───┘                                 └──────Gone─────┤
//!                                          └────────────Cleared── Down ◀────────────────────┘
//! ```
//!
//! What a person wants ([`Desired`]) and where the zone is ([`State`]) are two things: the first is on disk
//! before anything follows from it, the second is found out again by whoever starts. Every event is taken
//! in every state; what makes no sense there changes nothing, and a request that can't be met is refused.

mod step;

pub use self::step::step;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use wire::standing::ZoneState;

/// The first delay before a zone that failed or went down by itself is started again, and the last.
const DELAY_MS_MIN: u64 = 1_000;
const DELAY_MS_MAX: u64 = 300_000;
/// Up for so long, earlier failures are forgotten.
const STABLE_MS: u64 = 60_000;
/// How long a zone may take to run its command, to end when nothing holds it, to be gone when killed.
const CHANGE_MS: u64 = 60_000;
/// The time that commands get when the node itself ends.
const CLOSING_MS: u64 = 5_000;

/// What is wanted of a zone. It is part of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// To run.
    Running,
    /// To have its processes frozen.
    Paused,
    /// Not to run.
    Stopped,
    /// Not to be.
    Deleted,
}

/// Where a zone is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// On record, and nothing else.
    Configured,
    /// Its files are being made.
    Incomplete,
    /// It has all it needs and does not run.
    Installed,
    /// It does not run, and is started again.
    Waiting {
        /// When.
        until_ms: u64,
    },
    /// It is being started, or was found alive and has not said that it runs.
    Ready,
    /// It runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its command was told to end.
    Stopping {
        /// When all is killed.
        kill_at_ms: u64,
    },
    /// Its first process has said how it went, and is about to end.
    Ending {
        /// When it is killed.
        kill_at_ms: u64,
    },
    /// All its processes were killed, and are about to be gone.
    Killing,
    /// Its processes are gone; what they leave is being cleared.
    Down,
    /// It could not be made, or started, or kept.
    Failed {
        /// Why.
        why: String,
        /// When it is tried again, if it is.
        retry_ms: Option<u64>,
    },
    /// Nothing is left of it.
    Deleted,
}

/// A zone's life so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Where it is.
    pub state: State,
    /// Since when, in milliseconds of the daemon's clock.
    pub since_ms: u64,
    /// What is wanted of it.
    pub desired: Desired,
    /// How often in a row it failed, or went down by itself.
    failures: u32,
    /// Why it is about to be down, if that is a failure.
    fault: Option<String>,
    /// A person wants it to run again while it is on its way down.
    again: bool,
    /// The node ends: nothing is started any more.
    closing: bool,
}

/// What happens to a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is on record: go on from there.
    Begin,
    /// Its files are there.
    Made,
    /// They are not.
    NotMade(String),
    /// Its command runs, as its first process says.
    Started,
    /// It could not be started, and nothing of it runs.
    NotStarted(String),
    /// A person wants it to run.
    Start,
    /// A person wants it to end within this time.
    Stop {
        /// Milliseconds.
        within_ms: u64,
    },
    /// A person wants it frozen.
    Pause,
    /// A person wants it to go on.
    Resume,
    /// A person wants it gone.
    Delete,
    /// The node ends.
    Close,
    /// Its first process says that all is over; why, if it should not be.
    Over(Option<String>),
    /// Its first process said what makes no sense.
    Rubbish(String),
    /// Its processes are gone; why, if that is known to be a failure.
    Gone(Option<String>),
    /// What they left is cleared.
    Cleared,
    /// Time has passed.
    Clock,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Write its record: what is wanted has changed.
    Record,
    /// Make its files; answered by [`Event::Made`] or [`Event::NotMade`].
    Make,
    /// Start it; answered by [`Event::Started`] or [`Event::NotStarted`].
    Start,
    /// Tell its first process that its report has arrived.
    Acknowledge,
    /// Tell its command to end.
    Terminate,
    /// Freeze its processes.
    Freeze,
    /// Let them go on.
    Thaw,
    /// Kill them.
    Kill,
    /// Clear what they left; answered by [`Event::Cleared`].
    Clear,
    /// Remove its files and forget it.
    Forget,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// It does not run.
    #[error("it is {} and not running: start it first", .0.word())]
    NotRunning(ZoneState),
    /// It is on its way out.
    #[error("it is being deleted")]
    Deleted,
    /// The node ends.
    #[error("the node is shutting down")]
    Closing,
}

impl Life {
    /// The life of a zone of which only its record is known.
    #[must_use]
    pub const fn recorded(desired: Desired, now_ms: u64) -> Self {
        Self {
            state: State::Configured,
            since_ms: now_ms,
            desired,
            failures: 0,
            fault: None,
            again: false,
            closing: false,
        }
    }

    /// The life of a zone whose processes were found alive, and what is to be done so that it becomes
    /// what is wanted. An earlier zoned may have ended before the zone had its plan, so it does not run until its
    /// first process says so; one that was frozen did.
    #[must_use]
    pub fn adopted(desired: Desired, frozen: bool, now_ms: u64) -> (Self, Vec<Action>) {
        let state = if frozen { State::Paused } else { State::Ready };
        let life = Self { state, ..Self::recorded(desired, now_ms) };
        let event = match (desired, frozen) {
            (Desired::Running, true) => Event::Resume,
            (Desired::Stopped, _) => {
                Event::Stop { within_ms: u64::from(wire::standing::STOP_S_DEFAULT) * 1000 }
            }
            (Desired::Deleted, _) => Event::Delete,
            (Desired::Running, false) | (Desired::Paused, _) => return (life, Vec::new()),
        };
        let (mut next, mut actions) = (life.clone(), Vec::new());
        if desired == Desired::Deleted {
            actions.extend(next.to(State::Killing, now_ms, &[Action::Kill]));
        } else if let Ok((after, todo)) = step(&life, false, now_ms, event) {
            (next, actions) = (after, todo);
        }
        (next, actions)
    }

    /// Its state, for people.
    #[must_use]
    pub const fn shown(&self) -> ZoneState {
        match self.state {
            State::Configured => ZoneState::Configured,
            State::Incomplete => ZoneState::Incomplete,
            State::Installed | State::Waiting { .. } => ZoneState::Installed,
            State::Ready => ZoneState::Ready,
            State::Running => ZoneState::Running,
            State::Paused => ZoneState::Paused,
            State::Stopping { .. } | State::Ending { .. } | State::Killing => {
                ZoneState::ShuttingDown
            }
            State::Down | State::Deleted => ZoneState::Down,
            State::Failed { .. } => ZoneState::Failed,
        }
    }

    /// Whether it has processes, or may have.
    #[must_use]
    pub const fn runs(&self) -> bool {
        matches!(
            self.state,
            State::Ready
                | State::Running
                | State::Paused
                | State::Stopping { .. }
                | State::Ending { .. }
                | State::Killing
        )
    }

    /// When [`Event::Clock`] changes something.
    #[must_use]
    pub const fn deadline_ms(&self) -> Option<u64> {
        match self.state {
            State::Waiting { until_ms } => Some(until_ms),
            State::Stopping { kill_at_ms } | State::Ending { kill_at_ms } => Some(kill_at_ms),
            State::Failed { retry_ms, .. } => retry_ms,
            State::Configured
            | State::Incomplete
            | State::Installed
            | State::Ready
            | State::Running
            | State::Paused
            | State::Killing
            | State::Down
            | State::Deleted => None,
        }
    }

    fn to(&mut self, state: State, now_ms: u64, actions: &[Action]) -> Vec<Action> {
        self.state = state;
        self.since_ms = now_ms;
        actions.to_vec()
    }

    /// Wants something else from now on; the record comes first of all.
    fn want(&mut self, desired: Desired, mut actions: Vec<Action>) -> Vec<Action> {
        if self.desired != desired {
            self.desired = desired;
            actions.insert(0, Action::Record);
        }
        actions
    }

    const fn wanted_up(&self) -> bool {
        matches!(self.desired, Desired::Running | Desired::Paused) && !self.closing
    }

    const fn delay_ms(&self) -> u64 {
        let doublings = if self.failures > 20 { 20 } else { self.failures };
        let delay = DELAY_MS_MIN << doublings;
        if delay > DELAY_MS_MAX { DELAY_MS_MAX } else { delay }
    }

    fn fail(&mut self, why: String, now_ms: u64) -> Vec<Action> {
        let retry_ms = self.wanted_up().then(|| now_ms + self.delay_ms());
        self.failures = self.failures.saturating_add(1);
        self.to(State::Failed { why, retry_ms }, now_ms, &[])
    }
}

#[cfg(test)]
mod test;
