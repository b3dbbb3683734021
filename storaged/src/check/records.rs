//! The records: each is read, and what they say of each other is summed and compared.

use super::{Finding, Report};
use crate::events::Queued;
use crate::format::{
    DecodeError, Keyspace, Value, blob_of_key, bucket_key, bucket_owner_key, check_upload_row,
    config_of_key, path_of_key, state_key, to_unlink_key, version_of_key,
};
use crate::index::{IndexError, View};
use crate::jobs;
use crate::store::{
    AccountId, BlobId, BlobRecord, BucketRecord, ContentRef, OBJECT_BYTES, OBJECTS, ObjectRecord,
    ViewExt,
};
use md5::{Digest as _, Md5};
use std::ops::{Bound, ControlFlow};

/// What the records amount to.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    /// Each reference to a blob, sorted: eight bytes for each, however many blobs there are.
    references: Vec<u64>,
    objects: u64,
    object_bytes: u64,
}

/// A key as a person can read it.
pub(super) fn shown(key: &[u8]) -> String {
    let Some((&first, rest)) = key.split_first() else { return "(empty)".to_owned() };
    match Keyspace::of(first) {
        Some(Keyspace::Objects) => match (path_of_key(key), version_of_key(key)) {
            (Ok(path), Ok(version)) => {
                format!("object {} version {:016x}", String::from_utf8_lossy(&path), version.0)
            }
            _ => format!("object {}", rest.escape_ascii()),
        },
        Some(keyspace) => format!("{keyspace:?} {}", rest.escape_ascii()),
        None => format!("keyspace {first} {}", rest.escape_ascii()),
    }
}

/// Reads every record.
pub(crate) fn check(view: &dyn View, report: &mut Report) -> Result<Sums, IndexError> {
    let mut sums = Sums::default();
    let mut names = Vec::new();
    view.range(Bound::Unbounded, Bound::Unbounded, &mut |key, value| {
        report.checked.entries += 1;
        if let Err(problem) = entry(key, value, &mut sums, &mut names, report) {
            report.add(Finding::Record { key: shown(key), problem });
        }
        ControlFlow::Continue(())
    })?;
    for (name, problem, counterpart) in names {
        if view.get(&counterpart)?.is_none() {
            report.add(Finding::Bucket { name, problem: problem.to_owned() });
        }
    }
    sums.references.sort_unstable();
    Ok(sums)
}

