//! Publications of hostile directories into a real store.

use super::*;
use crate::store::{BucketRecord, ContentRef, Durability, Options, bucket};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

struct House {
    _folder: tempfile::TempDir,
    store: Store,
    target: Target,
    out: PathBuf,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = Options::new(folder.path().join("data"));
        options.durability = Durability::None;
        options.kept_bytes = Some(0);
        let store = Store::open(options).unwrap();
        let account = store.transact_wait(|txn| txn.account("ann")).unwrap();
        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        let path = "results/today".to_owned();
        let shown = format!("/ann/stor/{path}");
        let target = Target { account, area: Area::Stor, path, shown };
        Self { _folder: folder, store, target, out }
    }

    fn publish(&self) -> Published {
        publish(&self.store, &self.target, File::open(&self.out).unwrap().as_fd()).unwrap()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.out.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let Target { account, area, path, .. } = &self.target;
        let path = ObjectPath::new(*account, *area, format!("{path}/{name}")).unwrap();
        let (record, file) = self.store.open_object(&path).unwrap()?;
        Some(match (record.content, file) {
            (ContentRef::Inline(bytes), _) => bytes.to_vec(),
            (ContentRef::Blob(_), file) => {
                let fd = file.unwrap().as_fd().try_clone_to_owned().unwrap();
                let mut file = File::from(fd);
                let mut bytes = Vec::new();
                file.rewind().unwrap();
                file.read_to_end(&mut bytes).unwrap();
                bytes
            }
        })
    }

    /// Publishes and expects one refusal with these words in it.
    fn refused(&self, words: &str) {
        let published = self.publish();
        assert_eq!((published.objects, published.refused_count), (0, 1), "{published:?}");
        assert!(published.refused[0].contains(words), "{published:?}");
    }
}

#[test]
fn files_become_objects_under_their_names_once() {
    let house = House::new();
    let large = vec![b'l'; 3 << 20];
    house.write("small", b"small");
    house.write("deep/er/large", &large);
    house.write("empty", b"");
    let published = house.publish();
    assert_eq!((published.objects, published.refused_count), (3, 0), "{published:?}");
    assert_eq!(published.bytes, 5 + (3 << 20));
    let names = ["deep/er/large", "empty", "small"];
    assert_eq!(published.made, names.map(|name| format!("/ann/stor/results/today/{name}")));
    assert_eq!(house.read("small").unwrap(), b"small");
    assert_eq!(house.read("deep/er/large").unwrap(), large);
    assert_eq!(house.read("empty").unwrap(), b"");
    assert_eq!(house.publish(), Published::default());
    house.write("small", b"other");
    assert_eq!(house.publish().objects, 1);
    assert_eq!(house.read("small").unwrap(), b"other");
    // The object's bytes are its own: what becomes of the file is no matter.
    house.write("deep/er/large", b"now short");
    assert_eq!(house.read("deep/er/large").unwrap(), large);
}

#[test]
fn its_bucket_is_made_and_another_account_s_is_not_written_into() {
    let mut house = House::new();
    let owner = |house: &House, name: &str| {
        let record = bucket(&house.store.read().unwrap(), name).unwrap();
        record.map(|record| record.owner)
    };
    assert_eq!(house.publish(), Published::default());
    assert_eq!(owner(&house, "results"), None, "nothing was written");
    house.write("a", b"a");
    assert_eq!(house.publish().objects, 1);
    assert_eq!(owner(&house, "results"), Some(house.target.account));
    house.target.path = "bobs/today".to_owned();
    let bob = house.store.transact_wait(|txn| txn.account("bob")).unwrap();
    let record = BucketRecord::new(bob, 1);
    house.store.transact_wait(move |txn| txn.make_bucket("bobs", &record)).unwrap();
    house.refused("another account's");
    assert_eq!(house.read("a"), None);
    house.target.path = "No-Bucket".to_owned();
    house.refused("first part");
    house.target.path = String::new();
    house.refused("in no bucket");
    house.write("logs/b", b"b");
    assert_eq!(house.publish().made, ["/ann/stor/results/today/logs/b"]);
    assert_eq!(owner(&house, "logs"), Some(house.target.account));
}

