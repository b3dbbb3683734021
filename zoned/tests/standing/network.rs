//! Standing zones with a network: what they reach, while zoned lives and after it crashed, and what is left.

use crate::client::Client;
use crate::common::eventually;
use crate::machine::{Machine, name, on_a_machine};
use nix::net::if_::if_nameindex;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use sys::namespace;
use sys::process::Exit;
use wire::carve::{CarveChange, Protocol, Rule};
use wire::standing::{ZoneReply, ZoneRequest, ZoneState};

const SPEC: &str = r#"{"name":"net","login":"ann","image":"base","network":{"in_bytes":2000000,"allow":[
    {"protocol":"tcp","address":"100.96.0.1","prefix":32,"first_port":9000,"last_port":9000}]}}"#;
const REACH: &str = "for port in 9000 9001; do \
    (exec 3<>/dev/tcp/100.96.0.1/$port && head -1 <&3) 2>&1 | tail -1; done; \
    (exec 3<>/dev/tcp/169.254.169.254/80) 2>&1 | tail -1";

/// Runs a test on a machine whose network is its own, with a server on its port 9000.
fn on_a_network(name: &str, test: impl FnOnce(&mut Machine)) {
    on_a_machine(name, |machine| {
        machine.crash();
        let network = namespace::network().unwrap();
        namespace::enter_network(network.as_fd()).unwrap();
        sys::netlink::Netlink::open().unwrap().bring_up(sys::netlink::Link(1)).unwrap();
        let server = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 9000)).unwrap();
        std::thread::spawn(move || {
            for mut stream in server.incoming().flatten() {
                stream.write_all(b"hello\n").unwrap();
            }
        });
        machine.start(None);
        test(machine);
    });
}

fn reaches(client: &mut Client) {
    let (_, text) = client.exec("net", REACH);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!(lines[0], "hello");
    assert!(lines[1..].iter().all(|line| line.contains("Operation not permitted")), "{text}");
}

fn links() -> usize {
    if_nameindex().unwrap().iter().filter(|link| link.name().to_bytes().starts_with(b"z")).count()
}

#[test]
fn a_zone_keeps_its_network_and_its_rules_when_zoned_crashes() {
    on_a_network("network::a_zone_keeps_its_network_and_its_rules_when_zoned_crashes", |machine| {
        let mut client = machine.client();
        let view = client.create(SPEC);
        client.reach("net", ZoneState::Running);
        assert!(view.spec.network.is_some());
        let view = client.zone(ZoneRequest::Get(name("net")));
        assert!(view.address.unwrap().to_string().starts_with("100.96."));
        reaches(&mut client);
        let stats = |client: &mut Client| match client.ask(ZoneRequest::Stats(name("net"))) {
            Ok((ZoneReply::Stats(stats), _)) => stats,
            other => panic!("unexpected {other:?}"),
        };
        let before = stats(&mut client);
        assert_eq!(before.refused, 2);
        assert!(before.out_packets > 0 && before.in_bytes > 0);
        machine.crash();
        machine.start(None);
        let mut client = machine.client();
        reaches(&mut client);
        assert_eq!(stats(&mut client).refused, 4);
        assert_eq!(links(), 1);
        client.zone(ZoneRequest::Stop { name: name("net"), timeout_s: 20 });
        client.reach("net", ZoneState::Installed);
        assert_eq!(links(), 0);
        client.zone(ZoneRequest::Start(name("net")));
        client.reach("net", ZoneState::Running);
        reaches(&mut client);
        client.ask(ZoneRequest::Delete(name("net"))).unwrap();
        eventually("it is gone", || machine.zones().is_empty() && links() == 0);
    });
}

#[test]
fn rates_change_while_the_zone_runs_and_are_read_back() {
    on_a_network("network::rates_change_while_the_zone_runs_and_are_read_back", |machine| {
        let mut client = machine.client();
        client.create(SPEC);
        client.reach("net", ZoneState::Running);
        let change = Box::new(CarveChange { in_bytes: Some(5_000_000), ..CarveChange::default() });
        let update = ZoneRequest::Update { name: name("net"), change };
        let Ok((ZoneReply::Limits(limits), _)) = client.ask(update) else { panic!("no limits") };
        let limit = limits.iter().find(|limit| limit.name == "network in (tbf)").unwrap();
        assert_eq!((limit.asked.as_str(), limit.got.as_str()), ("5000000 B/s", "5000000 B/s"));
        client.ask(ZoneRequest::Delete(name("net"))).unwrap();
        eventually("it is gone", || machine.zones().is_empty());
    });
}

