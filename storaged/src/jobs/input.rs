//! A line of input, looked at: which object it names, and whether the job's owner may read it.

use super::JobsError;
use super::name::Name;
use super::record::{Bytes, Head, Input};
use super::verdict::{Code, Failure};
use crate::index::View;
use crate::store::{BlobId, ContentRef, Metadata, ObjectRecord, Version, numbered, object};

/// What a line names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    /// An object, as it is now.
    Object(Input),
    /// Nothing that the job may read.
    Failure(Failure),
}

/// Looks at one line. An account may read what is its own.
///
/// # Errors
/// When the index fails.
pub fn look(view: &dyn View, head: &Head, line: &str) -> Result<Looked, JobsError> {
    let name = match Name::parse(line) {
        Ok(name) => name,
        Err(error) => {
            let message = format!("malformed object name: \"{line}\": {error}");
            return Ok(Looked::Failure(Failure::new(Code::ResourceNotFound, message)));
        }
    };
    if name.login != head.login {
        let message = format!("permission denied: \"{line}\"");
        return Ok(Looked::Failure(Failure::new(Code::Authorization, message)));
    }
    let no_object = |message| Ok(Looked::Failure(Failure::new(Code::InvalidArgument, message)));
    let Ok(path) = name.object(head.account()) else {
        return no_object(format!("objects only, not directories: \"{line}\""));
    };
    if let Some(record) = object(view, &path)? {
        return Ok(Looked::Object(note(name.to_string(), None, &record)));
    }
    if super::is_directory(view, &path)? {
        return no_object(format!("objects only, not directories: \"{line}\""));
    }
    let message = format!("no such object: \"{line}\"");
    Ok(Looked::Failure(Failure::new(Code::ResourceNotFound, message)))
}

/// An object as an input.
#[must_use]
pub fn note(name: String, p0: Option<String>, record: &ObjectRecord) -> Input {
    let bytes = match record.content {
        ContentRef::Blob(blob) => Bytes::Blob(blob.0),
        ContentRef::Inline(_) => Bytes::Version(record.version.0),
    };
    Input { name, p0, bytes, size: record.size, md5: record.meta.etag.md5 }
}

/// The record to open for an input: the bytes that it had when it became one, or none if they are gone.
///
/// # Errors
/// When the index fails.
pub fn to_open(
    view: &dyn View,
    head: &Head,
    phase: usize,
    input: &Input,
) -> Result<Option<ObjectRecord>, JobsError> {
    let name = Name::parse_long(&input.name).expect("inputs have names that were read once");
    let path = name.object(head.account()).expect("inputs are no top directories");
    let current = object(view, &path)?;
    if let Some(record) = current {
        let same = (record.size, record.meta.etag.md5) == (input.size, input.md5);
        if same {
            return Ok(Some(record));
        }
    }
    // The object was replaced or removed; the job's own hold keeps the blobs of its inputs.
    Ok(match input.bytes {
        Bytes::Blob(blob) if phase == 0 => {
            let content = ContentRef::Blob(BlobId(blob));
            let meta = Metadata { etag: input.md5.into(), ..Metadata::default() };
            Some(ObjectRecord::new(Version(0), content, input.size, meta))
        }
        // Tasks read what an object was: a delete marker has no bytes, and no input notes one.
        Bytes::Version(version) => numbered(view, &path, Version(version))?,
        Bytes::Blob(_) | Bytes::Inline => None,
    })
}

/// What a task fails with whose input is gone.
#[must_use]
pub fn gone(input: &Input) -> Failure {
    let message = format!(
        "no such object: \"{}\" (it was deleted or replaced after it became an input)",
        input.name
    );
    Failure::new(Code::ResourceNotFound, message)
}
