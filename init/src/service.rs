//! The life of one service, decided here and acted out by the supervisor: no clock is read, nothing is
//! started or killed in this file.
//!
//! ```text
//!            Released              Ready (or Started)
//!  Waiting ───────────▶ Starting ───────────────────▶ Ready
//!     ▲                    │ too late                   │
//!     │ delay over         ▼          ended by itself   │
//!     ├──── BackOff ◀── Killed ◀── Stopping ◀── Stop ───┤
//!     │                    │           │                │
//!     └──── Degraded ◀─────┴───────────┴────────────────┘
//!           (failed too often)     Stopped: ended, and to stay so
//! ```
//!
//! A service is never given up: one that fails too often is started again at long intervals, so that a
//! node mends itself when the cause goes, and never reboots over it.

use sys::process::Exit;
use wire::node::ServiceState;
use wire::service::{Readiness, Restart, ServiceSpec};

/// The first delay before a service that failed is started again.
pub const BACK_OFF_MS_MIN: u64 = 200;
/// The longest delay while failures count as accidents.
pub const BACK_OFF_MS_MAX: u64 = 30_000;
/// Failures in a row, with no stable time between, that make a service degraded.
pub const FAILURES_MAX: u32 = 10;
/// The delay between attempts at a degraded service: rare enough to cost nothing, often enough to mend
/// before a person has come.
pub const DEGRADED_MS: u64 = 5 * 60_000;
/// Ready for so long, a service has proven stable: its earlier failures are forgotten.
pub const STABLE_MS: u64 = 30_000;
/// Time to end once somebody is in a hurry.
pub const HURRY_MS: u64 = 2_000;
/// Delays differ by up to this part of themselves, so that services that failed together don't come back
/// together.
const JITTER_PERCENT: u64 = 20;

/// What of a service's file decides about its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    readiness: Readiness,
    restart: Restart,
    ready_timeout_ms: Option<u64>,
    stop_timeout_ms: u64,
}

impl Policy {
    /// Takes it from the file.
    #[must_use]
    pub fn of(spec: &ServiceSpec) -> Self {
        let ready_timeout_ms =
            (spec.ready_timeout_s > 0).then(|| u64::from(spec.ready_timeout_s) * 1000);
        Self {
            readiness: spec.readiness,
            restart: spec.restart,
            ready_timeout_ms,
            stop_timeout_ms: u64::from(spec.stop_timeout_s) * 1000,
        }
    }

    /// How long an ordered stop may take before it is forced.
    #[must_use]
    pub const fn stop_timeout_ms(&self) -> u64 {
        self.stop_timeout_ms
    }
}

/// What follows when a process that was told to end has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It stays ended.
    Stay,
    /// It was to be started again.
    Again,
    /// It had failed to become ready.
    Fail,
}

/// Where a service is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Waits for the services it comes after.
    Waiting,
    /// Its process runs and is not ready.
    Starting {
        /// When it must be ready.
        deadline_ms: Option<u64>,
    },
    /// Its process runs and is ready.
    Ready,
    /// Failed; starts again.
    BackOff {
        /// When.
        until_ms: u64,
    },
    /// Failed too often; starts again.
    Degraded {
        /// When.
        until_ms: u64,
    },
    /// Was asked to end.
    Stopping {
        /// When it is killed.
        kill_at_ms: u64,
        /// What follows.
        next: Next,
    },
    /// Its cgroup was killed and its end is awaited.
    Killed {
        /// What follows.
        next: Next,
    },
    /// Has ended and stays so.
    Stopped,
}

/// A service's life so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Where it is.
    pub state: State,
    /// Since when, in milliseconds since boot.
    pub since_ms: u64,
    /// Failures in a row.
    pub failures: u32,
    /// How often it was started again after a failure.
    pub restarts: u64,
    /// Why it is in this state, for people.
    pub reason: String,
}

/// What happens to a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// All services it comes after are ready.
    Released,
    /// Its process was made.
    Started,
    /// Its process could not be made.
    NotStarted(String),
    /// It says that it is ready.
    Ready,
    /// Its process has ended; with what it could not do if its program never ran.
    Ended(Exit, Option<String>),
    /// Time has passed.
    Clock,
    /// It is to end and to stay so; in a hurry within [`HURRY_MS`].
    Stop {
        /// Whether somebody is in a hurry.
        hurry: bool,
    },
    /// It is to end and to start again.
    Restart,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make its process; tell by [`Event::Started`] or [`Event::NotStarted`].
    Spawn,
    /// Send its process SIGTERM.
    Terminate,
    /// Kill all that is in its cgroup.
    Kill,
    /// Tell people.
    Say(String),
}

