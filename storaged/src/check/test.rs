//! Checking stores that were tampered with: each kind of damage is found, and a sound store is sound.

use super::*;
use crate::index::{Changes, Persist};
use crate::store::uploads::NewUpload;
use crate::store::{AccountId, Area, BucketRecord, Content, Metadata, ObjectPath, Options, Store};
use md5::{Digest as _, Md5};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

fn options(folder: &Path) -> Options {
    Options { kept_bytes: Some(0), ..Options::new(folder) }
}

fn path(key: &str) -> ObjectPath {
    ObjectPath::new(AccountId(1), Area::Stor, format!("b/{key}").as_bytes()).unwrap()
}

fn put(store: &Store, key: &str, bytes: usize) {
    let content = vec![bytes as u8; bytes];
    let meta =
        Metadata { etag: <[u8; 16]>::from(Md5::digest(&content)).into(), ..Metadata::default() };
    let content = if bytes <= crate::store::INLINE_BYTES_MAX {
        Content::Inline(content.into())
    } else {
        let sealed = store.wait(async {
            let mut staging = store.stage(None, None).await.unwrap();
            staging.write(content.into()).await.unwrap();
            store.seal(staging).await.unwrap()
        });
        Content::Blob(sealed)
    };
    let path = path(key);
    store.transact_wait(move |txn| txn.put_object(&path, content, meta)).unwrap();
}

/// A store of two small objects and three large ones, of which two share their bytes.
fn filled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(options(folder.path())).unwrap();
    store
        .transact_wait(|txn| {
            txn.account("ada")?;
            txn.make_bucket("b", &BucketRecord::new(AccountId(1), 0)).map(drop)
        })
        .unwrap();
    for (key, bytes) in [("one", 10), ("two", 2000), ("large", 50_000), ("larger", 3 << 20)] {
        put(&store, key, bytes);
    }
    put(&store, "two", 3000);
    let copied = store.object(&path("large")).unwrap().unwrap();
    let (content, size, meta) = (copied.content, copied.size, copied.meta);
    store.transact_wait(move |txn| txn.put_shared(&path("copy"), content, size, meta)).unwrap();
    folder
}

fn blob_files(folder: &Path) -> Vec<PathBuf> {
    let directory = folder.join("objects/0000000000000");
    let mut files: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn findings(folder: &Path, depth: Depth) -> Vec<String> {
    let report = check(folder, depth).unwrap();
    assert_eq!(report.is_sound(), report.findings.is_empty());
    report.findings.iter().map(ToString::to_string).collect()
}

/// Changes the index behind the store's back.
fn tamper(folder: &Path, change: impl FnOnce(&dyn crate::index::View) -> Changes) {
    let mut store = Offline::open(folder, Way::AsItIs).unwrap();
    let changes = change(&*store.index.view().unwrap());
    let sequence = store.sequence;
    store.index.apply(&changes, sequence, Persist::Now).unwrap();
}

fn assert_one(found: &[String], part: &str) {
    assert!(found.len() == 1 && found[0].contains(part), "{part}: {found:#?}");
}

#[test]
fn a_sound_store_is_sound_and_counted() {
    let folder = filled();
    let report = check(folder.path(), Depth::Deep).unwrap();
    assert!(report.is_sound(), "{report}");
    assert_eq!(report.checked.versions, 5);
    assert_eq!((report.checked.blobs, report.checked.files), (2, 2));
    assert_eq!(report.checked.bytes, 50_000 + (3 << 20));
    assert_eq!(report.left_over.count(), 0);
    // Checking it changes nothing that another check, or a start, would see.
    assert_eq!(check(folder.path(), Depth::Deep).unwrap(), report);
    assert_eq!(Store::open(options(folder.path())).unwrap().status().objects, 5);
}

#[test]
fn a_store_that_is_served_is_refused_and_so_is_a_directory_that_is_none() {
    let folder = filled();
    let store = Store::open(options(folder.path())).unwrap();
    let refused = check(folder.path(), Depth::Usual).unwrap_err();
    assert!(crate::s3::chain(&refused).contains("in use"), "{refused:?}");
    drop(store);
    let none = tempfile::tempdir().unwrap();
    let refused = check(none.path(), Depth::Usual).unwrap_err();
    assert!(crate::s3::chain(&refused).contains("is no store"), "{refused:?}");
    assert_eq!(fs::read_dir(none.path()).unwrap().count(), 0, "and it stays as it was");
}

#[test]
fn missing_cut_and_writable_files_are_found() {
    let folder = filled();
    let files = blob_files(folder.path());
    fs::set_permissions(&files[0], Permissions::from_mode(0o600)).unwrap();
    assert_one(&findings(folder.path(), Depth::Usual), "mode 600");
    let bytes = fs::read(&files[0]).unwrap();
    fs::write(&files[0], &bytes[..49_999]).unwrap();
    assert_one(&findings(folder.path(), Depth::Usual), "49999 bytes instead of 50000");
    fs::remove_file(&files[0]).unwrap();
    assert_one(&findings(folder.path(), Depth::Usual), "its file is missing");
}

#[test]
fn a_changed_byte_is_found_by_a_deep_check_only() {
    let folder = filled();
    let file = &blob_files(folder.path())[1];
    let mut bytes = fs::read(file).unwrap();
    bytes[2 << 20] ^= 1;
    fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
    fs::write(file, bytes).unwrap();
    fs::set_permissions(file, Permissions::from_mode(0o400)).unwrap();
    assert!(findings(folder.path(), Depth::Usual).is_empty());
    assert_one(&findings(folder.path(), Depth::Deep), "measures");
}

#[test]
fn files_without_records_are_left_over_above_the_floor_and_found_below_it() {
    let folder = filled();
    let directory = folder.path().join("objects/0000000000000");
    fs::write(directory.join("0000000000000fff"), b"x").unwrap();
    fs::write(folder.path().join("staging/0000000000000007"), b"x").unwrap();
    let report = check(folder.path(), Depth::Usual).unwrap();
    assert!(report.is_sound(), "{report}");
    assert_eq!((report.left_over.objects, report.left_over.staging), (1, 1));
    tamper(folder.path(), |_| {
        let key = crate::format::state_key(crate::files::FLOOR);
        Changes::from([(key, Some(crate::format::Value::encode(&0x1000_u64)))])
    });
    fs::write(directory.join("holiday.jpg"), b"x").unwrap();
    let found = findings(folder.path(), Depth::Usual).join("\n");
    assert!(found.contains("blob 4095 has a file and no record"), "{found}");
    assert!(found.contains("holiday.jpg is none of the store's"), "{found}");
}

#[test]
fn wrong_counts_and_lost_records_are_found() {
    use crate::format::{Keyspace, Value, blob_of_key, prefix_end, state_key};
    use crate::store::BlobRecord;
    use std::ops::{Bound, ControlFlow};
    let folder = filled();
    tamper(folder.path(), |view| {
        let mut changes = Changes::new();
        let from = [Keyspace::Blobs.byte()];
        let end = prefix_end(&from).unwrap();
        view.range(Bound::Included(&from), Bound::Excluded(&end), &mut |key, value| {
            let record = BlobRecord::decode(value.to_vec()).unwrap();
            let change = if blob_of_key(key).unwrap().0 == 0 {
                Some(BlobRecord { references: 7, ..record }.encode())
            } else {
                None
            };
            changes.insert(key.to_vec(), change);
            ControlFlow::Continue(())
        })
        .unwrap();
        changes.insert(state_key(crate::store::OBJECTS), Some(99_u64.encode()));
        changes.insert(vec![5, 1, 2], Some(vec![1, 2, 3]));
        changes.insert(crate::format::bucket_key("b"), None);
        changes
    });
    let found = findings(folder.path(), Depth::Deep).join("\n");
    for part in [
        "blob 0 counts 7 references and has 2",
        "blob 1 has no record, but 1 point to it",
        "objects is 99 on record and 5 by counting",
        "record object",
        "bucket b: only its owner has it",
        "differ at",
    ] {
        assert!(found.contains(part), "{part}: {found}");
    }
    // All of that is of the index alone: one made anew is sound.
    rebuild(folder.path()).unwrap();
    assert!(findings(folder.path(), Depth::Deep).is_empty());
}

#[test]
fn a_damaged_snapshot_is_found() {
    let folder = filled();
    let store = Store::open(Options { segment_bytes: 100, ..options(folder.path()) }).unwrap();
    put(&store, "more", 10);
    put(&store, "and more", 10);
    store.make_snapshot().unwrap();
    drop(store);
    assert!(findings(folder.path(), Depth::Deep).is_empty());
    let snapshots = folder.path().join("snapshots");
    let name = fs::read_dir(&snapshots).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&name).unwrap();
    bytes[200] ^= 4;
    fs::write(&name, bytes).unwrap();
    let found = findings(folder.path(), Depth::Deep).join("\n");
    assert!(found.contains("is damaged"), "{found}");
    assert!(found.contains("can't be made anew"), "{found}");
}

