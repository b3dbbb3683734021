//! What init answers on its control socket (`/run/mobula/init.sock`): how the node is, what its
//! services wrote, and the two ways to end it.
//!
//! Requests are `Kind::Request` frames with a [`NodeRequest`], replies `Kind::Reply` frames with a
//! [`NodeReply`]; what will not be done is a `Refusal`. Only peers of uid 0 and consoled's are served.

use crate::service::ServiceName;
use serde::{Deserialize, Serialize};

/// Where init listens.
pub const SOCKET: &str = "/run/mobula/init.sock";
/// The name under which init's own lines stand among the logs.
pub const INIT: &str = "init";
/// The most bytes of text in one [`LogPage`]: JSON may make six bytes of one, and a page must fit a
/// message.
pub const PAGE_TEXT_BYTES_MAX: usize = 9 * 1024;

/// What may be asked of init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum NodeRequest {
    /// How are you? Answered by [`NodeReply::Status`].
    Status,
    /// What a service wrote, from line number `from` on. Answered by [`NodeReply::Logs`].
    Logs {
        /// A service, or [`INIT`].
        service: ServiceName,
        /// The first line wanted; 0 for the oldest that is kept.
        from: u64,
    },
    /// Stop a service in order and start it again. Answered by [`NodeReply::Accepted`].
    Restart {
        /// Which one.
        service: ServiceName,
    },
    /// Stop everything in order and switch off; a second one hurries. Answered by
    /// [`NodeReply::Accepted`] at once.
    Poweroff,
    /// Stop everything in order and boot again; a second one hurries.
    Reboot,
}

/// What init answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum NodeReply {
    /// How the node is.
    Status(NodeStatus),
    /// A page of log lines.
    Logs(LogPage),
    /// It has begun.
    Accepted,
}

/// How far the node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodePhase {
    /// Some service has not been ready yet.
    Booting,
    /// All services are ready.
    Ready,
    /// A service that was ready is not, or one failed too often.
    Degraded,
    /// On the way down.
    Stopping,
}

/// How the node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeStatus {
    /// The node's name.
    pub hostname: String,
    /// The release that runs, from `/etc/mobula/release.json`.
    pub version: String,
    /// `uname -r`.
    pub kernel: String,
    /// How far it is.
    pub phase: NodePhase,
    /// Since the kernel started, in milliseconds.
    pub uptime_ms: u64,
    /// From the kernel's start to init's, in milliseconds.
    pub kernel_to_init_ms: u64,
    /// From init's start to the first time all services were ready, in milliseconds.
    pub init_to_ready_ms: Option<u64>,
    /// Memory of the machine, in bytes.
    pub memory_total_bytes: u64,
    /// Memory that could be given to a program now, in bytes.
    pub memory_available_bytes: u64,
    /// Every service.
    pub services: Vec<ServiceStatus>,
}

/// How a service is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceStatus {
    /// Its name.
    pub name: ServiceName,
    /// Its state.
    pub state: ServiceState,
    /// Its main process, while there is one.
    pub pid: Option<i32>,
    /// In this state for so long, in milliseconds.
    pub since_ms: u64,
    /// How often it was started again after it had failed.
    pub restarts: u64,
    /// What it last said of itself (`STATUS=`), or why it is in this state.
    pub message: String,
    /// `memory.current` of its cgroup, in bytes.
    pub memory_bytes: Option<u64>,
}

/// The state of a service, as people and programs see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// Waits for the services it comes after.
    Waiting,
    /// Runs and is not ready yet.
    Starting,
    /// Runs and is ready.
    Ready,
    /// Ended by itself and will be started again soon.
    BackOff,
    /// Ended by itself too often: started again at long intervals only.
    Degraded,
    /// Asked to end.
    Stopping,
    /// Ended, and to stay so.
    Stopped,
}

/// Lines that a service wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPage {
    /// The lines, oldest first; empty when there is none after `from` yet.
    pub lines: Vec<LogLine>,
    /// What to ask from for the lines after these.
    pub next: u64,
    /// Lines between `from` and the first of these that are no longer kept.
    pub lost: u64,
}

/// A line that a service wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLine {
    /// Its number, from 0, since boot.
    pub number: u64,
    /// When, in milliseconds since the kernel started.
    pub at_ms: u64,
    /// What.
    pub text: String,
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::frame::{Frame, Kind, encode};

    #[test]
    fn a_request_survives_the_wire() {
        let service = ServiceName::try_from("storaged".to_owned()).unwrap();
        let request = NodeRequest::Logs { service, from: 7 };
        let message = encode(Kind::Request, 1, &request, 0).unwrap();
        let got: NodeRequest = Frame::parse(&message, 0).unwrap().body().unwrap();
        assert_eq!(got, request);
    }

    #[test]
    fn the_worst_page_fits_a_message() {
        let text = "\u{1}".repeat(PAGE_TEXT_BYTES_MAX);
        let line = LogLine { number: u64::MAX, at_ms: u64::MAX, text };
        let page = LogPage { lines: vec![line], next: u64::MAX, lost: u64::MAX };
        assert!(encode(Kind::Reply, 1, &NodeReply::Logs(page), 0).is_ok());
    }

    #[test]
    fn a_service_name_with_a_slash_is_refused() {
        let body = r#"{"restart":{"service":"../x"}}"#;
        assert!(serde_json::from_str::<NodeRequest>(body).is_err());
    }
}
