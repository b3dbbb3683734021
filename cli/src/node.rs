//! `mobula node …`: how a node is, what it wrote, and the two ways to end it.

use crate::admin::Admin;
use crate::args::Node as Command;
use crate::config::Settings;
use crate::failure::Failure;
use crate::http::Http;
use crate::name::encode_value;
use crate::output::{Screen, moment, plain, size, span};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::time::Duration;
use wire::admin::{Accepted, LINES_MAX, Line, Logs, Node, path};
use wire::node::{NodePhase, ServiceState};
use wire::task::StoreStatus;

/// Does what a `node` command asks.
pub fn run(
    http: &Http,
    settings: &Settings,
    screen: &Screen,
    command: &Command,
) -> Result<(), Failure> {
    let admin = Admin::new(http, settings)?;
    match command {
        Command::Status => status(&admin, screen),
        Command::Logs { service, lines } => logs(&admin, screen, service.as_deref(), *lines),
        Command::Poweroff => order(&admin, screen, path::POWEROFF, "power off"),
        Command::Reboot => order(&admin, screen, path::REBOOT, "reboot"),
    }
}

/// A part of the status, or why it cannot be had: one daemon that is away must not hide the others.
fn part<T>(outcome: Result<T, Failure>) -> Result<Result<T, String>, Failure> {
    match outcome {
        Ok(part) => Ok(Ok(part)),
        Err(Failure::Refused { status: 503, message, .. }) => Ok(Err(message)),
        Err(failure) => Err(failure),
    }
}

fn status(admin: &Admin<'_>, screen: &Screen) -> Result<(), Failure> {
    let node = part(admin.ask::<Value>("look at the node", "GET", path::NODE.to_owned()))?;
    let store = part(admin.ask::<Value>("look at the store", "GET", path::STORE.to_owned()))?;
    let zones = part(admin.ask::<Value>("look at the zones", "GET", path::ZONES.to_owned()))?;
    let away = node.as_ref().err().cloned();
    if screen.json {
        let view = |part: Result<Value, String>| {
            part.unwrap_or_else(|message| json!({ "unavailable": message }))
        };
        let (node, store, zones) = (view(node), view(store), view(zones));
        screen.value(&json!({ "node": node, "store": store, "zones": zones }))?;
    } else {
        let mut text = String::new();
        text.push_str(&told("node", node, about_node)?);
        text.push_str(&told("store", store, about_store)?);
        text.push_str(&told("zones", zones, about_zones)?);
        screen.bytes(text.as_bytes())?;
    }
    // What could be had has been shown; a script still learns that the node itself did not answer.
    away.map_or(Ok(()), |message| Err(Failure::Away(message)))
}

/// One part of the status in words.
fn told<T: DeserializeOwned>(
    part: &str,
    value: Result<Value, String>,
    about: impl Fn(&T) -> String,
) -> Result<String, Failure> {
    match value {
        Err(message) => Ok(format!("{part:<8} unavailable: {}\n", plain(&message))),
        Ok(value) => {
            let what = format!("look at the {part}");
            let value = serde_json::from_value(value)
                .map_err(|error| Failure::Nonsense { what, why: error.to_string() })?;
            Ok(about(&value))
        }
    }
}

