//! Cgroups of zones: `<root>/t-<account>/z-<attempt>` (cgroup v2, `Documentation/admin-guide/cgroup-v2.rst`).
//!
//! Owns everything below the root. A kernel without some controller gives zones without that limit: what
//! is missing is said once, at start, and in the status.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use thiserror::Error;
use wire::task::AttemptId;

/// The controllers that zones use, and what is lost without each.
const CONTROLLERS: [(&str, &str); 3] = [
    ("cpu", "zones share the processors by process, not by account"),
    ("memory", "zones have no memory limit of their own"),
    ("pids", "zones have no limit on processes"),
];
/// The most processes in a zone: plenty for a pipeline, too few for a fork bomb to be felt.
const PIDS_MAX: u32 = 512;
/// The weight of a zone in its account, and of an account among others (`cpu.weight`).
const CPU_WEIGHT: u32 = 100;
/// How long leftovers of an earlier zoned get to be gone after they were killed.
const KILL_MS_MAX: u64 = 5_000;
const MIB: u64 = 1 << 20;

/// What is wrong with the cgroups.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// The root is not there or is no cgroup.
    #[error("{} is no cgroup v2 directory: make it, or name another with --cgroup", path.display())]
    Root {
        /// Its path.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A file or directory could not be used.
    #[error("cannot {act} {}", path.display())]
    File {
        /// What was tried.
        act: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Processes of an earlier zoned do not go.
    #[error("processes in {} are still there {KILL_MS_MAX} ms after they were killed", path.display())]
    Stuck {
        /// Their cgroup.
        path: PathBuf,
    },
}

fn failed<'a>(act: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> CgroupError + 'a {
    move |source| CgroupError::File { act, path: path.to_owned(), source }
}

fn write(folder: &Path, name: &str, value: &str) -> Result<(), CgroupError> {
    let path = folder.join(name);
    fs::write(&path, value).map_err(failed("write", &path))
}

/// The value of `key` in a flat-keyed file (`memory.events`, `cpu.stat`); 0 where there is none.
fn keyed(text: &str, key: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}

/// The cgroup that all zones are in.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    controllers: Vec<&'static str>,
}

/// What a zone may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory, in MiB.
    pub memory_mib: u32,
}

/// The cgroup of one zone.
#[derive(Debug)]
pub struct ZoneCgroup {
    path: PathBuf,
    directory: File,
}

/// What a cgroup's processes used and met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measured {
    /// CPU time, in microseconds.
    pub cpu_us: u64,
    /// Memory charged now, in bytes; 0 where nobody counts.
    pub memory_bytes: u64,
    /// The most memory ever charged, in bytes; 0 where nobody counts.
    pub memory_peak_bytes: u64,
    /// Whether its memory limit killed.
    pub out_of_memory: bool,
}

