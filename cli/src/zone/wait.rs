//! Waiting until a zone is where it was sent: zoned answers when it has begun.

use super::view;
use crate::admin::Admin;
use crate::failure::{Exit, Failure};
use crate::output::Screen;
use std::time::{Duration, Instant};
use wire::standing::{STOP_S_MAX, ZoneName, ZoneState, ZoneView};

/// The first wait between two looks: most zones are there by then.
const LOOK_FIRST: Duration = Duration::from_millis(30);
/// The longest wait between two looks.
const LOOK_MAX: Duration = Duration::from_millis(500);
/// How long a zone may take beyond the time that its command is given to end: an image may have to be
/// read first, and output to be sealed.
const GRACE: Duration = Duration::from_secs(120);
/// A zone is installed for a moment before it runs, and for good when its command has ended.
const MOMENT_MS: u64 = 1_500;

/// What a look has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is there.
    There,
    /// It is on its way.
    OnItsWay,
    /// It is where it stays, and that is somewhere else.
    Elsewhere,
}

/// Whether it is in this state.
pub fn is(view: &ZoneView, wanted: ZoneState) -> Found {
    match view.summary.state {
        state if state == wanted => Found::There,
        ZoneState::Failed => Found::Elsewhere,
        ZoneState::Installed if view.summary.state_ms > MOMENT_MS => Found::Elsewhere,
        _ => Found::OnItsWay,
    }
}

/// Whether it runs, or has run already to its command's end.
pub fn started(view: &ZoneView) -> Found {
    match view.summary.state {
        ZoneState::Running | ZoneState::Paused => Found::There,
        ZoneState::Failed => Found::Elsewhere,
        ZoneState::Installed if view.summary.state_ms > MOMENT_MS => match view.last_outcome {
            Some(_) => Found::There,
            None => Found::Elsewhere,
        },
        ZoneState::Configured
        | ZoneState::Incomplete
        | ZoneState::Installed
        | ZoneState::Ready
        | ZoneState::ShuttingDown
        | ZoneState::Down => Found::OnItsWay,
    }
}

/// Whether nothing of it runs any more.
pub fn stopped(view: &ZoneView) -> Found {
    match view.summary.state {
        ZoneState::Configured | ZoneState::Installed | ZoneState::Failed => Found::There,
        ZoneState::Incomplete
        | ZoneState::Ready
        | ZoneState::Running
        | ZoneState::Paused
        | ZoneState::ShuttingDown
        | ZoneState::Down => Found::OnItsWay,
    }
}

/// Looks until it is there.
pub fn until(
    admin: &Admin<'_>,
    screen: &Screen,
    mut now: ZoneView,
    done: fn(&ZoneView) -> Found,
) -> Result<ZoneView, Failure> {
    let zone = now.summary.name.clone();
    let bar = screen.spinner(zone.as_str());
    let most = Duration::from_secs(STOP_S_MAX.into()) + GRACE;
    let (begun, mut pause) = (Instant::now(), LOOK_FIRST);
    let word = |view: &ZoneView| view.summary.state.word();
    let outcome = loop {
        match done(&now) {
            Found::There => break Ok(now),
            Found::Elsewhere => {
                break Err(Failure::Zone(format!(
                    "{zone} is {}: `mobula zone why {zone}` says more",
                    word(&now)
                )));
            }
            Found::OnItsWay if begun.elapsed() > most => {
                break Err(Failure::Zone(format!(
                    "{zone} is still {} after {} s: `mobula zone why {zone}` may say more",
                    word(&now),
                    most.as_secs()
                )));
            }
            Found::OnItsWay => {}
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LOOK_MAX);
        now = match view(admin, &zone) {
            Ok(now) => now,
            Err(failure) => break Err(failure),
        };
        bar.set_message(format!("{zone} is {}", word(&now)));
    };
    bar.finish_and_clear();
    outcome
}

/// Looks until there is none of this name.
pub fn gone(admin: &Admin<'_>, zone: &ZoneName) -> Result<(), Failure> {
    let (begun, mut pause) = (Instant::now(), LOOK_FIRST);
    loop {
        match view(admin, zone) {
            Err(failure) if failure.exit() == Exit::NotFound => return Ok(()),
            Err(failure) => return Err(failure),
            Ok(now) if begun.elapsed() > GRACE => {
                return Err(Failure::Zone(format!(
                    "{zone} is still {} after {} s: `mobula zone why {zone}` may say more",
                    now.summary.state.word(),
                    GRACE.as_secs()
                )));
            }
            Ok(_) => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(LOOK_MAX);
    }
}
