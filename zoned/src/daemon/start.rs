//! Everything that zoned has, as it is at its start: what init handed over, what this node allows, what is on record.

use super::{Daemon, DaemonError, call};
use crate::account::Accounts;
use crate::args::Args;
use crate::carve::{self, AccountCarve, Admission, Tree};
use crate::damage::KernelLog;
use crate::disk::Worker;
use crate::events::Events;
use crate::images::Images;
use crate::link::Link;
use crate::meter::Meter;
use crate::network::Networks;
use crate::room::Rooms;
use crate::scheduler::{Limits, Scheduler};
use crate::slot::Pool;
use crate::standing;
use crate::status::Clients;
use crate::warm::Warm;
use crate::zone::Launcher;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use sys::seqpacket::Listener;
use sys::{activation, landlock, quota};
use wire::zone::Counts;

/// Zones for each processor: one computes while another waits for the disk.
const ZONES_PER_CPU: u32 = 2;
/// Memory limits that may be granted for each byte there is. Most tasks use a small part of their limit,
/// a limit is no reservation, and one that does go there meets its own end first (`memory.oom.group`).
const OVERCOMMIT: u64 = 2;
/// The part of memory that zones may have where `/zones` has no limit: three quarters.
const ZONES_SHARE: (u64, u64) = (3, 4);
/// The part of that which one account may have: what it does to itself it does within its own limit, and
/// others still have a quarter.
const ACCOUNT_SHARE: (u64, u64) = (3, 4);
/// Slots for each zone that may run: an ended attempt keeps its slot until storaged has settled it.
const SLOTS_PER_ZONE: u32 = 2;
const KIB_PER_MIB: u64 = 1024;

impl Daemon {
    pub(super) fn start(args: &Args) -> Result<Self, DaemonError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(DaemonError::NotRoot);
        }
        let mut ends = SigSet::empty();
        ends.add(Signal::SIGTERM);
        ends.add(Signal::SIGINT);
        call("block signals", ends.thread_block())?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = call("watch signals", SignalFd::with_flags(&ends, flags))?;
        call(&format!("make {}", args.run.display()), fs::create_dir_all(&args.run))?;
        let handed = activation::listeners()?;
        let (opening, handed) = standing::open(&args.data, &args.run, handed)?;
        let mut cgroups = Tree::open(&args.cgroup, &opening.cgroups())?;
        let mut images = Images::open(&args.images, &args.run.join("images"))?;
        if let Some(prefetcher) = &args.prefetcher {
            images.read_ahead(prefetcher.clone());
        }
        let launcher = Launcher::new(&args.zone_init, &args.run.join("stage"));
        let launcher = call(&format!("use {}", args.zone_init.display()), launcher)?;
        let data = call(&format!("open {}", args.data.display()), File::open(&args.data))?;
        let undivided = divide(&mut cgroups, &data, args)?;
        let limits = limits(args, &cgroups)?;
        let accounts = Accounts::open(&args.data, &args.account_limits, &mut cgroups)?;
        let mut degraded = cgroups.degraded();
        degraded.extend(undivided);
        let admission = Admission::new(&args.store_cgroup, &args.cgroup, carve::disk_of(&data));
        degraded.extend(admission.degraded());
        let quota = match quota::project(data.as_fd(), crate::slot::PROJECT_BASE) {
            Ok(_) => Some(Arc::new(data)),
            // ENOENT: quotas are on, and nothing is known of this project yet.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Some(Arc::new(data)),
            Err(error) => {
                degraded.push(format!("no project quotas, output has no limit ({error})"));
                None
            }
        };
        let networks = Networks::open(&args.cgroup);
        if let Err(error) = &networks {
            degraded.push(format!("no zone can have a network: {}", crate::chain(error)));
        }
        if let Err(error) = landlock::version() {
            degraded.push(format!("no Landlock: zones have one wall less ({error})"));
        }
        let kernel_log = KernelLog::open();
        if let Err(error) = &kernel_log {
            degraded
                .push(format!("zones are not told of damaged objects: no kernel log ({error})"));
        }
        degraded.iter().for_each(|line| eprintln!("zoned: {line}"));
        let now = Instant::now();
        let Limits { zones, memory_mib } = limits;
        eprintln!("zoned: up to {zones} zones with {memory_mib} MiB in all");
        let (standing, recorded) = opening.books();
        let mut daemon = Self {
            launcher,
            import_program: args.zone_import.clone(),
            publish_program: args.zone_publish.clone(),
            images,
            cgroups,
            accounts,
            admission,
            meter: Meter::open(&args.run)?,
            networks: networks.ok(),
            pool: Pool::new(zones.saturating_mul(SLOTS_PER_ZONE)),
            scheduler: Scheduler::new(limits),
            quota,
            disk: Worker::start("disk")?,
            sweeper: Worker::start("sweeper")?,
            quotas: Worker::start("quotas")?,
            rooms: Rooms::default(),
            link: Link::new(&args.storaged, now),
            zones: BTreeMap::new(),
            warm: Warm::default(),
            garbage: Vec::new(),
            counts: Counts::default(),
            degraded,
            clients: Clients::new(listener(handed, args.wire.as_ref())?),
            events: call("use the file of event numbers", Events::open(&args.run.join("events")))?,
            standing,
            store_user: args.store_user,
            kernel_log: kernel_log.ok(),
            signals,
            born: now,
        };
        daemon.begin_standing(recorded);
        Ok(daemon)
    }
}

