//! Manifests: a prefix of the store as a tree of names, which zoned mounts over the objects' own files.
//!
//! ```text
//!   index ─ page by page ─▶ names and where their bytes are ─▶ EROFS, in one pass ─▶ manifests/<uuid>.erofs
//!     small objects   in the manifest itself
//!     the others      a size, the path of their file, and the digest that it must measure
//! ```
//! What a manifest names stays until it is released, whatever becomes of the objects: see `files::pins`.

pub mod names;
pub mod tree;

use crate::format::{is_marker, object_prefix, path_of_key, prefix_end, stem_of_key};
use crate::store::{
    AccountId, Area, BlobId, BlobState, ContentRef, IndexError, ObjectRecord, Store, View, blob,
    damaged, decoded,
};
use std::fs::{self, File, Permissions};
use std::io;
use std::ops::{Bound, ControlFlow};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use thiserror::Error;
use tree::{Bytes, Growing};
use uuid::Uuid;
use wire::task::ManifestId;

/// Entries of the index looked at in one view of it, so that none is held for long.
const PAGE: usize = 4096;
/// The most objects in one manifest: each that is in a file costs 8 bytes of memory while it is made, and the
/// names in one directory some 40 each.
pub const OBJECTS_MAX: u64 = 1 << 24;

/// Why there is no manifest.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The image could not be written.
    #[error("cannot write the manifest")]
    Write(#[from] erofs::Error),
    /// Too many objects.
    #[error("there are more than {OBJECTS_MAX} objects below it: mount a longer prefix")]
    Many,
    /// The disk is too full.
    #[error("the data disk is full; delete objects")]
    Full,
    /// A file failed.
    #[error("cannot {act} the manifest")]
    File {
        /// What was tried.
        act: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ManifestError {
    fn file(act: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { act, source }
    }
}

/// A manifest that was made; it pins what it names until it is released.
#[derive(Debug)]
pub struct Made {
    /// Its name.
    pub id: ManifestId,
    /// The image, open for reading, and nobody can write to it.
    pub file: File,
    /// Objects in it.
    pub objects: u64,
    /// Its size.
    pub bytes: u64,
    /// Bytes of those objects.
    pub object_bytes: u64,
    /// Objects that are being sealed, and so are not in it.
    pub left_out: u64,
}

/// Makes a manifest of all objects of an area whose paths start with `prefix`, an empty one if there are
/// none; its space counts against `project`.
///
/// # Errors
/// [`ManifestError`].
pub fn make(
    store: &Store,
    account: AccountId,
    area: Area,
    prefix: &[u8],
    project: Option<u32>,
) -> Result<Made, ManifestError> {
    if !store.has_room() {
        return Err(ManifestError::Full);
    }
    let pins = store.pins();
    let id = ManifestId(Uuid::new_v4());
    let path = pins.path(id);
    let made = {
        let _gathering = pins.gather();
        gather(store, (account, area, prefix), &path, project).and_then(|(gathered, bytes)| {
            let Gathered { objects, object_bytes, left_out, blobs } = gathered;
            let file = close(store, &path)?;
            pins.add(id, blobs).map_err(ManifestError::file("pin the objects of"))?;
            Ok(Made { id, file, objects, bytes, object_bytes, left_out })
        })
    };
    // Whatever waited for this may go now.
    store.look_for_unlinks();
    if made.is_err()
        && let Err(error) = pins.release(id)
    {
        log::warn!("could not remove {}: {error}; the next start will", path.display());
    }
    made
}

/// What was found on the way.
#[derive(Default)]
struct Gathered {
    objects: u64,
    object_bytes: u64,
    left_out: u64,
    blobs: Vec<BlobId>,
}

fn gather(
    store: &Store,
    (account, area, prefix): (AccountId, Area, &[u8]),
    path: &Path,
    project: Option<u32>,
) -> Result<(Gathered, u64), ManifestError> {
    let mut options = File::options();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let file = file.map_err(ManifestError::file("make"))?;
    if let Some(project) = project.filter(|_| store.has_projects()) {
        let charged = sys::project::set_project(file.as_fd(), project);
        charged.map_err(|errno| ManifestError::file("charge the zone for")(errno.into()))?;
    }
    let mut growing = Growing::begin(file)?;
    let mut gathered = Gathered::default();
    let whole = object_prefix(account, area, prefix);
    let end = prefix_end(&whole).expect("a key of an object starts with its keyspace's byte");
    let mut from = Some(whole);
    while let Some(start) = from {
        let view = store.read()?;
        let (page, next) = read_page(&view, &start, &end)?;
        for (name, record) in page {
            add(&view, &mut growing, &mut gathered, (&name[prefix.len()..], &record))?;
        }
        from = next;
    }
    let (_, objects, written) = growing.finish()?;
    gathered.objects = objects;
    Ok((gathered, written.bytes))
}

/// The current versions among the next entries of the index, and where the entries after them start.
type Page = (Vec<(Vec<u8>, ObjectRecord)>, Option<Vec<u8>>);

fn read_page(view: &dyn View, start: &[u8], end: &[u8]) -> Result<Page, IndexError> {
    let (mut found, mut looked, mut next, mut stem) = (Vec::new(), 0, None, Vec::new());
    let mut failed = Ok(());
    view.range(Bound::Included(start), Bound::Excluded(end), &mut |key, value| {
        let mut visit = || -> Result<ControlFlow<()>, IndexError> {
            let this = stem_of_key(key).map_err(damaged("key of an object"))?;
            if *this == *stem {
                // An older version of what came before.
                looked += 1;
                return Ok(ControlFlow::Continue(()));
            }
            if looked >= PAGE {
                next = Some(key.to_vec());
                return Ok(ControlFlow::Break(()));
            }
            looked += 1;
            stem.clear();
            stem.extend_from_slice(this);
            if !is_marker(value).map_err(damaged("object record"))? {
                let path = path_of_key(key).map_err(damaged("key of an object"))?;
                found.push((path, decoded(value.to_vec())?));
            }
            Ok(ControlFlow::Continue(()))
        };
        visit().unwrap_or_else(|error| {
            failed = Err(error);
            ControlFlow::Break(())
        })
    })?;
    failed.map(|()| (found, next))
}

fn add(
    view: &dyn View,
    growing: &mut Growing<File>,
    gathered: &mut Gathered,
    (name, record): (&[u8], &ObjectRecord),
) -> Result<(), ManifestError> {
    gathered.objects += 1;
    if gathered.objects > OBJECTS_MAX {
        return Err(ManifestError::Many);
    }
    let modified = record.meta.modified_ms;
    let id = match &record.content {
        ContentRef::Inline(bytes) => {
            growing.add(name, modified, &Bytes::Here(bytes))?;
            gathered.object_bytes += bytes.len() as u64;
            return Ok(());
        }
        ContentRef::Blob(id) => *id,
    };
    match blob(view, id)?.map(|known| (known.size, known.state)) {
        Some((size, BlobState::Sealed(digest))) => {
            let path = crate::files::path_below(id);
            growing.add(name, modified, &Bytes::Below { path, size, digest: digest.0 })?;
            gathered.blobs.push(id);
            gathered.object_bytes += size;
        }
        Some((_, BlobState::Sealing)) | None => gathered.left_out += 1,
    }
    Ok(())
}

/// The paths of objects of an area, as they are now and whose own path starts with `prefix`, that have their
/// bytes in a blob; at most `most`. There is no index of that: all records below are read.
///
/// # Errors
/// When the index fails.
pub fn names_of(
    store: &Store,
    (account, area, prefix): (AccountId, Area, &[u8]),
    blob: BlobId,
    most: usize,
) -> Result<Vec<Vec<u8>>, IndexError> {
    let whole = object_prefix(account, area, prefix);
    let end = prefix_end(&whole).expect("a key of an object starts with its keyspace's byte");
    let mut from = Some(whole);
    let mut names = Vec::new();
    while let Some(start) = from
        && names.len() < most
    {
        let (page, next) = read_page(&store.read()?, &start, &end)?;
        let of_it = page.into_iter().filter(|(_, record)| record.content == ContentRef::Blob(blob));
        names.extend(of_it.map(|(name, _)| name));
        from = next;
    }
    names.truncate(most);
    Ok(names)
}

/// Sees to it that nobody writes to a manifest that is mounted: the mount itself does not.
fn close(store: &Store, path: &Path) -> Result<File, ManifestError> {
    let file = File::open(path).map_err(ManifestError::file("open"))?;
    if store.has_verity() {
        let sealed = sys::verity::seal(file.as_fd());
        sealed.map_err(|errno| ManifestError::file("seal")(errno.into()))?;
    }
    let closed = fs::set_permissions(path, Permissions::from_mode(0o400));
    closed.map_err(ManifestError::file("protect"))?;
    Ok(file)
}

#[cfg(test)]
mod test;