#[test]
fn what_is_no_plain_file_is_refused_and_does_not_hold_the_others_up() {
    let house = House::new();
    let out = &house.out;
    house.write("good", b"good");
    let elsewhere = house._folder.path().join("secret");
    fs::write(&elsewhere, b"secret").unwrap();
    symlink(&elsewhere, out.join("a-link")).unwrap();
    symlink("/proc/1/root/etc", out.join("b-link")).unwrap();
    nix::unistd::mkfifo(&out.join("c-pipe"), Mode::from_bits_truncate(0o644)).unwrap();
    let _socket = UnixListener::bind(out.join("d-socket")).unwrap();
    fs::hard_link(&elsewhere, out.join("e-name")).unwrap();
    File::create(out.join("f-holes")).unwrap().set_len(1 << 43).unwrap();
    fs::write(out.join(std::ffi::OsStr::from_bytes(b"g-\xff\n")), b"name").unwrap();
    let mut expected = 7;
    if nix::unistd::geteuid().is_root() {
        let mode = Mode::from_bits_truncate(0o666);
        if mknod(&out.join("h-device"), SFlag::S_IFCHR, mode, makedev(1, 3)).is_ok() {
            expected += 1;
        }
    }
    let published = house.publish();
    assert_eq!((published.objects, published.refused_count), (1, expected), "{published:?}");
    assert_eq!(house.read("good").unwrap(), b"good");
    let told = published.refused.join("\n");
    for words in ["a-link: it is a symbolic", "c-pipe: it is a pipe", "d-socket: it is a socket"] {
        assert!(told.contains(words), "{told}");
    }
    for words in ["e-name: it has 2 names", "f-holes: it is mostly holes", "not UTF-8"] {
        assert!(told.contains(words), "{told}");
    }
    for name in ["a-link", "b-link/passwd", "e-name"] {
        assert_eq!(house.read(name), None);
    }
}

#[test]
fn a_file_that_somebody_may_still_write_to_is_refused() {
    let house = House::new();
    let path = house.write("file", &vec![b'x'; 100_000]);
    let open = OpenOptions::new().append(true).open(&path).unwrap();
    house.refused("open for writing");
    // A descriptor that is on its way through a socket nobody reads is open, too.
    let (ours, theirs) = sys::seqpacket::Socket::pair().unwrap();
    ours.send(b"parked", &[open.as_fd()]).unwrap();
    drop((open, ours));
    house.refused("open for writing");
    drop(theirs);
    assert_eq!(house.publish().objects, 1);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_refused_or_whole() {
    let house = House::new();
    const BYTES: usize = 24 << 20;
    let path = house.write("file", &vec![b'0'; BYTES]);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (path, stop) = (path.clone(), Arc::clone(&stop));
        move || {
            let mut letter = b'1';
            while !stop.load(Ordering::Relaxed) {
                // Opening waits while the file is being read.
                let mut file = OpenOptions::new().write(true).open(&path).unwrap();
                file.write_all(&vec![letter; BYTES]).unwrap();
                letter = if letter == b'9' { b'1' } else { letter + 1 };
            }
        }
    });
    let mut taken = 0;
    for _ in 0..12 {
        let published = house.publish();
        taken += published.objects;
        if published.objects == 1 {
            let bytes = house.read("file").unwrap();
            assert!(bytes.len() == BYTES && bytes.iter().all(|byte| *byte == bytes[0]));
        } else if published.refused_count == 1 {
            let told = &published.refused[0];
            assert!(told.contains("writing") || told.contains("changed"), "{told}");
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    println!("{taken} of 12 publications took the file");
    house.publish();
    assert_eq!(house.read("file").unwrap().len(), BYTES);
}

/// A name that is now a file, now a link to something of the node's: whichever it is, only the file's bytes
/// ever become an object.
#[test]
fn a_name_that_is_swapped_for_a_link_never_leads_out() {
    let house = House::new();
    let elsewhere = house._folder.path().join("secrets");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("file"), b"secret").unwrap();
    house.write("inside/file", b"plain");
    symlink(&elsewhere, house.out.join("link")).unwrap();
    symlink(elsewhere.join("file"), house.out.join("file-link")).unwrap();
    house.write("name", b"plain");
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = std::thread::spawn({
        let (out, stop) = (house.out.clone(), Arc::clone(&stop));
        move || {
            let exchange = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
            let swap = |one: &str, other: &str| {
                let here = nix::fcntl::AT_FDCWD;
                nix::fcntl::renameat2(here, &out.join(one), here, &out.join(other), exchange)
                    .unwrap();
            };
            while !stop.load(Ordering::Relaxed) {
                swap("inside", "link");
                swap("name", "file-link");
            }
        }
    });
    let until = std::time::Instant::now() + std::time::Duration::from_secs(3);
    let (mut rounds, mut objects) = (0, 0);
    while std::time::Instant::now() < until {
        objects += house.publish().objects;
        rounds += 1;
        for name in ["inside/file", "link/file", "name", "file-link"] {
            let read = house.read(name);
            assert!(read.is_none() || read.as_deref() == Some(b"plain"), "{name}: {read:?}");
        }
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    println!("{rounds} publications, {objects} objects");
    assert!(objects > 0);
}

#[test]
fn a_directory_that_is_too_deep_is_refused_and_the_rest_is_taken() {
    let house = House::new();
    let mut path = house.out.clone();
    for _ in 0..walk::DEPTH_MAX + 3 {
        path.push("d");
    }
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("file"), b"deep").unwrap();
    house.write("file", b"file");
    let published = house.publish();
    assert_eq!((published.objects, published.refused_count), (1, 1), "{published:?}");
    assert!(published.refused[0].contains("directories down"), "{published:?}");
}

