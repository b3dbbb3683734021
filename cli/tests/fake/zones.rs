//! Standing zones of an appliance that is not there.

use super::{Request, Response, TOKEN, json_error, respond};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};
use wire::session::{End, Packet};
use wire::zone::Outcome;

/// The zones, and what was asked of them.
#[derive(Default)]
pub struct Zones {
    /// Each with its name.
    pub zones: BTreeMap<String, Value>,
    /// Documents in order.
    pub documents: Vec<Value>,
    /// A zone is where it was sent at the look after so many.
    pub slow: u32,
    /// The last packet that was no input, of the last session.
    pub sessions: Vec<String>,
    target: &'static str,
    looks: u32,
}

const ZONES: &str = "/v1/zones/standing";

/// Answers what is about zones and images; nothing if it is not.
pub fn answer(zones: &mut Zones, request: &Request) -> Option<Response> {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    if !body.is_null() {
        zones.documents.push(body.clone());
    }
    let answer = |value: Value| respond(200, value.to_string());
    Some(match (request.method.as_str(), request.path.as_str()) {
        ("GET", ZONES) => {
            let list: Vec<_> = zones.zones.values().map(|zone| &zone["summary"]).collect();
            answer(json!({ "zones": list }))
        }
        ("POST", ZONES) => create(zones, &body),
        ("GET", "/v1/zones/stats") => {
            let usage = |zone: &Value| json!({ "zone": zone["summary"], "stats": { "cpu_us": 5 } });
            let all: Vec<_> = zones.zones.values().map(usage).collect();
            answer(json!({ "at_unix_ms": 1_795_336_352_000_u64, "zones": all }))
        }
        ("GET", "/v1/zones/events") => respond(200, events(request)),
        ("POST", "/v1/images") => respond(202, json!({ "accepted": "import" }).to_string()),
        ("GET", "/v1/images") => answer(json!({ "images": [{
            "name": "base", "sha256": "ab", "bytes": 4096, "shipped": true, "zones": 2,
        }] })),
        ("DELETE", "/v1/images/base") => json_error(409, "ImageInUse"),
        (method, path) => {
            let rest = path.strip_prefix(ZONES)?.strip_prefix('/')?;
            let (name, act) = rest.split_once('/').unwrap_or((rest, ""));
            one(zones, method, name, act)
        }
    })
}

fn create(zones: &mut Zones, spec: &Value) -> Response {
    let name = spec["name"].as_str().unwrap().to_owned();
    let view = json!({
        "summary": {
            "name": name, "state": "configured", "login": spec["login"], "image": spec["image"],
            "state_ms": 3, "memory_mib": 256, "memory_bytes": 4096, "cpu_us": 7, "processes": 1,
        },
        "spec": spec, "address": null, "created_unix_ms": 1_795_336_352_000_u64, "restarts": 0,
        "last_outcome": null,
    });
    zones.zones.insert(name, view.clone());
    (zones.target, zones.looks) = ("running", 0);
    respond(201, view.to_string())
}

fn one(zones: &mut Zones, method: &str, name: &str, act: &str) -> Response {
    let Some(zone) = zones.zones.get_mut(name) else { return json_error(404, "NoSuchZone") };
    match (method, act) {
        ("GET", "") => {
            zones.looks += 1;
            if zones.looks > zones.slow {
                zone["summary"]["state"] = json!(zones.target);
            }
            respond(200, zone.to_string())
        }
        ("POST", "start" | "stop" | "pause" | "resume") => {
            zones.looks = 0;
            zones.target = match act {
                "stop" => "installed",
                "pause" => "paused",
                _ => "running",
            };
            respond(200, zone.to_string())
        }
        ("DELETE", "") => {
            zones.zones.remove(name);
            respond(200, json!({ "deleted": name }).to_string())
        }
        ("GET", "limits") => limits(64),
        ("PATCH", "") => limits(128),
        ("GET", "stats") => respond(200, json!({ "oom_kills": 3 }).to_string()),
        ("GET", "why") => {
            respond(200, json!({ "reasons": ["out of \u{1b}[2Jmemory"] }).to_string())
        }
        ("POST", "publish") => {
            let refused = json!({
                "objects": 2, "bytes": 9, "refused": ["a: a fifo"], "refused_count": 1,
            });
            respond(200, refused.to_string())
        }
        ("GET", "logs") => {
            let lines = [
                json!({ "text": "one\u{1b}[2J" }),
                json!({ "text": "two, ", "cut": true }),
                json!({ "text": "three" }),
                json!({ "code": "NoSuchZone", "message": "it was deleted" }),
            ];
            respond(200, lines.map(|line| format!("{line}\n")).concat())
        }
        _ => json_error(405, "MethodNotAllowed"),
    }
}

