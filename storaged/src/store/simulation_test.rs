//! The whole store on a machine that crashes: journal, snapshots, a real redb and the files of objects, each
//! on a simulated disk, one power for all of them.
//!
//! What acknowledges is the real committer, ids, snapshots and recovery; the files are written, moved in,
//! removed and swept by the same rules as in [`crate::files`], operation by operation. A run puts, replaces
//! and deletes objects small and large, takes snapshots and persists the index by a seed's choice; a fault
//! comes at a chosen operation, then the power goes. What a start finds must be what was acknowledged.

use super::recover::{Ground, IndexPlace, recover};
use super::{
    AccountId, Area, BlobId, BlobRecord, BlobState, Content, ContentRef, Deleter, Digest,
    Durability, Metadata, ObjectPath, Room, ViewExt,
};
use crate::check::Report;
use crate::check::records;
use crate::committer::{Committer, Latch, Surroundings, TransactError};
use crate::files::{BlobIds, FLOOR, is_left};
use crate::format::{Keyspace, blob_key, blob_of_key, state_key, to_unlink_key};
use crate::index::{Index, IndexError, RedbIndex};
use crate::journal::simulation::{Dice, Fault, SimulatedDisk};
use crate::journal::{Disk, SegmentFile};
use crate::snapshot::{self, Snapshots};
use crate::store::TxnError;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use uuid::Uuid;

const STORE: Uuid = Uuid::from_u128(77);
const KEYS: u64 = 5;
const STEPS: u64 = 14;
/// Names of the index's file and of one being made.
const INDEX: u64 = 0;
const NEW_INDEX: u64 = 1;

/// A machine's disks.
#[derive(Clone)]
struct Machine {
    journal: SimulatedDisk,
    snapshots: SimulatedDisk,
    index: SimulatedDisk,
    objects: SimulatedDisk,
}

impl Machine {
    fn new() -> Self {
        let journal = SimulatedDisk::default();
        let [snapshots, index, objects] = [(); 3].map(|()| journal.beside());
        Self { journal, snapshots, index, objects }
    }

    fn after_crash(&self, dice: &mut Dice) -> Self {
        let journal = self.journal.after_crash(dice);
        let mut other = |disk: &SimulatedDisk| disk.after_crash_beside(dice, &journal);
        let (snapshots, index) = (other(&self.snapshots), other(&self.index));
        let objects = other(&self.objects);
        Self { journal, snapshots, index, objects }
    }
}

/// A simulated file as redb wants one.
struct Backend(Mutex<Box<dyn SegmentFile>>);

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Backend")
    }
}

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.lock().unwrap().length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let count = self.0.lock().unwrap().read_at(out, offset)?;
        if count == out.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().truncate(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.lock().unwrap().sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap().write_at(data, offset)
    }
}

impl IndexPlace for SimulatedDisk {
    fn open(&mut self) -> Result<Option<Box<dyn Index>>, IndexError> {
        match Disk::open(self, INDEX) {
            Ok(file) => Ok(Some(Box::new(RedbIndex::on(Backend(Mutex::new(file)))?))),
            Err(_) => Ok(None),
        }
    }

    fn begin(&mut self) -> Result<Box<dyn Index>, IndexError> {
        let failed = |source| IndexError::Engine { doing: "begin", source: Box::new(source) };
        remove_any(self, NEW_INDEX).map_err(failed)?;
        let file = self.create(NEW_INDEX).map_err(failed)?;
        Ok(Box::new(RedbIndex::on(Backend(Mutex::new(file)))?))
    }

    fn install(&mut self) -> io::Result<()> {
        // A rename over another file is more than this disk can; a crash in between leaves none.
        remove_any(self, INDEX)?;
        self.rename(NEW_INDEX, INDEX)?;
        self.sync_names()
    }
}

fn remove_any(disk: &mut SimulatedDisk, name: u64) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What an object holds: the number of the step that put it, and bytes.
type Held = Option<(u64, usize)>;

fn content(step: u64, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at as u64 * 31 + step) as u8).collect()
}

