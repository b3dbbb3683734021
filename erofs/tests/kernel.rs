//! The kernel itself mounts what was written, and shows the tree that was meant. Needs root.
#![allow(clippy::unwrap_used)]

use erofs::{Contents, Device, Meta, Node, Time, Tree, write};
use std::fs;
use std::io::{Cursor, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

fn tree() -> Tree {
    let mut tree = Tree::new(Meta::of_mode(0o755));
    let root = tree.root();
    let meta = Meta {
        mode: 0o4711,
        user: 70_000,
        group: 80_000,
        modified: Time { seconds: 1_700_000_000, nanoseconds: 42 },
        attributes: vec![(b"user.mime".to_vec(), b"text/plain".to_vec())],
    };
    let big = Node::File(Contents::Streamed { size: 1_000_001, key: 0 });
    let big = tree.insert(root, b"big", big, meta.clone()).unwrap();
    tree.link(root, b"same", big).unwrap();
    let plain = || Meta::of_mode(0o644);
    let small = Node::File(Contents::Bytes(b"small".to_vec()));
    tree.insert(root, b"small", small, plain()).unwrap();
    let none = Node::File(Contents::Absent { size: 1 << 40 });
    tree.insert(root, b"none", none, plain()).unwrap();
    tree.insert(root, b"link", Node::Symlink(b"dir/file-7".to_vec()), plain()).unwrap();
    let null = Node::Device(Device::Character { major: 1, minor: 3 });
    tree.insert(root, b"null", null, plain()).unwrap();
    tree.insert(root, b"pipe", Node::Device(Device::Fifo), plain()).unwrap();
    let directory = tree.insert(root, b"dir", Node::directory(), Meta::of_mode(0o750)).unwrap();
    for number in 0..3000 {
        let file = Node::File(Contents::Bytes(format!("number {number}").into_bytes()));
        tree.insert(directory, format!("file-{number}").as_bytes(), file, plain()).unwrap();
    }
    let inner = tree.insert(directory, b"!inner", Node::directory(), Meta::of_mode(0o700)).unwrap();
    tree.insert(inner, &[b'n'; 255], Node::directory(), Meta::of_mode(0o700)).unwrap();
    tree
}

fn write_to(path: &Path) {
    let mut source =
        |_| -> std::io::Result<Box<dyn Read>> { Ok(Box::new(Cursor::new(vec![b'b'; 1_000_001]))) };
    let out = fs::File::create(path).unwrap();
    let (out, written) = write(&tree(), &mut source, out).unwrap();
    assert_eq!(out.metadata().unwrap().len(), written.bytes);
}

fn check(at: &Path) {
    let big = fs::metadata(at.join("big")).unwrap();
    assert_eq!((big.mode() & 0o7777, big.uid(), big.gid()), (0o4711, 70_000, 80_000));
    assert_eq!((big.mtime(), big.mtime_nsec(), big.nlink()), (1_700_000_000, 42, 2));
    assert_eq!(fs::read(at.join("big")).unwrap(), vec![b'b'; 1_000_001]);
    assert_eq!(fs::metadata(at.join("same")).unwrap().ino(), big.ino());
    assert_eq!(fs::read(at.join("small")).unwrap(), b"small");
    assert_eq!(fs::metadata(at.join("none")).unwrap().size(), 1 << 40);
    assert_eq!(fs::read(at.join("link")).unwrap(), b"number 7");
    assert_eq!(fs::metadata(at.join("null")).unwrap().rdev(), 0x103);
    assert!(fs::metadata(at.join("pipe")).unwrap().file_type().is_fifo());
    // All are found by name, each in its block of the directory.
    for number in 0..3000 {
        let read = fs::read(at.join("dir").join(format!("file-{number}"))).unwrap();
        assert_eq!(read, format!("number {number}").as_bytes());
    }
    let mut names = fs::read_dir(at.join("dir")).unwrap().map(|e| e.unwrap().file_name());
    assert!(names.any(|name| name == "!inner"));
    assert_eq!(fs::read_dir(at.join("dir")).unwrap().count(), 3001);
    let inner = at.join("dir/!inner").join("n".repeat(255));
    assert_eq!(fs::metadata(inner.join("../..")).unwrap().ino(), ino(&at.join("dir")));
    let file = fs::File::open(at.join("same")).unwrap();
    let mut value = [0; 32];
    let value = sys::xattr::get(std::os::fd::AsFd::as_fd(&file), c"user.mime", &mut value);
    assert_eq!(value, Ok(b"text/plain".as_slice()));
}

fn ino(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn the_kernel_shows_the_tree_that_was_written() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not root: nothing can be mounted, the kernel is not asked");
        return;
    }
    // Not in /tmp, which may be a tmpfs: EROFS is mounted from files that have pages.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (image, at) = (folder.path().join("image"), folder.path().join("at"));
    write_to(&image);
    fs::create_dir(&at).unwrap();
    let options = sys::mount::Options { read_only: true, ..Default::default() };
    sys::mount::attach("erofs", &image, &at, options, "").unwrap();
    let checked = std::panic::catch_unwind(|| check(&at));
    sys::mount::detach(&at).unwrap();
    checked.unwrap();
}

#[test]
fn the_tools_of_the_format_find_no_fault() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let image = folder.path().join("image");
    write_to(&image);
    let Ok(checked) = Command::new("fsck.erofs").arg(&image).output() else {
        eprintln!("there is no fsck.erofs, it is not asked");
        return;
    };
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{said}{}", String::from_utf8_lossy(&checked.stdout));
}
