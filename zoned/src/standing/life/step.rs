//! What each event makes of a zone in each state: the decisions of [`super`], one function a kind of event.

use super::{Action, CHANGE_MS, CLOSING_MS, Desired, Event, Life, Refused, STABLE_MS, State};

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
