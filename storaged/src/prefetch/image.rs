//! What of a zone image is read ahead: its programs and the libraries they load, as far as memory allows.
//!
//! Pages of an image are shared by all zones that start from it, and were charged to whichever zone came
//! first, which then kept a dead zone's cgroup alive for as long as the page was in memory. So they are
//! read here, when the image is mounted, in the cgroup that pays for what zones share. Not all of an image:
//! what is read by every zone is code; what stays out is charged to its reader, as any scan is.
//!
//! [`plan`] decides, [`read`] does it: names in an image are a tenant's, so nothing is opened but beneath
//! the image's root and through no link.

use crate::publish::walk::{Entry, Walk};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;
use std::collections::BTreeSet;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};
use sys::mapping::Populated;

/// Where programs and libraries are (Filesystem Hierarchy Standard); a name that leads to another of them is
/// a link, and left out.
const FOLDERS: [&str; 10] = [
    "bin",
    "lib",
    "lib64",
    "sbin",
    "usr/bin",
    "usr/lib",
    "usr/lib64",
    "usr/local/bin",
    "usr/local/lib",
    "usr/sbin",
];
/// The part of memory that one image may have: nearly all code of `base`, 62 MiB, on a node of 1 GiB.
const MEMORY_PART: u64 = 16;
/// ... and of what could be had without pushing anything out: an image is worth no work of others.
const AVAILABLE_PART: u64 = 4;
/// Files that are kept mapped of one image, well below the kernel's 65,530 mappings a process.
const FILES_MAX: usize = 4096;
/// Files that are looked at.
const FILES_SEEN_MAX: usize = 64 * 1024;
/// Bytes read a second: the disk is busy for a small part of the time that the slowest ones need for it.
const BYTES_S: u64 = 64 << 20;
/// What one page holds.
const PAGE_BYTES: u64 = 4096;

/// What every task needs, since it is run by bash: the loader, the C library, the shell.
const FIRST: [&[u8]; 5] = [b"bash", b"ld-linux-x86-64.so.2", b"libc.so.6", b"libtinfo.so.6", b"sh"];

/// How much a file is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// By every task.
    First,
    /// A program, or a library that is loaded by programs.
    Code,
}

/// A file of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// How much it is shared.
    pub rank: Rank,
    /// Its size.
    pub bytes: u64,
    /// Its path from the image's root.
    pub path: Vec<u8>,
}

impl Found {
    /// A file at `path` below one of [`FOLDERS`]; none if it is no code that many programs share. Libraries are
    /// where the loader looks: there, or one folder below by the machine's name. What is deeper are modules
    /// of some program.
    fn new(folder: &str, path: &[u8], bytes: u64) -> Option<Self> {
        let mut parts = path.rsplit(|byte| *byte == b'/');
        let name = parts.next().unwrap_or(path);
        let above = parts.count();
        let library = above <= 1 && name.windows(3).any(|part| part == b".so");
        let program = above == 0 && folder.ends_with("bin");
        let rank = match (program || library, FIRST.contains(&name)) {
            (false, _) => return None,
            (true, true) => Rank::First,
            (true, false) => Rank::Code,
        };
        Some(Self { rank, bytes, path: [folder.as_bytes(), b"/", path].concat() })
    }

    /// What it takes in memory.
    const fn pages(&self) -> u64 {
        self.bytes.next_multiple_of(PAGE_BYTES)
    }
}

/// How much of an image may be read ahead on a machine with so much memory, of which so much is available.
#[must_use]
pub const fn budget(total_bytes: u64, available_bytes: u64) -> u64 {
    let (whole, now) = (total_bytes / MEMORY_PART, available_bytes / AVAILABLE_PART);
    if whole < now { whole } else { now }
}

/// Which files are read, in this order: the most shared first, small ones before large ones, each that fits
/// what is left.
#[must_use]
pub fn plan(mut found: Vec<Found>, budget: u64) -> Vec<Found> {
    found.sort_by(|a, b| (a.rank, a.bytes, &a.path).cmp(&(b.rank, b.bytes, &b.path)));
    let mut left = budget;
    found.retain(|file| match left.checked_sub(file.pages()) {
        Some(rest) if file.bytes > 0 => {
            left = rest;
            true
        }
        _ => false,
    });
    found.truncate(FILES_MAX);
    found
}

/// Reads ahead what [`plan`] says of the image whose root this is; the mappings keep its files in use.
///
/// # Errors
/// What the kernel says of the root itself. A file that cannot be read is left out.
pub fn read(root: BorrowedFd<'_>) -> io::Result<Vec<Populated>> {
    let memory = nix::sys::sysinfo::sysinfo()?.ram_total();
    let files = plan(found(root)?, budget(memory, available()?));
    let began = Instant::now();
    let (mut mappings, mut bytes) = (Vec::with_capacity(files.len()), 0);
    for file in files {
        let Some(length) = usize::try_from(file.bytes).ok().and_then(NonZeroUsize::new) else {
            continue;
        };
        let Ok(opened) = open(root, &file.path, OFlag::O_RDONLY | OFlag::O_NONBLOCK) else {
            continue;
        };
        if let Ok(mapping) = Populated::map(opened.as_fd(), length) {
            mappings.push(mapping);
        }
        bytes += file.bytes;
        let due = Duration::from_millis(bytes.saturating_mul(1000) / BYTES_S);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
    }
    Ok(mappings)
}

