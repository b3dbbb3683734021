//! Zones: what zoned tells others of them, and what it and a zone's first process say to each other.
//!
//! ```text
//!   zoned                                 zone-init, PID 1 of the zone
//!     │ ── Build (+ namespaces, mounts) ──▶ │   root, limits, user, filter
//!     │ ── Run (+ stdout, stderr) ────────▶ │   init, then exec
//!     │ ◀──────────────────────── Started ── │
//!     │ ◀───────────── MoreInputs (reduce) ── │   the feeder's queue runs low
//!     │ ── Inputs (+ descriptors) ────────▶ │
//!     │ ◀───────────────── Over (outcome) ── │   every other process of the zone is gone, all files closed
//!     │ ── Acknowledged ──────────────────▶ │   ends, and with it the zone; or
//!     │ ── Stay ──────────────────────────▶ │   waits for the next task of the same job and phase
//!     │ ── Run (+ stdin, stdout, stderr) ─▶ │   exec
//!
//!     │ ── Stand (+ namespaces, mounts) ──▶ │   a standing zone: root, privileges, its command
//!     │ ◀──────────────────────── Started ── │
//!     │ ── Exec (+ terminal or pipes) ────▶ │
//!     │ ◀──────────────────── SessionOver ── │
//!     │ ◀────────────────────── Restarted ── │   its command ended and is started again
//!     │ ◀──────────────────────── Publish ── │   one of its programs wants /out to become objects
//!     │ ── Published ─────────────────────▶ │
//!     │ ── Terminate ─────────────────────▶ │
//!     │ ◀───────────────── Over (outcome) ── │   and as above
//! ```
//!
//! The bodies travel as [`crate::frame::Kind::Push`]. zone-init has lost every privilege by the time the
//! tenant's first program runs; zoned still takes what it says as words of a stranger.

use crate::account::{AccountReply, AccountRequest};
use crate::frame::Refusal;
use crate::job::JobId;
use crate::standing::{Published, ZoneReply, ZoneRequest};
use crate::task::AttemptId;
use serde::{Deserialize, Serialize};

/// The most bytes in one component of a path that a zone shows.
pub const COMPONENT_BYTES_MAX: usize = 255;
/// The most bytes in a path that a zone shows, what stands before it included.
pub const PATH_BYTES_MAX: usize = 1024;
/// Where a zone shows objects.
pub const OBJECTS: &str = "/manta";
/// Where a zone shows assets.
pub const ASSETS: &str = "/assets";

/// Where a zone writes what is to become objects.
pub const OUTPUT: &str = "/out";
/// The socket, in a zone with an [`OUTPUT`], at which its programs may ask for that.
pub const PUBLISH_SOCKET: &str = "/dev/publish";
/// The program that asks there, for people and scripts.
pub const PUBLISHER: &str = "/usr/local/bin/mobula-publish";

/// What a program of a zone asks at [`PUBLISH_SOCKET`], as [`crate::frame::Kind::Request`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Wish {
    /// That all in [`OUTPUT`] becomes objects now. Answered by [`Published`] or a [`Refusal`].
    Publish,
}

/// What zoned tells zone-init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Make the zone. Beside it: the user namespace, the network namespace, then the mounts of the input,
    /// if there is one, and of each asset.
    Build(Plan),
    /// Run the task. Beside it: stdout and stderr. The stdin is the plan's input or, without one, a pipe.
    /// After [`Self::Stay`] the stdin of a task with an input comes first, beside the others.
    Run(Command),
    /// More of the stdin, a descriptor each.
    Inputs {
        /// None follow.
        end: bool,
    },
    /// The outcome has arrived: nothing is left to be done.
    Acknowledged,
    /// The outcome has arrived: another task may come.
    Stay,
    /// Make a standing zone and run its command. Beside it: the user namespace, the network namespace, the
    /// log's two files, then the mounts that the plan names, in its order.
    Stand(Box<StandingPlan>),
    /// Who are you? Answered by [`Report::Standing`]: a zoned that was started again asks.
    Who,
    /// The plan's signal to the command; when it has ended, or there is none, the zone ends.
    Terminate,
    /// Run something. Beside it: a terminal, or stdin, stdout and stderr, or nothing if it is detached.
    Exec(Box<Execution>),
    /// Nobody waits for this session any more: on a terminal it is hung up and killed if it does not end, else
    /// it is killed.
    EndSession {
        /// Which.
        session: u64,
    },
    /// What became of the files in [`OUTPUT`], as [`Report::Publish`] wanted.
    Published {
        /// Of which wish.
        wish: u64,
        /// What became objects.
        published: Published,
    },
    /// Nothing became of them.
    NotPublished {
        /// Of which wish.
        wish: u64,
        /// Why not.
        refusal: Refusal,
    },
}

