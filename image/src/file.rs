//! What can go wrong with a file, told alike by whatever builds or boots the image: what was tried, on which file,
//! and why it did not work. It does nothing to files itself.

use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A file that can't be read, written or whatever else was tried.
#[derive(Debug, Error)]
#[error("can't {act} {path}")]
pub struct FileError {
    /// What was tried.
    pub act: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// For `map_err`: what was tried, on which file.
pub fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError { act, path: path.to_owned(), source }
}