/// Files of programs and libraries, as far as they are looked at.
fn found(root: BorrowedFd<'_>) -> io::Result<Vec<Found>> {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    // Whether it is a root at all.
    open(root, b".", OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    for folder in FOLDERS {
        // It is not there, or a link to another of them.
        let Ok(opened) = open(root, folder.as_bytes(), OFlag::O_RDONLY | OFlag::O_DIRECTORY) else {
            continue;
        };
        let mut walk = Walk::begin(opened.as_fd())?;
        while seen.len() < FILES_SEEN_MAX
            && let Some((path, entry)) = walk.next()
        {
            let Entry::File(file) = entry else { continue };
            let about = file.metadata()?;
            // A second name of a file is the same pages.
            if seen.insert(about.ino()) {
                found.extend(Found::new(folder, &path, about.len()));
            }
        }
    }
    Ok(found)
}

fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlag) -> io::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(Mode::empty()).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_XDEV,
    );
    Ok(openat2(root, path, how)?)
}

/// Memory that could be had without swapping, by `/proc/meminfo`.
fn available() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.unwrap_or(0).saturating_mul(1024))
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    const MIB: u64 = 1 << 20;

    #[test]
    fn an_image_has_a_part_of_memory_and_of_what_is_available() {
        assert_eq!(budget(2048 * MIB, 1600 * MIB), 128 * MIB);
        assert_eq!(budget(1024 * MIB, 800 * MIB), 64 * MIB);
        assert_eq!(budget(2048 * MIB, 100 * MIB), 25 * MIB);
    }

    fn file(folder: &str, path: &str, bytes: u64) -> Option<Found> {
        Found::new(folder, path.as_bytes(), bytes)
    }

    #[test]
    fn what_every_task_needs_goes_first_and_what_few_programs_load_not_at_all() {
        let all: Vec<Found> = [
            file("usr/bin", "awk", 20),
            file("usr/lib", "python3.11/os.py", 10),
            file("usr/lib", "x86_64-linux-gnu/gconv/UTF-7.so", 10),
            file("usr/lib", "x86_64-linux-gnu/libc.so.6", 2 * PAGE_BYTES),
            file("usr/lib", "libz.so.1", 30),
            file("usr/bin", "empty", 0),
            file("usr/bin", "huge", 10 * PAGE_BYTES),
        ]
        .into_iter()
        .flatten()
        .collect();
        let names = |budget| -> Vec<String> {
            let planned = plan(all.clone(), budget);
            planned.into_iter().map(|f| String::from_utf8(f.path).unwrap()).collect()
        };
        let (libc, awk) = ("usr/lib/x86_64-linux-gnu/libc.so.6", "usr/bin/awk");
        let (huge, libz) = ("usr/bin/huge", "usr/lib/libz.so.1");
        assert_eq!(names(MIB), [libc, awk, libz, huge]);
        assert_eq!(names(4 * PAGE_BYTES), [libc, awk, libz]);
        assert!(names(0).is_empty());
    }

    #[test]
    fn a_root_is_read_beneath_itself_and_through_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::create_dir_all(root.join("usr/share/doc")).unwrap();
        fs::write(root.join("usr/bin/tool"), "x".repeat(5000)).unwrap();
        fs::write(root.join("usr/share/doc/tool"), "x").unwrap();
        fs::write(folder.path().join("outside"), "secret").unwrap();
        symlink("../../../outside", root.join("usr/bin/link")).unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        nix::unistd::mkfifo(&root.join("usr/bin/pipe"), Mode::from_bits_truncate(0o644)).unwrap();
        let opened = File::open(&root).unwrap();
        let found = found(opened.as_fd()).unwrap();
        assert_eq!(found, [file("usr/bin", "tool", 5000).unwrap()]);
        assert_eq!(read(opened.as_fd()).unwrap().len(), 1);
        let no_root = File::open(root.join("usr/bin/tool")).unwrap();
        assert!(read(no_root.as_fd()).is_err());
    }

    proptest! {
        #[test]
        fn no_more_than_the_budget_and_nothing_left_out_that_would_have_fitted(
            sizes in prop::collection::vec((any::<bool>(), 0..20_000_u64), 0..40),
            budget in 0..200_000_u64,
        ) {
            let all: Vec<Found> = sizes.iter().enumerate().filter_map(|(at, (first, bytes))| {
                let name = if *first { format!("d{at}/libc.so.6") } else { format!("d{at}/l.so") };
                file("usr/lib", &name, *bytes)
            }).collect();
            let planned = plan(all.clone(), budget);
            let taken: u64 = planned.iter().map(Found::pages).sum();
            prop_assert!(taken <= budget);
            prop_assert!(planned.windows(2).all(|two| two[0].rank <= two[1].rank));
            for file in all.iter().filter(|file| file.bytes > 0 && !planned.contains(file)) {
                let before = planned.iter().filter(|other| {
                    (other.rank, other.bytes) <= (file.rank, file.bytes)
                });
                prop_assert!(before.map(Found::pages).sum::<u64>() + file.pages() > budget);
            }
        }
    }
}
