//! Manifests of a real store, mounted by this host's kernel where this is root.

use super::*;
use crate::committer::wait;
use crate::store::{
    BucketRecord, Content, Deleter, Durability, Metadata, ObjectPath, Options, Versioning,
};
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use sys::mount::{attach, detach};

struct House {
    folder: tempfile::TempDir,
    store: Store,
    account: AccountId,
}

impl House {
    fn new() -> Self {
        // Not in /tmp, which may be a tmpfs: EROFS is mounted from files that have pages.
        Self::again(tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap())
    }

    fn again(folder: tempfile::TempDir) -> Self {
        let mut options = Options::new(folder.path().join("data"));
        options.durability = Durability::None;
        options.kept_bytes = Some(0);
        let store = Store::open(options).unwrap();
        let account = store.transact_wait(|txn| txn.account("ann")).unwrap();
        Self { folder, store, account }
    }

    fn restart(self) -> Self {
        let Self { folder, store, .. } = self;
        store.shutdown();
        drop(store);
        Self::again(folder)
    }

    fn path(&self, name: &str) -> ObjectPath {
        ObjectPath::new(self.account, Area::Stor, name).unwrap()
    }

    /// Small contents stay in the index, the others get files.
    fn put(&self, name: &str, bytes: &[u8]) {
        let content = if bytes.len() < 1000 {
            Content::Inline(bytes.to_vec().into())
        } else {
            let mut staging = wait(self.store.stage(None, None)).unwrap();
            wait(staging.write(bytes.to_vec().into())).unwrap();
            Content::Blob(wait(self.store.seal(staging)).unwrap())
        };
        let meta = Metadata { modified_ms: 1_700_000_000_123, ..Metadata::default() };
        let path = self.path(name);
        self.store.transact_wait(move |txn| txn.put_object(&path, content, meta)).unwrap();
    }

    fn delete(&self, name: &str) {
        let path = self.path(name);
        let deleted = move |txn: &mut crate::store::Txn<'_>| {
            txn.delete_object(&path, None, Deleter::plain(0))
        };
        self.store.transact_wait(deleted).unwrap();
    }

    fn make(&self, prefix: &str) -> Made {
        make(&self.store, self.account, Area::Stor, prefix.as_bytes(), None).unwrap()
    }

    /// Files of objects on disk.
    fn files(&self) -> usize {
        let objects = self.folder.path().join("data/objects");
        let folders = fs::read_dir(objects).unwrap().map(|entry| entry.unwrap().path());
        folders.map(|folder| fs::read_dir(folder).unwrap().count()).sum()
    }

    fn wait_for_files(&self, count: usize) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.files() != count {
            assert!(Instant::now() < until, "{} files instead of {count}", self.files());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A manifest as zoned mounts it.
struct Mounted {
    at: PathBuf,
    names: PathBuf,
}

impl Mounted {
    fn new(house: &House, made: &Made) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("not root: nothing can be mounted, only what can be read is checked");
            return None;
        }
        let names = house.folder.path().join(format!("names-{}", made.id.0));
        let at = house.folder.path().join(format!("at-{}", made.id.0));
        fs::create_dir(&names).unwrap();
        fs::create_dir(&at).unwrap();
        let source = PathBuf::from(format!("/proc/self/fd/{}", made.file.as_raw_fd()));
        let options = sys::mount::Options { read_only: true, ..Default::default() };
        attach("erofs", &source, &names, options, "").unwrap();
        let data = house.folder.path().join("data/objects");
        let layers = format!("metacopy=on,lowerdir={}::{}", names.display(), data.display());
        attach("overlay", &PathBuf::from("overlay"), &at, options, &layers).unwrap();
        Some(Self { at, names })
    }

    /// Every file below, by its path.
    fn all(&self) -> BTreeMap<String, Vec<u8>> {
        let mut all = BTreeMap::new();
        let mut open = vec![self.at.clone()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    let name = path.strip_prefix(&self.at).unwrap().to_str().unwrap().to_owned();
                    all.insert(name, fs::read(&path).unwrap());
                }
            }
        }
        all
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for path in [&self.at, &self.names] {
            detach(path).unwrap();
        }
    }
}

fn large(letter: u8) -> Vec<u8> {
    vec![letter; 20_000]
}

