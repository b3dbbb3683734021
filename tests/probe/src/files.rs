//! Attacks by way of files, names and mounts.

use crate::resources::{object, object_path};
use crate::tries::{tried, word};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Gid, Uid, chown, chroot, pivot_root};
use probe::Line;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use sys::attempt::{self, Argument, Then, attempt};

const NONE: Option<&str> = None;
/// open_tree(2), fsmount(2), move_mount(2): their flags.
const CLONE_TREE: Argument<'static> = Argument::Number(1);
const EMPTY_PATHS: Argument<'static> = Argument::Number(0x4 | 0x40);

pub fn mounts(line: &mut Line) {
    let nothing = Argument::Number(0);
    tried(line, "mount(tmpfs)", mount(Some("x"), "/tmp", Some("tmpfs"), MsFlags::empty(), NONE));
    tried(line, "mount(bind)", mount(Some("/"), "/tmp", NONE, MsFlags::MS_BIND, NONE));
    tried(line, "mount(proc)", mount(Some("proc"), "/tmp", Some("proc"), MsFlags::empty(), NONE));
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    tried(line, "mount(private)", mount(NONE, "/", NONE, private, NONE));
    tried(line, "fsopen", attempt(libc::SYS_fsopen, &[Argument::Text(c"tmpfs"), nothing]));
    let here = Argument::Number(libc::AT_FDCWD as u32 as u64);
    let root = Argument::Text(c"/");
    tried(line, "fspick", attempt(libc::SYS_fspick, &[here, root, nothing]));
    tried(line, "open_tree", attempt(libc::SYS_open_tree, &[here, root, CLONE_TREE]));
    let tree = match File::open("/") {
        Ok(tree) => tree,
        Err(error) => return line.saw("root", word(&error)),
    };
    let fd = Argument::Fd(tree.as_fd());
    tried(line, "fsmount", attempt(libc::SYS_fsmount, &[fd, nothing, nothing]));
    let (empty, tmp) = (Argument::Text(c""), Argument::Text(c"/tmp"));
    let moved = attempt(libc::SYS_move_mount, &[fd, empty, here, tmp, EMPTY_PATHS]);
    tried(line, "move_mount", moved);
    let all = [here, root, nothing, Argument::Zeros, Argument::Number(32)];
    tried(line, "mount_setattr", attempt(libc::SYS_mount_setattr, &all));
}

pub fn unmounts(line: &mut Line) {
    let object = object_path();
    for (name, path) in
        [("/proc", "/proc"), ("/dev", "/dev"), ("/tmp", "/tmp"), ("object", object.as_str())]
    {
        tried(line, &format!("umount({name})"), umount2(path, MntFlags::MNT_DETACH));
    }
    let writable = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    for (name, path) in [("/", "/"), ("object", object.as_str())] {
        tried(line, &format!("remount({name})"), mount(NONE, path, NONE, writable, NONE));
    }
    tried(
        line,
        "remount(overlay)",
        mount(NONE, "/", NONE, MsFlags::MS_REMOUNT, Some("lowerdir=/")),
    );
}

pub fn changes(line: &mut Line) {
    let path = object_path();
    let path = Path::new(&path);
    tried(line, "read", fs::read(path));
    tried(line, "write", File::options().write(true).open(path));
    tried(line, "append", File::options().append(true).open(path));
    tried(line, "truncate", nix::unistd::truncate(path, 0));
    tried(line, "chmod", fs::set_permissions(path, fs::Permissions::from_mode(0o666)));
    tried(line, "chown", chown(path, Some(Uid::from_raw(1)), Some(Gid::from_raw(1))));
    let now = nix::sys::time::TimeSpec::new(1, 0);
    let follow = nix::sys::stat::UtimensatFlags::FollowSymlink;
    let touched = nix::sys::stat::utimensat(nix::fcntl::AT_FDCWD, path, &now, &now, follow);
    tried(line, "utimes", touched);
    match object() {
        Ok(file) => {
            tried(line, "fchmod", file.set_permissions(fs::Permissions::from_mode(0o666)));
            tried(line, "setxattr", sys::xattr::set(file.as_fd(), c"user.attack", b"x"));
        }
        Err(error) => line.saw("open", word(&error)),
    }
    tried(line, "link", fs::hard_link(path, "/tmp/linked"));
    tried(line, "rename", fs::rename(path, "/tmp/moved"));
    tried(line, "unlink", fs::remove_file(path));
}

pub fn opened_again(line: &mut Line) {
    let file = match object() {
        Ok(file) => file,
        Err(error) => return line.saw("open", word(&error)),
    };
    let again = format!("/proc/self/fd/{}", file.as_raw_fd());
    tried(line, "read", File::open(&again));
    tried(line, "read-write", File::options().read(true).write(true).open(&again));
    tried(line, "append", File::options().append(true).open(&again));
    tried(line, "truncate", File::options().write(true).truncate(true).open(&again));
    tried(line, "direct", File::options().write(true).custom_flags(libc::O_DIRECT).open(&again));
    tried(line, "by-stdin", File::options().write(true).open("/proc/self/fd/0"));
}

