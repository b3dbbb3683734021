//! The last work on filesystems: sync them, take them off the tree, deepest first. It runs as a process of
//! its own (`init unmount`), for a disk that hangs must not hang init.

use crate::console::Console;
use std::path::{Path, PathBuf};
use std::time::Duration;
use sys::mount;

/// The word by which init starts itself for this.
pub const ARGUMENT: &str = "unmount";
/// Where the data disk is mounted.
const DATA: &str = "/data";
/// Rounds over busy mounts, [`ROUND`] apart: a killed process lets go within that time.
const ROUNDS: u32 = 30;
const ROUND: Duration = Duration::from_millis(100);
/// Filesystems that keep nothing and end with the kernel.
const VOLATILE: [&str; 14] = [
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "tmpfs",
    "cgroup2",
    "bpf",
    "securityfs",
    "pstore",
    "rootfs",
    "ramfs",
    "mqueue",
    "tracefs",
    "debugfs",
];

/// A mount, as `/proc/self/mountinfo` has it (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Where.
    pub target: PathBuf,
    /// Its type.
    pub kind: String,
    /// From what.
    pub source: String,
}

/// Reads the list of mounts; a line that makes no sense is passed over.
#[must_use]
pub fn parse(mountinfo: &str) -> Vec<Mounted> {
    let line = |line: &str| {
        let (head, tail) = line.split_once(" - ")?;
        let mut tail = tail.split(' ');
        Some(Mounted {
            target: PathBuf::from(unescape(head.split(' ').nth(4)?)),
            kind: tail.next()?.to_owned(),
            source: unescape(tail.next()?),
        })
    };
    mountinfo.lines().filter_map(line).collect()
}

/// Space, tab, newline and backslash stand as three octal digits behind a backslash.
fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'\\').then(|| after.get(..3)).flatten();
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What is to be unmounted, in order: whatever may keep something, the newest first, for it may lie on an
/// older one.
#[must_use]
pub fn plan(mounts: &[Mounted]) -> Vec<Mounted> {
    let keeps = |mount: &&Mounted| !VOLATILE.contains(&mount.kind.as_str());
    mounts.iter().rev().filter(keeps).cloned().collect()
}

/// Does it; whether everything went well.
#[must_use]
pub fn run() -> bool {
    let mut console = Console::open();
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let planned = plan(&parse(&mountinfo));
    let synced = sync(&planned, &mut console);
    let had_disk = planned.iter().any(|entry| entry.target == Path::new(DATA));
    let mut left = planned;
    for round in 0..ROUNDS {
        left.retain(|entry| mount::detach(&entry.target).is_err());
        if left.is_empty() {
            console.say(if had_disk { "data disk unmounted" } else { "no data disk was mounted" });
            console.drain();
            return synced;
        }
        if round + 1 < ROUNDS {
            std::thread::sleep(ROUND);
        }
    }
    for entry in &left {
        force(entry, &mut console);
    }
    console.drain();
    false
}

fn sync(planned: &[Mounted], console: &mut Console) -> bool {
    let mut well = true;
    for entry in planned.iter().filter(|entry| entry.source.starts_with("/dev/")) {
        if let Err(error) = mount::sync(&entry.target) {
            well = false;
            let target = entry.target.display();
            console.say(&format!(
                "{target} could not be synced: {error}; its last writes may be lost"
            ));
        }
    }
    well
}

/// What stays busy is closed for writing, so that nothing comes after the sync.
fn force(entry: &Mounted, console: &mut Console) {
    let target = entry.target.display();
    match mount::make_read_only(&entry.target) {
        Ok(()) => {
            console.say(&format!("{target} is busy: closed for writing instead of unmounted"));
        }
        Err(error) => {
            console
                .say(&format!("{target} is busy and can't be closed for writing either: {error}"));
        }
    }
    if let Err(error) = mount::detach_lazily(Path::new(&entry.target)) {
        console.say(&format!("{target} can't be detached: {error}"));
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    const TABLE: &str = "\
22 1 0:21 / / ro,relatime - rootfs rootfs rw
23 22 0:22 / /proc rw,nosuid - proc proc rw
40 22 254:0 / /data rw,noatime shared:3 - ext4 /dev/vda rw,prjquota
41 24 254:0 /store/objects /run/mobula/objects ro,nosuid - ext4 /dev/vda rw
42 22 0:40 / /run/zones/base\\040image ro - erofs /data/images/base.erofs ro
";

    #[test]
    fn mounts_that_keep_something_go_newest_first() {
        let targets: Vec<_> = plan(&parse(TABLE)).into_iter().map(|entry| entry.target).collect();
        let expected = ["/run/zones/base image", "/run/mobula/objects", "/data"];
        assert_eq!(targets, expected.map(PathBuf::from));
    }

    #[test]
    fn an_escape_cut_short_stays_as_it_is() {
        assert_eq!(unescape("a\\04"), "a\\04");
        assert_eq!(unescape("a\\134b"), "a\\b");
    }

    proptest! {
        #[test]
        fn any_table_is_an_answer_never_a_panic(text in "[ -~\n\\\\]{0,400}") {
            prop_assert!(plan(&parse(&text)).len() <= text.lines().count());
        }
    }
}
