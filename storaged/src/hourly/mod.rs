//! Lines that become an object an hour, in a bucket of an account: the access log, and records of usage.
//!
//! ```text
//!   lines (bounded, dropped and counted if full) ─▶ keeper thread ◀─ lines that are answered once synced
//!                   ─▶ <directory>/<hour>.jsonl in the store's directory, synced every few seconds
//!                   ─▶ at the end of the hour, or at the daemon's: the object <bucket>/yyyy/mm/dd/hh.jsonl;
//!                      of usage also every minute in which some came
//! ```
//! A crash of the process loses what the ring threads had gathered of the access log, a second's lines; a
//! power cut loses what was written since the last sync, and nothing of what was answered. What a start
//! finds of earlier hours becomes their objects.

mod keeper;
mod shelf;
mod slot;
mod usage;

pub use usage::{BadLines, Usage, pieced};

use crate::front::lines::Lines;
use crate::store::{SealError, StageError, Store, TransactError, TxnError};
use crossbeam::channel::{Sender, bounded};
use keeper::{Keeper, Kept};
use shelf::Shelf;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;

/// Pieces that may wait for the keeper: with 64 KiB each, 16 MiB, some hundred thousand lines.
const PIECES_MAX: usize = 256;

/// What is kept. Names of buckets are everybody's: nobody else may have this one.
#[derive(Debug, Clone, Copy)]
pub struct What {
    /// The bucket.
    pub bucket: &'static str,
    /// Where lines are gathered, in the store's directory.
    pub directory: &'static str,
    /// What it is, for the log.
    pub name: &'static str,
    /// How often the object of an hour that is not over is brought up to date; only at the end if none.
    pub object_interval: Option<Duration>,
}

/// A line of JSON a request.
pub const ACCESS: What = What {
    bucket: "mobula-access-log",
    directory: "access-log",
    name: "access log",
    object_interval: None,
};

/// Records of what zones used, as zoned says them. Who pays wants to see them within the hour, and there
/// are few.
pub const USAGE: What = What {
    bucket: "mobula-usage",
    directory: "usage",
    name: "usage",
    object_interval: Some(Duration::from_secs(60)),
};

/// The account that records of usage belong to, and the access log unless another is named.
pub const SYSTEM_ACCOUNT: &str = "mobula";

/// Why lines are not kept.
#[derive(Debug, Error)]
pub enum HourlyError {
    /// The directory can't be used.
    #[error("can't {doing} {}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Somebody has a bucket of that name.
    #[error("the bucket {bucket} is not account {account}'s: remove it, or name its owner")]
    Taken {
        /// The bucket.
        bucket: &'static str,
        /// Whose it should be.
        account: String,
    },
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] TransactError<TxnError>),
    /// An object could not be begun or written.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// An object could not be finished.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// There is no thread for it.
    #[error("can't start the keeper's thread")]
    Thread(#[source] io::Error),
}

/// A running keeper of lines. Dropping it, after every other sender of lines, writes what is left.
pub struct Hourly {
    lines: Option<Sender<Vec<u8>>>,
    kept: Option<Sender<Kept>>,
    dropped: Arc<AtomicU64>,
    keeper: Option<JoinHandle<()>>,
    name: &'static str,
}

impl Hourly {
    /// Starts keeping lines: in `data`, the store's directory, and as objects of this account, which is
    /// made if it is new, and so is the bucket.
    ///
    /// # Errors
    /// When the account can't have the bucket, or the directory can't be used.
    pub fn start(
        store: &Store,
        data: &Path,
        account: &str,
        what: &'static What,
    ) -> Result<Hourly, HourlyError> {
        let directory = data.join(what.directory);
        let shelf = Shelf::new(store, account, directory.clone(), what)?;
        let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(&directory);
        made.map_err(io_error("make", &directory))?;
        let (sender, lines) = bounded(PIECES_MAX);
        let (keep, kept) = bounded(PIECES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let keeper = Keeper::new(shelf, what, Arc::clone(&dropped));
        let keeper = std::thread::Builder::new()
            .name(what.directory.to_owned())
            .spawn(move || keeper.run(&lines, &kept))
            .map_err(HourlyError::Thread)?;
        let (lines, kept, keeper) = (Some(sender), Some(keep), Some(keeper));
        Ok(Hourly { lines, kept, dropped, keeper, name: what.name })
    }

    /// Where lines go that nobody waits for.
    #[must_use]
    pub fn lines(&self) -> Option<Lines> {
        let pieces = self.lines.clone()?;
        Some(Lines { pieces, dropped: Arc::clone(&self.dropped) })
    }

    /// Where records of usage go.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        Some(Usage::new(self.kept.clone()?))
    }

    /// Lines that were lost because nobody had time or room for them.
    #[must_use]
    pub fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }
}

impl Drop for Hourly {
    fn drop(&mut self) {
        self.lines = None;
        self.kept = None;
        if self.keeper.take().is_some_and(|keeper| keeper.join().is_err()) {
            log::error!("the thread of the {} panicked", self.name);
        }
    }
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HourlyError {
    let path = path.to_owned();
    move |source| HourlyError::Io { doing, path, source }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod test;
