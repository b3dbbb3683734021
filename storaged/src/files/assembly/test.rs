//! Uploads in parts on real files: what a crash, a race or a failure leaves of them.

use super::*;
use crate::committer::wait;
use crate::files::{AssembleError, Assembly};
use crate::store::uploads::{Begun, NewUpload, Upload, parts};
use crate::store::{AccountId, Content, Metadata, ObjectPath, Options};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Above the inline threshold, so that the object is a file.
const SIZE: usize = 20_000;

fn open(path: &Path) -> Store {
    Store::open(Options { kept_bytes: Some(0), disk_threads: 3, ..Options::new(path) }).unwrap()
}

fn path(key: &str) -> ObjectPath {
    ObjectPath::of_key(AccountId(1), "b", key.as_bytes()).unwrap()
}

fn begin(store: &Store, key: &str) -> UploadId {
    let new = NewUpload {
        bucket: "b".to_owned(),
        path: path(key),
        initiator: "ada".to_owned(),
        initiated_ms: 1,
        sum: None,
        meta: Metadata::default(),
    };
    store.transact_wait(move |txn| txn.begin_upload(new)).unwrap().id
}

fn bytes(seed: u8, size: usize) -> Vec<u8> {
    (0..size).map(|at| (at as u8).wrapping_mul(7).wrapping_add(seed)).collect()
}

fn writing(store: &Store, id: UploadId, number: u32, bytes: &[u8]) -> PartWriter {
    wait(async {
        let size = Some(bytes.len() as u64);
        let mut writer = store.begin_part(id, number, size).await.unwrap();
        writer.write(bytes.to_vec().into()).await.unwrap();
        writer
    })
}

fn written(store: &Store, id: UploadId, number: u32, bytes: &[u8]) -> WrittenPart {
    wait(writing(store, id, number, bytes).finish()).unwrap()
}

/// Uploads a part; whether it was written where it is to stay.
fn upload_part(store: &Store, id: UploadId, number: u32, bytes: &[u8]) -> bool {
    let part = written(store, id, number, bytes);
    let in_place = part.in_place();
    wait(store.record_part(part, None, 2)).unwrap();
    in_place
}

fn recorded(store: &Store, id: UploadId) -> Vec<UploadedPart> {
    parts(&store.read().unwrap(), id, 0, usize::MAX).unwrap().0
}

fn completion(store: &Store, id: UploadId) -> Completion {
    match store.begin_completion(id) {
        Begun::Mine(completion) => completion,
        other => panic!("{other:?}"),
    }
}

type Failure = AssembleError<TxnError>;

fn complete(store: &Store, id: UploadId, key: &str, numbers: &[u32]) -> Result<(), Failure> {
    let path = path(key);
    complete_with(store, id, numbers, move |txn, content, _| {
        txn.put_object(&path, content, Metadata::default()).map(drop)
    })
}

