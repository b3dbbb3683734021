//! What storaged and zoned say to each other about the tasks of jobs.
//!
//! storaged owns jobs, tasks and attempts, as records of its index; zoned runs attempts and holds
//! nothing that can't be rebuilt. zoned connects to storaged's socket, and again whenever the
//! connection ends; an attempt ends with the connection it was claimed on.
//!
//! ```text
//!   zoned                                storaged
//!     │ ── Hello ───────────────────────▶ │   earlier attempts are lost: their tasks are ready again
//!     │ ◀─────────────── Push::Runnable ── │   what could run, by job and phase; again on each change
//!     │ ── Claim (job, phase, project) ──▶ │   opens the object, makes the staging files
//!     │ ◀── Claimed + stdin, stdout, … ─── │
//!     │ ── NextInputs (reduce) ─────────▶ │   the zone's feeder wants more stdin
//!     │ ◀──────── Inputs + descriptors ─── │
//!     │ ── Ended (how, usage) ──────────▶ │   seals the output, commits the attempt: one batch
//!     │ ◀───────────────────── Settled ─── │
//! ```

use crate::job::{JobId, PhaseKind};
use crate::standing::Published;
use serde::{Deserialize, Serialize};

/// The most requests zoned may have unanswered on one connection: the window of the wire.
pub const REQUESTS_MAX: usize = 256;
/// The most lines of usage in one message.
pub const METER_LINES_MAX: usize = 64;
/// The most bytes of them: half of a message, for JSON in JSON has each quote twice.
pub const METER_BYTES_MAX: usize = 28 * 1024;

/// Names one attempt at one task, for ever: a sequence number of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptId(pub u64);

/// Names a manifest: a prefix of the store as it was when a zone mounted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ManifestId(pub uuid::Uuid);

/// The most accounts in one answer; longer lists are paged by login.
pub const ACCOUNTS_MAX: usize = 256;
/// The most manifests named in one message.
pub const MANIFESTS_MAX: usize = 1024;

/// The most objects that are named of one damaged file; copies share it.
pub const DAMAGED_MAX: usize = 8;

/// A file of the store as the kernel names it when it refuses its pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DamagedFile {
    /// By its inode on the data disk.
    Inode(u64),
    /// By its own name, a number.
    Number(u64),
}

/// Names a file that is being written for the store, as long as the connection lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StagedId(pub u64);

/// The body of a `Hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// Who is there.
    pub peer: Peer,
}

/// Who speaks to storaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Peer {
    /// Runs tasks; there is one at a time, a newer one displaces an older one.
    Zoned,
    /// Asks for status.
    Consoled,
}

