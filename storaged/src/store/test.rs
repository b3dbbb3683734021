//! The store as its users see it, on real files.

mod killed;
mod pages;

use super::*;
use crate::committer::wait;
use bytes::Bytes;
use md5::{Digest as _, Md5};
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

const ALICE: AccountId = AccountId(1);

fn open(path: &Path) -> Store {
    Store::open(Options { kept_bytes: Some(0), disk_threads: 2, ..Options::new(path) }).unwrap()
}

fn path(key: &str) -> ObjectPath {
    ObjectPath::of_key(ALICE, "b", key.as_bytes()).unwrap()
}

fn meta(bytes: &[u8]) -> Metadata {
    let etag = <[u8; 16]>::from(Md5::digest(bytes)).into();
    Metadata { etag, modified_ms: 5, ..Metadata::default() }
}

fn put(store: &Store, key: &str, bytes: &'static [u8]) -> Version {
    let (path, meta) = (path(key), meta(bytes));
    let content = Content::Inline(Bytes::from_static(bytes));
    store.transact_wait(move |txn| txn.put_object(&path, content, meta)).unwrap().version
}

fn seal(store: &Store, bytes: &[u8]) -> Sealed {
    wait(async {
        let mut staging = store.stage(Some(bytes.len() as u64), None).await.unwrap();
        for piece in bytes.chunks(300_000) {
            staging.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        store.seal(staging).await.unwrap()
    })
}

fn put_blob(store: &Store, key: &str, bytes: &[u8]) -> BlobId {
    let (path, meta, sealed) = (path(key), meta(bytes), seal(store, bytes));
    let blob = sealed.blob();
    store.transact_wait(move |txn| txn.put_object(&path, Content::Blob(sealed), meta)).unwrap();
    blob
}

fn delete(store: &Store, key: &str) -> bool {
    let path = path(key);
    let delete = move |txn: &mut Txn<'_>| txn.delete_object(&path, None, Deleter::plain(0));
    store.transact_wait(delete).unwrap() != Deleted::Nothing
}

fn read_all(file: impl std::os::fd::AsFd) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut file = std::fs::File::from(file.as_fd().try_clone_to_owned().unwrap());
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn files_below(path: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            names.extend(files_below(&entry.path()));
        } else {
            names.push(entry.file_name().into_string().unwrap());
        }
    }
    names.sort();
    names
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_store_and_its_futures_may_go_to_any_thread() {
    fn sent<T: Send + Sync>(_: &T) {}
    fn future<T: Send>(_: &T) {}
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    sent(&store);
    future(&store.stage(None, None));
    future(&store.transact(|_| Ok::<_, ()>(())));
}

#[test]
fn small_objects_come_back_and_survive_a_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let first = put(&store, "a", b"one");
    let second = put(&store, "a", b"three");
    assert!(second > first);
    let id = store.status().store;
    drop(store);
    let store = open(folder.path());
    let record = store.object(&path("a")).unwrap().unwrap();
    assert_eq!(record.content, ContentRef::Inline(Bytes::from_static(b"three")));
    assert_eq!((record.version, record.size, record.meta), (second, 5, meta(b"three")));
    let status = store.status();
    assert_eq!((status.store, status.objects, status.object_bytes), (id, 1, 5));
}

#[test]
fn large_objects_are_files_that_go_with_their_last_record() {
    let folder = tempfile::tempdir().unwrap();
    let objects = folder.path().join("objects");
    let store = open(folder.path());
    let bytes: Vec<u8> = (0..700_000_u32).map(|n| (n / 5) as u8).collect();
    let blob = put_blob(&store, "a", &bytes);
    let (record, file) = store.open_object(&path("a")).unwrap().unwrap();
    assert_eq!(record.content, ContentRef::Blob(blob));
    assert_eq!(read_all(file.as_ref().unwrap()), bytes);
    let copied = record.clone();
    let copy = move |txn: &mut Txn<'_>| {
        txn.put_shared(&path("copy"), copied.content, copied.size, copied.meta)
    };
    store.transact_wait(copy).unwrap();
    assert!(delete(&store, "a"));
    assert!(!delete(&store, "a"));
    drop(store);
    let store = open(folder.path());
    assert_eq!(files_below(&objects), [format!("{:016x}", blob.0)]);
    let copied = store.open_object(&path("copy")).unwrap().unwrap();
    assert_eq!(read_all(copied.1.unwrap()), bytes);
    put(&store, "copy", b"small");
    eventually("the file is unlinked", || files_below(&objects).is_empty());
    assert_eq!(read_all(file.unwrap()), b"", "an open descriptor stays good: at its end, in fact");
    eventually("its row is gone", || {
        let view = store.read().unwrap();
        view.get(&crate::format::to_unlink_key(blob)).unwrap().is_none()
    });
}

