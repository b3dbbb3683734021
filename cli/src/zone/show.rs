//! Zones in words and tables: pure. Whatever a tenant can choose is made fit for a terminal.

use crate::output::{moment, plain, size, span, table};
use std::time::Duration;
use wire::carve::{Limit, Network, Protocol, Rule};
use wire::standing::{Event, Pressure, Published, Stats, Subject, What, ZoneSummary, ZoneView};
use wire::zone::Outcome;

/// A line for each.
pub fn list(zones: &[ZoneSummary]) -> String {
    let row = |zone: &ZoneSummary| {
        vec![
            zone.name.to_string(),
            zone.state.word().to_owned(),
            span(Duration::from_millis(zone.state_ms)),
            plain(&zone.login),
            plain(&zone.image),
            size(zone.memory_bytes),
            size(u64::from(zone.memory_mib) << 20),
            span(Duration::from_micros(zone.cpu_us)),
            zone.processes.to_string(),
        ]
    };
    let rows: Vec<_> = zones.iter().map(row).collect();
    let head = ["NAME", "STATE", "FOR", "ACCOUNT", "IMAGE", "MEMORY", "OF", "CPU", "PROCESSES"];
    table(&head, &[2, 5, 6, 7, 8], &rows)
}

/// A zone's name and state.
pub fn brief(zone: &ZoneSummary) -> String {
    format!("{} is {}\n", zone.name, zone.state.word())
}

/// All about one zone.
pub fn zone(view: &ZoneView) -> String {
    let (zone, spec) = (&view.summary, &view.spec);
    let mut text = String::new();
    let mut tell = |what: &str, words: String| {
        text.push_str(format!("{what:<9}{}", plain(&words)).trim_end());
        text.push('\n');
    };
    tell("zone", zone.name.to_string());
    let since = span(Duration::from_millis(zone.state_ms));
    tell("state", format!("{} for {since}", zone.state.word()));
    tell("account", spec.login.clone());
    tell("image", spec.image.clone());
    tell("made", moment(view.created_unix_ms));
    let again = if spec.restart { ", started again when it ends" } else { "" };
    match spec.command.as_slice() {
        [] => tell("command", "none".to_owned()),
        command => tell("command", format!("{}{again}", words(command))),
    }
    if view.restarts > 0 {
        tell("restarts", view.restarts.to_string());
    }
    if let Some(last) = &view.last_outcome {
        tell("ended", outcome(last));
    }
    let memory = size(u64::from(spec.carve.memory_mib) << 20);
    tell("memory", format!("{} of {memory}", size(zone.memory_bytes)));
    let cap = spec.carve.cpu_milli.map(|milli| f64::from(milli) / 1000.0);
    let cap = cap.map_or("no cap".to_owned(), |cpus| format!("at most {cpus} processors"));
    let used = span(Duration::from_micros(zone.cpu_us));
    tell("cpu", format!("{used} used, {cap}, weight {}", spec.carve.cpu_weight));
    tell("pids", format!("{} of {}", zone.processes, spec.carve.pids));
    for mount in &spec.mounts {
        tell("shows", format!("{0} at /manta{0}", mount.prefix));
    }
    if let Some(output) = &spec.output {
        tell("output", format!("/out becomes objects below {output}"));
    }
    match &spec.network {
        None => tell("network", "none".to_owned()),
        Some(network) => tell("network", net(network, view)),
    }
    if !spec.autoboot {
        tell("boot", "it stays stopped after a boot of the node".to_owned());
    }
    text
}

fn net(network: &Network, view: &ZoneView) -> String {
    let address = view.address.map(|ip| format!("{ip}, ")).unwrap_or_default();
    let rules: Vec<_> = network.allow.iter().map(rule).collect();
    match rules.is_empty() {
        true => format!("{address}nobody may be talked to"),
        false => format!("{address}may talk to {}", rules.join(", ")),
    }
}

fn rule(rule: &Rule) -> String {
    let protocol = match rule.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    let ports = match (rule.first_port, rule.last_port) {
        (0, u16::MAX) => String::new(),
        (first, last) if first == last => format!(":{first}"),
        (first, last) => format!(":{first}-{last}"),
    };
    match rule.address.is_ipv4() {
        true => format!("{protocol}:{}/{}{ports}", rule.address, rule.prefix),
        false => format!("{protocol}:[{}]/{}{ports}", rule.address, rule.prefix),
    }
}