pub fn executable(line: &mut Line) {
    let file = match object() {
        Ok(file) => file,
        Err(error) => return line.saw("open", word(&error)),
    };
    let (read, write, exec) = (libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC);
    let map = |protection, flags, then| attempt::map(file.as_fd(), 4096, protection, flags, then);
    tried(line, "read", map(read, libc::MAP_SHARED, Then::Nothing));
    tried(line, "exec", map(read | exec, libc::MAP_SHARED, Then::Nothing));
    tried(line, "exec-private", map(read | exec, libc::MAP_PRIVATE, Then::Nothing));
    tried(line, "exec-later", map(read, libc::MAP_SHARED, Then::Protect(read | exec)));
    tried(line, "write", map(read | write, libc::MAP_SHARED, Then::Nothing));
    tried(line, "write-later", map(read, libc::MAP_SHARED, Then::Protect(read | write)));
    tried(line, "run", std::process::Command::new(object_path()).status());
}

pub fn devices(line: &mut Line) {
    let mode = Mode::from_bits_truncate(0o666);
    let (block, char) = (SFlag::S_IFBLK, SFlag::S_IFCHR);
    tried(line, "block", mknod("/tmp/block", block, mode, makedev(254, 0)));
    tried(line, "char", mknod("/tmp/char", char, mode, makedev(1, 1)));
    tried(line, "whiteout", mknod("/tmp/whiteout", char, mode, 0));
    tried(line, "fifo", mknod("/tmp/fifo", SFlag::S_IFIFO, mode, 0));
    for name in [
        "/dev/mem",
        "/dev/kmsg",
        "/dev/vda",
        "/dev/fuse",
        "/dev/kvm",
        "/dev/net/tun",
        "/dev/console",
    ] {
        tried(line, name, File::open(name));
    }
    let names = fs::read_dir("/dev").into_iter().flatten().flatten();
    let mut names: Vec<_> =
        names.map(|name| name.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    line.saw("dev", names.join(","));
}

pub fn handles(line: &mut Line) {
    let here = Argument::Number(libc::AT_FDCWD as u32 as u64);
    // struct file_handle: eight bytes, of kind 1 (inode and generation); inode 2 is the root of ext4.
    let handle = |bytes: u32| {
        let fields = [8u32, 1, bytes, 0];
        fields.iter().flat_map(|field| field.to_ne_bytes()).collect::<Vec<u8>>()
    };
    let empty = handle(0);
    let named =
        [here, Argument::Text(c"/"), Argument::Bytes(&empty), Argument::Zeros, Argument::Number(0)];
    tried(line, "name_to_handle_at", attempt(libc::SYS_name_to_handle_at, &named));
    let root = match File::open("/") {
        Ok(root) => root,
        Err(error) => return line.saw("root", word(&error)),
    };
    let mut opened = 0;
    let mut last = String::new();
    for inode in 2..2_000 {
        let bytes = handle(inode);
        let call = [Argument::Fd(root.as_fd()), Argument::Bytes(&bytes), Argument::Number(0)];
        match attempt(libc::SYS_open_by_handle_at, &call) {
            Ok(_) => opened += 1,
            Err(error) => last = word(&error),
        }
    }
    line.saw("opened", opened);
    line.saw("open_by_handle_at", last);
}

pub fn first_process(line: &mut Line) {
    for name in ["root", "cwd", "exe"] {
        tried(line, name, fs::read_link(format!("/proc/1/{name}")));
    }
    for name in ["environ", "maps", "mem", "status", "mountinfo"] {
        tried(line, name, File::open(format!("/proc/1/{name}")));
    }
    tried(line, "fd", fs::read_dir("/proc/1/fd"));
    tried(line, "task", fs::read_dir("/proc/1/task/1"));
    tried(line, "root/etc", File::open("/proc/1/root/etc/passwd"));
    tried(line, "exe-write", File::options().write(true).open("/proc/1/exe"));
    tried(line, "self-exe-write", File::options().write(true).open("/proc/self/exe"));
}

pub fn descriptors(line: &mut Line) {
    let listed = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let mut listed: Vec<u32> =
        listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    listed.sort_unstable();
    let texts: Vec<String> = listed.iter().map(u32::to_string).collect();
    // The last is the listing's own.
    line.saw("open", texts.join(","));
    let climbed = (0..1024).filter(|fd| fs::read_dir(format!("/proc/self/fd/{fd}/..")).is_ok());
    line.saw("climbed", climbed.count());
    match std::env::current_dir() {
        Ok(place) => line.saw("cwd", place.display()),
        Err(error) => line.saw("cwd", word(&error)),
    }
    let number = |path: &str| fs::metadata(path).map(|data| (data.dev(), data.ino())).ok();
    let above = number("/proc/self/cwd/../../../..");
    line.saw(
        "above",
        if above.is_some() && above == number("/") { "the-root" } else { "elsewhere" },
    );
}

pub fn new_roots(line: &mut Line) {
    tried(line, "mkdir", fs::create_dir_all("/tmp/jail/old"));
    tried(line, "chroot", chroot("/tmp/jail"));
    tried(line, "pivot_root", pivot_root("/tmp/jail", "/tmp/jail/old"));
    for _ in 0..40 {
        if let Err(error) = std::env::set_current_dir("..") {
            line.saw("climb", word(&error));
        }
    }
    let here = fs::metadata(".").map(|data| data.ino()).ok();
    let root = fs::metadata("/").map(|data| data.ino()).ok();
    line.saw("end", if here == root { "the-root" } else { "elsewhere" });
}
