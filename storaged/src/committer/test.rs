//! The committer on a disk that fails on demand.

use super::*;
use crate::index::{MemoryIndex, View};
use crate::journal::simulation::{Fault, SimulatedDisk};
use crate::store::{Durability, TxnError};
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;
use uuid::Uuid;

struct Rig {
    disk: SimulatedDisk,
    committer: Arc<Committer>,
    latch: Arc<Latch>,
    rings: Arc<AtomicUsize>,
}

fn start() -> Rig {
    let disk = SimulatedDisk::default();
    let journal = Journal::recover(
        Box::new(disk.clone()),
        Uuid::nil(),
        0,
        Durability::Fsync,
        &mut |_| Ok(()),
    );
    let (latch, rings) = (Arc::new(Latch::default()), Arc::new(AtomicUsize::new(0)));
    let ringing = Arc::clone(&rings);
    let surroundings = Surroundings {
        room: Box::new(|| Room::Enough),
        unlink: Box::new(move || {
            ringing.fetch_add(1, Ordering::Relaxed);
        }),
        changed: Box::new(|_, _| ()),
        segment: Box::new(|| ()),
        latch: Arc::clone(&latch),
    };
    let index = Box::new(MemoryIndex::default());
    let committer = Arc::new(Committer::start(index, journal.unwrap(), surroundings).unwrap());
    Rig { disk, committer, latch, rings }
}

impl Rig {
    fn put(&self, key: &'static [u8]) -> Result<u64, TransactError<TxnError>> {
        wait(self.committer.transact(move |txn| {
            txn.put(key, b"value".as_slice());
            Ok(txn.next_sequence())
        }))
    }

    fn has(&self, key: &[u8]) -> bool {
        self.committer.view().get(key).unwrap().is_some()
    }
}

#[test]
fn what_was_answered_is_visible_and_numbered() {
    let rig = start();
    let first = rig.put(b"\x09a").unwrap();
    let second = rig.put(b"\x09b").unwrap();
    assert!(rig.has(b"\x09a") && rig.has(b"\x09b"));
    assert!(first < second && second <= rig.committer.sequence());
}

#[test]
fn what_waits_while_a_transaction_runs_is_one_batch_with_it() {
    let rig = start();
    let (entered, is_in) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let committer = Arc::clone(&rig.committer);
    let slow = std::thread::spawn(move || {
        wait(committer.transact(move |txn| {
            entered.send(()).unwrap();
            may_go.recv().unwrap();
            txn.put(b"\x09slow".as_slice(), b"".as_slice());
            Ok::<_, TxnError>(())
        }))
    });
    is_in.recv().unwrap();
    let before = rig.disk.operations();
    let others: Vec<_> = [b"\x09a", b"\x09b", b"\x09c"]
        .into_iter()
        .map(|key| {
            let seen = move |txn: &mut Txn<'_>| {
                txn.put(key.as_slice(), b"".as_slice());
                txn.get(b"\x09slow").map(|value| value.is_some())
            };
            let committer = Arc::clone(&rig.committer);
            std::thread::spawn(move || wait(committer.transact(seen)).unwrap())
        })
        .collect();
    while rig.committer.queue.len() < 3 {
        std::thread::yield_now();
    }
    go.send(()).unwrap();
    slow.join().unwrap().unwrap();
    assert!(others.into_iter().all(|other| other.join().unwrap()), "each sees the one before it");
    assert_eq!(rig.disk.operations() - before, 2, "one write and one sync for all four");
}

/// Puts a key, and another one beside it if it sees the one before; whether it saw that.
fn put_over(
    committer: &Arc<Committer>,
    before: &'static [u8],
    key: &'static [u8],
    ran: &mpsc::Sender<bool>,
) -> std::thread::JoinHandle<Result<(), TransactError<TxnError>>> {
    let (committer, ran) = (Arc::clone(committer), ran.clone());
    std::thread::spawn(move || {
        wait(committer.transact(move |txn| {
            let seen = txn.get(before)?.is_some();
            txn.put(key, b"value".as_slice());
            ran.send(seen).unwrap();
            Ok(())
        }))
    })
}

/// One batch on its way to a disk that is held, and the next one run over it.
fn two_on_their_way(
    rig: &Rig,
    spoil: impl FnOnce(&SimulatedDisk),
) -> [Result<(), TransactError<TxnError>>; 2] {
    rig.put(b"\x09a").unwrap();
    let (ran, has_run) = mpsc::channel();
    let held = rig.disk.hold();
    spoil(&rig.disk);
    let before = rig.disk.operations();
    let first = put_over(&rig.committer, b"\x09a", b"\x09b", &ran);
    assert!(has_run.recv().unwrap());
    while rig.disk.operations() == before {
        std::thread::yield_now();
    }
    let second = put_over(&rig.committer, b"\x09b", b"\x09c", &ran);
    assert!(has_run.recv().unwrap(), "it runs while the first is on its way, and sees it");
    assert!(!rig.has(b"\x09b") && !rig.has(b"\x09c"), "neither can be read");
    assert!(!first.is_finished() && !second.is_finished(), "neither is answered");
    drop(held);
    [first, second].map(|thread| thread.join().unwrap())
}