/// A command as one would type it.
fn words(command: &[String]) -> String {
    let word = |word: &String| {
        let odd = |c: char| !c.is_ascii_alphanumeric() && !"-_./=:,+@%".contains(c);
        match word.is_empty() || word.contains(odd) {
            true => format!("'{}'", word.replace('\'', "'\\''")),
            false => word.clone(),
        }
    };
    command.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// How a program ended.
pub fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exited { code } => format!("exited with {code}"),
        Outcome::Signalled { signal } => format!("ended by signal {signal}"),
        Outcome::InitFailed { message } => format!("could not begin: {}", plain(message)),
        Outcome::Broken { message } => format!("broken: {}", plain(message)),
    }
}

/// A line for each limit.
pub fn limits(limits: &[Limit]) -> String {
    let row = |limit: &Limit| vec![plain(&limit.name), plain(&limit.asked), plain(&limit.got)];
    let rows: Vec<_> = limits.iter().map(row).collect();
    table(&["LIMIT", "ASKED", "IN FORCE"], &[], &rows)
}

/// A limit that was changed.
pub fn change(limit: &Limit, before: Option<&str>) -> String {
    let Limit { name, asked, got } = limit;
    let exact = if asked == got { String::new() } else { format!(" ({} asked)", plain(asked)) };
    let before = before.map(|before| format!("{} → ", plain(before))).unwrap_or_default();
    format!("{}: {before}{}{exact}", plain(name), plain(got))
}

/// Reasons, latest first.
pub fn reasons(reasons: &[String]) -> String {
    match reasons {
        [] => "nothing is known to be wrong with it\n".to_owned(),
        reasons => reasons.iter().map(|reason| format!("{}\n", plain(reason))).collect(),
    }
}

/// Counters and pressure.
pub fn stats(stats: &Stats) -> String {
    let us = |us| span(Duration::from_micros(us));
    let cpu = format!(
        "cpu      {} ({} user, {} system), held back {} times for {}\n",
        us(stats.cpu_us),
        us(stats.cpu_user_us),
        us(stats.cpu_system_us),
        stats.throttled,
        us(stats.throttled_us)
    );
    let memory = format!(
        "memory   {} ({} anonymous, {} files, {} kernel), at most {}; limit met {} times, {} killed\n",
        size(stats.memory_bytes),
        size(stats.memory_anon_bytes),
        size(stats.memory_file_bytes),
        size(stats.memory_kernel_bytes),
        size(stats.memory_peak_bytes),
        stats.memory_max_events,
        stats.oom_kills
    );
    let disk =
        format!("disk     {} read, {} written\n", size(stats.read_bytes), size(stats.write_bytes));
    let processes = format!(
        "pids     {}, at most {}; {} refused\n",
        stats.processes, stats.processes_peak, stats.fork_failures
    );
    let network = format!(
        "network  {} out in {} packets, {} in in {} packets, {} refused\n",
        size(stats.out_bytes),
        stats.out_packets,
        size(stats.in_bytes),
        stats.in_packets,
        stats.refused
    );
    let waits = |what: &str, p: Pressure| {
        format!(
            "{what:<8} waited {:.1} % of the last 10 s, all of it {:.1} %, {} in all\n",
            p.some_avg10,
            p.full_avg10,
            us(p.some_total_us)
        )
    };
    let pressure = waits("on cpu", stats.cpu) + &waits("on mem", stats.memory);
    cpu + &memory + &disk + &processes + &network + &pressure + &waits("on disk", stats.io)
}

/// What became of the files in `/out`.
pub fn published(published: &Published) -> String {
    let mut text = format!("{} objects, {}\n", published.objects, size(published.bytes));
    for made in &published.made {
        text.push_str(&format!("{}\n", plain(made)));
    }
    let more = published.objects.saturating_sub(published.made.len() as u64);
    if more > 0 && !published.made.is_empty() {
        text.push_str(&format!("and {more} more\n"));
    }
    for refused in &published.refused {
        text.push_str(&format!("not taken: {}\n", plain(refused)));
    }
    let more = published.refused_count.saturating_sub(published.refused.len() as u64);
    if more > 0 {
        text.push_str(&format!("not taken: {more} more\n"));
    }
    text
}

