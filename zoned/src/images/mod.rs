//! Zone images, each mounted once and shared by all zones, read-only.
//!
//! An image `NAME` is the EROFS file `<images>/NAME.erofs`, which came with the appliance; or an object of
//! the store that was imported ([`record`]); or, for development, the directory `<images>/NAME`. The first
//! two are mounted from their files, without a loop device. Owns the mounts below its own directory.
//!
//! ```text
//!   life     pure: what becomes of an import       act      does it, with storaged and in a zone
//!   record   which images were imported            import   one that runs, and its zone
//!   answer   what people ask for             note     has their records written
//! ```

mod act;
mod ahead;
mod answer;
mod awaits;
mod import;
pub mod life;
mod note;
pub mod record;

pub(crate) use act::Question;
pub(crate) use awaits::Awaits;
pub(crate) use import::Import;
pub(crate) use note::Note;

use crate::disk::FileError;
use crate::import::configuration::{BYTES_MAX, Configuration};
use crate::import::merge::CONFIGURATION;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use record::{Phase, Record, Records};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use sys::mountfd::{self, Filesystem, Restrictions};
use thiserror::Error;
use wire::standing::Stats;

/// The most bytes in an image's name.
const NAME_BYTES_MAX: usize = 64;
/// Where records of imported images are, beside the images that came with the appliance.
const IMPORTED: &str = ".imported";

/// Whether this can be an image's name, and so a file's.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.starts_with('.')
        && name.bytes().all(plain)
}

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
    /// It was imported, and storaged has not shown it yet.
    #[error("the image {name} is an object of the store, which is not there yet")]
    Waiting {
        /// The name.
        name: String,
    },
    /// It was imported, and storaged does not show it, or what it shows is none.
    #[error("the image {name}, an object of the store, cannot be had: {why}")]
    Refused {
        /// The name.
        name: String,
        /// Why not.
        why: String,
    },
    /// The records of imported images.
    #[error(transparent)]
    Record(#[from] FileError),
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
    /// Those that were imported.
    pub(crate) records: Records,
    /// The import that runs.
    pub(crate) import: Option<Import>,
    configurations: BTreeMap<String, Configuration>,
    ahead: ahead::Ahead,
    /// Images of which storaged was asked, as long as the connection lasts.
    asked: BTreeSet<String>,
    /// Of them those that cannot be had, and why.
    refused: BTreeMap<String, String>,
    /// Images whose records are on their way to the disk.
    noting: BTreeSet<String>,
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
        let records = Records::open(&folder.join(IMPORTED))?;
        let (folder, mounts) = (folder.to_owned(), mounts.to_owned());
        Ok(Self {
            folder,
            mounts,
            mounted: BTreeMap::new(),
            records,
            import: None,
            configurations: BTreeMap::new(),
            ahead: ahead::Ahead::new(None),
            asked: BTreeSet::new(),
            refused: BTreeMap::new(),
            noting: BTreeSet::new(),
        })
    }

    /// From now on images are read ahead by the prefetcher that listens there: the one that most zones start
    /// from at once, others when they are mounted.
    pub fn read_ahead(&mut self, prefetcher: PathBuf) {
        self.ahead = ahead::Ahead::new(Some(prefetcher));
        if let Err(error) = self.get(wire::job::IMAGE_DEFAULT) {
            eprintln!("zoned: {}", crate::chain(&error));
        }
        self.ahead.tend(&self.mounted);
    }

    /// Where the image is mounted, after mounting it if need be.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn get(&mut self, name: &str) -> Result<PathBuf, ImageError> {
        if let Some(path) = self.mounted.get(name) {
            return Ok(path.clone());
        }
        if !is_name(name) {
            return Err(ImageError::Name { name: name.to_owned() });
        }
        match self.records.get(name).map(|record| &record.phase) {
            None => {}
            Some(Phase::Ready { .. }) => {
                let name = name.to_owned();
                return Err(match self.refused.get(&name).cloned() {
                    Some(why) => ImageError::Refused { name, why },
                    None => ImageError::Waiting { name },
                });
            }
            // It is being made or removed: there is none.
            Some(Phase::Making | Phase::Removing) => {
                let (name, folder) = (name.to_owned(), self.folder.clone());
                return Err(ImageError::Missing { name, folder });
            }
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
        self.place(name, image.as_fd(), source)
    }

    /// Puts a mount where zones find it.
    fn place(
        &self,
        name: &str,
        image: BorrowedFd<'_>,
        source: &Path,
    ) -> Result<PathBuf, ImageError> {
        let failed =
            |act| move |error| ImageError::Mount { act, path: source.to_owned(), source: error };
        let target = self.mounts.join(name);
        fs::create_dir_all(&target).map_err(failed("make a place for"))?;
        let to = c_path(&target)?;
        let folder = File::open("/").map_err(failed("find a place for"))?;
        mountfd::place(image, folder.as_fd(), &to).map_err(failed("place"))?;
        Ok(target)
    }

    /// Mounts an imported image from its object.
    ///
    /// # Errors
    /// [`ImageError::Mount`].
    pub fn mount_object(&mut self, name: &str, object: BorrowedFd<'_>) -> Result<(), ImageError> {
        if self.mounted.contains_key(name) {
            return Ok(());
        }
        let source = PathBuf::from(format!("/proc/self/fd/{}", object.as_raw_fd()));
        let image = mount_file(&source).map_err(|error| ImageError::Mount {
            act: "mount",
            path: PathBuf::from(name),
            source: error,
        })?;
        let path = self.place(name, image.as_fd(), Path::new(name))?;
        self.mounted.insert(name.to_owned(), path);
        Ok(())
    }

    /// Lets go of an image's mount; zones that have it keep it until they end.
    ///
    /// # Errors
    /// [`ImageError::Mount`].
    pub fn unmount(&mut self, name: &str) -> Result<(), ImageError> {
        self.configurations.remove(name);
        self.refused.remove(name);
        self.ahead.forget(name);
        let Some(path) = self.mounted.remove(name) else { return Ok(()) };
        let failed = |act| move |source| ImageError::Mount { act, path: name.into(), source };
        mountfd::detach(&c_path(&path)?).map_err(failed("unmount"))?;
        fs::remove_dir(&path).map_err(failed("remove the place of"))
    }

    /// Whether an image is mounted.
    #[must_use]
    pub fn is_mounted(&self, name: &str) -> bool {
        self.mounted.contains_key(name)
    }

    /// How an image wants to be run; nothing in particular if it does not say, or says what makes no sense.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn configuration(&mut self, name: &str) -> Result<&Configuration, ImageError> {
        // Read once: every task asks.
        if !self.configurations.contains_key(name) {
            let path = self.get(name)?;
            let read = read_configuration(name, &path)?;
            self.configurations.insert(name.to_owned(), read);
        }
        Ok(&self.configurations[name])
    }

    /// Images that came with the appliance: their names, sizes and digests, as they were noted beside them.
    ///
    /// # Errors
    /// [`ImageError::Mount`].
    pub fn shipped(&self) -> Result<Vec<(String, u64, String)>, ImageError> {
        let failed = |source| ImageError::Mount { act: "list", path: self.folder.clone(), source };
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_stem().and_then(|name| name.to_str());
            let is_image = path.extension().is_some_and(|ending| ending == "erofs");
            let Some(name) = name.filter(|name| is_image && is_name(name)) else { continue };
            let bytes = path.metadata().map_err(failed)?.len();
            // Without a digest it was put there by hand.
            let sha256 = fs::read_to_string(path.with_extension("sha256")).unwrap_or_default();
            found.push((name.to_owned(), bytes, sha256.trim().to_owned()));
        }
        found.sort();
        Ok(found)
    }

    /// Has what was mounted since read ahead, and hears what is.
    pub(crate) fn tend(&mut self) {
        self.ahead.tend(&self.mounted);
    }

    /// What the zone that makes this image has used so far; none if there is none.
    pub(crate) fn import_stats(&self, name: &str) -> Option<Stats> {
        let import = self.import.as_ref().filter(|import| import.name == name)?;
        import.running.as_ref().map(|running| running.zone.cgroup.stats())
    }

    /// The next image that storaged is to be asked something about.
    fn next_to_ask(&self) -> Option<(String, Record)> {
        let importing = self.import.as_ref().map(|import| &import.name[..]);
        let due = |(name, record): &(&str, &Record)| {
            let done = matches!(record.phase, Phase::Ready { .. }) && self.is_mounted(name);
            let is_free = !self.asked.contains(*name) && !self.noting.contains(*name);
            !done && is_free && importing != Some(*name)
        };
        let (name, record) = self.records.all().find(due)?;
        Some((name.to_owned(), record.clone()))
    }

    /// Whether there is anything of this name.
    #[must_use]
    pub fn is_known(&self, name: &str) -> bool {
        let file = self.folder.join(format!("{name}.erofs"));
        self.records.get(name).is_some() || file.exists() || self.folder.join(name).exists()
    }
}

