//! The access log: a line of JSON a request, an object an hour, in a bucket of an account of its own.
//!
//! ```text
//!   ring threads ─▶ lines (bounded, dropped and counted if full) ─▶ keeper thread
//!                   ─▶ access-log/<hour>.jsonl in the store's directory, synced every few seconds
//!                   ─▶ at the end of the hour, or at the daemon's: the object <bucket>/yyyy/mm/dd/hh.jsonl
//! ```
//! A crash of the process loses what the ring threads had gathered, a second's lines; a power cut loses
//! what was written since the last sync. What a start finds of earlier hours becomes their objects.

mod slot;

use crate::front::lines::Lines;
use crate::store::{
    AccountId, BucketRecord, Content, Made, Metadata, ObjectPath, SealError, StageError, Store,
    TransactError, TxnError,
};
use bytes::Bytes;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use slot::Slot;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use thiserror::Error;

/// The bucket of the log. Names of buckets are everybody's: nobody else may have it.
pub const BUCKET: &str = "mobula-access-log";
/// Where lines are gathered, in the store's directory.
const DIRECTORY: &str = "access-log";
/// Pieces that may wait for the keeper: with 64 KiB each, 16 MiB, some hundred thousand lines.
const PIECES_MAX: usize = 256;
/// What a power cut may lose of the log.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);
/// Bytes of one object; a busier hour has several.
const OBJECT_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Bytes that are moved into the store at once.
const COPY_BYTES: usize = 1024 * 1024;

/// Why there is no access log.
#[derive(Debug, Error)]
pub enum AccessLogError {
    /// The directory can't be used.
    #[error("can't {doing} {}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Somebody has a bucket of that name.
    #[error("the bucket {BUCKET} is not account {account}'s: name its owner's with --access-log")]
    Taken {
        /// Whose it should be.
        account: String,
    },
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] TransactError<TxnError>),
    /// An object could not be begun or written.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// An object could not be finished.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// There is no thread for it.
    #[error("can't start the keeper's thread")]
    Thread(#[source] io::Error),
}

/// The running log. Dropping it, after every sender of lines, writes what is left.
pub struct AccessLog {
    lines: Option<Sender<Vec<u8>>>,
    dropped: Arc<AtomicU64>,
    keeper: Option<JoinHandle<()>>,
}

impl AccessLog {
    /// Starts keeping lines: in `data`, the store's directory, and as objects of this account, which is
    /// made if it is new, and so is the bucket.
    ///
    /// # Errors
    /// When the account can't have the bucket, or the directory can't be used.
    pub fn start(store: &Store, data: &Path, account: &str) -> Result<AccessLog, AccessLogError> {
        let owner = own_bucket(store, account)?;
        let directory = data.join(DIRECTORY);
        let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(&directory);
        made.map_err(io_error("make", &directory))?;
        let (sender, receiver) = bounded(PIECES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let shelf = Shelf { store: store.clone(), owner, directory };
        let keeper = Keeper {
            shelf,
            open: None,
            dropped: Arc::clone(&dropped),
            sync_at: Instant::now() + SYNC_INTERVAL,
        };
        let keeper = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || keeper.run(&receiver))
            .map_err(AccessLogError::Thread)?;
        Ok(AccessLog { lines: Some(sender), dropped, keeper: Some(keeper) })
    }

    /// Where lines go, for the front.
    #[must_use]
    pub fn lines(&self) -> Option<Lines> {
        let pieces = self.lines.clone()?;
        Some(Lines { pieces, dropped: Arc::clone(&self.dropped) })
    }

    /// Lines that were lost because nobody had time or room for them.
    #[must_use]
    pub fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.lines = None;
        if self.keeper.take().is_some_and(|keeper| keeper.join().is_err()) {
            log::error!("the access log's thread panicked");
        }
    }
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AccessLogError {
    let path = path.to_owned();
    move |source| AccessLogError::Io { doing, path, source }
}

fn own_bucket(store: &Store, account: &str) -> Result<AccountId, AccessLogError> {
    let name = account.to_owned();
    let made = store.transact_wait(move |txn| {
        let owner = txn.account(&name)?;
        let record = BucketRecord::new(owner, crate::calendar::now_ms());
        Ok(match txn.make_bucket(BUCKET, &record)? {
            Made::Existed(other) if other.owner != owner => None,
            Made::Existed(_) | Made::New => Some(owner),
        })
    })?;
    made.ok_or_else(|| AccessLogError::Taken { account: account.to_owned() })
}

/// A file that gathers lines.
struct Open {
    slot: Slot,
    file: File,
    bytes: u64,
    is_synced: bool,
}

/// The one who writes.
struct Keeper {
    shelf: Shelf,
    open: Option<Open>,
    dropped: Arc<AtomicU64>,
    sync_at: Instant,
}

