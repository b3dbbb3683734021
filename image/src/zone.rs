//! Zone images: the root that a tenant's programs see. A Debian root made by mmdebstrap, freed of what no job
//! reads, packed as one EROFS file; the same packages give the same bytes. `base` is part of the appliance;
//! others are made when they are asked for, and imported.

use crate::command::{self, CommandError};
use crate::digest::{self, Inputs};
use crate::file::{FileError, failed};
use crate::layout::Layout;
use crate::lock::{Lock, LockError, Package};
use crate::progress::{self, Step};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use thiserror::Error;

/// What an image is made of.
#[derive(Debug)]
pub struct Recipe {
    /// Its name, as jobs ask for it.
    pub name: &'static str,
    /// The lock's part for it.
    pub part: &'static str,
    /// Packages beyond those of every image.
    more: &'static [&'static str],
}

/// The image that the appliance comes with.
pub const BASE: Recipe = Recipe { name: wire::job::IMAGE_DEFAULT, part: "zone base", more: &[] };
/// For films, sound and pictures: three times as large, and so not part of the appliance.
pub const MEDIA: Recipe =
    Recipe { name: "media", part: "zone media", more: &["ffmpeg", "imagemagick"] };
/// All of them.
pub const RECIPES: [&Recipe; 2] = [&BASE, &MEDIA];

/// The Debian release: the one that the appliance's own parts are from.
const SUITE: &str = "bookworm";
/// What Manta's users expect of a compute zone, beyond the essential packages.
const PACKAGES: [&str; 16] = [
    "bash",
    "bc",
    "bzip2",
    "coreutils",
    "diffutils",
    "file",
    "findutils",
    "gawk",
    "grep",
    "gzip",
    "jq",
    "perl",
    "python3",
    "sed",
    "xz-utils",
    "zstd",
];
/// The time of every file and of whatever packages write a time into.
const EPOCH: &str = "1700000000";
/// An image of the same contents has the same name; nothing mounts it by this.
const UUID: &str = "6d6f6275-6c61-4261-8173-652d7a6f6e65";
/// Where the packages' names are left in the root, for us.
const PACKAGE_LIST: &str = "packages.list";
/// Counts up whenever this file makes another image of the same packages.
const RECIPE: u32 = 1;

