//! Blobs whose files stay although their objects are gone: those that a manifest in use names.
//!
//! ```text
//!   manifests/<uuid>.erofs   the manifest, which zoned has mounted
//!   manifests/<uuid>.pins    the blobs it names: u64, little-endian, sorted
//! ```
//! Records know nothing of this. A row of `to_unlink` just waits for as long as a manifest pins its blob, across
//! restarts of storaged; which manifests are in use, zoned says when it connects. Neither file is synced:
//! after a power cut no zone runs, and what is damaged or unknown is removed.

use super::error::FilesError;
use crate::store::BlobId;
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use wire::task::ManifestId;

/// Bytes of a blob's number in a file of pins.
const PIN_BYTES: usize = size_of::<u64>();

/// All manifests and what they pin.
#[derive(Debug)]
pub(crate) struct Pins {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Manifests that are being made: nothing is unlinked meanwhile.
    gathering: usize,
    manifests: BTreeMap<ManifestId, Pinned>,
    /// Rows of `to_unlink` that wait, so that they are not looked up each time; empty after a release.
    waiting: HashSet<BlobId>,
}

/// The blobs of one manifest. They are looked up in the file: in memory they would take as much.
#[derive(Debug)]
struct Pinned {
    file: File,
    count: u64,
}

/// While it lives, no file of an object is unlinked.
#[derive(Debug)]
pub(crate) struct Gathering<'a>(&'a Pins);

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        self.0.lock().gathering -= 1;
    }
}

