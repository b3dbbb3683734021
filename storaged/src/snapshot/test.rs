//! Snapshots of a store in a directory: made, loaded, refused; what they cover goes and the rest stays.

use crate::format::SnapshotHeader;
use crate::index::{Index, MemoryIndex, Persist};
use crate::journal::Disk;
use crate::journal::simulation::{Dice, Fault, SimulatedDisk};
use crate::snapshot::{SnapshotError, UNFINISHED, list, read, write};
use crate::store::{Options, Store, TxnError};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const HEADER: SnapshotHeader = SnapshotHeader { store: uuid::Uuid::from_u128(3), sequence: 9 };

fn index(entries: u32, bytes: usize) -> MemoryIndex {
    let mut index = MemoryIndex::default();
    let change = |n: u32| (n.to_be_bytes().to_vec(), Some(vec![n as u8; bytes]));
    index.apply(&(0..entries).map(change).collect(), 9, Persist::Now).unwrap();
    index
}

fn loaded(disk: &SimulatedDisk) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, SnapshotError> {
    let mut map = BTreeMap::new();
    read(&mut disk.clone(), HEADER, &mut |entries| {
        map.extend(entries);
        Ok(())
    })?;
    Ok(map)
}

fn written(disk: &SimulatedDisk, index: &MemoryIndex) -> Result<(), SnapshotError> {
    let mut disk = disk.clone();
    write(&mut disk, &*index.view().unwrap(), &HEADER, &|| Ok(()))?;
    let at = |source| SnapshotError::Io { doing: "test", source };
    disk.rename(UNFINISHED, HEADER.sequence).map_err(at)?;
    disk.sync_names().map_err(at)
}

#[test]
fn what_was_written_is_loaded_over_several_chunks() {
    let disk = SimulatedDisk::default();
    written(&disk, &index(300, 10_000)).unwrap();
    let map = loaded(&disk).unwrap();
    assert_eq!(map.len(), 300);
    assert!(map.values().all(|value| value.len() == 10_000));
}

#[test]
fn an_empty_index_makes_a_snapshot_too() {
    let disk = SimulatedDisk::default();
    written(&disk, &MemoryIndex::default()).unwrap();
    assert!(loaded(&disk).unwrap().is_empty());
}

#[test]
fn a_crash_at_any_operation_leaves_a_whole_snapshot_or_none_with_its_name() {
    let index = index(400, 9_000);
    let (mut none, mut whole) = (0, 0);
    for seed in 0..10 {
        for at in 1.. {
            let disk = SimulatedDisk::default();
            disk.plan(at, Fault::Crash);
            if written(&disk, &index).is_ok() && disk.operations() < at {
                break;
            }
            let mut after = disk.after_crash(&mut Dice(seed * 1000 + at));
            match list(&mut after).unwrap().as_slice() {
                [] => none += 1,
                [9] => {
                    assert_eq!(loaded(&after).unwrap().len(), 400, "seed {seed}, operation {at}");
                    whole += 1;
                }
                other => panic!("{other:?}"),
            }
            // And the next one is made whatever was left.
            after.remove(9).ok();
            written(&after, &index).unwrap();
        }
    }
    assert!(none > 20 && whole > 5, "{none} {whole}");
}

fn options(folder: &Path) -> Options {
    Options { kept_bytes: Some(0), segment_bytes: 4096, ..Options::new(folder) }
}

fn put(store: &Store, name: &str, bytes: usize) {
    let key = [b"\x09", name.as_bytes()].concat();
    let put = store.transact_wait(move |txn| {
        txn.put(key, vec![7; bytes]);
        Ok::<_, TxnError>(())
    });
    put.unwrap();
}

fn count(store: &Store) -> usize {
    use crate::store::ViewExt;
    let mut count = 0;
    let view = store.read().unwrap();
    view.within(&[9], &mut |_, _| {
        count += 1;
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    count
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn fill(store: &Store, from: usize, to: usize) {
    (from..to).for_each(|n| put(store, &format!("{n}"), 1000));
}

#[test]
fn a_snapshot_lets_the_journal_before_it_go_and_a_lost_index_is_made_from_both() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, snapshots) = (folder.path().join("journal"), folder.path().join("snapshots"));
    let store = Store::open(options(folder.path())).unwrap();
    fill(&store, 0, 40);
    let before = names(&journal);
    assert!(before.len() > 5, "{before:?}");
    store.make_snapshot().unwrap();
    let after = names(&journal);
    assert_eq!(after, before[before.len() - 1..], "only what is written to is kept");
    assert_eq!(names(&snapshots).len(), 1);
    fill(&store, 40, 60);
    store.make_snapshot().unwrap();
    assert_eq!(names(&snapshots).len(), 1, "the one before is gone");
    fill(&store, 60, 80);
    drop(store);

    fs::remove_file(folder.path().join("index.redb")).unwrap();
    let store = Store::open(options(folder.path())).unwrap();
    assert_eq!(count(&store), 80);
    // And it goes on.
    put(&store, "more", 1);
    drop(store);
    assert_eq!(count(&Store::open(options(folder.path())).unwrap()), 81);
}

#[test]
fn a_damaged_index_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(options(folder.path())).unwrap();
    fill(&store, 0, 20);
    store.make_snapshot().unwrap();
    fill(&store, 20, 30);
    drop(store);
    let path = folder.path().join("index.redb");
    let whole = fs::read(&path).unwrap();
    let damages: [(&str, Vec<u8>); 4] = [
        ("empty", Vec::new()),
        ("short", whole[..whole.len() / 2].to_vec()),
        ("headless", [&[0xEE; 512], &whole[512..]].concat()),
        ("nonsense", vec![0x55; 8192]),
    ];
    for (what, bytes) in damages {
        fs::write(&path, bytes).unwrap();
        let store = Store::open(options(folder.path()));
        let store = store.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(count(&store), 30, "{what}");
    }
}

#[test]
fn a_damaged_snapshot_is_not_used_and_what_it_held_is_said_to_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(options(folder.path())).unwrap();
    fill(&store, 0, 20);
    store.make_snapshot().unwrap();
    fill(&store, 20, 30);
    drop(store);
    let snapshots = folder.path().join("snapshots");
    let path = snapshots.join(&names(&snapshots)[0]);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    // With the index nothing is missed.
    assert_eq!(count(&Store::open(options(folder.path())).unwrap()), 30);
    fs::remove_file(folder.path().join("index.redb")).unwrap();
    let refused = Store::open(options(folder.path())).err().unwrap();
    assert!(refused.to_string().contains("misses"), "{refused}");
    assert!(!folder.path().join("index.redb").exists(), "nothing is made up");
}

#[test]
fn a_journal_that_grows_gets_a_snapshot_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let store =
        Store::open(Options { snapshot_journal_bytes: 10_000, ..options(folder.path()) }).unwrap();
    fill(&store, 0, 30);
    let snapshots = folder.path().join("snapshots");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while names(&snapshots).iter().all(|name| name.starts_with("ffff")) {
        assert!(std::time::Instant::now() < until, "no snapshot was made");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
