//! A service's life, told case by case and at random.

use super::*;
use proptest::prelude::*;

const POLICY: Policy = Policy {
    readiness: Readiness::Notify,
    restart: Restart::Always,
    ready_timeout_ms: Some(10_000),
    stop_timeout_ms: 5_000,
};

fn at(now_ms: u64) -> Moment {
    Moment { now_ms, random: 0 }
}

fn after(events: &[(u64, Event)]) -> (Service, Vec<Action>) {
    let start = (Service::new(0), Vec::new());
    events.iter().fold(start, |(service, _), (now_ms, event)| {
        step(service, &POLICY, at(*now_ms), event.clone())
    })
}

fn ready(now_ms: u64) -> Vec<(u64, Event)> {
    vec![(now_ms, Event::Released), (now_ms, Event::Started), (now_ms, Event::Ready)]
}

#[test]
fn a_released_service_is_started_and_waits_for_its_word() {
    let (service, actions) = after(&[(1, Event::Released)]);
    assert_eq!(actions, [Action::Spawn]);
    assert_eq!(service.state, State::Starting { deadline_ms: Some(10_001) });
}

#[test]
fn a_service_that_is_ready_when_started_says_nothing_more() {
    let policy = Policy { readiness: Readiness::Started, ..POLICY };
    let (service, _) = step(Service::new(0), &policy, at(0), Event::Released);
    let (service, _) = step(service, &policy, at(0), Event::Started);
    assert_eq!(service.state, State::Ready);
}

#[test]
fn a_service_that_dies_is_swept_and_backs_off() {
    let mut events = ready(0);
    events.push((10, Event::Ended(Exit::Signal(9), None)));
    let (service, actions) = after(&events);
    assert_eq!(actions[0], Action::Kill);
    assert_eq!(service.state, State::BackOff { until_ms: 10 + 160 });
    let (service, _) = step(service, &POLICY, at(170), Event::Clock);
    assert_eq!((service.state, service.restarts), (State::Waiting, 1));
}

#[test]
fn a_service_that_is_not_ready_in_time_is_killed_and_backs_off_when_it_is_gone() {
    let (service, actions) = after(&[(0, Event::Released), (10_000, Event::Clock)]);
    assert_eq!(actions, [Action::Kill]);
    let gone = Event::Ended(Exit::Signal(9), None);
    let (service, _) = step(service, &POLICY, at(10_001), gone);
    assert!(matches!(service.state, State::BackOff { .. }));
    assert!(service.reason.contains("not ready in 10 s"), "{}", service.reason);
}

#[test]
fn a_service_that_keeps_failing_is_degraded_and_tried_again_later() {
    let mut service = Service::new(0);
    let mut now = 0;
    for _ in 0..FAILURES_MAX {
        (service, _) = step(service, &POLICY, at(now), Event::Released);
        (service, _) = step(service, &POLICY, at(now), Event::NotStarted("no such file".into()));
        now = service.deadline_ms().unwrap();
        assert!(matches!(service.state, State::BackOff { .. } | State::Degraded { .. }));
        let state = service.state;
        (service, _) = step(service, &POLICY, at(now), Event::Clock);
        assert_eq!(matches!(state, State::Degraded { .. }), service.failures >= FAILURES_MAX);
    }
    assert_eq!(service.state, State::Waiting);
    assert_eq!(service.reason, "no such file");
}

#[test]
fn a_stable_time_forgives_earlier_failures() {
    let service = Service { failures: FAILURES_MAX - 1, ..Service::new(0) };
    let (service, _) = step(service, &POLICY, at(0), Event::Released);
    let (service, _) = step(service, &POLICY, at(0), Event::Ready);
    let dies = Event::Ended(Exit::Code(1), None);
    let (service, _) = step(service, &POLICY, at(STABLE_MS), dies);
    assert_eq!(service.failures, 1);
    assert!(matches!(service.state, State::BackOff { .. }));
}

#[test]
fn a_stop_asks_first_and_kills_when_the_time_is_up() {
    let mut events = ready(0);
    events.push((100, Event::Stop { hurry: false }));
    let (service, actions) = after(&events);
    assert_eq!(actions, [Action::Terminate]);
    assert_eq!(service.deadline_ms(), Some(5_100));
    let (service, actions) = step(service, &POLICY, at(5_100), Event::Clock);
    assert!(actions.contains(&Action::Kill));
    let (service, _) = step(service, &POLICY, at(5_101), Event::Ended(Exit::Signal(9), None));
    assert_eq!(service.state, State::Stopped);
}

