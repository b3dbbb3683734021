//! The admin API: what consoled answers over HTTP, as JSON.
//!
//! ```text
//!   GET  /v1/health                   Health      no token asked for
//!   GET  /metrics                     text for Prometheus
//!   GET  /v1/node                     Node
//!   GET  /v1/node/logs?service=&lines= Logs
//!   POST /v1/node/poweroff            Accepted
//!   POST /v1/node/reboot              Accepted
//!   GET  /v1/store                    task::StoreStatus
//!   GET  /v1/zones                    zone::ZonedStatus
//!   GET  /v1/zones/stats              Usage
//!   GET  /v1/zones/events?after=&follow= standing::Event, one a line
//!
//!   GET  /v1/zones/standing           Zones
//!   POST /v1/zones/standing           standing::ZoneSpec ──▶ standing::ZoneView
//!   …    /v1/zones/standing/NAME
//!     GET                             standing::ZoneView
//!     PATCH                           carve::CarveChange ──▶ Limits
//!     DELETE                          Deleted
//!     POST  /start /stop?timeout_s= /pause /resume   standing::ZoneView
//!     POST  /publish                  standing::Published
//!     GET   /limits /stats /why       Limits, standing::Stats, Why
//!     GET   /logs?lines=&follow=      LogLine, one a line
//!     GET   /exec                     a WebSocket of session::Packet
//!
//!   GET  /v1/accounts                 Accounts
//!   GET  /v1/accounts/LOGIN           AccountState
//!   …    /v1/accounts/LOGIN/limits
//!     GET, DELETE                     AccountState
//!     PATCH                           account::AccountLimits ──▶ AccountState
//!
//!   GET  /v1/images                   Images
//!   POST /v1/images                   ImageImport ──▶ Accepted
//!   DELETE /v1/images/NAME            Deleted
//! ```
//!
//! Every answer that is not a success is a [`Problem`]. Programs must bear fields that they do not know:
//! new ones may come without a new version; none goes, and none changes its meaning, within one.

use crate::account::{AccountLimits, AccountSummary, AccountView};
use crate::carve::Limit;
use crate::node::NodeStatus;
use crate::standing::{ImageView, Stats, ZoneName, ZoneSummary};
use serde::{Deserialize, Serialize};

/// The port of the admin API.
pub const PORT: u16 = 8090;
/// The most lines in one answer of logs.
pub const LINES_MAX: u32 = 5000;
/// Lines in an answer of logs when nobody says how many.
pub const LINES_DEFAULT: u32 = 200;

/// Paths of the API.
pub mod path {
    /// [`super::Health`].
    pub const HEALTH: &str = "/v1/health";
    /// [`super::Node`].
    pub const NODE: &str = "/v1/node";
    /// [`super::Logs`].
    pub const LOGS: &str = "/v1/node/logs";
    /// [`super::Accepted`].
    pub const POWEROFF: &str = "/v1/node/poweroff";
    /// [`super::Accepted`].
    pub const REBOOT: &str = "/v1/node/reboot";
    /// [`crate::task::StoreStatus`].
    pub const STORE: &str = "/v1/store";
    /// Numbers of the whole node, as text for Prometheus.
    pub const METRICS: &str = "/metrics";
    /// What zoned says of itself and its zones.
    pub const ZONES: &str = "/v1/zones";
    /// [`super::Usage`].
    pub const USAGE: &str = "/v1/zones/stats";
    /// [`crate::standing::Event`], one a line.
    pub const EVENTS: &str = "/v1/zones/events";
    /// [`super::Zones`]; each zone is below it by its name.
    pub const STANDING: &str = "/v1/zones/standing";
    /// [`super::Accounts`]; each account is below it by its login.
    pub const ACCOUNTS: &str = "/v1/accounts";
    /// [`super::Images`]; each image is below it by its name.
    pub const IMAGES: &str = "/v1/images";
}

/// Why a request was not served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A stable word for programs, in CamelCase: `TokenInvalid`, `StoragedUnavailable`.
    pub code: String,
    /// What was refused, why, and what to do next.
    pub message: String,
}