#[test]
fn rules_change_while_the_zone_runs_and_are_read_back() {
    on_a_network("network::rules_change_while_the_zone_runs_and_are_read_back", |machine| {
        let mut client = machine.client();
        client.create(SPEC);
        client.reach("net", ZoneState::Running);
        reaches(&mut client);
        let first = |client: &mut Client| {
            let (_, text) = client.exec("net", REACH);
            text.lines().next().unwrap_or_default().to_owned()
        };
        let update = |client: &mut Client, allow: Vec<Rule>| {
            let change = Box::new(CarveChange { allow: Some(allow), ..CarveChange::default() });
            client.ask(ZoneRequest::Update { name: name("net"), change }).map(|(reply, _)| {
                let ZoneReply::Limits(limits) = reply else { panic!("no limits") };
                let limit = limits.iter().find(|limit| limit.name == "network rules").unwrap();
                (limit.asked.clone(), limit.got.clone())
            })
        };
        let gateway = |address: &str, port| Rule {
            protocol: Protocol::Tcp,
            address: address.parse().unwrap(),
            prefix: 32,
            first_port: port,
            last_port: port,
        };
        // A connection that is open stays open over the change.
        let (session, files) = client.begin(
            "net",
            "exec 3<>/dev/tcp/100.96.0.1/9000; echo open; read go; head -1 <&3",
            None,
        );
        let [mut stdin, stdout, _] = <[File; 3]>::try_from(files).unwrap();
        let mut lines = BufReader::new(stdout).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "open");
        let nobody = update(&mut client, Vec::new()).unwrap();
        assert_eq!(nobody, ("nobody".to_owned(), "nobody".to_owned()));
        assert!(first(&mut client).contains("Operation not permitted"));
        stdin.write_all(b"go\n").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "hello");
        client.outcome(session);
        // Rules that could not be kept are refused, and those in force stay.
        let refused = update(&mut client, vec![gateway("100.96.0.9", 9000)]).unwrap_err();
        assert_eq!(refused.code, "InvalidSpec");
        assert!(refused.message.contains("belongs to zones"), "{refused:?}");
        let one = update(&mut client, vec![gateway("100.96.0.1", 9000)]).unwrap();
        let text = "tcp 100.96.0.1/32 port 9000-9000".to_owned();
        assert_eq!(one, (text.clone(), text));
        assert_eq!(first(&mut client), "hello");
        // They are on record: the next zoned has them.
        update(&mut client, Vec::new()).unwrap();
        machine.crash();
        machine.start(None);
        let mut client = machine.client();
        assert!(first(&mut client).contains("Operation not permitted"));
        client.ask(ZoneRequest::Delete(name("net"))).unwrap();
        eventually("it is gone", || machine.zones().is_empty());
    });
}

#[test]
fn a_rule_that_leads_to_zones_is_refused_when_it_is_made() {
    on_a_network("network::a_rule_that_leads_to_zones_is_refused_when_it_is_made", |machine| {
        let spec = serde_json::from_str(&SPEC.replace("100.96.0.1", "100.96.0.9")).unwrap();
        let refused = machine.client().ask(ZoneRequest::Create(Box::new(spec))).unwrap_err();
        assert!(refused.message.contains("belongs to zones"), "{refused:?}");
    });
}

#[test]
fn killed_on_the_way_to_a_network_zoned_leaves_no_link() {
    on_a_network("network::killed_on_the_way_to_a_network_zoned_leaves_no_link", |machine| {
        for place in ["connected", "first-process", "stored"] {
            machine.crash();
            machine.start(Some(place));
            let mut client = machine.client();
            let spec = serde_json::from_str(SPEC).unwrap();
            // It may be killed before it answers.
            let asked = client.try_ask(ZoneRequest::Create(spec));
            assert_eq!(machine.ended(), Exit::Signal(libc::SIGKILL), "{place}: {asked:?}");
            machine.start(None);
            let mut client = machine.client();
            client.reach("net", ZoneState::Running);
            // The kernel takes its time with links of namespaces that are gone.
            eventually(place, || links() == 1);
            reaches(&mut client);
            client.ask(ZoneRequest::Delete(name("net"))).unwrap();
            eventually(place, || machine.zones().is_empty() && links() == 0);
        }
    });
}
