//! Blobs against files: one directory of files at a time, with the records of its ids.

use super::{CheckError, Depth, Finding, Report};
use crate::files::{DIRECTORY_BITS, INLINE_DIRECTORY, audit};
use crate::format::{Value, blob_key, blob_of_key, to_unlink_key};
use crate::index::View;
use crate::store::{BlobId, BlobRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::{Bound, ControlFlow};
use std::path::Path;

/// Checks the files of a store's directory.
pub(super) fn check(
    data: &Path,
    view: &dyn View,
    floor: u64,
    depth: Depth,
    report: &mut Report,
) -> Result<(), CheckError> {
    let objects = data.join("objects");
    report.left_over.staging = names(&data.join("staging"))?.len() as u64;
    report.left_over.shown = names(&objects.join(INLINE_DIRECTORY))?.len() as u64;
    let mut directories = BTreeSet::new();
    for name in names(&objects)? {
        match number(&name, 13) {
            Some(number) => drop(directories.insert(number)),
            None if name == INLINE_DIRECTORY => {}
            None => report.add(Finding::Foreign { path: format!("objects/{name}") }),
        }
    }
    let audit = |blob, record: &BlobRecord, read: &mut u64| {
        let depth = match depth {
            Depth::Usual => audit::Depth::Outside,
            Depth::Deep => audit::Depth::Whole,
        };
        audit::audit(&objects, blob, record, depth, &mut |bytes| {
            *read += bytes;
            ControlFlow::Continue(())
        })
    };
    let mut next = 0;
    loop {
        // The next directory that there is a file or a record for.
        let recorded =
            first_blob(view, BlobId(next << DIRECTORY_BITS))?.map(|blob| blob.0 >> DIRECTORY_BITS);
        let there = directories.range(next..).next().copied();
        let Some(at) = recorded.into_iter().chain(there).min() else { return Ok(()) };
        let blobs = blobs_of(view, at)?;
        for (&blob, record) in &blobs {
            if let Some(fault) = audit(BlobId(blob), record, &mut report.checked.bytes) {
                report.add(Finding::File { blob, problem: fault.to_string() });
            }
        }
        if there == Some(at) {
            let files = names(&objects.join(format!("{at:013x}")))?;
            for name in files {
                match number(&name, 16).filter(|blob| blob >> DIRECTORY_BITS == at) {
                    Some(blob) => file(view, blob, blobs.contains_key(&blob), floor, report)?,
                    None => {
                        report.add(Finding::Foreign { path: format!("objects/{at:013x}/{name}") });
                    }
                }
            }
        }
        next = at + 1;
    }
}

fn file(
    view: &dyn View,
    blob: u64,
    recorded: bool,
    floor: u64,
    report: &mut Report,
) -> Result<(), CheckError> {
    report.checked.files += 1;
    if recorded || view.get(&to_unlink_key(BlobId(blob)))?.is_some() {
        return Ok(());
    }
    if blob >= floor {
        report.left_over.objects += 1;
    } else {
        report.add(Finding::Orphan { blob });
    }
    Ok(())
}

/// A name of that many hexadecimal digits, as a number.
fn number(name: &str, digits: usize) -> Option<u64> {
    let plain = name.len() == digits
        && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    plain.then(|| u64::from_str_radix(name, 16).ok()).flatten()
}

fn first_blob(view: &dyn View, from: BlobId) -> Result<Option<BlobId>, CheckError> {
    let mut found = None;
    let (from, end) = (blob_key(from), end_of_blobs());
    view.range(Bound::Included(&from), Bound::Excluded(&end), &mut |key, _| {
        found = blob_of_key(key).ok();
        // A malformed key was found before.
        if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(found)
}

fn end_of_blobs() -> Vec<u8> {
    vec![crate::format::Keyspace::Blobs.byte() + 1]
}

fn blobs_of(view: &dyn View, directory: u64) -> Result<BTreeMap<u64, BlobRecord>, CheckError> {
    let mut found = BTreeMap::new();
    let from = blob_key(BlobId(directory << DIRECTORY_BITS));
    let last = blob_key(BlobId((directory << DIRECTORY_BITS) | ((1 << DIRECTORY_BITS) - 1)));
    view.range(Bound::Included(&from), Bound::Included(&last), &mut |key, value| {
        if let (Ok(blob), Ok(record)) = (blob_of_key(key), BlobRecord::decode(value.to_vec())) {
            found.insert(blob.0, record);
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// What is in a directory; nothing, if there is none.
pub(super) fn names(path: &Path) -> Result<Vec<String>, CheckError> {
    let read = || -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    };
    match read() {
        Ok(names) => Ok(names),
        // A store that was made and never started has none.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(CheckError::List { path: path.to_owned(), source }),
    }
}
