//! Zone images: copied from their disk to the data disk once, checked against the digests that this release
//! was built with, and sealed.
//!
//! A copy is written under another name, synced, renamed; a small file beside it says which digest it has.
//! Cut off anywhere, the copy is made again.

use super::files::{self, FileError, Readers};
use super::inventory;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use sys::mount::{self, Options};
use thiserror::Error;
use wire::kernel::Offer;

/// Disks with images have a serial number that begins so, the image's name behind it.
const SERIAL: &str = "mobula-";
const LIST: &str = "/etc/mobula/images.json";
const FOLDER: &str = "/data/images";
/// Where mounting is tried.
const TRIAL: &str = "/run/mobula/trial";
/// The most bytes of the list.
const LIST_BYTES_MAX: usize = 64 * 1024;
/// Bytes copied at once.
const CHUNK_BYTES: usize = 1024 * 1024;

/// What can go wrong with images.
#[derive(Debug, Error)]
pub enum ImageError {
    /// The list is damaged.
    #[error("{LIST} is wrong: {0}. The release is damaged, build or fetch it again")]
    List(#[from] serde_json::Error),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A name in the list is no file name.
    #[error("{LIST} names an image {0:?}: letters, digits, - and _ only")]
    Name(String),
    /// The disks can't be listed.
    #[error("cannot list disks: {0}")]
    Disks(#[source] io::Error),
    /// There is no disk with this image.
    #[error(
        "no disk with serial {SERIAL}{0} is attached: attach the zone image, or no job can run in {0}"
    )]
    Missing(String),
    /// Copying failed.
    #[error("cannot copy the zone image {name}: {source}")]
    Copy {
        /// Its name.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// The disk holds something else.
    #[error(
        "the zone image {name} has digest {got} and this release wants {wanted}: attach the image that was \
         built with this release"
    )]
    Digest {
        /// Its name.
        name: String,
        /// The digest it has.
        got: String,
        /// The digest it should have.
        wanted: String,
    },
}

/// An image of this release.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Its name.
    pub name: String,
    /// The SHA-256 of its bytes, in hex.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

impl Image {
    /// The serial number of the disk that brings it.
    #[must_use]
    pub fn serial(&self) -> String {
        format!("{SERIAL}{}", self.name)
    }

    fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(format!("{}.erofs", self.name))
    }

    fn digest_path(&self) -> PathBuf {
        Path::new(FOLDER).join(format!("{}.sha256", self.name))
    }
}

/// The images of this release; none if it has no list.
///
/// # Errors
/// [`ImageError`].
pub fn list() -> Result<Vec<Image>, ImageError> {
    let Some(bytes) = files::read(Path::new(LIST), LIST_BYTES_MAX)? else { return Ok(Vec::new()) };
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Result<Vec<Image>, ImageError> {
    let images: Vec<Image> = serde_json::from_slice(bytes)?;
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    match images.iter().find(|image| image.name.is_empty() || !image.name.bytes().all(good)) {
        Some(image) => Err(ImageError::Name(image.name.clone())),
        None => Ok(images),
    }
}

/// What was done about an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provided {
    /// It was there.
    Kept,
    /// It was copied.
    Copied,
}

/// Sees to it that the image is on the data disk, whole and right.
///
/// # Errors
/// [`ImageError`]; trying again is safe.
pub fn provide(image: &Image) -> Result<Provided, ImageError> {
    if is_there(image)? {
        return Ok(Provided::Kept);
    }
    let disk = inventory::with_serial(&image.serial()).map_err(ImageError::Disks)?;
    let disk = disk.ok_or_else(|| ImageError::Missing(image.name.clone()))?;
    let new = image.path().with_extension("new");
    let fault = |source| ImageError::Copy { name: image.name.clone(), source };
    let source = File::open(inventory::device(&disk)).map_err(fault)?;
    let got = copy(source, image.bytes, &new).map_err(fault)?;
    if !got.eq_ignore_ascii_case(&image.sha256) {
        std::fs::remove_file(&new).map_err(fault)?;
        let (name, wanted) = (image.name.clone(), image.sha256.clone());
        return Err(ImageError::Digest { name, got, wanted });
    }
    let path = image.path();
    std::fs::rename(&new, &path).map_err(FileError::of("put in place", &path))?;
    files::sync_folder_of(&path)?;
    let readers = Readers { group: 0, mode: 0o644 };
    files::replace(&image.digest_path(), image.sha256.as_bytes(), readers)?;
    Ok(Provided::Copied)
}