/// The file of an upload's one part, beside the objects.
fn upload(folder: &Path) -> PathBuf {
    let store = Store::open(options(folder)).unwrap();
    let new = NewUpload {
        bucket: "b".to_owned(),
        path: path("upload"),
        initiator: "ada".to_owned(),
        initiated_ms: 1,
        sum: None,
        meta: Metadata::default(),
    };
    let id = store.transact_wait(move |txn| txn.begin_upload(new)).unwrap().id;
    store.wait(async {
        let mut part = store.begin_part(id, 1, Some(50_000)).await.unwrap();
        part.write(vec![7; 50_000].into()).await.unwrap();
        let written = part.finish().await.unwrap();
        store.record_part(written, None, 2).await.unwrap();
    });
    let directory = folder.join("uploads").join(id.to_string());
    let files: Vec<_> = fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    files[0].clone()
}

#[test]
fn a_part_that_is_not_what_was_acknowledged_is_found() {
    let folder = filled();
    let file = upload(folder.path());
    assert!(findings(folder.path(), Depth::Deep).is_empty());
    let mut bytes = fs::read(&file).unwrap();
    bytes[40_000] ^= 1;
    fs::write(&file, &bytes).unwrap();
    assert!(findings(folder.path(), Depth::Usual).is_empty(), "only reading tells");
    assert_one(&findings(folder.path(), Depth::Deep), "not those of the part's entity tag");
    fs::write(&file, &bytes[..40_000]).unwrap();
    assert_one(&findings(folder.path(), Depth::Usual), "its file ends at 40000");
    fs::remove_file(&file).unwrap();
    assert_one(&findings(folder.path(), Depth::Usual), "part 1 of upload");
}

#[test]
fn a_report_is_json() {
    let folder = filled();
    fs::remove_file(&blob_files(folder.path())[0]).unwrap();
    let report = check(folder.path(), Depth::Usual).unwrap();
    let json: serde_json::Value = serde_json::to_value(&report).unwrap();
    assert_eq!(json["findings"][0]["finding"], "file");
    assert_eq!(json["findings"][0]["blob"], 0);
    assert_eq!(json["checked"]["versions"], 5);
}
