//! The kernel: our own, built from Debian's source and the fragments in `image/kernel/`, or Debian's
//! packaged cloud kernel with the modules that init loads.
//!
//! Both end up in the cache outside the tree, named by version and configuration, so that a kernel is
//! built once for all trees of a user.

pub mod debian;
pub mod fragments;

use crate::command::{self, CommandError};
use crate::file::{FileError, failed};
use crate::layout::Layout;
use crate::progress::{self, Step};
use fragments::{FragmentError, Fragments};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use thiserror::Error;

/// The package with the source of our kernel.
pub const SOURCE_PACKAGE: &str = "linux-source-6.12";
/// Where that package puts it.
const SOURCE_TARBALL: &str = "/usr/src/linux-source-6.12.tar.xz";
/// The folder in the tarball.
const SOURCE_FOLDER: &str = "linux-source-6.12";
/// Files compiled with these fragments, for the progress shown; a wrong number harms nothing.
const OBJECTS_EXPECTED: usize = 1_700;
/// In place of the date, number, user and host that a kernel otherwise records of its build.
const BUILD_NAMES: [(&str, &str); 4] = [
    ("KBUILD_BUILD_TIMESTAMP", "1970-01-01 00:00:00 UTC"),
    ("KBUILD_BUILD_VERSION", "1"),
    ("KBUILD_BUILD_USER", "mobula"),
    ("KBUILD_BUILD_HOST", "mobula"),
];

/// What goes wrong with a kernel.
#[derive(Debug, Error)]
pub enum KernelError {
    /// A tool of the build.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A fragment, or what became of it.
    #[error(transparent)]
    Fragment(#[from] FragmentError),
    /// A package of Debian's.
    #[error(transparent)]
    Debian(#[from] debian::DebianError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The source's package is missing.
    #[error("{SOURCE_TARBALL} is missing: install {SOURCE_PACKAGE} (make deps)")]
    NoSource,
}

/// Which kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Choice {
    /// Built from source with our fragments.
    Own,
    /// Debian's packaged cloud kernel.
    Debian,
}

/// A kernel that can be booted.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The file that QEMU or firmware starts.
    pub image: PathBuf,
    /// Modules that init loads, in the order in which to load them.
    pub modules: Vec<Module>,
    /// Its package's version.
    pub version: String,
}

/// A kernel module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Where it goes in the initramfs, without a leading slash.
    pub path: String,
    /// Its file.
    pub file: PathBuf,
}

/// Our own kernel, from the cache or built now.
///
/// # Errors
/// [`KernelError`]; a symbol that did not make it into the configuration is one.
pub fn own(layout: &Layout) -> Result<Kernel, KernelError> {
    let fragments = read_fragments(&layout.source("kernel"))?;
    let version = source_version()?;
    let cached = layout.cache(&format!("kernel/{version}-{}", fragments.hash()));
    let image = cached.join("bzImage");
    if image.is_file() {
        progress::unchanged("kernel", &format!("Linux {version}"));
    } else {
        build(layout, &fragments, &version, &cached)?;
    }
    Ok(Kernel { image, modules: Vec::new(), version })
}

/// Reads every fragment in a folder, by name.
///
/// # Errors
/// When a file can't be read or a line is wrong.
pub fn read_fragments(folder: &Path) -> Result<Fragments, KernelError> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>())
        .map_err(failed("list", folder))?;
    files.retain(|path: &PathBuf| path.extension().is_some_and(|e| e == "config"));
    files.sort();
    let mut fragments = Fragments::default();
    for path in files {
        let text = fs::read_to_string(&path).map_err(failed("read", &path))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        fragments.add(&name, &text)?;
    }
    Ok(fragments)
}

/// Unpacks the source, configures, checks, compiles; the result appears in the cache whole or not at all.
fn build(
    layout: &Layout,
    fragments: &Fragments,
    version: &str,
    cached: &Path,
) -> Result<(), KernelError> {
    let tree = unpack(layout, version)?;
    let config = tree.join(".config");
    let mut step = Step::start("kernel");
    make(&tree, &["tinyconfig"], |_| {})?;
    let tiny = fs::read_to_string(&config).map_err(failed("read", &config))?;
    fs::write(&config, fragments.merge(&tiny)).map_err(failed("write", &config))?;
    make(&tree, &["olddefconfig"], |_| {})?;
    let complete = fs::read_to_string(&config).map_err(failed("read", &config))?;
    fragments.check(&complete)?;
    let mut objects = 0;
    let jobs = format!("-j{}", std::thread::available_parallelism().map_or(1, usize::from));
    make(&tree, &[&jobs, "bzImage"], |line| {
        objects += usize::from(line.trim_start().starts_with("CC "));
        step.at(&format!("Linux {version}: {objects} of about {OBJECTS_EXPECTED} files compiled"));
    })?;
    let partial = layout.cache("kernel/partial");
    make_directory(&partial)?;
    for (from, name) in [(tree.join("arch/x86/boot/bzImage"), "bzImage"), (config, "config")] {
        fs::copy(&from, partial.join(name)).map_err(failed("copy", &from))?;
    }
    fs::rename(&partial, cached).map_err(failed("rename", &partial))?;
    step.done(&format!("Linux {version}, {objects} files compiled"));
    Ok(())
}

/// The unpacked source of this version; it stays, with its objects, so that a change of one symbol
/// compiles what depends on it.
fn unpack(layout: &Layout, version: &str) -> Result<PathBuf, KernelError> {
    let folder = layout.cache(&format!("kernel/source-{version}"));
    let tree = folder.join(SOURCE_FOLDER);
    if tree.is_dir() {
        return Ok(tree);
    }
    if !Path::new(SOURCE_TARBALL).is_file() {
        return Err(KernelError::NoSource);
    }
    let step = Step::start("kernel source");
    let partial = folder.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(failed("remove", &partial))?;
    }
    make_directory(&partial)?;
    command::output(Command::new("tar").arg("-xJf").arg(SOURCE_TARBALL).arg("-C").arg(&partial))?;
    fs::rename(&partial, &folder).map_err(failed("rename", &partial))?;
    step.done(&format!("{SOURCE_PACKAGE} {version} unpacked"));
    Ok(tree)
}

fn make(tree: &Path, targets: &[&str], line: impl FnMut(&str)) -> Result<(), KernelError> {
    let mut command = Command::new("make");
    command.arg("-C").arg(tree).args(targets).envs(BUILD_NAMES).env("LC_ALL", "C");
    // Flags meant for the make that called us are not meant for this one.
    command.env_remove("MAKEFLAGS").env_remove("MFLAGS").env_remove("KERNEL");
    Ok(command::watched(&mut command, line)?)
}

/// The version of the installed source package.
///
/// # Errors
/// When it is not installed.
pub fn source_version() -> Result<String, KernelError> {
    let format = "-f=${Version}";
    let queried = command::output(Command::new("dpkg-query").args(["-W", format, SOURCE_PACKAGE]));
    match queried {
        Ok(version) if !version.is_empty() => Ok(version),
        Ok(_) | Err(CommandError::Failed { .. }) => Err(KernelError::NoSource),
        Err(error) => Err(error.into()),
    }
}

fn make_directory(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(failed("create", path))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_fragments_in_the_tree_are_well_formed() {
        let fragments = read_fragments(&Layout::of_this_tree().source("kernel")).unwrap();
        assert!(fragments.len() > 100, "{} symbols", fragments.len());
    }
}
