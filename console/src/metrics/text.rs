//! The text that Prometheus reads (`https://prometheus.io/docs/instrumenting/exposition_formats/`): pure.

use std::fmt::{Display, Write};
use wire::account::AccountSummary;
use wire::node::{NodeStatus, ServiceState};
use wire::standing::{Stats, ZoneSummary};
use wire::zone::{Counts, ZonedStatus};

/// The most zones, and the most accounts, that have series of their own: the first by name. What is over is
/// in the sums of accounts and counted, so that one tenant's thousand zones are not ten thousand series.
pub const SERIES_MAX: usize = 512;

const MIB: u64 = 1 << 20;

/// A label and its value.
type Label<'a> = (&'static str, &'a str);

/// Lines of the text.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// All of it, with what another daemon wrote behind it.
    pub fn finish(mut self, more: &str) -> String {
        self.0.push_str(more);
        if !self.0.ends_with('\n') {
            self.0.push('\n');
        }
        self.0
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("a string takes all that is written to it");
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn value(&mut self, name: &str, labels: &[Label<'_>], value: impl Display) {
        self.0.push_str(name);
        for (at, (label, word)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            self.write(format_args!("{before}{label}=\"{}\"", escaped(word)));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        self.write(format_args!("{end} {value}\n"));
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        self.value(name, &[], value);
    }
}

fn escaped(word: &str) -> String {
    word.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Microseconds as seconds, exactly.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Which daemons answered.
pub fn up(text: &mut Text, daemons: &[(&str, bool)]) {
    let name = "mobula_up";
    text.head(name, "gauge", "1 if this daemon answered, so that its numbers are here.");
    for (daemon, up) in daemons {
        text.value(name, &[("daemon", daemon)], u8::from(*up));
    }
}

/// What init says of the node and its services.
pub fn node(text: &mut Text, node: &NodeStatus) {
    let up = seconds(node.uptime_ms.saturating_mul(1000));
    text.one("mobula_node_uptime_seconds", "gauge", "Since the kernel started.", up);
    for (name, help, value) in [
        ("mobula_node_memory_bytes", "Memory of the machine.", node.memory_total_bytes),
        (
            "mobula_node_memory_available_bytes",
            "Memory that could be had without swapping.",
            node.memory_available_bytes,
        ),
    ] {
        text.one(name, "gauge", help, value);
    }
    let name = "mobula_service_ready";
    text.head(name, "gauge", "1 if this service is ready.");
    for service in &node.services {
        let ready = u8::from(service.state == ServiceState::Ready);
        text.value(name, &[("service", service.name.as_str())], ready);
    }
    let name = "mobula_service_restarts_total";
    text.head(name, "counter", "Times that it was started again after it ended by itself.");
    for service in &node.services {
        text.value(name, &[("service", service.name.as_str())], service.restarts);
    }
}

/// What zoned says of itself.
pub fn zoned(text: &mut Text, status: &ZonedStatus) {
    for (name, help, value) in [
        ("mobula_tasks_running", "Tasks that run.", u64::from(status.zones_running)),
        ("mobula_tasks_waiting", "Tasks that are ready and wait for a place.", status.waiting),
        ("mobula_tasks_places", "Tasks that may run at once.", u64::from(status.zones_max)),
        (
            "mobula_tasks_memory_bytes",
            "Memory that running tasks asked for.",
            status.memory_mib * MIB,
        ),
        (
            "mobula_work_held",
            "1 while new work waits because the node is short of something.",
            u64::from(status.held.is_some()),
        ),
        (
            "mobula_zoned_degraded",
            "What this kernel lacks for zones; the status has it in words.",
            status.degraded.len() as u64,
        ),
    ] {
        text.one(name, "gauge", help, value);
    }
    let Counts { started, succeeded, failed, out_of_memory, out_of_disk, cancelled, lost } =
        status.counts;
    text.one("mobula_zones_started_total", "counter", "Zones started, tasks included.", started);
    let name = "mobula_tasks_total";
    text.head(name, "counter", "Tasks that are over, by how they ended.");
    for (outcome, count) in [
        ("succeeded", succeeded),
        ("failed", failed),
        ("out_of_memory", out_of_memory),
        ("out_of_disk", out_of_disk),
        ("cancelled", cancelled),
        ("lost", lost),
    ] {
        text.value(name, &[("outcome", outcome)], count);
    }
}

/// A number of [`Stats`]: what it is called behind its subject, its kind, its help, and where it is.
type Number = (&'static str, &'static str, &'static str, fn(&Stats) -> String);

const NUMBERS: [Number; 17] = [
    ("cpu_seconds_total", "counter", "Processor time.", |s| seconds(s.cpu_us)),
    ("cpu_throttled_seconds_total", "counter", "Time held back by cpu.max.", |s| {
        seconds(s.throttled_us)
    }),
    ("memory_bytes", "gauge", "Memory charged.", |s| s.memory_bytes.to_string()),
    ("memory_anonymous_bytes", "gauge", "Of it anonymous.", |s| s.memory_anon_bytes.to_string()),
    ("memory_file_bytes", "gauge", "Of it pages of files.", |s| s.memory_file_bytes.to_string()),
    ("memory_limit_hits_total", "counter", "Times that memory.max made it reclaim.", |s| {
        s.memory_max_events.to_string()
    }),
    ("oom_kills_total", "counter", "Processes killed for memory.", |s| s.oom_kills.to_string()),
    ("disk_read_bytes_total", "counter", "Bytes read from the data disk.", |s| {
        s.read_bytes.to_string()
    }),
    ("disk_written_bytes_total", "counter", "Bytes written to the data disk.", |s| {
        s.write_bytes.to_string()
    }),
    ("processes", "gauge", "Processes.", |s| s.processes.to_string()),
    ("fork_failures_total", "counter", "Processes that pids.max refused.", |s| {
        s.fork_failures.to_string()
    }),
    ("network_sent_bytes_total", "counter", "Bytes out of zones.", |s| s.out_bytes.to_string()),
    ("network_received_bytes_total", "counter", "Bytes into zones.", |s| s.in_bytes.to_string()),
    ("network_sent_packets_total", "counter", "Packets out of zones.", |s| {
        s.out_packets.to_string()
    }),
    ("network_received_packets_total", "counter", "Packets into zones.", |s| {
        s.in_packets.to_string()
    }),
    ("network_refused_total", "counter", "Connections and datagrams that rules refused.", |s| {
        s.refused.to_string()
    }),
    ("memory_peak_bytes", "gauge", "The most memory that was ever charged.", |s| {
        s.memory_peak_bytes.to_string()
    }),
];

/// The numbers of all who have some: those of one name stand together.
fn numbers(text: &mut Text, subject: &str, all: &[(Vec<Label<'_>>, &Stats)]) {
    for (behind, kind, help, number) in NUMBERS {
        let name = format!("mobula_{subject}_{behind}");
        text.head(&name, kind, help);
        for (labels, stats) in all {
            text.value(&name, labels, number(stats));
        }
    }
    let name = format!("mobula_{subject}_waiting_seconds_total");
    text.head(&name, "counter", "Time in which some, or all, waited for a resource (PSI).");
    for (labels, stats) in all {
        let resources = [("cpu", stats.cpu), ("memory", stats.memory), ("io", stats.io)];
        for (resource, pressure) in resources {
            for (who, micros) in [("some", pressure.some_total_us), ("all", pressure.full_total_us)]
            {
                let mut labels = labels.clone();
                labels.extend([("resource", resource), ("who", who)]);
                text.value(&name, &labels, seconds(micros));
            }
        }
    }
}

/// Standing zones, and what those use that have processes; `left_out` more have no series of their own.
pub fn zones(
    text: &mut Text,
    zones: &[ZoneSummary],
    used: &[(ZoneSummary, Stats)],
    left_out: usize,
) {
    let name = "mobula_zone_state";
    text.head(name, "gauge", "1 for the state that a standing zone is in.");
    for zone in zones {
        let labels =
            [("zone", zone.name.as_str()), ("account", &zone.login), ("state", zone.state.word())];
        text.value(name, &labels, 1);
    }
    let name = "mobula_zone_memory_limit_bytes";
    text.head(name, "gauge", "Its memory.max.");
    for zone in zones {
        let labels = [("zone", zone.name.as_str()), ("account", &zone.login)];
        text.value(name, &labels, u64::from(zone.memory_mib) * MIB);
    }
    let all: Vec<(Vec<Label<'_>>, &Stats)> =
        used.iter().map(|(zone, stats)| (labels_of(zone), stats)).collect();
    numbers(text, "zone", &all);
    let help = "Standing zones without series of their own: there are more than have.";
    text.one("mobula_zones_left_out", "gauge", help, left_out);
}

fn labels_of(zone: &ZoneSummary) -> Vec<Label<'_>> {
    vec![("zone", zone.name.as_str()), ("account", &zone.login)]
}

/// Accounts, and what their zones use together; `left_out` more have no series.
pub fn accounts(text: &mut Text, accounts: &[AccountSummary], left_out: usize) {
    type Count = (&'static str, &'static str, fn(&AccountSummary) -> Option<u64>);
    let counts: [Count; 7] = [
        ("zones", "Standing zones on record.", |a| Some(a.zones.into())),
        ("zones_running", "Standing zones that have processes.", |a| Some(a.zones_running.into())),
        ("tasks_running", "Tasks that run.", |a| Some(a.tasks.into())),
        ("zones_limit", "Standing zones that it may have; absent if any number.", |a| {
            a.effective.zones.map(u64::from)
        }),
        ("memory_limit_bytes", "Its memory.max; absent if none.", |a| {
            a.effective.memory_mib.map(|mib| mib * MIB)
        }),
        ("cpu_limit_milli", "Its cpu.max in thousandths of a processor; absent if none.", |a| {
            a.effective.cpu_milli.map(u64::from)
        }),
        ("processes_limit", "Its pids.max; absent if none.", |a| a.effective.pids.map(u64::from)),
    ];
    for (behind, help, count) in counts {
        let name = format!("mobula_account_{behind}");
        text.head(&name, "gauge", help);
        for account in accounts {
            if let Some(value) = count(account) {
                text.value(&name, &[("account", account.login.as_str())], value);
            }
        }
    }
    let all: Vec<(Vec<Label<'_>>, &Stats)> =
        accounts.iter().map(|a| (vec![("account", a.login.as_str())], &a.stats)).collect();
    numbers(text, "account", &all);
    let help = "Accounts without series of their own: there are more than have.";
    text.one("mobula_accounts_left_out", "gauge", help, left_out);
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn what_a_label_holds_cannot_end_it() {
        let mut text = Text::default();
        text.value("a", &[("x", "a\"b\\c\nd")], 1);
        assert_eq!(text.finish("b 2"), "a{x=\"a\\\"b\\\\c\\nd\"} 1\nb 2\n");
    }

    #[test]
    fn seconds_are_exact() {
        assert_eq!([seconds(0), seconds(50), seconds(2_500_000)], ["0", "0.00005", "2.5"]);
    }
}
