//! What standing zones used is on record, whatever becomes of zoned; and a node that is short of something
//! lets them wait, and fails none.

use crate::common::eventually;
use crate::machine::{Machine, name, on_a_machine};
use serde_json::Value;
use std::fs;
use std::time::Duration;
use wire::carve::CarveChange;
use wire::standing::{Subject, What, ZoneReply, ZoneRequest, ZoneState};

pub fn usage(machine: &Machine) -> Vec<Value> {
    let text = fs::read_to_string(machine.place().join("usage")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn number(value: &Value) -> u64 {
    value.as_str().unwrap_or("0").parse().unwrap()
}

#[test]
fn a_zone_is_metered_over_a_crash_of_zoned() {
    on_a_machine("metered::a_zone_is_metered_over_a_crash_of_zoned", |machine| {
        let mut client = machine.client();
        client.run("web", "");
        client.exec("web", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done");
        machine.crash();
        machine.start(None);
        let mut client = machine.client();
        client.reach("web", ZoneState::Running);
        let change = Box::new(CarveChange { memory_mib: Some(512), ..CarveChange::default() });
        client.ask(ZoneRequest::Update { name: name("web"), change }).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        client.zone(ZoneRequest::Stop { name: name("web"), timeout_s: 0 });
        client.reach("web", ZoneState::Installed);
        eventually("its end is on record", || {
            usage(machine).iter().any(|line| line["event"] == "done")
        });
        let lines = usage(machine);
        let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["agent", "start", "agent", "done"]);
        let (start, done) = (&lines[1], &lines[3]);
        assert_eq!(
            (&done["id"], &done["kind"], &done["number"]),
            (&"web".into(), &"zone".into(), &"2".into())
        );
        assert_eq!((&done["life"], &done["login"]), (&start["life"], &"ann".into()));
        let (wall_ms, held) =
            (number(&done["total"]["wall_us"]) / 1000, number(&done["total"]["memory_mib_ms"]));
        assert!(number(&done["total"]["cpu_us"]) > 10_000, "{done}");
        // 256 MiB first, 512 for the last 200 ms at least.
        assert!(held >= 256 * wall_ms + 256 * 200 && held < 512 * (wall_ms + 1), "{done}");
    });
}

#[test]
fn while_the_node_is_short_a_start_waits_and_says_so() {
    on_a_machine("metered::while_the_node_is_short_a_start_waits_and_says_so", |machine| {
        let file = machine.place().join("store/memory.pressure");
        let pressure = |full: &str| {
            let line = format!("some avg10={full} total=1\nfull avg10={full} total=1\n");
            fs::write(&file, line).unwrap();
        };
        pressure("50.00");
        let mut client = machine.client();
        let text = r#"{"name":"web","login":"ann","image":"base","command":["sleep","1000"]}"#;
        let view = client.create(text);
        assert_eq!(view.summary.state, ZoneState::Ready);
        eventually("it says why it waits", || {
            let ZoneReply::Why(why) = client.ask(ZoneRequest::Why(name("web"))).unwrap().0 else {
                panic!("no reasons")
            };
            why[0].contains("it waits for the node: memory is short")
        });
        pressure("0.00");
        client.reach("web", ZoneState::Running);
        // It is let in after ten seconds at most, whatever the pressure: that work goes on may be told later.
        eventually("what held it, and that nothing does, is told", || {
            let events = machine.client().events(0);
            let of_node = events.iter().filter(|event| event.subject == Subject::Node);
            let what: Vec<&What> = of_node.map(|event| &event.what).collect();
            matches!(what[..], [What::Held { why }, What::Released] if why.contains("memory is short"))
        });
        client.ask(ZoneRequest::Delete(name("web"))).unwrap();
        eventually("it is gone", || machine.zones().is_empty());
    });
}
