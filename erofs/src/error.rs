//! Why no image came about.

use std::io;
use thiserror::Error;

/// Why an image could not be written.
#[derive(Debug, Error)]
pub enum Error {
    /// A name that no directory can hold.
    #[error("{name:?} is no file's name: {why}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Two entries of one directory have one name.
    #[error("a directory holds {name:?} twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// An extended attribute that the format has no room or no number for.
    #[error("the extended attribute {name:?} cannot be kept: {why}")]
    Attribute {
        /// Its name.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// A symbolic link whose target is empty or too long.
    #[error("a symbolic link leads to {bytes} bytes of path: 1 to {most} can be kept")]
    Link {
        /// Bytes in its target.
        bytes: usize,
        /// How many there may be.
        most: usize,
    },
    /// A device number that the format cannot hold.
    #[error("the device {major}:{minor} has numbers that are too large")]
    Device {
        /// Its driver.
        major: u32,
        /// Which of the driver's.
        minor: u32,
    },
    /// A file that is too large to be shown without bytes.
    #[error("a file of {size} bytes is larger than the {most} that can be shown")]
    Absent {
        /// Its size.
        size: u64,
        /// How large it may be.
        most: u64,
    },
    /// A file's bytes ended before its size.
    #[error("{name:?} ended after {got} of its {size} bytes")]
    Short {
        /// Its name.
        name: String,
        /// How many came.
        got: u64,
        /// How many should have.
        size: u64,
    },
    /// Something that is no directory was used as one, or a directory as something else.
    #[error("{name:?} is {is}")]
    Kind {
        /// Its name.
        name: String,
        /// What it is.
        is: &'static str,
    },
    /// More blocks than can be numbered: 16 TiB.
    #[error("the image is larger than 16 TiB")]
    Large,
    /// The output failed, or a file's bytes could not be read.
    #[error("cannot {act}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(act: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { act, source }
    }

    pub(crate) fn short(name: &[u8], got: u64, size: u64) -> Self {
        Self::Short { name: shown(name), got, size }
    }
}

/// A name for a message.
pub(crate) fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
