//! Reading the files of a cgroup. Pure: text in, numbers out. What is not there counts as 0: a file that
//! is missing belongs to a controller that is.

use wire::standing::{Pressure, Stats};

/// The value of `key` in a flat-keyed file (`memory.events`, `cpu.stat`).
#[must_use]
pub fn keyed(text: &str, key: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}

/// The number that is all of a file (`memory.current`).
#[must_use]
pub fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

/// The sum of `key` over all disks of a nested-keyed file (`io.stat`).
#[must_use]
pub fn summed(text: &str, key: &str) -> u64 {
    let pairs = text.lines().flat_map(|line| line.split_whitespace().skip(1));
    let values = pairs.filter_map(|pair| pair.split_once('=')).filter(|(name, _)| *name == key);
    values.filter_map(|(_, value)| value.parse::<u64>().ok()).fold(0, u64::saturating_add)
}

/// A `*.pressure` file (`Documentation/accounting/psi.rst`).
#[must_use]
pub fn pressure(text: &str) -> Pressure {
    let field = |kind: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        line.split_whitespace().filter_map(|pair| pair.split_once('=')).find(|(k, _)| *k == key)
    };
    let average = |kind: &str| field(kind, "avg10").and_then(|(_, v)| v.parse().ok());
    let total = |kind: &str| field(kind, "total").and_then(|(_, v)| v.parse().ok());
    Pressure {
        some_avg10: average("some ").filter(|v: &f64| v.is_finite()).unwrap_or(0.0),
        full_avg10: average("full ").filter(|v: &f64| v.is_finite()).unwrap_or(0.0),
        some_total_us: total("some ").unwrap_or(0),
        full_total_us: total("full ").unwrap_or(0),
    }
}

/// What a cgroup's files say, each given by its name; the network's numbers stay 0.
#[must_use]
pub fn stats(read: impl Fn(&str) -> String) -> Stats {
    let cpu = read("cpu.stat");
    let memory = read("memory.stat");
    let events = read("memory.events");
    let io = read("io.stat");
    Stats {
        cpu_us: keyed(&cpu, "usage_usec"),
        cpu_user_us: keyed(&cpu, "user_usec"),
        cpu_system_us: keyed(&cpu, "system_usec"),
        throttled: keyed(&cpu, "nr_throttled"),
        throttled_us: keyed(&cpu, "throttled_usec"),
        memory_bytes: number(&read("memory.current")),
        memory_peak_bytes: number(&read("memory.peak")),
        memory_anon_bytes: keyed(&memory, "anon"),
        memory_file_bytes: keyed(&memory, "file"),
        memory_kernel_bytes: keyed(&memory, "kernel"),
        memory_max_events: keyed(&events, "max"),
        oom_kills: keyed(&events, "oom_kill"),
        read_bytes: summed(&io, "rbytes"),
        write_bytes: summed(&io, "wbytes"),
        processes: number(&read("pids.current")),
        processes_peak: number(&read("pids.peak")),
        fork_failures: keyed(&read("pids.events"), "max"),
        cpu: pressure(&read("cpu.pressure")),
        memory: pressure(&read("memory.pressure")),
        io: pressure(&read("io.pressure")),
        ..Stats::default()
    }
}

/// What a cgroup's successor counts, with what the cgroup itself had counted: counters are added, what is
/// "now" stays, of two peaks the higher one is kept.
#[must_use]
pub fn carried(now: &Stats, before: &Stats) -> Stats {
    let sum = u64::saturating_add;
    Stats {
        cpu_us: sum(now.cpu_us, before.cpu_us),
        cpu_user_us: sum(now.cpu_user_us, before.cpu_user_us),
        cpu_system_us: sum(now.cpu_system_us, before.cpu_system_us),
        throttled: sum(now.throttled, before.throttled),
        throttled_us: sum(now.throttled_us, before.throttled_us),
        memory_peak_bytes: now.memory_peak_bytes.max(before.memory_peak_bytes),
        memory_max_events: sum(now.memory_max_events, before.memory_max_events),
        oom_kills: sum(now.oom_kills, before.oom_kills),
        read_bytes: sum(now.read_bytes, before.read_bytes),
        write_bytes: sum(now.write_bytes, before.write_bytes),
        processes_peak: now.processes_peak.max(before.processes_peak),
        fork_failures: sum(now.fork_failures, before.fork_failures),
        out_bytes: sum(now.out_bytes, before.out_bytes),
        out_packets: sum(now.out_packets, before.out_packets),
        in_bytes: sum(now.in_bytes, before.in_bytes),
        in_packets: sum(now.in_packets, before.in_packets),
        refused: sum(now.refused, before.refused),
        cpu: carried_pressure(now.cpu, before.cpu),
        memory: carried_pressure(now.memory, before.memory),
        io: carried_pressure(now.io, before.io),
        ..now.clone()
    }
}

