//! Removing files: what a crash left without a record, and what lost its last record.

use super::error::FilesError;
use super::ids::{FLOOR, RESERVED};
use super::{DIRECTORY_BITS, Files, INLINE_DIRECTORY, sync_directory};
use crate::format::{Keyspace, blob_key, blob_of_key, state_key, to_unlink_key};
use crate::store::{BlobId, Durability, IndexError, TxnError, View, ViewExt};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use thiserror::Error;

/// Files unlinked before their rows go: one transaction's worth.
const UNLINKS_MAX: usize = 256;

/// Why files could not be removed.
#[derive(Debug, Error)]
pub(crate) enum SweepError {
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Files(#[from] FilesError),
}

/// Removes all files in a directory.
pub(super) fn empty(path: &Path) -> Result<(), FilesError> {
    let sweep = || -> io::Result<usize> {
        let mut count = 0;
        for entry in fs::read_dir(path)? {
            match fs::remove_file(entry?.path()) {
                Ok(()) => count += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    };
    let count = sweep().map_err(FilesError::at("empty", path))?;
    if count > 0 {
        log::info!("removed {count} unfinished files from {}", path.display());
    }
    Ok(())
}

impl Files {
    /// Removes the objects' files that have no record, all of which have an id at or above the floor; and
    /// those of uploads.
    pub(crate) fn sweep(&self, view: &dyn View) -> Result<(), SweepError> {
        let floor: u64 = view.get_value(&state_key(FLOOR))?.unwrap_or(0);
        let reserved: u64 = view.get_value(&state_key(RESERVED))?.unwrap_or(0);
        let objects = &self.inner.objects;
        let mut count = 0;
        for directory in entries(objects)? {
            if directory == INLINE_DIRECTORY {
                continue;
            }
            let Ok(number) = u64::from_str_radix(&directory, 16) else {
                log::warn!("{directory} among the objects is none of the store's; left alone");
                continue;
            };
            if number >= floor >> DIRECTORY_BITS {
                count += self.sweep_directory(view, &objects.join(directory), floor)?;
            }
        }
        if count > 0 {
            log::info!("removed {count} files of objects that were never acknowledged");
        }
        log::debug!("ids from {floor} to {reserved} were looked at");
        self.sweep_uploads(view)
    }

    fn sweep_directory(
        &self,
        view: &dyn View,
        directory: &Path,
        floor: u64,
    ) -> Result<usize, SweepError> {
        let mut count = 0;
        for name in entries(directory)? {
            let Ok(id) = u64::from_str_radix(&name, 16) else {
                log::warn!("{name} in {} is no object; left alone", directory.display());
                continue;
            };
            if !is_left(view, floor, BlobId(id))? {
                continue;
            }
            let path = directory.join(&name);
            fs::remove_file(&path).map_err(FilesError::at("remove", &path))?;
            count += 1;
        }
        Ok(count)
    }

    /// Unlinks files whose blobs have no record any more; the blobs whose rows may go now.
    pub(crate) fn unlink(&self, view: &dyn View) -> Result<Vec<BlobId>, SweepError> {
        let blobs = self.to_unlink(view)?;
        let mut directories = BTreeSet::new();
        for &blob in &blobs {
            self.inner.open.forget(blob);
            let path = self.inner.path_of(blob);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(FilesError::at("remove", &path)(error).into());
                }
                Ok(()) | Err(_) => {}
            }
            directories.insert(self.inner.directory_of(blob));
        }
        // The rows go only when the names are gone on disk, or a power cut would leave files without either.
        if self.inner.durability == Durability::Fsync {
            for directory in &directories {
                match sync_directory(directory) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(FilesError::at("sync", directory)(error).into());
                    }
                    Ok(()) | Err(_) => {}
                }
            }
        }
        Ok(blobs)
    }
}

impl Files {
    /// The next blobs whose files are to go, and which no zone looks at.
    fn to_unlink(&self, view: &dyn View) -> Result<Vec<BlobId>, SweepError> {
        let mut blobs = Vec::new();
        let mut failed = Ok(());
        view.within(&[Keyspace::ToUnlink.byte()], &mut |key, _| {
            let damaged = |source| IndexError::Damaged { what: "row of to_unlink", source };
            failed = match blob_of_key(key).map_err(damaged) {
                Ok(blob) => match self.inner.pins.keep(blob) {
                    Ok(kept) => {
                        blobs.extend((!kept).then_some(blob));
                        Ok(())
                    }
                    Err(error) => {
                        Err(FilesError::at("read the pins of", &self.inner.root)(error).into())
                    }
                },
                Err(error) => Err(error.into()),
            };
            if failed.is_ok() && blobs.len() < UNLINKS_MAX {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        failed.map(|()| blobs)
    }
}

/// A transaction that forgets rows of `to_unlink`.
pub(crate) fn forget(
    blobs: Vec<BlobId>,
) -> impl FnOnce(&mut crate::store::Txn<'_>) -> Result<(), TxnError> + Send {
    move |txn| {
        blobs.into_iter().for_each(|blob| txn.delete(to_unlink_key(blob)));
        Ok(())
    }
}

/// Whether a file that is there was left by a crash, without a record. A row in `to_unlink` is a record too:
/// its file goes when the row does.
pub(crate) fn is_left(view: &dyn View, floor: u64, blob: BlobId) -> Result<bool, IndexError> {
    let recorded =
        || Ok(view.get(&blob_key(blob))?.is_some() || view.get(&to_unlink_key(blob))?.is_some());
    Ok(blob.0 >= floor && !recorded()?)
}

fn entries(directory: &Path) -> Result<Vec<String>, FilesError> {
    let read = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            match entry?.file_name().into_string() {
                Ok(name) => names.push(name),
                Err(name) => log::warn!("{} is none of the store's; left alone", name.display()),
            }
        }
        Ok(names)
    };
    read().map_err(FilesError::at("list", directory))
}
