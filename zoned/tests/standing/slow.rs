//! A disk that takes its time: who waits for it waits alone, and what failed on it is told.

use crate::machine::{name, on_a_machine};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs::{self, File};
use wire::standing::{ZoneReply, ZoneRequest, ZoneState};
use wire::zone::{Outcome, Request};

#[test]
fn what_waits_for_the_disk_holds_up_nobody_else() {
    on_a_machine("slow::what_waits_for_the_disk_holds_up_nobody_else", |machine| {
        let mut client = machine.client();
        client.run("web", "sleep 1000");
        client.run("other", "");
        let processes = machine.processes();
        // Where its next record is to be written is a pipe: whoever opens it waits until somebody reads.
        let pipe = machine.place().join("data/zones/web/zone.new");
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        let (mut first, mut second) = (machine.client(), machine.client());
        let stop = ZoneRequest::Stop { name: name("web"), timeout_s: 0 };
        first.send(&Request::Zone(stop));
        client.reach("web", ZoneState::ShuttingDown);
        second.send(&Request::Zone(ZoneRequest::Pause(name("web"))));
        // Others are as if nothing was.
        let (outcome, text) = client.exec("other", "echo fine");
        assert_eq!((outcome, text.as_str()), (Outcome::Exited { code: 0 }, "fine\n"));
        let Ok((ZoneReply::Zones(zones), _)) = client.ask(ZoneRequest::List { after: None }) else {
            panic!("no list")
        };
        assert_eq!(zones.len(), 2);
        // What was asked for has not been done, let alone answered, and nor has what came after it.
        assert_eq!(machine.processes(), processes);
        assert!(!first.is_told() && !second.is_told());
        // A pipe can't be synced, and is no record.
        let reader = File::open(&pipe).unwrap();
        first.answer().unwrap();
        assert_eq!(second.answer().unwrap_err().code, "WrongState");
        fs::remove_file(&pipe).unwrap();
        drop(reader);
        client.reach("web", ZoneState::Installed);
        let Ok((ZoneReply::Why(why), _)) = client.ask(ZoneRequest::Why(name("web"))) else {
            panic!("no reasons")
        };
        assert!(why.iter().any(|why| why.contains("could not be written")), "{why:?}");
        client.zone(ZoneRequest::Start(name("web")));
        client.reach("web", ZoneState::Running);
        for zone in ["web", "other"] {
            client.ask(ZoneRequest::Delete(name(zone))).unwrap();
        }
        crate::common::eventually("they are gone", || {
            machine.zones().is_empty() && machine.kept().is_empty() && machine.records().is_empty()
        });
    });
}
