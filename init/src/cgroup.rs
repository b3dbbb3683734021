//! Files of the cgroup v2 tree (cgroup-v2.rst): making groups, limiting, killing and counting them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use wire::service::CgroupLimits;

/// Where the tree is mounted.
pub const ROOT: &str = "/sys/fs/cgroup";

/// The directory of a group.
#[must_use]
pub fn folder(path: &str) -> PathBuf {
    Path::new(ROOT).join(path)
}

/// Writes one of a group's files.
///
/// # Errors
/// What open(2) and write(2) say.
pub fn write(path: &str, file: &str, value: &str) -> io::Result<()> {
    std::fs::write(folder(path).join(file), value)
}

/// Makes a group and those above it, each handing the controllers down to the next.
///
/// # Errors
/// What mkdir(2) says. A controller that can't be handed down is no error: its limits will not hold, and
/// setting them says so.
pub fn make(path: &str, controllers: &[String]) -> io::Result<()> {
    for (at, _) in path.match_indices('/') {
        let parent = &path[..at];
        std::fs::create_dir_all(folder(parent))?;
        hand_down(parent, controllers);
    }
    std::fs::create_dir_all(folder(path))
}

/// Switches controllers on for a group's children, one by one: a kernel may refuse one of them.
pub fn hand_down(path: &str, controllers: &[String]) {
    for controller in controllers {
        // Setting a limit of this controller is what fails, and tells, if this did.
        let handed = write(path, "cgroup.subtree_control", &format!("+{controller}"));
        drop(handed);
    }
}

/// Opens a group for a process to start in.
///
/// # Errors
/// What open(2) says.
pub fn open(path: &str) -> io::Result<File> {
    File::open(folder(path))
}

/// The files and values of a service's limits.
#[must_use]
pub fn settings(limits: &CgroupLimits) -> Vec<(&'static str, String)> {
    let CgroupLimits {
        memory_min_mib,
        memory_high_mib,
        memory_max_mib,
        oom_group,
        cpu_weight,
        io_weight,
        pids_max,
    } = limits;
    let mib = |value: &Option<u64>| value.map(|mib| format!("{mib}M"));
    let number = |value: &Option<u32>| value.map(|value| value.to_string());
    let all = [
        ("memory.min", mib(memory_min_mib)),
        ("memory.high", mib(memory_high_mib)),
        ("memory.max", mib(memory_max_mib)),
        ("memory.oom.group", oom_group.map(|on| u8::from(on).to_string())),
        ("cpu.weight", number(cpu_weight)),
        ("io.weight", number(io_weight)),
        ("pids.max", number(pids_max)),
    ];
    all.into_iter().filter_map(|(file, value)| Some((file, value?))).collect()
}

/// Kills every process in a group and below it (Linux 5.14); a group that is not there has none.
///
/// # Errors
/// What write(2) says.
pub fn kill(path: &str) -> io::Result<()> {
    match write(path, "cgroup.kill", "1") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether a process is in a group or below it; one that can't be read has none.
#[must_use]
pub fn is_populated(path: &str) -> bool {
    std::fs::read_to_string(folder(path).join("cgroup.events"))
        .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
}

/// `memory.current` of a group, if it has the memory controller.
#[must_use]
pub fn memory_bytes(path: &str) -> Option<u64> {
    std::fs::read_to_string(folder(path).join("memory.current")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn only_what_is_set_is_written() {
        let limits =
            CgroupLimits { memory_max_mib: Some(64), oom_group: Some(true), ..Default::default() };
        let expected = [("memory.max", "64M".to_owned()), ("memory.oom.group", "1".to_owned())];
        assert_eq!(settings(&limits), expected);
    }
}