/// A name, what is wrong if the key is missing that should be there too, and that key.
type Counterpart = (String, &'static str, Vec<u8>);

fn entry(
    key: &[u8],
    value: &[u8],
    sums: &mut Sums,
    names: &mut Vec<Counterpart>,
    report: &mut Report,
) -> Result<(), String> {
    let said = |error: DecodeError| error.to_string();
    let (first, rest) = key.split_first().ok_or("its key is empty")?;
    match Keyspace::of(*first).ok_or("its keyspace is not known to this release")? {
        Keyspace::Objects => object(key, value, sums, report),
        Keyspace::Blobs => {
            blob_of_key(key).and_then(|_| BlobRecord::decode(value.to_vec())).map_err(said)?;
            report.checked.blobs += 1;
            Ok(())
        }
        Keyspace::ToUnlink => {
            blob_of_key(key).and_then(|_| u64::decode(value.to_vec())).map_err(said)?;
            report.left_over.to_unlink += 1;
            Ok(())
        }
        Keyspace::State => u64::decode(value.to_vec()).map(drop).map_err(said),
        Keyspace::Accounts => AccountId::decode(value.to_vec()).map(drop).map_err(said),
        Keyspace::Buckets => {
            let record = BucketRecord::decode(value.to_vec()).map_err(said)?;
            let name = std::str::from_utf8(rest).map_err(|error| error.to_string())?;
            let other = bucket_owner_key(record.owner, name);
            names.push((name.to_owned(), "its owner does not have it", other));
            Ok(())
        }
        Keyspace::BucketsOfOwner => {
            BucketRecord::decode(value.to_vec()).map_err(said)?;
            let name = rest.get(4..).and_then(|name| std::str::from_utf8(name).ok());
            let name = name.ok_or("its key is malformed")?;
            names.push((name.to_owned(), "only its owner has it", bucket_key(name)));
            Ok(())
        }
        Keyspace::BucketConfigs => {
            let (name, _) = config_of_key(key).map_err(said)?;
            names.push((name.to_owned(), "it is gone, a configuration is not", bucket_key(name)));
            Ok(())
        }
        Keyspace::Jobs => {
            let held = jobs::held_blob(key, value).map_err(|error| crate::s3::chain(&error))?;
            sums.references.extend(held);
            Ok(())
        }
        Keyspace::Events => Queued::decode(value.to_vec()).map(drop).map_err(said),
        Keyspace::Settings => Ok(()),
        Keyspace::Uploads => check_upload_row(key, value).map_err(said),
    }
}

fn object(key: &[u8], value: &[u8], sums: &mut Sums, report: &mut Report) -> Result<(), String> {
    let record = ObjectRecord::decode(value.to_vec()).map_err(|error| error.to_string())?;
    let version = version_of_key(key).and_then(|version| path_of_key(key).map(|_| version));
    if version.map_err(|error| error.to_string())? != record.version {
        return Err("its version is not that of its key".to_owned());
    }
    report.checked.versions += 1;
    if !record.is_marker() {
        sums.objects += 1;
        sums.object_bytes += record.size;
    }
    match &record.content {
        ContentRef::Blob(blob) => sums.references.push(blob.0),
        ContentRef::Inline(bytes) => {
            if bytes.len() as u64 != record.size {
                return Err(format!("it has {} bytes instead of {}", bytes.len(), record.size));
            }
            let tag = record.meta.etag;
            let whole = !record.is_marker() && tag.parts.is_none();
            if whole && Md5::digest(bytes)[..] != tag.md5 {
                report.add(Finding::Content { key: shown(key) });
            }
        }
    }
    Ok(())
}

/// Compares what was summed with what is on record.
pub(crate) fn compare(view: &dyn View, sums: &Sums, report: &mut Report) -> Result<(), IndexError> {
    for (name, found) in [(OBJECTS, sums.objects), (OBJECT_BYTES, sums.object_bytes)] {
        let expected: u64 = view.get_value(&state_key(name))?.unwrap_or(0);
        if found != expected {
            report.add(Finding::Counter { name: name.to_owned(), found, expected });
        }
    }
    let mut groups = sums.references.chunk_by(|a, b| a == b).peekable();
    let mut doomed = Vec::new();
    view.within(&[Keyspace::Blobs.byte()], &mut |key, value| {
        // Malformed ones were found before.
        let (Ok(blob), Ok(record)) = (blob_of_key(key), BlobRecord::decode(value.to_vec())) else {
            return ControlFlow::Continue(());
        };
        while let Some(missing) = groups.next_if(|group| group[0] < blob.0) {
            report.add(no_blob(missing));
        }
        let found = groups.next_if(|group| group[0] == blob.0).map_or(0, count);
        if found != record.references {
            let expected = record.references;
            report.add(Finding::References { blob: blob.0, found, expected });
        }
        doomed.push(blob.0);
        ControlFlow::Continue(())
    })?;
    groups.for_each(|missing| report.add(no_blob(missing)));
    for blob in doomed {
        if view.get(&to_unlink_key(BlobId(blob)))?.is_some() {
            report.add(Finding::Doomed { blob });
        }
    }
    Ok(())
}

fn count(group: &[u64]) -> u32 {
    u32::try_from(group.len()).unwrap_or(u32::MAX)
}

fn no_blob(group: &[u64]) -> Finding {
    Finding::NoBlob { blob: group[0], references: count(group) }
}
