//! What may be asked of zoned about standing zones, and what it answers.

use super::{Event, ImageView, Published, Stats, ZoneName, ZoneSpec, ZoneSummary, ZoneView};
use crate::carve::{CarveChange, Limit};
use serde::{Deserialize, Serialize};

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
    /// with those of stdin, stdout and stderr; later comes [`ZonePush::SessionOver`] on this connection. A detached
    /// one has neither: it runs whoever is there, and writes to the zone's log.
    Exec {
        /// Where.
        name: ZoneName,
        /// The program and its arguments; empty is a login shell.
        command: Vec<String>,
        /// Further variables.
        environment: Vec<(String, String)>,
        /// A terminal of this size, or three pipes.
        terminal: Option<WindowSize>,
        /// Whether nobody waits for it.
        detached: bool,
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