/// One event on one line.
pub fn event(event: &Event) -> String {
    let subject = match &event.subject {
        Subject::Zone(name) => format!("zone {name}"),
        Subject::Task(attempt) => format!("task {}", attempt.0),
        Subject::Image(name) => format!("image {}", plain(name)),
        Subject::Account(login) => format!("account {}", login.as_str()),
        Subject::Node => "node".to_owned(),
    };
    let text =
        format!("{} {:>6}  {subject}: {}", moment(event.at_unix_ms), event.number, what(event));
    plain(&text).replace(['\n', '\t'], " ")
}

fn what(event: &Event) -> String {
    match &event.what {
        What::State { from, to, why } => {
            let why = why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            format!("{} → {}{why}", from.word(), to.word())
        }
        What::Updated { limits } => {
            // Those that this kernel does not have are no news.
            let in_force = limits.iter().filter(|limit| !limit.got.starts_with("none"));
            let limit = |limit: &Limit| format!("{} {}", limit.name, limit.got);
            match in_force.map(limit).collect::<Vec<_>>() {
                limits if limits.is_empty() => "limits were changed".to_owned(),
                limits => format!("limits are {}", limits.join(", ")),
            }
        }
        What::OutOfMemory => "out of memory: its limit killed".to_owned(),
        What::Ended { outcome: ended, restarted } => {
            let again = if *restarted { ", started again" } else { "" };
            format!("its command {}{again}", outcome(ended))
        }
        What::SessionBegan { session } => format!("session {session} began"),
        What::SessionEnded { session, outcome: ended } => {
            format!("session {session} {}", outcome(ended))
        }
        What::Published(published) => format!(
            "{} objects published, {}, {} files not taken",
            published.objects,
            size(published.bytes),
            published.refused_count
        ),
        What::Damaged { object } => wire::standing::damaged(object),
        What::Held { why } => format!("work waits: {why}"),
        What::Released => "work goes on".to_owned(),
        What::Imported { sha256, bytes } => format!("imported, {}, sha256 {sha256}", size(*bytes)),
        What::ImportFailed { why } => format!("import failed: {why}"),
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use wire::standing::{ZoneName, ZoneState};

    fn summary(login: &str) -> ZoneSummary {
        ZoneSummary {
            name: ZoneName::try_from("web".to_owned()).unwrap(),
            state: ZoneState::ShuttingDown,
            login: login.to_owned(),
            image: "base".to_owned(),
            state_ms: 1500,
            memory_mib: 256,
            memory_bytes: 1 << 20,
            cpu_us: 2_500_000,
            processes: 3,
        }
    }

    #[test]
    fn a_list_has_a_line_a_zone() {
        let text = list(&[summary("ada")]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        let words: Vec<_> = lines[1].split_whitespace().collect();
        assert_eq!(&words[..5], ["web", "shutting_down", "1.50", "s", "ada"]);
    }

    #[test]
    fn what_a_tenant_chose_cannot_move_the_cursor() {
        let spec = r#"{"name":"web","login":"ada","image":"base","command":["\u001b[2J","a b'c"]}"#;
        let view = ZoneView {
            summary: summary("\u{1b}]0;x"),
            spec: serde_json::from_str(spec).unwrap(),
            address: None,
            created_unix_ms: 0,
            restarts: 0,
            last_outcome: Some(Outcome::Broken { message: "\u{9b}2J".to_owned() }),
        };
        let held = Event {
            number: 1,
            at_unix_ms: 0,
            subject: Subject::Image("\u{1b}c".to_owned()),
            what: What::Held { why: "a\u{1b}b\nc".to_owned() },
        };
        let all = [zone(&view), list(std::slice::from_ref(&view.summary)), event(&held)].concat();
        assert!(all.chars().all(|c| c == '\n' || !c.is_control()), "{all:?}");
        assert!(all.contains("'a b'\\''c'"), "{all}");
        assert_eq!(event(&held).lines().count(), 1);
    }

    #[test]
    fn a_change_shows_what_was_and_what_the_kernel_made_of_it() {
        let text = |name: &str, asked: &str, got: &str, before| {
            let limit =
                Limit { name: name.to_owned(), asked: asked.to_owned(), got: got.to_owned() };
            change(&limit, before)
        };
        assert_eq!(text("pids.max", "64", "64", Some("512")), "pids.max: 512 → 64");
        assert_eq!(text("memory.max", "9", "0", None), "memory.max: 0 (9 asked)");
    }
}
