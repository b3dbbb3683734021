//! Networks of zones on this host: a node, a zone and a world outside, each a network namespace.
//!
//! Needs root, cgroup v2, python3 and iproute2; says so and passes without. What is tested is the kernel
//! with our programs and links in it; the tenant is a few lines of Python in a cgroup of its own.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod node;

use node::{NODE, on_a_node};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;
use sys::netlink::{Link, Netlink};
use wire::carve::{Network, Protocol, Rule};
use zoned::network::{NetworkError, Networks};

/// Full packets carry this many bytes of TCP, with the timestamps that Linux sends (RFC 7323).
const SEGMENT: f64 = 1448.0;
const PACKET: f64 = 1500.0;

fn rule(protocol: Protocol, network: &str, port: u16) -> Rule {
    let (address, prefix) = network.split_once('/').unwrap();
    let (first_port, last_port) = if port == 0 { (0, u16::MAX) } else { (port, port) };
    let address = address.parse().unwrap();
    Rule { protocol, address, prefix: prefix.parse().unwrap(), first_port, last_port }
}

fn network(allow: &[Rule]) -> Network {
    Network { allow: allow.to_vec(), ..Network::default() }
}

fn all() -> Network {
    let any = [
        (Protocol::Tcp, "0.0.0.0/0"),
        (Protocol::Udp, "0.0.0.0/0"),
        (Protocol::Tcp, "::/0"),
        (Protocol::Udp, "::/0"),
    ];
    network(&any.map(|(protocol, to)| rule(protocol, to, 0)))
}

fn count_of_links() -> usize {
    nix::net::if_::if_nameindex().unwrap().iter().count()
}

#[test]
fn without_a_network_there_is_no_internet_socket() {
    on_a_node(|node| {
        let _networks = Networks::open(&node.cgroup).unwrap();
        let zone = node.zone("none");
        let acts = ["kind 1 0", "kind 2 0", "kind 3 1", "tcp 127.0.0.1 80", "tcp ::1 80"];
        assert_eq!(zone.tries(&acts), vec!["EPERM"; acts.len()]);
    });
}

#[test]
fn a_zone_reaches_what_its_rules_name_and_nothing_else() {
    on_a_node(|node| {
        [8000, 8001].into_iter().for_each(|port| node.echo(port));
        let mut networks = Networks::open(&node.cgroup).unwrap();
        let zone = node.zone("web");
        let rules = network(&[rule(Protocol::Tcp, "192.0.2.1/32", 8000)]);
        let address = networks.connect(zone.id, 3, zone.namespace.as_fd(), &rules).unwrap();
        assert_eq!(address, Ipv4Addr::new(100, 96, 0, 5));
        let acts = [
            "tcp 192.0.2.1 8000",
            "tcp ::ffff:192.0.2.1 8000",
            "tcp 192.0.2.1 8001",
            "tcp ::ffff:192.0.2.1 8001",
            "udp 192.0.2.1 8000",
            "udp ::ffff:192.0.2.1 8000",
            "tcp 169.254.169.254 80",
            "tcp 100.96.0.1 9000",
            "tcp 100.96.0.2 80",
            "tcp 192.0.2.2 9000",
            "tcp fe80::1%eth0 80",
            "udp ff02::1%eth0 80",
            "kind 3 1",
            "bind 8080",
        ];
        let node_address = NODE.to_string();
        let mut expected = vec![node_address.as_str(), node_address.as_str()];
        expected.extend(["EPERM"; 11]);
        expected.push("bound");
        assert_eq!(zone.tries(&acts), expected);
        assert_eq!(networks.counters(zone.id).unwrap().unwrap().refused, 11);
    });
}

