//! Objects that are being read, ready to be sent: the bytes of small ones in anonymous files, from which
//! sendfile(2) passes pages on without a copy, large ones as open files, and beside them what their reader
//! made of the record.
//!
//! ```text
//!   read: mark ─▶ view ─▶ put(key, mark)        refused if the key's shard has changed since the mark
//!   commit: batch applied ─▶ forget its keys ─▶ view published ─▶ acknowledged
//! ```
//! So what is found here is what the index says: never older than the last acknowledged change. Files are
//! only appended to, since what was passed on to a socket is still read from their pages; the oldest
//! goes with all that is in it once there are too many.

use crate::files::ObjectFile;
use crate::format::Keyspace;
use crate::index::Changes;
use bytes::Bytes;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard};

/// Bytes of a file of contents: little enough that one which goes is hardly missed.
const SEGMENT_BYTES: u64 = 4 << 20;
/// The most objects of a file, whose names are remembered with it.
const SEGMENT_OBJECTS: usize = 4096;
/// Parts with a lock each, so that cores rarely meet.
const SHARDS: usize = 16;
/// Bytes at the end of an object's key that name its version.
const VERSION_BYTES: usize = 8;

/// An anonymous file of contents.
#[derive(Debug)]
pub struct Segment(File);

impl AsFd for Segment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Where the bytes of an object are.
#[derive(Debug, Clone)]
pub enum Place {
    /// In memory, in an anonymous file, from there on.
    Memory(Arc<Segment>, u64),
    /// In the object's own file, all of it.
    File(Arc<ObjectFile>),
}

/// An object that is ready to be sent.
#[derive(Debug, Clone)]
pub struct Ready {
    /// What its reader made of its record.
    pub note: Bytes,
    /// Where its bytes are.
    pub place: Place,
    /// How many there are.
    pub length: u64,
}

#[derive(Debug, Default)]
struct Shard {
    objects: HashMap<Vec<u8>, Ready>,
    /// The sequence of the last batch that changed an object of this shard.
    changed: u64,
}

#[derive(Debug)]
struct Filling {
    file: Arc<Segment>,
    used: u64,
    keys: Vec<Vec<u8>>,
}

/// All objects that are ready.
#[derive(Debug)]
pub struct Hot {
    shards: [Mutex<Shard>; SHARDS],
    segments: Mutex<VecDeque<Filling>>,
    segments_max: usize,
    /// The keys of objects with files of their own, the oldest first: each holds a descriptor.
    files: Mutex<VecDeque<Vec<u8>>>,
    files_max: usize,
}

impl Hot {
    /// Room for so many bytes in memory, and so many open files.
    #[must_use]
    pub fn new(bytes_max: usize, files_max: usize) -> Hot {
        Hot {
            shards: std::array::from_fn(|_| Mutex::default()),
            segments: Mutex::default(),
            segments_max: (bytes_max / SEGMENT_BYTES as usize).max(1),
            files: Mutex::default(),
            files_max,
        }
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        // Keys differ at their ends. The map's own hash is one that nobody can aim at; a shard need not be.
        let end = &key[key.len().saturating_sub(16)..];
        let number = end
            .iter()
            .fold(0_usize, |sum, &byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        self.shards[number % SHARDS].lock().expect("no holder of this lock panics")
    }

    /// An object by its key without a version.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Ready> {
        self.shard(key).objects.get(key).cloned()
    }

    /// Makes an object ready whose record was read from a view that was taken after the mark.
    ///
    /// # Errors
    /// When there is no memory for it; nothing is lost by that.
    pub fn put(&self, key: &[u8], mark: u64, note: Bytes, content: &[u8]) -> io::Result<()> {
        if self.shard(key).changed > mark {
            return Ok(());
        }
        let length = content.len() as u64;
        let (segment, offset) = self.append(key, content)?;
        let place = Place::Memory(segment, offset);
        self.insert(key, mark, Ready { note, place, length });
        Ok(())
    }

    /// As [`Hot::put`], of an object with a file of its own.
    pub fn put_file(&self, key: &[u8], mark: u64, note: Bytes, file: Arc<ObjectFile>) {
        let length = file.size();
        self.insert(key, mark, Ready { note, place: Place::File(file), length });
        let mut files = self.files.lock().expect("no holder of this lock panics");
        files.push_back(key.to_vec());
        let oldest = if files.len() > self.files_max { files.pop_front() } else { None };
        drop(files);
        if let Some(key) = oldest {
            self.forget_if(&key, |place| matches!(place, Place::File(_)));
        }
    }

    fn insert(&self, key: &[u8], mark: u64, ready: Ready) {
        let mut shard = self.shard(key);
        if shard.changed <= mark {
            shard.objects.insert(key.to_vec(), ready);
        }
    }

    fn forget_if(&self, key: &[u8], is_meant: impl FnOnce(&Place) -> bool) {
        let mut shard = self.shard(key);
        if shard.objects.get(key).is_some_and(|ready| is_meant(&ready.place)) {
            shard.objects.remove(key);
        }
    }

