//! From a bare kernel to a system that services can run in: mounts, modules, settings, cgroups, probe.
//!
//! Each step does what it can and says what it could not; only a missing `/proc`, `/sys`, `/dev` or
//! cgroup tree leaves services failing, and then they say so themselves.

use crate::console::Console;
use crate::{cgroup, tables};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use sys::mount;
use wire::kernel::{KernelReport, Offer};

/// One path of a module a line, in the order of loading; `#` starts a comment.
const MODULES: &str = "/etc/mobula/modules.list";
/// Where the probe's findings are left.
pub const KERNEL_REPORT: &str = "/run/mobula/kernel.json";

/// Makes the root a mount of its own and mounts the kernel's filesystems. What failed is told later:
/// there is no console yet.
#[must_use]
pub fn mounts() -> Vec<String> {
    let mut faults = Vec::new();
    if let Err(error) = mount::own_root() {
        faults.push(format!(
            "the root can't be made a mount of its own, so no zone will start: {error}"
        ));
    }
    for entry in &tables::MOUNTS {
        let target = Path::new(entry.target);
        // Beneath /sys and /proc directories can't be made; then mounting says what is wrong.
        let made = std::fs::create_dir_all(target);
        let done =
            mount::attach(entry.kind, Path::new(entry.kind), target, entry.options, entry.data);
        match done.or_else(|error| if mount::is_busy(&error) { Ok(()) } else { Err(error) }) {
            Ok(()) => {}
            Err(error) if entry.needed || made.is_ok() => {
                faults.push(format!("cannot mount {} at {}: {error}", entry.kind, entry.target));
            }
            Err(_) => {}
        }
    }
    faults
}

/// Makes directories and links, then closes the root for writing.
pub fn close_root(console: &mut Console) {
    for folder in tables::FOLDERS {
        let mode = std::fs::Permissions::from_mode(0o711);
        let made =
            std::fs::create_dir_all(folder).and_then(|()| std::fs::set_permissions(folder, mode));
        if let Err(error) = made {
            console.say(&format!("cannot make {folder}: {error}"));
        }
    }
    for (link, to) in tables::LINKS {
        match std::os::unix::fs::symlink(to, link) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                console.say(&format!("cannot make the link {link}: {error}"));
            }
            Ok(()) | Err(_) => {}
        }
    }
    if let Err(error) = mount::close_for_writing(Path::new("/")) {
        console.say(&format!("the root stays writable: {error}"));
    }
}

/// Loads the modules listed for this image, if it has such a list.
pub fn modules(console: &mut Console) {
    let Ok(list) = std::fs::read_to_string(MODULES) else { return };
    let mut loaded = 0;
    for path in
        list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        match sys::module::load(Path::new(path)) {
            Ok(()) => loaded += 1,
            Err(error) => console.say(&format!("cannot load the module {path}: {error}")),
        }
    }
    if loaded > 0 {
        console.say(&format!("{loaded} kernel modules loaded"));
    }
}

/// Writes the kernel settings.
pub fn settings(console: &mut Console) {
    for (name, value) in tables::SETTINGS.iter().chain([&tables::MODULES_OVER]) {
        let path = Path::new("/proc/sys").join(name);
        match std::fs::write(&path, format!("{value}\n")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                console.say(&format!("cannot set {name} to {value}: {error}"));
            }
            Ok(()) | Err(_) => {}
        }
    }
}

/// Makes the cgroup tree, moves init into its own group, and says which controllers there are.
pub fn cgroups(console: &mut Console) -> Vec<String> {
    let have = std::fs::read_to_string(cgroup::folder("cgroup.controllers")).unwrap_or_default();
    let controllers: Vec<String> = tables::CONTROLLERS
        .iter()
        .filter(|wanted| have.split_whitespace().any(|name| name == **wanted))
        .map(|name| (*name).to_owned())
        .collect();
    cgroup::hand_down("", &controllers);
    for group in &tables::CGROUPS {
        if let Err(error) = cgroup::make(group.path, &controllers) {
            console.say(&format!("cannot make the cgroup {}: {error}", group.path));
            continue;
        }
        if group.is_parent {
            cgroup::hand_down(group.path, &controllers);
        }
        for (file, value) in group.settings {
            if let Err(error) = cgroup::write(group.path, file, value) {
                console.say(&format!("cannot set {file} of the cgroup {}: {error}", group.path));
            }
        }
    }
    if let Err(error) = cgroup::write("init", "cgroup.procs", "0") {
        console.say(&format!("init stays in the root cgroup: {error}"));
    }
    controllers
}

/// Finds what the kernel offers, leaves it in [`KERNEL_REPORT`], and says what is missing.
pub fn probe(console: &mut Console) -> KernelReport {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let filesystems = read("/proc/filesystems");
    let offer = |has: bool| if has { Offer::Yes } else { Offer::No };
    let knows =
        |kind: &str| offer(filesystems.lines().any(|line| line.ends_with(&format!("\t{kind}"))));
    let report = KernelReport {
        release: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        io_uring_operations: sys::probe::io_uring_operations(),
        cgroup_controllers: read("/sys/fs/cgroup/cgroup.controllers")
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        verity: offer(Path::new("/sys/fs/ext4/features/verity").exists()),
        project_quota: Offer::Untried,
        landlock_abi: sys::probe::landlock_abi(),
        bpf: offer(sys::probe::cgroup_bpf()),
        erofs: knows("erofs"),
        erofs_from_file: Offer::Untried,
        overlay: knows("overlay"),
    };
    for missing in report.missing() {
        console.say(&format!("this kernel lacks {missing}: what needs it will fail"));
    }
    let written = serde_json::to_vec(&report)
        .map_err(std::io::Error::from)
        .and_then(|json| std::fs::write(KERNEL_REPORT, json));
    if let Err(error) = written {
        console.say(&format!("cannot write {KERNEL_REPORT}: {error}"));
    }
    console.say(&format!(
        "kernel {}: {} io_uring operations, cgroups {}, Landlock {}",
        report.release,
        report.io_uring_operations.len(),
        report.cgroup_controllers.join(" "),
        report.landlock_abi
    ));
    report
}
