//! What happens to zones, and to whom it is told.

use super::{ZoneName, ZoneState};
use crate::carve::Limit;
use crate::machine::Login;
use crate::task::AttemptId;
use serde::{Deserialize, Serialize};

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
    /// The objects, `/login/stor/…`; the first few, and none in an event.
    #[serde(default)]
    pub made: Vec<String>,
    /// Files that were not taken, each with the reason; the first few.
    pub refused: Vec<String>,
    /// How many were not taken.
    pub refused_count: u64,
}
