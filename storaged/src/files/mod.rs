//! The files of objects: staged, sealed, named by id, opened, unlinked.
//!
//! ```text
//!   staging/<number>  ─▶ written by the store, or through a descriptor handed out
//!     seal            ─▶ no writer left, fs-verity, 0400 ─▶ objects/<id >> 12>/<id> ─▶ fsync
//!     transaction     ─▶ its record; without one the file goes: at once, or at the next start
//!     to_unlink row   ─▶ the file goes, then the row
//!   uploads/…         ─▶ parts, and what is made of them: see `assembly`
//! ```
//! No file is left without a record: what is staged is swept at start, and of the objects those whose ids
//! are at or above the lowest that may have been without a record (`blob-floor`) are looked at.

mod assembly;
pub(crate) mod audit;
mod cache;
mod digest;
mod error;
mod hasher;
mod ids;
mod object;
mod pins;
mod pool;
mod seal;
mod staging;
mod sweep;

pub use assembly::{
    ASSEMBLED_BYTES_MAX, Begun, Completion, PART_BYTES_MAX, PART_BYTES_MIN, PARTS_MAX, PartError,
    PartWriter, WrittenPart,
};
pub(crate) use assembly::{AssembleError, Assembly};
pub use error::{FilesError, OpenBlobError, SealError, StageError};
pub(crate) use ids::FLOOR;
#[cfg(test)]
pub(crate) use ids::Ids as BlobIds;
pub use object::{ObjectFile, ViewFile};
pub(crate) use seal::Pending;
pub use seal::Sealed;
pub use staging::{BUFFER_BYTES, Staging};
#[cfg(test)]
pub(crate) use sweep::is_left;
pub(crate) use sweep::{SweepError, forget};

use crate::committer::Latch;
use crate::store::{BlobId, Durability, Options, Room};
use cache::OpenFiles;
pub(crate) use cache::ready_max;
use hasher::Hasher;
use ids::Ids;
pub(crate) use pins::Pins;
use pool::Pool;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, DirEntryExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Objects in one directory of `objects/`: 2 to the power of this.
pub const DIRECTORY_BITS: u32 = 12;
/// Staging files that may be open at once: each has a descriptor and up to
/// [`BUFFER_BYTES`] of memory.
pub const STAGINGS_MAX: usize = 4096;
/// Bytes that are kept free at least, so that deletes, whose records need room too, always work.
pub const KEPT_BYTES_MIN: u64 = 256 << 20;
/// Of the disk's size, the hundredths that are kept free at least.
pub const KEPT_PERCENT: u64 = 1;
/// The format of the extended attribute on each object's file.
const XATTR_FORMAT: u8 = 1;
/// A project that no task is given, to try whether there are projects.
const PROBE_PROJECT: u32 = u32::MAX - 1;
/// The extended attribute: format, then id, little-endian.
const XATTR_NAME: &std::ffi::CStr = c"user.mobula";
/// The directory, among those of objects, of small contents shown to zones.
pub(crate) const INLINE_DIRECTORY: &str = "inline";

/// What the file system under the store can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// It has fs-verity.
    pub verity: bool,
    /// An fsync of a file carries its rename, as on ext4; elsewhere the directory is synced too.
    pub sync_carries_rename: bool,
    /// It has user extended attributes.
    pub xattr: bool,
    /// It has projects, so that a task's output counts against the task's quota.
    pub project: bool,
}

/// All files of a store. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    staging: PathBuf,
    objects: PathBuf,
    uploads: PathBuf,
    view: PathBuf,
    pins: Pins,
    durability: Durability,
    kept_bytes: Option<u64>,
    abilities: Abilities,
    latch: Arc<Latch>,
    pool: Pool,
    hasher: Hasher,
    /// Apart from the others, which they would keep busy for long.
    completers: Pool,
    entries: assembly::Entries,
    ids: Ids,
    open: OpenFiles,
    /// The directory of objects that was made sure of last, plus one: ids grow, so it is mostly the one.
    directory_made: AtomicU64,
    staged: AtomicUsize,
}

