//! Zones and images as people are shown them.

use super::{ZoneName, ZoneSpec, ZoneState};
use serde::{Deserialize, Serialize};

/// A zone in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneSummary {
    /// Its name.
    pub name: ZoneName,
    /// Where it is in its life.
    pub state: ZoneState,
    /// The login of its account.
    pub login: String,
    /// Its image.
    pub image: String,
    /// How long it has been in this state, in milliseconds.
    pub state_ms: u64,
    /// `memory.max`, in MiB.
    pub memory_mib: u32,
    /// Memory charged to it now, in bytes.
    pub memory_bytes: u64,
    /// CPU time used since it was started, in microseconds.
    pub cpu_us: u64,
    /// Processes in it now.
    pub processes: u64,
}

/// A zone, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneView {
    /// In short.
    pub summary: ZoneSummary,
    /// As it was asked for, changes included.
    pub spec: ZoneSpec,
    /// Its own address on the node's bridge, if it has a network.
    pub address: Option<std::net::IpAddr>,
    /// When it was created, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// How often its command was started again since the zone started.
    pub restarts: u32,
    /// How its command ended last, if it did.
    pub last_outcome: Option<crate::zone::Outcome>,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageView {
    /// Its name.
    pub name: String,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
    /// Its size, in bytes.
    pub bytes: u64,
    /// Whether it came with the appliance.
    pub shipped: bool,
    /// Zones that use it now.
    pub zones: u32,
}