/// How to make a standing zone, and what to run in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StandingPlan {
    /// Its root. It has neither input nor assets.
    pub root: Plan,
    /// Where each mount beside the order stands, below [`OBJECTS`] or [`OUTPUT`]. With an output one more
    /// comes, the program that stands at [`PUBLISHER`].
    pub mounts: Vec<String>,
    /// The program and its arguments; nothing runs if it is empty.
    pub command: Vec<String>,
    /// Whether it is started again when it ends.
    pub restart: bool,
    /// The whole environment of what runs in the zone.
    pub environment: Vec<(String, String)>,
    /// The directory that the command starts in.
    pub directory: String,
    /// The user and group that the command and sessions run as, in the zone's own numbers.
    pub user: (u32, u32),
    /// What tells the command to end (signal(7)).
    pub stop_signal: i32,
    /// What its `/etc/resolv.conf` says, if it has a network; else it is the image's.
    #[serde(default)]
    pub resolver: Option<String>,
}

/// Something to run in a standing zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Execution {
    /// The session's number.
    pub session: u64,
    /// The program and its arguments; a login shell if it is empty.
    pub command: Vec<String>,
    /// Variables besides the zone's.
    pub environment: Vec<(String, String)>,
    /// Whether a terminal came beside it.
    pub terminal: bool,
    /// Whether it writes to the zone's log, and runs on whoever goes.
    pub detached: bool,
}

/// How to make a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The zone's name for itself.
    pub host_name: String,
    /// The first of the zone's user ids, as seen from outside.
    pub user: u32,
    /// Bytes that files in the zone may take.
    pub scratch_bytes: u64,
    /// Files that the zone may hold.
    pub scratch_files: u64,
    /// Where a map's input stands, which also is its stdin; as [`shown_path`] makes it.
    pub input: Option<String>,
    /// Where each asset stands, likewise. Programs among them (`#!`, ELF) are copied and may be run, all
    /// else is mapped and may be read.
    pub assets: Vec<String>,
}

/// What to run in a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Run by `bash --norc -c` before `exec`, its stdout thrown away.
    pub init: Option<String>,
    /// Run by `bash --norc -c`.
    pub exec: String,
    /// The environment of `exec`; `init` gets it without `MANTA_INPUT_*`.
    pub environment: Vec<(String, String)>,
}

/// What zone-init tells zoned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Report {
    /// The zone stands and `init`, or `exec` if there is none, runs. Said once, of the first task.
    Started,
    /// The feeder wants more inputs.
    MoreInputs,
    /// All is over in the zone but for its first process.
    Over(Outcome),
    /// A standing zone's command has ended and will be started again.
    Restarted {
        /// How it ended.
        outcome: Outcome,
    },
    /// A session has ended.
    SessionOver {
        /// Which.
        session: u64,
        /// How.
        outcome: Outcome,
    },
    /// What a standing zone is up to.
    Standing {
        /// How often its command was started again.
        restarts: u32,
        /// How that ended last, if it did.
        last_outcome: Option<Outcome>,
        /// Sessions that somebody waits for.
        sessions: Vec<u64>,
    },
    /// A standing zone wants what it has written to [`OUTPUT`] to become objects. Answered by
    /// [`Order::Published`] or [`Order::NotPublished`].
    Publish {
        /// Which wish this is: its own count.
        wish: u64,
    },
}

/// How it went in a zone, as seen from within.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// `exec` exited with this code.
    Exited {
        /// 0 to 255.
        code: u8,
    },
    /// `exec` was ended by this signal.
    Signalled {
        /// Its number (signal(7)).
        signal: i32,
    },
    /// `init` did not exit with 0.
    InitFailed {
        /// What happened.
        message: String,
    },
    /// The zone could not be made or kept going; the task is not to blame.
    Broken {
        /// What happened.
        message: String,
    },
}

/// Requests that anyone may make of zoned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How are you? Answered by [`Reply::Status`].
    Status,
    /// Something about standing zones or images; answered by [`Reply::Zone`].
    Zone(ZoneRequest),
    /// Something about accounts; answered by [`Reply::Account`].
    Account(AccountRequest),
}

/// What zoned answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// How zoned is.
    Status(ZonedStatus),
    /// About standing zones or images.
    Zone(ZoneReply),
    /// About accounts.
    Account(AccountReply),
}

