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

use crate::carve::{Carve, CarveChange, CarveError, Limit, Network};
use crate::machine::Login;
use crate::task::AttemptId;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The most bytes in a zone's name: it is its host name too (RFC 1035, a label).
pub const NAME_BYTES_MAX: usize = 63;
/// The most standing zones on a node.
pub const ZONES_MAX: usize = 2048;
/// The most prefixes of the store that one zone shows.
pub const MOUNTS_MAX: usize = 8;
/// The most words in a command.
pub const WORDS_MAX: usize = 256;
/// The most bytes of a command and its environment together: a message has to carry them.
pub const COMMAND_BYTES_MAX: usize = 32 * 1024;
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

/// A standing zone as it was asked for: its desired state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneSpec {
    /// Its name, the node's only one.
    pub name: ZoneName,
    /// The login of the account that owns it, pays for it, and whose objects it may show.
    pub login: String,
    /// The image that its root is made from.
    pub image: String,
    /// What runs in it: the program and its arguments. Empty: nothing but its first process, for sessions.
    #[serde(default)]
    pub command: Vec<String>,
    /// Variables for whatever runs in it.
    #[serde(default)]
    pub environment: Vec<(String, String)>,
    /// Whether its command is started again when it ends; else the zone goes down with it.
    #[serde(default)]
    pub restart: bool,
    /// What it may use.
    #[serde(default)]
    pub carve: Carve,
    /// Prefixes of the store that it shows.
    #[serde(default)]
    pub mounts: Vec<PrefixMount>,
    /// Its network; none if none.
    #[serde(default)]
    pub network: Option<Network>,
    /// Where what it writes to `/out` goes: `/login/stor/…`; it has no `/out` if none.
    #[serde(default)]
    pub output: Option<String>,
    /// Whether it runs after a boot if it ran before: all do unless told otherwise.
    #[serde(default = "ZoneSpec::yes")]
    pub autoboot: bool,
}

/// A prefix of the store, shown as a read-only tree under [`crate::zone::OBJECTS`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrefixMount {
    /// The prefix, `/login/stor/logs/2026-11`: all objects below it, as they are when the zone starts.
    pub prefix: String,
}