fn carried_pressure(now: Pressure, before: Pressure) -> Pressure {
    Pressure {
        some_total_us: now.some_total_us.saturating_add(before.some_total_us),
        full_total_us: now.full_total_us.saturating_add(before.full_total_us),
        ..now
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_is_found_by_its_whole_name() {
        let text = "low 1\noom 2\noom_kill 3\noom_group_kill 4\n";
        assert_eq!((keyed(text, "oom_kill"), keyed(text, "oom"), keyed(text, "kill")), (3, 2, 0));
    }

    #[test]
    fn disks_are_summed() {
        let text = "254:0 rbytes=10 wbytes=1 rios=1\n254:16 rbytes=32 wbytes=2 rios=1\n8:0 \n";
        assert_eq!((summed(text, "rbytes"), summed(text, "wbytes")), (42, 3));
    }

    #[test]
    fn pressure_is_read_and_what_lacks_is_nothing() {
        let text = "some avg10=1.53 avg60=0.87 avg300=0.73 total=1088168\n\
                    full avg10=0.25 avg60=0.00 avg300=0.00 total=42\n";
        let expected = Pressure {
            some_avg10: 1.53,
            full_avg10: 0.25,
            some_total_us: 1_088_168,
            full_total_us: 42,
        };
        assert_eq!(pressure(text), expected);
        assert_eq!(pressure("some avg10=nan\n"), Pressure::default());
    }

    #[test]
    fn each_number_comes_from_its_own_file() {
        let files = |name: &str| {
            match name {
                "cpu.stat" => "usage_usec 9\nuser_usec 5\nsystem_usec 4\nnr_throttled 2\n",
                "memory.stat" => "anon 100\nfile 200\nkernel 30\n",
                "memory.current" => "330\n",
                "memory.events" => "max 7\noom 1\noom_kill 3\n",
                "pids.events" => "max 6\n",
                "pids.peak" => "12\n",
                _ => "",
            }
            .to_owned()
        };
        let stats = stats(files);
        assert_eq!((stats.cpu_us, stats.cpu_user_us, stats.throttled), (9, 5, 2));
        assert_eq!((stats.memory_bytes, stats.memory_file_bytes), (330, 200));
        assert_eq!((stats.memory_max_events, stats.oom_kills), (7, 3));
        assert_eq!((stats.fork_failures, stats.processes_peak, stats.read_bytes), (6, 12, 0));
    }

    #[test]
    fn what_a_cgroup_counted_before_it_was_made_again_is_not_lost() {
        let before = Stats { cpu_us: 5, memory_bytes: 100, processes_peak: 9, ..Stats::default() };
        let now = Stats { cpu_us: 2, memory_bytes: 7, processes_peak: 3, ..Stats::default() };
        let all = carried(&now, &before);
        assert_eq!((all.cpu_us, all.memory_bytes, all.processes_peak), (7, 7, 9));
        assert_eq!(carried(&now, &Stats::default()), now);
    }

    proptest! {
        #[test]
        fn any_text_is_numbers_never_a_panic(text in "(some |full |a=|[a-z0-9:=. \\n-]){0,60}") {
            let all = stats(|_| text.clone());
            prop_assert!(all.cpu.some_avg10.is_finite() && all.refused == 0);
        }
    }
}