fn complete_with(
    store: &Store,
    id: UploadId,
    numbers: &[u32],
    finish: impl FnOnce(&mut crate::store::Txn<'_>, Content, &Upload) -> Result<(), TxnError>
    + Send
    + 'static,
) -> Result<(), Failure> {
    let all = recorded(store, id);
    let chosen = numbers.iter().map(|n| all.iter().find(|part| part.number == *n).unwrap().clone());
    let assembly = Assembly { chosen: chosen.collect(), md5: [3; 16] };
    wait(store.assemble(completion(store, id), assembly, finish, |()| ()))
}

fn content(store: &Store, key: &str) -> Vec<u8> {
    use std::io::Read;
    use std::os::fd::AsFd;
    let (record, file) = store.open_object(&path(key)).unwrap().unwrap();
    match (&record.content, file) {
        (crate::store::ContentRef::Inline(bytes), _) => bytes.to_vec(),
        (_, Some(file)) => {
            let mut bytes = Vec::new();
            let file = file.as_fd().try_clone_to_owned().unwrap();
            let mut file = fs::File::from(file);
            std::io::Seek::rewind(&mut file).unwrap();
            file.read_to_end(&mut bytes).unwrap();
            bytes
        }
        (_, None) => panic!("a blob is opened with its record"),
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The store as a SIGKILL at this moment would leave it: hard links, as uploads have them, stay such.
fn crashed(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let status = std::process::Command::new("cp")
        .args(["-a", "--no-target-directory"])
        .args([folder, copy.path()])
        .status();
    assert!(status.unwrap().success());
    copy
}

#[test]
fn an_object_of_parts_in_place_is_the_file_they_were_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let id = begin(&store, "k");
    let all: Vec<_> = (1..=4).map(|n| bytes(n, if n == 4 { 77 } else { SIZE })).collect();
    for number in [1, 3, 4, 2] {
        assert!(upload_part(&store, id, number, &all[number as usize - 1]));
    }
    let shared = files(&folder.path().join("uploads"));
    let inode = fs::metadata(&shared[0]).unwrap().ino();
    assert_eq!(shared.len(), 1);
    complete(&store, id, "k", &[1, 2, 3, 4]).unwrap();
    let objects = files(&folder.path().join("objects"));
    assert_eq!(fs::metadata(&objects[0]).unwrap().ino(), inode);
    assert!(content(&store, "k") == all.concat());
    eventually("the upload's directory goes", || {
        fs::read_dir(folder.path().join("uploads")).unwrap().count() == 0
    });
    assert!(recorded(&store, id).is_empty());
}

#[test]
fn a_last_part_that_comes_first_costs_one_copy_of_itself() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let id = begin(&store, "k");
    let all = [bytes(1, SIZE), bytes(2, SIZE), bytes(3, 9_000)];
    // Too short to say anything about the others.
    assert!(!upload_part(&store, id, 3, &all[2]));
    assert!(upload_part(&store, id, 1, &all[0]));
    assert!(upload_part(&store, id, 2, &all[1]));
    complete(&store, id, "k", &[1, 2, 3]).unwrap();
    assert!(content(&store, "k") == all.concat());
}

#[test]
fn a_part_without_a_length_has_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let id = begin(&store, "k");
    upload_part(&store, id, 1, &bytes(1, SIZE));
    let part = wait(async {
        let mut writer = store.begin_part(id, 2, None).await.unwrap();
        writer.write(bytes(2, SIZE + 5).into()).await.unwrap();
        writer.finish().await.unwrap()
    });
    assert!(!part.in_place());
    wait(store.record_part(part, None, 2)).unwrap();
    complete(&store, id, "k", &[1, 2]).unwrap();
    assert!(content(&store, "k") == [bytes(1, SIZE), bytes(2, SIZE + 5)].concat());
}

#[test]
fn a_part_sent_again_leaves_the_old_one_until_it_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let id = begin(&store, "k");
    let (old, other) = (bytes(1, SIZE), bytes(9, SIZE));
    assert!(upload_part(&store, id, 1, &old));
    upload_part(&store, id, 2, &old);
    // Given up half-way, and given up when it was whole.
    drop(writing(&store, id, 1, &other[..5_000]));
    let whole = written(&store, id, 1, &other);
    assert!(!whole.in_place());
    drop(whole);
    eventually("what was given up goes", || files(&folder.path().join("uploads")).len() == 1);
    upload_part(&store, id, 2, &other);
    complete(&store, id, "k", &[1, 2]).unwrap();
    assert!(content(&store, "k") == [old, other].concat());
}

#[test]
fn of_two_who_send_the_same_part_each_has_a_place_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let id = begin(&store, "k");
    let (a, b) = (bytes(1, SIZE), bytes(9, SIZE));
    let (first, second) = (written(&store, id, 1, &a), written(&store, id, 1, &b));
    assert!(first.in_place() && !second.in_place());
    wait(store.record_part(second, None, 2)).unwrap();
    wait(store.record_part(first, None, 2)).unwrap();
    assert_eq!(recorded(&store, id).len(), 1);
    complete(&store, id, "k", &[1]).unwrap();
    assert!(content(&store, "k") == a);
}

#[test]
fn a_crash_between_data_and_record_leaves_no_part_and_no_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let id = begin(&store, "k");
    upload_part(&store, id, 1, &bytes(1, SIZE));
    let in_place = written(&store, id, 2, &bytes(2, SIZE));
    let again = written(&store, id, 1, &bytes(3, SIZE));
    assert_eq!(files(&folder.path().join("uploads")).len(), 2);
    let after = crashed(folder.path());
    drop((in_place, again));
    let store = open(after.path());
    assert_eq!(recorded(&store, id).len(), 1);
    assert_eq!(files(&after.path().join("uploads")).len(), 1);
    assert!(upload_part(&store, id, 2, &bytes(4, SIZE)), "its place is free again");
    complete(&store, id, "k", &[1, 2]).unwrap();
    assert!(content(&store, "k") == [bytes(1, SIZE), bytes(4, SIZE)].concat());
}