/// Why a specification is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpecError {
    /// Its carve or its network.
    #[error(transparent)]
    Carve(#[from] CarveError),
    /// Too many of something.
    #[error("{what}: {got} are more than the {most} there may be")]
    Many {
        /// Of what.
        what: &'static str,
        /// How many there are.
        got: usize,
        /// How many there may be.
        most: usize,
    },
    /// A text that cannot be used.
    #[error("{what} {got:?} {why}")]
    Text {
        /// Which text.
        what: &'static str,
        /// The text.
        got: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl ZoneSpec {
    const fn yes() -> bool {
        true
    }

    /// Checks every part.
    ///
    /// # Errors
    /// [`SpecError`] for the first that makes no sense.
    pub fn check(&self) -> Result<(), SpecError> {
        self.carve.check()?;
        self.network.iter().try_for_each(Network::check)?;
        check_command(&self.command, &self.environment)?;
        if self.mounts.len() > MOUNTS_MAX {
            return Err(SpecError::Many {
                what: "mounts",
                got: self.mounts.len(),
                most: MOUNTS_MAX,
            });
        }
        let own = format!("/{}/", self.login);
        let places = self.mounts.iter().map(|mount| ("mount", &mount.prefix));
        for (what, path) in places.chain(self.output.iter().map(|path| ("output", path))) {
            if !path.starts_with(&own) {
                let why = "is not the account's: it starts with another login";
                return Err(SpecError::Text { what, got: path.clone(), why });
            }
        }
        Ok(())
    }
}

/// Checks a command and its environment against what a message and execve(2) take.
///
/// # Errors
/// [`SpecError`].
pub fn check_command(
    command: &[String],
    environment: &[(String, String)],
) -> Result<(), SpecError> {
    if command.len() > WORDS_MAX {
        return Err(SpecError::Many { what: "words", got: command.len(), most: WORDS_MAX });
    }
    let names = environment.iter().map(|(name, _)| name);
    let texts = command.iter().chain(environment.iter().map(|(_, value)| value)).chain(names);
    let mut bytes = 0;
    for text in texts {
        bytes += text.len();
        if text.contains('\0') {
            let why = "has a zero byte in it";
            return Err(SpecError::Text { what: "word", got: text.clone(), why });
        }
    }
    if let Some((name, _)) = environment.iter().find(|(n, _)| n.is_empty() || n.contains('=')) {
        let why = "is no name of a variable";
        return Err(SpecError::Text { what: "variable", got: name.clone(), why });
    }
    if bytes > COMMAND_BYTES_MAX {
        return Err(SpecError::Many {
            what: "bytes of command",
            got: bytes,
            most: COMMAND_BYTES_MAX,
        });
    }
    Ok(())
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

/// What may be asked of zoned about standing zones, by whoever may use its socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ZoneRequest {
    /// Make it and start it. Answered by [`ZoneReply::Zone`] once it is on record.
    Create(Box<ZoneSpec>),
    /// All zones after this name. Answered by [`ZoneReply::Zones`].
    List {
        /// The last name of the page before; none for the first page.
        after: Option<ZoneName>,
    },
    /// One zone. Answered by [`ZoneReply::Zone`].
    Get(ZoneName),
    /// Start it. Answered by [`ZoneReply::Zone`].
    Start(ZoneName),
    /// SIGTERM to its command, then SIGKILL to all. Answered by [`ZoneReply::Zone`].
    Stop {
        /// Which.
        name: ZoneName,
        /// Seconds between the two, at most [`STOP_S_MAX`].
        timeout_s: u32,
    },
    /// Freeze its processes. Answered by [`ZoneReply::Zone`].
    Pause(ZoneName),
    /// Let them go on. Answered by [`ZoneReply::Zone`].
    Resume(ZoneName),
    /// Change its limits, while it runs. Answered by [`ZoneReply::Limits`].
    Update {
        /// Which.
        name: ZoneName,
        /// What changes.
        change: Box<CarveChange>,
    },
    /// Kill what runs in it and forget it. Answered by [`ZoneReply::Done`].
    Delete(ZoneName),
    /// Its limits, as asked and as in force. Answered by [`ZoneReply::Limits`].
    Limits(ZoneName),
    /// What it uses now. Answered by [`ZoneReply::Stats`].
    Stats(ZoneName),
    /// Why it was killed, is throttled, or is not started. Answered by [`ZoneReply::Why`].
    Why(ZoneName),
    /// Run something in it. Answered by [`ZoneReply::Session`] with a terminal's descriptor beside it, or
    /// with those of stdin, stdout and stderr; later comes [`ZonePush::SessionOver`] on this connection.
    Exec {
        /// Where.
        name: ZoneName,
        /// The program and its arguments; empty is a login shell.
        command: Vec<String>,
        /// Further variables.
        environment: Vec<(String, String)>,
        /// A terminal of this size, or three pipes.
        terminal: Option<WindowSize>,
    },
    /// Its log. Answered by [`ZoneReply::Log`], with a descriptor for each file beside it.
    Log(ZoneName),
    /// Send events from here on as [`ZonePush::Events`]. Answered by [`ZoneReply::Done`].
    Watch {
        /// Those after this number that are still known come first.
        after: u64,
    },
    /// Turn what it has written to `/out` into objects now. Answered by [`ZoneReply::Published`].
    Publish(ZoneName),
    /// All images. Answered by [`ZoneReply::Images`].
    Images,
    /// Make an image of an object: `docker save`, an OCI archive, a tarball of a root, an EROFS file.
    /// Answered by [`ZoneReply::Done`] when it has begun; its end is an event.
    ImportImage {
        /// Its name from now on.
        name: String,
        /// The object, `/login/stor/…`.
        object: String,
    },
    /// Remove an image that no zone uses. Answered by [`ZoneReply::Done`].
    RemoveImage(String),
}

/// A terminal's size (ioctl_tty(2), `TIOCSWINSZ`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Letters in a line.
    pub columns: u16,
}

/// What zoned answers about standing zones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ZoneReply {
    /// It is done, or has begun.
    Done,
    /// One zone.
    Zone(Box<ZoneView>),
    /// A page of zones, by name; shorter than [`PAGE_MAX`] if it is the last.
    Zones(Vec<ZoneSummary>),
    /// Limits, as asked and as in force.
    Limits(Vec<Limit>),
    /// What it uses.
    Stats(Box<Stats>),
    /// Reasons, latest first, in words.
    Why(Vec<String>),
    /// A session has begun.
    Session {
        /// Its number on this node.
        session: u64,
    },
    /// Its log's files, oldest first: a descriptor each.
    Log {
        /// How many.
        files: u32,
    },
    /// What became of the files in `/out`.
    Published(Published),
    /// All images.
    Images(Vec<ImageView>),
}

/// News for a connection that asked for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ZonePush {
    /// What happened to zones.
    Events(Vec<Event>),
    /// A session has ended, and so have its processes.
    SessionOver {
        /// Which.
        session: u64,
        /// How.
        outcome: crate::zone::Outcome,
    },
}

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

