//! Zones of an image that was imported: they wait for storaged to show it, and fail when it says that there is none.

use crate::client::Client;
use crate::common::eventually;
use crate::machine::{Machine, name, on_a_machine};
use erofs::{Meta, Stream};
use std::fs::{self, File};
use wire::standing::{Event, What, ZoneReply, ZoneRequest, ZoneState};

/// What the image is made of, in the store.
pub const OBJECT: &str = "/mobula/stor/images/mine.erofs";

/// An image with a place for /proc and nothing else, on the host's disk: EROFS is not mounted from a tmpfs.
fn image() -> File {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("image");
    let meta = Meta::of_mode(0o555);
    let mut stream = Stream::begin(File::create_new(&path).unwrap(), &meta).unwrap();
    stream.enter(b"proc", &meta).unwrap();
    stream.leave().unwrap();
    stream.finish().unwrap();
    File::open(&path).unwrap()
}

/// Has the machine know of the image when its zoned starts again.
fn import(machine: &mut Machine) {
    machine.crash();
    let records = machine.place().join("images/.imported");
    fs::create_dir(&records).unwrap();
    let record =
        format!(r#"{{"object":"{OBJECT}","phase":{{"ready":{{"sha256":"","bytes":1}}}}}}"#);
    fs::write(records.join("mine.json"), record).unwrap();
    machine.shelf.look().image = Some(image());
    machine.start(None);
}

fn why(client: &mut Client) -> Vec<String> {
    match client.ask(ZoneRequest::Why(name("web"))).unwrap().0 {
        ZoneReply::Why(why) => why,
        other => panic!("unexpected {other:?}"),
    }
}

fn has_failed(event: &Event) -> bool {
    matches!(event.what, What::State { to: ZoneState::Failed, .. })
}

#[test]
fn a_zone_waits_for_its_image_by_name_and_fails_when_there_is_none() {
    let test = "images::a_zone_waits_for_its_image_by_name_and_fails_when_there_is_none";
    on_a_machine(test, |machine| {
        import(machine);
        let mut client = machine.client();
        let spec = r#"{"name":"web","login":"ann","image":"mine"}"#;
        eventually("there is the image", || {
            let spec = serde_json::from_str(spec).unwrap();
            client.ask(ZoneRequest::Create(spec)).is_ok()
        });
        client.reach("web", ZoneState::Running);
        // The store takes its time after a boot.
        machine.shelf.look().image_busy = true;
        machine.cut_power();
        machine.start(None);
        let mut client = machine.client();
        client.reach("web", ZoneState::Ready);
        eventually("it waits", || {
            why(&mut client)[0].contains("waits for the image mine to be mounted")
        });
        machine.shelf.look().image_busy = false;
        client.reach("web", ZoneState::Running);
        let events = client.events(0);
        assert!(!events.iter().any(has_failed), "{events:?}");
        // The store has lost it.
        let image = machine.shelf.look().image.take();
        machine.cut_power();
        machine.start(None);
        let mut client = machine.client();
        client.reach("web", ZoneState::Failed);
        let said = why(&mut client);
        assert!(
            said[0].contains("the image mine, an object of the store, cannot be had"),
            "{said:?}"
        );
        // And has it again: it is asked at each try.
        machine.shelf.look().image = image;
        client.reach("web", ZoneState::Running);
    });
}