#[test]
fn a_rule_for_everything_opens_neither_node_nor_zones_nor_metadata() {
    on_a_node(|node| {
        node.echo(8000);
        let mut networks = Networks::open(&node.cgroup).unwrap();
        let (zone, other) = (node.zone("one"), node.zone("two"));
        networks.connect(zone.id, 0, zone.namespace.as_fd(), &all()).unwrap();
        networks.connect(other.id, 1, other.namespace.as_fd(), &all()).unwrap();
        let acts = [
            "tcp 192.0.2.1 8000",
            "udp 192.0.2.1 8000",
            "tcp 192.0.2.2 22",
            "tcp 100.96.0.1 22",
            "tcp 100.96.0.3 22",
            "udp 100.96.0.3 22",
            "tcp 169.254.169.254 80",
            "tcp ::ffff:169.254.169.254 80",
            "tcp 127.0.0.1 80",
            "options 192.0.2.1 8000",
        ];
        let node_address = NODE.to_string();
        let mut expected = vec![node_address.as_str(); 2];
        expected.extend(["EPERM"; 6]);
        // Its own loopback, where nobody listens; and packets with source routes leave no zone.
        expected.extend(["ECONNREFUSED", "timed out"]);
        assert_eq!(zone.tries(&acts), expected);
    });
}

#[test]
fn counters_are_exact_and_a_zone_s_own_loopback_is_not_in_them() {
    on_a_node(|node| {
        let mut networks = Networks::open(&node.cgroup).unwrap();
        let zone = node.zone("counted");
        let rules = network(&[rule(Protocol::Udp, "192.0.2.1/32", 8000)]);
        networks.connect(zone.id, 0, zone.namespace.as_fd(), &rules).unwrap();
        node.echo(8000);
        assert_eq!(
            zone.tries(&["udp 192.0.2.1 8000", "tcp 127.0.0.1 1"]),
            ["192.0.2.2", "ECONNREFUSED"]
        );
        let seen = networks.counters(zone.id).unwrap().unwrap();
        // "ping" and "192.0.2.2" behind 28 bytes of IP and UDP.
        assert_eq!((seen.out_packets, seen.out_bytes), (1, 32));
        assert_eq!((seen.in_packets, seen.in_bytes), (1, 37));
    });
}

#[test]
fn rules_change_while_a_zone_lives() {
    on_a_node(|node| {
        [8000, 8001].into_iter().for_each(|port| node.echo(port));
        let mut networks = Networks::open(&node.cgroup).unwrap();
        let zone = node.zone("changed");
        let one = network(&[rule(Protocol::Tcp, "192.0.2.0/24", 8000)]);
        networks.connect(zone.id, 0, zone.namespace.as_fd(), &one).unwrap();
        let acts = ["tcp 192.0.2.1 8000", "tcp 192.0.2.1 8001"];
        assert_eq!(zone.tries(&acts), ["192.0.2.2", "EPERM"]);
        let other = network(&[rule(Protocol::Tcp, "192.0.2.0/24", 8001)]);
        networks.change(zone.id, &other).unwrap();
        assert_eq!(zone.tries(&acts), ["EPERM", "192.0.2.2"]);
        networks.change(zone.id, &network(&[])).unwrap();
        assert_eq!(zone.tries(&acts), ["EPERM", "EPERM"]);
    });
}

#[test]
fn the_next_zoned_takes_over_and_what_is_gone_leaves_nothing() {
    on_a_node(|node| {
        node.echo(8000);
        let before = count_of_links();
        let zone = node.zone("kept");
        let gone = node.zone("gone");
        let mut first = Networks::open(&node.cgroup).unwrap();
        first.connect(zone.id, 0, zone.namespace.as_fd(), &all()).unwrap();
        first.connect(gone.id, 1, gone.namespace.as_fd(), &all()).unwrap();
        drop(first);
        // Nobody watches, and the programs still do.
        let acts = ["tcp 192.0.2.1 8000", "tcp 169.254.169.254 80"];
        assert_eq!(zone.tries(&acts), ["192.0.2.2", "EPERM"]);
        let mut second = Networks::open(&node.cgroup).unwrap();
        assert_eq!(second.counters(zone.id).unwrap().unwrap().refused, 1);
        second.keep(&BTreeSet::from([zone.id])).unwrap();
        assert_eq!(gone.tries(&acts), ["EPERM", "EPERM"]);
        assert_eq!(second.counters(gone.id).unwrap(), None);
        let none = network(&[]);
        second.restore(zone.id, 0, zone.namespace.as_fd(), &none).unwrap();
        assert_eq!(zone.tries(&acts), ["EPERM", "EPERM"]);
        second.disconnect(zone.id).unwrap();
        second.disconnect(zone.id).unwrap();
        assert_eq!(zone.tries(&["kind 1 0"]), ["EPERM"]);
        // The bridge alone is left: it is the node's.
        assert_eq!(count_of_links(), before + 1);
    });
}

