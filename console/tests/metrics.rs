//! `GET /metrics`, as Prometheus meets it: every line is one that it can read.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod played;

use played::zoned::Zoned;
use played::{Console, TOKEN};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use wire::standing::ZoneState;

/// A storaged that tells one number.
fn store(text: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut peer in listener.incoming().flatten() {
            let mut head = [0; 1024];
            let got = peer.read(&mut head).unwrap();
            assert!(head[..got].starts_with(b"GET /metrics HTTP/1.1\r\n"));
            let length = text.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}");
            peer.write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}

fn console(store: SocketAddr) -> Console {
    let run = tempfile::tempdir().unwrap();
    std::fs::write(run.path().join("admin-token"), format!("{TOKEN}\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_consoled"));
    command.args(["--listen", "127.0.0.1:0", "--store-metrics", &store.to_string()]);
    Console::spawn(command, run)
}

fn scrape(console: &Console, token: &str) -> (String, String) {
    let mut stream = TcpStream::connect(console.address).unwrap();
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// A sample's labels, by the text format's rules.
fn labels(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").expect("a label has a value");
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        assert!(!name.is_empty() && name.chars().all(plain), "{text}");
        let (mut value, mut letters) = (String::new(), after.char_indices());
        let end = loop {
            match letters.next().expect("a value ends") {
                (at, '"') => break at,
                (_, '\\') => match letters.next().unwrap().1 {
                    'n' => value.push('\n'),
                    c @ ('"' | '\\') => value.push(c),
                    other => panic!("\\{other} is no escape"),
                },
                (_, c) => value.push(c),
            }
        };
        assert!(found.insert(name.to_owned(), value).is_none(), "{name} stands twice: {text}");
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    found
}

type Samples = BTreeMap<(String, Vec<(String, String)>), f64>;

/// Reads the text as Prometheus does, and refuses what it would refuse.
fn parse(text: &str) -> Samples {
    assert!(text.ends_with('\n'));
    let (mut samples, mut kinds) = (Samples::new(), BTreeMap::new());
    let (mut over, mut current) = (BTreeSet::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (what, name) = (words.next().unwrap(), words.next().unwrap());
            let rest = words.next().unwrap();
            if what == "TYPE" {
                assert!(["counter", "gauge", "histogram"].contains(&rest), "{line}");
                assert!(kinds.insert(name.to_owned(), rest.to_owned()).is_none(), "{line}: twice");
                current = name.to_owned();
                assert!(over.insert(name.to_owned()), "{name} begins twice");
            } else {
                assert_eq!(what, "HELP", "{line}");
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
        let (name, labels) = match series.split_once('{') {
            Some((name, rest)) => (name, labels(rest.strip_suffix('}').expect("labels end"))),
            None => (series, BTreeMap::new()),
        };
        let family = name
            .strip_suffix("_bucket")
            .or(name.strip_suffix("_sum"))
            .or(name.strip_suffix("_count"))
            .filter(|family| kinds.get(*family).is_some_and(|kind| kind == "histogram"))
            .unwrap_or(name);
        assert_eq!(family, current, "{line}: the series of one name stand together");
        if kinds[family] == "counter" {
            assert!(name.ends_with("_total") || name == "mobula_store_sequence", "{line}");
        }
        let key = (name.to_owned(), labels.into_iter().collect());
        assert!(samples.insert(key, value.parse().unwrap()).is_none(), "{line}: twice");
    }
    samples
}

fn value(samples: &Samples, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let mut labels: Vec<_> =
        labels.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    labels.sort();
    samples.get(&(name.to_owned(), labels)).copied()
}

const STORE: &str = "# HELP mobula_store_objects Objects.\n# TYPE mobula_store_objects gauge\nmobula_store_objects 7\n";

fn add(zoned: &Zoned, name: &str, login: &str, state: ZoneState) {
    let spec = format!(r#"{{"name":"{name}","login":"{login}","image":"base"}}"#);
    let mut view = played::zoned::view(serde_json::from_str(&spec).unwrap());
    view.summary.state = state;
    zoned.state().zones.insert(name.to_owned(), view);
}

#[test]
fn the_whole_node_is_told_in_a_text_that_prometheus_reads() {
    let console = console(store(STORE));
    let zoned = Zoned::start(console.run.path());
    add(&zoned, "web", "ada", ZoneState::Running);
    add(&zoned, "old", "ada", ZoneState::Installed);
    let (head, text) = scrape(&console, TOKEN);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{head}");
    let samples = parse(&text);
    let web = [("zone", "web"), ("account", "ada")];
    assert_eq!(value(&samples, "mobula_zone_cpu_seconds_total", &web), Some(0.000_007));
    let state = |zone, state| {
        let labels = [("zone", zone), ("account", "ada"), ("state", state)];
        value(&samples, "mobula_zone_state", &labels)
    };
    assert_eq!((state("web", "running"), state("old", "installed")), (Some(1.0), Some(1.0)));
    // What does not run uses nothing.
    let old = [("zone", "old"), ("account", "ada")];
    assert_eq!(value(&samples, "mobula_zone_memory_bytes", &old), None);
    let ada = [("account", "ada")];
    assert_eq!(value(&samples, "mobula_account_zones", &ada), Some(2.0));
    assert_eq!(value(&samples, "mobula_account_memory_limit_bytes", &ada), None);
    let waits = [("account", "ada"), ("resource", "io"), ("who", "all")];
    assert_eq!(value(&samples, "mobula_account_waiting_seconds_total", &waits), Some(0.0));
    assert_eq!(value(&samples, "mobula_store_objects", &[]), Some(7.0));
    let up = |daemon| value(&samples, "mobula_up", &[("daemon", daemon)]);
    assert_eq!((up("init"), up("storaged"), up("zoned")), (Some(0.0), Some(1.0), Some(1.0)));
}

#[test]
fn one_daemon_that_is_away_hides_nothing_of_the_others() {
    let console = console("127.0.0.1:1".parse().unwrap());
    let (_, text) = scrape(&console, TOKEN);
    let samples = parse(&text);
    assert_eq!(value(&samples, "mobula_up", &[("daemon", "storaged")]), Some(0.0));
    let _zoned = Zoned::start(console.run.path());
    let samples = parse(&scrape(&console, TOKEN).1);
    assert_eq!(value(&samples, "mobula_up", &[("daemon", "zoned")]), Some(1.0));
    assert_eq!(value(&samples, "mobula_tasks_places", &[]), Some(8.0));
}

#[test]
fn a_thousand_zones_are_not_a_thousand_series() {
    let console = console(store(STORE));
    let zoned = Zoned::start(console.run.path());
    for number in 0..600 {
        add(&zoned, &format!("z{number:04}"), "ada", ZoneState::Running);
    }
    let samples = parse(&scrape(&console, TOKEN).1);
    let zones = samples.keys().filter(|(name, _)| name == "mobula_zone_memory_bytes").count();
    assert_eq!(zones, 512);
    assert_eq!(value(&samples, "mobula_zones_left_out", &[]), Some(88.0));
    assert_eq!(value(&samples, "mobula_account_zones", &[("account", "ada")]), Some(600.0));
}

#[test]
fn numbers_are_for_those_who_have_the_token() {
    let console = console(store(STORE));
    let (head, text) = scrape(&console, "another-token-than-the-node-s");
    assert!(head.starts_with("HTTP/1.1 401") && !text.contains("mobula_"), "{head}");
}
