//! Standing zones: machines of a tenant's own that last until they are deleted, and what may be asked of
//! zoned about them.
//!
//! ```text
//!                 create            start               running
//!   configured ──▶ incomplete ──▶ installed ──▶ ready ──▶ running ◀──▶ paused
//!                      │              ▲                     │
//!                      ▼              └──── down ◀── shutting_down
//!                    failed
//! ```
//!
//! The words for states are those of zoneadm(8) of illumos; `paused` is the cgroup's freezer. A request
//! that will not be done is answered by a [`crate::frame::Refusal`].

mod event;
mod request;
mod spec;
mod stats;
mod view;

pub use self::event::{Event, Published, Subject, What, damaged};
pub use self::request::{WindowSize, ZonePush, ZoneReply, ZoneRequest};
pub use self::spec::{
    COMMAND_BYTES_MAX, MOUNTS_MAX, PrefixMount, SpecError, WORDS_MAX, ZoneSpec, check_command,
};
pub use self::stats::{Pressure, Stats};
pub use self::view::{ImageView, ZoneSummary, ZoneView};
use serde::{Deserialize, Serialize};

/// The most bytes in a zone's name: it is its host name too (RFC 1035, a label).
pub const NAME_BYTES_MAX: usize = 63;
/// The most standing zones on a node.
pub const ZONES_MAX: usize = 2048;
/// The most zones in one answer; longer lists are paged by name.
pub const PAGE_MAX: usize = 64;
/// The most events in one message.
pub const EVENTS_MAX: usize = 64;
/// The most sessions (`exec`, `login`) in one zone at once.
pub const SESSIONS_MAX: usize = 16;
/// Seconds between SIGTERM and SIGKILL when a zone is stopped and nobody says how long.
pub const STOP_S_DEFAULT: u32 = 10;
/// The longest that a stop may take, in seconds.
pub const STOP_S_MAX: u32 = 3600;

/// A zone's name: letters, digits and `-`, starting with a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ZoneName(String);

impl ZoneName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ZoneName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ZoneName> for String {
    fn from(name: ZoneName) -> Self {
        name.0
    }
}

impl TryFrom<String> for ZoneName {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let starts = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        if !starts || text.len() > NAME_BYTES_MAX || !text.bytes().all(good) {
            return Err("a zone's name is 1 to 63 of a-z, 0-9 and -, and starts with a letter");
        }
        Ok(Self(text))
    }
}

impl std::str::FromStr for ZoneName {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.to_owned().try_into()
    }
}

/// Where a standing zone is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZoneState {
    /// It is on record and nothing has been made.
    Configured,
    /// Its files are being made.
    Incomplete,
    /// It has all it needs and does not run.
    Installed,
    /// Its first process is being started.
    Ready,
    /// It runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its processes have been told to end.
    ShuttingDown,
    /// Its processes are gone; what is left of it is being cleared.
    Down,
    /// It could not be made or started; `why` says more.
    Failed,
}

impl ZoneState {
    /// Its word, as zoneadm(8) has it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Incomplete => "incomplete",
            Self::Installed => "installed",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::ShuttingDown => "shutting_down",
            Self::Down => "down",
            Self::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn spec(text: &str) -> ZoneSpec {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_short_specification_is_whole() {
        let spec = spec(r#"{"name":"web","login":"ann","image":"base"}"#);
        assert_eq!(spec.check(), Ok(()));
        assert!(spec.autoboot && !spec.restart && spec.network.is_none());
    }

    #[test]
    fn another_accounts_objects_are_refused() {
        let spec = spec(
            r#"{"name":"web","login":"ann","image":"base","mounts":[{"prefix":"/annette/stor"}]}"#,
        );
        let error = spec.check().unwrap_err().to_string();
        assert!(error.contains("/annette/stor"), "{error}");
    }

    #[test]
    fn names_that_are_no_host_names_are_refused() {
        for name in ["", "-a", "1a", "A", "a_b", "a/b", "..", &"a".repeat(64)] {
            assert!(ZoneName::try_from(name.to_owned()).is_err(), "{name}");
        }
        assert!(ZoneName::try_from("a".repeat(63)).is_ok());
    }

    #[test]
    fn the_largest_pages_fit_a_message() {
        let name = ZoneName::try_from("a".repeat(NAME_BYTES_MAX)).unwrap();
        let summary = ZoneSummary {
            name,
            state: ZoneState::ShuttingDown,
            login: "l".repeat(64),
            image: "i".repeat(64),
            state_ms: u64::MAX,
            memory_mib: u32::MAX,
            memory_bytes: u64::MAX,
            cpu_us: u64::MAX,
            processes: u64::MAX,
        };
        let page = ZoneReply::Zones(vec![summary; PAGE_MAX]);
        let message = crate::frame::encode(crate::frame::Kind::Reply, 1, &page, 0).unwrap();
        assert!(message.len() <= crate::frame::MESSAGE_BYTES_MAX);
    }
}
