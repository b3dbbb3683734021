//! Which files of a cgroup get which values. Pure: nothing here touches a file.
//!
//! A [`Setting`] is one file as it should be. [`of_zone`] and [`of_account`] say what all of them should
//! be, [`fresh`] what they are in a cgroup that was just made, and [`plan`] what is to be written to get
//! from one to the other. [`in_force`] turns what was read back into what a person is shown.

use wire::carve::{Carve, IoRates, WEIGHT_DEFAULT};

const MIB: u64 = 1 << 20;
/// A period of `cpu.max`, in microseconds: the kernel's default. Shorter ones cost more, in longer ones a
/// zone at its cap stands still for longer.
pub const PERIOD_US: u64 = 100_000;
/// A limit that is none.
const NONE: &str = "max";

/// A controller that zones use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// `cpu.*`.
    Cpu,
    /// `cpuset.*`.
    Cpuset,
    /// `io.*`.
    Io,
    /// `memory.*`.
    Memory,
    /// `pids.*`.
    Pids,
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Cpu, Self::Cpuset, Self::Io, Self::Memory, Self::Pids];

    /// Its name in `cgroup.controllers`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuset => "cpuset",
            Self::Io => "io",
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }

    /// What zones do without when the kernel lacks it.
    const fn loss(self) -> &'static str {
        match self {
            Self::Cpu => "zones share the processors by process, not by account",
            Self::Cpuset => "zones cannot be kept to some processors",
            Self::Io => "zones have no share and no rate of the disk",
            Self::Memory => "zones have no memory limit of their own",
            Self::Pids => "zones have no limit on processes",
        }
    }
}

/// The controllers that there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Controllers(Vec<Controller>);

impl Controllers {
    /// Those of ours that `cgroup.controllers` names.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let offered: Vec<&str> = text.split_whitespace().collect();
        let found = Controller::ALL.into_iter().filter(|known| offered.contains(&known.name()));
        Self(found.collect())
    }

    /// Whether this one is there.
    #[must_use]
    pub fn has(&self, controller: Controller) -> bool {
        self.0.contains(&controller)
    }

    /// All that are there.
    pub fn iter(&self) -> impl Iterator<Item = Controller> + '_ {
        self.0.iter().copied()
    }

    /// What is lost, in words.
    #[must_use]
    pub fn degraded(&self) -> Vec<String> {
        let missing = Controller::ALL.into_iter().filter(|known| !self.has(*known));
        missing.map(|c| format!("no {} controller: {}", c.name(), c.loss())).collect()
    }
}

/// A disk, as `io.max` names it: never a partition of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// The major number.
    pub major: u64,
    /// The minor number.
    pub minor: u64,
}

impl Disk {
    /// The disk that a `dev` file of sysfs names, `254:16`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl std::fmt::Display for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// What an account may use in all, whatever its zones may use each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountCarve {
    /// `cpu.weight`: its share among accounts when the processors are busy.
    pub cpu_weight: u32,
    /// `cpu.max`, in thousandths of a processor; no cap if none.
    pub cpu_milli: Option<u32>,
    /// `memory.max`, in MiB; no cap if none.
    pub memory_mib: Option<u64>,
    /// `io.weight`.
    pub io_weight: u32,
    /// `io.max` of the data disk.
    pub io: IoRates,
    /// `pids.max`; no cap if none.
    pub pids: Option<u32>,
}

impl Default for AccountCarve {
    fn default() -> Self {
        let (cpu_weight, io_weight) = (WEIGHT_DEFAULT, WEIGHT_DEFAULT);
        let io = IoRates::default();
        Self { cpu_weight, cpu_milli: None, memory_mib: None, io_weight, io, pids: None }
    }
}

/// One file of a cgroup, and what is to be in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Whose it is.
    pub controller: Controller,
    /// The file.
    pub file: &'static str,
    /// What is written to it.
    pub value: String,
    /// What the kernel does with the value.
    pub kept: Kept,
}

/// How a value comes back from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// As it was written.
    Exactly,
    /// Rounded down to whole pages, or as it was written.
    ToPages,
    /// As a list of processors, which may be spelled another way.
    AsList,
    /// As the line of this disk, or not at all when nothing is capped.
    AsLine(Disk),
    /// After the word `default`.
    AsDefault,
}

fn setting(controller: Controller, file: &'static str, value: String, kept: Kept) -> Setting {
    Setting { controller, file, value, kept }
}

fn cpu_max(milli: Option<u32>) -> String {
    let quota = milli.map(|milli| (u64::from(milli) * PERIOD_US / 1000).to_string());
    format!("{} {PERIOD_US}", quota.as_deref().unwrap_or(NONE))
}

fn or_none<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| value.to_string())
}

fn io_max(disk: Disk, rates: &IoRates) -> String {
    let IoRates { read_bytes, write_bytes, reads, writes } = rates;
    format!(
        "{disk} rbps={} wbps={} riops={} wiops={}",
        or_none(*read_bytes),
        or_none(*write_bytes),
        or_none(*reads),
        or_none(*writes)
    )
}

