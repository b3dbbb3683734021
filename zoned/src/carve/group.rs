//! One cgroup: its limits written and read back, its numbers, its end.

use super::plan::{self, Controllers, Disk, Kept, Setting};
use super::{CgroupError, failed, read};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use wire::carve::{Carve, Limit};
use wire::standing::Stats;

/// What a cgroup's processes used and met, in short.
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

/// What is the same for all cgroups of a tree.
#[derive(Debug, Clone, Default)]
pub(super) struct Host {
    pub(super) controllers: Controllers,
    pub(super) disk: Option<Disk>,
}

/// The cgroup of one zone.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    directory: File,
    id: u64,
    files: Files,
}

/// The files of a cgroup that hold limits, and what is known to be in them.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    host: Host,
    /// What was asked for last.
    desired: Vec<Setting>,
    /// What is known to be in each file.
    actual: BTreeMap<&'static str, String>,
    is_fresh: bool,
}

/// Writes one of a cgroup's files. Never makes one: a file that is not there is one that the kernel has not.
pub(super) fn write(folder: &Path, name: &str, value: &str) -> Result<(), CgroupError> {
    let path = folder.join(name);
    put(&path, value).map_err(failed("write", &path))
}

fn put(path: &Path, value: &str) -> io::Result<()> {
    // The kernel ignores the truncation, and a plain file that stands for one of its needs it. An empty
    // value is a line all the same: nothing at all would not reach the kernel.
    let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
    let line = if value.is_empty() { "\n" } else { value };
    file.write_all(line.as_bytes())
}

impl Files {
    /// Those of a cgroup that was made just now, or of one that has been there.
    pub(super) fn new(path: &Path, host: &Host, is_fresh: bool) -> Self {
        let (desired, actual) = (Vec::new(), BTreeMap::new());
        Self { path: path.to_owned(), host: host.clone(), desired, actual, is_fresh }
    }

    /// Makes all limits as desired, and none if one of them can't be.
    pub(super) fn set(&mut self, desired: Vec<Setting>) -> Result<(), CgroupError> {
        let before = std::mem::replace(&mut self.desired, desired);
        let wanted = self.desired.clone();
        let Err(error) = self.reach(&wanted) else { return Ok(()) };
        self.desired.clone_from(&before);
        if let Err(again) = self.reach(&before) {
            eprintln!("zoned: cannot take a limit back: {}", crate::chain(&again));
        }
        Err(error)
    }

    fn reach(&mut self, desired: &[Setting]) -> Result<(), CgroupError> {
        let has = |setting: &&Setting| self.host.controllers.has(setting.controller);
        let offered: Vec<Setting> = desired.iter().filter(has).cloned().collect();
        for setting in plan::plan(&offered, |setting| self.actual(setting)) {
            self.write(&setting)?;
        }
        Ok(())
    }

    fn actual(&self, setting: &Setting) -> Option<String> {
        let fresh = || self.is_fresh.then(|| plan::fresh(setting));
        self.actual.get(setting.file).cloned().or_else(fresh)
    }

    fn write(&mut self, setting: &Setting) -> Result<(), CgroupError> {
        let path = self.path.join(setting.file);
        // Not known until it has been read back.
        self.actual.remove(setting.file);
        match put(&path, &setting.value) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound && is_optional(setting) => {
                self.actual.insert(setting.file, setting.value.clone());
                return Ok(());
            }
            Err(source) => {
                return Err(CgroupError::Limit { path, value: setting.value.clone(), source });
            }
        }
        let text = fs::read_to_string(&path).map_err(failed("read", &path))?;
        let got = plan::in_force(setting, &text);
        if !plan::holds(setting, &got) {
            return Err(CgroupError::Unlike { path, asked: setting.value.clone(), got });
        }
        self.actual.insert(setting.file, setting.value.clone());
        Ok(())
    }

    /// All limits, as asked for and as the kernel has them now.
    pub(super) fn limits(&self) -> Vec<Limit> {
        let limit = |setting: &Setting| {
            let controller = setting.controller;
            let got = if !self.host.controllers.has(controller) {
                format!("none: this kernel has no {} controller", controller.name())
            } else {
                match fs::read_to_string(self.path.join(setting.file)) {
                    Ok(text) => plan::in_force(setting, &text),
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        format!("none: this kernel has no {}", setting.file)
                    }
                    Err(error) => format!("cannot be read: {error}"),
                }
            };
            Limit { name: setting.file.to_owned(), asked: setting.value.clone(), got }
        };
        self.desired.iter().map(limit).collect()
    }
}

