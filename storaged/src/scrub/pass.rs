//! One step of a pass: a page of small contents, or one file.

use super::place::{Behind, Place};
use crate::files::audit::{self, Depth, Fault, Pace};
use crate::format::{
    Keyspace, Value, blob_key, blob_of_key, path_of_key, prefix_end, version_of_key,
};
use crate::index::{IndexError, SharedView};
use crate::store::{BlobId, BlobRecord, ContentRef, ObjectRecord};
use md5::{Digest as _, Md5};
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use thiserror::Error;

/// Records of objects that are looked at before the pace is asked again: a view is kept for that long.
const PAGE: usize = 256;
/// Objects that are named of those that a damaged file belongs to.
const NAMED_MAX: usize = 2;

/// Something that is no longer what it was.
#[derive(Debug, Error)]
pub(super) enum Damage {
    #[error("{object}: {problem}")]
    Record { object: String, problem: String },
    #[error("blob {blob}: {fault}; of {}", objects.join(", "))]
    File { blob: u64, fault: Fault, objects: Vec<String> },
}

/// What a pass looks at.
pub(super) struct Pass<'a> {
    pub(super) objects: &'a Path,
    /// Gives a view of everything committed so far.
    pub(super) view: &'a dyn Fn() -> SharedView,
}

/// What a step found, and what it looked at last.
pub(super) type Looked = (Vec<Damage>, Option<Behind>);

fn name(key: &[u8]) -> String {
    match (path_of_key(key), version_of_key(key)) {
        (Ok(path), Ok(version)) => {
            format!("object {} version {:016x}", String::from_utf8_lossy(&path), version.0)
        }
        _ => format!("record {}", key.escape_ascii()),
    }
}

fn bounds(keyspace: Keyspace, from: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let start = [keyspace.byte()];
    let from = if from.is_empty() {
        Bound::Included(start.to_vec())
    } else {
        Bound::Excluded(from.to_vec())
    };
    (from, prefix_end(&start).map_or(Bound::Unbounded, Bound::Excluded))
}

impl Pass<'_> {
    /// Looks at what is at a place.
    pub(super) fn look(&self, place: &Place, pace: &mut Pace<'_>) -> Result<Looked, IndexError> {
        match place {
            Place::Records { after, .. } => self.records(after, pace),
            Place::Files { next, .. } => self.file(*next, pace),
            Place::Resting { .. } => Ok((Vec::new(), None)),
        }
    }

    fn records(&self, after: &[u8], pace: &mut Pace<'_>) -> Result<Looked, IndexError> {
        let (mut found, mut last, mut bytes, mut count) = (Vec::new(), None, 0, 0);
        let (from, to) = bounds(Keyspace::Objects, after);
        let view = (self.view)();
        view.range(
            from.as_ref().map(Vec::as_slice),
            to.as_ref().map(Vec::as_slice),
            &mut |key, value| {
                if let Err(problem) = record(value) {
                    found.push(Damage::Record { object: name(key), problem });
                }
                last = Some(key.to_vec());
                bytes += (key.len() + value.len()) as u64;
                count += 1;
                if count < PAGE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            },
        )?;
        drop(view);
        // If it is the end, this page is looked at again after the next start.
        let (ControlFlow::Continue(()) | ControlFlow::Break(())) = pace(bytes);
        Ok((found, last.map(Behind::Key)))
    }

    fn file(&self, next: u64, pace: &mut Pace<'_>) -> Result<Looked, IndexError> {
        let mut first = None;
        let (_, to) = bounds(Keyspace::Blobs, &[]);
        let from = blob_key(BlobId(next));
        let view = (self.view)();
        let to = to.as_ref().map(Vec::as_slice);
        view.range(Bound::Included(&from), to, &mut |key, value| {
            first = Some((key.to_vec(), value.to_vec()));
            ControlFlow::Break(())
        })?;
        drop(view);
        let Some((key, value)) = first else { return Ok((Vec::new(), None)) };
        let damaged = |source| IndexError::Damaged { what: "blob record", source };
        let blob = blob_of_key(&key).map_err(damaged)?;
        let behind = Some(Behind::Blob(blob.0));
        let record = match BlobRecord::decode(value) {
            Ok(record) => record,
            Err(error) => {
                let (object, problem) = (format!("record of blob {}", blob.0), error.to_string());
                return Ok((vec![Damage::Record { object, problem }], behind));
            }
        };
        let fault = audit::audit(self.objects, blob, &record, Depth::Whole, pace);
        let Some(fault) = fault else { return Ok((Vec::new(), behind)) };
        // It may have been deleted meanwhile.
        if (self.view)().get(&key)?.is_none() {
            return Ok((Vec::new(), behind));
        }
        let objects = self.objects_of(blob, pace)?;
        Ok((vec![Damage::File { blob: blob.0, fault, objects }], behind))
    }

    /// Some of the objects whose bytes are in a blob. There is no index of that: all records are read.
    fn objects_of(&self, blob: BlobId, pace: &mut Pace<'_>) -> Result<Vec<String>, IndexError> {
        let (mut names, mut after) = (Vec::new(), Vec::new());
        loop {
            let (mut bytes, mut count) = (0, 0);
            let (from, to) = bounds(Keyspace::Objects, &after);
            let (from, to) = (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
            let mut last = None;
            (self.view)().range(from, to, &mut |key, value| {
                let record = ObjectRecord::decode(value.to_vec());
                if record.is_ok_and(|record| record.content == ContentRef::Blob(blob)) {
                    names.push(name(key));
                }
                last = Some(key.to_vec());
                bytes += value.len() as u64;
                count += 1;
                if count < PAGE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            let Some(last) = last else { break };
            if names.len() >= NAMED_MAX || pace(bytes).is_break() {
                break;
            }
            after = last;
        }
        if names.is_empty() {
            names.push("no object, but held".to_owned());
        }
        names.truncate(NAMED_MAX);
        Ok(names)
    }
}

/// What is wrong with the record of an object, by itself.
fn record(value: &[u8]) -> Result<(), String> {
    let record = ObjectRecord::decode(value.to_vec()).map_err(|error| error.to_string())?;
    let ContentRef::Inline(bytes) = &record.content else { return Ok(()) };
    if bytes.len() as u64 != record.size {
        return Err(format!("it has {} bytes instead of {}", bytes.len(), record.size));
    }
    let tag = record.meta.etag;
    let whole = !record.is_marker() && tag.parts.is_none();
    if whole && Md5::digest(bytes)[..] != tag.md5 {
        return Err("its bytes are not those of its entity tag".to_owned());
    }
    Ok(())
}