/// The socket for status requests: init's, or one of our own.
fn listener(
    handed: Vec<(String, OwnedFd)>,
    path: Option<&PathBuf>,
) -> Result<Option<Listener>, DaemonError> {
    let inherited = handed.into_iter().find(|(name, _)| name == "wire").map(|(_, fd)| fd);
    let listener = match (inherited, path) {
        (Some(fd), _) => Listener::from_fd(fd),
        (None, Some(path)) => Listener::bind(path, 0o660)?,
        (None, None) => return Ok(None),
    };
    call("use the socket", listener.set_nonblocking())?;
    Ok(Some(listener))
}

/// What may run at once: as told, or as this machine allows.
fn limits(args: &Args, cgroups: &Tree) -> Result<Limits, DaemonError> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
    let zones = args.zones.unwrap_or_else(|| cpus.saturating_mul(ZONES_PER_CPU).max(2));
    let memory_mib = match (args.memory_mib, cgroups.memory_mib_max()) {
        (Some(told), _) => told,
        (None, Some(most)) => most * OVERCOMMIT,
        (None, None) => zones_memory_mib()? * OVERCOMMIT,
    };
    Ok(Limits { zones, memory_mib })
}

/// Says what all zones, and what each account, may use of this node; gives what cannot be said, in words.
fn divide(cgroups: &mut Tree, data: &File, args: &Args) -> Result<Option<String>, DaemonError> {
    let degraded = cgroups.set_disk(carve::disk_of(data));
    let memory_mib = match cgroups.memory_mib_max() {
        Some(told) => told,
        None => zones_memory_mib()?,
    };
    cgroups.limit_memory(memory_mib)?;
    let pids = args.account_pids.or_else(|| cgroups.pids_max().map(|most| most / 2));
    let share = (memory_mib * ACCOUNT_SHARE.0 / ACCOUNT_SHARE.1).max(1);
    let memory_mib = Some(args.account_memory_mib.unwrap_or(share));
    let cpu_milli = args.account_cpu_milli;
    cgroups.set_standard(AccountCarve { memory_mib, pids, cpu_milli, ..AccountCarve::default() });
    Ok(degraded)
}

/// The memory that zones may use in all where nobody says otherwise, in MiB.
fn zones_memory_mib() -> Result<u64, DaemonError> {
    let text = call("read /proc/meminfo", fs::read_to_string("/proc/meminfo"))?;
    Ok(memory_mib(&text) * ZONES_SHARE.0 / ZONES_SHARE.1)
}

/// All memory, by `/proc/meminfo`, in MiB.
fn memory_mib(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let number = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0) / KIB_PER_MIB
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn memory_is_read_in_the_kernel_s_own_unit() {
        assert_eq!(memory_mib("MemTotal:        2048000 kB\nMemFree: 1 kB\n"), 2000);
        assert_eq!(memory_mib("nonsense"), 0);
    }
}
