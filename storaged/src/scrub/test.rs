//! The scrub of a store whose files are tampered with while it is open.

use crate::store::{AccountId, Area, Content, Metadata, ObjectPath, Options, Store};
use md5::{Digest as _, Md5};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};
use wire::task::ScrubStatus;

fn open(folder: &Path, scrub_rate: u64) -> Store {
    Store::open(Options { kept_bytes: Some(0), scrub_rate, ..Options::new(folder) }).unwrap()
}

fn put(store: &Store, key: &str, content: Vec<u8>, md5: [u8; 16]) {
    let path = ObjectPath::new(AccountId(1), Area::Stor, key.as_bytes()).unwrap();
    let meta = Metadata { etag: md5.into(), ..Metadata::default() };
    let content = if content.len() <= crate::store::INLINE_BYTES_MAX {
        Content::Inline(content.into())
    } else {
        Content::Blob(store.wait(async {
            let mut staging = store.stage(None, None).await.unwrap();
            staging.write(content.into()).await.unwrap();
            store.seal(staging).await.unwrap()
        }))
    };
    store.transact_wait(move |txn| txn.put_object(&path, content, meta)).unwrap();
}

/// Two large objects, and small ones of several pages.
fn fill(store: &Store) {
    for number in 0..600_u16 {
        let content = number.to_le_bytes().to_vec();
        let md5 = Md5::digest(&content).into();
        put(store, &format!("small {number}"), content, md5);
    }
    for number in 0..2_u8 {
        put(store, &format!("large {number}"), vec![number; 300_000], [0; 16]);
    }
}

fn passed(store: &Store, passes: u64) -> ScrubStatus {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let status = store.status().scrub;
        if status.passes >= passes {
            return status;
        }
        assert!(Instant::now() < until, "no pass was completed: {status:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_pass_reads_everything_and_finds_a_changed_byte_a_missing_file_and_a_wrong_small_content() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), 0);
    fill(&store);
    put(&store, "wrong", b"bytes".to_vec(), [9; 16]);
    put(&store, "lost", vec![7; 20_000], [0; 16]);
    drop(store);
    let file = |number: u64| folder.path().join(format!("objects/0000000000000/{number:016x}"));
    let mut bytes = fs::read(file(1)).unwrap();
    bytes[123_456] ^= 1;
    fs::set_permissions(file(1), Permissions::from_mode(0o600)).unwrap();
    fs::write(file(1), bytes).unwrap();
    fs::set_permissions(file(1), Permissions::from_mode(0o400)).unwrap();
    fs::remove_file(file(2)).unwrap();

    let store = open(folder.path(), 1 << 30);
    let status = passed(&store, 1);
    let found = status.findings.join("\n");
    assert_eq!(status.damaged, 3, "{found}");
    assert!(found.contains("object wrong version"), "{found}");
    assert!(
        found.contains("blob 1: it measures") && found.contains("of object large 1"),
        "{found}"
    );
    assert!(found.contains("blob 2: its file is missing; of object lost"), "{found}");
    assert!(status.bytes >= 600_000, "{status:?}");
    // It rests now, and what was found does not keep anybody from the rest.
    drop(store);
    let store = open(folder.path(), 1 << 30);
    assert_eq!(store.status().objects, 604);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(store.status().scrub.bytes, 0, "a restart does not begin a pass anew");
}

#[test]
fn a_scrub_that_is_ended_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), 0);
    fill(&store);
    drop(store);
    // So slow that it can't come through: the records of the small objects alone take seconds.
    let store = open(folder.path(), 20_000);
    let until = Instant::now() + Duration::from_secs(60);
    while store.status().scrub.bytes == 0 {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(5));
    }
    let begun = Instant::now();
    drop(store);
    assert!(begun.elapsed() < Duration::from_secs(25), "the end does not wait for the scrub");
    let store = open(folder.path(), 1 << 30);
    let status = passed(&store, 1);
    assert_eq!(status.damaged, 0, "{status:?}");
}
