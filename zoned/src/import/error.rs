//! Why an archive is no image.

use std::io;
use thiserror::Error;

/// Shows a name of the archive: what is no text is shown as its bytes.
pub(crate) fn shown(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}

/// Why an archive could not be imported.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The archive cannot be read.
    #[error("cannot read {what}")]
    Read {
        /// Which part of it.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// The image cannot be written.
    #[error("cannot write the image")]
    Write(#[source] io::Error),
    /// It is none of the kinds that are known, or one that is not taken.
    #[error(
        "{0}: save it with `docker save`, `podman save --format oci-archive`, or give a tar file of a root"
    )]
    Kind(&'static str),
    /// A header that is none.
    #[error("the tar header at byte {at} of {what} is damaged: {why}")]
    Header {
        /// In which part.
        what: String,
        /// Where.
        at: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An entry that has no place in an image.
    #[error("the entry \"{path}\" {why}")]
    Entry {
        /// Its path.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Too much of something.
    #[error("{what}: more than the {most} there may be")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How much there may be.
        most: u64,
    },
    /// The bytes are not those that were promised.
    #[error(
        "{what} has the digest sha256:{got}, and sha256:{wanted} was promised: the archive is damaged"
    )]
    Digest {
        /// What was read.
        what: String,
        /// What it has.
        got: String,
        /// What it should have.
        wanted: String,
    },
    /// A size that was promised is another.
    #[error("{what} has {got} bytes, and {wanted} were promised: the archive is damaged")]
    Size {
        /// What was read.
        what: String,
        /// What it has.
        got: u64,
        /// What it should have.
        wanted: u64,
    },
    /// A document that is none.
    #[error("{what} is wrong")]
    Document {
        /// Which.
        what: String,
        /// Where.
        source: serde_json::Error,
    },
    /// A document that says what cannot be.
    #[error("{what} {why}")]
    Says {
        /// Which.
        what: String,
        /// What about it.
        why: String,
    },
    /// The tree does not become an image.
    #[error("cannot lay out the image")]
    Layout(#[from] erofs::Error),
}

impl ImportError {
    /// For what could not be read of `what`.
    pub fn read(what: &str) -> impl FnOnce(io::Error) -> Self {
        let what = what.to_owned();
        // What a reader below refused comes up through `io::Error`, and is told as it was.
        move |source| match source.downcast::<Self>() {
            Ok(own) => own,
            Err(source) => Self::Read { what, source },
        }
    }

    pub(crate) fn entry(path: &[u8], why: &'static str) -> Self {
        Self::Entry { path: shown(path), why }
    }
}
