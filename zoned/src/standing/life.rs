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
    /// It is being started.
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
    /// Its command runs.
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
    /// what is wanted.
    #[must_use]
    pub fn adopted(desired: Desired, frozen: bool, now_ms: u64) -> (Self, Vec<Action>) {
        let state = if frozen { State::Paused } else { State::Running };
        let life = Self { state, ..Self::recorded(desired, now_ms) };
        let event = match (desired, frozen) {
            (Desired::Running, true) => Event::Resume,
            (Desired::Paused, false) => Event::Pause,
            (Desired::Stopped, _) => {
                Event::Stop { within_ms: u64::from(wire::standing::STOP_S_DEFAULT) * 1000 }
            }
            (Desired::Deleted, _) => Event::Delete,
            (Desired::Running, false) | (Desired::Paused, true) => return (life, Vec::new()),
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

/// What becomes of a zone, and what is to be done; `restart` is its specification's.
///
/// # Errors
/// [`Refused`], for requests of people; nothing changes then.
pub fn step(
    life: &Life,
    restart: bool,
    now_ms: u64,
    event: Event,
) -> Result<(Life, Vec<Action>), Refused> {
    let mut next = life.clone();
    let actions = match event {
        Event::Start | Event::Stop { .. } | Event::Pause | Event::Resume
            if life.desired == Desired::Deleted =>
        {
            return Err(Refused::Deleted);
        }
        Event::Start | Event::Resume if life.closing => return Err(Refused::Closing),
        Event::Start => start(&mut next, now_ms),
        Event::Stop { within_ms } => stop(&mut next, now_ms, within_ms),
        Event::Pause => pause(&mut next, now_ms)?,
        Event::Resume => resume(&mut next, now_ms)?,
        Event::Delete => delete(&mut next, now_ms),
        Event::Close => close(&mut next, now_ms),
        Event::Begin | Event::Made | Event::NotMade(_) => make(&mut next, now_ms, event),
        Event::Started | Event::NotStarted(_) => started(&mut next, now_ms, event),
        Event::Over(_) | Event::Rubbish(_) | Event::Gone(_) => ended(&mut next, now_ms, event),
        Event::Cleared if life.state == State::Down => cleared(&mut next, restart, now_ms),
        Event::Cleared => Vec::new(),
        Event::Clock => clock(&mut next, now_ms),
    };
    Ok((next, actions))
}

fn start(life: &mut Life, now_ms: u64) -> Vec<Action> {
    let actions = match life.state {
        State::Installed | State::Waiting { .. } => {
            life.failures = 0;
            life.to(State::Ready, now_ms, &[Action::Start])
        }
        State::Failed { .. } => {
            life.failures = 0;
            life.to(State::Incomplete, now_ms, &[Action::Make])
        }
        State::Stopping { .. } | State::Ending { .. } | State::Killing | State::Down => {
            life.again = true;
            Vec::new()
        }
        // It runs, or will when it is made.
        _ => Vec::new(),
    };
    if life.desired == Desired::Paused { actions } else { life.want(Desired::Running, actions) }
}

fn stop(life: &mut Life, now_ms: u64, within_ms: u64) -> Vec<Action> {
    let kill_at_ms = now_ms + within_ms;
    life.again = false;
    let actions = match life.state {
        State::Ready | State::Running | State::Paused if within_ms == 0 => {
            life.to(State::Killing, now_ms, &[Action::Kill])
        }
        State::Ready | State::Running => {
            life.to(State::Stopping { kill_at_ms }, now_ms, &[Action::Terminate])
        }
        State::Paused => {
            let actions = [Action::Thaw, Action::Terminate];
            life.to(State::Stopping { kill_at_ms }, now_ms, &actions)
        }
        State::Stopping { kill_at_ms: earlier } => {
            life.state = State::Stopping { kill_at_ms: kill_at_ms.min(earlier) };
            Vec::new()
        }
        State::Waiting { .. } => life.to(State::Installed, now_ms, &[]),
        State::Failed { ref mut retry_ms, .. } => {
            *retry_ms = None;
            Vec::new()
        }
        _ => Vec::new(),
    };
    life.want(Desired::Stopped, actions)
}

fn pause(life: &mut Life, now_ms: u64) -> Result<Vec<Action>, Refused> {
    let actions = match life.state {
        State::Running => life.to(State::Paused, now_ms, &[Action::Freeze]),
        State::Paused => Vec::new(),
        // As soon as it runs.
        State::Ready if life.desired == Desired::Running => Vec::new(),
        _ => return Err(Refused::NotRunning(life.shown())),
    };
    Ok(life.want(Desired::Paused, actions))
}

fn resume(life: &mut Life, now_ms: u64) -> Result<Vec<Action>, Refused> {
    let actions = match life.state {
        State::Paused => life.to(State::Running, now_ms, &[Action::Thaw]),
        State::Running => Vec::new(),
        State::Ready if life.desired != Desired::Stopped => Vec::new(),
        _ => return Err(Refused::NotRunning(life.shown())),
    };
    Ok(life.want(Desired::Running, actions))
}

fn delete(life: &mut Life, now_ms: u64) -> Vec<Action> {
    let actions = match life.state {
        State::Ready | State::Running | State::Paused | State::Stopping { .. } => {
            life.to(State::Killing, now_ms, &[Action::Kill])
        }
        State::Configured
        | State::Incomplete
        | State::Installed
        | State::Waiting { .. }
        | State::Failed { .. } => life.to(State::Deleted, now_ms, &[Action::Forget]),
        State::Ending { .. } | State::Killing | State::Down | State::Deleted => Vec::new(),
    };
    life.want(Desired::Deleted, actions)
}

/// What is wanted stays on record: the zone comes back with the node.
fn close(life: &mut Life, now_ms: u64) -> Vec<Action> {
    life.closing = true;
    let kill_at_ms = now_ms + CLOSING_MS;
    match life.state {
        State::Ready | State::Running => {
            life.to(State::Stopping { kill_at_ms }, now_ms, &[Action::Terminate])
        }
        State::Paused => life.to(State::Killing, now_ms, &[Action::Kill]),
        State::Stopping { kill_at_ms: earlier } => {
            life.state = State::Stopping { kill_at_ms: kill_at_ms.min(earlier) };
            Vec::new()
        }
        State::Waiting { .. } => life.to(State::Installed, now_ms, &[]),
        State::Failed { ref mut retry_ms, .. } => {
            *retry_ms = None;
            Vec::new()
        }
        _ => Vec::new(),
    }
}

fn make(life: &mut Life, now_ms: u64, event: Event) -> Vec<Action> {
    match (&life.state, event) {
        (State::Configured, Event::Begin) if life.desired == Desired::Deleted => {
            life.to(State::Deleted, now_ms, &[Action::Forget])
        }
        (State::Configured, Event::Begin) => life.to(State::Incomplete, now_ms, &[Action::Make]),
        (State::Incomplete, Event::Made) if life.wanted_up() => {
            life.to(State::Ready, now_ms, &[Action::Start])
        }
        (State::Incomplete, Event::Made) => life.to(State::Installed, now_ms, &[]),
        (State::Incomplete, Event::NotMade(why)) => life.fail(why, now_ms),
        _ => Vec::new(),
    }
}

fn started(life: &mut Life, now_ms: u64, event: Event) -> Vec<Action> {
    match (&life.state, event) {
        (State::Ready, Event::Started) if life.desired == Desired::Paused => {
            life.to(State::Paused, now_ms, &[Action::Freeze])
        }
        (State::Ready, Event::Started) => life.to(State::Running, now_ms, &[]),
        // Nothing of it runs: there is nothing to be awaited, whatever it was told meanwhile.
        (State::Ready | State::Stopping { .. } | State::Killing, Event::NotStarted(why)) => {
            match life.desired {
                Desired::Deleted => life.to(State::Deleted, now_ms, &[Action::Forget]),
                Desired::Stopped => life.to(State::Installed, now_ms, &[]),
                Desired::Running | Desired::Paused => life.fail(why, now_ms),
            }
        }
        _ => Vec::new(),
    }
}

fn ended(life: &mut Life, now_ms: u64, event: Event) -> Vec<Action> {
    let kill_at_ms = now_ms + CHANGE_MS;
    if now_ms.saturating_sub(life.since_ms) > STABLE_MS && life.state == State::Running {
        life.failures = 0;
    }
    match (&life.state, event) {
        (
            State::Ready | State::Running | State::Paused | State::Stopping { .. },
            Event::Over(fault),
        ) => {
            life.fault = fault;
            life.to(State::Ending { kill_at_ms }, now_ms, &[Action::Acknowledge])
        }
        (
            State::Ready | State::Running | State::Paused | State::Stopping { .. },
            Event::Rubbish(why),
        ) => {
            life.fault = Some(why);
            life.to(State::Killing, now_ms, &[Action::Kill])
        }
        (
            State::Ready
            | State::Running
            | State::Paused
            | State::Stopping { .. }
            | State::Ending { .. }
            | State::Killing,
            Event::Gone(fault),
        ) => {
            life.fault = life.fault.take().or(fault);
            life.to(State::Down, now_ms, &[Action::Clear])
        }
        _ => Vec::new(),
    }
}

fn cleared(life: &mut Life, restart: bool, now_ms: u64) -> Vec<Action> {
    let fault = life.fault.take();
    let again = std::mem::take(&mut life.again);
    match (life.desired, fault) {
        (Desired::Deleted, _) => life.to(State::Deleted, now_ms, &[Action::Forget]),
        (Desired::Stopped, _) => life.to(State::Installed, now_ms, &[]),
        _ if life.closing => life.to(State::Installed, now_ms, &[]),
        _ if again => life.to(State::Ready, now_ms, &[Action::Start]),
        (Desired::Running | Desired::Paused, _) if restart => {
            let until_ms = now_ms + life.delay_ms();
            life.failures = life.failures.saturating_add(1);
            life.to(State::Waiting { until_ms }, now_ms, &[])
        }
        // Not its own doing: it is tried again.
        (Desired::Running | Desired::Paused, Some(why)) => life.fail(why, now_ms),
        (Desired::Running | Desired::Paused, None) => {
            let actions = life.to(State::Installed, now_ms, &[]);
            life.want(Desired::Stopped, actions)
        }
    }
}

fn clock(life: &mut Life, now_ms: u64) -> Vec<Action> {
    match life.state {
        State::Waiting { until_ms } if now_ms >= until_ms => {
            life.to(State::Ready, now_ms, &[Action::Start])
        }
        State::Failed { retry_ms: Some(at), .. } if now_ms >= at => {
            life.to(State::Incomplete, now_ms, &[Action::Make])
        }
        State::Stopping { kill_at_ms } | State::Ending { kill_at_ms } if now_ms >= kill_at_ms => {
            life.to(State::Killing, now_ms, &[Action::Kill])
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
#[path = "life_test.rs"]
mod test;
