//! What can be seen: processes, files, frames of memory. Changes nothing.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use test_agent::{FILE_BYTES_MAX, Process, Reply};

/// Bytes of a page, and of its entry in `/proc/PID/pagemap` (Documentation/admin-guide/mm/pagemap.rst).
const PAGE_BYTES: u64 = 4096;
const ENTRY_BYTES: usize = 8;
/// The entry's bits 0 to 54 are the frame number, bit 63 says that the page is present.
const FRAME_MASK: u64 = (1 << 55) - 1;
const PRESENT: u64 = 1 << 63;
/// Where the cgroups are.
const CGROUPS: &str = "/sys/fs/cgroup";
/// The kinds of namespaces (namespaces(7)).
const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
/// The most pages in one question: 256 MiB of them.
const PAGES_MAX: u64 = 65536;

pub fn read(path: &str) -> Result<Reply> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX as u64).read_to_end(&mut bytes))
        .with_context(|| format!("reading {path}"))?;
    Ok(Reply::File(BASE64_STANDARD.encode(bytes)))
}

pub fn list(path: &str, deep: bool) -> Result<Reply> {
    let mut names = Vec::new();
    walk(Path::new(path), "", deep, &mut names)?;
    names.sort();
    Ok(Reply::Names(names))
}

/// A block of stat(2), in bytes.
const BLOCK_BYTES: u64 = 512;

pub fn blocks(path: &str) -> Result<Reply> {
    let mut names = Vec::new();
    walk(Path::new(path), "", true, &mut names)?;
    names.retain(|name| !name.ends_with('/'));
    let of = |name: &String| {
        let metadata = Path::new(path).join(name).symlink_metadata()?;
        Ok((metadata.len(), metadata.blocks() * BLOCK_BYTES))
    };
    names.iter().map(of).collect::<Result<_>>().map(Reply::Blocks)
}

fn walk(directory: &Path, prefix: &str, deep: bool, names: &mut Vec<String>) -> Result<()> {
    let entries =
        directory.read_dir().with_context(|| format!("listing {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            if deep {
                walk(&entry.path(), &format!("{name}/"), deep, names)?;
            }
            names.push(name + "/");
        } else {
            names.push(name);
        }
    }
    Ok(())
}

pub fn frames(pid: i32, address: u64, pages: u64) -> Result<Reply> {
    ensure!(address.is_multiple_of(PAGE_BYTES) && pages <= PAGES_MAX, "bad range");
    let path = format!("/proc/{pid}/pagemap");
    let file = File::open(&path).with_context(|| format!("opening {path}"))?;
    let mut bytes = vec![0; usize::try_from(pages)? * ENTRY_BYTES];
    file.read_exact_at(&mut bytes, address / PAGE_BYTES * ENTRY_BYTES as u64)
        .with_context(|| format!("reading {path}"))?;
    let (entries, _) = bytes.as_chunks::<ENTRY_BYTES>();
    let frame = |entry: &[u8; ENTRY_BYTES]| {
        let entry = u64::from_le_bytes(*entry);
        if entry & PRESENT == 0 { 0 } else { entry & FRAME_MASK }
    };
    Ok(Reply::Frames(entries.iter().map(frame).collect()))
}

/// The kernel tells for each frame the inode of the cgroup that pays for it (`/proc/kpagecgroup`).
pub fn owners(frames: &[u64]) -> Result<Reply> {
    let mut cgroups = BTreeMap::new();
    cgroup_inodes(Path::new(CGROUPS), &mut cgroups)?;
    let file = File::open("/proc/kpagecgroup").context("opening /proc/kpagecgroup")?;
    let mut owners = BTreeMap::new();
    for frame in frames {
        let mut inode = [0; ENTRY_BYTES];
        file.read_exact_at(&mut inode, frame * ENTRY_BYTES as u64)
            .with_context(|| format!("reading the owner of frame {frame}"))?;
        let inode = u64::from_le_bytes(inode);
        let name = cgroups.get(&inode).cloned().unwrap_or_else(|| format!("inode {inode}"));
        *owners.entry(name).or_insert(0) += 1;
    }
    Ok(Reply::Owners(owners))
}

fn cgroup_inodes(directory: &Path, inodes: &mut BTreeMap<u64, String>) -> Result<()> {
    let inode = directory.metadata().context("looking at a cgroup")?.ino();
    let path = directory.to_string_lossy().replacen(CGROUPS, "", 1);
    inodes.insert(inode, if path.is_empty() { "/".to_owned() } else { path });
    for entry in directory.read_dir().context("listing cgroups")? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            cgroup_inodes(&entry.path(), inodes)?;
        }
    }
    Ok(())
}

pub fn processes() -> Result<Reply> {
    let mut processes = Vec::new();
    for entry in Path::new("/proc").read_dir().context("listing /proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that has gone since is none.
        processes.extend(process(pid));
    }
    processes.sort_by_key(|process| process.pid);
    Ok(Reply::Processes(processes))
}

/// Those of processes, and those that descriptors keep; the kernel names each by kind and inode (namespaces(7)).
pub fn namespaces() -> Result<Reply> {
    let mut all = BTreeSet::new();
    for entry in Path::new("/proc").read_dir().context("listing /proc")? {
        let process = entry?.path();
        for folder in ["ns", "fd"] {
            // A process that has gone since refers to nothing.
            let Ok(links) = process.join(folder).read_dir() else { continue };
            let targets = links.flatten().filter_map(|link| std::fs::read_link(link.path()).ok());
            all.extend(targets.filter_map(|target| target.into_os_string().into_string().ok()));
        }
    }
    let mut kinds = BTreeMap::new();
    for name in all {
        // `net:[4026531840]`, beside `pipe:[…]`, `socket:[…]` and others.
        let kind = name.split_once(":[").map(|(kind, _)| kind);
        if let Some(kind) = kind.filter(|kind| NAMESPACES.contains(kind)) {
            *kinds.entry(kind.to_owned()).or_insert(0) += 1;
        }
    }
    Ok(Reply::Namespaces(kinds))
}

fn process(pid: i32) -> Option<Process> {
    let text = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).ok();
    let text = |file| text(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let status = text("status")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    };
    Some(Process {
        pid,
        parent: field("PPid:")?.first()?.parse().ok()?,
        name: field("Name:")?.join(" "),
        command: text("cmdline")?.trim_end_matches('\0').replace('\0', " "),
        user: field("Uid:")?.get(1)?.parse().ok()?,
        // Version 2's line; a kernel may show more.
        cgroup: text("cgroup")?
            .lines()
            .find_map(|l| l.strip_prefix("0::"))
            .unwrap_or("/")
            .to_owned(),
        state: field("State:")?.first()?.chars().next()?,
    })
}