/// Who runs as storaged does: the owner of the files, and not root.
#[test]
fn a_file_that_its_owner_may_not_read_is_refused() {
    if nix::unistd::geteuid().is_root() {
        eprintln!("root may read everything: nothing to be seen");
        return;
    }
    let house = House::new();
    let path = house.write("file", b"mine");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    house.refused("forbids its owner");
}

/// What a message shows is bounded however much is refused.
#[test]
fn only_the_first_refusals_are_told() {
    let house = House::new();
    for number in 0..REFUSED_TOLD_MAX + 20 {
        symlink("x", house.out.join(format!("{number}{}", "n".repeat(240)))).unwrap();
    }
    let published = house.publish();
    assert_eq!(published.refused.len(), REFUSED_TOLD_MAX);
    assert_eq!(published.refused_count, REFUSED_TOLD_MAX as u64 + 20);
    let reply = wire::task::Reply::Published(published);
    let message = wire::frame::encode(wire::frame::Kind::Reply, 1, &reply, 0).unwrap();
    assert!(message.len() < wire::frame::MESSAGE_BYTES_MAX / 2);
}

#[test]
fn the_longest_answer_fits_a_message() {
    let house = House::new();
    // Control characters take most room in JSON, and backslashes in what is escaped already.
    let long = |number: usize| format!("{}{number:03}", "\u{1}".repeat(200));
    for number in 0..40 {
        house.write(&format!("{}/{}", long(number), long(number)), b"x");
        let odd = [b"\xff".repeat(250), format!("{number:03}").into_bytes()].concat();
        fs::write(house.out.join(std::ffi::OsStr::from_bytes(&odd)), b"name").unwrap();
    }
    let published = house.publish();
    assert_eq!((published.objects, published.refused_count), (40, 40));
    assert!(!published.made.is_empty() && published.made.len() < 40, "{}", published.made.len());
    assert_eq!(published.refused.len(), REFUSED_TOLD_MAX);
    let reply = wire::task::Reply::Published(published);
    let message = wire::frame::encode(wire::frame::Kind::Reply, 1, &reply, 0).unwrap();
    assert!(message.len() <= wire::frame::MESSAGE_BYTES_MAX);
}