#[test]
fn a_start_keeps_living_uploads_and_sweeps_ended_ones() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (living, ended) = (begin(&store, "k"), begin(&store, "l"));
    for id in [living, ended] {
        upload_part(&store, id, 1, &bytes(1, SIZE));
        upload_part(&store, id, 1, &bytes(2, SIZE));
    }
    let after = crashed(folder.path());
    drop(store);
    // As a crash after the record of the end, and before the files went, leaves it.
    let store = open(folder.path());
    store.transact_wait(move |txn| txn.forget_upload(ended)).unwrap();
    drop(store);
    for folder in [folder.path(), after.path()] {
        let store = open(folder);
        complete(&store, living, "k", &[1]).unwrap();
        assert!(content(&store, "k") == bytes(2, SIZE));
    }
    eventually("all files go", || files(&folder.path().join("uploads")).is_empty());
}

#[test]
fn a_crash_before_the_objects_record_leaves_the_upload_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let id = begin(&store, "k");
    let all = [bytes(1, SIZE), bytes(2, SIZE), bytes(3, SIZE)];
    for number in 1..=3 {
        upload_part(&store, id, number, &all[number as usize - 1]);
    }
    upload_part(&store, id, 2, &all[1]);
    let (sender, receiver) = std::sync::mpsc::channel();
    let here = folder.path().to_owned();
    let failed = complete_with(&store, id, &[1, 2, 3], move |_, _, _| {
        // The file is linked and on disk; its record is not.
        assert_eq!(files(&here.join("objects")).len(), 1);
        sender.send(crashed(&here)).unwrap();
        Err(TxnError::NoBlob(crate::store::BlobId(0)))
    });
    assert!(matches!(failed, Err(AssembleError::Record(_))), "{failed:?}");
    let after = receiver.recv().unwrap();
    for folder in [folder.path(), after.path()] {
        let store = if folder == after.path() { open(folder) } else { store.clone() };
        eventually("the object's name goes", || files(&folder.join("objects")).is_empty());
        // It takes parts still, old and new.
        upload_part(&store, id, 1, &all[2]);
        upload_part(&store, id, 4, &all[0]);
        complete(&store, id, "k", &[1, 2, 3, 4]).unwrap();
        let expected = [&all[2][..], &all[1], &all[2], &all[0]].concat();
        assert!(content(&store, "k") == expected);
    }
}

#[test]
fn who_writes_while_it_is_completed_or_aborted_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let id = begin(&store, "k");
    upload_part(&store, id, 1, &bytes(1, SIZE));
    let mut slow = writing(&store, id, 2, &bytes(2, SIZE)[..10_000]);
    let again = written(&store, id, 1, &bytes(3, SIZE));
    complete(&store, id, "k", &[1]).unwrap();
    let late = wait(async {
        slow.write(vec![0; crate::files::BUFFER_BYTES].into()).await?;
        slow.finish().await.map(drop)
    });
    assert!(matches!(late, Err(PartError::Ended)), "{late:?}");
    let late = wait(store.record_part(again, None, 2));
    assert!(matches!(late, Err(PartError::Ended)), "{late:?}");
    assert!(content(&store, "k") == bytes(1, SIZE));
    assert!(matches!(wait(store.begin_part(id, 3, None)), Err(PartError::Ended)));

    let id = begin(&store, "l");
    let part = written(&store, id, 1, &bytes(1, SIZE));
    assert!(wait(store.abort_upload(id)).unwrap());
    assert!(matches!(wait(store.record_part(part, None, 2)), Err(PartError::Ended)));
    assert!(!wait(store.abort_upload(id)).unwrap());
    eventually("all files go", || files(&folder.path().join("uploads")).is_empty());
}

#[test]
fn parts_are_refused_and_aborts_too_while_it_is_completed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let id = begin(&store, "k");
    let part = written(&store, id, 1, &bytes(1, SIZE));
    let under_way = completion(&store, id);
    assert!(matches!(wait(store.begin_part(id, 2, None)), Err(PartError::Completing)));
    assert!(matches!(wait(store.record_part(part, None, 2)), Err(PartError::Completing)));
    assert!(wait(store.abort_upload(id)).is_err());
    let Begun::Running(over) = store.begin_completion(id) else { panic!("one is under way") };
    drop(under_way);
    assert!(wait(over).is_err(), "dropped when it is over");
    upload_part(&store, id, 1, &bytes(1, SIZE));
    drop(completion(&store, id));
}

