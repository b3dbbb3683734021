//! What clients send about zones: messages of sessions, and the documents that zones are made from.

use wire::carve::{Carve, CarveChange, Network};
use wire::session::Packet;
use wire::standing::ZoneSpec;

/// A message on a session's WebSocket.
pub(crate) fn session(bytes: &[u8]) {
    let Ok(packet) = Packet::parse(bytes) else { return };
    let again = packet.encode().expect("what was read can be written");
    assert_eq!(Packet::parse(&again).expect("and read again"), packet);
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
    if let Ok(change) = serde_json::from_slice::<CarveChange>(bytes) {
        let once = Carve::default().changed(&change);
        assert_eq!(once.changed(&change), once, "a change made twice is made once");
        let once = Network::default().changed(&change);
        assert_eq!(once.changed(&change), once);
    }
}