fn limits(pids: u32) -> Response {
    let same = json!({ "name": "memory.max", "asked": "1", "got": "1" });
    let pids = json!({ "name": "pids.max", "asked": pids.to_string(), "got": pids.to_string() });
    respond(200, json!({ "limits": [same, pids] }).to_string())
}

fn events(request: &Request) -> String {
    let event = |number: u64, subject: Value, what: Value| {
        let event = json!({
            "number": number, "at_unix_ms": 1_795_336_352_000_u64, "subject": subject, "what": what,
        });
        format!("{event}\n")
    };
    let state = json!({ "event": "state", "from": "ready", "to": "running", "why": null });
    let old = event(1, json!({ "zone": "web" }), state);
    let failed = json!({ "event": "import_failed", "why": "a layer is no tar\u{7}" });
    let failed = event(2, json!({ "image": "broken" }), failed);
    let imported = json!({ "event": "imported", "sha256": "cd", "bytes": 2048 });
    let imported = event(3, json!({ "image": "debian" }), imported);
    match request.query.get("after").map(String::as_str) {
        Some("1") => failed + &imported,
        _ => old,
    }
}

/// Whether the request is for a session.
pub fn is_session(request: &Request) -> bool {
    request.path.ends_with("/exec") && request.headers.contains_key("sec-websocket-key")
}

/// Plays a program in a zone: it tells what it was begun with, then does what its first word says.
pub fn session(stream: &TcpStream, request: &Request, mut said: impl FnMut(String)) {
    assert_eq!(request.headers["authorization"], format!("Bearer {TOKEN}"));
    let mut writer = stream;
    if request.path.contains("/nowhere/") {
        let problem = r#"{"code":"NoSuchZone","message":"there is none"}"#;
        let head = format!("HTTP/1.1 404 Fake\r\ncontent-length: {}\r\n\r\n", problem.len());
        writer.write_all(format!("{head}{problem}").as_bytes()).unwrap();
        return;
    }
    let key = derive_accept_key(request.headers["sec-websocket-key"].as_bytes());
    let head = format!(
        "HTTP/1.1 101 Fake\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {key}\r\n\r\n"
    );
    writer.write_all(head.as_bytes()).unwrap();
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    let first = socket.read().unwrap().into_data();
    let Packet::Begin(begin) = Packet::parse(&first).unwrap() else { panic!("no Begin") };
    said(serde_json::to_string(&begin).unwrap());
    let send = |socket: &mut WebSocket<&TcpStream>, packet: Packet<'_>| {
        socket.send(Message::Binary(packet.encode().unwrap().into())).unwrap();
    };
    let word = begin.command.first().map_or("sh", String::as_str);
    let outcome = match word {
        "cat" => loop {
            let message = socket.read().unwrap().into_data();
            match Packet::parse(&message).unwrap() {
                Packet::Input([]) => break Outcome::Exited { code: 0 },
                Packet::Input(bytes) => send(&mut socket, Packet::Output(bytes)),
                other => said(format!("{other:?}")),
            }
        },
        "sh" => {
            send(&mut socket, Packet::Output(b"# "));
            loop {
                let message = socket.read().unwrap().into_data();
                match Packet::parse(&message).unwrap() {
                    Packet::Input(b"\x04") => break Outcome::Exited { code: 0 },
                    Packet::Input(bytes) => send(&mut socket, Packet::Output(bytes)),
                    other => {
                        said(format!("{other:?}"));
                        send(&mut socket, Packet::Output(b"resized"));
                    }
                }
            }
        }
        "kill" => Outcome::Signalled { signal: 9 },
        "drop" => return,
        _ => {
            send(&mut socket, Packet::Output(b"out\n"));
            send(&mut socket, Packet::Errors(b"err\n"));
            Outcome::Exited { code: 7 }
        }
    };
    send(&mut socket, Packet::End(End::Outcome(outcome)));
    // The client has what it wants, and closes or not.
    drop(socket.close(None));
    while socket.read().is_ok() {}
}
