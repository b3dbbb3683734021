//! `storaged check`: whether a store that nobody serves is what its records say.
//!
//! ```text
//!   index, brought up to the journal ─▶ every record read, references and counters summed
//!     ─▶ blobs against files, directory by directory; parts of uploads against theirs ─▶ (deep) every byte of every file,
//!        snapshots and journal read whole, the index compared with one made anew from them
//! ```
//! It decides nothing and mends nothing: what a start would do (replay, cut a torn end) happens, what a start
//! would remove is counted as left over.

mod deep;
mod files;
pub(crate) mod records;
mod report;
mod uploads;

pub use report::{Checked, Finding, LeftOver, Report};

use crate::index::IndexError;
use crate::store::offline::{Offline, Way};
use crate::store::{OpenError, ViewExt};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Findings that are kept: whoever has more needs another tool than a list.
pub const FINDINGS_MAX: usize = 1000;

/// Why a store could not be checked.
#[derive(Debug, Error)]
pub enum CheckError {
    /// It does not open.
    #[error("can't open the store")]
    Open(#[from] OpenError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A directory can't be read.
    #[error("can't list {}", .path.display())]
    List {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Records, names, sizes.
    Usual,
    /// Every byte, too.
    Deep,
}

/// Checks the store in a directory.
///
/// # Errors
/// When it can't be opened or read; what is wrong with it is no error, but in the report.
pub fn check(data: &Path, depth: Depth) -> Result<Report, CheckError> {
    let mut store = Offline::open(data, Way::AsItIs)?;
    let mut report = Report::new(store.store, store.sequence);
    {
        let view = store.index.view()?;
        let sums = records::check(&*view, &mut report)?;
        records::compare(&*view, &sums, &mut report)?;
        let floor = view.get_value(&crate::format::state_key(crate::files::FLOOR))?.unwrap_or(0);
        files::check(data, &*view, floor, depth, &mut report)?;
        uploads::check(data, &*view, depth, &mut report)?;
    }
    if depth == Depth::Deep {
        deep::check(&mut store, &mut report)?;
    }
    Ok(report)
}

/// Makes the index of a store anew, from snapshot and journal; the sequence up to which it goes.
///
/// # Errors
/// When the store can't be opened, or snapshot and journal do not have all of it.
pub fn rebuild(data: &Path) -> Result<u64, OpenError> {
    Ok(Offline::open(data, Way::Anew)?.sequence)
}

#[cfg(test)]
mod test;
