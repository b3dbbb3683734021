//! The keeper: a thread that makes a snapshot when the journal has grown, and lets the journal before it go.

use super::{SnapshotError, UNFINISHED, covered, list, read, write};
use crate::committer::{Committer, Latch};
use crate::format::SnapshotHeader;
use crate::journal::Disk;
use crate::store::Room;
use crate::store::errno::{Doing, Verdict, verdict};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// After a snapshot that failed, how long until the next try: what failed rarely mends itself at once.
const RETRY: Duration = Duration::from_secs(600);

/// The nice value of the thread: it takes what requests leave, and next to nothing of a processor that they keep busy
/// (setpriority(2), docs/benchmarks.md). Until a snapshot is whole the journal stays, which costs room alone.
const NICE: u8 = 19;

/// Where snapshots come from and go to.
pub(crate) struct Surroundings {
    pub(crate) store: Uuid,
    pub(crate) committer: Arc<Committer>,
    pub(crate) journal: Box<dyn Disk>,
    pub(crate) snapshots: Box<dyn Disk>,
    pub(crate) room: Box<dyn Fn() -> Room + Send>,
    pub(crate) latch: Arc<Latch>,
    /// Bytes of journal after which a snapshot is made.
    pub(crate) journal_bytes: u64,
}

/// The snapshots of a store, and the segments that they cover.
pub(crate) struct Snapshots {
    around: Surroundings,
    /// The newest one that was read back, if any was.
    verified: Option<u64>,
    /// Set when the store ends: a snapshot can wait, whoever ends it can't.
    ending: Arc<AtomicBool>,
}

/// What a look at the disk shows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    /// Names, in order, and bytes of the journal's segments.
    segments: Vec<(u64, u64)>,
    /// The newest snapshot's sequence and bytes.
    newest: Option<(u64, u64)>,
}

/// Whether it is time for a snapshot.
fn due(seen: &Seen, committed: u64, journal_bytes: u64) -> bool {
    let (sequence, bytes) = seen.newest.unwrap_or((0, 0));
    let names: Vec<u64> = seen.segments.iter().map(|(name, _)| *name).collect();
    let old = covered(&names, sequence).len();
    let journal: u64 = seen.segments[old..].iter().map(|(_, bytes)| bytes).sum();
    committed > sequence && journal >= journal_bytes.max(bytes)
}

impl Snapshots {
    pub(crate) fn new(around: Surroundings, ending: Arc<AtomicBool>) -> Self {
        Self { around, verified: None, ending }
    }

    /// Makes a snapshot if it is time, and drops what a verified one covers.
    pub(crate) fn look(&mut self) -> Result<(), SnapshotError> {
        let committed = self.around.committer.sequence();
        let seen = self.see().map_err(|error| self.failed("look for", Doing::Read, error))?;
        if due(&seen, committed, self.around.journal_bytes) {
            return self.make();
        }
        let names: Vec<u64> = seen.segments.iter().map(|(name, _)| *name).collect();
        match seen.newest {
            // Left over from before a crash, or the index was not far enough.
            Some((newest, _)) if !covered(&names, newest).is_empty() => self.settle(newest),
            Some(_) | None => Ok(()),
        }
    }

    /// Makes a snapshot now, and drops what it covers.
    pub(crate) fn make(&mut self) -> Result<(), SnapshotError> {
        let (view, sequence) = self.around.committer.view_at();
        let header = SnapshotHeader { store: self.around.store, sequence };
        let there = list(&mut *self.around.snapshots);
        let there = there.map_err(|error| self.failed("look for", Doing::Read, error))?;
        if there.last() != Some(&sequence) {
            let (room, latch) = (&self.around.room, &self.around.latch);
            let ending = &self.ending;
            let go_on = || match room() {
                _ if latch.closed().is_some() || is_set(ending) => Err(SnapshotError::Ending),
                Room::Short { .. } => Err(SnapshotError::Full),
                Room::Enough => Ok(()),
            };
            let written = write(&mut *self.around.snapshots, &*view, &header, &go_on);
            drop(view);
            let installed = written.and_then(|()| self.install(sequence));
            if let Err(error) = installed {
                return Err(self.undo(error));
            }
        }
        self.settle(sequence)
    }

