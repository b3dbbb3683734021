//! Debian packages that are used without being installed: fetched by apt (which checks them against
//! Debian's signatures), unpacked into the cache.

use crate::command::{self, CommandError};
use crate::digest;
use crate::file::{FileError, failed};
use crate::layout::Layout;
use crate::lock::{Lock, Package};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use thiserror::Error;

/// What goes wrong with a package.
#[derive(Debug, Error)]
pub enum DebError {
    /// A tool.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// apt does not know it.
    #[error(
        "apt knows no package {name}: run apt-get update, and see that Debian 12's security updates are among its sources"
    )]
    Unknown {
        /// The package.
        name: String,
    },
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A package, unpacked.
#[derive(Debug, Clone)]
pub struct Unpacked {
    /// What it is.
    pub package: Package,
    /// The folder that stands for `/`.
    pub root: PathBuf,
}

/// Fetches and unpacks a package: in the version of the lock while Debian has it, else in the newest.
///
/// # Errors
/// When neither can be had.
pub fn unpacked(
    layout: &Layout,
    lock: &Lock,
    part: &str,
    name: &str,
) -> Result<Unpacked, DebError> {
    if let Some(locked) = lock.part(part).find(|package| package.name == name) {
        let folder = folder(layout, name, &locked.version);
        if let Some(done) = in_cache(&folder, name, &locked.version) {
            return Ok(done);
        }
        if let Ok(done) = fetch(&folder, name, &locked.version) {
            return Ok(done);
        }
    }
    let version = candidate(name)?;
    let folder = folder(layout, name, &version);
    match in_cache(&folder, name, &version) {
        Some(done) => Ok(done),
        None => fetch(&folder, name, &version),
    }
}

/// The newest version that apt would install.
///
/// # Errors
/// When apt knows none.
pub fn candidate(name: &str) -> Result<String, DebError> {
    let policy =
        command::output(Command::new("apt-cache").args(["policy", name]).env("LC_ALL", "C"))?;
    policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))
        .filter(|version| *version != "(none)")
        .map(str::to_owned)
        .ok_or_else(|| DebError::Unknown { name: name.to_owned() })
}

/// What apt knows of a version of a package, its sha256 among it.
///
/// # Errors
/// When apt does not know that version.
pub fn known(name: &str, version: &str) -> Result<Package, DebError> {
    let query = format!("{name}={version}");
    let shown =
        command::output(Command::new("apt-cache").args(["show", &query]).env("LC_ALL", "C"))?;
    shown
        .lines()
        .find_map(|line| line.strip_prefix("SHA256: "))
        .and_then(|sha256| Package::parse(&format!("{name} {version} {sha256}")))
        .ok_or(DebError::Unknown { name: query })
}

/// The packages that a package depends on directly and without alternatives.
///
/// # Errors
/// When apt does not know it.
pub fn dependencies(name: &str) -> Result<Vec<String>, DebError> {
    let shown =
        command::output(Command::new("apt-cache").args(["depends", name]).env("LC_ALL", "C"))?;
    let names = shown.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    Ok(names.map(str::to_owned).collect())
}

fn folder(layout: &Layout, name: &str, version: &str) -> PathBuf {
    layout.cache(&format!("debs/{name}_{}", version.replace(':', "%3a")))
}

fn in_cache(folder: &Path, name: &str, version: &str) -> Option<Unpacked> {
    let sha256 = fs::read_to_string(folder.join("sha256")).ok()?;
    let package = Package::parse(&format!("{name} {version} {sha256}"))?;
    Some(Unpacked { package, root: folder.join("root") })
}

fn fetch(folder: &Path, name: &str, version: &str) -> Result<Unpacked, DebError> {
    let partial = folder.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(failed("remove", &partial))?;
    }
    let root = partial.join("root");
    fs::create_dir_all(&root).map_err(failed("create", &root))?;
    // As root, apt would fetch as a user of its own, who can't write here.
    let sandbox = "APT::Sandbox::User=root";
    let wanted = format!("{name}={version}");
    command::output(
        Command::new("apt-get")
            .args(["-q", "-o", sandbox, "download", &wanted])
            .current_dir(&partial),
    )?;
    let deb = fs::read_dir(&partial)
        .and_then(|entries| {
            entries.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>()
        })
        .map_err(failed("list", &partial))?
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or(DebError::Unknown { name: wanted })?;
    let sha256 = digest::file(&deb).map_err(failed("read", &deb))?;
    command::output(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&root))?;
    fs::remove_file(&deb).map_err(failed("remove", &deb))?;
    let note = partial.join("sha256");
    fs::write(&note, &sha256).map_err(failed("write", &note))?;
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(failed("remove", folder))?;
    }
    fs::rename(&partial, folder).map_err(failed("rename", &partial))?;
    let package = Package { name: name.to_owned(), version: version.to_owned(), sha256 };
    Ok(Unpacked { package, root: folder.join("root") })
}