fn path(key: u64) -> ObjectPath {
    ObjectPath::new(AccountId(1), Area::Stor, format!("b/{key}").as_bytes()).unwrap()
}

/// A store that runs.
struct Rig {
    machine: Machine,
    committer: Arc<Committer>,
    ids: BlobIds,
    snapshots: Snapshots,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.committer.shutdown();
    }
}

#[derive(Debug)]
enum Failed {
    /// Nothing of it happened.
    Refused,
    /// It may have happened, and nothing more will.
    Unknown,
}

impl From<io::Error> for Failed {
    fn from(_: io::Error) -> Self {
        Self::Refused
    }
}

impl<E> From<TransactError<E>> for Failed {
    fn from(error: TransactError<E>) -> Self {
        match error {
            TransactError::ReadOnly(_) | TransactError::ShutDown => Self::Unknown,
            _ => Self::Refused,
        }
    }
}

impl Rig {
    fn open(machine: &Machine) -> Result<Self, super::OpenError> {
        let Machine { journal, snapshots, index, objects: _ } = machine;
        let ground = Ground {
            store: STORE,
            durability: Durability::Fsync,
            journal: Box::new(journal.clone()),
            snapshots: &mut snapshots.clone(),
            place: &mut index.clone(),
        };
        let (index, mut journal_file) = recover(ground, false)?;
        journal_file.set_segment_bytes(2000);
        let latch = Arc::new(Latch::default());
        let surroundings = Surroundings {
            room: Box::new(|| Room::Enough),
            unlink: Box::new(|| ()),
            changed: Box::new(|_, _| ()),
            segment: Box::new(|| ()),
            latch: Arc::clone(&latch),
        };
        let committer = Arc::new(Committer::start(index, journal_file, surroundings)?);
        let around = snapshot::Surroundings {
            store: STORE,
            committer: Arc::clone(&committer),
            journal: Box::new(journal.clone()),
            snapshots: Box::new(snapshots.clone()),
            room: Box::new(|| Room::Enough),
            latch,
            journal_bytes: u64::MAX,
        };
        let snapshots = Snapshots::new(around, Arc::new(AtomicBool::new(false)));
        let rig = Self { machine: machine.clone(), committer, ids: BlobIds::default(), snapshots };
        Ok(rig)
    }

