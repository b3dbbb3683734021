//! The journal on a disk that crashes: what was acknowledged is there, what was not is whole or absent.

use super::simulation::{Dice, Fault, SimulatedDisk};
use super::*;
use crate::index::{Index, MemoryIndex, Persist};
use std::ops::{Bound, ControlFlow};

const STORE: Uuid = Uuid::from_u128(99);

/// A journal and the index over it, as the committer keeps them.
struct Rig {
    journal: Journal,
    index: MemoryIndex,
}

fn open(
    disk: &SimulatedDisk,
    mut index: MemoryIndex,
    durability: Durability,
) -> Result<Rig, RecoverError> {
    let applied = index.applied().unwrap();
    let journal =
        Journal::recover(Box::new(disk.clone()), STORE, applied, durability, &mut |batch| {
            index.apply(&batch.changes, batch.sequence, Persist::Later)
        })?;
    Ok(Rig { journal, index })
}

/// What batch number `n` changes: a marker of its own in two keys that must come together, of a size that
/// spans sectors now and then, and one key that all batches fight for.
fn changes(n: u64) -> Changes {
    let value = vec![n as u8; (n * 97 % 1500) as usize];
    Changes::from([
        (format!("a{n:06}").into_bytes(), Some(value.clone())),
        (format!("b{n:06}").into_bytes(), Some(value)),
        (b"last".to_vec(), Some(n.to_le_bytes().to_vec())),
        (format!("a{:06}", n.wrapping_sub(3)).into_bytes(), None),
        (format!("b{:06}", n.wrapping_sub(3)).into_bytes(), None),
    ])
}

fn entries(index: &MemoryIndex) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = Vec::new();
    let view = index.view().unwrap();
    view.range(Bound::Unbounded, Bound::Unbounded, &mut |key, value| {
        entries.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })
    .unwrap();
    entries
}

/// What the index holds after the first `count` batches.
fn model(count: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut index = MemoryIndex::default();
    (1..=count).for_each(|n| index.apply(&changes(n), n, Persist::Later).unwrap());
    entries(&index)
}

/// How far a run came: batches acknowledged, and whether one more may have happened.
struct Run {
    acknowledged: u64,
    index: MemoryIndex,
}

/// Appends batches from `first` on until `last` or the first failure that is no refusal.
fn run(rig: &mut Rig, first: u64, last: u64, dice: &mut Dice) -> u64 {
    let mut acknowledged = first - 1;
    for n in first..=last {
        let mut result = rig.journal.append(n, &changes(n));
        if matches!(result, Err(AppendError::Full)) {
            // Refused cleanly: the same batch again, as if space had been made.
            result = rig.journal.append(n, &changes(n));
        }
        if result.is_err() {
            break;
        }
        acknowledged = n;
        rig.index.apply(&changes(n), n, Persist::Later).unwrap();
        if dice.below(4) == 0 {
            if rig.journal.sync().is_err() {
                break;
            }
            rig.index.apply(&Changes::new(), n, Persist::Now).unwrap();
        }
        if dice.below(5) == 0 && rig.journal.begin_segment().is_err() {
            break;
        }
    }
    acknowledged
}

/// Runs into a fault at operation `at`, then has the power fail.
fn crash(seed: u64, at: u64, fault: Fault) -> Option<(SimulatedDisk, Run)> {
    let mut dice = Dice(seed);
    let disk = SimulatedDisk::default();
    disk.plan(at, fault);
    let Ok(mut rig) = open(&disk, MemoryIndex::default(), Durability::Fsync) else {
        let index = MemoryIndex::default();
        return Some((disk.after_crash(&mut dice), Run { acknowledged: 0, index }));
    };
    let acknowledged = run(&mut rig, 1, 12, &mut dice);
    let reached = disk.operations() >= at;
    reached.then(|| {
        let index = rig.index.crashed();
        (disk.after_crash(&mut dice), Run { acknowledged, index })
    })
}

