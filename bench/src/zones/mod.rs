//! Zones beside other ways to run a program in a container of its own: bubblewrap, crun, runc.
//!
//! All run the same static program, which says when it began. Runs take turns, each going first as
//! often as last; what is compared is the median of all runs, with the interval of a paired bootstrap.
//! Needs root and cgroup v2. Zones are made by zoned's own code, from a pooled network namespace and an
//! image that is mounted already, as on a node; the others make all they need, as they always do.

mod memory;
mod others;
mod ours;
mod program;
mod resident;

use crate::peers::{is_program, run as run_program};
use crate::process::pin_load;
use crate::report::{Bar, Comparison, Report};
use crate::statistics::{median, percentile};
use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_gettime};
use others::{Bundle, Other};
use ours::Node;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use sys::mountfd::{self, Filesystem, Restrictions};

/// Runs of each that are counted; the goal speaks of 200.
const RUNS: usize = 400;
/// Runs of each before that: programs come into the page cache, slots are made.
const WARM_UP: usize = 20;
/// Runs of each when it is only to be seen that it works.
const RUNS_QUICK: usize = 20;
/// Bytes of the object that every run is given.
const OBJECT_BYTES: usize = 4096;
/// What goes through a large object, in the zone.
const PYTHON: &str = "python3";

/// What is measured, and on what.
#[derive(Debug, Clone)]
pub struct Setting {
    /// zone-init.
    pub zone_init: PathBuf,
    /// storaged, which holds the object that is read in several ways.
    pub storaged: PathBuf,
    /// An empty directory.
    pub folder: PathBuf,
}

/// When what happened in one run, in nanoseconds after its beginning.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// The program began.
    pub exec: f64,
    /// Whoever started it knew how it ended.
    pub status: f64,
    /// Nothing was left of it.
    pub gone: f64,
}

/// The monotonic clock, in nanoseconds.
fn now() -> Result<i64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).context("read the clock")?;
    Ok(now.tv_sec() * 1_000_000_000 + now.tv_nsec())
}

/// What the program says: a `struct timespec`, in nanoseconds.
fn time(bytes: &[u8]) -> Option<i64> {
    let (seconds, rest) = bytes.split_first_chunk::<8>()?;
    let nanos: [u8; 8] = rest.try_into().ok()?;
    Some(i64::from_le_bytes(*seconds) * 1_000_000_000 + i64::from_le_bytes(nanos))
}

/// Where the program writes: an unnamed file, read after each run.
struct Output {
    file: File,
}

impl Output {
    fn new(folder: &Path) -> Result<Self> {
        let path = folder.join("output");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Self { file })
    }

    fn writer(&self) -> Result<OwnedFd> {
        self.file.set_len(0)?;
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        Ok(file.into())
    }

    /// What the program has written.
    fn text(&self) -> Result<String> {
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(text)
    }

    /// When the program began.
    fn began(&self) -> Result<i64> {
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        time(&bytes).context("the program has not said when it began")
    }
}

/// Installs what zones are compared with, as root.
///
/// # Errors
/// If it can't be.
pub fn install() -> Result<()> {
    let others = Other::ALL.iter().all(|other| is_program(other.program()));
    if others && is_program(PYTHON) {
        return Ok(());
    }
    run_program("apt-get", &["-q", "update"])?;
    let packages = Other::ALL.map(Other::name);
    run_program(
        "apt-get",
        &[&["-q", "install", "-y", "--no-install-recommends", PYTHON], &packages[..]].concat(),
    )
    .context("install bubblewrap, crun, runc and python3 (as root), or install them by hand")
}