#[test]
fn a_second_stop_in_a_hurry_brings_the_kill_forward_and_never_back() {
    let mut events = ready(0);
    events.push((0, Event::Stop { hurry: false }));
    events.push((100, Event::Stop { hurry: true }));
    let (service, _) = after(&events);
    assert_eq!(service.deadline_ms(), Some(100 + HURRY_MS));
    let (service, _) = step(service, &POLICY, at(200), Event::Stop { hurry: true });
    assert_eq!(service.deadline_ms(), Some(100 + HURRY_MS));
}

#[test]
fn a_restart_on_request_is_no_failure() {
    let mut events = ready(0);
    events.extend([(5, Event::Restart), (9, Event::Ended(Exit::Code(0), None))]);
    let (service, _) = after(&events);
    assert_eq!((service.state, service.failures, service.restarts), (State::Waiting, 0, 0));
}

#[test]
fn a_service_that_may_end_well_stays_ended() {
    let policy = Policy { restart: Restart::OnFailure, ..POLICY };
    let (service, _) = step(Service::new(0), &policy, at(0), Event::Released);
    let (service, _) = step(service, &policy, at(0), Event::Ready);
    let (service, _) = step(service, &policy, at(1), Event::Ended(Exit::Code(0), None));
    assert_eq!(service.state, State::Stopped);
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Released),
        Just(Event::Started),
        Just(Event::NotStarted("x".into())),
        Just(Event::Ready),
        Just(Event::Ended(Exit::Code(0), None)),
        Just(Event::Ended(Exit::Signal(9), None)),
        Just(Event::Clock),
        Just(Event::Stop { hurry: false }),
        Just(Event::Stop { hurry: true }),
        Just(Event::Restart),
    ]
}

proptest! {
    /// Whatever happens in whatever order: a process is made only where there is none, one that must end
    /// has a deadline or is being killed, delays stay in their bounds, and time never runs backwards.
    #[test]
    fn the_rules_hold_for_any_story(
        story in proptest::collection::vec((any_event(), 0..20_000_u64, any::<u64>()), 0..200),
    ) {
        let mut service = Service::new(0);
        let mut now_ms = 0;
        for (event, passed, random) in story {
            now_ms += passed;
            let ran = service.runs();
            let (next, actions) = step(service, &POLICY, Moment { now_ms, random }, event);
            if actions.contains(&Action::Spawn) {
                prop_assert!(!ran && next.runs());
            }
            if let State::BackOff { until_ms } = next.state {
                prop_assert!(until_ms <= next.since_ms + BACK_OFF_MS_MAX * 12 / 10);
            }
            if let State::Degraded { until_ms } = next.state {
                prop_assert!(next.failures >= FAILURES_MAX);
                prop_assert!(until_ms <= next.since_ms + DEGRADED_MS * 12 / 10);
            }
            prop_assert!(next.since_ms <= now_ms);
            service = next;
        }
    }

    /// From anywhere, an order to stop ends in `Stopped` once the clock and the process have done theirs.
    #[test]
    fn a_stop_always_arrives(
        story in proptest::collection::vec((any_event(), 0..20_000_u64), 0..50),
        hurry: bool,
    ) {
        let mut service = Service::new(0);
        let mut now_ms = 0;
        for (event, passed) in story {
            now_ms += passed;
            (service, _) = step(service, &POLICY, at(now_ms), event);
        }
        (service, _) = step(service, &POLICY, at(now_ms), Event::Stop { hurry });
        now_ms += POLICY.stop_timeout_ms;
        (service, _) = step(service, &POLICY, at(now_ms), Event::Clock);
        if service.runs() {
            let killed = matches!(service.state, State::Killed { .. });
            prop_assert!(killed);
            let gone = Event::Ended(Exit::Signal(9), None);
            (service, _) = step(service, &POLICY, at(now_ms), gone);
        }
        prop_assert_eq!(service.state, State::Stopped);
    }
}
