//! consoled as its clients and its daemons meet it: a real process, real sockets, daemons played here.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod played;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use played::{Console, TOKEN};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;
use wire::frame::{Kind, encode};

/// The answer to consoled's only request on a connection.
fn reply(body: &Value) -> Vec<Vec<u8>> {
    vec![encode(Kind::Reply, 1, body, 0).unwrap()]
}

fn status() -> Value {
    let service = json!({
        "name": "storaged", "state": "back_off", "pid": null, "since_ms": 5, "restarts": 2,
        "message": "exited with 1", "memory_bytes": 4096,
    });
    json!({ "status": {
        "hostname": "node", "version": "0.1.0", "kernel": "6.12", "phase": "degraded",
        "uptime_ms": 9, "kernel_to_init_ms": 2, "init_to_ready_ms": 4, "memory_total_bytes": 100,
        "memory_available_bytes": 50, "services": [service],
    } })
}

#[test]
fn without_the_token_there_is_health_and_nothing_else() {
    let console = Console::start();
    let plain = |target: &str| {
        console.raw(
            format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
        )
    };
    let (status, _, body) = plain("/v1/health");
    assert_eq!((status, body), (200, json!({ "alive": true })));
    for target in ["/v1/node", "/v1/store", "/nowhere"] {
        let (status, head, body) = plain(target);
        assert_eq!((status, &body["code"]), (401, &json!("TokenMissing")), "{target}");
        assert!(head.contains("www-authenticate: bearer"));
        assert!(head.contains("content-type: application/json"));
    }
    let wrong =
        "GET /v1/node HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer x\r\n\r\n";
    let (status, _, body) = console.raw(wrong.as_bytes());
    assert_eq!((status, &body["code"]), (401, &json!("TokenInvalid")));
}

#[test]
fn a_daemon_that_is_away_is_named_in_a_503() {
    let console = Console::start();
    for (target, code, name) in [
        ("/v1/node", "InitUnavailable", "init"),
        ("/v1/store", "StoragedUnavailable", "storaged"),
        ("/v1/zones", "ZonedUnavailable", "zoned"),
    ] {
        let (status, body) = console.ask("GET", target);
        assert_eq!((status, &body["code"]), (503, &json!(code)));
        assert!(body["message"].as_str().unwrap().starts_with(name));
    }
}

#[test]
fn the_node_is_shown_with_what_is_wrong_with_it() {
    let console = Console::start();
    console.plays("init", |_| reply(&status()));
    let (code, body) = console.ask("GET", "/v1/node");
    assert_eq!((code, &body["node"]["hostname"]), (200, &json!("node")));
    assert_eq!(body["data_disk"], Value::Null);
    let reasons = body["degraded"].to_string();
    for reason in ["storaged ended", "exited with 1", "no data disk", "kernel report"] {
        assert!(reasons.contains(reason), "{reasons}");
    }
}

#[test]
fn the_store_hears_who_comes_and_its_news_are_passed_over() {
    let console = Console::start();
    let heard = console.plays("storaged", |_| {
        let news = encode(Kind::Push, 0, &json!({ "runnable": [] }), 0).unwrap();
        let status = json!({ "status": {
            "store": "s", "objects": 3, "object_bytes": 5, "free_bytes": 7, "sequence": 9,
            "verity": true, "read_only": null,
        } });
        vec![news, encode(Kind::Reply, 1, &status, 0).unwrap()]
    });
    let (code, body) = console.ask("GET", "/v1/store");
    assert_eq!((code, &body["objects"]), (200, &json!(3)));
    assert_eq!(heard.recv().unwrap(), json!({ "peer": "consoled" }));
    assert_eq!(heard.recv().unwrap(), json!("status"));
}

