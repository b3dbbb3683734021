//! What a zone writes to `/out` becomes objects when the zone says so, and before the node is down.

use crate::common::eventually;
use crate::machine::{Machine, name, on_a_machine};
use crate::objects::{pair, published};
use std::fs;
use std::path::{Path, PathBuf};
use sys::process::Exit;
use sys::seqpacket::Socket;
use wire::frame::{Frame, Kind, Refusal, encode};
use wire::standing::{Published, ZoneRequest, ZoneState};
use wire::zone::{Outcome, PUBLISH_SOCKET, Wish};

const WEB: &str = r#"{"name":"web","login":"ann","image":"base","output":"/ann/stor/out"}"#;
const EXITED: Outcome = Outcome::Exited { code: 0 };

/// The socket at which programs of the only zone here ask, from outside.
fn socket(machine: &Machine) -> PathBuf {
    let root = Path::new("/proc").join(machine.first_process("web").to_string()).join("root");
    root.join(PUBLISH_SOCKET.trim_start_matches('/'))
}

fn wish() -> Vec<u8> {
    encode(Kind::Request, 1, &Wish::Publish, 0).unwrap()
}

/// What is answered, or nothing if the connection is closed.
fn answer(socket: &Socket) -> Option<Result<Published, Refusal>> {
    let mut message = Vec::new();
    let fds = socket.recv(&mut message).unwrap()?;
    let frame = Frame::parse(&message, fds.len()).unwrap();
    Some(match frame.kind {
        Kind::Reply => Ok(frame.body().unwrap()),
        Kind::Refusal => Err(frame.body().unwrap()),
        other => panic!("unexpected {other:?}"),
    })
}

#[test]
fn a_program_in_a_zone_says_when() {
    on_a_machine("publish::a_program_in_a_zone_says_when", |machine| {
        let mut client = machine.client();
        client.create(WEB);
        client.reach("web", ZoneState::Running);
        let (outcome, text) = client.exec("web", "echo one > /out/a; mobula-publish");
        assert_eq!((outcome, text.as_str()), (EXITED, "/ann/stor/out/a\n"));
        assert_eq!(published(machine), [pair("a", "one\n")]);
        let (outcome, text) = client.exec("web", "echo two > /out/b; mobula-publish --json");
        assert_eq!(outcome, EXITED, "{text}");
        assert_eq!(serde_json::from_str::<Published>(&text).unwrap().objects, 2);
        assert_eq!(published(machine), [pair("a", "one\n"), pair("b", "two\n")]);
        let (outcome, text) = client.exec("web", "mobula-publish now");
        assert_eq!(outcome, Outcome::Exited { code: 2 });
        assert!(text.starts_with("usage: "), "{text}");
        // Neither can be taken away, or put in place of the other.
        let script = "rm -f /dev/publish; mv /dev/publish /tmp; \
            rm -f /usr/local/bin/mobula-publish; echo x > /usr/local/bin/mobula-publish; \
            test -S /dev/publish && mobula-publish > /dev/null && echo still";
        let (outcome, text) = client.exec("web", script);
        assert!(outcome == EXITED && text.starts_with("still\n"), "{text}");
        client.run("mute", "");
        let script = "test -e /dev/publish || mobula-publish";
        assert_eq!(client.exec("mute", script).0, Outcome::Exited { code: 127 });
    });
}

#[test]
fn whoever_asks_for_nonsense_is_told_so_and_holds_nobody_up() {
    on_a_machine("publish::whoever_asks_for_nonsense_is_told_so_and_holds_nobody_up", |machine| {
        let mut client = machine.client();
        client.create(WEB);
        client.reach("web", ZoneState::Running);
        let path = socket(machine);
        for nonsense in [
            b"publish!".to_vec(),
            vec![0xff; 4000],
            encode(Kind::Push, 1, &Wish::Publish, 0).unwrap(),
            encode(Kind::Request, 1, &"everything", 0).unwrap(),
        ] {
            let socket = Socket::connect(&path).unwrap();
            socket.send(&nonsense, &[]).unwrap();
            let refusal = answer(&socket).unwrap().unwrap_err();
            assert_eq!(refusal.code, "InvalidMessage");
            assert_eq!(answer(&socket), None);
        }
        // More who say nothing than there are places, and who go without having heard.
        let silent: Vec<Socket> = (0..40).map(|_| Socket::connect(&path).unwrap()).collect();
        for _ in 0..40 {
            Socket::connect(&path).unwrap().send(&wish(), &[]).unwrap();
        }
        let descriptor = fs::File::open("/dev/null").unwrap();
        let socket = Socket::connect(&path).unwrap();
        socket.send(&wish(), &[std::os::fd::AsFd::as_fd(&descriptor)]).unwrap();
        assert_eq!(answer(&socket).unwrap().unwrap_err().code, "InvalidMessage");
        let (outcome, text) = client.exec("web", "echo one > /out/a; mobula-publish");
        assert_eq!((outcome, text.as_str()), (EXITED, "/ann/stor/out/a\n"));
        drop(silent);
        assert_eq!(client.state("web"), ZoneState::Running);
    });
}