/// Files that a kernel with their controller may lack: without swap, without iocost.
fn is_optional(setting: &Setting) -> bool {
    setting.kept == Kept::AsDefault || setting.file == "memory.swap.max"
}

impl Cgroup {
    /// Opens the cgroup at `path`.
    pub(super) fn open(path: PathBuf, host: &Host, is_fresh: bool) -> Result<Self, CgroupError> {
        let directory = File::open(&path).map_err(failed("open", &path))?;
        // The inode is the cgroup's id, by which BPF programs know it.
        let id = directory.metadata().map_err(failed("look at", &path))?.ino();
        let files = Files::new(&path, host, is_fresh);
        Ok(Self { path, directory, id, files })
    }

    /// For clone3's `CLONE_INTO_CGROUP`, and for whoever may keep it.
    #[must_use]
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Its id, as `bpf_get_current_cgroup_id` gives it.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Its name in the tree, `t-7/s-web`, by which a later zoned adopts it.
    #[must_use]
    pub fn name(&self) -> String {
        let mut parts = self.path.iter().rev().take(2).map(|part| part.to_string_lossy());
        let own = parts.next().unwrap_or_default();
        format!("{}/{own}", parts.next().unwrap_or_default())
    }

    /// Makes its limits those of the carve: all of them, or none with the reason. Those that this kernel
    /// has not are named as such in what it gives back.
    ///
    /// Lowering `memory.max` makes the kernel reclaim, and kill if that is not enough, before it returns.
    ///
    /// # Errors
    /// [`CgroupError`], and all limits are as they were.
    pub fn apply(&mut self, carve: &Carve) -> Result<Vec<Limit>, CgroupError> {
        self.set(carve)?;
        Ok(self.limits())
    }

    /// As [`Self::apply`], without a look at the limits that did not change.
    pub(super) fn set(&mut self, carve: &Carve) -> Result<(), CgroupError> {
        let desired = plan::of_zone(carve, self.files.host.disk);
        self.files.set(desired)
    }

    /// Its limits, as asked for and as in force.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        self.files.limits()
    }

    fn read(&self, name: &str) -> String {
        // A file that is not there belongs to a controller that is not: nothing is measured.
        fs::read_to_string(self.path.join(name)).unwrap_or_default()
    }

    /// What its processes used and met until now, in short.
    #[must_use]
    pub fn measure(&self) -> Measured {
        let events = self.read("memory.events");
        let kills = read::keyed(&events, "oom_kill") + read::keyed(&events, "oom_group_kill");
        Measured {
            cpu_us: read::keyed(&self.read("cpu.stat"), "usage_usec"),
            memory_bytes: read::number(&self.read("memory.current")),
            memory_peak_bytes: read::number(&self.read("memory.peak")),
            out_of_memory: kills > 0,
        }
    }

    /// What its processes used and met until now; the network's numbers are 0.
    #[must_use]
    pub fn stats(&self) -> Stats {
        read::stats(|name| self.read(name))
    }

    /// What a list shows of it: memory in bytes, processor time in microseconds, processes. Three files, where
    /// [`Self::stats`] reads twelve: lists are long.
    #[must_use]
    pub fn brief(&self) -> (u64, u64, u64) {
        let number = |name| read::number(&self.read(name));
        let cpu_us = read::keyed(&self.read("cpu.stat"), "usage_usec");
        (number("memory.current"), cpu_us, number("pids.current"))
    }

    /// Kills every process in it.
    ///
    /// # Errors
    /// What write(2) says.
    pub fn kill(&self) -> Result<(), CgroupError> {
        write(&self.path, "cgroup.kill", "1")
    }

    /// Freezes its processes, or lets them go on. Freezing takes effect soon after. What is frozen can
    /// still be killed.
    ///
    /// # Errors
    /// What write(2) says.
    pub fn freeze(&self, on: bool) -> Result<(), CgroupError> {
        write(&self.path, "cgroup.freeze", if on { "1" } else { "0" })
    }

    /// Whether its processes are frozen, or about to be.
    #[must_use]
    pub fn freezes(&self) -> bool {
        self.read("cgroup.freeze").trim() == "1"
    }

    /// Whether a process is in it.
    #[must_use]
    pub fn populated(&self) -> bool {
        read::keyed(&self.read("cgroup.events"), "populated") == 1
    }

    /// Removes it; false if the kernel is still busy with it. Its account's goes later: see
    /// [`super::Tree::tidy`].
    ///
    /// # Errors
    /// [`CgroupError::File`].
    pub fn remove(&self) -> Result<bool, CgroupError> {
        remove(&self.path)
    }
}