/// The time, and a number nobody can foresee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since boot.
    pub now_ms: u64,
    /// Any number.
    pub random: u64,
}

impl Service {
    /// A service that was never started.
    #[must_use]
    pub const fn new(now_ms: u64) -> Self {
        Self {
            state: State::Waiting,
            since_ms: now_ms,
            failures: 0,
            restarts: 0,
            reason: String::new(),
        }
    }

    /// Its state as people and programs see it.
    #[must_use]
    pub const fn shown(&self) -> ServiceState {
        match self.state {
            State::Waiting => ServiceState::Waiting,
            State::Starting { .. } => ServiceState::Starting,
            State::Ready => ServiceState::Ready,
            State::BackOff { .. } => ServiceState::BackOff,
            State::Degraded { .. } => ServiceState::Degraded,
            State::Stopping { .. } | State::Killed { .. } => ServiceState::Stopping,
            State::Stopped => ServiceState::Stopped,
        }
    }

    /// Whether it has a process.
    #[must_use]
    pub const fn runs(&self) -> bool {
        matches!(
            self.state,
            State::Starting { .. } | State::Ready | State::Stopping { .. } | State::Killed { .. }
        )
    }

    /// When [`Event::Clock`] will change something.
    #[must_use]
    pub const fn deadline_ms(&self) -> Option<u64> {
        match self.state {
            State::Starting { deadline_ms } => deadline_ms,
            State::BackOff { until_ms } | State::Degraded { until_ms } => Some(until_ms),
            State::Stopping { kill_at_ms, .. } => Some(kill_at_ms),
            State::Waiting | State::Ready | State::Killed { .. } | State::Stopped => None,
        }
    }

    fn to(self, state: State, now_ms: u64, reason: impl Into<String>) -> Self {
        Self { state, since_ms: now_ms, reason: reason.into(), ..self }
    }

    fn with(self, actions: Vec<Action>) -> (Self, Vec<Action>) {
        (self, actions)
    }
}

/// Decides what an event makes of a service. An event that means nothing in its state changes nothing.
#[must_use]
pub fn step(
    service: Service,
    policy: &Policy,
    moment: Moment,
    event: Event,
) -> (Service, Vec<Action>) {
    let now_ms = moment.now_ms;
    match (service.state, event) {
        (State::Waiting, Event::Released) => {
            let deadline_ms = policy.ready_timeout_ms.map(|ms| now_ms + ms);
            service.to(State::Starting { deadline_ms }, now_ms, "").with(vec![Action::Spawn])
        }
        (State::Starting { .. }, Event::Started) => match policy.readiness {
            Readiness::Started => became_ready(service, now_ms),
            Readiness::Notify => service.with(vec![]),
        },
        (State::Starting { .. }, Event::NotStarted(why)) => fail(service, moment, &why),
        (State::Starting { .. }, Event::Ready) => became_ready(service, now_ms),
        (State::Starting { .. } | State::Ready, Event::Ended(exit, why)) => {
            ended(service, policy, moment, exit, why)
        }
        (State::Starting { deadline_ms: Some(deadline) }, Event::Clock) if now_ms >= deadline => {
            let why = format!("was not ready in {} s", (now_ms - service.since_ms) / 1000);
            service.to(State::Killed { next: Next::Fail }, now_ms, why).with(vec![Action::Kill])
        }
        (State::BackOff { until_ms } | State::Degraded { until_ms }, Event::Clock)
            if now_ms >= until_ms =>
        {
            let reason = service.reason.clone();
            let restarts = service.restarts + 1;
            Service { restarts, ..service.to(State::Waiting, now_ms, reason) }.with(vec![])
        }
        (State::Stopping { kill_at_ms, next }, Event::Clock) if now_ms >= kill_at_ms => {
            let say = Action::Say("did not stop in time and is killed".to_owned());
            let killed = service.to(State::Killed { next }, now_ms, "did not stop in time");
            killed.with(vec![say, Action::Kill])
        }
        (State::Stopping { next, .. } | State::Killed { next }, Event::Ended(exit, _)) => {
            told_to_end(service, next, moment, exit)
        }
        (_, Event::Stop { hurry }) => stop(service, policy, now_ms, hurry),
        (_, Event::Restart) => restart(service, policy, now_ms),
        (
            _,
            Event::Released
            | Event::Started
            | Event::NotStarted(_)
            | Event::Ready
            | Event::Ended(..)
            | Event::Clock,
        ) => service.with(vec![]),
    }
}

fn became_ready(service: Service, now_ms: u64) -> (Service, Vec<Action>) {
    let say = if service.restarts > 0 { "is ready again" } else { "is ready" };
    service.to(State::Ready, now_ms, "").with(vec![Action::Say(say.to_owned())])
}

