//! What clients send about zones: messages of sessions, and the documents that zones are made from.

use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::account::AccountLimits;
use wire::carve::{Carve, CarveChange, Network};
use wire::frame::{Frame, Kind, encode};
use wire::session::Packet;
use wire::standing::ZoneSpec;
use zoned::inside::desk::{CLIENTS_MAX, Desk};
use zoned::inside::publish::parse;

/// A message on a session's WebSocket.
pub(crate) fn session(bytes: &[u8]) {
    let Ok(packet) = Packet::parse(bytes) else { return };
    let again = packet.encode().expect("what was read can be written");
    assert_eq!(Packet::parse(&again).expect("and read again"), packet);
}

/// Records of the kernel's log, in which programs write as well.
pub(crate) fn kernel_log(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if zoned::damage::damaged_file(&text).is_some() {
        let kernel_s_own = text.split([',', ';']).next().and_then(|level| level.parse().ok());
        assert!(kernel_s_own.is_some_and(|level: u32| level < 8), "a program was believed");
    }
}

/// What zoned finds on the disk of a zone, or of an account.
pub(crate) fn records(bytes: &[u8]) {
    if let Ok(record) = zoned::account::record::parse(bytes) {
        assert_eq!(record.set.check(), Ok(()));
        let text = serde_json::to_vec(&record).expect("what was read can be written");
        assert_eq!(zoned::account::record::parse(&text).expect("and read again"), record);
    }
    let Ok(record) = zoned::standing::record::parse(bytes) else { return };
    assert_eq!(record.spec.check(), Ok(()));
    let text = serde_json::to_vec(&record).expect("what was read can be written");
    assert_eq!(zoned::standing::record::parse(&text).expect("and read again"), record);
}

/// What zoned and the prefetcher hear: from storaged, from whoever asks it for something, from first processes of zones.
pub(crate) fn messages(bytes: &[u8]) {
    for fds in [0, 1, 2] {
        let Ok(frame) = Frame::parse(bytes, fds) else { continue };
        again::<wire::zone::Request>(&frame);
        again::<wire::zone::Report>(&frame);
        again::<wire::zone::Order>(&frame);
        again::<wire::task::Reply>(&frame);
        again::<wire::task::Push>(&frame);
        again::<wire::prefetch::Request>(&frame);
    }
}

fn again<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(frame: &Frame<'_>) {
    let Ok(body) = frame.body::<T>() else { return };
    let Ok(message) = encode(frame.kind, frame.id, &body, 0) else { return };
    let read = Frame::parse(&message, 0).and_then(|frame| frame.body::<T>());
    assert_eq!(read.expect("what was read can be written and read again"), body);
}

/// What a program of a zone sends to the socket at which it asks for a publication; and those who come
/// there, ask and go, a byte each.
pub(crate) fn wishes(bytes: &[u8]) {
    for fds in [0, 1] {
        if parse(bytes, fds).is_ok() {
            let frame = Frame::parse(bytes, fds).expect("what is a wish is a message");
            assert_eq!(frame.kind, Kind::Request);
        }
    }
    let (mut desk, mut last) = (Desk::default(), 0);
    for (number, byte) in bytes.iter().enumerate() {
        let at = usize::from(byte >> 2);
        let wish = match byte & 3 {
            0 => {
                let turned_away = desk.come(number);
                assert!(turned_away.is_none_or(|one| one <= number), "one of those who came");
                None
            }
            1 => desk.ask(at).unwrap_or(None),
            2 => {
                let before = desk.clients().count();
                let gone = usize::from(desk.go(at).is_some());
                assert_eq!(desk.clients().count() + gone, before, "who goes is gone");
                None
            }
            _ => desk.answered(desk.asked().unwrap_or(u64::from(*byte))).1,
        };
        if let Some(wish) = wish {
            assert_eq!(wish, last + 1, "each wish is a new one");
            last = wish;
        }
        assert!(desk.clients().count() <= CLIENTS_MAX);
    }
}

/// A zone, or changes to its limits, as the admin API takes them.
pub(crate) fn documents(bytes: &[u8]) {
    if let Ok(spec) = serde_json::from_slice::<ZoneSpec>(bytes) {
        let text = serde_json::to_vec(&spec).expect("what was read can be written");
        let again: ZoneSpec = serde_json::from_slice(&text).expect("and read again");
        assert_eq!(again, spec);
        if spec.check().is_ok() {
            // Whatever it asks for is its own account's.
            let own = format!("/{}/", spec.login);
            assert!(spec.mounts.iter().all(|mount| mount.prefix.starts_with(&own)));
            assert!(spec.carve.memory_low_mib <= spec.carve.memory_mib);
        }
    }
    if let Ok(change) = serde_json::from_slice::<AccountLimits>(bytes) {
        let once = change.over(&AccountLimits::default());
        assert_eq!((once, change.over(&once)), (change, once), "a change made twice is made once");
    }
    if let Ok(change) = serde_json::from_slice::<CarveChange>(bytes) {
        let once = Carve::default().changed(&change);
        assert_eq!(once.changed(&change), once, "a change made twice is made once");
        let once = Network::default().changed(&change);
        assert_eq!(once.changed(&change), once);
    }
}