fn about_node(view: &Node) -> String {
    let node = &view.node;
    let mut text = format!(
        "node     {} {}, mobula {}, Linux {}\n",
        plain(&node.hostname),
        phase(node.phase),
        plain(&node.version),
        plain(&node.kernel)
    );
    let ready = match node.init_to_ready_ms {
        Some(ready) => format!(", ready {} later", span(Duration::from_millis(ready))),
        None => ", not ready yet".to_owned(),
    };
    text.push_str(&format!(
        "up       {} (kernel to init {}{ready})\n",
        span(Duration::from_millis(node.uptime_ms)),
        span(Duration::from_millis(node.kernel_to_init_ms))
    ));
    text.push_str(&format!("clock    {}\n", moment(view.clock_unix_ms)));
    let addresses = view.addresses.iter().map(|a| format!("{} {}", plain(&a.interface), a.ip));
    text.push_str(&format!("network  {}\n", addresses.collect::<Vec<_>>().join(", ")));
    let (free, all) = (node.memory_available_bytes, node.memory_total_bytes);
    text.push_str(&format!("memory   {} of {} available\n", size(free), size(all)));
    match view.data_disk {
        Some(disk) => text.push_str(&format!(
            "disk     {} of {} available\n",
            size(disk.available_bytes),
            size(disk.total_bytes)
        )),
        None => text.push_str("disk     none\n"),
    }
    for service in &node.services {
        let memory = service.memory_bytes.map(size).unwrap_or_default();
        let restarts = match service.restarts {
            0 => String::new(),
            restarts => format!("restarted {restarts}×  "),
        };
        let line = format!(
            "service  {:<12} {:<9} {:>14}  {memory:>12}  {restarts}{}",
            service.name.to_string(),
            state(service.state),
            span(Duration::from_millis(service.since_ms)),
            plain(&service.message)
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    for reason in &view.degraded {
        text.push_str(&format!("degraded {}\n", plain(reason)));
    }
    text
}

fn about_store(store: &StoreStatus) -> String {
    let seal = if store.verity { "sealed by fs-verity" } else { "with digests of its own" };
    let mut text = format!(
        "store    {} objects, {}, {} free, {seal}\n",
        store.objects,
        size(store.object_bytes),
        size(store.free_bytes)
    );
    if let Some(reason) = &store.read_only {
        text.push_str(&format!("store    writes are refused: {}\n", plain(reason)));
    }
    for finding in &store.scrub.findings {
        text.push_str(&format!("store    damaged: {}\n", plain(finding)));
    }
    text
}

fn about_zones(zones: &Value) -> String {
    let number = |key: &str| zones.get(key).and_then(Value::as_u64).unwrap_or_default();
    let mut text = format!(
        "zones    {} of {} running, {} tasks waiting\n",
        number("zones_running"),
        number("zones_max"),
        number("waiting")
    );
    if let Some(why) = zones.get("held").and_then(Value::as_str) {
        text.push_str(&format!("zones    new work waits: {}\n", plain(why)));
    }
    text
}

fn phase(phase: NodePhase) -> &'static str {
    match phase {
        NodePhase::Booting => "is booting",
        NodePhase::Ready => "is ready",
        NodePhase::Degraded => "is degraded",
        NodePhase::Stopping => "is stopping",
    }
}

fn state(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Waiting => "waiting",
        ServiceState::Starting => "starting",
        ServiceState::Ready => "ready",
        ServiceState::BackOff => "back-off",
        ServiceState::Degraded => "degraded",
        ServiceState::Stopping => "stopping",
        ServiceState::Stopped => "stopped",
    }
}

fn logs(
    admin: &Admin<'_>,
    screen: &Screen,
    service: Option<&str>,
    lines: u32,
) -> Result<(), Failure> {
    let lines = lines.min(LINES_MAX);
    // In alphabetical order, as clients of other APIs must have it; here it is only habit.
    let mut target = format!("{}?lines={lines}", path::LOGS);
    if let Some(service) = service {
        target.push_str(&format!("&service={}", encode_value(service)));
    }
    let logs: Logs = admin.ask("read the log", "GET", target)?;
    for line in &logs.lines {
        if screen.json {
            screen.value(line)?;
        } else {
            screen.line(&log_line(line))?;
        }
    }
    Ok(())
}

fn log_line(line: &Line) -> String {
    let at = Duration::from_millis(line.at_ms).as_secs_f64();
    format!("[{at:>10.3}] {}: {}", plain(&line.service), plain(&line.text))
}

fn order(admin: &Admin<'_>, screen: &Screen, target: &str, what: &str) -> Result<(), Failure> {
    let accepted: Accepted = admin.ask(what, "POST", target.to_owned())?;
    if screen.json {
        return screen.value(&accepted);
    }
    screen.note(&format!("{}: {} has begun", admin.endpoint, plain(&accepted.accepted)));
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_daemon_that_is_away_is_a_line_and_not_the_end() {
        let code = "ZonedUnavailable".to_owned();
        let (what, message) = (String::new(), "zoned is starting".to_owned());
        let away = Failure::Refused { what, status: 503, code, message, hint: "" };
        let text = told::<Value>("zones", part::<Value>(Err(away)).unwrap(), about_zones).unwrap();
        assert_eq!(text, "zones    unavailable: zoned is starting\n");
    }

    #[test]
    fn a_log_line_begins_with_the_seconds_since_the_kernel_started() {
        let line = Line { service: "init".into(), at_ms: 2310, text: "a\x1b[2J".into() };
        assert_eq!(log_line(&line), "[     2.310] init: a\u{fffd}[2J");
    }
}
