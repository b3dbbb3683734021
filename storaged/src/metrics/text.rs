//! The text that Prometheus reads. Pure, but for the process's own numbers.

use crate::front::counts::{BUCKETS_US, Class, Count, Counts, PortCounts};
use std::fmt::{Display, Write};
use wire::task::StoreStatus;

/// Lines of the text.
#[derive(Debug, Default)]
pub(super) struct Text(pub(super) String);

impl Text {
    /// What a name stands for.
    pub(super) fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// A value. Labels are our own words: none needs escaping.
    pub(super) fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (at, (label, word)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            self.line(format_args!("{before}{label}=\"{word}\""));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        self.line(format_args!("{end} {value}\n"));
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("a string takes all that is written to it");
    }
}

/// The numbers of one kind and class over all rings.
struct Sum {
    port: &'static str,
    kind: &'static str,
    class: Class,
    buckets: [u64; BUCKETS_US.len() + 1],
    micros: u64,
}

/// What has occurred at all; the rest would be thousands of zeros.
fn sums(counts: &Counts) -> Vec<Sum> {
    let mut sums = Vec::new();
    for (port, kinds) in counts.ports.iter().enumerate() {
        for (kind, name) in kinds.names.iter().enumerate() {
            for class in Class::ALL {
                let mut sum = Sum {
                    port: kinds.port,
                    kind: name,
                    class,
                    buckets: Default::default(),
                    micros: 0,
                };
                for ring in counts.rings.iter() {
                    let cell = ring[port].cell(kind, class);
                    sum.buckets
                        .iter_mut()
                        .zip(&cell.buckets)
                        .for_each(|(all, one)| *all += one.get());
                    sum.micros += cell.micros.get();
                }
                if sum.buckets.iter().any(|&count| count > 0) {
                    sums.push(sum);
                }
            }
        }
    }
    sums
}

/// Requests by port, operation and class of status.
pub(super) fn requests(text: &mut Text, counts: &Counts) {
    let sums = sums(counts);
    let name = "mobula_http_requests_total";
    text.head(name, "counter", "Requests that are over.");
    for sum in &sums {
        let labels = [("port", sum.port), ("operation", sum.kind), ("status", sum.class.name())];
        text.value(name, &labels, sum.buckets.iter().sum::<u64>());
    }
    let name = "mobula_http_request_seconds";
    text.head(name, "histogram", "Time from the end of a request's head to the end of its answer.");
    for sum in &sums {
        let labels = [("port", sum.port), ("operation", sum.kind), ("status", sum.class.name())];
        let mut so_far = 0;
        for (at, count) in sum.buckets.iter().enumerate() {
            so_far += count;
            let end = BUCKETS_US.get(at).map_or("+Inf".to_owned(), |&end| seconds(end));
            let [port, operation, status] = labels;
            let labels = [port, operation, status, ("le", end.as_str())];
            text.value("mobula_http_request_seconds_bucket", &labels, so_far);
        }
        text.value("mobula_http_request_seconds_sum", &labels, seconds(sum.micros));
        text.value("mobula_http_request_seconds_count", &labels, so_far);
    }
}

/// Connections and bytes by port.
pub(super) fn connections(text: &mut Text, counts: &Counts) {
    type Number = fn(&PortCounts) -> &Count;
    let plain: [(&str, &str, Number); 4] = [
        ("mobula_http_connections_total", "Connections taken.", |port| &port.opened),
        (
            "mobula_http_refused_total",
            "What was refused because it is no request: by its form, size or pace.",
            |port| &port.refused,
        ),
        ("mobula_http_received_bytes_total", "Bytes received.", |port| &port.received),
        ("mobula_http_sent_bytes_total", "Bytes handed to the network.", |port| &port.sent),
    ];
    for (name, help, number) in plain {
        text.head(name, "counter", help);
        for (port, kinds) in counts.ports.iter().enumerate() {
            let total = counts.total(port, |port| number(port).get());
            text.value(name, &[("port", kinds.port)], total);
        }
    }
    let differences: [(&str, &str, Number, Number); 2] = [
        (
            "mobula_http_connections",
            "Connections that are open.",
            |port| &port.opened,
            |port| &port.closed,
        ),
        (
            "mobula_http_requests_running",
            "Requests that have begun and are not over.",
            |port| &port.begun,
            |port| &port.over,
        ),
    ];
    for (name, help, more, less) in differences {
        text.head(name, "gauge", help);
        for (port, kinds) in counts.ports.iter().enumerate() {
            // What ends meanwhile would make it negative for a moment: the ends are read first.
            let less = counts.total(port, |port| less(port).get());
            let more = counts.total(port, |port| more(port).get());
            text.value(name, &[("port", kinds.port)], more.saturating_sub(less));
        }
    }
}

/// How the store is.
pub(super) fn store(text: &mut Text, status: &StoreStatus) {
    let gauges = [
        ("mobula_store_objects", "Objects in the index.", status.objects),
        ("mobula_store_object_bytes", "Bytes in those objects.", status.object_bytes),
        ("mobula_store_free_bytes", "Bytes free on the data file system.", status.free_bytes),
        (
            "mobula_store_read_only",
            "1 once the store refuses writes because its disk failed.",
            u64::from(status.read_only.is_some()),
        ),
    ];
    for (name, help, value) in gauges {
        text.head(name, "gauge", help);
        text.value(name, &[], value);
    }
    let counters = [
        ("mobula_store_sequence", "The last sequence number that is on disk.", status.sequence),
        ("mobula_scrub_bytes_total", "Bytes that the scrub has read.", status.scrub.bytes),
        (
            "mobula_scrub_damaged_total",
            "Objects and files that the scrub found damaged; the status and the log name them.",
            status.scrub.damaged,
        ),
    ];
    for (name, help, value) in counters {
        text.head(name, "counter", help);
        text.value(name, &[], value);
    }
}

/// The process itself, under the names that Prometheus's own libraries use.
pub(super) fn process(text: &mut Text) {
    let used = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
    if let Ok(used) = used {
        let micros = |time: nix::sys::time::TimeVal| {
            u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0)
        };
        let name = "process_cpu_seconds_total";
        text.head(name, "counter", "Processor time, of the user and of the system.");
        text.value(name, &[], seconds(micros(used.user_time()) + micros(used.system_time())));
    }
    // Pages, the second of them those in memory (proc_pid_statm(5)).
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let resident = pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let page_bytes = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    if let (Some(pages), Ok(Some(bytes))) = (resident, page_bytes) {
        let name = "process_resident_memory_bytes";
        text.head(name, "gauge", "Bytes of memory in use.");
        text.value(name, &[], pages * bytes.unsigned_abs());
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        let name = "process_open_fds";
        text.head(name, "gauge", "Open file descriptors.");
        // One is the directory's own.
        text.value(name, &[], open.count().saturating_sub(1));
    }
}

/// Microseconds as seconds, exactly.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn seconds_are_exact() {
        assert_eq!(seconds(0), "0");
        assert_eq!(seconds(50), "0.00005");
        assert_eq!(seconds(2_500_000), "2.5");
        assert_eq!(seconds(10_000_000), "10");
    }

    #[test]
    fn a_value_has_its_labels() {
        let mut text = Text::default();
        text.value("a", &[], 1);
        text.value("b", &[("x", "y"), ("z", "w")], "2.5");
        assert_eq!(text.0, "a 1\nb{x=\"y\",z=\"w\"} 2.5\n");
    }
}