impl Root {
    /// Takes over the cgroup at `path`, after killing and removing whatever an earlier zoned left there.
    ///
    /// # Errors
    /// [`CgroupError`]: without cgroup v2 there are no zones.
    pub fn open(path: &Path) -> Result<Self, CgroupError> {
        let root = |source| CgroupError::Root { path: path.to_owned(), source };
        let offered = fs::read_to_string(path.join("cgroup.controllers")).map_err(root)?;
        let offered: Vec<&str> = offered.split_whitespace().collect();
        let controllers: Vec<&'static str> = CONTROLLERS
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| offered.contains(name))
            .collect();
        let root = Self { path: path.to_owned(), controllers };
        root.clear()?;
        root.delegate(path)?;
        Ok(root)
    }

    /// What this kernel lacks, in words.
    #[must_use]
    pub fn degraded(&self) -> Vec<String> {
        let missing = CONTROLLERS.iter().filter(|(name, _)| !self.controllers.contains(name));
        missing.map(|(name, loss)| format!("no {name} controller: {loss}")).collect()
    }

    /// The memory that all zones may use in all, in MiB, if that is limited.
    #[must_use]
    pub fn memory_mib_max(&self) -> Option<u64> {
        let text = fs::read_to_string(self.path.join("memory.max")).ok()?;
        text.trim().parse::<u64>().ok().map(|bytes| bytes / MIB)
    }

    /// Makes the cgroup of an attempt.
    ///
    /// # Errors
    /// [`CgroupError::File`].
    pub fn make(
        &self,
        account: u32,
        attempt: AttemptId,
        limits: Limits,
    ) -> Result<ZoneCgroup, CgroupError> {
        let tenant = self.path.join(format!("t-{account}"));
        match fs::create_dir(&tenant) {
            Ok(()) => self.delegate(&tenant)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("make", &tenant)(error)),
        }
        let path = tenant.join(format!("z-{}", attempt.0));
        fs::create_dir(&path).map_err(failed("make", &path))?;
        let directory = File::open(&path).map_err(failed("open", &path))?;
        let zone = ZoneCgroup { path, directory };
        // A limit that can't be set leaves a directory, which goes at the next start.
        self.limit(&zone.path, limits)?;
        Ok(zone)
    }

    fn limit(&self, zone: &Path, limits: Limits) -> Result<(), CgroupError> {
        for controller in &self.controllers {
            match *controller {
                "cpu" => write(zone, "cpu.weight", &CPU_WEIGHT.to_string())?,
                "pids" => write(zone, "pids.max", &PIDS_MAX.to_string())?,
                _ => {
                    let bytes = u64::from(limits.memory_mib) * MIB;
                    write(zone, "memory.max", &bytes.to_string())?;
                    write(zone, "memory.oom.group", "1")?;
                    // Absent where the kernel has no swap at all.
                    if zone.join("memory.swap.max").exists() {
                        write(zone, "memory.swap.max", "0")?;
                    }
                }
            }
        }
        Ok(())
    }

    fn delegate(&self, folder: &Path) -> Result<(), CgroupError> {
        self.controllers
            .iter()
            .try_for_each(|name| write(folder, "cgroup.subtree_control", &format!("+{name}")))
    }

    /// Kills and removes all zones.
    fn clear(&self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + Duration::from_millis(KILL_MS_MAX);
        for tenant in folders(&self.path, "t-")? {
            for path in folders(&tenant, "z-")? {
                eprintln!("zoned: {} was left by an earlier zoned: killing it", path.display());
                write(&path, "cgroup.kill", "1")?;
                while let Err(error) = fs::remove_dir(&path) {
                    if error.kind() != ErrorKind::ResourceBusy {
                        return Err(failed("remove", &path)(error));
                    }
                    if Instant::now() > deadline {
                        return Err(CgroupError::Stuck { path });
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            fs::remove_dir(&tenant).map_err(failed("remove", &tenant))?;
        }
        Ok(())
    }
}

fn folders(parent: &Path, prefix: &str) -> Result<Vec<PathBuf>, CgroupError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(parent).map_err(failed("list", parent))? {
        let entry = entry.map_err(failed("list", parent))?;
        if entry.file_name().to_string_lossy().starts_with(prefix) && entry.path().is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

impl ZoneCgroup {
    /// For clone3's `CLONE_INTO_CGROUP`.
    #[must_use]
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Kills every process in it.
    ///
    /// # Errors
    /// What write(2) says.
    pub fn kill(&self) -> Result<(), CgroupError> {
        write(&self.path, "cgroup.kill", "1")
    }

    /// What its processes used and met until now.
    #[must_use]
    pub fn measure(&self) -> Measured {
        // A file that is not there belongs to a controller that is not: nothing is measured.
        let read = |name: &str| fs::read_to_string(self.path.join(name)).unwrap_or_default();
        let number = |name: &str| read(name).trim().parse().unwrap_or(0);
        let events = read("memory.events");
        Measured {
            cpu_us: keyed(&read("cpu.stat"), "usage_usec"),
            memory_bytes: number("memory.current"),
            memory_peak_bytes: number("memory.peak"),
            out_of_memory: keyed(&events, "oom_kill") + keyed(&events, "oom_group_kill") > 0,
        }
    }

    /// Removes it, and its account's when that is empty; not yet if the kernel is still busy with it.
    ///
    /// # Errors
    /// [`CgroupError::File`].
    pub fn remove(&self) -> Result<bool, CgroupError> {
        match fs::remove_dir(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::ResourceBusy => return Ok(false),
            Err(error) => return Err(failed("remove", &self.path)(error)),
        }
        let Some(tenant) = self.path.parent() else { return Ok(true) };
        match fs::remove_dir(tenant) {
            Ok(()) => Ok(true),
            // Another zone of the account.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ResourceBusy | ErrorKind::DirectoryNotEmpty
                ) =>
            {
                Ok(true)
            }
            Err(error) => Err(failed("remove", tenant)(error)),
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_whole_name() {
        let text = "low 1\noom 2\noom_kill 3\noom_group_kill 4\n";
        assert_eq!((keyed(text, "oom_kill"), keyed(text, "oom"), keyed(text, "kill")), (3, 2, 0));
    }

    #[test]
    fn a_directory_that_is_no_cgroup_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = Root::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains("--cgroup"), "{error}");
    }
}
