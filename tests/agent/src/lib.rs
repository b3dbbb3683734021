//! What the tests and their agent in the appliance say to each other.
//!
//! A client connects to [`PORT`] and writes one [`Request`] a line, as JSON; each is answered by one line, a
//! `Result<Reply, String>`. The agent decides nothing and remembers only what it started.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The TCP port in the appliance on which the agent listens.
pub const PORT: u16 = 7070;
/// The most bytes of a file that one answer holds; what is longer is cut.
pub const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What the agent is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Are you there? Answered by [`Reply::Done`].
    Ping,
    /// Which processes are there?
    Processes,
    /// Send `signal` to `pid`.
    Signal {
        /// Whom.
        pid: i32,
        /// The signal's number.
        signal: i32,
    },
    /// What does this file hold?
    Read {
        /// Its path.
        path: String,
    },
    /// Which names are in this directory, and below it if `deep`? Directories end in `/`.
    List {
        /// Its path.
        path: String,
        /// Everything below it, too.
        deep: bool,
    },
    /// How long are the files in this directory and below, and what do they take on the disk?
    Blocks {
        /// Its path.
        path: String,
    },
    /// In which frames of memory are `pages` pages from `address` on?
    Frames {
        /// Whose address.
        pid: i32,
        /// The first page's address.
        address: u64,
        /// Pages.
        pages: u64,
    },
    /// To which cgroups are these frames charged?
    Owners {
        /// Frames, as [`Reply::Frames`] gave them.
        frames: Vec<u64>,
    },
    /// Have the kernel forget the pages of all files in this directory and below.
    Forget {
        /// Its path.
        path: String,
    },
    /// Write everything to disk and have the kernel give back what it keeps only because there is room.
    Reclaim,
    /// How many namespaces of each kind does some process or descriptor refer to?
    Namespaces,
    /// Hold this many network namespaces, with nothing in them, and no more.
    Networks {
        /// How many.
        count: usize,
    },
    /// Write zeros to `path` until `leave` bytes are free on its filesystem.
    Fill {
        /// The file to be made.
        path: String,
        /// Bytes to leave.
        leave: u64,
    },
    /// Remove a file.
    Remove {
        /// Its path.
        path: String,
    },
    /// Send each of `messages` (base64), as a message, to a `SOCK_SEQPACKET` socket, then say what came back.
    Send {
        /// The socket's path.
        socket: String,
        /// What to send.
        messages: Vec<String>,
    },
    /// Say `messages` (base64) on every `SOCK_SEQPACKET` socket that a process has, as if it did.
    Speak {
        /// Whose sockets.
        pid: i32,
        /// What to send.
        messages: Vec<String>,
    },
    /// Make `length` bytes from `start` of a disk its partition `number`.
    Partition {
        /// The disk, under `/dev`.
        disk: String,
        /// From 1.
        number: u16,
        /// First byte.
        start: u64,
        /// Bytes.
        length: u64,
    },
    /// Mount a device on a directory, which is made if need be.
    Mount {
        /// The device.
        source: String,
        /// The directory.
        target: String,
        /// ext4, …
        kind: String,
        /// Options of that filesystem.
        options: String,
    },
    /// Unmount what is mounted there.
    Unmount {
        /// The directory.
        target: String,
    },
    /// Start a program; answered by [`Reply::Started`].
    Start {
        /// Program and arguments.
        command: Vec<String>,
        /// Variables of its environment, which is empty else.
        environment: Vec<(String, String)>,
        /// As this user and group.
        user: u32,
    },
    /// End a program that was started here: this signal, then wait; answered by [`Reply::Ended`].
    End {
        /// Which one.
        pid: i32,
        /// The signal's number.
        signal: i32,
    },
}

/// What the agent answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// It is done.
    Done,
    /// The processes.
    Processes(Vec<Process>),
    /// What a file holds, in base64.
    File(String),
    /// Names.
    Names(Vec<String>),
    /// Bytes of each file: how long it is, and what is allocated to it.
    Blocks(Vec<(u64, u64)>),
    /// The frame of each page; 0 where none is present or the kernel hides it.
    Frames(Vec<u64>),
    /// How many frames are charged to each cgroup, by its path.
    Owners(BTreeMap<String, u64>),
    /// Namespaces, by kind.
    Namespaces(BTreeMap<String, u64>),
    /// What a socket answered: messages in base64, and whether it closed the connection.
    Answered {
        /// The messages.
        messages: Vec<String>,
        /// The peer hung up.
        closed: bool,
    },
    /// Messages were sent in another's name.
    Spoken {
        /// Sockets that it has.
        sockets: usize,
        /// Messages that were taken.
        sent: usize,
    },
    /// A program runs.
    Started {
        /// Its process.
        pid: i32,
    },
    /// A program has ended.
    Ended {
        /// Its exit code, unless a signal ended it.
        code: Option<i32>,
        /// What it wrote to stdout and stderr.
        output: String,
    },
}

/// A process as `/proc` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// `comm`: at most 15 bytes.
    pub name: String,
    /// The command line, its arguments joined by blanks.
    pub command: String,
    /// The effective user.
    pub user: u32,
    /// Its cgroup, from the root.
    pub cgroup: String,
    /// S, R, Z …
    pub state: char,
}