#[test]
fn rules_that_cannot_be_kept_are_refused_and_leave_nothing() {
    on_a_node(|node| {
        let mut networks = Networks::open(&node.cgroup).unwrap();
        let zone = node.zone("refused");
        let mut connect = |to| {
            let rules = network(&[rule(Protocol::Tcp, to, 80)]);
            networks.connect(zone.id, 0, zone.namespace.as_fd(), &rules).map(drop)
        };
        assert!(matches!(connect("100.96.0.9/32"), Err(NetworkError::OtherZones { .. })));
        assert!(matches!(connect("192.0.2.2/32"), Err(NetworkError::NodeAddress { .. })));
        assert!(connect("100.96.0.1/32").is_ok());
    });
}

#[test]
fn the_store_is_reached_by_the_node_s_address_for_zones_alone() {
    on_a_node(|node| {
        let store = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 9000)).unwrap();
        std::thread::spawn(move || {
            for stream in store.incoming().flatten() {
                (&stream).write_all(b"store").unwrap();
            }
        });
        let mut networks = Networks::open(&node.cgroup).unwrap();
        let zone = node.zone("reader");
        let rules = network(&[
            rule(Protocol::Tcp, "100.96.0.1/32", 9000),
            rule(Protocol::Tcp, "192.0.2.0/30", 9000),
        ]);
        networks.connect(zone.id, 0, zone.namespace.as_fd(), &rules).unwrap();
        let acts = ["tcp 100.96.0.1 9000", "tcp 100.96.0.1 8090", "tcp 192.0.2.2 9000"];
        assert_eq!(zone.tries(&acts), ["store", "EPERM", "EPERM"]);
    });
}

#[test]
fn devices_that_are_not_listed_are_not_opened() {
    on_a_node(|node| {
        let _networks = Networks::open(&node.cgroup).unwrap();
        let zone = node.zone("devices");
        let acts =
            ["device /dev/null", "device /dev/urandom", "device /dev/kmsg", "device /dev/mem"];
        let expected = ["opened", "opened", "EPERM", "EPERM"];
        let acts: Vec<&str> =
            acts.into_iter().filter(|act| Path::new(&act[7..]).exists()).collect();
        assert_eq!(zone.tries(&acts), expected[..acts.len()]);
    });
}

/// Whether this kernel has the queue that paces; the appliance's has.
fn has_fq() -> bool {
    Netlink::open().unwrap().queue_by_time(Link(1)).is_ok()
}

fn near(measured: f64, rate: f64) -> bool {
    println!(
        "{measured:.0} B/s measured, {rate:.0} B/s asked: {:+.2} %",
        (measured / rate - 1.0) * 100.0
    );
    (measured / rate - 1.0).abs() < 0.05
}

#[test]
fn what_enters_a_zone_keeps_to_its_rate() {
    on_a_node(|node| {
        let address = (Ipv4Addr::UNSPECIFIED, 8000);
        let source = node.outside(|| TcpListener::bind(address).unwrap());
        std::thread::spawn(move || {
            let block = vec![0; 65_536];
            for stream in source.incoming().flatten() {
                while (&stream).write_all(&block).is_ok() {}
            }
        });
        let mut networks = Networks::open(&node.cgroup).unwrap();
        let zone = node.zone("fast");
        for rate in [1_000_000, 4_000_000, 10_000_000] {
            let rules = Network { in_bytes: Some(rate), ..all() };
            if rate == 1_000_000 {
                networks.connect(zone.id, 0, zone.namespace.as_fd(), &rules).unwrap();
            } else {
                networks.change(zone.id, &rules).unwrap();
            }
            let limits = networks.limits(zone.id).unwrap();
            assert_eq!(limits[1].asked, limits[1].got);
            let payload: f64 = zone.tries(&["receive 192.0.2.1 8000 4"])[0].parse().unwrap();
            assert!(near(payload * PACKET / SEGMENT, rate as f64));
        }
    });
}

