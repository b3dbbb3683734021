//! The Debian packages that building and booting take: installed when root, else named in one command.

use crate::command::{self, CommandError};
use crate::kernel::{Choice, SOURCE_PACKAGE};
use crate::progress::Step;
use std::process::Command;
use thiserror::Error;

/// Packages and what each is for.
const PACKAGES: [(&str, &str); 13] = [
    ("build-essential", "the linker, and the kernel's compiler"),
    ("cpio", "looks into archives in tests"),
    ("erofs-utils", "packs zone images"),
    ("gawk", "adds up what zones used, in a test"),
    ("jq", "reads those records there"),
    ("kmod", "orders the modules of Debian's kernel"),
    ("mmdebstrap", "makes the root of zone images"),
    ("python3-venv", "holds the S3 clients that tests drive"),
    ("qemu-system-x86", "boots the appliance"),
    ("stress-ng", "is the hostile neighbour of a story"),
    ("e2fsprogs", "looks at data disks in tests"),
    ("xz-utils", "unpacks the kernel's source"),
    ("zstd", "packs the initramfs"),
];
/// What compiling a kernel takes beyond them.
const KERNEL_PACKAGES: [(&str, &str); 5] = [
    ("bc", "computes constants of the kernel"),
    ("bison", "its configuration language"),
    ("flex", "likewise"),
    ("libelf-dev", "its stack-trace tables"),
    (SOURCE_PACKAGE, "its source"),
];

/// What goes wrong with packages.
#[derive(Debug, Error)]
pub enum DepsError {
    /// apt or dpkg.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Not root, and something is missing.
    #[error("Debian packages are missing; install them with\n\n    {0}\n")]
    Missing(String),
}

/// Sees to it that all packages are there.
///
/// # Errors
/// Where they are not and can't be installed; without root, the error is the command to run.
pub fn ensure(kernel: Choice) -> Result<(), DepsError> {
    let missing = missing(kernel)?;
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !is_root()? {
        let install = format!("sudo apt-get install --yes --no-install-recommends {list}");
        return Err(DepsError::Missing(format!("sudo apt-get update && {install}")));
    }
    let mut step = Step::start("packages");
    command::watched(apt().args(["update"]), |line| step.at(line))?;
    let mut install = apt();
    install.args(["install", "--yes", "--no-install-recommends"]).args(&missing);
    command::watched(&mut install, |line| step.at(line))?;
    step.done(&list);
    Ok(())
}

fn missing(kernel: Choice) -> Result<Vec<&'static str>, DepsError> {
    let more: &[(&str, &str)] = match kernel {
        Choice::Own => &KERNEL_PACKAGES,
        Choice::Debian => &[],
    };
    // dpkg-query fails when it does not know one of the names, so all are listed.
    let format = "-f=${db:Status-Abbrev} ${Package}\n";
    let listed = command::output(Command::new("dpkg-query").args(["-W", format]))?;
    let installed: Vec<_> = listed.lines().filter_map(|line| line.strip_prefix("ii ")).collect();
    let wanted = PACKAGES.iter().chain(more).map(|(name, _)| *name);
    Ok(wanted.filter(|name| !installed.iter().any(|other| other.trim() == *name)).collect())
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("-q").env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    command
}

fn is_root() -> Result<bool, CommandError> {
    Ok(command::output(Command::new("id").arg("-u"))?.trim() == "0")
}