/// Opens what a crash left, checks it against the model, and sees that it goes on from there, over a second
/// crash without any fault in between.
fn check(disk: &SimulatedDisk, run_before: &Run, what: &str, dice: &mut Dice) {
    let Run { acknowledged, ref index } = *run_before;
    let mut rig = match open(disk, index.clone(), Durability::Fsync) {
        Ok(rig) => rig,
        Err(error) => panic!("{what}: does not open: {error}"),
    };
    let there = rig.journal.sequence();
    let last = acknowledged + 1;
    assert!(
        (acknowledged..=last).contains(&there),
        "{what}: {acknowledged} acknowledged, {there} there"
    );
    assert_eq!(entries(&rig.index), model(there), "{what}");
    let acknowledged = run(&mut rig, there + 1, there + 4, dice);
    assert_eq!(acknowledged, there + 4, "{what}: goes on");
    let again = disk.after_crash(dice);
    let index = rig.index.crashed();
    let rig = open(&again, index, Durability::Fsync)
        .unwrap_or_else(|error| panic!("{what}, again: {error}"));
    assert_eq!(rig.journal.sequence(), acknowledged, "{what}, again");
    assert_eq!(entries(&rig.index), model(acknowledged), "{what}, again");
}

fn every_operation(fault: Fault, seeds: u64) -> u64 {
    let mut count = 0;
    for seed in 0..seeds {
        for at in 1.. {
            let Some((disk, run)) = crash(seed, at, fault) else { break };
            let mut dice = Dice(seed ^ (at << 32));
            check(&disk, &run, &format!("{fault:?}, seed {seed}, operation {at}"), &mut dice);
            count += 1;
        }
    }
    count
}

#[test]
fn a_crash_at_any_operation_loses_nothing_acknowledged_and_tears_nothing() {
    assert!(every_operation(Fault::Crash, 150) > 3000);
}

#[test]
fn no_space_at_any_operation_refuses_that_batch_and_loses_nothing() {
    assert!(every_operation(Fault::NoSpace, 60) > 1000);
}

#[test]
fn a_failure_at_any_operation_stops_the_journal_and_loses_nothing() {
    assert!(every_operation(Fault::Failure, 60) > 1000);
}

#[test]
fn a_crash_without_syncs_loses_the_last_batches_only() {
    let mut lost = 0;
    for seed in 0..200 {
        let mut dice = Dice(seed);
        let disk = SimulatedDisk::default();
        let mut rig = open(&disk, MemoryIndex::default(), Durability::None).unwrap();
        let acknowledged = run(&mut rig, 1, 12, &mut dice);
        let left = disk.after_crash(&mut dice);
        let mut rig = open(&left, rig.index.crashed(), Durability::None)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let there = rig.journal.sequence();
        assert_eq!(entries(&rig.index), model(there), "seed {seed}");
        lost += acknowledged - there;
        // Going on, with a batch as long as one that was lost: what lay behind that one stays lost.
        let mut other = changes(there + 1);
        other.insert(b"last".to_vec(), Some(u64::MAX.to_le_bytes().to_vec()));
        rig.journal.append(there + 1, &other).unwrap();
        let rig = open(&left, MemoryIndex::default(), Durability::None).unwrap();
        assert_eq!(rig.journal.sequence(), there + 1, "seed {seed}");
    }
    assert!(lost > 0, "the simulation is too kind: nothing was lost without syncs");
}

#[test]
fn a_store_may_change_its_durability_between_runs() {
    let disk = SimulatedDisk::default();
    let mut dice = Dice(1);
    let kinds = [Durability::Fsync, Durability::None, Durability::None, Durability::Fsync];
    let mut index = MemoryIndex::default();
    for (number, kind) in kinds.into_iter().enumerate() {
        // Twice with nothing written in between: an empty segment of the other kind makes way.
        drop(open(&disk, index.clone(), kind).unwrap());
        let mut rig = open(&disk, index, kind).unwrap();
        let first = 1 + 3 * number as u64;
        assert_eq!(run(&mut rig, first, first + 2, &mut dice), first + 2);
        index = rig.index;
    }
    let rig = open(&disk, MemoryIndex::default(), Durability::Fsync).unwrap();
    assert_eq!(entries(&rig.index), model(12));
}

fn written(batches: u64) -> (SimulatedDisk, u64) {
    let disk = SimulatedDisk::default();
    let mut rig = open(&disk, MemoryIndex::default(), Durability::Fsync).unwrap();
    for n in 1..=batches {
        rig.journal.append(n, &changes(n)).unwrap();
    }
    (disk, rig.journal.end)
}