/// What a zone uses and meets: counters since it was started, unless they say "now".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stats {
    /// CPU time, in microseconds.
    pub cpu_us: u64,
    /// Of it in user mode.
    pub cpu_user_us: u64,
    /// Of it in the kernel.
    pub cpu_system_us: u64,
    /// Periods of `cpu.max` in which it was held back.
    pub throttled: u64,
    /// For how long, in microseconds.
    pub throttled_us: u64,
    /// Memory charged now, in bytes.
    pub memory_bytes: u64,
    /// The most that was ever charged, in bytes.
    pub memory_peak_bytes: u64,
    /// Of what is charged now: anonymous.
    pub memory_anon_bytes: u64,
    /// Of what is charged now: files.
    pub memory_file_bytes: u64,
    /// Of what is charged now: the kernel's.
    pub memory_kernel_bytes: u64,
    /// Times that `memory.max` made it reclaim.
    pub memory_max_events: u64,
    /// Processes that were killed for memory.
    pub oom_kills: u64,
    /// Bytes read from the data disk.
    pub read_bytes: u64,
    /// Bytes written to the data disk.
    pub write_bytes: u64,
    /// Processes now.
    pub processes: u64,
    /// The most there ever were.
    pub processes_peak: u64,
    /// Times that `pids.max` refused one.
    pub fork_failures: u64,
    /// Network: bytes out of the zone.
    pub out_bytes: u64,
    /// Network: packets out of the zone.
    pub out_packets: u64,
    /// Network: bytes into the zone.
    pub in_bytes: u64,
    /// Network: packets into the zone.
    pub in_packets: u64,
    /// Connections and datagrams that the policy refused.
    pub refused: u64,
    /// Pressure now: processor, memory, disk.
    pub cpu: Pressure,
    /// As above.
    pub memory: Pressure,
    /// As above.
    pub io: Pressure,
}

/// Pressure stall information (`Documentation/accounting/psi.rst`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pressure {
    /// Per cent of the last 10 s in which some process waited.
    pub some_avg10: f64,
    /// Per cent of the last 10 s in which all waited at once.
    pub full_avg10: f64,
    /// For how long some waited in all, in microseconds.
    pub some_total_us: u64,
    /// For how long all waited in all, in microseconds.
    pub full_total_us: u64,
}

/// Something that happened to a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Counts from 1 since zoned's first start after a boot.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// To whom.
    pub subject: Subject,
    /// What.
    pub what: What,
}

/// Whom an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A standing zone.
    Zone(ZoneName),
    /// A task's zone.
    Task(AttemptId),
    /// An image.
    Image(String),
    /// An account.
    Account(Login),
    /// The node.
    Node,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum What {
    /// It went from one state to another.
    State {
        /// It was this.
        from: ZoneState,
        /// It is this.
        to: ZoneState,
        /// Because of this, if that is not plain.
        why: Option<String>,
    },
    /// Limits were changed.
    Updated {
        /// What they are now.
        limits: Vec<Limit>,
    },
    /// Its memory limit killed.
    OutOfMemory,
    /// Its command ended.
    Ended {
        /// How.
        outcome: crate::zone::Outcome,
        /// Whether it is started again.
        restarted: bool,
    },
    /// A session began.
    SessionBegan {
        /// Which.
        session: u64,
    },
    /// A session ended.
    SessionEnded {
        /// Which.
        session: u64,
        /// How.
        outcome: crate::zone::Outcome,
    },
    /// Files of `/out` became objects.
    Published(Published),
    /// The kernel refuses pages of an object that it shows: they are not what was stored.
    Damaged {
        /// The object's full name.
        object: String,
    },
    /// Work waits because the node is short of something.
    Held {
        /// Of what, in words.
        why: String,
    },
    /// Work goes on.
    Released,
    /// An image can be used.
    Imported {
        /// Its SHA-256 in hexadecimal digits.
        sha256: String,
        /// Its size.
        bytes: u64,
    },
    /// An image could not be made.
    ImportFailed {
        /// Why.
        why: String,
    },
}

/// What there is to say of a damaged object, and to be done about it.
#[must_use]
pub fn damaged(object: &str) -> String {
    format!(
        "{object} is damaged on the disk: reading it fails (EIO, SIGBUS); put it again from a copy, or \
         delete it, then stop and start the zone"
    )
}

/// What became of the files in a zone's `/out`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Files that are objects now.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were not taken, each with the reason; the first few.
    pub refused: Vec<String>,
    /// How many were not taken.
    pub refused_count: u64,
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