/// That consoled itself is up. It says nothing that an outsider should not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Always true.
    pub alive: bool,
}

/// How the node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// What init says.
    pub node: NodeStatus,
    /// Addresses that the node can be reached at.
    pub addresses: Vec<Address>,
    /// The node's clock when it answered, in milliseconds since 1970.
    pub clock_unix_ms: u64,
    /// Space on the data disk; absent if there is no data disk.
    pub data_disk: Option<DiskSpace>,
    /// Why the node is not all that it should be, in words; empty when it is.
    pub degraded: Vec<String>,
}

/// An address of a network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The interface.
    pub interface: String,
    /// The address, without prefix length.
    pub ip: std::net::IpAddr,
}

/// Space on a filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpace {
    /// All of it, in bytes.
    pub total_bytes: u64,
    /// What can still be used, in bytes.
    pub available_bytes: u64,
}

/// The latest lines of logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logs {
    /// The lines, oldest first.
    pub lines: Vec<Line>,
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Who wrote it.
    pub service: String,
    /// When, in milliseconds since the kernel started.
    pub at_ms: u64,
    /// What.
    pub text: String,
}

/// That something has begun whose end is seen elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// What has begun: `poweroff`, `reboot`, `import`.
    pub accepted: String,
}

/// All standing zones, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zones {
    /// Each in short.
    pub zones: Vec<ZoneSummary>,
}

/// What all standing zones use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// When, in milliseconds since 1970 by the node's clock: rates are differences between two answers.
    pub at_unix_ms: u64,
    /// Each zone that has processes.
    pub zones: Vec<ZoneUsage>,
}

/// What one zone uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ZoneUsage {
    /// The zone in short.
    pub zone: ZoneSummary,
    /// Its counters.
    pub stats: Stats,
}

/// Limits of a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Each as it was asked for and as it is in force.
    pub limits: Vec<Limit>,
}

/// Why a zone was killed, is throttled, or does not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// Reasons, latest first.
    pub reasons: Vec<String>,
}

/// That a zone or an image is no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// Its name.
    pub deleted: String,
}

/// A line of what a zone's command wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// What, without its line break; bytes that are no UTF-8 are shown as U+FFFD.
    pub text: String,
    /// Whether the line goes on in the next one: it is long, or not yet ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// All accounts, by login.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accounts {
    /// Each in short.
    pub accounts: Vec<AccountSummary>,
}

/// An account, with what its zones may use together and what they use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccountState {
    /// In short.
    pub summary: AccountSummary,
    /// What was set for it here.
    pub set: AccountLimits,
    /// What the machine's configuration says of it.
    pub configured: AccountLimits,
    /// Each limit as asked for and as it is in force.
    pub limits: Vec<Limit>,
}

impl From<AccountView> for AccountState {
    fn from(view: AccountView) -> Self {
        let AccountView { summary, set, configured, limits } = view;
        Self { summary, set, configured, limits }
    }
}

/// All images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Images {
    /// Each.
    pub images: Vec<ImageView>,
}

/// An image that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageImport {
    /// Its name from now on.
    pub name: String,
    /// The object that it is made of, `/login/stor/…`.
    pub object: String,
}

/// The path of a standing zone, or of something of it.
#[must_use]
pub fn zone_path(name: &ZoneName, rest: &str) -> String {
    let slash = if rest.is_empty() { "" } else { "/" };
    format!("{}/{name}{slash}{rest}", path::STANDING)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_field_of_a_later_version_is_borne() {
        let later = r#"{"alive":true,"mood":"good"}"#;
        assert_eq!(serde_json::from_str::<Health>(later).unwrap(), Health { alive: true });
    }

    #[test]
    fn an_address_is_a_string() {
        let address = Address { interface: "eth0".to_owned(), ip: [10, 0, 2, 15].into() };
        let json = serde_json::to_string(&address).unwrap();
        assert_eq!(json, r#"{"interface":"eth0","ip":"10.0.2.15"}"#);
    }
}