    fn transact<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut super::Txn<'_>) -> Result<T, TxnError> + Send + 'static,
    ) -> Result<T, TransactError<TxnError>> {
        crate::committer::wait(self.committer.transact(work))
    }

    /// Removes files without a record, as a start does.
    fn sweep(&mut self) -> Result<(), Failed> {
        let view = self.committer.view();
        let floor = view.get_value(&state_key(FLOOR)).unwrap().unwrap_or(0_u64);
        for name in self.machine.objects.list()? {
            if is_left(&*view, floor, BlobId(name)).unwrap() {
                self.machine.objects.remove(name)?;
            }
        }
        Ok(())
    }

    fn put(&mut self, key: u64, step: u64, bytes: usize) -> Result<(), Failed> {
        let path = path(key);
        let bytes_there = content(step, bytes);
        let md5: [u8; 16] = <md5::Md5 as md5::Digest>::digest(&bytes_there).into();
        let meta = Metadata { etag: md5.into(), ..Metadata::default() };
        if bytes < 100 {
            let content = Content::Inline(bytes_there.into());
            return Ok(self.transact(move |txn| txn.put_object(&path, content, meta)).map(drop)?);
        }
        let blob = match self.ids.take() {
            Some(blob) => blob,
            None => {
                let block = self.transact(self.ids.reserve())?;
                self.ids.add(block);
                self.ids.take().expect("a block was just added")
            }
        };
        // Staged, moved in, synced; its record comes after that.
        let mut file = self.machine.objects.create(blob.0)?;
        file.write_at(&bytes_there, 0)?;
        file.sync()?;
        self.machine.objects.sync_names()?;
        let size = bytes as u64;
        let put = self.transact(move |txn| {
            let state = BlobState::Sealed(Digest([0; 32]));
            txn.put_value(blob_key(blob), &BlobRecord { size, references: 0, state });
            txn.put_shared(&path, ContentRef::Blob(blob), size, meta)
        });
        match put.map_err(Failed::from) {
            Ok(_) => self.ids.settle(blob),
            Err(Failed::Refused) => {
                self.machine.objects.remove(blob.0)?;
                self.ids.settle(blob);
                return Err(Failed::Refused);
            }
            Err(Failed::Unknown) => return Err(Failed::Unknown),
        }
        Ok(())
    }

    fn delete(&self, key: u64) -> Result<(), Failed> {
        let path = path(key);
        let deleted = self.transact(move |txn| txn.delete_object(&path, None, Deleter::plain(0)));
        Ok(deleted.map(drop)?)
    }

    /// Unlinks what lost its last record, and then forgets it.
    fn reap(&mut self) -> Result<(), Failed> {
        let doomed = self.blobs(Keyspace::ToUnlink);
        if doomed.is_empty() {
            return Ok(());
        }
        for &blob in &doomed {
            remove_any(&mut self.machine.objects, blob)?;
        }
        self.machine.objects.sync_names()?;
        Ok(self.transact(move |txn| {
            doomed.into_iter().for_each(|blob| txn.delete(to_unlink_key(BlobId(blob))));
            Ok(())
        })?)
    }

    fn blobs(&self, keyspace: Keyspace) -> BTreeSet<u64> {
        let mut blobs = BTreeSet::new();
        let view = self.committer.view();
        view.within(&[keyspace.byte()], &mut |key, _| {
            blobs.insert(blob_of_key(key).unwrap().0);
            ControlFlow::Continue(())
        })
        .unwrap();
        blobs
    }

    /// What an object holds; a file that is not whole is a failure of the test.
    fn held(&self, key: u64, what: &str) -> Option<Vec<u8>> {
        let record = super::object(&*self.committer.view(), &path(key)).unwrap()?;
        let bytes = match record.content {
            ContentRef::Inline(bytes) => bytes.to_vec(),
            ContentRef::Blob(blob) => {
                let file = Disk::open(&mut self.machine.objects.clone(), blob.0);
                let file = file.unwrap_or_else(|error| panic!("{what}: blob {}: {error}", blob.0));
                { file }.read().unwrap()
            }
        };
        assert_eq!(bytes.len() as u64, record.size, "{what}: key {key}");
        Some(bytes)
    }
}

/// What was acknowledged, and the one operation that may have happened besides.
#[derive(Debug, Clone, Default)]
struct Promise {
    held: BTreeMap<u64, Held>,
    in_flight: Option<(u64, Held)>,
}

/// Runs steps until the last or until nothing goes any more.
fn run(rig: &mut Rig, promise: &mut Promise, steps: std::ops::Range<u64>, dice: &mut Dice) {
    for step in steps {
        let key = dice.below(KEYS);
        let held = match dice.below(5) {
            0 => None,
            1 | 2 => Some((step, 10 + dice.below(80) as usize)),
            _ => Some((step, 1000 + dice.below(3000) as usize)),
        };
        let extra = dice.below(8);
        let done = match held {
            None => rig.delete(key),
            Some((step, bytes)) => rig.put(key, step, bytes),
        };
        match done {
            Ok(()) => drop(promise.held.insert(key, held)),
            Err(Failed::Refused) => {}
            Err(Failed::Unknown) => {
                promise.in_flight = Some((key, held));
                return;
            }
        }
        let more = match extra {
            0 => rig.snapshots.make().map_err(|_| Failed::Refused),
            1 | 2 => {
                rig.committer.persist();
                Ok(())
            }
            3..6 => rig.reap(),
            _ => Ok(()),
        };
        if matches!(more, Err(Failed::Unknown)) {
            return;
        }
    }
}