impl Keeper {
    fn run(mut self, lines: &Receiver<Vec<u8>>) {
        self.shelve_before(Slot::at(now()));
        loop {
            let wait = self.sync_at.saturating_duration_since(Instant::now());
            match lines.recv_timeout(wait) {
                Ok(piece) => self.keep(&piece),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.sync_at <= Instant::now() {
                self.sync_at = Instant::now() + SYNC_INTERVAL;
                self.sync();
                self.turn();
            }
        }
        self.sync();
        // The hour may go on after a restart: its file stays, and the object is replaced then.
        if let Some(open) = self.open.take()
            && let Err(e) = self.shelf.put(open.slot)
        {
            log::warn!("the access log is kept in a file: {}", crate::s3::chain(&e));
        }
    }

    /// Ends the file of an hour that is over, or of one that is full.
    fn turn(&mut self) {
        let now = Slot::at(now());
        let over = |open: &Open| open.slot.hour != now.hour || open.bytes >= OBJECT_BYTES_MAX;
        if let Some(open) = self.open.take_if(|open| over(open)) {
            drop(open.file);
            self.shelve_before(if open.slot.hour == now.hour { open.slot.next() } else { now });
        }
    }

    fn keep(&mut self, piece: &[u8]) {
        self.turn();
        let written = match &mut self.open {
            Some(open) => Ok(open),
            None => self.shelf.open(Slot::at(now())).map(|open| self.open.insert(open)),
        }
        .and_then(|open| {
            open.is_synced = false;
            open.bytes += piece.len() as u64;
            open.file.write_all(piece)
        });
        if let Err(e) = written {
            let lines = piece.iter().filter(|&&byte| byte == b'\n').count();
            self.dropped.fetch_add(lines as u64, Ordering::Relaxed);
            log::warn!("can't write the access log, {lines} lines are lost: {e}");
        }
    }

    fn sync(&mut self) {
        let Some(open) = self.open.as_mut().filter(|open| !open.is_synced) else { return };
        match open.file.sync_data() {
            Ok(()) => open.is_synced = true,
            Err(e) => {
                // What was written may be lost, and another sync would not tell: on with a new file.
                log::error!("can't sync the access log: {e}");
                self.open = None;
            }
        }
    }

    /// Makes objects of the files before this slot.
    fn shelve_before(&self, slot: Slot) {
        let slots = self.shelf.slots().unwrap_or_else(|e| {
            log::warn!("{}", crate::s3::chain(&e));
            Vec::new()
        });
        for old in slots.into_iter().filter(|old| *old < slot) {
            let shelved = self.shelf.put(old).and_then(|()| self.shelf.remove(old));
            if let Err(e) = shelved {
                // It is tried again when the next hour is over.
                log::warn!("an hour of the access log stays a file: {}", crate::s3::chain(&e));
            }
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Files on one side, objects on the other.
struct Shelf {
    store: Store,
    owner: AccountId,
    directory: PathBuf,
}

impl Shelf {
    /// The hour's file that is not full, or a new one. A full one is an object already, and its file gone.
    fn open(&self, first: Slot) -> io::Result<Open> {
        let mut slot = first;
        loop {
            let path = self.directory.join(slot.file());
            let is_new = !path.exists();
            if is_new && self.has_object(slot)? {
                slot = slot.next();
                continue;
            }
            let mut options = OpenOptions::new();
            let file = options.append(true).create(true).mode(0o600).open(&path)?;
            let bytes = file.metadata()?.len();
            if bytes < OBJECT_BYTES_MAX {
                return Ok(Open { slot, file, bytes, is_synced: false });
            }
            slot = slot.next();
        }
    }

    fn path(&self, slot: Slot) -> ObjectPath {
        ObjectPath::of_key(self.owner, BUCKET, slot.key().as_bytes())
            .expect("a key of an hour is short and not empty")
    }

    fn has_object(&self, slot: Slot) -> io::Result<bool> {
        let found = self.store.object(&self.path(slot)).map_err(io::Error::other)?;
        Ok(found.is_some())
    }

    fn slots(&self) -> Result<Vec<Slot>, AccessLogError> {
        let names = fs::read_dir(&self.directory)
            .and_then(|entries| {
                entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()
            })
            .map_err(io_error("list", &self.directory))?;
        let mut slots: Vec<_> = names.iter().filter_map(|n| Slot::of_file(n.to_str()?)).collect();
        slots.sort_unstable();
        Ok(slots)
    }

    fn remove(&self, slot: Slot) -> Result<(), AccessLogError> {
        let path = self.directory.join(slot.file());
        fs::remove_file(&path).map_err(io_error("remove", &path))
    }

    /// Makes a file's lines an object.
    fn put(&self, slot: Slot) -> Result<(), AccessLogError> {
        let path = self.directory.join(slot.file());
        let mut file = File::open(&path).map_err(io_error("open", &path))?;
        let length = file.metadata().map_err(io_error("measure", &path))?.len();
        if length == 0 {
            return Ok(());
        }
        let mut staging = self.store.wait(self.store.stage(None, None))?;
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let read = file.read(&mut buffer).map_err(io_error("read", &path))?;
            if read == 0 {
                break;
            }
            self.store.wait(staging.write(Bytes::copy_from_slice(&buffer[..read])))?;
        }
        let sealed = self.store.wait(self.store.seal(staging))?;
        let meta = Metadata {
            etag: sealed.md5().into(),
            modified_ms: crate::calendar::now_ms(),
            content_type: Some("application/x-ndjson".to_owned()),
            ..Metadata::default()
        };
        let object = self.path(slot);
        self.store.transact_wait(move |txn| {
            txn.put_object(&object, Content::Blob(sealed), meta).map(drop)
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod test;
