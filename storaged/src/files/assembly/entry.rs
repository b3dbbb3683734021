//! What is going on with an upload in this process: who writes where, and whether it is ending.
//!
//! An entry lives as long as somebody uses it; what must outlive that is in the index.

use super::directory;
use super::part::PartBody;
use crate::files::Inner;
use crate::store::uploads::{PartFile, Place, SharedFile, UploadId};
use futures_channel::oneshot;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

/// The uploads that somebody is busy with.
#[derive(Debug, Default)]
pub(in crate::files) struct Entries(Mutex<HashMap<UploadId, Arc<Entry>>>);

#[derive(Debug)]
pub(super) struct Entry {
    id: UploadId,
    state: Mutex<EntryState>,
}

#[derive(Debug, Default)]
pub(super) struct EntryState {
    /// The file that parts share, as new ones are to use it, and whether the upload's record names it.
    pub(super) shared: Option<(SharedFile, bool)>,
    /// Who writes into a shared file, by the part's number.
    pub(super) writing: HashMap<u32, Weak<PartBody>>,
    pub(super) phase: Phase,
}

/// Where an upload is.
#[derive(Debug, Default)]
pub(super) enum Phase {
    /// It takes parts.
    #[default]
    Open,
    /// It is being completed, and these wait for the outcome.
    Completing(Vec<oneshot::Sender<()>>),
    /// It has ended: its directory goes with its last user.
    Ended,
}

/// A use of an entry.
#[derive(Debug)]
pub(super) struct Guard {
    inner: Arc<Inner>,
    entry: Option<Arc<Entry>>,
}

impl Guard {
    pub(super) fn of(inner: &Arc<Inner>, id: UploadId) -> Self {
        let mut entries = inner.entries.lock();
        let new = || Arc::new(Entry { id, state: Mutex::default() });
        let entry = Arc::clone(entries.entry(id).or_insert_with(new));
        Self { inner: Arc::clone(inner), entry: Some(entry) }
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    fn entry(&self) -> &Arc<Entry> {
        self.entry.as_ref().expect("it is there until the drop")
    }

    pub(super) fn id(&self) -> UploadId {
        self.entry().id
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, EntryState> {
        self.entry().state.lock().expect("no holder of this lock panics")
    }

    /// Another use of the same entry.
    pub(super) fn again(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), entry: self.entry.clone() }
    }

    /// Ends a part's claim. Whether its shared file is now nobody's: it goes then.
    pub(super) fn release(&self, number: u32, place: Place, kept: bool) -> bool {
        let Place::Shared { file, .. } = place else { return false };
        let mut state = self.lock();
        // A part that is being dropped can't be upgraded to any more; a successor's can.
        if state.writing.get(&number).is_some_and(|body| body.strong_count() == 0) {
            state.writing.remove(&number);
        }
        let Some((shared, recorded)) = &mut state.shared else { return false };
        if shared.file != file {
            return false;
        }
        *recorded |= kept;
        if *recorded || !state.writing.is_empty() {
            return false;
        }
        state.shared = None;
        true
    }

    /// This shared file takes no writes any more: parts to come go into another.
    pub(super) fn retire(&self, file: PartFile) {
        let mut state = self.lock();
        if let Some((shared, recorded)) = &mut state.shared
            && shared.file == file
        {
            shared.file = new_part_file();
            *recorded = false;
        }
    }

    /// Nothing is written into shared files any more, when this returns.
    pub(super) fn revoke_writers(&self) {
        let writers: Vec<_> = self.lock().writing.values().filter_map(Weak::upgrade).collect();
        // Without the entry's lock: the last owner's drop takes it.
        for writer in writers {
            writer.revoke();
        }
    }

    /// The upload has ended: nothing of it is written or recorded from here on.
    pub(super) fn end(&self) {
        self.lock().phase = Phase::Ended;
        self.revoke_writers();
    }
}

impl Entries {
    fn lock(&self) -> MutexGuard<'_, HashMap<UploadId, Arc<Entry>>> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(entry) = self.entry.take() else { return };
        let mut entries = self.inner.entries.lock();
        // Two are the map and this one: then nobody is left who could add another.
        if Arc::strong_count(&entry) > 2 {
            // Under the lock, too, or the last of two that go at once would see the other still there.
            drop(entry);
            return;
        }
        entries.remove(&entry.id);
        let ended = {
            let state = entry.state.lock().expect("no holder of this lock panics");
            matches!(state.phase, Phase::Ended)
        };
        drop(entries);
        if ended {
            let path = directory(&self.inner.uploads, entry.id);
            self.inner.pool.post(move || match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    log::warn!("could not remove {}: {error}; the next start will", path.display());
                }
                Ok(()) | Err(_) => {}
            });
        }
    }
}

/// A completion under way; dropped, it is over, one way or another.
#[derive(Debug)]
pub struct Completion {
    pub(super) guard: Guard,
}

/// What an attempt to complete finds.
#[derive(Debug)]
pub enum Begun {
    /// It is this one's.
    Mine(Completion),
    /// Another one is under way; this tells when it is over.
    Running(oneshot::Receiver<()>),
    /// It has ended.
    Ended,
}

impl Completion {
    pub(super) fn begin(inner: &Arc<Inner>, id: UploadId) -> Begun {
        let guard = Guard::of(inner, id);
        let mut state = guard.lock();
        match &mut state.phase {
            Phase::Open => {
                state.phase = Phase::Completing(Vec::new());
                drop(state);
                Begun::Mine(Self { guard })
            }
            Phase::Completing(waiters) => {
                let (waiter, receiver) = oneshot::channel();
                waiters.push(waiter);
                Begun::Running(receiver)
            }
            Phase::Ended => Begun::Ended,
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        let mut state = self.guard.lock();
        if let Phase::Completing(waiters) = &mut state.phase {
            // Dropped, they tell those who wait.
            waiters.clear();
            state.phase = Phase::Open;
        }
    }
}

/// A name for a file of an upload that no other has.
pub(super) fn new_part_file() -> PartFile {
    PartFile(uuid::Uuid::new_v4().as_u64_pair().0)
}