/// All files of a zone's cgroup, for this carve. Without a known disk there is no `io.max`.
///
/// No `memory.high`: there is no swap, so what a zone has made itself can't be reclaimed, and a process that
/// goes on past a high mark only has its own program taken from memory again and again before it ends. What
/// can be reclaimed is reclaimed at `memory.max`, by the process that asks for more.
#[must_use]
pub fn of_zone(carve: &Carve, disk: Option<Disk>) -> Vec<Setting> {
    use Controller::{Cpu, Cpuset, Io, Memory, Pids};
    let max = u64::from(carve.memory_mib) * MIB;
    let low = u64::from(carve.memory_low_mib) * MIB;
    let cpus = carve.cpus.clone().unwrap_or_default();
    let mut all = vec![
        setting(Cpu, "cpu.weight", carve.cpu_weight.to_string(), Kept::Exactly),
        setting(Cpu, "cpu.max", cpu_max(carve.cpu_milli), Kept::Exactly),
        setting(Cpuset, "cpuset.cpus", cpus, Kept::AsList),
        setting(Memory, "memory.low", low.to_string(), Kept::ToPages),
        setting(Memory, "memory.max", max.to_string(), Kept::ToPages),
        setting(Memory, "memory.oom.group", "1".to_owned(), Kept::Exactly),
        setting(Memory, "memory.swap.max", "0".to_owned(), Kept::ToPages),
        setting(Io, "io.weight", carve.io_weight.to_string(), Kept::AsDefault),
    ];
    if let Some(disk) = disk {
        all.push(setting(Io, "io.max", io_max(disk, &carve.io), Kept::AsLine(disk)));
    }
    all.push(setting(Pids, "pids.max", carve.pids.to_string(), Kept::Exactly));
    all
}

/// All files of an account's cgroup, for this carve; `low` is what its zones have protected in all.
#[must_use]
pub fn of_account(carve: &AccountCarve, low: u64, disk: Option<Disk>) -> Vec<Setting> {
    use Controller::{Cpu, Io, Memory, Pids};
    let max = or_none(carve.memory_mib.map(|mib| mib * MIB));
    let mut all = vec![
        setting(Cpu, "cpu.weight", carve.cpu_weight.to_string(), Kept::Exactly),
        setting(Cpu, "cpu.max", cpu_max(carve.cpu_milli), Kept::Exactly),
        setting(Memory, "memory.low", low.to_string(), Kept::ToPages),
        setting(Memory, "memory.max", max, Kept::ToPages),
        setting(Io, "io.weight", carve.io_weight.to_string(), Kept::AsDefault),
    ];
    if let Some(disk) = disk {
        all.push(setting(Io, "io.max", io_max(disk, &carve.io), Kept::AsLine(disk)));
    }
    all.push(setting(Pids, "pids.max", or_none(carve.pids), Kept::Exactly));
    all
}

/// What a setting's file says in a cgroup that was just made.
#[must_use]
pub fn fresh(setting: &Setting) -> String {
    match (setting.file, setting.kept) {
        ("cpu.weight" | "io.weight", _) => WEIGHT_DEFAULT.to_string(),
        ("cpu.max", _) => cpu_max(None),
        ("cpuset.cpus", _) => String::new(),
        ("memory.low" | "memory.oom.group", _) => "0".to_owned(),
        (_, Kept::AsLine(disk)) => io_max(disk, &IoRates::default()),
        _ => NONE.to_owned(),
    }
}

/// What is to be written, in this order, so that files that are as `actual` says become as `desired`
/// says. A file that `actual` knows nothing of is written.
#[must_use]
pub fn plan(desired: &[Setting], actual: impl Fn(&Setting) -> Option<String>) -> Vec<Setting> {
    let differs = |setting: &&Setting| actual(setting).as_deref() != Some(&setting.value);
    desired.iter().filter(differs).cloned().collect()
}

/// What is in force, by what was read from a setting's file.
#[must_use]
pub fn in_force(setting: &Setting, text: &str) -> String {
    let text = text.trim();
    match setting.kept {
        Kept::Exactly | Kept::ToPages | Kept::AsList => text.to_owned(),
        Kept::AsDefault => {
            let line = text.lines().find_map(|line| line.strip_prefix("default "));
            line.unwrap_or(text).to_owned()
        }
        Kept::AsLine(disk) => {
            let start = format!("{disk} ");
            let line = text.lines().find(|line| line.starts_with(&start));
            line.map_or_else(|| io_max(disk, &IoRates::default()), |line| line.trim().to_owned())
        }
    }
}

/// Whether what is in force is what was asked for, as near as the kernel comes to it.
#[must_use]
pub fn holds(setting: &Setting, got: &str) -> bool {
    match setting.kept {
        Kept::Exactly | Kept::AsDefault | Kept::AsLine(_) => got == setting.value,
        Kept::AsList => processors(got) == processors(&setting.value),
        Kept::ToPages => match (setting.value.parse::<u64>(), got.parse::<u64>()) {
            // The largest page of any kernel that this runs on is 64 KiB.
            (Ok(asked), Ok(got)) => got <= asked && asked - got < 64 * 1024,
            _ => got == setting.value,
        },
    }
}

/// The processors in a list, in order and each once; none for what is no list.
fn processors(list: &str) -> Option<Vec<(u32, u32)>> {
    let mut ranges = Vec::new();
    for part in list.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        ranges.push((first.trim().parse().ok()?, last.trim().parse().ok()?));
    }
    ranges.sort_unstable();
    let mut joined: Vec<(u32, u32)> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    Some(joined)
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod test;