/// Measures and compares it all.
///
/// # Errors
/// Whatever can't be made or run here.
pub fn run(setting: &Setting, quick: bool, report: &mut Report) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "zones are made as root");
    // One core for all: with two, each step from process to process is a call to wake the other one, which on
    // a virtual machine costs more than the step.
    pin_load()?;
    // What is mounted for zones is seen by this process and what it starts, and goes with them.
    unshare(CloneFlags::CLONE_NEWNS).context("take a mount namespace")?;
    mountfd::make_all_private().context("keep mounts to itself")?;
    let image = make_image(setting)?;
    let object = setting.folder.join("object");
    fs::write(&object, vec![b'x'; OBJECT_BYTES])?;
    let output = Output::new(&setting.folder)?;
    let cgroups = unified_cgroups()?;
    let mut node = Node::new(setting, &image, &cgroups)?;
    let bundle = Bundle::new(&setting.folder, &image, &object)?;
    let runs = if quick { RUNS_QUICK } else { RUNS };
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    let mut others: Vec<(Other, Vec<Times>)> =
        Other::ALL.into_iter().map(|other| (other, Vec::new())).collect();
    for round in 0..WARM_UP + runs {
        let counted = round >= WARM_UP;
        // Turns rotate, so that each is first, and behind each other one, equally often.
        let turns = others.len() + 2;
        for turn in 0..turns {
            match (round + turn) % turns {
                0 => keep(&mut cold, counted, node.cold(&object, &output)?),
                1 => keep(&mut warm, counted, node.warm(&object, &output)?),
                at => {
                    let (other, times) = &mut others[at - 2];
                    keep(times, counted, other.run(&bundle, &output)?);
                }
            }
        }
    }
    compare(&cold, &warm, &others, report);
    memory::run(&mut node, &object, &output, report)?;
    drop(node);
    resident::run(setting, &cgroups, quick, report)
}

/// Where cgroup v2 is mounted. It is put in the usual place if something else is there: a runtime that
/// finds both versions beside each other gives up.
fn unified_cgroups() -> Result<PathBuf> {
    let place = Path::new("/sys/fs/cgroup");
    if !place.join("cgroup.controllers").exists() {
        let cgroups = Filesystem::new(c"cgroup2").context("mount cgroup v2")?;
        let cgroups = cgroups.mount(Restrictions::DATA).context("mount cgroup v2")?;
        let root = File::open("/")?;
        mountfd::place(cgroups.as_fd(), root.as_fd(), c"sys/fs/cgroup")
            .context("place cgroup v2")?;
    }
    Ok(place.to_owned())
}

fn keep(times: &mut Vec<Times>, counted: bool, one: Times) {
    if counted {
        times.push(one);
    }
}

fn compare(cold: &[Times], warm: &[Times], others: &[(Other, Vec<Times>)], report: &mut Report) {
    let exec = |times: &[Times]| times.iter().map(|t| t.exec / 1e3).collect::<Vec<_>>();
    let status = |times: &[Times]| times.iter().map(|t| t.status / 1e3).collect::<Vec<_>>();
    for (other, times) in others {
        for (what, bar, ours, theirs) in [
            ("task in a warm instance", other.warm_bar(), status(warm), status(times)),
            ("cold zone until the program runs", other.cold_bar(), exec(cold), exec(times)),
            ("cold zone until its end is known", None, status(cold), status(times)),
        ] {
            let bar = bar.map(Bar::AtMost);
            report.compare(Comparison::of_medians(what, "µs", other.name(), &ours, &theirs, bar));
        }
    }
    for (what, times) in [
        ("cold zone until nothing is left of it", cold),
        ("warm instance until it may have the next task", warm),
    ] {
        let gone: Vec<f64> = times.iter().map(|t| t.gone / 1e3).collect();
        let told = format!("{:.0} µs (p50 of {})", median(&gone), gone.len());
        report.fact(what, told, None);
    }
    for (name, times) in [("zoned", cold), ("zoned, warm instance", warm)]
        .into_iter()
        .chain(others.iter().map(|(other, times)| (other.name(), times.as_slice())))
    {
        let mut sorted: Vec<u64> = times.iter().map(|t| t.exec as u64 / 1000).collect();
        sorted.sort_unstable();
        let at = |part| percentile(&sorted, part);
        let told = format!("{} / {} / {} µs", at(0.05), at(0.5), at(0.99));
        report.fact(&format!("{name}, until the program runs: p5 / p50 / p99"), told, None);
    }
}

/// The files of a container: the program, under every name it is called by, and places for mounts.
fn make_image(setting: &Setting) -> Result<PathBuf> {
    let image = setting.folder.join("image");
    for folder in ["bin", "dev", "manta", "proc", "root", "sys", "tmp"] {
        fs::create_dir_all(image.join(folder))?;
    }
    // A zone's task is a command line of bash: here bash is the program, so that all run the same.
    for name in ["bin/bash", "bin/program"] {
        fs::write(image.join(name), program::elf())?;
        fs::set_permissions(image.join(name), fs::Permissions::from_mode(0o755))?;
    }
    Ok(image)
}
