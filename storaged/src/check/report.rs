//! What a check found, for people and, as JSON, for programs.

use super::FINDINGS_MAX;
use serde::Serialize;
use std::fmt;
use thiserror::Error;
use uuid::Uuid;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Error)]
#[serde(tag = "finding", rename_all = "kebab-case")]
pub enum Finding {
    /// A record that can't be read, or contradicts its key.
    #[error("record {key}: {problem}")]
    Record {
        /// Its key, as well as it can be shown.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// A bucket or configuration without its counterpart.
    #[error("bucket {name}: {problem}")]
    Bucket {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Records point to a blob that has no record.
    #[error("blob {blob} has no record, but {references} point to it")]
    NoBlob {
        /// Which.
        blob: u64,
        /// How many do.
        references: u32,
    },
    /// A blob's count of references is wrong.
    #[error("blob {blob} counts {expected} references and has {found}")]
    References {
        /// Which.
        blob: u64,
        /// What is there.
        found: u32,
        /// What its record says.
        expected: u32,
    },
    /// A blob is in use, and to be removed.
    #[error("blob {blob} has a record and is to be removed")]
    Doomed {
        /// Which.
        blob: u64,
    },
    /// A counter of the store is wrong.
    #[error("{name} is {expected} on record and {found} by counting")]
    Counter {
        /// Its name.
        name: String,
        /// By counting.
        found: u64,
        /// On record.
        expected: u64,
    },
    /// A blob's file is not what its record says.
    #[error("blob {blob}: {problem}")]
    File {
        /// Which.
        blob: u64,
        /// What is wrong.
        problem: String,
    },
    /// A part of an upload whose bytes are not where its record says.
    #[error("part {number} of upload {upload}: {problem}")]
    Part {
        /// Of which upload.
        upload: String,
        /// Which.
        number: u32,
        /// What is wrong.
        problem: String,
    },
    /// A file without a record that no start will remove.
    #[error("blob {blob} has a file and no record")]
    Orphan {
        /// Which.
        blob: u64,
    },
    /// Something among the files that is not the store's.
    #[error("{path} is none of the store's")]
    Foreign {
        /// Where.
        path: String,
    },
    /// A small object whose bytes are not those of its entity tag.
    #[error("object {key}: its bytes are not those of its entity tag")]
    Content {
        /// Its key.
        key: String,
    },
    /// The engine finds the index damaged.
    #[error("the index: {problem}")]
    Index {
        /// How.
        problem: String,
    },
    /// A segment of the journal can't be read.
    #[error("the journal: {problem}")]
    Journal {
        /// Which and how.
        problem: String,
    },
    /// A snapshot can't be read.
    #[error("{problem}")]
    Snapshot {
        /// Which and how.
        problem: String,
    },
    /// The index is not what snapshot and journal make.
    #[error("the index and what snapshot and journal make of it differ at {key}")]
    Differs {
        /// Where.
        key: String,
    },
}

/// How much was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Entries of the index.
    pub entries: u64,
    /// Versions of objects.
    pub versions: u64,
    /// Blobs on record.
    pub blobs: u64,
    /// Files of blobs.
    pub files: u64,
    /// Bytes that were read of them.
    pub bytes: u64,
}

/// What the next start removes: no damage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LeftOver {
    /// Files in `staging`.
    pub staging: u64,
    /// Files of objects that were never acknowledged.
    pub objects: u64,
    /// Small contents shown to zones.
    pub shown: u64,
    /// Files of uploads in parts that have ended, or of parts that were never acknowledged.
    pub uploads: u64,
    /// Files of deleted objects that are about to go.
    pub to_unlink: u64,
}

impl LeftOver {
    /// All of them.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.staging + self.objects + self.shown + self.uploads + self.to_unlink
    }
}

/// The report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The store's UUID.
    pub store: String,
    /// The last sequence of its journal.
    pub sequence: u64,
    /// How much was looked at.
    pub checked: Checked,
    /// What the next start removes.
    pub left_over: LeftOver,
    /// What is wrong, at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// Findings beyond that.
    pub more_findings: u64,
}

impl Report {
    pub(crate) fn new(store: Uuid, sequence: u64) -> Self {
        Self {
            store: store.to_string(),
            sequence,
            checked: Checked::default(),
            left_over: LeftOver::default(),
            findings: Vec::new(),
            more_findings: 0,
        }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.more_findings += 1;
        }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Checked { entries, versions, blobs, files, bytes } = &self.checked;
        writeln!(f, "store {}, up to sequence {}", self.store, self.sequence)?;
        writeln!(
            f,
            "looked at {entries} entries: {versions} versions of objects, {blobs} blobs; {files} files, {bytes} bytes read"
        )?;
        let LeftOver { staging, objects, shown, uploads, to_unlink } = &self.left_over;
        if self.left_over.count() > 0 {
            writeln!(
                f,
                "the next start removes {staging} staged files, {objects} never acknowledged, {shown} shown to zones, {uploads} of uploads, {to_unlink} deleted"
            )?;
        }
        self.findings.iter().try_for_each(|finding| writeln!(f, "WRONG: {finding}"))?;
        if self.more_findings > 0 {
            writeln!(f, "and {} more", self.more_findings)?;
        }
        if self.is_sound() { f.write_str("sound") } else { f.write_str("not sound") }
    }
}