/// What the image at `path` says of how it is run.
fn read_configuration(name: &str, path: &Path) -> Result<Configuration, ImageError> {
    let file = match open_beneath(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Configuration::default());
        }
        Err(source) => {
            let act = "read the configuration of";
            return Err(ImageError::Mount { act, path: name.into(), source });
        }
    };
    let mut bytes = Vec::new();
    // One byte more than may be is one that is refused.
    let read = file.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
    let parsed = read
        .map_err(|error| error.to_string())
        .and_then(|_| Configuration::parse(&bytes).map_err(|error| crate::chain(&error)));
    Ok(parsed.unwrap_or_else(|why| {
        eprintln!("zoned: the image {name} is run as if it said nothing: {why}");
        Configuration::default()
    }))
}

/// An image's configuration: a file in its root, and no link out of it.
fn open_beneath(image: &Path) -> io::Result<File> {
    let folder = File::open(image)?;
    let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS,
    );
    let file = File::from(openat2(folder.as_fd(), CONFIGURATION, how)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    Ok(file)
}

fn mount_file(path: &Path) -> io::Result<OwnedFd> {
    let image = Filesystem::new(c"erofs")?;
    image.set(c"source", &CString::new(path.as_os_str().as_bytes())?)?;
    image.flag(c"ro")?;
    image.mount(Restrictions::READ_ONLY)
}

fn mount_tree(path: &Path) -> io::Result<OwnedFd> {
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
