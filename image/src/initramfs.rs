//! The initramfs: the whole operating system in one archive. What goes into it is listed here, and
//! nothing else does; there is no shell in it.

use crate::binaries::{Binaries, IN_THE_IMAGE};
use crate::command::{self, CommandError};
use crate::debs::{self, DebError};
use crate::digest::{self, Inputs};
use crate::file::{FileError, failed};
use crate::kernel::Kernel;
use crate::layout::Layout;
use crate::lock::{Lock, Package};
use crate::newc::{Archive, NewcError};
use crate::progress::{self, Step};
use crate::zone::ZoneImage;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use thiserror::Error;

/// The lock's part for what is taken from Debian.
pub const PART: &str = "initramfs";
/// How hard zstd tries: twice as hard takes five times as long and saves one part in twelve.
const COMPRESSION_LEVEL: &str = "-9";

/// What is taken from Debian: the makers and menders of the data disk's filesystem and the libraries they
/// are linked with. Package, file in it, place in the archive.
const FROM_DEBIAN: [(&str, &str, &str); 10] = [
    ("e2fsprogs", "sbin/mke2fs", "sbin/mke2fs"),
    ("e2fsprogs", "sbin/e2fsck", "sbin/e2fsck"),
    ("e2fsprogs", "etc/mke2fs.conf", "etc/mke2fs.conf"),
    ("libext2fs2", "lib/x86_64-linux-gnu/libext2fs.so.2", "lib/x86_64-linux-gnu/libext2fs.so.2"),
    ("libext2fs2", "lib/x86_64-linux-gnu/libe2p.so.2", "lib/x86_64-linux-gnu/libe2p.so.2"),
    ("libcom-err2", "lib/x86_64-linux-gnu/libcom_err.so.2", "lib/x86_64-linux-gnu/libcom_err.so.2"),
    ("libblkid1", "usr/lib/x86_64-linux-gnu/libblkid.so.1", "lib/x86_64-linux-gnu/libblkid.so.1"),
    ("libuuid1", "usr/lib/x86_64-linux-gnu/libuuid.so.1", "lib/x86_64-linux-gnu/libuuid.so.1"),
    ("libc6", "lib/x86_64-linux-gnu/libc.so.6", "lib/x86_64-linux-gnu/libc.so.6"),
    ("libc6", "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "lib64/ld-linux-x86-64.so.2"),
];

/// Whom `https://` addresses are believed by who has no word of their own: the authorities that Mozilla's programs
/// believe, in one file where programs look for it. Package, folder in it, place in the archive.
const AUTHORITIES: (&str, &str, &str) =
    ("ca-certificates", "usr/share/ca-certificates/mozilla", "etc/ssl/certs/ca-certificates.crt");

/// Where things get mounted, and their modes.
const DIRECTORIES: [(&str, u32); 6] = [
    ("data", 0o755),
    ("dev", 0o755),
    ("proc", 0o555),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
];

/// Who the daemons are; the numbers are written into the data disk, so they never change.
const PASSWD: &str = "\
root:x:0:0:root:/:/nonexistent
storaged:x:200:200:object store:/:/nonexistent
prefetcher:x:201:201:reads objects ahead:/:/nonexistent
consoled:x:202:202:admin API:/:/nonexistent
nobody:x:65534:65534:nobody:/:/nonexistent
";
const GROUP: &str = "\
root:x:0:
tty:x:5:
storaged:x:200:
prefetcher:x:201:
consoled:x:202:
nogroup:x:65534:
";

/// What goes wrong with the initramfs.
#[derive(Debug, Error)]
pub enum InitramfsError {
    /// The archive.
    #[error(transparent)]
    Archive(#[from] NewcError),
    /// A package.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// A tool.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What an initramfs is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The compiled programs.
    pub binaries: &'a Binaries,
    /// The kernel, for its modules.
    pub kernel: &'a Kernel,
    /// The zone images whose digests go in.
    pub zone_images: &'a [ZoneImage],
    /// The time of every file and the least that the clock may show, in seconds since 1970.
    pub epoch: u32,
}

/// Makes the initramfs in `target`, if it is not there already from the same parts, and gives the Debian
/// packages in it.
///
/// # Errors
/// When a part is missing or the archive can't be written.
pub fn build(
    layout: &Layout,
    lock: &Lock,
    parts: &Parts<'_>,
    target: &Path,
) -> Result<Vec<Package>, InitramfsError> {
    let mut archive = Archive::new();
    let packages = add_debian(layout, lock, &mut archive)?;
    add_programs(parts, &mut archive)?;
    add_settings(layout, parts, &mut archive)?;
    let bytes = archive.to_bytes(parts.epoch);
    let mut inputs = Inputs::new();
    inputs.add("archive", digest::bytes(&bytes));
    inputs.add("level", COMPRESSION_LEVEL);
    let stamp = target.with_extension("stamp");
    if target.is_file() && digest::is_stamped(&stamp, &inputs.digest()) {
        progress::unchanged("initramfs", &target.display().to_string());
        return Ok(packages);
    }
    let step = Step::start("initramfs");
    let plain = target.with_extension("cpio");
    let partial = target.with_extension("partial");
    fs::write(&plain, &bytes).map_err(failed("write", &plain))?;
    // One thread: with more, the result depends on how many there were.
    command::output(
        Command::new("zstd")
            .args([COMPRESSION_LEVEL, "--single-thread", "--quiet", "--force", "-o"])
            .arg(&partial)
            .arg(&plain),
    )?;
    fs::remove_file(&plain).map_err(failed("remove", &plain))?;
    fs::rename(&partial, target).map_err(failed("rename", &partial))?;
    fs::write(&stamp, inputs.digest()).map_err(failed("write", &stamp))?;
    let packed = fs::metadata(target).map_err(failed("look at", target))?.len();
    step.done(&format!(
        "{}, {} ({} unpacked)",
        target.display(),
        progress::bytes(packed),
        progress::bytes(bytes.len() as u64)
    ));
    Ok(packages)
}

/// The packages that an initramfs takes files from.
///
/// # Errors
/// When one can't be had.
pub fn packages(layout: &Layout, lock: &Lock) -> Result<Vec<Package>, InitramfsError> {
    add_debian(layout, lock, &mut Archive::new())
}

fn add_debian(
    layout: &Layout,
    lock: &Lock,
    archive: &mut Archive,
) -> Result<Vec<Package>, InitramfsError> {
    let mut unpacked: Vec<debs::Unpacked> = Vec::new();
    for (name, file, place) in FROM_DEBIAN {
        if !unpacked.iter().any(|deb| deb.package.name == name) {
            unpacked.push(debs::unpacked(layout, lock, PART, name)?);
        }
        let deb = unpacked.iter().find(|deb| deb.package.name == name);
        let path = deb.expect("it was unpacked above").root.join(file);
        let mode = if place.starts_with("etc/") { 0o644 } else { 0o755 };
        archive.file(place, mode, read(&path)?)?;
    }
    let (name, folder, place) = AUTHORITIES;
    let deb = debs::unpacked(layout, lock, PART, name)?;
    let mut all = Vec::new();
    for certificate in files_in(&deb.root.join(folder), "crt")? {
        all.extend(read(&certificate)?);
    }
    archive.file(place, 0o644, all)?;
    unpacked.push(deb);
    Ok(unpacked.into_iter().map(|deb| deb.package).collect())
}

fn add_programs(parts: &Parts<'_>, archive: &mut Archive) -> Result<(), InitramfsError> {
    for (name, place) in IN_THE_IMAGE {
        archive.file(place, 0o755, read(parts.binaries.file(name))?)?;
    }
    let mut list = String::new();
    for module in &parts.kernel.modules {
        archive.file(&module.path, 0o644, read(&module.file)?)?;
        list.push_str(&format!("/{}\n", module.path));
    }
    Ok(archive.file("etc/mobula/modules.list", 0o644, list)?)
}

fn add_settings(
    layout: &Layout,
    parts: &Parts<'_>,
    archive: &mut Archive,
) -> Result<(), InitramfsError> {
    for (path, mode) in DIRECTORIES {
        archive.directory(path, mode)?;
    }
    // The kernel gives PID 1 its first descriptors on the console, before anything is mounted.
    archive.character("dev/console", 0o600, 5, 1)?;
    archive.character("dev/null", 0o666, 1, 3)?;
    archive.file("etc/passwd", 0o644, PASSWD)?;
    archive.file("etc/group", 0o644, GROUP)?;
    archive.file("etc/hosts", 0o644, "127.0.0.1 localhost\n::1 localhost\n")?;
    let release = json!({ "version": env!("CARGO_PKG_VERSION"), "image_epoch": parts.epoch });
    archive.file("etc/mobula/release.json", 0o644, format!("{release}\n"))?;
    let images: Vec<_> = parts.zone_images.iter().map(ZoneImage::to_json).collect();
    archive.file("etc/mobula/images.json", 0o644, format!("{}\n", json!(images)))?;
    let services = layout.source("services");
    for path in files_in(&services, "toml")? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        archive.file(&format!("etc/mobula/services/{name}"), 0o644, read(&path)?)?;
    }
    Ok(())
}

/// The files of a folder whose names end so, in order.
fn files_in(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, InitramfsError> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>())
        .map_err(failed("list", folder))?;
    files.retain(|path: &PathBuf| path.extension().is_some_and(|e| e == extension));
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(failed("read", path))
}