#[test]
fn the_next_batch_runs_while_one_is_being_synced_and_each_has_a_sync_of_its_own() {
    let rig = start();
    let mut before = 0;
    let answers = two_on_their_way(&rig, |disk| before = disk.operations());
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert!(rig.has(b"\x09b") && rig.has(b"\x09c"));
    assert_eq!(rig.disk.operations() - before, 4, "two writes and two syncs");
}

#[test]
fn what_ran_over_a_refused_batch_is_refused_with_it() {
    let rig = start();
    let answers = two_on_their_way(&rig, |disk| disk.plan(disk.operations() + 1, Fault::NoSpace));
    assert!(answers.iter().all(|answer| matches!(answer, Err(TransactError::Full))), "{answers:?}");
    assert!(!rig.has(b"\x09b") && !rig.has(b"\x09c"));
    rig.put(b"\x09d").unwrap();
    assert!(rig.has(b"\x09d") && rig.latch.closed().is_none());
}

#[test]
fn what_ran_over_a_batch_whose_sync_failed_is_not_written() {
    let rig = start();
    let mut before = 0;
    let answers = two_on_their_way(&rig, |disk| {
        before = disk.operations();
        disk.plan(before + 2, Fault::Failure);
    });
    let read_only = |answer: &Result<(), _>| matches!(answer, Err(TransactError::ReadOnly(_)));
    assert!(answers.iter().all(read_only), "{answers:?}");
    assert_eq!(rig.disk.operations() - before, 2, "one write and one sync, and no more");
}

#[test]
fn a_full_disk_refuses_one_batch_and_no_more() {
    let rig = start();
    rig.put(b"\x09a").unwrap();
    rig.disk.plan(rig.disk.operations() + 1, Fault::NoSpace);
    assert!(matches!(rig.put(b"\x09b"), Err(TransactError::Full)));
    assert!(!rig.has(b"\x09b"));
    rig.put(b"\x09c").unwrap();
    assert!(rig.has(b"\x09a") && rig.has(b"\x09c"));
    assert_eq!(rig.latch.closed(), None);
}

#[test]
fn a_failed_sync_makes_the_store_read_only_and_it_is_not_tried_again() {
    let rig = start();
    rig.put(b"\x09a").unwrap();
    rig.disk.plan(rig.disk.operations() + 2, Fault::Failure);
    assert!(matches!(rig.put(b"\x09b"), Err(TransactError::ReadOnly(_))));
    let after = rig.disk.operations();
    assert!(matches!(rig.put(b"\x09c"), Err(TransactError::ReadOnly(_))));
    assert_eq!(rig.disk.operations(), after);
    assert!(rig.has(b"\x09a") && !rig.has(b"\x09b"), "reads go on, of what was before");
    let why = rig.latch.closed().unwrap();
    assert!(why.starts_with("could not sync the journal: Input/output error"), "{why}");
}

#[test]
fn a_transaction_that_changes_nothing_writes_nothing() {
    let rig = start();
    let before = rig.disk.operations();
    wait(rig.committer.transact(|txn| txn.get(b"\x09a"))).unwrap();
    assert_eq!(rig.disk.operations(), before);
}

#[test]
fn a_transaction_that_is_too_large_is_refused_alone() {
    let rig = start();
    let large = wait(rig.committer.transact(|txn| {
        txn.put(b"\x09large".as_slice(), vec![0; TRANSACTION_BYTES_MAX]);
        Ok::<_, TxnError>(())
    }));
    assert!(matches!(large, Err(TransactError::TooLarge { .. })), "{large:?}");
    assert!(!rig.has(b"\x09large"));
    rig.put(b"\x09a").unwrap();
}

#[test]
fn the_reaper_is_called_for_rows_of_to_unlink_only() {
    let rig = start();
    rig.put(b"\x06a").unwrap();
    rig.put(b"\x08a").unwrap();
    assert_eq!(rig.rings.load(Ordering::Relaxed), 0);
    rig.put(b"\x07a").unwrap();
    assert_eq!(rig.rings.load(Ordering::Relaxed), 1);
}

#[test]
fn after_the_shutdown_nothing_is_taken() {
    let rig = start();
    rig.put(b"\x09a").unwrap();
    rig.committer.shutdown();
    assert!(matches!(rig.put(b"\x09b"), Err(TransactError::ShutDown)));
    assert!(rig.has(b"\x09a"));
}