#[test]
fn whoever_asks_while_storaged_is_at_it_is_in_the_next_publication() {
    let own = "publish::whoever_asks_while_storaged_is_at_it_is_in_the_next_publication";
    on_a_machine(own, |machine| {
        let mut client = machine.client();
        client.create(WEB);
        client.reach("web", ZoneState::Running);
        let path = socket(machine);
        machine.shelf.look().busy = true;
        let first = Socket::connect(&path).unwrap();
        first.send(&wish(), &[]).unwrap();
        eventually("storaged is at it", || machine.shelf.look().publications == 1);
        client.exec("web", "echo late > /out/late");
        let others: Vec<Socket> = (0..5).map(|_| Socket::connect(&path).unwrap()).collect();
        others.iter().for_each(|socket| socket.send(&wish(), &[]).unwrap());
        // A session begins behind them: they have been heard.
        client.exec("web", "true");
        machine.shelf.look().busy = false;
        assert_eq!(answer(&first).unwrap().unwrap().objects, 0);
        for socket in &others {
            assert_eq!(answer(socket).unwrap().unwrap().made, ["/ann/stor/out/late"]);
        }
        let publications = machine.shelf.look().publications;
        assert_eq!(publications, 2, "one for all who came meanwhile");
    });
}

#[test]
fn a_wish_is_granted_by_the_next_zoned_if_this_one_is_killed() {
    on_a_machine("publish::a_wish_is_granted_by_the_next_zoned_if_this_one_is_killed", |machine| {
        let mut client = machine.client();
        machine.shelf.look().busy = true;
        client.create(
            r#"{"name":"web","login":"ann","image":"base","output":"/ann/stor/out",
                "command":["bash","-c","echo x > /out/a; mobula-publish; echo $?; sleep 1000"]}"#,
        );
        eventually("storaged is at it", || machine.shelf.look().publications == 1);
        machine.crash();
        machine.start(None);
        machine.shelf.look().busy = false;
        let mut client = machine.client();
        eventually("it is told", || client.log("web").contains("/ann/stor/out/a\n0\n"));
        assert_eq!(machine.shelf.look().publications, 2);
    });
}

#[test]
fn what_zones_wrote_is_published_before_the_node_is_down() {
    on_a_machine("publish::what_zones_wrote_is_published_before_the_node_is_down", |machine| {
        let mut client = machine.client();
        client.create(
            r#"{"name":"web","login":"ann","image":"base","output":"/ann/stor/out",
                "command":["bash","-c",
                    "trap 'echo last > /out/b; exit' TERM; echo first > /out/a; echo up; \
                     while :; do sleep 0.1; done"]}"#
                .replace("\\\n", "")
                .as_str(),
        );
        eventually("it is up", || client.log("web").contains("up"));
        machine.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(machine.ended(), Exit::Code(0));
        assert_eq!(published(machine), [pair("a", "first\n"), pair("b", "last\n")]);
        let usage = fs::read_to_string(machine.place().join("usage")).unwrap();
        let done = usage.lines().filter(|line| line.contains(r#""event":"done""#)).count();
        assert_eq!(done, 1, "{usage}");
        // It was to run, and does.
        machine.start(None);
        let mut client = machine.client();
        client.reach("web", ZoneState::Running);
    });
}

#[test]
fn every_user_of_a_zone_may_ask() {
    on_a_machine("publish::every_user_of_a_zone_may_ask", |machine| {
        let image = machine.place().join("images/plain");
        crate::common::fill_tree(&image);
        fs::write(image.join(".mobula-image.json"), r#"{"uid":1000,"gid":1000}"#).unwrap();
        let mut client = machine.client();
        client.create(r#"{"name":"web","login":"ann","image":"plain","output":"/ann/stor/out"}"#);
        client.reach("web", ZoneState::Running);
        let (outcome, text) = client.exec("web", "echo $UID; mobula-publish --json");
        assert!(outcome == EXITED && text.starts_with("1000\n{\"objects\":0"), "{text}");
    });
}

#[test]
fn an_image_says_which_signal_tells_its_command_to_end() {
    on_a_machine("publish::an_image_says_which_signal_tells_its_command_to_end", |machine| {
        let image = machine.place().join("images/quitter");
        crate::common::fill_tree(&image);
        fs::write(image.join(".mobula-image.json"), r#"{"stop_signal":37}"#).unwrap();
        let mut client = machine.client();
        client.create(
            r#"{"name":"web","login":"ann","image":"quitter","command":["bash","-c",
                "trap '' TERM; trap 'echo told; exit' RTMIN+3; echo up; while :; do sleep 0.1; done"]}"#,
        );
        eventually("it is up", || client.log("web").contains("up"));
        client.zone(ZoneRequest::Stop { name: name("web"), timeout_s: 60 });
        client.reach("web", ZoneState::Installed);
        assert_eq!(client.log("web"), "up\ntold\n");
        let view = client.zone(ZoneRequest::Get(name("web")));
        assert_eq!(view.last_outcome, Some(EXITED));
    });
}
