//! `mobula zone top`: rates of all zones, the busiest first, again and again.

use super::args::Top;
use crate::admin::Admin;
use crate::failure::Failure;
use crate::output::{Screen, moment, size, table};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;
use wire::admin::{Usage, path};
use wire::standing::{Pressure, Stats, ZoneName, ZoneState};

/// The time between the first two looks, so that something is to be seen soon.
const FIRST: Duration = Duration::from_millis(500);
/// Clears a terminal and goes to its first line (ECMA-48, ED and CUP).
const CLEAR: &str = "\x1b[2J\x1b[H";

/// What a zone does in a second.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Rates {
    at_unix_ms: u64,
    zone: ZoneName,
    state: ZoneState,
    cpu_per_cent: f64,
    memory_bytes: u64,
    memory_mib_max: u32,
    processes: u64,
    read_bytes_s: u64,
    write_bytes_s: u64,
    out_bytes_s: u64,
    in_bytes_s: u64,
    cpu_pressure: f64,
    memory_pressure: f64,
    io_pressure: f64,
}

/// Looks until Ctrl-C, or as often as asked.
pub fn run(admin: &Admin<'_>, screen: &Screen, options: &Top) -> Result<(), Failure> {
    let look = || admin.ask::<Usage>("look at all zones", "GET", path::USAGE.to_owned());
    let redraws = std::io::stdout().is_terminal();
    let mut before = look()?;
    let mut pause = FIRST;
    let mut round = 0;
    while options.rounds.is_none_or(|rounds| round < rounds) {
        std::thread::sleep(pause);
        pause = Duration::from_secs(options.delay);
        let now = look()?;
        let rates = rates(&before, &now);
        if screen.json {
            rates.iter().try_for_each(|rates| screen.value(rates))?;
        } else {
            let clear = if redraws { CLEAR } else { "" };
            let (at, count) = (moment(now.at_unix_ms), rates.len());
            screen.bytes(format!("{clear}{at}  {count} zones\n{}", shown(&rates)).as_bytes())?;
        }
        before = now;
        round += 1;
    }
    Ok(())
}

/// Differences between two looks, the zone that used most CPU first.
fn rates(before: &Usage, now: &Usage) -> Vec<Rates> {
    let old: BTreeMap<&ZoneName, &Stats> =
        before.zones.iter().map(|usage| (&usage.zone.name, &usage.stats)).collect();
    let none = Stats::default();
    let ms = now.at_unix_ms.saturating_sub(before.at_unix_ms).max(1);
    let mut all: Vec<_> = now
        .zones
        .iter()
        .map(|usage| {
            let (zone, new) = (&usage.zone, &usage.stats);
            // One that was started in between counts from nothing.
            let old = old.get(&zone.name).copied().filter(|old| old.cpu_us <= new.cpu_us);
            let old = old.unwrap_or(&none);
            let a_second = |old: u64, new: u64| new.saturating_sub(old).saturating_mul(1000) / ms;
            Rates {
                at_unix_ms: now.at_unix_ms,
                zone: zone.name.clone(),
                state: zone.state,
                // Tenths of a per cent.
                cpu_per_cent: (a_second(old.cpu_us, new.cpu_us) / 1_000) as f64 / 10.0,
                memory_bytes: new.memory_bytes,
                memory_mib_max: zone.memory_mib,
                processes: new.processes,
                read_bytes_s: a_second(old.read_bytes, new.read_bytes),
                write_bytes_s: a_second(old.write_bytes, new.write_bytes),
                out_bytes_s: a_second(old.out_bytes, new.out_bytes),
                in_bytes_s: a_second(old.in_bytes, new.in_bytes),
                cpu_pressure: waits(new.cpu),
                memory_pressure: waits(new.memory),
                io_pressure: waits(new.io),
            }
        })
        .collect();
    all.sort_by(|a, b| b.cpu_per_cent.total_cmp(&a.cpu_per_cent).then_with(|| a.zone.cmp(&b.zone)));
    all
}

const fn waits(pressure: Pressure) -> f64 {
    pressure.some_avg10
}

fn shown(rates: &[Rates]) -> String {
    let row = |rates: &Rates| {
        let state = match rates.state {
            ZoneState::Running => String::new(),
            other => format!(" ({})", other.word()),
        };
        vec![
            format!("{}{state}", rates.zone),
            format!("{:.1}", rates.cpu_per_cent),
            size(rates.memory_bytes),
            size(u64::from(rates.memory_mib_max) << 20),
            rates.processes.to_string(),
            size(rates.read_bytes_s),
            size(rates.write_bytes_s),
            size(rates.out_bytes_s),
            size(rates.in_bytes_s),
            format!("{:.0}", rates.cpu_pressure),
            format!("{:.0}", rates.memory_pressure),
            format!("{:.0}", rates.io_pressure),
        ]
    };
    let head = [
        "ZONE",
        "CPU %",
        "MEMORY",
        "OF",
        "PIDS",
        "READ/s",
        "WRITE/s",
        "OUT/s",
        "IN/s",
        "WAIT CPU %",
        "MEM %",
        "DISK %",
    ];
    let right: Vec<usize> = (1..head.len()).collect();
    table(&head, &right, &rates.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod test {
    use super::*;
    use wire::admin::ZoneUsage;
    use wire::standing::ZoneSummary;

    fn usage(at_unix_ms: u64, zones: &[(&str, u64, u64)]) -> Usage {
        let zone = |&(name, cpu_us, out_bytes): &(&str, u64, u64)| ZoneUsage {
            zone: ZoneSummary {
                name: ZoneName::try_from(name.to_owned()).unwrap(),
                state: ZoneState::Running,
                login: "ada".to_owned(),
                image: "base".to_owned(),
                state_ms: 0,
                memory_mib: 1,
                memory_bytes: 0,
                cpu_us,
                processes: 1,
            },
            stats: Stats { cpu_us, out_bytes, ..Stats::default() },
        };
        Usage { at_unix_ms, zones: zones.iter().map(zone).collect() }
    }

    #[test]
    fn rates_are_differences_and_the_busiest_is_first() {
        let before = usage(1000, &[("a", 100, 0), ("b", 5_000_000, 10)]);
        let now = usage(3000, &[("a", 1_000_100, 500), ("b", 5_100_000, 10), ("c", 0, 0)]);
        let rates = rates(&before, &now);
        let told: Vec<_> =
            rates.iter().map(|r| (r.zone.as_str(), r.cpu_per_cent, r.out_bytes_s)).collect();
        assert_eq!(told, [("a", 50.0, 250), ("b", 5.0, 0), ("c", 0.0, 0)]);
    }

    #[test]
    fn a_zone_that_was_started_again_counts_from_nothing() {
        let rates = rates(&usage(0, &[("a", 9_000_000, 9)]), &usage(1000, &[("a", 500_000, 100)]));
        assert_eq!((rates[0].cpu_per_cent, rates[0].out_bytes_s), (50.0, 100));
    }
}