#[test]
fn what_leaves_a_zone_keeps_to_its_rate() {
    on_a_node(|node| {
        if !has_fq() {
            return println!("skipped: this kernel has no fq, which paces what leaves a zone");
        }
        let address = (Ipv4Addr::UNSPECIFIED, 8000);
        let sink = node.outside(|| TcpListener::bind(address).unwrap());
        let mut networks = Networks::open(&node.cgroup).unwrap();
        let zone = node.zone("slow");
        for rate in [1_000_000, 4_000_000, 10_000_000] {
            let rules = Network { out_bytes: Some(rate), ..all() };
            if rate == 1_000_000 {
                networks.connect(zone.id, 0, zone.namespace.as_fd(), &rules).unwrap();
            } else {
                networks.change(zone.id, &rules).unwrap();
            }
            let sink = sink.try_clone().unwrap();
            let counted = std::thread::spawn(move || drain(&sink));
            assert_eq!(zone.tries(&["send 192.0.2.1 8000 4"]), ["sent"]);
            assert!(near(counted.join().unwrap() * PACKET / SEGMENT, rate as f64));
        }
    });
}

/// Reads one connection to its end; bytes a second between the first and the last of them.
fn drain(sink: &TcpListener) -> f64 {
    let (mut stream, _) = sink.accept().unwrap();
    let mut block = vec![0; 65_536];
    let begin = Instant::now();
    let (mut count, mut last) = (0, begin);
    loop {
        match stream.read(&mut block).unwrap() {
            0 => return count as f64 / last.duration_since(begin).as_secs_f64(),
            got => count += got,
        }
        last = Instant::now();
    }
}

/// The connections that the node's kernel keeps track of.
fn tracked() -> u32 {
    let count = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap();
    count.trim().parse().unwrap()
}

#[test]
fn connections_of_zones_alone_are_tracked() {
    on_a_node(|node| {
        node.echo(8000);
        let mut networks = Networks::open(&node.cgroup).unwrap();
        let zone = node.zone("tracked");
        networks.connect(zone.id, 0, zone.namespace.as_fd(), &all()).unwrap();
        let mut own = std::net::TcpStream::connect(("192.0.2.1", 8000)).unwrap();
        let mut text = String::new();
        own.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), tracked()), ("192.0.2.2", 0));
        assert_eq!(zone.tries(&["tcp 192.0.2.1 8000", "udp 192.0.2.1 8000"]), ["192.0.2.2"; 2]);
        assert_eq!(tracked(), 2);
    });
}

#[test]
fn links_and_rules_hold_without_the_programs() {
    on_a_node(|node| {
        let mut networks = Networks::open(&node.cgroup).unwrap();
        let (zone, other) = (node.zone("one"), node.zone("two"));
        networks.connect(zone.id, 0, zone.namespace.as_fd(), &all()).unwrap();
        networks.connect(other.id, 1, other.namespace.as_fd(), &all()).unwrap();
        let acts = ["tcp 100.96.0.1 1", "tcp 192.0.2.2 1", "tcp 100.96.0.3 1"];
        let answers = zone.unwatched().tries(&acts);
        // Of the node its one address; neither its others nor the zone beside.
        assert_eq!(answers[..2], ["ECONNREFUSED", "timed out"]);
        assert!(["EHOSTUNREACH", "timed out"].contains(&answers[2].as_str()), "{answers:?}");
    });
}