    fn install(&mut self, sequence: u64) -> Result<(), SnapshotError> {
        // Not before the journal is on disk that far, which a store without durability puts off; and what
        // the snapshot covers goes only when the index need not replay it either.
        if self.around.committer.persist() < sequence {
            return Err(SnapshotError::Ending);
        }
        let disk = &mut self.around.snapshots;
        let renamed = disk.rename(UNFINISHED, sequence);
        renamed.map_err(|source| SnapshotError::Io { doing: "name", source })?;
        let synced = disk.sync_names();
        synced.map_err(|source| SnapshotError::Io { doing: "sync the name of", source })
    }

    /// Takes back what is unfinished; the error with what it means for the store.
    fn undo(&mut self, error: SnapshotError) -> SnapshotError {
        let error = match error {
            SnapshotError::Io { doing, source } => {
                let what = if doing.starts_with("sync") { Doing::Sync } else { Doing::Write };
                self.failed(doing, what, source)
            }
            error => error,
        };
        match self.around.snapshots.remove(UNFINISHED) {
            Err(left) if left.kind() != io::ErrorKind::NotFound => {
                log::warn!("could not remove an unfinished snapshot: {left}; the next one will");
            }
            Ok(()) | Err(_) => {}
        }
        error
    }

    /// Reads the newest snapshot back, and then drops what it makes superfluous.
    fn settle(&mut self, newest: u64) -> Result<(), SnapshotError> {
        let header = SnapshotHeader { store: self.around.store, sequence: newest };
        if self.verified != Some(newest) {
            let ending = Arc::clone(&self.ending);
            let entries = read(&mut *self.around.snapshots, header, &mut |_| {
                if is_set(&ending) { Err(SnapshotError::Ending) } else { Ok(()) }
            })?;
            self.verified = Some(newest);
            log::info!("snapshot {newest:016x}: {entries} entries, read back");
        }
        let upto = newest.min(self.around.committer.persisted());
        let dropped = self.drop_covered(newest, upto);
        let dropped =
            dropped.map_err(|error| self.failed("drop what is covered by", Doing::Write, error))?;
        if dropped > 0 {
            log::info!("dropped {dropped} segments of the journal up to sequence {upto}");
        }
        Ok(())
    }

    fn drop_covered(&mut self, newest: u64, upto: u64) -> io::Result<usize> {
        let around = &mut self.around;
        let mut older = list(&mut *around.snapshots)?;
        older.retain(|&name| name < newest);
        for &name in &older {
            around.snapshots.remove(name)?;
        }
        let mut segments = around.journal.list()?;
        segments.sort_unstable();
        let gone = covered(&segments, upto);
        for &name in gone {
            around.journal.remove(name)?;
        }
        Ok(gone.len())
    }

    fn see(&mut self) -> io::Result<Seen> {
        let mut names = self.around.journal.list()?;
        names.sort_unstable();
        let mut segments = Vec::with_capacity(names.len());
        for name in names {
            segments.push((name, self.around.journal.open(name)?.length()?));
        }
        let newest = match list(&mut *self.around.snapshots)?.last() {
            Some(&name) => Some((name, self.around.snapshots.open(name)?.length()?)),
            None => None,
        };
        Ok(Seen { segments, newest })
    }

    fn failed(&self, doing: &'static str, what: Doing, source: io::Error) -> SnapshotError {
        match verdict(what, &source) {
            Verdict::Full => SnapshotError::Full,
            Verdict::Latch => {
                self.around.latch.close(format!("could not {doing} a snapshot: {source}"));
                SnapshotError::Io { doing, source }
            }
            Verdict::Busy | Verdict::Missing | Verdict::Refuse => {
                SnapshotError::Io { doing, source }
            }
        }
    }
}

fn is_set(ending: &AtomicBool) -> bool {
    ending.load(Ordering::Relaxed)
}

enum Message {
    Look,
    Make(Sender<Result<(), SnapshotError>>),
    Stop,
}

/// The thread's handle: it looks when it starts, and whenever the journal begins a segment.
pub(crate) struct Keeper {
    queue: Sender<Message>,
    messages: Receiver<Message>,
    ending: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    pub(crate) fn new() -> Self {
        // One look waiting is as good as many.
        let (queue, messages) = bounded(1);
        let ending = Arc::new(AtomicBool::new(false));
        Self { queue, messages, ending, thread: Mutex::new(None) }
    }

