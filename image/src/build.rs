//! Builds the appliance: kernel, zone image, programs, initramfs, in that order, each only if what it is
//! made of has changed.

use crate::binaries::{self, Binaries, BinariesError};
use crate::command::{self, CommandError};
use crate::debs::{self, DebError};
use crate::file::{FileError, failed};
use crate::initramfs::{self, InitramfsError, Parts};
use crate::kernel::{self, Choice, Kernel, KernelError};
use crate::layout::Layout;
use crate::lock::{Lock, LockError, Package};
use crate::zone::{self, ZoneError, ZoneImage};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use thiserror::Error;

/// The image's time where the sources are in no repository: a moment after the newest lock.
const EPOCH_DEFAULT: u32 = 1_763_800_000;
/// The lock's part for the source of our kernel.
const KERNEL_PART: &str = "kernel own";

/// What goes wrong with a build.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The kernel.
    #[error("kernel")]
    Kernel(#[from] KernelError),
    /// A zone image.
    #[error("zone image")]
    Zone(#[from] ZoneError),
    /// The programs.
    #[error("programs")]
    Binaries(#[from] BinariesError),
    /// The initramfs.
    #[error("initramfs")]
    Initramfs(#[from] InitramfsError),
    /// The lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A package.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// A tool.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Two builds of the same sources differ.
    #[error("two builds of the same sources differ: {0}")]
    Differs(String),
    /// Nothing has been built.
    #[error("{0} is missing: build the image first (make image)")]
    NotBuilt(PathBuf),
}

/// A finished build: everything that boots.
#[derive(Debug, Clone)]
pub struct Product {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// The zone image `base`.
    pub zone_image: PathBuf,
    /// The operator's command, for the host.
    pub mobula: PathBuf,
}

impl Product {
    /// Where a build puts its results.
    #[must_use]
    pub fn place(layout: &Layout, kernel: Choice) -> Self {
        let own = |name: &str| match kernel {
            Choice::Own => layout.out(name),
            Choice::Debian => layout.out("debian").join(name),
        };
        Self {
            kernel: own("vmlinuz"),
            initramfs: own("initramfs"),
            zone_image: own("base.erofs"),
            mobula: layout.out("mobula"),
        }
    }

    /// The results of the last build.
    ///
    /// # Errors
    /// When one of them is missing.
    pub fn built(layout: &Layout, kernel: Choice) -> Result<Self, BuildError> {
        let product = Self::place(layout, kernel);
        let files = [&product.kernel, &product.initramfs, &product.zone_image, &product.mobula];
        let missing = files.into_iter().find(|file| !file.is_file()).cloned();
        missing.map_or(Ok(product), |file| Err(BuildError::NotBuilt(file)))
    }
}

/// Builds everything.
///
/// # Errors
/// [`BuildError`].
pub fn build(layout: &Layout, choice: Choice, profile: &str) -> Result<Product, BuildError> {
    let product = Product::place(layout, choice);
    let out = product.initramfs.parent().expect("the place is below out/");
    fs::create_dir_all(out).map_err(failed("create", out))?;
    let made = make(layout, choice, profile, None, &product.initramfs)?;
    copy(&made.kernel.image, &product.kernel)?;
    copy(&made.zone.file, &product.zone_image)?;
    copy(made.binaries.mobula(), &product.mobula)?;
    let lock = Lock::read(&layout.source("packages.lock"))?;
    for (part, packages) in &made.packages {
        let differences = lock.differences(part, packages);
        if !differences.is_empty() {
            eprintln!(
                "note: {part}: other packages than in image/packages.lock (image lock --update):"
            );
            differences.iter().for_each(|line| eprintln!("    {line}"));
        }
    }
    Ok(product)
}

/// Makes one zone image in out/, from the cache if it is there; gives its file.
///
/// # Errors
/// [`BuildError`].
pub fn zone_image(layout: &Layout, recipe: &zone::Recipe) -> Result<PathBuf, BuildError> {
    let lock = Lock::read(&layout.source("packages.lock"))?;
    let alone = lock_cache(layout)?;
    let (made, _) = zone::made(layout, &lock, recipe)?;
    drop(alone);
    let file = layout.out(&format!("{}.erofs", recipe.name));
    let out = file.parent().expect("the place is below out/");
    fs::create_dir_all(out).map_err(failed("create", out))?;
    copy(&made.file, &file)?;
    Ok(file)
}

/// Builds everything and writes down with which packages.
///
/// # Errors
/// [`BuildError`].
pub fn update_lock(layout: &Layout) -> Result<(), BuildError> {
    let path = layout.source("packages.lock");
    let _alone = lock_cache(layout)?;
    // What is used is read with an empty lock: it asks for nothing, so the newest is taken.
    let empty = Lock::default();
    let mut lock = empty.clone();
    let source = kernel::source_version()?;
    lock.set(KERNEL_PART, [debs::known(kernel::SOURCE_PACKAGE, &source)?]);
    lock.set(kernel::debian::PART, [kernel::debian::kernel(layout, &empty)?.1]);
    lock.set(zone::BASE.part, zone::base(layout, &empty)?.1);
    lock.set(initramfs::PART, initramfs::packages(layout, &empty)?);
    Ok(lock.write(&path)?)
}

/// Makes zone image and initramfs a second time, the programs compiled anew in another folder, and compares.
///
/// # Errors
/// [`BuildError::Differs`] when they do.
pub fn verify_reproducible(
    layout: &Layout,
    choice: Choice,
    profile: &str,
) -> Result<(), BuildError> {
    let first = build(layout, choice, profile)?;
    let again = layout.out("again");
    fs::create_dir_all(&again).map_err(failed("create", &again))?;
    let second = again.join("initramfs");
    for stale in [&second, &second.with_extension("stamp")] {
        match fs::remove_file(stale) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", stale)(error).into());
            }
            _ => {}
        }
    }
    let zone = zone::make_again(&again.join("zone"))?;
    same(&first.zone_image, &zone.file)?;
    make(layout, choice, profile, Some(&again.join("target")), &second)?;
    same(&first.initramfs, &second)
}

fn same(one: &Path, two: &Path) -> Result<(), BuildError> {
    let digest = |path: &Path| crate::digest::file(path).map_err(failed("read", path));
    let (left, right) = (digest(one)?, digest(two)?);
    if left == right {
        eprintln!("{} twice the same: {left}", one.display());
        return Ok(());
    }
    Err(BuildError::Differs(format!("{} {left}, {} {right}", one.display(), two.display())))
}

struct Made {
    kernel: Kernel,
    zone: ZoneImage,
    binaries: Binaries,
    packages: Vec<(&'static str, Vec<Package>)>,
}

fn make(
    layout: &Layout,
    choice: Choice,
    profile: &str,
    target: Option<&Path>,
    initramfs: &Path,
) -> Result<Made, BuildError> {
    let lock = Lock::read(&layout.source("packages.lock"))?;
    let alone = lock_cache(layout)?;
    let mut packages = Vec::new();
    let kernel = match choice {
        Choice::Own => {
            let kernel = kernel::own(layout)?;
            // A source that apt no longer knows (an old package, still installed) is told as one that differs.
            let source = debs::known(kernel::SOURCE_PACKAGE, &kernel.version).ok();
            packages.push((KERNEL_PART, source.into_iter().collect()));
            kernel
        }
        Choice::Debian => {
            let (kernel, package) = kernel::debian::kernel(layout, &lock)?;
            packages.push((kernel::debian::PART, vec![package]));
            kernel
        }
    };
    let (zone, zone_packages) = zone::base(layout, &lock)?;
    packages.push((zone::BASE.part, zone_packages));
    drop(alone);
    let binaries = binaries::build(layout, profile, target)?;
    let alone = lock_cache(layout)?;
    let zone_images = std::slice::from_ref(&zone);
    let parts = Parts { binaries: &binaries, kernel: &kernel, zone_images, epoch: epoch(layout) };
    packages.push((initramfs::PART, initramfs::build(layout, &lock, &parts, initramfs)?));
    drop(alone);
    Ok(Made { kernel, zone, binaries, packages })
}

fn lock_cache(layout: &Layout) -> Result<fs::File, BuildError> {
    Ok(layout.lock_cache().map_err(failed("lock", &layout.cache("lock")))?)
}

/// The time of the newest commit: the same sources have the same.
fn epoch(layout: &Layout) -> u32 {
    let mut git = Command::new("git");
    git.current_dir(layout.root()).args(["log", "-1", "--format=%ct"]);
    command::output(&mut git)
        .ok()
        .and_then(|time| time.trim().parse().ok())
        .unwrap_or(EPOCH_DEFAULT)
}

/// Copies a file unless its copy is already there: same size, not older.
fn copy(from: &Path, to: &Path) -> Result<(), BuildError> {
    let stat = |path: &Path| fs::metadata(path).and_then(|m| Ok((m.len(), m.modified()?)));
    if let (Ok((size, made)), Ok((copied_size, copied))) = (stat(from), stat(to))
        && size == copied_size
        && made <= copied
    {
        return Ok(());
    }
    let partial = to.with_extension("partial");
    fs::copy(from, &partial).map_err(failed("copy", from))?;
    Ok(fs::rename(&partial, to).map_err(failed("rename", &partial))?)
}