/// Requests that zoned (and, for `Status`, anyone) makes of storaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Give me the next task of this phase, its output charged to `project`.
    Claim {
        /// The job, as `Runnable` named it.
        job: JobId,
        /// The phase, from 0.
        phase: u32,
        /// The project id (`FS_IOC_FSSETXATTR`) under whose quota the output is written; zoned has set
        /// the quota's limit to the task's disk size.
        project: u32,
    },
    /// Give me the next inputs of a reduce task's stdin, from number `from`.
    NextInputs {
        /// The attempt that reads them.
        attempt: AttemptId,
        /// How many it has had.
        from: u64,
    },
    /// The attempt is over: every process of its zone is gone.
    Ended {
        /// Which attempt.
        attempt: AttemptId,
        /// How it ended.
        ending: Ending,
        /// What it used.
        usage: Usage,
    },
    /// How are you? Answered by [`Reply::Status`].
    Status,
    /// Which account is this? Answered by [`Reply::Account`].
    Account {
        /// Its login.
        login: String,
    },
    /// Which accounts are there? At most [`ACCOUNTS_MAX`], by login. Answered by [`Reply::Accounts`].
    Accounts {
        /// Those after this login.
        after: Option<String>,
    },
    /// Keep these lines of usage, each a JSON object of its own, at most [`METER_LINES_MAX`] of them and
    /// [`METER_BYTES_MAX`] in all. Answered by [`Reply::Metered`] when they are on disk.
    Meter {
        /// Without their ends.
        lines: Vec<String>,
    },
    /// Show me this prefix, all objects below it as they are now. What a manifest names stays, whatever
    /// becomes of the objects, until the manifest is released.
    Manifest {
        /// The account whose zone shows it.
        login: String,
        /// The prefix: `/login/stor/…`, that account's.
        prefix: String,
        /// The project id that the manifest's own space counts against; 0: nobody's.
        project: u32,
    },
    /// Which manifests are held for me? At most [`MANIFESTS_MAX`], in order. Asked after every `Hello`, so
    /// that those of zones that are gone can be released.
    Manifests {
        /// Those after this one.
        after: Option<ManifestId>,
    },
    /// These manifests are not mounted any more; at most [`MANIFESTS_MAX`].
    Release {
        /// Which.
        manifests: Vec<ManifestId>,
    },
    /// The kernel refuses pages of a file: of which objects below this prefix is it, as they are now? The
    /// answer, [`Reply::Damaged`], may take long.
    Damaged {
        /// The account whose zone shows the prefix.
        login: String,
        /// The prefix: `/login/stor/…`, that account's.
        prefix: String,
        /// The file.
        file: DamagedFile,
    },
    /// Give me this object, to be read.
    Open {
        /// The account that it is opened for.
        login: String,
        /// Its name: `/login/stor/…`, that account's.
        path: String,
    },
    /// Make an empty file that something writes an object to. Answered by [`Reply::Staged`].
    Stage {
        /// The project id that its space counts against; 0: nobody's.
        project: u32,
    },
    /// Make that file an object: nobody writes to it any more. Answered by [`Reply::Committed`].
    Commit {
        /// Which file.
        staged: StagedId,
        /// The account whose object it becomes, which is made if it is new.
        login: String,
        /// The object's name: `/login/stor/…`, that account's.
        path: String,
        /// What it holds.
        content_type: String,
    },
    /// Forget that file. Answered by [`Reply::Removed`].
    Discard {
        /// Which file.
        staged: StagedId,
    },
    /// Remove an object, if it is there. Answered by [`Reply::Removed`].
    Remove {
        /// Whose it is.
        login: String,
        /// Its name: `/login/stor/…`, that account's.
        path: String,
    },
    /// Make objects of the files below a directory. Beside it: that directory, read-only, its files' owner
    /// shown as storaged's own user. Those that became objects unchanged before are left out.
    Publish {
        /// The account whose zone wrote them.
        login: String,
        /// What their names are put behind: `/login/stor/…`, that account's.
        output: String,
    },
    /// What the node is short of, in words: until this is told again without, tasks wait for the node. Answered by
    /// [`Reply::Noted`].
    Held {
        /// None when work goes on.
        why: Option<String>,
    },
}

/// What storaged answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// A task to run. Beside it, in this order: stdin (maps only), stdout, stderr, then the assets.
    Claimed(Task),
    /// That phase has no ready task now.
    NothingReady,
    /// The next inputs, a descriptor each; `end` when there are no more after these.
    Inputs {
        /// Their names, in the order of the descriptors.
        names: Vec<String>,
        /// No input follows.
        end: bool,
    },
    /// The attempt has been settled and its descriptors may be forgotten.
    Settled(Settled),
    /// How storaged is.
    Status(StoreStatus),
    /// An account's number: it never changes, and is never another's.
    Account {
        /// The number.
        id: u32,
    },
    /// Accounts, each login with its number.
    Accounts(Vec<(String, u32)>),
    /// The lines of usage are kept.
    Metered,
    /// What was said will be told to whoever asks.
    Noted,
    /// A manifest, an EROFS image. Beside it: its file, then the directory of objects that its files'
    /// redirections start from, both read-only.
    Manifest {
        /// Names it.
        manifest: ManifestId,
        /// Objects in it.
        objects: u64,
        /// Its size.
        bytes: u64,
        /// Bytes of those objects.
        #[serde(default)]
        object_bytes: u64,
        /// Objects that are left out because they are still being sealed.
        left_out: u64,
        /// Whether the kernel can check every object against the digest in the manifest.
        verity: bool,
    },
    /// The manifests that are held.
    Manifests(Vec<ManifestId>),
    /// They are released.
    Released,
    /// The objects whose bytes are in that file, by their full names, at most [`DAMAGED_MAX`]; none if it
    /// is no object's there any more.
    Damaged {
        /// `/login/stor/…`.
        objects: Vec<String>,
    },
    /// The object, beside it its file, read-only.
    Opened {
        /// Its size.
        bytes: u64,
    },
    /// An empty file; beside it its descriptor, to be written.
    Staged {
        /// Names it.
        staged: StagedId,
    },
    /// The file is an object now.
    Committed {
        /// Its size.
        bytes: u64,
        /// Its SHA-256 in hexadecimal digits.
        sha256: String,
    },
    /// It is not there any more.
    Removed,
    /// What became of the files.
    Published(Published),
}