    /// What has it look.
    pub(crate) fn bell(&self) -> impl Fn() + Send + use<> {
        let queue = self.queue.clone();
        move || match queue.try_send(Message::Look) {
            // It rings already, or nobody is there to hear it.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    pub(crate) fn start(&self, around: Surroundings) -> io::Result<()> {
        let messages = self.messages.clone();
        self.bell()();
        let snapshots = Snapshots::new(around, Arc::clone(&self.ending));
        let thread = std::thread::Builder::new()
            .name("snapshots".into())
            .spawn(move || run(snapshots, &messages))?;
        *self.thread.lock().expect("no holder of this lock panics") = Some(thread);
        Ok(())
    }

    /// Makes a snapshot now and waits for it.
    pub(crate) fn make(&self) -> Result<(), SnapshotError> {
        if self.thread.lock().expect("no holder of this lock panics").is_none() {
            return Err(SnapshotError::Ending);
        }
        let (reply, answer) = bounded(1);
        let sent = self.queue.send(Message::Make(reply));
        sent.map_err(|_| SnapshotError::Ending)?;
        answer.recv().unwrap_or(Err(SnapshotError::Ending))
    }

    /// Ends the thread; a snapshot that it is at stays unfinished.
    pub(crate) fn stop(&self) {
        self.ending.store(true, Ordering::Relaxed);
        let thread = self.thread.lock().expect("no holder of this lock panics").take();
        if let Some(thread) = thread {
            // Fails if the thread is gone already, which is what is wanted.
            drop(self.queue.send(Message::Stop));
            if thread.join().is_err() {
                log::error!("the snapshots' thread panicked");
            }
        }
    }
}

fn run(mut snapshots: Snapshots, messages: &Receiver<Message>) {
    if let Err(error) = sys::priority::lower_this_thread(NICE) {
        log::warn!("snapshots have the priority of requests: {error}");
    }
    let mut not_before = None;
    loop {
        let message = match not_before {
            Some(time) => messages.recv_deadline(time),
            None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let result = match message {
            Ok(Message::Make(reply)) => {
                // Whoever asked may have gone away.
                drop(reply.send(snapshots.make()));
                continue;
            }
            // A failure is not repeated with every segment.
            Ok(Message::Look) if not_before.is_some() => continue,
            Ok(Message::Look) | Err(RecvTimeoutError::Timeout) => snapshots.look(),
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
        };
        not_before = result.err().map(|error| {
            if matches!(error, SnapshotError::Ending) {
                return Instant::now() + RETRY;
            }
            let error = crate::s3::chain(&error);
            log::warn!("no snapshot was made, and the whole journal is kept: {error}");
            Instant::now() + RETRY
        });
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn seen(segments: &[(u64, u64)], newest: Option<(u64, u64)>) -> Seen {
        Seen { segments: segments.to_vec(), newest }
    }

    #[test]
    fn a_snapshot_is_due_when_the_journal_after_the_last_one_is_long_enough() {
        let segments = [(1, 60), (10, 60), (20, 10)];
        assert!(due(&seen(&segments, None), 25, 100));
        assert!(!due(&seen(&segments, None), 25, 200));
        // The first two are covered by one at 19, the first one by one at 18.
        assert!(!due(&seen(&segments, Some((19, 5))), 25, 60));
        assert!(due(&seen(&segments, Some((18, 5))), 25, 60));
        assert!(
            !due(&seen(&segments, Some((18, 500))), 25, 60),
            "it would be larger than the journal"
        );
        assert!(!due(&seen(&segments, Some((25, 5))), 25, 1), "there is nothing new");
    }

    proptest! {
        #[test]
        fn covered_segments_end_before_what_is_not_covered(
            starts in proptest::collection::btree_set(1_u64..50, 0..8), sequence in 0_u64..60
        ) {
            let segments: Vec<u64> = starts.into_iter().collect();
            let gone = covered(&segments, sequence);
            for (at, _) in segments.iter().enumerate() {
                let whole = segments.get(at + 1).is_some_and(|&next| next - 1 <= sequence);
                prop_assert_eq!(at < gone.len(), whole);
            }
        }
    }
}
