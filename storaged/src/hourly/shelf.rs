//! Files on one side, objects on the other.

use super::keeper::OBJECT_BYTES_MAX;
use super::slot::Slot;
use super::{HourlyError, What, io_error};
use crate::store::{AccountId, BucketRecord, Content, Made, Metadata, ObjectPath, Store};
use bytes::Bytes;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

/// Bytes that are moved into the store at once.
const COPY_BYTES: usize = 1024 * 1024;

/// A file that gathers lines.
pub(super) struct Open {
    pub(super) slot: Slot,
    pub(super) file: File,
    pub(super) bytes: u64,
    pub(super) is_synced: bool,
    /// How many of the bytes are in the hour's object.
    pub(super) shelved_bytes: u64,
}

/// Where files are, and where their objects go.
pub(super) struct Shelf {
    store: Store,
    owner: AccountId,
    directory: PathBuf,
    what: &'static What,
}

impl Shelf {
    /// The account's, which is made if it is new, and so is the bucket.
    pub(super) fn new(
        store: &Store,
        account: &str,
        directory: PathBuf,
        what: &'static What,
    ) -> Result<Shelf, HourlyError> {
        let name = account.to_owned();
        let made = store.transact_wait(move |txn| {
            let owner = txn.account(&name)?;
            let record = BucketRecord::new(owner, crate::calendar::now_ms());
            Ok(match txn.make_bucket(what.bucket, &record)? {
                Made::Existed(other) if other.owner != owner => None,
                Made::Existed(_) | Made::New => Some(owner),
            })
        })?;
        let taken = || HourlyError::Taken { bucket: what.bucket, account: account.to_owned() };
        Ok(Shelf { store: store.clone(), owner: made.ok_or_else(taken)?, directory, what })
    }

    /// The hour's file that is not full, or a new one. A full one is an object already, and its file gone.
    pub(super) fn open(&self, first: Slot) -> io::Result<Open> {
        let mut slot = first;
        loop {
            let path = self.directory.join(slot.file());
            let is_new = !path.exists();
            if is_new && self.has_object(slot)? {
                slot = slot.next();
                continue;
            }
            let mut options = OpenOptions::new();
            let file = options.read(true).append(true).create(true).mode(0o600).open(&path)?;
            let bytes = end_last_line(&file)?;
            if bytes < OBJECT_BYTES_MAX {
                return Ok(Open { slot, file, bytes, is_synced: false, shelved_bytes: 0 });
            }
            slot = slot.next();
        }
    }

    fn path(&self, slot: Slot) -> ObjectPath {
        ObjectPath::of_key(self.owner, self.what.bucket, slot.key().as_bytes())
            .expect("a key of an hour is short and not empty")
    }

    fn has_object(&self, slot: Slot) -> io::Result<bool> {
        let found = self.store.object(&self.path(slot)).map_err(io::Error::other)?;
        Ok(found.is_some())
    }

    pub(super) fn slots(&self) -> Result<Vec<Slot>, HourlyError> {
        let names = fs::read_dir(&self.directory)
            .and_then(|entries| {
                entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()
            })
            .map_err(io_error("list", &self.directory))?;
        let mut slots: Vec<_> = names.iter().filter_map(|n| Slot::of_file(n.to_str()?)).collect();
        slots.sort_unstable();
        Ok(slots)
    }

    pub(super) fn remove(&self, slot: Slot) -> Result<(), HourlyError> {
        let path = self.directory.join(slot.file());
        fs::remove_file(&path).map_err(io_error("remove", &path))
    }

    /// Makes a file's lines an object.
    pub(super) fn put(&self, slot: Slot) -> Result<(), HourlyError> {
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

/// Ends a line that a power cut has torn, so that the next one stands by itself; the file's length.
fn end_last_line(mut file: &File) -> io::Result<u64> {
    let bytes = file.metadata()?.len();
    let mut last = [b'\n'];
    if bytes > 0 {
        file.read_exact_at(&mut last, bytes - 1)?;
    }
    if last == [b'\n'] {
        return Ok(bytes);
    }
    file.write_all(b"\n")?;
    Ok(bytes + 1)
}