/// Whether this kernel mounts the image from its file, which takes a filesystem that can serve it.
#[must_use]
pub fn mounts(image: &Image) -> Offer {
    let target = Path::new(TRIAL);
    let options = Options { read_only: true, ..Options::INERT };
    let made = std::fs::create_dir_all(target);
    let tried = made.and_then(|()| mount::attach("erofs", &image.path(), target, options, ""));
    match tried {
        Ok(()) => match mount::detach(target) {
            Ok(()) => Offer::Yes,
            Err(_) => Offer::Untried,
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Offer::Untried,
        Err(_) => Offer::No,
    }
}

/// The digest was checked when the copy was made; since then the filesystem answers for it.
fn is_there(image: &Image) -> Result<bool, ImageError> {
    let digest = files::read(&image.digest_path(), image.sha256.len())?;
    let size = image.path().metadata().map(|file| file.len());
    Ok(digest.is_some_and(|digest| digest == image.sha256.as_bytes())
        && size.is_ok_and(|size| size == image.bytes))
}

/// Copies `bytes` bytes to a new file, makes them last, and gives their SHA-256 in hex.
fn copy(mut source: impl Read, bytes: u64, new: &Path) -> io::Result<String> {
    match std::fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(new)?;
    let mut digest = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left = bytes;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        source.read_exact(&mut chunk[..part])?;
        digest.update(&chunk[..part]);
        file.write_all(&chunk[..part])?;
        left -= part as u64;
    }
    file.sync_all()?;
    drop(file);
    seal(new)?;
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Nobody writes to an image any more, and where the filesystem has fs-verity the kernel checks each page
/// of it as it is read in.
fn seal(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    match sys::verity::seal(file.as_fd()).map_err(io::Error::from) {
        Err(error) if !lacks_verity(&error) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    file.set_permissions(Permissions::from_mode(0o444))?;
    file.sync_all()
}

/// `ENOTTY` or `EOPNOTSUPP`: a filesystem or kernel without fs-verity.
fn lacks_verity(error: &io::Error) -> bool {
    const ENOTTY: i32 = 25;
    error.kind() == io::ErrorKind::Unsupported || error.raw_os_error() == Some(ENOTTY)
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_list_is_read_and_a_name_with_a_slash_is_refused() {
        let list = br#"[{"name":"base","sha256":"00","bytes":5}]"#;
        assert_eq!(parse(list).unwrap()[0].name, "base");
        let bad = br#"[{"name":"../x","sha256":"00","bytes":5}]"#;
        assert!(matches!(parse(bad), Err(ImageError::Name(_))));
    }

    #[test]
    fn a_copy_has_the_digest_of_its_bytes_and_no_more_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base.new");
        std::fs::write(&path, "left over from a copy that was cut off").unwrap();
        let digest = copy(&b"abcdef"[..], 3, &path).unwrap();
        assert_eq!(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(std::fs::read(&path).unwrap(), b"abc");
    }

    #[test]
    fn a_disk_that_is_too_short_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(copy(&b"abc"[..], 4, &folder.path().join("x")).is_err());
    }

    proptest! {
        #[test]
        fn any_list_is_an_answer_never_a_panic(bytes: Vec<u8>) {
            if let Ok(images) = parse(&bytes) {
                prop_assert!(images.is_empty());
            }
        }
    }
}