impl Pins {
    /// Takes up the manifests that are there.
    pub(super) fn open(folder: &Path) -> Result<Self, FilesError> {
        let read = || -> io::Result<State> {
            let mut state = State::default();
            let mut others = Vec::new();
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                match pinned(&path) {
                    Some((id, pinned)) => drop(state.manifests.insert(id, pinned)),
                    None => others.push(path),
                }
            }
            for path in others {
                let known = path.extension().is_some_and(|ending| ending == "erofs")
                    && id_of(&path).is_some_and(|id| state.manifests.contains_key(&id));
                if !known {
                    fs::remove_file(&path)?;
                }
            }
            Ok(state)
        };
        let state = read().map_err(FilesError::at("read the manifests in", folder))?;
        Ok(Self { folder: folder.to_owned(), state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one step: no panic leaves it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps every file from being unlinked, from now on and until [`Pins::add`] knows better. To be asked
    /// for before the index is.
    pub(crate) fn gather(&self) -> Gathering<'_> {
        self.lock().gathering += 1;
        Gathering(self)
    }

    /// Where a manifest is, or is to be made.
    pub(crate) fn path(&self, id: ManifestId) -> PathBuf {
        self.folder.join(format!("{}.erofs", id.0))
    }

    fn pins_path(&self, id: ManifestId) -> PathBuf {
        self.folder.join(format!("{}.pins", id.0))
    }

    /// Pins the blobs of a manifest.
    pub(crate) fn add(&self, id: ManifestId, mut blobs: Vec<BlobId>) -> io::Result<()> {
        blobs.sort_unstable();
        blobs.dedup();
        let path = self.pins_path(id);
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
        let mut out = BufWriter::new(file);
        for blob in &blobs {
            out.write_all(&blob.0.to_le_bytes())?;
        }
        out.flush()?;
        let pinned = Pinned { file: File::open(&path)?, count: blobs.len() as u64 };
        self.lock().manifests.insert(id, pinned);
        Ok(())
    }

    /// Whether a blob's file must stay now.
    pub(super) fn keep(&self, blob: BlobId) -> io::Result<bool> {
        let mut state = self.lock();
        if state.gathering > 0 || state.waiting.contains(&blob) {
            return Ok(true);
        }
        for pinned in state.manifests.values() {
            if pinned.has(blob)? {
                state.waiting.insert(blob);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// At most `max` manifests after `after`, in order.
    pub(crate) fn list(&self, after: Option<ManifestId>, max: usize) -> Vec<ManifestId> {
        let state = self.lock();
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        state
            .manifests
            .range((from, std::ops::Bound::Unbounded))
            .map(|(id, _)| *id)
            .take(max)
            .collect()
    }

    /// Lets a manifest go; what only it pinned may be unlinked.
    pub(crate) fn release(&self, id: ManifestId) -> io::Result<()> {
        {
            let mut state = self.lock();
            state.manifests.remove(&id);
            state.waiting.clear();
        }
        for path in [self.path(id), self.pins_path(id)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

impl Pinned {
    fn has(&self, blob: BlobId) -> io::Result<bool> {
        let (mut from, mut to) = (0, self.count);
        while from < to {
            let middle = from + (to - from) / 2;
            let mut bytes = [0; PIN_BYTES];
            self.file.read_exact_at(&mut bytes, middle * PIN_BYTES as u64)?;
            match u64::from_le_bytes(bytes).cmp(&blob.0) {
                std::cmp::Ordering::Equal => return Ok(true),
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => to = middle,
            }
        }
        Ok(false)
    }
}

fn id_of(path: &Path) -> Option<ManifestId> {
    path.file_stem()?.to_str()?.parse().ok().map(ManifestId)
}

/// The pins in a file, if it is one of whole numbers beside its manifest.
fn pinned(path: &Path) -> Option<(ManifestId, Pinned)> {
    let id = id_of(path).filter(|_| path.extension().is_some_and(|ending| ending == "pins"))?;
    path.with_extension("erofs").is_file().then_some(())?;
    let file = File::open(path).ok()?;
    let bytes = file.metadata().ok()?.len();
    let whole = bytes.is_multiple_of(PIN_BYTES as u64);
    whole.then(|| (id, Pinned { file, count: bytes / PIN_BYTES as u64 }))
}

#[cfg(test)]
mod test {
    use super::*;
    use uuid::Uuid;

    fn id(number: u128) -> ManifestId {
        ManifestId(Uuid::from_u128(number))
    }

    fn pins(folder: &Path) -> Pins {
        Pins::open(folder).unwrap()
    }

    fn add(pins: &Pins, number: u128, blobs: &[u64]) {
        fs::write(pins.path(id(number)), b"manifest").unwrap();
        pins.add(id(number), blobs.iter().copied().map(BlobId).collect()).unwrap();
    }

    fn kept(pins: &Pins) -> Vec<u64> {
        (0..10).filter(|blob| pins.keep(BlobId(*blob)).unwrap()).collect()
    }

    #[test]
    fn what_a_manifest_names_is_kept_until_the_last_one_that_does_is_released() {
        let folder = tempfile::tempdir().unwrap();
        let pins = pins(folder.path());
        add(&pins, 1, &[7, 3, 3]);
        add(&pins, 2, &[4, 7]);
        assert_eq!(kept(&pins), [3, 4, 7]);
        pins.release(id(1)).unwrap();
        assert_eq!(kept(&pins), [4, 7]);
        pins.release(id(2)).unwrap();
        assert_eq!(kept(&pins), [] as [u64; 0]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_restart_finds_what_was_pinned_and_removes_what_is_half() {
        let folder = tempfile::tempdir().unwrap();
        {
            let pins = pins(folder.path());
            add(&pins, 1, &[5]);
            add(&pins, 2, &[6]);
            add(&pins, 3, &[]);
        }
        // Cut off in the middle of a number; without pins; without a manifest.
        fs::write(folder.path().join(format!("{}.pins", id(2).0)), [1, 2, 3]).unwrap();
        fs::write(folder.path().join(format!("{}.erofs", id(8).0)), []).unwrap();
        fs::write(folder.path().join(format!("{}.pins", id(9).0)), []).unwrap();
        let pins = pins(folder.path());
        assert_eq!(kept(&pins), [5]);
        assert_eq!(pins.list(None, 10), [id(1), id(3)]);
        assert_eq!(pins.list(Some(id(1)), 10), [id(3)]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
    }

    #[test]
    fn nothing_goes_while_a_manifest_is_being_made() {
        let folder = tempfile::tempdir().unwrap();
        let pins = pins(folder.path());
        let gathering = pins.gather();
        assert!(pins.keep(BlobId(1)).unwrap());
        drop(gathering);
        assert!(!pins.keep(BlobId(1)).unwrap());
    }
}
