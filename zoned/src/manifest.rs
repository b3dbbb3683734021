//! Prefixes of the store in a zone: storaged's manifest mounted over the objects' own files.
//!
//! ```text
//!   manifest (EROFS)      names, sizes, small objects ┐
//!   objects (data only)   the files that hold the rest ┴▶ overlay, read-only ─▶ /manta/<prefix>
//! ```
//! The pages that a zone reads are those of the object's file, the same that storaged sends, and with
//! fs-verity the kernel refuses a file that does not measure what the manifest says. Nothing of it can be
//! written or run, and no file is reached by its name in the store.
//!
//! The layers must be mounted in this process's namespace while the overlay is made: they are put in place
//! below a directory of zoned's own, and taken away as soon as the overlay has its own copies.

use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use sys::mountfd::{self, Filesystem, Restrictions};
use thiserror::Error;

/// Why a prefix is not shown.
#[derive(Debug, Error)]
#[error("cannot {act}")]
pub struct ShowError {
    act: &'static str,
    source: io::Error,
}

fn step<T>(act: &'static str, result: io::Result<T>) -> Result<T, ShowError> {
    result.map_err(|source| ShowError { act, source })
}

/// The directories of a workbench. An overlay's options show the paths of its layers to whoever sees the
/// mount, so they are told without what stands before them.
const NAMES: &CStr = c"names";
const OBJECTS: &CStr = c"objects";

/// Where layers are put while overlays are made of them.
#[derive(Debug)]
pub struct Workbench {
    /// Its directory.
    folder: File,
    /// Where this process is otherwise.
    home: File,
}

impl Workbench {
    /// A workbench in the directory `folder`, which is made; what an earlier zoned left there goes.
    ///
    /// # Errors
    /// What the directories say.
    pub fn open(folder: &Path) -> io::Result<Self> {
        for name in [NAMES, OBJECTS] {
            let path = folder.join(OsStr::from_bytes(name.to_bytes()));
            fs::create_dir_all(&path)?;
            let path = CString::new(path.into_os_string().into_vec())?;
            // EINVAL: nothing is mounted there, or not any more.
            while mountfd::detach(&path).is_ok() {}
        }
        Ok(Self { folder: File::open(folder)?, home: File::open(".")? })
    }

    /// A mount, nowhere yet, of the tree that a manifest describes: `manifest` is its file, `objects` the
    /// directory that its redirections start from. With `verity` every file is checked against its digest.
    ///
    /// # Errors
    /// [`ShowError`].
    pub fn overlay(
        &self,
        manifest: BorrowedFd<'_>,
        objects: BorrowedFd<'_>,
        verity: bool,
    ) -> Result<OwnedFd, ShowError> {
        let names = step("mount the manifest", mount_manifest(manifest))?;
        let data = step("copy the view of objects", mountfd::copy(objects, c""))?;
        let closed = mountfd::restrict(data.as_fd(), Restrictions::READ_ONLY_DATA);
        step("close the view of objects", closed)?;
        step("go to the workbench", self.go(&self.folder))?;
        let shown = self.lay_placed(&names, &data, verity);
        step("leave the workbench", self.go(&self.home))?;
        step("show the objects under their names", shown)
    }

    fn go(&self, to: &File) -> io::Result<()> {
        Ok(nix::unistd::fchdir(to)?)
    }

    fn lay_placed(&self, names: &OwnedFd, data: &OwnedFd, verity: bool) -> io::Result<OwnedFd> {
        let _names = self.put(names, NAMES)?;
        let _data = self.put(data, OBJECTS)?;
        lay(verity)
    }

    fn put(&self, mount: &OwnedFd, name: &'static CStr) -> io::Result<Placed> {
        mountfd::place(mount.as_fd(), self.folder.as_fd(), name)?;
        Ok(Placed(name))
    }
}

/// The overlay of what is in place, seen from the working directory.
fn lay(verity: bool) -> io::Result<OwnedFd> {
    let overlay = Filesystem::new(c"overlay")?;
    overlay.set(c"source", c"objects")?;
    overlay.set(c"lowerdir+", NAMES)?;
    overlay.set(c"datadir+", OBJECTS)?;
    // Requiring digests implies that names and data are apart.
    if verity {
        overlay.set(c"verity", c"require")?;
    } else {
        overlay.set(c"metacopy", c"on")?;
    }
    overlay.mount(Restrictions::READ_ONLY_DATA)
}

/// A mount that is in place for as long as this lives, in the working directory.
struct Placed(&'static CStr);

impl Drop for Placed {
    fn drop(&mut self) {
        if let Err(error) = mountfd::detach(self.0) {
            eprintln!("zoned: cannot take {} away: {error}", self.0.to_string_lossy());
        }
    }
}

fn mount_manifest(manifest: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let source = CString::new(format!("/proc/self/fd/{}", manifest.as_raw_fd()))?;
    let image = Filesystem::new(c"erofs")?;
    image.set(c"source", &source)?;
    image.flag(c"ro")?;
    image.mount(Restrictions::READ_ONLY_DATA)
}

/// The prefixes that have to be mounted: those that another one shows already are left out. In order,
/// each once.
#[must_use]
pub fn outermost<'a>(prefixes: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut sorted: Vec<&str> =
        prefixes.into_iter().map(|name| name.trim_end_matches('/')).collect();
    // A prefix sorts before all that is below it, though not directly.
    sorted.sort_unstable();
    let mut kept: Vec<&str> = Vec::new();
    for name in sorted {
        let below =
            |outer: &&str| name.strip_prefix(*outer).is_some_and(|rest| rest.starts_with('/'));
        if !kept.iter().any(|outer| *outer == name || below(outer)) {
            kept.push(name);
        }
    }
    kept
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_prefix_within_another_is_shown_by_it() {
        let prefixes =
            ["/ann/stor/logs/2026", "/ann/stor/logs", "/ann/stor/logs-old/", "/ann/stor/logs"];
        assert_eq!(outermost(prefixes), ["/ann/stor/logs", "/ann/stor/logs-old"]);
        assert_eq!(outermost([]), [] as [&str; 0]);
    }
}
