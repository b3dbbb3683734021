//! A thousand zones at once: made, listed, and gone without a trace, round after round.

use crate::client::Client;
use crate::common::eventually;
use crate::machine::{Machine, name, on_a_machine};
use std::fs;
use std::time::Instant;
use wire::standing::{ZoneName, ZoneReply, ZoneRequest, ZoneState, ZoneSummary};

/// What the appliance is to hold with 1 GiB of memory.
const ZONES: usize = 1000;
const ROUNDS: usize = 2;
/// Descriptors of zoned that differ from round to round: a client that is about to be gone.
const DESCRIPTORS_MORE: usize = 4;

#[test]
fn a_thousand_zones_come_and_go_and_leave_nothing() {
    on_a_machine("density::a_thousand_zones_come_and_go_and_leave_nothing", |machine| {
        let mut before = None;
        for round in 0..ROUNDS {
            round_of(machine, round);
            let left = (descriptors(machine), mounts(machine));
            // The first round leaves what is kept for the next: the nursery, the image, spare slots.
            let (most, mounted) = *before.get_or_insert(left);
            assert!(
                left.0 <= most + DESCRIPTORS_MORE,
                "descriptors: {most} before, {} now",
                left.0
            );
            assert_eq!(left.1, mounted, "mounts");
        }
    });
}

fn zone_name(number: usize) -> ZoneName {
    name(&format!("d{number:04}"))
}

fn round_of(machine: &mut Machine, round: usize) {
    let mut client = machine.client();
    let time = Instant::now();
    while_looked_after(machine, |client| {
        for number in 0..ZONES {
            let spec = serde_json::json!({
                "name": zone_name(number), "login": "ann", "image": "base",
                "carve": { "memory_mib": 16, "scratch_mib": 4, "pids": 16, "disk_mib": 4 },
            });
            client.create(&spec.to_string());
        }
    });
    let made = time.elapsed();
    eventually("all of them run", || {
        machine.look_after();
        let zones = list(&mut client);
        zones.len() == ZONES && zones.iter().all(|zone| zone.state == ZoneState::Running)
    });
    let up = time.elapsed();
    assert_eq!(machine.processes(), ZONES);
    assert_eq!(machine.kept().len(), 2 * ZONES);
    let time = Instant::now();
    assert_eq!(list(&mut client).len(), ZONES);
    let listed = time.elapsed();
    let cpu = cpu_ticks(machine);
    let second = std::time::Duration::from_secs(1);
    if round == 0 {
        // For whoever measures: what zoned costs that has nothing to do.
        std::thread::sleep(second);
    }
    let idle = cpu_ticks(machine) - cpu;
    let kib = resident_kib(machine);
    let time = Instant::now();
    while_looked_after(machine, |client| {
        for number in 0..ZONES {
            client.ask(ZoneRequest::Delete(zone_name(number))).unwrap();
        }
    });
    eventually("all of them are gone", || {
        machine.kept().is_empty() && machine.zones().is_empty() && machine.records().is_empty()
    });
    assert_eq!(machine.processes(), 0);
    println!(
        "round {round}: created in {made:?}, running after {up:?}, listed in {listed:?}, deleted in \
         {:?}; zoned: {kib} KiB, {idle} ticks in a second of rest",
        time.elapsed()
    );
    eventually("zoned lets go of its clients", || {
        machine.look_after();
        list(&mut client).is_empty()
    });
}

/// Asks zoned for a lot on a thread of its own, while init does its part.
fn while_looked_after(machine: &mut Machine, work: impl FnOnce(&mut Client) + Send) {
    let mut client = machine.client();
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || work(&mut client));
        while !worker.is_finished() {
            assert_eq!(machine.look_after(), None, "zoned has ended");
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
    });
}

fn list(client: &mut Client) -> Vec<ZoneSummary> {
    let mut all: Vec<ZoneSummary> = Vec::new();
    loop {
        let after = all.last().map(|zone| zone.name.clone());
        let ZoneReply::Zones(page) = client.ask(ZoneRequest::List { after }).unwrap().0 else {
            panic!("no list")
        };
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

fn descriptors(machine: &Machine) -> usize {
    fs::read_dir(format!("/proc/{}/fd", machine.pid())).unwrap().count()
}

fn mounts(machine: &Machine) -> usize {
    fs::read_to_string(format!("/proc/{}/mountinfo", machine.pid())).unwrap().lines().count()
}

/// Processor time of zoned, in ticks of 10 ms (proc(5), fields 14 and 15 of stat).
fn cpu_ticks(machine: &Machine) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", machine.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn resident_kib(machine: &Machine) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", machine.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