/// Removes a cgroup; false if something is in it.
pub(super) fn remove(path: &Path) -> Result<bool, CgroupError> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(true),
        Err(error) => match error.kind() {
            ErrorKind::NotFound => Ok(true),
            ErrorKind::ResourceBusy | ErrorKind::DirectoryNotEmpty => Ok(false),
            _ => Err(failed("remove", path)(error)),
        },
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use tempfile::TempDir;

    /// A directory with the files of a cgroup in it, and a cgroup that takes them for the kernel's.
    fn place(files: &[(&str, &str)], controllers: &str) -> (TempDir, Cgroup) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let disk = Some(Disk { major: 254, minor: 0 });
        let host = Host { controllers: Controllers::parse(controllers), disk };
        let cgroup = Cgroup::open(folder.path().to_owned(), &host, true).unwrap();
        (folder, cgroup)
    }

    const FILES: [(&str, &str); 5] = [
        ("memory.low", "0\n"),
        ("memory.max", "max\n"),
        ("memory.oom.group", "0\n"),
        ("pids.max", "max\n"),
        ("cpu.weight", "100\n"),
    ];

    fn got<'a>(limits: &'a [Limit], name: &str) -> &'a str {
        &limits.iter().find(|limit| limit.name == name).unwrap().got
    }

    #[test]
    fn limits_are_written_and_both_values_shown() {
        let (folder, mut cgroup) = place(&FILES, "memory pids");
        let carve = Carve { memory_mib: 64, ..Carve::default() };
        let limits = cgroup.apply(&carve).unwrap();
        let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!((text("memory.max").as_str(), text("pids.max").as_str()), ("67108864", "512"));
        assert_eq!(got(&limits, "memory.max"), "67108864");
        assert_eq!(got(&limits, "memory.swap.max"), "none: this kernel has no memory.swap.max");
        assert_eq!(got(&limits, "cpu.max"), "none: this kernel has no cpu controller");
        assert_eq!(text("cpu.weight"), "100\n");
    }

    #[test]
    fn a_limit_that_can_not_be_written_takes_the_others_back() {
        let (folder, mut cgroup) = place(&FILES, "memory pids");
        cgroup.apply(&Carve { memory_mib: 64, ..Carve::default() }).unwrap();
        fs::remove_file(folder.path().join("pids.max")).unwrap();
        let more = Carve { memory_mib: 128, pids: 9, ..Carve::default() };
        let error = cgroup.apply(&more).unwrap_err();
        assert!(matches!(error, CgroupError::Limit { ref value, .. } if value == "9"), "{error}");
        let max = fs::read_to_string(folder.path().join("memory.max")).unwrap();
        assert_eq!(max, "67108864");
    }

    #[test]
    fn a_limit_that_the_kernel_takes_and_does_not_keep_is_an_error() {
        let (folder, mut cgroup) = place(&FILES, "memory pids");
        fs::remove_file(folder.path().join("memory.max")).unwrap();
        std::os::unix::fs::symlink("/dev/null", folder.path().join("memory.max")).unwrap();
        let error = cgroup.apply(&Carve::default()).unwrap_err();
        assert!(matches!(error, CgroupError::Unlike { .. }), "{error}");
    }

    #[test]
    fn a_second_carve_writes_what_changed() {
        let (folder, mut cgroup) = place(&FILES, "memory pids");
        cgroup.apply(&Carve::default()).unwrap();
        let pids = folder.path().join("pids.max");
        fs::write(&pids, "untouched").unwrap();
        cgroup.apply(&Carve { memory_mib: 300, ..Carve::default() }).unwrap();
        assert_eq!(fs::read_to_string(pids).unwrap(), "untouched");
    }
}
