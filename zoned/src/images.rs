//! Zone images, each mounted once and shared by all zones, read-only.
//!
//! An image `NAME` is the EROFS file `<images>/NAME.erofs`, mounted from the file, without a loop device;
//! or, for development, the directory `<images>/NAME`. Owns the mounts below its own directory.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use sys::mountfd::{self, Filesystem, Restrictions};
use thiserror::Error;

/// The most bytes in an image's name.
const NAME_BYTES_MAX: usize = 64;

/// Why an image cannot be used.
#[derive(Debug, Error)]
pub enum ImageError {
    /// A name that is no image's.
    #[error("{name:?} is no image's name: letters, digits, dots, dashes, and no dot first")]
    Name {
        /// The name.
        name: String,
    },
    /// Nothing of that name is there.
    #[error("there is no image {name}: neither {name}.erofs nor a directory {name} in {}", folder.display())]
    Missing {
        /// The name.
        name: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// It could not be mounted.
    #[error("cannot {act} the image {}", path.display())]
    Mount {
        /// What was tried.
        act: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The images of this node.
#[derive(Debug)]
pub struct Images {
    folder: PathBuf,
    mounts: PathBuf,
    mounted: BTreeMap<String, PathBuf>,
}

impl Images {
    /// Images in `folder`, to be mounted below `mounts`; what an earlier zoned mounted there goes.
    ///
    /// # Errors
    /// [`ImageError::Mount`].
    pub fn open(folder: &Path, mounts: &Path) -> Result<Self, ImageError> {
        let failed = |act| move |source| ImageError::Mount { act, path: mounts.to_owned(), source };
        fs::create_dir_all(mounts).map_err(failed("make the directory of"))?;
        for entry in fs::read_dir(mounts).map_err(failed("list"))? {
            let path = entry.map_err(failed("list"))?.path();
            // EINVAL: nothing is mounted there, or not any more.
            while mountfd::detach(&c_path(&path)?).is_ok() {}
            fs::remove_dir(&path).map_err(failed("clear the directory of"))?;
        }
        let (folder, mounts) = (folder.to_owned(), mounts.to_owned());
        Ok(Self { folder, mounts, mounted: BTreeMap::new() })
    }

    /// Where the image is mounted, after mounting it if need be.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn get(&mut self, name: &str) -> Result<PathBuf, ImageError> {
        if let Some(path) = self.mounted.get(name) {
            return Ok(path.clone());
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if name.is_empty()
            || name.len() > NAME_BYTES_MAX
            || name.starts_with('.')
            || !name.bytes().all(plain)
        {
            return Err(ImageError::Name { name: name.to_owned() });
        }
        let path = self.mount(name)?;
        self.mounted.insert(name.to_owned(), path.clone());
        Ok(path)
    }

    fn mount(&self, name: &str) -> Result<PathBuf, ImageError> {
        let file = self.folder.join(format!("{name}.erofs"));
        let tree = self.folder.join(name);
        let (source, image) = if file.is_file() {
            (&file, mount_file(&file))
        } else if tree.is_dir() {
            (&tree, mount_tree(&tree))
        } else {
            let (name, folder) = (name.to_owned(), self.folder.clone());
            return Err(ImageError::Missing { name, folder });
        };
        let failed =
            |act| move |error| ImageError::Mount { act, path: source.clone(), source: error };
        let image = image.map_err(failed("mount"))?;
        let target = self.mounts.join(name);
        fs::create_dir_all(&target).map_err(failed("make a place for"))?;
        let to = c_path(&target)?;
        let folder = File::open("/").map_err(failed("find a place for"))?;
        mountfd::place(image.as_fd(), folder.as_fd(), &to).map_err(failed("place"))?;
        Ok(target)
    }
}

fn mount_file(path: &Path) -> io::Result<std::os::fd::OwnedFd> {
    let image = Filesystem::new(c"erofs")?;
    image.set(c"source", &CString::new(path.as_os_str().as_bytes())?)?;
    image.flag(c"ro")?;
    image.mount(Restrictions::READ_ONLY)
}

fn mount_tree(path: &Path) -> io::Result<std::os::fd::OwnedFd> {
    let tree = mountfd::copy(File::open(path)?.as_fd(), c"")?;
    mountfd::restrict(tree.as_fd(), Restrictions::READ_ONLY)?;
    Ok(tree)
}

fn c_path(path: &Path) -> Result<CString, ImageError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|error| ImageError::Mount {
        act: "name",
        path: path.to_owned(),
        source: error.into(),
    })
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut images = Images::open(folder.path(), &folder.path().join("mounts")).unwrap();
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for name in ["", ".", "..", "../etc", "a/b", ".hidden", "a b", "a\0", long.as_str()] {
            assert!(matches!(images.get(name), Err(ImageError::Name { .. })), "{name:?}");
        }
    }

    #[test]
    fn an_image_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut images = Images::open(folder.path(), &folder.path().join("mounts")).unwrap();
        let error = images.get("debian-13").unwrap_err();
        assert!(error.to_string().contains("debian-13.erofs"), "{error}");
    }
}