#[test]
fn a_refused_transaction_leaves_nothing_not_even_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let sealed = seal(&store, &[7; 20_000]);
    let refused = store.transact_wait(move |txn| {
        txn.put_object(&path("a"), Content::Blob(sealed), Metadata::default()).unwrap();
        txn.put(b"\x09setting".as_slice(), b"1".as_slice());
        Err::<(), _>("no")
    });
    assert!(matches!(refused, Err(TransactError::Refused("no"))), "{refused:?}");
    assert_eq!(store.object(&path("a")).unwrap(), None);
    assert_eq!(store.read().unwrap().get(b"\x09setting").unwrap(), None);
    let objects = folder.path().join("objects");
    eventually("the file is removed", || files_below(&objects).is_empty());
}

#[test]
fn a_panic_in_a_transaction_is_that_transaction_s() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let panicked = store.transact_wait(|_| -> Result<(), ()> { panic!("on purpose") });
    assert!(matches!(panicked, Err(TransactError::Panicked)), "{panicked:?}");
    put(&store, "a", b"still works");
}

#[test]
fn unfinished_uploads_are_gone_at_once_or_after_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let staging = folder.path().join("staging");
    let store = open(folder.path());
    let mut dropped = wait(store.stage(None, None)).unwrap();
    wait(dropped.write(Bytes::from_static(b"half"))).unwrap();
    assert_eq!(files_below(&staging).len(), 1);
    drop(dropped);
    eventually("a dropped upload is removed", || files_below(&staging).is_empty());
    let objects = folder.path().join("objects");
    std::mem::forget(seal(&store, b"sealed, and then the power went"));
    assert_eq!(files_below(&objects).len(), 1);
    std::fs::write(staging.join("left"), b"by a crash").unwrap();
    drop(store);
    let kept = {
        let store = open(folder.path());
        assert_eq!((files_below(&objects), files_below(&staging)), (vec![], vec![]));
        put_blob(&store, "a", b"kept")
    };
    let store = open(folder.path());
    assert_eq!(files_below(&objects), [format!("{:016x}", kept.0)]);
    assert!(store.open_blob(kept).is_ok());
}

#[test]
fn what_a_descriptor_wrote_is_measured_after_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let seal_beside_writer = || {
        let mut staging = wait(store.stage(None, None)).unwrap();
        let mut writer = std::fs::File::from(staging.writer_fd().unwrap());
        assert!(writer.read(&mut [0]).is_err(), "it is write-only");
        let task = std::thread::spawn(move || {
            writer.write_all(b"output").unwrap();
            std::thread::sleep(Duration::from_millis(100));
            writer.write_all(b" of a task").unwrap();
        });
        let sealed = wait(store.seal(staging));
        task.join().unwrap();
        sealed
    };
    // Sealing waits a second for a writer, which a busy machine may keep longer: then it is tried anew.
    let sealed = std::iter::repeat_with(seal_beside_writer)
        .take(50)
        .find(|sealed| !matches!(sealed, Err(SealError::WriterLeft)));
    let sealed = sealed.expect("a writer that leaves is waited for").unwrap();
    let md5: [u8; 16] = Md5::digest(b"output of a task").into();
    assert_eq!((sealed.size(), sealed.md5()), (16, md5));
}

#[test]
fn a_writer_that_stays_is_an_error_with_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut staging = wait(store.stage(None, None)).unwrap();
    let writer = staging.writer_fd().unwrap();
    let refused = wait(store.seal(staging));
    assert!(matches!(refused, Err(SealError::WriterLeft)), "{refused:?}");
    drop(writer);
    eventually("the file is removed", || files_below(&folder.path().join("staging")).is_empty());
}

#[test]
fn a_full_disk_refuses_new_objects_and_takes_deletes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, "a", b"old");
    drop(store);
    let full = Options { kept_bytes: Some(u64::MAX), ..Options::new(folder.path()) };
    let store = Store::open(full).unwrap();
    assert!(matches!(wait(store.stage(None, None)), Err(StageError::Full)));
    let small = store.transact_wait(|txn| {
        txn.put_object(&path("b"), Content::Inline(Bytes::new()), Metadata::default())
    });
    assert!(matches!(small, Err(TransactError::Refused(TxnError::Full { .. }))), "{small:?}");
    assert!(delete(&store, "a"));
}

