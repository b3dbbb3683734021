//! Debian's packaged cloud kernel, unpacked and not installed, and the modules that init loads with it.

use super::{Kernel, KernelError, Module};
use crate::command::{self, CommandError};
use crate::debs::{self, DebError};
use crate::file::failed;
use crate::layout::Layout;
use crate::lock::{Lock, Package};
use crate::progress::Step;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use thiserror::Error;

/// The package that depends on the newest kernel of this series.
const META_PACKAGE: &str = "linux-image-6.12-cloud-amd64";
/// The lock's part for it.
pub const PART: &str = "kernel debian";

/// The modules that the appliance needs, each with its reason; what one of them depends on comes with it.
/// A kernel that has one of them built in is as good.
const MODULES: [(&str, &str); 22] = [
    ("virtio_pci", "every virtio device"),
    ("virtio_blk", "the data disk and zone images"),
    ("virtio_net", "the network"),
    ("virtio_rng", "entropy for the keys made at first boot"),
    ("virtio_console", "ports to the host"),
    ("qemu_fw_cfg", "the machine's configuration"),
    ("button", "the power button"),
    ("evdev", "where PID 1 reads it"),
    ("ext4", "the data disk"),
    ("quota_v2", "project quotas on it"),
    ("erofs", "zone images"),
    ("overlay", "a zone's writable layer"),
    ("veth", "a zone's link"),
    ("bridge", "what it is plugged into"),
    ("sch_fq", "pacing of what leaves a zone"),
    ("sch_tbf", "the cap on what enters it"),
    ("nf_tables", "the rules between zones and the uplink"),
    ("nft_ct", "answers are let in, questions are not"),
    ("nft_chain_nat", "zones share the node's address"),
    ("nft_masq", "whichever it has at the time"),
    ("crc32c_intel", "ext4's checksums by the processor's own instruction"),
    ("nvme", "disks of today's machines"),
];

/// What goes wrong with Debian's kernel.
#[derive(Debug, Error)]
pub enum DebianError {
    /// Its package.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// The meta package names no kernel.
    #[error("{META_PACKAGE} depends on no kernel package")]
    NoKernel,
    /// The package is not laid out as expected.
    #[error("{0} holds no kernel and modules where they are expected")]
    Layout(String),
    /// Modules that this kernel neither has nor has built in.
    #[error("Debian's kernel has no module {}", .0.join(", "))]
    Modules(Vec<String>),
}

/// Fetches the kernel and finds the modules.
///
/// # Errors
/// When the package can't be had, or lacks a module.
pub fn kernel(layout: &Layout, lock: &Lock) -> Result<(Kernel, Package), KernelError> {
    let step = Step::start("kernel");
    let locked = lock.part(PART).next().map(|package| package.name.clone());
    let name = match locked.filter(|name| debs::candidate(name).is_ok()) {
        Some(name) => name,
        None => newest()?,
    };
    let unpacked = debs::unpacked(layout, lock, PART, &name).map_err(DebianError::from)?;
    let release = name.strip_prefix("linux-image-").unwrap_or(&name);
    let image = unpacked.root.join("boot").join(format!("vmlinuz-{release}"));
    if !image.is_file() {
        return Err(DebianError::Layout(name).into());
    }
    let modules = modules(&unpacked.root, release)?;
    let version = unpacked.package.version.clone();
    step.done(&format!("Debian's {release}, {} modules", modules.len()));
    Ok((Kernel { image, modules, version }, unpacked.package))
}

fn newest() -> Result<String, DebianError> {
    let mut names = debs::dependencies(META_PACKAGE)?.into_iter();
    names.find(|name| name.starts_with("linux-image-")).ok_or(DebianError::NoKernel)
}

fn modules(root: &Path, release: &str) -> Result<Vec<Module>, KernelError> {
    let folder = ["lib/modules", "usr/lib/modules"]
        .map(|folder| root.join(folder).join(release))
        .into_iter()
        .find(|folder| folder.is_dir())
        .ok_or_else(|| DebianError::Layout(release.to_owned()))?;
    // The package leaves the list of dependencies to be made when it is installed.
    let depmod = command::find("depmod").unwrap_or_else(|| PathBuf::from("depmod"));
    let base =
        if folder.starts_with(root.join("usr")) { root.join("usr") } else { root.to_owned() };
    command::output(Command::new(depmod).arg("-b").arg(base).arg(release))
        .map_err(|error: CommandError| KernelError::Command(error))?;
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).map_err(failed("read", &path))
    };
    let wanted: Vec<_> = MODULES.iter().map(|(name, _)| *name).collect();
    let order = load_order(&wanted, &read("modules.dep")?, &read("modules.builtin")?)
        .map_err(DebianError::Modules)?;
    let module = |path: String| Module {
        file: folder.join(&path),
        path: format!("lib/modules/{release}/{path}"),
    };
    Ok(order.into_iter().map(module).collect())
}

/// The files of the wanted modules and of all they depend on, each behind its dependencies; or the names
/// of those that do not exist.
fn load_order(
    wanted: &[&str],
    dependencies: &str,
    builtin: &str,
) -> Result<Vec<String>, Vec<String>> {
    let parsed: Vec<(&str, Vec<&str>)> = dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, needs)| (file, needs.split_whitespace().collect()))
        .collect();
    let by_name: BTreeMap<_, _> = parsed.iter().map(|line| (module_name(line.0), line)).collect();
    let builtin: BTreeSet<_> = builtin.lines().map(module_name).collect();
    let missing: Vec<_> = wanted
        .iter()
        .filter(|name| !by_name.contains_key(**name) && !builtin.contains(**name))
        .map(|name| (*name).to_owned())
        .collect();
    if !missing.is_empty() {
        return Err(missing);
    }
    let mut order: Vec<String> = Vec::new();
    for (file, needs) in wanted.iter().filter_map(|name| by_name.get(*name)) {
        // depmod lists all that a module needs, the nearest first: loading goes the other way.
        for path in needs.iter().rev().chain([file]) {
            if !order.iter().any(|other| other == path) {
                order.push((*path).to_owned());
            }
        }
    }
    Ok(order)
}

/// `kernel/fs/ext4/ext4.ko.xz` is module `ext4`; dashes are underscores in the kernel.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod test {
    use super::*;

    const DEPENDENCIES: &str = "\
kernel/a/virtio_net.ko.xz: kernel/a/net_failover.ko.xz kernel/a/failover.ko.xz
kernel/a/net_failover.ko.xz: kernel/a/failover.ko.xz
kernel/a/failover.ko.xz:
kernel/b/virtio-rng.ko.xz:
";

    #[test]
    fn dependencies_are_loaded_first_and_once() {
        let order =
            load_order(&["virtio_net", "failover", "virtio_rng"], DEPENDENCIES, "").unwrap();
        let files: Vec<_> = order.iter().map(|path| module_name(path)).collect();
        assert_eq!(files, ["failover", "net_failover", "virtio_net", "virtio_rng"]);
    }

    #[test]
    fn what_is_built_in_is_not_missed_and_what_is_nowhere_is() {
        assert_eq!(load_order(&["ext4"], DEPENDENCIES, "kernel/fs/ext4/ext4.ko\n"), Ok(vec![]));
        assert_eq!(load_order(&["ext4"], DEPENDENCIES, ""), Err(vec!["ext4".to_owned()]));
    }
}