/// How zoned is, and what runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZonedStatus {
    /// Whether storaged is connected.
    pub store_connected: bool,
    /// Zones that may run at once.
    pub zones_max: u32,
    /// Memory that running zones may ask for in all, in MiB.
    pub memory_mib_max: u64,
    /// Memory that running zones asked for, in MiB.
    pub memory_mib: u64,
    /// Tasks that storaged has ready and that wait for a place.
    pub waiting: u64,
    /// What the node is short of, in words, while new work waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// What this kernel lacks, in words; empty when zones have all their limits.
    pub degraded: Vec<String>,
    /// What runs now. At most as many as fit one message; `zones_running` counts them all.
    pub zones: Vec<ZoneStatus>,
    /// How many zones run now.
    pub zones_running: u32,
    /// What happened since zoned started.
    pub counts: Counts,
}

/// A running zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneStatus {
    /// The attempt that runs in it.
    pub attempt: AttemptId,
    /// Its job.
    pub job: JobId,
    /// The phase, from 0.
    pub phase: u32,
    /// The account that pays.
    pub account: u32,
    /// How long it has run, in microseconds.
    pub running_us: u64,
    /// Memory it may use, in MiB.
    pub memory_mib: u32,
    /// Memory charged to it now, in bytes; 0 where nobody counts.
    pub memory_bytes: u64,
    /// CPU time it has used, in microseconds.
    pub cpu_us: u64,
}

/// What happened since zoned started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Zones started.
    pub started: u64,
    /// Tasks that exited with 0.
    pub succeeded: u64,
    /// Tasks that failed by themselves: exit code, signal, `init`.
    pub failed: u64,
    /// Tasks that ran out of memory.
    pub out_of_memory: u64,
    /// Tasks that went over their disk limit.
    pub out_of_disk: u64,
    /// Tasks killed because their job was cancelled.
    pub cancelled: u64,
    /// Tasks lost by the system, to be tried again.
    pub lost: u64,
}

/// Where a zone shows the object or asset named `name` (`/login/stor/…`) under `base`.
///
/// A name that no path can spell (a component that is empty, `.`, `..` or too long, a zero byte, or a
/// whole that is too long) is shown beneath `_` by its last [`COMPONENT_BYTES_MAX`] usable bytes, so that
/// it still has the ending by which programs know what it is.
#[must_use]
pub fn shown_path(base: &str, name: &str) -> String {
    let plain = name.strip_prefix('/').unwrap_or(name);
    let fits = base.len() + 1 + plain.len() <= PATH_BYTES_MAX && !plain.contains('\0');
    let spelled =
        |part: &str| !matches!(part, "" | "." | "..") && part.len() <= COMPONENT_BYTES_MAX;
    if fits && plain.split('/').all(spelled) {
        return format!("{base}/{plain}");
    }
    let mut rest: Vec<char> = Vec::new();
    let mut bytes = 0;
    for letter in plain.chars().rev() {
        let letter = if matches!(letter, '/' | '\0') { '_' } else { letter };
        bytes += letter.len_utf8();
        // Two bytes are kept for the start, so that the result is never `.` or `..`.
        if bytes > COMPONENT_BYTES_MAX - 2 {
            break;
        }
        rest.push(letter);
    }
    let rest: String = rest.into_iter().rev().collect();
    format!("{base}/_/__{rest}")
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_ordinary_name_is_shown_as_it_is() {
        assert_eq!(shown_path(OBJECTS, "/ann/stor/logs/a.gz"), "/manta/ann/stor/logs/a.gz");
    }

    #[test]
    fn a_name_that_no_path_can_spell_keeps_its_ending() {
        assert_eq!(
            shown_path(OBJECTS, "/ann/stor/../../etc/a.gz"),
            "/manta/_/__ann_stor_.._.._etc_a.gz"
        );
        let long = shown_path(ASSETS, &format!("/ann/{}.tar.gz", "x".repeat(300)));
        assert!(long.starts_with("/assets/_/__xxx") && long.ends_with("xxx.tar.gz"), "{long}");
    }

    proptest! {
        #[test]
        fn every_name_is_shown_beneath_its_base(name in "[a-c./\0é]{0,40}|[a/]{900,1400}|.{0,300}") {
            let path = shown_path(OBJECTS, &name);
            prop_assert!(path.len() <= PATH_BYTES_MAX);
            let beneath = path.strip_prefix("/manta/").unwrap();
            for part in beneath.split('/') {
                prop_assert!(!matches!(part, "" | "." | ".."), "{path}");
                prop_assert!(part.len() <= COMPONENT_BYTES_MAX && !part.contains('\0'), "{path}");
            }
        }
    }
}