impl Files {
    /// Opens the files of a store and sweeps its staging directory.
    pub(crate) fn open(options: &Options, latch: Arc<Latch>) -> Result<Self, FilesError> {
        let root = options.data.clone();
        let (staging, objects) = (root.join("staging"), root.join("objects"));
        let (inline, uploads) = (objects.join(INLINE_DIRECTORY), root.join("uploads"));
        let manifests = root.join("manifests");
        for path in [&staging, &objects, &inline, &uploads, &manifests] {
            make_directory(path)?;
        }
        sweep::empty(&staging)?;
        sweep::empty(&inline)?;
        sync_directory(&root).map_err(FilesError::at("sync", &root))?;
        let abilities = probe(&staging)?;
        let view = options.objects_view.clone().unwrap_or_else(|| objects.clone());
        let inner = Inner {
            root,
            staging,
            objects,
            uploads,
            view,
            pins: Pins::open(&manifests)?,
            durability: options.durability,
            kept_bytes: options.kept_bytes,
            abilities,
            latch,
            pool: Pool::start("disk", options.disk_threads)
                .map_err(FilesError::at("start a disk thread for", &options.data))?,
            hasher: Hasher::start()
                .map_err(FilesError::at("start a hashing thread for", &options.data))?,
            completers: Pool::start("completer", assembly::COMPLETERS)
                .map_err(FilesError::at("start a completer for", &options.data))?,
            entries: assembly::Entries::default(),
            ids: Ids::default(),
            open: OpenFiles::new(cache::capacity()),
            directory_made: AtomicU64::new(0),
            staged: AtomicUsize::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(crate) fn abilities(&self) -> Abilities {
        self.inner.abilities
    }

    /// What keeps files whose objects are gone.
    pub(crate) fn pins(&self) -> &Pins {
        &self.inner.pins
    }

    /// The directory of objects as zones may see it, read-only.
    pub(crate) fn open_objects(&self) -> io::Result<File> {
        File::open(&self.inner.view)
    }

    /// The file with this inode. Directory entries have it, so no file is looked at.
    pub(crate) fn find(&self, inode: u64) -> io::Result<Option<BlobId>> {
        for folder in std::fs::read_dir(&self.inner.objects)? {
            for entry in std::fs::read_dir(folder?.path())? {
                let entry = entry?;
                if entry.ino() == inode {
                    let name = entry.file_name();
                    let number = name.to_str().and_then(|hex| u64::from_str_radix(hex, 16).ok());
                    return Ok(number.map(BlobId));
                }
            }
        }
        Ok(None)
    }

    /// Whether there is room for new objects of so many bytes.
    pub(crate) fn room(&self, bytes: u64) -> Room {
        self.inner.room(bytes)
    }

    /// Bytes free for us.
    pub(crate) fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.inner.free_and_total()?.0)
    }
}

/// A name for a file that lives no longer than this process: never one that a store opened before in it,
/// and is perhaps about to remove, had.
fn next_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{:016x}", NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Inner {
    fn room(&self, bytes: u64) -> Room {
        match self.free_and_total() {
            Ok((free, total)) => {
                let kept = (total / 100).saturating_mul(KEPT_PERCENT).max(KEPT_BYTES_MIN);
                let kept = self.kept_bytes.unwrap_or(kept);
                if free.saturating_sub(bytes) < kept {
                    Room::Short { free_bytes: free, kept_bytes: kept }
                } else {
                    Room::Enough
                }
            }
            // A disk that can't even be asked will say so when it is written to.
            Err(_) => Room::Enough,
        }
    }

    fn free_and_total(&self) -> io::Result<(u64, u64)> {
        let stat = nix::sys::statvfs::statvfs(&self.root)?;
        let unit = stat.fragment_size();
        Ok((stat.blocks_available() * unit, stat.blocks() * unit))
    }

    fn directory_of(&self, blob: BlobId) -> PathBuf {
        self.objects.join(directory_name(blob))
    }

    fn path_of(&self, blob: BlobId) -> PathBuf {
        self.directory_of(blob).join(file_name(blob))
    }

    /// Makes sure that a blob's directory is there, and on disk.
    fn make_directory_of(&self, blob: BlobId) -> io::Result<()> {
        let number = (blob.0 >> DIRECTORY_BITS) + 1;
        if self.directory_made.load(Ordering::Acquire) == number {
            return Ok(());
        }
        match DirBuilder::new().mode(0o700).create(self.directory_of(blob)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        // Synced even if another thread has made it: it may not have come to syncing it.
        if self.durability == Durability::Fsync {
            sync_directory(&self.objects)?;
        }
        self.directory_made.store(number, Ordering::Release);
        Ok(())
    }
}

fn directory_name(blob: BlobId) -> String {
    format!("{:013x}", blob.0 >> DIRECTORY_BITS)
}

fn file_name(blob: BlobId) -> String {
    format!("{:016x}", blob.0)
}

/// Where a blob is, seen from the directory of objects.
pub(crate) fn path_below(blob: BlobId) -> String {
    format!("/{}/{}", directory_name(blob), file_name(blob))
}

fn make_directory(path: &Path) -> Result<(), FilesError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(FilesError::at("make the directory", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Tries on a file of our own what the file system can do.
fn probe(staging: &Path) -> Result<Abilities, FilesError> {
    use nix::sys::statfs::{EXT4_SUPER_MAGIC, fstatfs};
    let path = staging.join("probe");
    let try_it = || -> io::Result<Abilities> {
        fs::write(&path, b"probe")?;
        let file = File::open(&path)?;
        let xattr = sys::xattr::set(file.as_fd(), XATTR_NAME, &[XATTR_FORMAT]).is_ok();
        let sync_carries_rename = fstatfs(&file)?.filesystem_type() == EXT4_SUPER_MAGIC;
        let verity = sys::verity::seal(file.as_fd()).is_ok();
        let project = sys::project::set_project(file.as_fd(), PROBE_PROJECT).is_ok();
        fs::remove_file(&path)?;
        Ok(Abilities { verity, sync_carries_rename, xattr, project })
    };
    try_it().map_err(FilesError::at("probe", staging))
}