#[test]
fn damage_with_records_after_it_is_reported_and_not_cut_off() {
    let (mut disk, _) = written(5);
    let mut file = disk.open(1).unwrap();
    file.write_at(&[0xEE], SEGMENT_HEADER_BYTES as u64 + 50).unwrap();
    let error = open(&disk, MemoryIndex::default(), Durability::Fsync).err().unwrap();
    assert!(matches!(error, RecoverError::Damaged { segment: 1, offset: 64 }), "{error}");
}

#[test]
fn a_journal_shorter_than_the_index_is_reported() {
    let (mut disk, end) = written(5);
    let mut index = MemoryIndex::default();
    (1..=5).for_each(|n| index.apply(&changes(n), n, Persist::Now).unwrap());
    disk.open(1).unwrap().truncate(end - 8).unwrap();
    let error = open(&disk, index, Durability::Fsync).err().unwrap();
    assert!(matches!(error, RecoverError::Missing { after: 4, .. }), "{error}");
}

#[test]
fn a_missing_segment_is_reported() {
    let disk = SimulatedDisk::default();
    let mut rig = open(&disk, MemoryIndex::default(), Durability::Fsync).unwrap();
    for n in 1..=6 {
        rig.journal.append(n, &changes(n)).unwrap();
        if n % 2 == 0 {
            rig.journal.begin_segment().unwrap();
        }
    }
    let mut names = disk.clone().list().unwrap();
    names.sort_unstable();
    assert_eq!(names, [1, 3, 5, 7]);
    disk.clone().remove(3).unwrap();
    let error = open(&disk, MemoryIndex::default(), Durability::Fsync).err().unwrap();
    assert!(matches!(error, RecoverError::Missing { after: 2, .. }), "{error}");
    disk.clone().remove(1).unwrap();
    let error = open(&disk, MemoryIndex::default(), Durability::Fsync).err().unwrap();
    assert!(matches!(error, RecoverError::Missing { after: 0, .. }), "{error}");
}

#[test]
fn another_store_s_journal_is_reported() {
    let (disk, _) = written(2);
    let other = Uuid::from_u128(1);
    let journal = Journal::recover(Box::new(disk), other, 0, Durability::Fsync, &mut |_| Ok(()));
    assert!(matches!(journal.err().unwrap(), RecoverError::Damaged { offset: 0, .. }));
}

#[test]
fn a_refused_batch_leaves_the_file_as_long_as_it_was() {
    let (disk, end) = written(2);
    let mut rig = open(&disk, MemoryIndex::default(), Durability::Fsync).unwrap();
    disk.plan(disk.operations() + 1, Fault::NoSpace);
    assert!(matches!(rig.journal.append(3, &changes(3)), Err(AppendError::Full)));
    assert_eq!(disk.clone().open(1).unwrap().read().unwrap().len() as u64, end);
}

/// A process that is killed leaves what it wrote in the page cache. The next one reads it there and shows it:
/// from then on it must not be lost.
#[test]
fn a_batch_that_was_only_written_is_on_disk_before_it_is_shown() {
    for seed in 0..20 {
        let (disk, _) = written(2);
        let mut rig = open(&disk, MemoryIndex::default(), Durability::Fsync).unwrap();
        disk.plan(disk.operations() + 2, Fault::Failure);
        assert!(rig.journal.append(3, &changes(3)).is_err());
        let shown = open(&disk, MemoryIndex::default(), Durability::Fsync).unwrap();
        assert_eq!(shown.journal.sequence(), 3);
        let left = disk.after_crash(&mut Dice(seed));
        let rig = open(&left, MemoryIndex::default(), Durability::Fsync).unwrap();
        assert_eq!(rig.journal.sequence(), 3, "seed {seed}");
    }
}

#[test]
fn a_failed_sync_is_not_a_full_disk() {
    let (disk, _) = written(2);
    let mut rig = open(&disk, MemoryIndex::default(), Durability::Fsync).unwrap();
    disk.plan(disk.operations() + 2, Fault::NoSpace);
    let error = rig.journal.append(3, &changes(3)).unwrap_err();
    assert!(matches!(error, AppendError::Failed { doing: "sync", .. }), "{error}");
}
