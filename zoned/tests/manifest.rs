//! A manifest is mounted over files by this host's kernel, as zoned does it for a standing zone. Each test
//! runs once more in a mount namespace of its own.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use erofs::{Meta, Stream};
use nix::errno::Errno;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use sys::mountfd;
use zoned::manifest::Workbench;

/// The attributes that storaged gives a file whose bytes are at `path`.
fn below(path: &str, digest: [u8; 32]) -> Meta {
    let metacopy = [&[0_u8, 36, 0, 1][..], &digest].concat();
    Meta {
        attributes: vec![
            (b"trusted.overlay.metacopy".to_vec(), metacopy),
            (b"trusted.overlay.redirect".to_vec(), path.as_bytes().to_vec()),
        ],
        ..Meta::of_mode(0o444)
    }
}

struct Scene {
    _folder: tempfile::TempDir,
    objects: PathBuf,
    shown: PathBuf,
}

/// Three objects: one in its own file, one in the manifest, one whose file is missing.
fn scene() -> Scene {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (objects, shown) = (folder.path().join("objects"), folder.path().join("shown"));
    fs::create_dir_all(objects.join("0001")).unwrap();
    fs::create_dir(&shown).unwrap();
    fs::write(objects.join("0001/a1"), vec![b'x'; 100_000]).unwrap();
    // Only storaged may read the files themselves.
    fs::set_permissions(objects.join("0001/a1"), fs::Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(&objects, fs::Permissions::from_mode(0o700)).unwrap();
    let path = folder.path().join("manifest");
    let out = File::create(&path).unwrap();
    let mut stream = Stream::begin(out, &Meta::of_mode(0o555)).unwrap();
    stream.enter(b"dir", &Meta::of_mode(0o555)).unwrap();
    stream.absent(b"large", &below("/0001/a1", [7; 32]), 1, 100_000).unwrap();
    stream.absent(b"gone", &below("/0001/b2", [7; 32]), 1, 5).unwrap();
    stream.leave().unwrap();
    stream.file(b"small", &Meta::of_mode(0o444), 1, 5, &mut &b"small"[..]).unwrap();
    stream.finish().unwrap();
    let bench = Workbench::open(&folder.path().join("bench")).unwrap();
    let (manifest, data) = (File::open(&path).unwrap(), File::open(&objects).unwrap());
    let mount = bench.overlay(manifest.as_fd(), data.as_fd(), false).unwrap();
    let path = CString::new(shown.to_str().unwrap()).unwrap();
    mountfd::place(mount.as_fd(), File::open("/").unwrap().as_fd(), &path).unwrap();
    // Nothing is left in the tree but what was shown, and that does not tell where things are.
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains("bench"), "{mounts}");
    Scene { _folder: folder, objects, shown }
}

fn errno<T>(result: io::Result<T>) -> Option<Errno> {
    result.err().and_then(|error| error.raw_os_error()).map(Errno::from_raw)
}

/// Runs as another user of the node, as whatever runs in a zone is.
fn as_stranger(program: &str) -> std::process::Output {
    let arguments = ["--reuid", "70000", "--regid", "70000", "--clear-groups", "sh", "-c", program];
    std::process::Command::new("setpriv").args(arguments).output().unwrap()
}

fn sees(shown: &Path) {
    let large = fs::read(shown.join("dir/large")).unwrap();
    assert_eq!(large, vec![b'x'; 100_000]);
    assert_eq!(fs::metadata(shown.join("dir/large")).unwrap().len(), 100_000);
    assert_eq!(fs::read(shown.join("small")).unwrap(), b"small");
    assert_eq!(errno(fs::read(shown.join("dir/gone"))), Some(Errno::ENOENT));
    let names = |path: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(shown), ["dir", "small"]);
    assert_eq!(names(&shown.join("dir")), ["gone", "large"]);
}

#[test]
fn objects_are_shown_under_their_names_and_nothing_can_be_changed() {
    common::alone("objects_are_shown_under_their_names_and_nothing_can_be_changed", || {
        let Scene { _folder, objects, shown } = scene();
        sees(&shown);
        let large = shown.join("dir/large");
        let read_only = Some(Errno::EROFS);
        assert_eq!(errno(OpenOptions::new().write(true).open(&large)), read_only);
        assert_eq!(errno(fs::write(shown.join("new"), b"")), read_only);
        assert_eq!(errno(fs::remove_file(&large)), read_only);
        assert_eq!(errno(fs::rename(&large, shown.join("other"))), read_only);
        assert_eq!(errno(fs::hard_link(&large, shown.join("other"))), read_only);
        assert_eq!(
            errno(fs::set_permissions(&large, fs::Permissions::from_mode(0o777))),
            read_only
        );
        // Not by the back door of a descriptor either.
        let open = File::open(&large).unwrap();
        let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
        assert_eq!(errno(OpenOptions::new().write(true).open(again)), read_only);
        let shown = shown.display();
        let told = as_stranger(&format!(
            "cat {shown}/dir/large | wc -c; cat {}/0001/a1",
            objects.display()
        ));
        assert_eq!(String::from_utf8_lossy(&told.stdout), "100000\n");
        assert!(String::from_utf8_lossy(&told.stderr).contains("denied"));
        // The overlay's files are neither programs nor to be mapped as such.
        let told = as_stranger(&format!(
            "python3 -c 'import mmap,os; f=os.open(\"{shown}/dir/large\",os.O_RDONLY); \
             mmap.mmap(f,4096,mmap.MAP_SHARED,mmap.PROT_READ|mmap.PROT_EXEC)'"
        ));
        let said = String::from_utf8_lossy(&told.stderr);
        assert!(said.contains("PermissionError"), "{said}");
    });
}

#[test]
fn what_is_open_or_mapped_outlives_its_file_s_name() {
    common::alone("what_is_open_or_mapped_outlives_its_file_s_name", || {
        let Scene { _folder, objects, shown } = scene();
        let open = File::open(shown.join("dir/large")).unwrap();
        fs::remove_file(objects.join("0001/a1")).unwrap();
        let mut byte = [0; 1];
        std::os::unix::fs::FileExt::read_exact_at(&open, &mut byte, 99_999).unwrap();
        assert_eq!(byte, [b'x']);
    });
}
