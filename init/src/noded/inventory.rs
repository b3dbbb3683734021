//! The disks that the kernel knows (`/sys/block`), and what they hold.

use super::content::{self, LOOK_BYTES};
use super::decision::Disk;
use super::images;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

const BLOCK: &str = "/sys/block";
/// Bytes in a sector as `/sys/block` counts them, whatever the disk's own are.
const SECTOR_BYTES: u64 = 512;
/// Devices that are no disks: memory, files and drives for media.
const NO_DISKS: [&str; 8] = ["loop", "ram", "zram", "sr", "fd", "nbd", "md", "dm-"];

/// Where a disk's device is.
#[must_use]
pub fn device(name: &str) -> PathBuf {
    Path::new("/dev").join(name)
}

/// Every disk and partition, with what it holds; images for zones are left out.
///
/// # Errors
/// What reading `/sys/block` says.
pub fn disks() -> io::Result<Vec<Disk>> {
    // A list that can't be read is said to be when images are provided; an image's disk is not blank.
    let images: Vec<_> =
        images::list().unwrap_or_default().iter().map(images::Image::serial).collect();
    let mut disks = Vec::new();
    for name in names()? {
        if images.contains(&serial(&name)) {
            continue;
        }
        let folder = Path::new(BLOCK).join(&name);
        for partition in partitions(&name, &folder) {
            disks.extend(look(&partition, &folder.join(&partition), true));
        }
        disks.extend(look(&name, &folder, false));
    }
    Ok(disks)
}

/// The disk with this serial number.
///
/// # Errors
/// What reading `/sys/block` says.
pub fn with_serial(wanted: &str) -> io::Result<Option<String>> {
    Ok(names()?.into_iter().find(|name| serial(name) == wanted))
}

fn names() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(BLOCK)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !NO_DISKS.iter().any(|kind| name.starts_with(kind)) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn serial(name: &str) -> String {
    attribute(&Path::new(BLOCK).join(name).join("serial"))
}

fn attribute(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn partitions(name: &str, folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let entries = entries.flatten().filter(|entry| entry.path().join("partition").exists());
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|part| part.starts_with(name)).collect();
    names.sort();
    names
}

fn look(name: &str, folder: &Path, partition: bool) -> Option<Disk> {
    let bytes = attribute(&folder.join("size")).parse::<u64>().ok()? * SECTOR_BYTES;
    if bytes == 0 {
        return None;
    }
    let read_only = attribute(&folder.join("ro")) == "1";
    let content = if partition {
        // A partition may be the data filesystem, and nothing else here matters about it: its superblock
        // says so, and a machine may have dozens of them to be looked at every few seconds.
        head(&device(name)).ok().map(|head| match content::is_data(&head) {
            true => content::Content::Data,
            false => content::Content::Other("a partition"),
        })
    } else {
        let ends = ends(&device(name), bytes).ok();
        ends.map(|(head, tail)| content::classify(&head, &tail, bytes))
    };
    Some(Disk { name: name.to_owned(), bytes, read_only, partition, content })
}

/// The bytes of a partition in which a superblock would stand.
fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = vec![0; content::SUPERBLOCK_END];
    File::open(path)?.read_exact(&mut head)?;
    Ok(head)
}

/// The first and the last bytes of a disk.
fn ends(path: &Path, bytes: u64) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut file = File::open(path)?;
    let length = usize::try_from(bytes).unwrap_or(usize::MAX).min(LOOK_BYTES);
    let (mut head, mut tail) = (vec![0; length], vec![0; length]);
    file.read_exact(&mut head)?;
    file.seek(SeekFrom::Start(bytes - length as u64))?;
    file.read_exact(&mut tail)?;
    Ok((head, tail))
}