#[test]
fn a_part_that_changed_since_it_was_chosen_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let id = begin(&store, "k");
    upload_part(&store, id, 1, &bytes(1, SIZE));
    let chosen = recorded(&store, id);
    upload_part(&store, id, 1, &bytes(2, SIZE));
    let assembly = Assembly { chosen, md5: [0; 16] };
    let finish = |_: &mut crate::store::Txn<'_>, _: Content, _: &Upload| Ok::<_, TxnError>(());
    let done = wait(store.assemble(completion(&store, id), assembly, finish, |()| ()));
    assert!(matches!(done, Err(AssembleError::Changed { number: 1 })), "{done:?}");
}

#[test]
fn a_small_object_is_kept_in_its_record() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let id = begin(&store, "k");
    upload_part(&store, id, 1, b"ab");
    upload_part(&store, id, 2, b"");
    upload_part(&store, id, 3, b"cde");
    complete(&store, id, "k", &[1, 2, 3]).unwrap();
    assert_eq!(content(&store, "k"), b"abcde");
    assert!(files(&folder.path().join("objects")).is_empty());
}

#[test]
fn a_check_sees_parts_whose_bytes_are_gone() {
    use crate::check::{Depth, check};
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let id = begin(&store, "k");
    upload_part(&store, id, 1, &bytes(1, SIZE));
    upload_part(&store, id, 2, &bytes(2, SIZE));
    upload_part(&store, id, 1, &bytes(3, SIZE));
    drop(store);
    let sound = check(folder.path(), Depth::Usual).unwrap();
    assert!(sound.findings.is_empty(), "{:?}", sound.findings);
    for file in files(&folder.path().join("uploads")) {
        fs::OpenOptions::new().write(true).open(file).unwrap().set_len(SIZE as u64 - 1).unwrap();
    }
    assert_eq!(check(folder.path(), Depth::Usual).unwrap().findings.len(), 2);
}

/// What one does to an upload.
#[derive(Debug, Clone)]
enum Step {
    /// Sends a part: number, size, and whether it is recorded.
    Send(u32, usize, bool),
    /// Kills and starts again.
    Crash,
    /// Tries to complete, and fails at the last moment.
    Fail,
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![Just(SIZE), Just(SIZE), Just(9_000_usize), Just(30_000_usize)];
    prop_oneof![
        8 => (1_u32..6, size, proptest::bool::weighted(0.8)).prop_map(|(n, s, r)| Step::Send(n, s, r)),
        1 => Just(Step::Crash),
        1 => Just(Step::Fail),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_happens_the_object_is_the_parts_that_were_acknowledged(
        steps in proptest::collection::vec(step(), 1..14),
        left_out in 0_u32..6,
    ) {
        let mut folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path());
        let id = begin(&store, "k");
        let mut model: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let chosen = |model: &BTreeMap<u32, Vec<u8>>| -> Vec<u32> {
            model.keys().copied().filter(|number| *number != left_out).collect()
        };
        for (seed, step) in steps.into_iter().enumerate() {
            match step {
                Step::Send(number, size, kept) => {
                    let bytes = bytes(seed as u8, size);
                    let part = written(&store, id, number, &bytes);
                    if kept {
                        wait(store.record_part(part, None, 2)).unwrap();
                        model.insert(number, bytes);
                    }
                }
                Step::Crash => {
                    let after = crashed(folder.path());
                    drop(store);
                    folder = after;
                    store = open(folder.path());
                }
                Step::Fail => {
                    let failed = complete_with(&store, id, &chosen(&model), |_, _, _| {
                        Err(TxnError::NoBlob(crate::store::BlobId(0)))
                    });
                    prop_assert!(failed.is_err());
                }
            }
        }
        let numbers = chosen(&model);
        if !numbers.is_empty() {
            complete(&store, id, "k", &numbers).unwrap();
            let expected: Vec<u8> = numbers.iter().flat_map(|n| model[n].clone()).collect();
            prop_assert!(content(&store, "k") == expected);
            eventually("all files go", || files(&folder.path().join("uploads")).is_empty());
        }
    }
}
