//! Removes a folder and all that is below, however deep a tenant has made it: what is further down is moved up before it
//! is looked into, so that neither the stack nor the open descriptors grow with it. Links are removed, never followed.

use super::file::{FileError, failed};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::CStr;
use std::os::fd::AsFd;
use std::path::Path;

/// How a folder is opened: it is one, and no link to one.
const HOW: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Removes it; one that is not there is removed already.
///
/// # Errors
/// [`FileError`]; what is left then is some of what was there.
pub fn remove(top: &Path) -> Result<(), FileError> {
    let failed = |error: Errno| failed("remove what is in", top)(error.into());
    let mut next = 0;
    loop {
        let folder = match Dir::open(top, HOW, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        empty(folder, &mut next).map_err(failed)?;
        match std::fs::remove_dir(top) {
            Ok(()) => return Ok(()),
            // What was moved up while it was being read.
            Err(error) if error.raw_os_error() == Some(libc::ENOTEMPTY) => {}
            Err(error) => return Err(super::file::failed("remove", top)(error)),
        }
    }
}

/// Removes what is in the topmost folder and in those in it; what is further down is moved up.
fn empty(mut top: Dir, next: &mut u64) -> nix::Result<()> {
    let names = top.as_fd().try_clone_to_owned().map_err(|error| io(&error))?;
    for entry in top.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if is_dots(name) || is_gone(&names, name)? {
            continue;
        }
        let mut folder = Dir::openat(&names, name, HOW, Mode::empty())?;
        let below = folder.as_fd().try_clone_to_owned().map_err(|error| io(&error))?;
        for entry in folder.iter() {
            let entry = entry?;
            let name = entry.file_name();
            if !is_dots(name) && !is_gone(&below, name)? {
                move_up(&below, name, &names, next)?;
            }
        }
        match unlinkat(&names, name, UnlinkatFlags::RemoveDir) {
            // Its names have changed while they were read: it is looked into again.
            Ok(()) | Err(Errno::ENOTEMPTY) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes a file, or a folder with nothing in it; false if something is.
fn is_gone(folder: &impl AsFd, name: &CStr) -> nix::Result<bool> {
    match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(true),
        Err(Errno::EISDIR) => {}
        Err(error) => return Err(error),
    }
    match unlinkat(folder, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(true),
        Err(Errno::ENOTEMPTY) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Moves a folder to the top, under a name that nothing has there.
fn move_up(from: &impl AsFd, name: &CStr, top: &impl AsFd, next: &mut u64) -> nix::Result<()> {
    loop {
        *next += 1;
        let new = format!("{next}");
        match renameat2(from, name, top, new.as_str(), RenameFlags::RENAME_NOREPLACE) {
            Err(Errno::EEXIST) => {}
            done => return done,
        }
    }
}

fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

fn io(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    #[test]
    fn what_links_lead_to_stays() {
        let place = tempfile::tempdir().unwrap();
        let (kept, tree) = (place.path().join("kept"), place.path().join("tree"));
        fs::create_dir_all(kept.join("folder")).unwrap();
        fs::write(kept.join("folder/file"), "mine").unwrap();
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        for at in ["link", "a/link", "a/b/c/link"] {
            symlink(kept.join("folder"), tree.join(at)).unwrap();
        }
        remove(&tree).unwrap();
        assert!(!tree.exists() && kept.join("folder/file").exists());
        remove(&tree).unwrap();
        symlink(&kept, &tree).unwrap();
        remove(&tree).unwrap_err();
        assert!(kept.join("folder/file").exists());
    }

    #[test]
    fn a_folder_may_be_deeper_than_a_process_may_have_files() {
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("tree");
        fs::create_dir(&tree).unwrap();
        // No path is as long: each is made in the one before.
        let mut folder = Dir::open(&tree, HOW, Mode::empty()).unwrap();
        for _ in 0..3_000 {
            nix::sys::stat::mkdirat(&folder, "down", Mode::S_IRWXU).unwrap();
            folder = Dir::openat(&folder, "down", HOW, Mode::empty()).unwrap();
        }
        drop(folder);
        remove(&tree).unwrap();
        assert!(!tree.exists());
    }

    fn any_path() -> impl Strategy<Value = PathBuf> {
        // Names that the removal gives itself are among them.
        prop::collection::vec("[1-4]", 1..6).prop_map(|names| names.iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn nothing_is_left_of_any_tree(paths in prop::collection::vec((any_path(), any::<bool>()), 0..40)) {
            let place = tempfile::tempdir().unwrap();
            let tree = place.path().join("tree");
            fs::create_dir(&tree).unwrap();
            for (path, is_file) in paths {
                // Some meet a file on their way: there is a tree all the same.
                if fs::create_dir_all(tree.join(&path)).is_ok() && is_file {
                    drop(fs::write(tree.join(path).join("file"), "text"));
                }
            }
            remove(&tree).unwrap();
            prop_assert!(!tree.exists());
        }
    }
}