#[test]
fn logs_are_read_to_their_end_and_cut_at_their_beginning() {
    let console = Console::start();
    console.plays("init", |request| {
        let from = request["logs"]["from"].as_u64().unwrap();
        let line = |n: u64| json!({ "number": n, "at_ms": n * 10, "text": format!("line {n}") });
        let lines: Vec<_> = (from..30).take(7).map(line).collect();
        let next = from + lines.len() as u64;
        reply(&json!({ "logs": { "lines": lines, "next": next, "lost": 0 } }))
    });
    let (code, body) = console.ask("GET", "/v1/node/logs?service=zoned&lines=2");
    let line = |n: u64| json!({ "service": "zoned", "at_ms": n * 10, "text": format!("line {n}") });
    assert_eq!((code, body), (200, json!({ "lines": [line(28), line(29)] })));
}

#[test]
fn poweroff_is_passed_on_and_a_refusal_comes_back() {
    let console = Console::start();
    let heard = console.plays("init", |request| match request.as_str() {
        Some("poweroff") => reply(&json!("accepted")),
        _ => {
            let refusal = json!({ "code": "Busy", "message": "an update is under way" });
            vec![encode(Kind::Refusal, 1, &refusal, 0).unwrap()]
        }
    });
    let (code, body) = console.ask("POST", "/v1/node/poweroff");
    assert_eq!((code, body), (202, json!({ "accepted": "poweroff" })));
    assert_eq!(heard.recv().unwrap(), json!("poweroff"));
    let (code, body) = console.ask("POST", "/v1/node/reboot");
    assert_eq!((code, &body["code"]), (409, &json!("Busy")));
    let (code, _) = console.ask("GET", "/v1/node/poweroff");
    assert_eq!(code, 405);
}

#[test]
fn a_daemon_that_talks_rubbish_is_a_502() {
    let console = Console::start();
    console.plays("zoned", |_| vec![b"HTTP/1.1 200 OK, 24 bytes and more".to_vec()]);
    let (code, body) = console.ask("GET", "/v1/zones");
    assert_eq!((code, &body["code"]), (502, &json!("DaemonNonsense")));
}

#[test]
fn a_daemon_that_says_nothing_is_a_503_in_time() {
    let console = Console::start();
    console.plays("zoned", |_| Vec::new());
    let (code, body) = console.ask("GET", "/v1/zones");
    assert_eq!((code, &body["code"]), (503, &json!("ZonedUnavailable")));
}

#[test]
fn bodies_and_heads_that_are_too_large_are_refused() {
    let console = Console::start();
    let body = "x".repeat(8 * 1024);
    let request = format!(
        "POST /v1/node/poweroff HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\
         Authorization: Bearer {TOKEN}\r\n\r\n{body}",
        body.len()
    );
    let (code, _, answer) = console.raw(request.as_bytes());
    assert_eq!((code, &answer["code"]), (413, &json!("BodyTooLarge")));
    let head = format!("GET /v1/health HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    assert_eq!(console.raw(head.as_bytes()).0, 431);
    assert_eq!(console.raw(b"\x16\x03\x01 rubbish\r\n\r\n").0, 400);
    assert_eq!(console.ask("GET", "/v1/health").0, 200);
}

#[test]
fn a_socket_handed_over_is_used_and_the_supervisor_hears_of_start_and_end() {
    let run = tempfile::tempdir().unwrap();
    std::fs::write(run.path().join("admin-token"), TOKEN).unwrap();
    let ear = UnixDatagram::bind(run.path().join("notify")).unwrap();
    ear.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut command = Command::new("sh");
    let script = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_FDNAMES=admin exec \"$@\"";
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_consoled")]);
    command.env("NOTIFY_SOCKET", run.path().join("notify")).stdin(OwnedFd::from(listener));
    let mut console = Console::spawn(command, run);
    assert_eq!(console.address, address);
    let hear = || {
        let mut buffer = [0; 64];
        let got = ear.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..got].to_vec()).unwrap()
    };
    assert_eq!(hear(), "READY=1");
    assert_eq!(console.ask("GET", "/v1/health").0, 200);
    kill(Pid::from_raw(console.child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(hear(), "STOPPING=1");
    assert!(console.child.wait().unwrap().success());
}