/// What no job reads, or what differs from one build to the next.
const TRIMMED: [&str; 27] = [
    "boot",
    "dev",
    "etc/apt",
    "etc/.pwd.lock",
    "etc/cron.daily",
    "etc/logrotate.d",
    "etc/machine-id",
    "etc/passwd-",
    "etc/group-",
    "etc/shadow-",
    "etc/gshadow-",
    "run",
    "tmp",
    "usr/games",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/doc",
    "usr/share/doc-base",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "var/cache",
    "var/lib/apt",
    "var/lib/dpkg/info",
    "var/log",
    "usr/lib/udev",
];
/// Empty folders that a zone mounts things on or writes to.
const FOLDERS: [(&str, u32); 10] = [
    ("assets", 0o755),
    ("dev", 0o755),
    ("manta", 0o755),
    ("proc", 0o555),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("var/cache", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
];
/// Files that mmdebstrap takes from the machine it runs on, as a zone has them.
const FILES: [(&str, &str); 3] = [
    ("etc/hostname", "zone\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("etc/resolv.conf", ""),
];
/// Leaves the name, version and digest of every package in the root.
const LIST_HOOK: &str = r#"chroot "$1" dpkg-query -W -f '${Package}=${Version}\n' |
while read -r package; do
    APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-cache show --no-all-versions "$package" |
        awk '/^Package: /{p=$2} /^Version: /{v=$2} /^SHA256: /{s=$2} END{print p, v, s}'
done >"$1/packages.list""#;

/// What goes wrong with a zone image.
#[derive(Debug, Error)]
pub enum ZoneError {
    /// A tool.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The list of packages is not as the hook writes it.
    #[error("mmdebstrap left no usable list of packages: {0:?}")]
    Packages(String),
}

/// A finished image.
#[derive(Debug, Clone)]
pub struct ZoneImage {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub sha256: String,
}

impl ZoneImage {
    /// As it stands in `/etc/mobula/images.json`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "name": self.name, "sha256": self.sha256, "bytes": self.bytes })
    }
}

/// The image `base`, from the cache or made now, and the packages in it.
///
/// # Errors
/// [`ZoneError`].
pub fn base(layout: &Layout, lock: &Lock) -> Result<(ZoneImage, Vec<Package>), ZoneError> {
    made(layout, lock, &BASE)
}

/// An image, from the cache or made now, and the packages in it.
///
/// # Errors
/// [`ZoneError`].
pub fn made(
    layout: &Layout,
    lock: &Lock,
    recipe: &Recipe,
) -> Result<(ZoneImage, Vec<Package>), ZoneError> {
    let name = recipe.name;
    let folder = layout.cache(&format!("zone/{name}-{}", inputs(recipe, lock)));
    let file = folder.join(format!("{name}.erofs"));
    if file.is_file() {
        progress::unchanged("zone image", &file.display().to_string());
    } else {
        make(recipe, &folder, &file)?;
    }
    Ok((image(recipe, &file)?, packages(&folder)?))
}

/// Makes the image `base` anew in `folder` and compares: two makings give the same bytes.
///
/// # Errors
/// [`ZoneError`].
pub fn make_again(folder: &Path) -> Result<ZoneImage, ZoneError> {
    let file = folder.join(format!("{}.erofs", BASE.name));
    make(&BASE, folder, &file)?;
    image(&BASE, &file)
}

/// Names what the image is made from. The lock is part of it: a new lock asks for new packages.
fn inputs(recipe: &Recipe, lock: &Lock) -> String {
    let mut inputs = Inputs::new();
    inputs.add("recipe", RECIPE.to_le_bytes());
    for text in
        PACKAGES.iter().chain(recipe.more).chain(&TRIMMED).chain(&[SUITE, EPOCH, UUID, LIST_HOOK])
    {
        inputs.add("text", text);
    }
    for (path, mode) in FOLDERS {
        inputs.add(path, mode.to_le_bytes());
    }
    for (path, text) in FILES {
        inputs.add(path, text);
    }
    for package in lock.part(recipe.part) {
        inputs.add(&package.name, format!("{} {}", package.version, package.sha256));
    }
    inputs.short()
}

fn make(recipe: &Recipe, folder: &Path, file: &Path) -> Result<(), ZoneError> {
    let mut step = Step::start("zone image");
    let work = folder.with_extension("partial");
    if work.exists() {
        fs::remove_dir_all(&work).map_err(failed("remove", &work))?;
    }
    let root = work.join("root");
    fs::create_dir_all(&root).map_err(failed("create", &root))?;
    step.at("fetching and unpacking packages");
    let tar = work.join("root.tar");
    bootstrap(recipe, &tar)?;
    // Devices can't be made without root and the zone gets its own; owners are dropped on packing.
    let from =
        ["--extract", "--same-permissions", "--no-same-owner", "--exclude=./dev/*", "--file"];
    command::output(Command::new("tar").args(from).arg(&tar).arg("--directory").arg(&root))?;
    fs::remove_file(&tar).map_err(failed("remove", &tar))?;
    let list = root.join(PACKAGE_LIST);
    fs::rename(&list, work.join(PACKAGE_LIST)).map_err(failed("move", &list))?;
    trim(&root)?;
    let partial = work.join("image");
    let options = ["-zlz4hc", "-T", EPOCH, "-U", UUID, "--all-root", "--quiet"];
    command::output(Command::new("mkfs.erofs").args(options).arg(&partial).arg(&root))?;
    fs::create_dir_all(folder).map_err(failed("create", folder))?;
    let packages = folder.join(PACKAGE_LIST);
    fs::rename(work.join(PACKAGE_LIST), &packages).map_err(failed("move", &packages))?;
    fs::rename(&partial, file).map_err(failed("move", &partial))?;
    fs::remove_dir_all(&work).map_err(failed("remove", &work))?;
    let bytes = fs::metadata(file).map_err(failed("look at", file))?.len();
    step.done(&format!("{}, {}", file.display(), progress::bytes(bytes)));
    Ok(())
}

fn bootstrap(recipe: &Recipe, tar: &Path) -> Result<(), CommandError> {
    let mut command = Command::new("mmdebstrap");
    command
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .env("LC_ALL", "C")
        .args(["--variant=essential", "--format=tar"])
        .arg(format!("--include={}", [&PACKAGES[..], recipe.more].concat().join(",")))
        .arg(r#"--aptopt=APT::Install-Recommends "false""#)
        .args(
            TRIMMED
                .iter()
                .filter(|path| path.starts_with("usr/share/"))
                .map(|path| format!("--dpkgopt=path-exclude=/{path}/*")),
        )
        .arg(format!("--customize-hook={LIST_HOOK}"))
        .arg(SUITE)
        .arg(tar);
    command::output(&mut command).map(drop)
}

fn trim(root: &Path) -> Result<(), ZoneError> {
    for path in TRIMMED.map(|path| root.join(path)) {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if metadata.is_dir() {
            fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
        } else {
            fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
    }
    for (name, mode) in FOLDERS {
        let path = root.join(name);
        fs::create_dir_all(&path).map_err(failed("create", &path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .map_err(failed("set the mode of", &path))?;
    }
    for (name, text) in FILES {
        let path = root.join(name);
        fs::write(&path, text).map_err(failed("write", &path))?;
    }
    Ok(())
}

fn image(recipe: &Recipe, file: &Path) -> Result<ZoneImage, ZoneError> {
    Ok(ZoneImage {
        name: recipe.name.to_owned(),
        file: file.to_owned(),
        bytes: fs::metadata(file).map_err(failed("look at", file))?.len(),
        sha256: digest::file(file).map_err(failed("read", file))?,
    })
}

fn packages(folder: &Path) -> Result<Vec<Package>, ZoneError> {
    let path = folder.join(PACKAGE_LIST);
    let text = fs::read_to_string(&path).map_err(failed("read", &path))?;
    let parsed: Option<Vec<_>> = text.lines().map(Package::parse).collect();
    parsed.filter(|list| !list.is_empty()).ok_or(ZoneError::Packages(text))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_new_lock_asks_for_a_new_image() {
        let mut lock = Lock::default();
        let before = inputs(&BASE, &lock);
        let package = Package { name: "bash".into(), version: "1".into(), sha256: "0".repeat(64) };
        lock.set(BASE.part, [package]);
        assert_ne!(inputs(&BASE, &lock), before);
        assert_ne!(inputs(&MEDIA, &lock), inputs(&BASE, &lock));
    }

    #[test]
    fn trimming_leaves_the_folders_a_zone_mounts_on() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/share/doc/bash")).unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/machine-id"), "x").unwrap();
        trim(root.path()).unwrap();
        assert!(!root.path().join("usr/share/doc").exists());
        assert!(!root.path().join("etc/machine-id").exists());
        assert!(root.path().join("manta").is_dir());
    }
}