fn ended(
    service: Service,
    policy: &Policy,
    moment: Moment,
    exit: Exit,
    why: Option<String>,
) -> (Service, Vec<Action>) {
    let well = exit == Exit::Code(0);
    let done = match policy.restart {
        Restart::Always => false,
        Restart::OnFailure => well,
        Restart::Never => true,
    };
    let why = why.unwrap_or_else(|| exit.to_string());
    if done {
        let say = Action::Say(format!("{why} and stays ended"));
        return service.to(State::Stopped, moment.now_ms, why).with(vec![Action::Kill, say]);
    }
    let stable = service.state == State::Ready
        && moment.now_ms.saturating_sub(service.since_ms) >= STABLE_MS;
    let failures = if stable { 0 } else { service.failures };
    let (service, mut actions) = fail(Service { failures, ..service }, moment, &why);
    // What it left behind must not meet its next incarnation.
    actions.insert(0, Action::Kill);
    (service, actions)
}

fn told_to_end(service: Service, next: Next, moment: Moment, exit: Exit) -> (Service, Vec<Action>) {
    match next {
        Next::Stay => {
            service.to(State::Stopped, moment.now_ms, exit.to_string()).with(vec![Action::Kill])
        }
        Next::Again => {
            let again = service.to(State::Waiting, moment.now_ms, "restarted on request");
            Service { failures: 0, ..again }.with(vec![Action::Kill])
        }
        Next::Fail => {
            let why = service.reason.clone();
            let (service, mut actions) = fail(service, moment, &why);
            actions.insert(0, Action::Kill);
            (service, actions)
        }
    }
}

fn fail(service: Service, moment: Moment, why: &str) -> (Service, Vec<Action>) {
    let failures = service.failures.saturating_add(1);
    let service = Service { failures, ..service };
    if failures >= FAILURES_MAX {
        let until_ms = moment.now_ms + jittered(DEGRADED_MS, moment.random);
        let say = format!(
            "has failed {failures} times and is degraded: {why}. Its last lines say more; the node stays \
             up and tries again every {} minutes",
            DEGRADED_MS / 60_000
        );
        let degraded = service.to(State::Degraded { until_ms }, moment.now_ms, why);
        return degraded.with(vec![Action::Say(say)]);
    }
    let doublings = failures.saturating_sub(1).min(20);
    let delay = jittered((BACK_OFF_MS_MIN << doublings).min(BACK_OFF_MS_MAX), moment.random);
    let say = Action::Say(format!("{why}; starts again in {delay} ms"));
    let until_ms = moment.now_ms + delay;
    service.to(State::BackOff { until_ms }, moment.now_ms, why).with(vec![say])
}

fn jittered(delay_ms: u64, random: u64) -> u64 {
    let spread = delay_ms * JITTER_PERCENT / 100;
    delay_ms - spread + random % (2 * spread + 1)
}

fn stop(service: Service, policy: &Policy, now_ms: u64, hurry: bool) -> (Service, Vec<Action>) {
    let within = if hurry { policy.stop_timeout_ms.min(HURRY_MS) } else { policy.stop_timeout_ms };
    let kill_at_ms = now_ms + within;
    match service.state {
        State::Starting { .. } | State::Ready => {
            let state = State::Stopping { kill_at_ms, next: Next::Stay };
            service.to(state, now_ms, "asked to end").with(vec![Action::Terminate])
        }
        State::Stopping { kill_at_ms: earlier, .. } => {
            let state = State::Stopping { kill_at_ms: kill_at_ms.min(earlier), next: Next::Stay };
            Service { state, ..service }.with(vec![])
        }
        State::Killed { .. } => {
            Service { state: State::Killed { next: Next::Stay }, ..service }.with(vec![])
        }
        State::Waiting | State::BackOff { .. } | State::Degraded { .. } => {
            service.to(State::Stopped, now_ms, "not started").with(vec![])
        }
        State::Stopped => service.with(vec![]),
    }
}

fn restart(service: Service, policy: &Policy, now_ms: u64) -> (Service, Vec<Action>) {
    match service.state {
        State::Starting { .. } | State::Ready => {
            let kill_at_ms = now_ms + policy.stop_timeout_ms;
            let state = State::Stopping { kill_at_ms, next: Next::Again };
            service.to(state, now_ms, "restarted on request").with(vec![Action::Terminate])
        }
        State::BackOff { .. } | State::Degraded { .. } | State::Stopped => {
            let again = service.to(State::Waiting, now_ms, "restarted on request");
            Service { failures: 0, ..again }.with(vec![])
        }
        State::Waiting | State::Stopping { .. } | State::Killed { .. } => service.with(vec![]),
    }
}

#[cfg(test)]
#[path = "service_test.rs"]
mod test;
