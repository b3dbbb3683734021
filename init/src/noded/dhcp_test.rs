//! The DHCP client, told conversation by conversation and at random.

use super::*;
use proptest::prelude::*;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

fn lease(seconds: u32) -> Lease {
    Lease {
        address: Ipv4Addr::new(10, 0, 2, 15),
        prefix: 24,
        router: Some(SERVER),
        dns: vec![Ipv4Addr::new(10, 0, 2, 3)],
        server: SERVER,
        seconds,
        renew_s: None,
        rebind_s: None,
    }
}

fn at(now_ms: u64) -> Moment {
    Moment { now_ms, random: 4 }
}

fn reply(kind: ReplyKind, xid: u32) -> Event {
    Event::Reply(Reply { kind, xid, lease: lease(1000) })
}

fn bound(now_ms: u64) -> State {
    let (state, _) = step(State::start(at(now_ms)), at(now_ms), Event::Clock);
    let (state, _) = step(state, at(now_ms), reply(ReplyKind::Offer, 4));
    let (state, actions) = step(state, at(now_ms), reply(ReplyKind::Ack, 4));
    assert_eq!(actions, [Action::Use(lease(1000))]);
    state
}

#[test]
fn a_client_discovers_takes_an_offer_and_is_bound() {
    let (state, actions) = step(State::start(at(0)), at(0), Event::Clock);
    assert_eq!(actions, [Action::Send(Query { kind: QueryKind::Discover, xid: 4, seconds: 0 })]);
    let (_, actions) = step(state, at(0), reply(ReplyKind::Offer, 4));
    let kind = QueryKind::Select { address: lease(0).address, server: SERVER };
    assert_eq!(actions, [Action::Send(Query { kind, xid: 4, seconds: 0 })]);
    assert!(bound(0).lease().is_some());
}

#[test]
fn an_offer_of_another_conversation_is_not_taken() {
    let (state, actions) = step(State::start(at(0)), at(0), reply(ReplyKind::Offer, 5));
    assert!(actions.is_empty() && matches!(state, State::Selecting { .. }));
}

#[test]
fn a_refused_request_begins_anew() {
    let (state, _) = step(State::start(at(0)), at(0), reply(ReplyKind::Offer, 4));
    let (state, _) = step(state, at(0), reply(ReplyKind::Nak, 4));
    assert!(matches!(state, State::Selecting { tries: 0, .. }));
}

#[test]
fn a_server_that_offers_and_then_is_silent_is_given_up() {
    let (mut state, _) = step(State::start(at(0)), at(0), reply(ReplyKind::Offer, 4));
    let mut asked = 1;
    while let State::Requesting { next_ms, .. } = state {
        let (next, actions) = step(state, at(next_ms), Event::Clock);
        asked += actions.len();
        state = next;
    }
    assert_eq!(asked, REQUESTS_MAX as usize);
}

#[test]
fn at_half_time_the_server_is_asked_for_more_and_later_anybody() {
    let (state, actions) = step(bound(0), at(500_000), Event::Clock);
    let to = |server| QueryKind::Extend { address: lease(0).address, server };
    assert!(matches!(&actions[..], [Action::Send(query)] if query.kind == to(Some(SERVER))));
    let (_, actions) = step(state, at(900_000), Event::Clock);
    assert!(matches!(&actions[..], [Action::Send(query)] if query.kind == to(None)));
}

#[test]
fn a_granted_extension_keeps_the_address_without_a_gap() {
    let (state, _) = step(bound(0), at(500_000), Event::Clock);
    let (state, actions) = step(state, at(500_010), reply(ReplyKind::Ack, 4));
    assert_eq!(actions, [Action::Use(lease(1000))]);
    assert_eq!(state.deadline_ms(), 500_010 + 500_000);
}

#[test]
fn a_lease_that_is_over_is_dropped_and_another_looked_for() {
    let (state, _) = step(bound(0), at(500_000), Event::Clock);
    let (state, actions) = step(state, at(1_000_000), Event::Clock);
    assert_eq!(actions, [Action::Drop(lease(1000))]);
    assert!(matches!(state, State::Selecting { .. }));
}

#[test]
fn an_address_that_changes_is_dropped_before_the_new_one_is_used() {
    let (state, _) = step(bound(0), at(500_000), Event::Clock);
    let other = Lease { address: Ipv4Addr::new(10, 0, 2, 99), ..lease(1000) };
    let ack = Event::Reply(Reply { kind: ReplyKind::Ack, xid: 4, lease: other.clone() });
    let (_, actions) = step(state, at(500_010), ack);
    assert_eq!(actions, [Action::Drop(lease(1000)), Action::Use(other)]);
}

fn any_event() -> impl Strategy<Value = (Event, u64)> {
    let kind = prop_oneof![Just(ReplyKind::Offer), Just(ReplyKind::Ack), Just(ReplyKind::Nak)];
    let times = (any::<u32>(), any::<Option<u32>>(), any::<Option<u32>>(), any::<[u8; 4]>());
    let reply =
        (kind, 3..6_u32, times).prop_map(|(kind, xid, (seconds, renew, rebind, address))| {
            let lease = Lease {
                address: address.into(),
                renew_s: renew,
                rebind_s: rebind,
                ..lease(seconds)
            };
            Event::Reply(Reply { kind, xid, lease })
        });
    (prop_oneof![Just(Event::Clock), reply], 0..2_000_000_u64)
}

proptest! {
    /// Whatever servers say: an address is used or dropped in pairs, times keep their order, the clock is
    /// asked for again only later, and nobody is flooded.
    #[test]
    fn the_rules_hold_for_any_conversation(story in proptest::collection::vec(any_event(), 0..100)) {
        let mut state = State::start(at(0));
        let mut used: Option<Ipv4Addr> = None;
        let mut now_ms = 0;
        for (event, passed) in story {
            now_ms += passed;
            let asked_by_clock = event == Event::Clock;
            let (next, actions) = step(state, at(now_ms), event);
            for action in &actions {
                match action {
                    Action::Use(lease) => {
                        prop_assert!(used.is_none_or(|address| address == lease.address));
                        used = Some(lease.address);
                    }
                    Action::Drop(lease) => {
                        prop_assert_eq!(used.take(), Some(lease.address));
                    }
                    Action::Send(_) => {}
                }
            }
            prop_assert!(actions.iter().filter(|one| matches!(one, Action::Send(_))).count() <= 1);
            prop_assert_eq!(next.lease().map(|lease| lease.address), used);
            if let State::Bound(held) = &next {
                prop_assert!(held.renew_ms < held.rebind_ms && held.rebind_ms < held.over_ms);
            }
            let sent = actions.iter().any(|one| matches!(one, Action::Send(_)));
            if asked_by_clock && sent {
                prop_assert!(next.deadline_ms() > now_ms);
            }
            state = next;
        }
    }
}
