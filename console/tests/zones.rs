//! Standing zones over HTTP, as a client meets them: a real consoled, and a zoned that is played.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod played;

use played::zoned::Zoned;
use played::{Console, TOKEN};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;
use tungstenite::{Message, WebSocket, client::IntoClientRequest};
use wire::session::{Begin, End, Packet};
use wire::standing::{Subject, What, WindowSize, ZoneState};
use wire::zone::Outcome;

const WEB: &str = "/v1/zones/standing/web";

fn with_web() -> (Console, Zoned) {
    let console = Console::start();
    let zoned = Zoned::start(console.run.path());
    let spec = json!({ "name": "web", "login": "ada", "image": "base", "command": ["sleep", "9"] });
    let (code, view) = console.tell("POST", "/v1/zones/standing", &spec.to_string());
    assert_eq!((code, &view["summary"]["state"]), (201, &json!("running")), "{view}");
    (console, zoned)
}

#[test]
fn a_zone_is_made_changed_and_deleted() {
    let (console, zoned) = with_web();
    let (code, view) = console.ask("GET", WEB);
    assert_eq!((code, &view["spec"]["carve"]["memory_mib"]), (200, &json!(256)));
    let (code, limits) = console.tell("PATCH", WEB, r#"{"memory_mib":64}"#);
    let limit = json!({ "name": "memory.max", "asked": "67108864", "got": "67108864" });
    assert_eq!((code, &limits["limits"]), (200, &json!([limit])));
    assert_eq!(console.ask("GET", &format!("{WEB}/limits")).1["limits"], json!([limit]));
    for (act, state) in
        [("pause", "paused"), ("resume", "running"), ("stop?timeout_s=0", "installed")]
    {
        let (code, view) = console.ask("POST", &format!("{WEB}/{act}"));
        assert_eq!((code, &view["summary"]["state"]), (200, &json!(state)));
    }
    assert_eq!(console.ask("GET", &format!("{WEB}/stats")).1["cpu_us"], json!(7));
    let (_, why) = console.ask("GET", &format!("{WEB}/why"));
    assert!(why["reasons"][0].as_str().unwrap().starts_with("out of memory"));
    assert_eq!(console.ask("POST", &format!("{WEB}/publish")).1["objects"], json!(2));
    assert_eq!(console.ask("DELETE", WEB), (200, json!({ "deleted": "web" })));
    assert!(zoned.state().zones.is_empty());
    let (code, problem) = console.ask("GET", WEB);
    assert_eq!((code, &problem["code"]), (404, &json!("NoSuchZone")));
}

#[test]
fn what_is_wrong_with_a_zone_is_said_before_zoned_hears_of_it() {
    let (console, zoned) = with_web();
    let make = |spec: Value| {
        let (code, problem) = console.tell("POST", "/v1/zones/standing", &spec.to_string());
        (code, problem["code"].clone(), problem["message"].to_string())
    };
    let (code, word, text) =
        make(json!({ "name": "b", "login": "ada", "image": "base", "colour": 1 }));
    assert_eq!((code, word), (400, json!("InvalidSpec")));
    assert!(text.contains("colour"), "{text}");
    let carve = json!({ "pids": 1 });
    let (code, word, text) =
        make(json!({ "name": "b", "login": "ada", "image": "base", "carve": carve }));
    assert_eq!((code, word), (400, json!("InvalidSpec")));
    assert!(text.contains("pids is 1"), "{text}");
    let (code, word, _) = make(json!({ "name": "web", "login": "ada", "image": "base" }));
    assert_eq!((code, word), (409, json!("ZoneExists")));
    assert_eq!(console.tell("PATCH", WEB, r#"{"memory":64}"#).0, 400);
    assert_eq!(console.tell("POST", "/v1/zones/standing", &"x".repeat(60_000)).0, 413);
    assert_eq!(console.ask("PUT", WEB).0, 405);
    assert_eq!(zoned.state().zones.len(), 1);
}

#[test]
fn a_long_list_is_whole_and_usage_leaves_out_what_does_not_run() {
    let (console, zoned) = with_web();
    for number in 0..130 {
        let spec = format!(r#"{{"name":"z{number}","login":"ada","image":"base"}}"#);
        let mut view = played::zoned::view(serde_json::from_str(&spec).unwrap());
        view.summary.state = ZoneState::Installed;
        zoned.state().zones.insert(format!("z{number}"), view);
    }
    let (code, list) = console.ask("GET", "/v1/zones/standing");
    assert_eq!((code, list["zones"].as_array().unwrap().len()), (200, 131));
    let (_, usage) = console.ask("GET", "/v1/zones/stats");
    let names: Vec<_> =
        usage["zones"].as_array().unwrap().iter().map(|z| &z["zone"]["name"]).collect();
    assert_eq!(names, [&json!("web")]);
}

#[test]
fn limits_of_an_account_are_set_shown_and_taken_back() {
    let (console, _zoned) = with_web();
    let (code, list) = console.ask("GET", "/v1/accounts");
    assert_eq!((code, &list["accounts"][0]["login"]), (200, &json!("ada")));
    let limits = "/v1/accounts/ada/limits";
    let (code, state) = console.tell("PATCH", limits, r#"{"zones":4}"#);
    assert_eq!((code, &state["set"]["zones"]), (200, &json!(4)));
    console.tell("PATCH", limits, r#"{"memory_mib":64}"#);
    let (_, state) = console.ask("GET", "/v1/accounts/ada");
    assert_eq!((&state["set"]["zones"], &state["set"]["memory_mib"]), (&json!(4), &json!(64)));
    let (code, state) = console.ask("DELETE", limits);
    assert_eq!((code, &state["set"]["zones"]), (200, &Value::Null));
    let (code, problem) = console.tell("PATCH", limits, r#"{"memory":64}"#);
    assert_eq!((code, &problem["code"]), (400, &json!("InvalidChange")));
    assert_eq!(console.ask("GET", "/v1/accounts/bob").0, 404);
    assert_eq!(console.ask("PUT", limits).0, 405);
}

#[test]
fn images_are_imported_listed_and_removed() {
    let (console, _zoned) = with_web();
    let import = r#"{"name":"debian","object":"/ada/stor/images/debian.tar"}"#;
    assert_eq!(console.tell("POST", "/v1/images", import), (202, json!({ "accepted": "import" })));
    assert_eq!(console.ask("GET", "/v1/images"), (200, json!({ "images": [] })));
    assert_eq!(console.ask("DELETE", "/v1/images/debian"), (200, json!({ "deleted": "debian" })));
    assert_eq!(console.tell("POST", "/v1/images", "{}").0, 400);
}

/// The lines of an answer, the sizes of its chunks left out.
fn follow(console: &Console, target: &str) -> impl Iterator<Item = Value> + use<> {
    let mut stream = TcpStream::connect(console.address).unwrap();
    stream.set_read_timeout(Some(played::PATIENCE)).unwrap();
    let request =
        format!("GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let ended = |line: &String| line != "0";
    lines
        .take_while(ended)
        .filter_map(|line| serde_json::from_str(&line).ok().filter(Value::is_object))
}

#[test]
fn events_go_on_over_a_restart_of_zoned_and_none_comes_twice() {
    let (console, zoned) = with_web();
    for _ in 0..9 {
        zoned.tell(Subject::Node, What::Released);
    }
    let numbers = |target: &str| -> Vec<u64> {
        follow(&console, target).map(|event| event["number"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers("/v1/zones/events"), (1..=10).collect::<Vec<_>>());
    assert_eq!(numbers("/v1/zones/events?after=9"), [10]);
    assert!(numbers("/v1/zones/events?after=10").is_empty());
    let mut lines = follow(&console, "/v1/zones/events?follow&after=8");
    assert_eq!(lines.next().unwrap()["number"], json!(9));
    assert_eq!(lines.next().unwrap()["number"], json!(10));
    zoned.state().gone = true;
    std::thread::sleep(Duration::from_millis(200));
    zoned.state().gone = false;
    zoned.tell(Subject::Node, What::OutOfMemory);
    let event = lines.next().unwrap();
    assert_eq!((&event["number"], &event["what"]["event"]), (&json!(11), &json!("out_of_memory")));
}

#[test]
fn a_log_is_followed_from_its_last_lines_over_a_change_of_files() {
    let (console, zoned) = with_web();
    let mut first = tempfile::tempfile().unwrap();
    write!(first, "one\ntwo\nthr").unwrap();
    zoned.state().log = vec![first.try_clone().unwrap()];
    let whole: Vec<_> = follow(&console, &format!("{WEB}/logs")).collect();
    assert_eq!(
        whole,
        [json!({ "text": "one" }), json!({ "text": "two" }), json!({ "text": "thr", "cut": true }),]
    );
    let mut lines = follow(&console, &format!("{WEB}/logs?lines=2&follow"));
    assert_eq!(lines.next().unwrap(), json!({ "text": "two" }));
    assert_eq!(lines.next().unwrap(), json!({ "text": "thr", "cut": true }));
    writeln!(first, "ee").unwrap();
    let mut second: File = tempfile::tempfile().unwrap();
    writeln!(second, "four").unwrap();
    zoned.state().log.push(second);
    assert_eq!(lines.next().unwrap(), json!({ "text": "ee" }));
    assert_eq!(lines.next().unwrap(), json!({ "text": "four" }));
    zoned.state().zones.clear();
    assert_eq!(lines.next().unwrap()["code"], json!("NoSuchZone"));
    assert_eq!(lines.next(), None);
}

type Session = WebSocket<TcpStream>;

fn session(console: &Console, zone: &str) -> Session {
    let address = console.address;
    let mut request =
        format!("ws://{address}/v1/zones/standing/{zone}/exec").into_client_request().unwrap();
    let token = format!("Bearer {TOKEN}").parse().unwrap();
    request.headers_mut().insert("authorization", token);
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(played::PATIENCE)).unwrap();
    tungstenite::client(request, stream).unwrap().0
}

fn say(session: &mut Session, packet: &Packet<'_>) {
    session.send(Message::Binary(packet.encode().unwrap().into())).unwrap();
}

fn begin(session: &mut Session, words: &[&str], terminal: Option<WindowSize>) {
    let command = words.iter().map(|&word| word.to_owned()).collect();
    let environment = vec![("COLOUR".to_owned(), "red".to_owned())];
    say(session, &Packet::Begin(Begin { command, environment, terminal, detached: false }));
}

/// Begins a program that does nothing for a while, and sees that it has begun.
fn begin_to_sleep(session: &mut Session) {
    begin(session, &["sh", "-c", "echo begun; exec sleep 5"], None);
    let message = session.read().unwrap().into_data();
    assert!(matches!(Packet::parse(&message).unwrap(), Packet::Output(b"begun\n")));
}

/// Output, errors and end.
fn rest(session: &mut Session) -> (String, String, End) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        let message = session.read().unwrap().into_data();
        match Packet::parse(&message).unwrap() {
            Packet::Output(bytes) => out.extend_from_slice(bytes),
            Packet::Errors(bytes) => err.extend_from_slice(bytes),
            Packet::End(end) => {
                let text = |bytes| String::from_utf8(bytes).unwrap();
                return (text(out), text(err), end);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_program_in_a_zone_reads_writes_and_ends() {
    let (console, _zoned) = with_web();
    let mut session = session(&console, "web");
    begin(&mut session, &["sh", "-c", "echo $COLOUR >&2; wc -c; exit 7"], None);
    for _ in 0..40 {
        say(&mut session, &Packet::Input(&[b'x'; 16 * 1024]));
    }
    say(&mut session, &Packet::Input(b""));
    let (out, err, end) = rest(&mut session);
    assert_eq!((out.trim(), err.as_str()), ("655360", "red\n"));
    assert_eq!(end, End::Outcome(Outcome::Exited { code: 7 }));
}

#[test]
fn what_is_left_running_is_named_and_not_waited_for() {
    let (console, _zoned) = with_web();
    let mut session = session(&console, "web");
    let command = ["sleep", "1000"].map(str::to_owned).to_vec();
    say(&mut session, &Packet::Begin(Begin { command, detached: true, ..Begin::default() }));
    let (_, _, end) = rest(&mut session);
    assert_eq!(end, End::Detached { session: 11 });
}

#[test]
fn much_output_arrives_whole_before_the_end() {
    let (console, _zoned) = with_web();
    let mut session = session(&console, "web");
    begin(&mut session, &["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; kill -9 $$"], None);
    let (out, _, end) = rest(&mut session);
    assert_eq!((out.len(), end), (3_000_000, End::Outcome(Outcome::Signalled { signal: 9 })));
}

#[test]
fn a_terminal_has_the_size_of_the_window() {
    let (console, _zoned) = with_web();
    let mut session = session(&console, "web");
    let size = WindowSize { rows: 24, columns: 80 };
    begin(&mut session, &["sh", "-c", "stty size; read x; stty size"], Some(size));
    let mut seen = String::new();
    while !seen.contains("24 80") {
        let message = session.read().unwrap().into_data();
        let Packet::Output(bytes) = Packet::parse(&message).unwrap() else { panic!() };
        seen.push_str(std::str::from_utf8(bytes).unwrap());
    }
    say(&mut session, &Packet::Size(WindowSize { rows: 50, columns: 132 }));
    say(&mut session, &Packet::Input(b"\n"));
    let (out, _, end) = rest(&mut session);
    assert!(out.contains("50 132"), "{out:?}");
    assert_eq!(end, End::Outcome(Outcome::Exited { code: 0 }));
}

#[test]
fn a_session_that_cannot_be_says_why() {
    let (console, _zoned) = with_web();
    let refused = |session: &mut Session| match rest(session).2 {
        End::Refused(refusal) => refusal.code,
        other => panic!("{other:?}"),
    };
    let mut nowhere = session(&console, "nowhere");
    begin(&mut nowhere, &["true"], None);
    assert_eq!(refused(&mut nowhere), "NoSuchZone");
    let mut rude = session(&console, "web");
    say(&mut rude, &Packet::Input(b"x"));
    assert_eq!(refused(&mut rude), "InvalidPacket");
    let mut zero = session(&console, "web");
    begin(&mut zero, &["a\0b"], None);
    assert_eq!(refused(&mut zero), "InvalidCommand");
    let (code, problem) = console.ask("GET", &format!("{WEB}/exec"));
    assert_eq!((code, &problem["code"]), (426, &json!("WebSocketOnly")));
}

#[test]
fn a_program_that_no_longer_reads_does_not_stop_the_session() {
    let (console, _zoned) = with_web();
    let mut session = session(&console, "web");
    begin(&mut session, &["sh", "-c", "exec <&-; sleep 0.3; echo done"], None);
    for _ in 0..20 {
        say(&mut session, &Packet::Input(&[b'x'; 16 * 1024]));
    }
    let (out, _, end) = rest(&mut session);
    assert_eq!((out.as_str(), end), ("done\n", End::Outcome(Outcome::Exited { code: 0 })));
}

#[test]
fn when_consoled_is_told_to_end_sessions_hear_of_it_and_it_goes_at_once() {
    let (mut console, _zoned) = with_web();
    let mut session = session(&console, "web");
    begin_to_sleep(&mut session);
    let mut lines = follow(&console, "/v1/zones/events?follow");
    assert_eq!(lines.next().unwrap()["number"], json!(1));
    let pid = nix::unistd::Pid::from_raw(console.child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(matches!(rest(&mut session).2, End::Lost { .. }));
    drop(session);
    assert!(console.child.wait().unwrap().success());
    // Nothing was waited for in vain.
    let said = console.said();
    assert!(!said.iter().any(|line| line.contains("did not end")), "{said:?}");
}

#[test]
fn when_zoned_goes_the_session_is_lost_and_says_so() {
    let (console, zoned) = with_web();
    let mut session = session(&console, "web");
    begin_to_sleep(&mut session);
    zoned.state().gone = true;
    assert!(matches!(rest(&mut session).2, End::Lost { .. }));
}