    /// Appends a content to the newest file, whatever becomes of it.
    fn append(&self, key: &[u8], content: &[u8]) -> io::Result<(Arc<Segment>, u64)> {
        let length = content.len() as u64;
        let mut segments = self.segments.lock().expect("no holder of this lock panics");
        let is_full = segments.back().is_none_or(|last| {
            last.used + length > SEGMENT_BYTES || last.keys.len() >= SEGMENT_OBJECTS
        });
        if is_full {
            let file = memfd_create(c"mobula-hot", MFdFlags::MFD_CLOEXEC)?;
            let file = Arc::new(Segment(File::from(file)));
            segments.push_back(Filling { file, used: 0, keys: Vec::new() });
            if segments.len() > self.segments_max
                && let Some(oldest) = segments.pop_front()
            {
                self.empty(&oldest);
            }
        }
        let last = segments.back_mut().expect("there is one, or one was made above");
        let offset = last.used;
        last.file.0.write_all_at(content, offset)?;
        last.used += length;
        last.keys.push(key.to_vec());
        Ok((Arc::clone(&last.file), offset))
    }

    /// Forgets what is in a file; it is closed when nothing of it is on its way any more.
    fn empty(&self, segment: &Filling) {
        let is_here = |place: &Place| match place {
            Place::Memory(file, _) => Arc::ptr_eq(file, &segment.file),
            Place::File(_) => false,
        };
        segment.keys.iter().for_each(|key| self.forget_if(key, is_here));
    }

    /// Forgets the objects that a batch has changed. Before the view with these changes is published.
    pub(crate) fn forget(&self, changes: &Changes, sequence: u64) {
        let first = vec![Keyspace::Objects.byte()];
        let objects = changes.range(first..).map(|(key, _)| key);
        for key in objects.take_while(|key| key.first() == Some(&Keyspace::Objects.byte())) {
            let path = &key[..key.len().saturating_sub(VERSION_BYTES)];
            let mut shard = self.shard(path);
            shard.changed = sequence;
            shard.objects.remove(path);
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn key(number: u8) -> Vec<u8> {
        vec![Keyspace::Objects.byte(), 0, 0, 0, 1, 1, number, 0, 0]
    }

    fn bytes(hot: &Hot, number: u8) -> Option<Vec<u8>> {
        let ready = hot.get(&key(number))?;
        let mut found = vec![0; usize::try_from(ready.length).unwrap()];
        let Place::Memory(file, offset) = ready.place else { panic!("it is in memory") };
        file.0.read_exact_at(&mut found, offset).unwrap();
        assert_eq!(ready.note, found);
        Some(found)
    }

    fn put(hot: &Hot, number: u8, mark: u64, content: &[u8]) {
        hot.put(&key(number), mark, Bytes::copy_from_slice(content), content).unwrap();
    }

    fn change(hot: &Hot, number: u8, sequence: u64) {
        let key = [key(number), vec![0; VERSION_BYTES]].concat();
        hot.forget(&Changes::from([(key, None)]), sequence);
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let hot = Hot::new(1 << 20, 8);
        put(&hot, 1, 5, b"old");
        assert_eq!(bytes(&hot, 1).unwrap(), b"old");
        change(&hot, 1, 6);
        assert_eq!(bytes(&hot, 1), None);
        put(&hot, 1, 5, b"old");
        assert_eq!(bytes(&hot, 1), None);
        put(&hot, 1, 6, b"new");
        assert_eq!(bytes(&hot, 1).unwrap(), b"new");
    }

    #[test]
    fn the_oldest_goes_when_there_is_no_room() {
        let hot = Hot::new(2 * SEGMENT_BYTES as usize, 8);
        let content = vec![7; SEGMENT_BYTES as usize / 2];
        (0..5).for_each(|number| put(&hot, number, 0, &content));
        let there: Vec<_> = (0..5).filter(|number| hot.get(&key(*number)).is_some()).collect();
        assert_eq!(there, [2, 3, 4]);
    }

    proptest! {
        #[test]
        fn it_says_what_the_index_says_or_nothing(
            acts in proptest::collection::vec((0..3_u8, 0..4_u8), 0..60)
        ) {
            // The index: each key's content is the sequence of its last change. Readers remember a view.
            let hot = Hot::new(1 << 20, 8);
            let (mut sequence, mut index) = (0_u64, [0_u64; 4]);
            let mut view = (sequence, index);
            for (act, number) in acts {
                let at = usize::from(number);
                match act {
                    0 => view = (sequence, index),
                    1 => put(&hot, number, view.0, &view.1[at].to_le_bytes()),
                    _ => {
                        sequence += 1;
                        index[at] = sequence;
                        change(&hot, number, sequence);
                    }
                }
                for number in 0..4 {
                    if let Some(found) = bytes(&hot, number) {
                        prop_assert_eq!(found, index[usize::from(number)].to_le_bytes());
                    }
                }
            }
        }
    }
}
