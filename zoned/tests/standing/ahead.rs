//! Zones and the reading of their image: they start when the prefetcher has read it, and without one all the same.

use crate::machine::{Machine, name, on_a_machine};
use std::time::{Duration, Instant};
use sys::seqpacket::{Listener, Socket};
use wire::frame::{Kind, encode};
use wire::prefetch::Reply;
use wire::standing::{ZoneRequest, ZoneState};

/// zoned waits longer than this for an image.
const WAITED: Duration = Duration::from_secs(8);

/// Starts zoned again, with a prefetcher; gives what it asks it for `base` by.
fn again(machine: &mut Machine) -> (Listener, Socket) {
    machine.crash();
    let prefetcher = Listener::bind(&machine.place().join("prefetcher.sock"), 0o600).unwrap();
    machine.start(None);
    let base = prefetcher.accept().unwrap().unwrap();
    (prefetcher, base)
}

#[test]
fn a_zone_starts_when_its_image_is_read() {
    on_a_machine("ahead::a_zone_starts_when_its_image_is_read", |machine| {
        let began = Instant::now();
        let (_prefetcher, base) = again(machine);
        let mut client = machine.client();
        client.create(r#"{"name":"web","login":"ann","image":"base"}"#);
        // Whatever else zoned does meanwhile.
        let seen: Vec<_> = (0..50).map(|_| client.state("web")).collect();
        let groups = machine.zones();
        if began.elapsed() < WAITED {
            assert!(seen.iter().all(|state| *state == ZoneState::Ready), "{seen:?}");
            assert!(groups.is_empty(), "{groups:?}");
        }
        base.send(&encode(Kind::Reply, 1, &Reply::Done { bytes: 7 }, 0).unwrap(), &[]).unwrap();
        client.reach("web", ZoneState::Running);
        // It is read once.
        client.run("next", "");
    });
}

#[test]
fn a_zone_whose_image_is_not_read_starts_in_the_end() {
    on_a_machine("ahead::a_zone_whose_image_is_not_read_starts_in_the_end", |machine| {
        let (prefetcher, base) = again(machine);
        let mut client = machine.client();
        client.create(r#"{"name":"web","login":"ann","image":"base"}"#);
        // A prefetcher that goes away keeps nobody waiting.
        drop((prefetcher, base));
        client.reach("web", ZoneState::Running);
        // Nor does one that says nothing, for ever.
        let _silent = again(machine);
        let mut client = machine.client();
        client.reach("web", ZoneState::Running);
        client.run("late", "");
        // A start that waits can be called off.
        let _silent = again(machine);
        let mut client = machine.client();
        client.create(r#"{"name":"never","login":"ann","image":"base"}"#);
        client.zone(ZoneRequest::Stop { name: name("never"), timeout_s: 5 });
        client.reach("never", ZoneState::Installed);
    });
}
