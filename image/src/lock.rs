//! `image/packages.lock`: which Debian packages went into the image, by name, version and sha256.
//!
//! Debian removes old versions, so the lock can't make the same image for ever; it says with which
//! versions one comes out the same, and a build with others says where it differs.

use crate::file::{FileError, failed};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};
use thiserror::Error;

const HEADER: &str = "\
# The Debian packages in the image: name, version, sha256 of the .deb. Written by `image lock --update`;
# the same versions give the same image. Debian removes old versions: a build that has to take others
# says so and goes on.
";

/// What is wrong with the lock.
#[derive(Debug, Error)]
pub enum LockError {
    /// It can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A line that is no package.
    #[error(
        "{path}:{line}: not a package's name, version and sha256; make it anew: image lock --update"
    )]
    Line {
        /// The lock.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
    },
}

/// A package as it was used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The digest of its .deb.
    pub sha256: String,
}

impl Package {
    /// Reads `name version sha256`.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (name, version, sha256) = (words.next()?, words.next()?, words.next()?);
        let hex = sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit());
        (hex && words.next().is_none()).then(|| Self {
            name: name.to_owned(),
            version: version.to_owned(),
            sha256: sha256.to_owned(),
        })
    }
}

/// Packages by what they are for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    parts: BTreeMap<String, BTreeSet<Package>>,
}

impl Lock {
    /// Reads the lock; a missing one is an empty one.
    ///
    /// # Errors
    /// When it can't be read or has a line that is no package.
    pub fn read(path: &Path) -> Result<Self, LockError> {
        match fs::read_to_string(path) {
            Ok(text) => {
                Self::parse(&text).map_err(|line| LockError::Line { path: path.to_owned(), line })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(failed("read", path)(error).into()),
        }
    }

    /// Writes the lock.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, path: &Path) -> Result<(), LockError> {
        Ok(fs::write(path, self.to_text()).map_err(failed("write", path))?)
    }

    /// The packages of a part.
    pub fn part(&self, part: &str) -> impl Iterator<Item = &Package> {
        self.parts.get(part).into_iter().flatten()
    }

    /// The version of a package in a part.
    #[must_use]
    pub fn version(&self, part: &str, name: &str) -> Option<&str> {
        self.part(part).find(|package| package.name == name).map(|package| package.version.as_str())
    }

    /// Replaces the packages of a part.
    pub fn set(&mut self, part: &str, packages: impl IntoIterator<Item = Package>) {
        self.parts.insert(part.to_owned(), packages.into_iter().collect());
    }

    /// Where `used` differs from the lock's part, a line each.
    #[must_use]
    pub fn differences(&self, part: &str, used: &[Package]) -> Vec<String> {
        let locked: BTreeMap<_, _> = self.part(part).map(|p| (p.name.as_str(), p)).collect();
        let now: BTreeMap<_, _> = used.iter().map(|p| (p.name.as_str(), p)).collect();
        let names: BTreeSet<_> = locked.keys().chain(now.keys()).copied().collect();
        names
            .into_iter()
            .filter_map(|name| match (locked.get(name), now.get(name)) {
                (Some(old), Some(new)) if old == new => None,
                (Some(old), Some(new)) if old.version == new.version => {
                    Some(format!("{name} {}: another file of the same version", new.version))
                }
                (Some(old), Some(new)) => {
                    Some(format!("{name} {}: the lock has {}", new.version, old.version))
                }
                (None, Some(new)) => Some(format!("{name} {}: not in the lock", new.version)),
                (old, None) => old.map(|old| format!("{name} {}: no longer used", old.version)),
            })
            .collect()
    }

    fn parse(text: &str) -> Result<Self, usize> {
        let mut lock = Self::default();
        let mut part: Option<&mut BTreeSet<Package>> = None;
        for (number, line) in (1..).zip(text.lines()) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                part = Some(lock.parts.entry(name.to_owned()).or_default());
                continue;
            }
            let (Some(part), Some(package)) = (part.as_mut(), Package::parse(line)) else {
                return Err(number);
            };
            part.insert(package);
        }
        Ok(lock)
    }

    fn to_text(&self) -> String {
        let mut text = HEADER.to_owned();
        for (part, packages) in &self.parts {
            text.push_str(&format!("\n[{part}]\n"));
            for Package { name, version, sha256 } in packages {
                text.push_str(&format!("{name} {version} {sha256}\n"));
            }
        }
        text
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn package(name: &str, version: &str) -> Package {
        Package { name: name.into(), version: version.into(), sha256: "ab".repeat(32) }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut lock = Lock::default();
        lock.set("zone base", [package("bash", "5.2-1"), package("awk", "1")]);
        lock.set("initramfs", [package("libc6", "2.36")]);
        assert_eq!(Lock::parse(&lock.to_text()), Ok(lock));
    }

    #[test]
    fn every_kind_of_difference_is_named() {
        let mut lock = Lock::default();
        lock.set("p", [package("same", "1"), package("newer", "1"), package("gone", "1")]);
        let used = [package("same", "1"), package("newer", "2"), package("added", "1")];
        assert_eq!(
            lock.differences("p", &used),
            ["added 1: not in the lock", "gone 1: no longer used", "newer 2: the lock has 1"]
        );
    }

    #[test]
    fn a_damaged_line_is_found() {
        assert_eq!(Lock::parse("[p]\nbash 5.2\n"), Err(2));
        assert_eq!(Lock::parse("bash 5.2 ab\n"), Err(1));
    }
}