/// What became of an ended attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    /// Its outputs are objects now.
    Committed,
    /// It failed, and the failure is on record.
    Failed,
    /// It failed through no fault of its own, and its task is ready again.
    Retried,
    /// The job was cancelled or another attempt was first: its outputs are gone.
    Discarded,
}

/// News from storaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Push {
    /// What could run now. Each entry replaces what was known of that job and phase.
    Runnable(Vec<Runnable>),
    /// Kill the attempts of this job; an `Ended` for each is still expected.
    Cancel {
        /// The cancelled job.
        job: JobId,
    },
}

/// Ready tasks of one phase of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runnable {
    /// The job.
    pub job: JobId,
    /// The phase, from 0.
    pub phase: u32,
    /// The account that pays, and by which zones are shared out.
    pub account: u32,
    /// Tasks ready to be claimed; 0 withdraws the entry.
    pub ready: u64,
    /// Memory a task of it gets, in MiB.
    pub memory_mib: u32,
    /// Scratch and output space a task of it gets, in GiB.
    pub disk_gib: u32,
    /// The zone image it runs in.
    pub image: String,
}

/// A task as zoned needs to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Names this attempt in what follows.
    pub attempt: AttemptId,
    /// The job.
    pub job: JobId,
    /// The phase, from 0.
    pub phase: u32,
    /// Map or reduce.
    pub kind: PhaseKind,
    /// The account that pays.
    pub account: u32,
    /// That account's name.
    pub login: String,
    /// The command line, run as `bash --norc -c`.
    pub exec: String,
    /// Run first, its stdout discarded.
    pub init: Option<String>,
    /// A map's input object by its full name; the zone shows it at `/manta` + this.
    pub input: Option<String>,
    /// Where each asset stands in the zone, in the order of the descriptors.
    pub assets: Vec<String>,
    /// Variables of the environment that the job's semantics ask for (`MANTA_*`).
    pub environment: Vec<(String, String)>,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Scratch and output space, in GiB.
    pub disk_gib: u32,
    /// The zone image.
    pub image: String,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ending {
    /// `exec` exited with this code.
    Exited {
        /// 0 to 255.
        code: u8,
    },
    /// `exec` was ended by this signal.
    Signalled {
        /// The signal's number (signal(7)).
        signal: i32,
    },
    /// The zone ran out of its memory and was killed whole.
    OutOfMemory,
    /// What the task wrote went over its disk limit.
    OutOfDisk,
    /// `init` failed, or an asset could not be shown.
    InitFailed {
        /// What happened.
        message: String,
    },
    /// Killed on a `Push::Cancel`.
    Cancelled,
    /// zoned could not start or watch the zone: the task is to be tried again.
    Lost {
        /// What happened.
        message: String,
    },
}

/// What an attempt used, read from its cgroup before that goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// From start to end, in microseconds.
    pub wall_us: u64,
    /// `cpu.stat` usage_usec.
    pub cpu_us: u64,
    /// `memory.peak`, in bytes; 0 where there is no memory controller.
    pub memory_peak_bytes: u64,
}

/// How storaged is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreStatus {
    /// The store's UUID, from its `FORMAT` file.
    pub store: String,
    /// Objects in the index.
    pub objects: u64,
    /// Bytes in those objects.
    pub object_bytes: u64,
    /// Bytes free on the data filesystem.
    pub free_bytes: u64,
    /// The last sequence number that is on disk.
    pub sequence: u64,
    /// Whether the kernel seals files (fs-verity), or storaged keeps digests of its own.
    pub verity: bool,
    /// Why writes are refused, if they are.
    pub read_only: Option<String>,
    /// What reading everything again has found.
    #[serde(default)]
    pub scrub: ScrubStatus,
}

/// How the store's scrub is, since storaged started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubStatus {
    /// Passes over everything that were completed, ever.
    pub passes: u64,
    /// When the last one was, if since the start, in milliseconds since 1970.
    pub last_pass_ms: Option<u64>,
    /// Bytes read.
    pub bytes: u64,
    /// Things found damaged.
    pub damaged: u64,
    /// The first of them, in words.
    pub findings: Vec<String>,
}