#[test]
fn a_prefix_is_shown_with_the_bytes_of_its_objects_whatever_they_are_called() {
    let house = House::new();
    let expected = [
        ("logs/a", "a", b'a'),
        ("logs/b/one", "b/one", b'1'),
        ("logs/b", "%=b%o", b'b'),
        ("logs/b/two/three", "b/two/three", b'2'),
        ("logs//x", "%=/x", b'x'),
        ("logs/../../etc/passwd", "%=../%=../etc/passwd", b'p'),
        ("logs/caf\u{e9}", "caf\u{e9}", b'n'),
        ("logs/cafe\u{301}", "cafe\u{301}", b'd'),
        ("logs/line\nbreak", "line\nbreak", b'l'),
        ("logs/full/", "full/%=", b'f'),
    ];
    for (name, _, letter) in expected {
        house.put(name, &large(letter));
    }
    house.put("logs/small", b"small");
    house.put("logs/folder/", b"");
    house.put("logs-not/below", b"no");
    house.put("other", b"no");
    let made = house.make("logs/");
    assert_eq!((made.objects, made.left_out), (expected.len() as u64 + 2, 0));
    let Some(mounted) = Mounted::new(&house, &made) else { return };
    let mut all: BTreeMap<String, Vec<u8>> =
        expected.iter().map(|(_, shown, letter)| ((*shown).to_owned(), large(*letter))).collect();
    all.insert("small".to_owned(), b"small".to_vec());
    assert_eq!(mounted.all(), all);
    assert!(mounted.at.join("folder").is_dir());
    let time = fs::metadata(mounted.at.join("a")).unwrap().modified().unwrap();
    assert_eq!(time.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis(), 1_700_000_000_123);
}

#[test]
fn what_was_deleted_or_replaced_stays_for_the_zone_and_goes_with_the_manifest() {
    let house = House::new();
    house.put("b/deleted", &large(b'd'));
    house.put("b/replaced", &large(b'r'));
    let made = house.make("b/");
    house.delete("b/deleted");
    house.put("b/replaced", &large(b'n'));
    house.put("c/other", &large(b'o'));
    house.delete("c/other");
    // What no manifest names goes at once; the two old files stay beside the new one.
    house.wait_for_files(3);
    let house = house.restart();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(house.files(), 3);
    if let Some(mounted) = Mounted::new(&house, &made) {
        let all = mounted.all();
        assert_eq!((&all["deleted"], &all["replaced"]), (&large(b'd'), &large(b'r')));
    }
    assert_eq!(house.store.pins().list(None, 9), [made.id]);
    house.store.pins().release(made.id).unwrap();
    house.store.look_for_unlinks();
    house.wait_for_files(1);
    assert_eq!(fs::read_dir(house.folder.path().join("data/manifests")).unwrap().count(), 0);
}

#[test]
fn only_current_versions_are_shown_and_no_deleted_ones() {
    let house = House::new();
    let versioned =
        BucketRecord { versioning: Versioning::Enabled, ..BucketRecord::new(house.account, 0) };
    house.store.transact_wait(move |txn| txn.make_bucket("b", &versioned)).unwrap();
    for letter in b'a'..=b'k' {
        house.put("b/often", &large(letter));
    }
    house.put("b/gone", &large(b'g'));
    house.delete("b/gone");
    let made = house.make("b/");
    assert_eq!(made.objects, 1);
    let Some(mounted) = Mounted::new(&house, &made) else { return };
    assert_eq!(mounted.all(), BTreeMap::from([("often".to_owned(), large(b'k'))]));
}

#[test]
fn nothing_is_an_empty_tree() {
    let house = House::new();
    let made = house.make("nothing/here/");
    assert_eq!(made.objects, 0);
    let Some(mounted) = Mounted::new(&house, &made) else { return };
    assert_eq!(mounted.all(), BTreeMap::new());
}

#[test]
fn a_hundred_thousand_objects_are_one_mount() {
    const OBJECTS: usize = 100_000;
    let house = House::new();
    // One file, and as many objects that share it: what counts is the names.
    house.put("source", &large(b's'));
    let source = house.store.object(&house.path("source")).unwrap().unwrap();
    for batch in 0..OBJECTS / 10_000 {
        let (account, source) = (house.account, source.clone());
        let put = move |txn: &mut crate::store::Txn<'_>| {
            for number in batch * 10_000..(batch + 1) * 10_000 {
                let name = format!("b/{:03}/object-{number:08}.log", number % 100);
                let path = ObjectPath::new(account, Area::Stor, name).unwrap();
                txn.put_shared(&path, source.content.clone(), source.size, source.meta.clone())?;
            }
            Ok::<_, crate::store::TxnError>(())
        };
        house.store.transact_wait(put).unwrap();
    }
    let began = Instant::now();
    let made = house.make("b/");
    println!("{OBJECTS} objects: {} bytes in {:?}", made.bytes, began.elapsed());
    assert_eq!(made.objects as usize, OBJECTS);
    assert!(made.bytes < 25 << 20, "{}", made.bytes);
    let Some(mounted) = Mounted::new(&house, &made) else { return };
    let folders = fs::read_dir(&mounted.at).unwrap().map(|entry| entry.unwrap().path());
    let counts = folders.map(|folder| fs::read_dir(folder).unwrap().count());
    assert_eq!(counts.collect::<Vec<_>>(), [OBJECTS / 100; 100]);
    let one = fs::read(mounted.at.join("042/object-00012342.log")).unwrap();
    assert_eq!(one, large(b's'));
}