/// Opens what was left, and holds it against what was promised; then settled, nothing is left over.
fn verify(machine: &Machine, promise: &Promise, what: &str) -> Rig {
    let mut rig = match Rig::open(machine) {
        Ok(rig) => rig,
        Err(error) => panic!("{what}: does not open: {}", crate::s3::chain(&error)),
    };
    for key in 0..KEYS {
        let found = rig.held(key, what);
        let is = |held: &Held| found == held.map(|(step, bytes)| content(step, bytes));
        let promised = promise.held.get(&key).copied().flatten();
        let or = promise.in_flight.filter(|(other, _)| *other == key).map(|(_, held)| held);
        let bytes = found.as_ref().map(Vec::len);
        assert!(is(&promised) || or.is_some_and(|held| is(&held)), "{what}: key {key}: {bytes:?}");
    }
    rig.sweep().unwrap();
    rig.reap().unwrap();
    let files: BTreeSet<u64> = rig.machine.objects.list().unwrap().into_iter().collect();
    assert_eq!(files, rig.blobs(Keyspace::Blobs), "{what}: files and records");
    let mut report = Report::new(STORE, 0);
    let view = rig.committer.view();
    let sums = records::check(&*view, &mut report).unwrap();
    records::compare(&*view, &sums, &mut report).unwrap();
    assert!(report.is_sound(), "{what}: {report}");
    rig
}

/// One run with a fault at operation `at`, and what becomes of it over two crashes.
fn play(seed: u64, at: u64, fault: Fault) {
    let what = format!("{fault:?}, seed {seed}, operation {at}");
    let machine = Machine::new();
    machine.journal.plan(at, fault);
    let mut promise = Promise::default();
    if let Ok(mut rig) = Rig::open(&machine) {
        run(&mut rig, &mut promise, 0..STEPS, &mut Dice(seed));
    }
    let mut dice = Dice(seed ^ (at << 20) ^ 0x5eed);
    let mut machine = machine.after_crash(&mut dice);
    if dice.below(4) == 0 {
        // And the index is lost, whatever it was.
        machine.index = machine.journal.beside();
    }
    let mut rig = verify(&machine, &promise, &what);
    // What was in flight is settled by what was found.
    promise.in_flight = None;
    for key in 0..KEYS {
        let found = rig.held(key, &what);
        let step = |held: &Held| found == held.map(|(step, bytes)| content(step, bytes));
        if !step(&promise.held.get(&key).copied().flatten()) {
            let bytes = found.clone().unwrap_or_default();
            let put = (0..STEPS).find(|&step| content(step, bytes.len()) == bytes);
            promise.held.insert(key, found.map(|bytes| (put.expect("a step put it"), bytes.len())));
        }
    }
    // It goes on, and a second crash, right after an acknowledgement, loses nothing either.
    run(&mut rig, &mut promise, STEPS..STEPS + 4, &mut dice);
    let again = rig.machine.after_crash(&mut dice);
    drop(rig);
    verify(&again, &promise, &format!("{what}, again"));
}

/// Operations of a run without a fault, and which of them are syncs.
fn operations(seed: u64) -> (u64, Vec<u64>) {
    let machine = Machine::new();
    let mut rig = Rig::open(&machine).unwrap();
    run(&mut rig, &mut Promise::default(), 0..STEPS, &mut Dice(seed));
    (machine.journal.operations(), machine.journal.syncs())
}

/// Seeds to play: one that a person names, or these.
fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("MOBULA_SEED") {
        Ok(seed) => vec![seed.parse().expect("MOBULA_SEED is a number")],
        Err(_) => (1..=count).collect(),
    }
}

#[test]
fn a_crash_at_every_sync_and_many_other_operations_keeps_every_promise() {
    let mut played = 0;
    for seed in seeds(3) {
        let (last, syncs) = operations(seed);
        assert!(syncs.len() > 30, "the run is too short: {} syncs", syncs.len());
        let others = (1..=last).filter(|at| at % 9 == seed % 9);
        let all: BTreeSet<u64> = syncs.into_iter().chain(others).collect();
        for at in all {
            play(seed, at, Fault::Crash);
            played += 1;
        }
    }
    assert!(played > 100, "{played}");
}

#[test]
fn a_failing_disk_and_a_full_one_keep_every_promise_too() {
    for seed in seeds(2) {
        let (last, _) = operations(seed);
        for at in (1..=last).filter(|at| at % 11 == seed % 11) {
            play(seed, at, Fault::Failure);
            play(seed, at + 3, Fault::NoSpace);
        }
    }
}