#[test]
fn a_blob_that_is_not_what_the_index_says_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let blob = put_blob(&store, "a", &[1; 10_000]);
    drop(store);
    let name = format!("objects/{:013x}/{:016x}", blob.0 >> 12, blob.0);
    std::fs::remove_file(folder.path().join(&name)).unwrap();
    let store = open(folder.path());
    let missing = store.open_object(&path("a"));
    assert!(matches!(missing, Err(OpenBlobError::Missing { .. })), "{missing:?}");
    std::fs::write(folder.path().join(&name), b"short").unwrap();
    let short = store.open_object(&path("a"));
    assert!(matches!(short, Err(OpenBlobError::Size { found: 5, .. })), "{short:?}");
}

#[test]
fn zones_get_small_and_large_objects_beneath_the_view() {
    let folder = tempfile::tempdir().unwrap();
    let view = folder.path().join("store/objects");
    let options =
        Options { objects_view: Some(view.clone()), ..Options::new(folder.path().join("store")) };
    let store = Store::open(Options { kept_bytes: Some(0), ..options }).unwrap();
    put(&store, "small", b"inline");
    put_blob(&store, "large", &[3; 9000]);
    let small = store.open_view(&store.object(&path("small")).unwrap().unwrap()).unwrap();
    let large = store.open_view(&store.object(&path("large")).unwrap().unwrap()).unwrap();
    assert_eq!(read_all(&small), b"inline");
    assert_eq!(read_all(&large), [3; 9000]);
    assert_eq!(files_below(&view).len(), 2);
    drop((small, large));
    assert_eq!(files_below(&view).len(), 1);
}

#[test]
fn accounts_and_buckets_keep_their_names_and_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let accounts = |store: &Store| {
        let both =
            |txn: &mut Txn<'_>| Ok::<_, TxnError>((txn.account("alice")?, txn.account("bob")?));
        store.transact_wait(both).unwrap()
    };
    let (alice, bob) = accounts(&store);
    assert_ne!(alice, bob);
    let make = move |store: &Store, name: &'static str, owner| {
        let record = BucketRecord::new(owner, 3);
        store.transact_wait(move |txn| txn.make_bucket(name, &record)).unwrap()
    };
    assert_eq!(make(&store, "b", alice), Made::New);
    let existing = BucketRecord::new(alice, 3);
    assert_eq!(make(&store, "b", bob), Made::Existed(existing.clone()));
    assert_eq!(make(&store, "c", alice), Made::New);
    drop(store);
    let store = open(folder.path());
    assert_eq!(accounts(&store), (alice, bob));
    let view = store.read().unwrap();
    let names: Vec<_> = buckets(&view, alice).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["b", "c"]);
    assert_eq!(buckets(&view, bob).unwrap(), []);
    put(&store, "k", b"in bucket b");
    let remove =
        |name: &'static str| store.transact_wait(move |txn| txn.remove_bucket(name)).unwrap();
    assert_eq!(remove("b"), Removed::NotEmpty);
    assert_eq!(remove("c"), Removed::Gone);
    assert_eq!(remove("c"), Removed::Missing);
    delete(&store, "k");
    assert_eq!(remove("b"), Removed::Gone);
}

#[test]
fn many_at_once_are_all_there_and_in_one_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let store = store.clone();
            std::thread::spawn(move || {
                (0..50).map(|n| put(&store, &format!("{thread}/{n}"), b"x").0).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut versions: Vec<u64> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 400);
    assert_eq!(store.status().objects, 400);
}

#[test]
fn an_index_that_is_lost_is_made_again_from_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, "a", b"small");
    let blob = put_blob(&store, "b", &[9; 10_000]);
    put(&store, "c", b"goes");
    delete(&store, "c");
    let before = store.status();
    drop(store);
    std::fs::remove_file(folder.path().join("index.redb")).unwrap();
    let store = open(folder.path());
    let after = store.status();
    assert_eq!((after.objects, after.object_bytes), (before.objects, before.object_bytes));
    assert!(store.object(&path("a")).unwrap().is_some());
    assert!(store.object(&path("c")).unwrap().is_none());
    assert_eq!(read_all(store.open_blob(blob).unwrap()), [9; 10_000]);
}

#[test]
fn an_index_whose_pages_are_gone_is_made_again_though_the_engine_panics_over_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for number in 0..2_000 {
        put(&store, &format!("key-{number:05}"), b"small");
    }
    let before = store.status();
    drop(store);
    // The header says where the newest commit is, and there is nothing.
    let index = std::fs::File::options().write(true).open(folder.path().join("index.redb"));
    let index = index.unwrap();
    let length = index.metadata().unwrap().len();
    index.set_len(4096).unwrap();
    index.set_len(length).unwrap();
    let store = open(folder.path());
    assert_eq!(store.status().objects, before.objects);
    assert!(store.object(&path("key-01999")).unwrap().is_some());
}
