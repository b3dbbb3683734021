//! The carve: what accounts and their zones may use of this node, as cgroups (cgroup v2,
//! `Documentation/admin-guide/cgroup-v2.rst`).
//!
//! ```text
//!   /sys/fs/cgroup/zones           what all zones may use: the rest is the node's own
//!     └── t-<account>              what is capped and counted, whatever the account's zones do
//!           ├── z-<attempt>        a task's zone
//!           └── s-<name>           a standing zone
//! ```
//!
//! [`plan`] says, without touching anything, which files get which values; [`group`] writes them, reads
//! each back and tells both: the kernel rounds to pages and periods. A kernel without some controller
//! gives zones without those limits; what is missing is said once, at start, in the status, and wherever
//! the limit would be shown.

mod disk;
pub mod gate;
pub mod group;
pub mod plan;
mod protected;
pub mod read;
mod tree;
mod watch;

pub use disk::disk_of;
pub use gate::Change;
pub use group::{Cgroup, Measured};
pub use plan::{AccountCarve, Controllers, Disk};
pub use tree::{Place, Tree};
pub use watch::Admission;

use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What is wrong with the cgroups.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// The root is not there or is no cgroup.
    #[error("{} is no cgroup v2 directory: make it, or name another with --cgroup", path.display())]
    Root {
        /// Its path.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A file or directory could not be used.
    #[error("cannot {act} {}", path.display())]
    File {
        /// What was tried.
        act: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A limit was not taken.
    #[error("{} does not take {value:?}", path.display())]
    Limit {
        /// The limit's file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// Why not.
        source: io::Error,
    },
    /// A limit was taken and is not in force.
    #[error("{} is {got:?} after {asked:?} was written to it", path.display())]
    Unlike {
        /// The limit's file.
        path: PathBuf,
        /// What was written.
        asked: String,
        /// What was read.
        got: String,
    },
    /// Processes of an earlier zoned do not go.
    #[error("processes in {} are still there {ms} ms after they were killed", path.display())]
    Stuck {
        /// Their cgroup.
        path: PathBuf,
        /// How long they were given.
        ms: u64,
    },
}

pub(crate) fn failed<'a>(
    act: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> CgroupError + 'a {
    move |source| CgroupError::File { act, path: path.to_owned(), source }
}
