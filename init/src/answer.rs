//! What init answers on its control socket.

use crate::control::Dropped;
use crate::service::{self, State};
use crate::supervisor::Supervisor;
use crate::{cgroup, shutdown};
use sys::clock::since_boot_ms;
use sys::power::End;
use wire::frame::Refusal;
use wire::node::{
    INIT, LogPage, NodePhase, NodeReply, NodeRequest, NodeStatus, ServiceState, ServiceStatus,
};
use wire::service::ServiceName;

/// The release, written by the image's builder.
const RELEASE: &str = "/etc/mobula/release.json";
/// The most requests of one connection that are answered in one turn.
const REQUESTS_MAX: usize = 32;

impl Supervisor {
    pub(crate) fn accept(&mut self) {
        let Some(control) = &mut self.control else { return };
        match control.accept() {
            Ok(None) => {}
            Ok(Some(dropped)) => {
                self.console.say(&format!("control connection dropped: {dropped}"));
            }
            Err(error) => self.console.say(&format!("cannot accept a control connection: {error}")),
        }
    }

    pub(crate) fn serve(&mut self, client: usize) {
        for _ in 0..REQUESTS_MAX {
            let Some(control) = &self.control else { return };
            let dropped = match control.receive(client) {
                Ok(None) => return,
                Ok(Some((id, request))) => match self.answer_then_act(client, id, request) {
                    Ok(()) => continue,
                    Err(dropped) => dropped,
                },
                Err(dropped) => dropped,
            };
            if !matches!(dropped, Dropped::Closed) {
                self.console.say(&format!("control connection dropped: {dropped}"));
            }
            if let Some(control) = &mut self.control {
                control.drop_client(client);
            }
            return;
        }
    }

    /// Who orders the end is answered before it begins: it may be among the first to end.
    fn answer_then_act(
        &mut self,
        client: usize,
        id: u64,
        request: NodeRequest,
    ) -> Result<(), Dropped> {
        let end = match request {
            NodeRequest::Poweroff => Some(End::Off),
            NodeRequest::Reboot => Some(End::Restart),
            NodeRequest::Status | NodeRequest::Logs { .. } | NodeRequest::Restart { .. } => None,
        };
        let answer = self.answer(request);
        let sent =
            self.control.as_ref().map_or(Ok(()), |control| control.answer(client, id, &answer));
        if let Some(end) = end {
            self.order_end(end);
        }
        sent
    }

    fn answer(&mut self, request: NodeRequest) -> Result<NodeReply, Refusal> {
        match request {
            NodeRequest::Status => Ok(NodeReply::Status(self.node_status())),
            NodeRequest::Logs { service, from } => self.logs(&service, from).map(NodeReply::Logs),
            NodeRequest::Restart { service } => {
                if self.shutdown.has_begun() {
                    return Err(refusal("Stopping", "the node is on its way down".to_owned()));
                }
                self.unit_exists(&service)?;
                self.event(&service, service::Event::Restart);
                Ok(NodeReply::Accepted)
            }
            NodeRequest::Poweroff | NodeRequest::Reboot => Ok(NodeReply::Accepted),
        }
    }

    fn unit_exists(&self, name: &ServiceName) -> Result<(), Refusal> {
        if self.units.contains_key(name) {
            return Ok(());
        }
        let names: Vec<_> = self.units.keys().map(ToString::to_string).collect();
        let message = format!("there is no service {name}; there are {}", names.join(", "));
        Err(refusal("NoSuchService", message))
    }

    fn logs(&self, name: &ServiceName, from: u64) -> Result<LogPage, Refusal> {
        if name.as_str() == INIT {
            return Ok(self.console.ring.page(from));
        }
        self.unit_exists(name)?;
        Ok(self.units[name].ring.page(from))
    }

    fn node_status(&self) -> NodeStatus {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let memory = read("/proc/meminfo");
        let now_ms = since_boot_ms();
        NodeStatus {
            hostname: read("/proc/sys/kernel/hostname").trim().to_owned(),
            version: version(&read(RELEASE)),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            phase: self.phase(),
            uptime_ms: now_ms,
            kernel_to_init_ms: self.started_ms,
            init_to_ready_ms: self.ready_ms.map(|ready| ready.saturating_sub(self.started_ms)),
            memory_total_bytes: memory_field(&memory, "MemTotal:"),
            memory_available_bytes: memory_field(&memory, "MemAvailable:"),
            services: self.service_statuses(now_ms),
        }
    }

    fn phase(&self) -> NodePhase {
        if self.shutdown.phase != shutdown::Phase::Up {
            return NodePhase::Stopping;
        }
        let states = || self.units.values().map(|unit| unit.service.state);
        let all_up = states().all(|state| matches!(state, State::Ready | State::Stopped));
        let any_degraded = states().any(|state| matches!(state, State::Degraded { .. }));
        match (self.ready_ms, all_up, any_degraded) {
            (Some(_), true, _) => NodePhase::Ready,
            (None, _, false) => NodePhase::Booting,
            (Some(_), false, _) | (None, _, true) => NodePhase::Degraded,
        }
    }

    fn service_statuses(&self, now_ms: u64) -> Vec<ServiceStatus> {
        let status = |unit: &crate::unit::Unit| {
            let service = &unit.service;
            let waits = || {
                let late = unit.spec.after.iter().filter(|name| {
                    self.units
                        .get(*name)
                        .is_none_or(|unit| unit.service.shown() != ServiceState::Ready)
                });
                let late: Vec<_> = late.map(ToString::to_string).collect();
                format!("waits for {}", late.join(", "))
            };
            let message = match (service.state, service.reason.is_empty()) {
                (State::Waiting, _) => waits(),
                (_, false) => service.reason.clone(),
                (_, true) => unit.status.clone(),
            };
            ServiceStatus {
                name: unit.name.clone(),
                state: service.shown(),
                pid: unit.child.as_ref().map(sys::process::Child::pid),
                since_ms: now_ms.saturating_sub(service.since_ms),
                restarts: service.restarts,
                message,
                memory_bytes: cgroup::memory_bytes(unit.spec.cgroup.as_str()),
            }
        };
        self.units.values().map(status).collect()
    }
}

fn refusal(code: &str, message: String) -> Refusal {
    Refusal { code: code.to_owned(), message }
}

/// The version in the release file; `unknown` if it has none.
fn version(release: &str) -> String {
    serde_json::from_str::<serde_json::Value>(release)
        .ok()
        .and_then(|release| Some(release.get("version")?.as_str()?.to_owned()))
        .unwrap_or_else(|| "unknown".to_owned())
}

/// A field of `/proc/meminfo`, in bytes; 0 if it is not there.
fn memory_field(memory: &str, name: &str) -> u64 {
    let line = memory.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let memory = "MemTotal:        2048 kB\nMemFree:  1 kB\nMemAvailable:    1024 kB\n";
        assert_eq!(memory_field(memory, "MemTotal:"), 2 * 1024 * 1024);
        assert_eq!(memory_field(memory, "Swap:"), 0);
    }

    #[test]
    fn a_release_without_a_version_is_unknown() {
        assert_eq!(version("{\"version\":\"0.1.0\"}"), "0.1.0");
        assert_eq!(version("{}"), "unknown");
        assert_eq!(version("rubbish"), "unknown");
    }
}
