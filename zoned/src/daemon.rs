//! The daemon: one thread, one poll loop, and what it owns.
//!
//! Events come from storaged ([`crate::tasks`]), from zones ([`crate::running`]) and from whoever asks how
//! it is ([`crate::status`]). Nothing here waits for anything but in `poll`, except for the few
//! milliseconds in which the kernel starts a process.

use crate::account::{self, Accounts};
use crate::args::Args;
use crate::carve::{self, AccountCarve, Admission, Cgroup, CgroupError, Tree};
use crate::damage::KernelLog;
use crate::events::Events;
use crate::images::{ImageError, Images, Question};
use crate::link::Link;
use crate::meter::{Meter, OutboxError};
use crate::network::Networks;
use crate::running::Entry;
use crate::scheduler::{Grant, Limits, Scheduler};
use crate::slot::{Pool, Slot};
use crate::standing::{self, Beside, Ear, RecordError, Standing};
use crate::status::{Clients, PeerId};
use crate::warm::{Idle, Warm};
use crate::zone::Launcher;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use sys::seqpacket::{Listener, SocketError};
use sys::{activation, landlock, quota};
use thiserror::Error;
use wire::task::AttemptId;
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
/// How often what has no descriptor of its own is looked at: deadlines, cgroups that are still busy.
const TICK_MS: u64 = 250;
/// Messages of one first process that are taken in before others have their turn: more than fit its socket (each
/// takes 768 bytes and more of the 208 KiB that Linux gives one), so that nothing is lost of what was said before
/// an end, and few enough that a zone that never stops talking holds up nobody.
pub(crate) const WORDS_A_TURN: usize = 1024;
/// How long zones get to be gone when zoned ends: the time that commands of standing zones have, and some.
const STOP_MS_MAX: u64 = 8_000;
/// How long publications of what zones wrote may take, from the same moment; init gives zoned 30 s to end
/// (`image/services/zoned.toml`).
const PUBLISH_MS_MAX: u64 = 25_000;
const KIB_PER_MIB: u64 = 1024;

/// Why zoned does not run.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// It takes root to make zones.
    #[error("zoned makes namespaces and mounts: run it as root")]
    NotRoot,
    /// What init handed over makes no sense.
    #[error("cannot take the sockets of init")]
    Activation(#[from] activation::ActivationError),
    /// The socket for status requests.
    #[error("cannot listen")]
    Listen(#[from] SocketError),
    /// The cgroups.
    #[error("cannot use the cgroups")]
    Cgroup(#[from] CgroupError),
    /// The files of the meter.
    #[error("cannot meter")]
    Meter(#[from] OutboxError),
    /// The images.
    #[error("cannot use the images")]
    Images(#[from] ImageError),
    /// The records of standing zones.
    #[error("cannot use the records of zones")]
    Records(#[from] RecordError),
    /// The records of accounts.
    #[error("cannot use the records of accounts")]
    Accounts(#[from] account::RecordError),
    /// A call failed.
    #[error("cannot {act}")]
    Call {
        /// What was tried.
        act: String,
        /// Why not.
        source: io::Error,
    },
}

pub(crate) fn call<T, E: Into<io::Error>>(
    act: &str,
    result: Result<T, E>,
) -> Result<T, DaemonError> {
    result.map_err(|source| DaemonError::Call { act: act.to_owned(), source: source.into() })
}

/// What was asked of storaged, and what hangs on the answer.
#[derive(Debug)]
pub(crate) enum Asked {
    /// A task, to be run here.
    Claim { grant: Grant, room: Room },
    /// More inputs for this attempt.
    Inputs { attempt: AttemptId },
    /// To keep lines of usage.
    Meter,
    /// Something for a standing zone.
    Standing(Beside),
    /// Something about images.
    Image(Question),
    /// To settle an attempt; its slot, unless its zone has been kept.
    Ended { attempt: AttemptId, slot: Option<Slot> },
}

/// Where a task is to run.
#[derive(Debug)]
pub(crate) enum Room {
    /// In a zone to be made in this slot.
    Fresh(Slot),
    /// In a zone that has run such a task.
    Warm(Box<Idle>),
}

impl Room {
    pub(crate) fn slot(&self) -> &Slot {
        match self {
            Self::Fresh(slot) => slot,
            Self::Warm(idle) => &idle.slot,
        }
    }
}

/// Everything zoned has.
#[derive(Debug)]
pub struct Daemon {
    pub(crate) launcher: Launcher,
    /// The program that makes images of archives.
    pub(crate) import_program: PathBuf,
    /// The program by which zones have their output published.
    pub(crate) publish_program: PathBuf,
    pub(crate) images: Images,
    pub(crate) cgroups: Tree,
    pub(crate) accounts: Accounts,
    pub(crate) admission: Admission,
    pub(crate) meter: Meter,
    /// None where the kernel has no programs for cgroups: no zone gets a network then.
    pub(crate) networks: Option<Networks>,
    pub(crate) pool: Pool,
    pub(crate) scheduler: Scheduler,
    /// Some file of the filesystem with quotas; none where there are none.
    pub(crate) quota: Option<File>,
    pub(crate) link: Link<Asked>,
    pub(crate) zones: BTreeMap<AttemptId, Entry>,
    pub(crate) warm: Warm,
    /// Cgroups of zones that are gone, which the kernel is not done with.
    pub(crate) garbage: Vec<Cgroup>,
    pub(crate) counts: Counts,
    pub(crate) degraded: Vec<String>,
    pub(crate) clients: Clients,
    pub(crate) events: Events,
    pub(crate) standing: Standing,
    pub(crate) store_user: u32,
    /// None where the kernel's log can't be read.
    pub(crate) kernel_log: Option<KernelLog>,
    signals: SignalFd,
    born: Instant,
}

/// Whose descriptor is ready.
#[derive(Debug, Clone, Copy)]
enum Source {
    Signals,
    Storaged,
    KernelLog,
    Listener,
    Client(PeerId),
    Control(AttemptId),
    Process(AttemptId),
    Instance(AttemptId),
    /// Some standing zone.
    Ears,
    Standing(Ear),
    ImportControl,
    ImportProcess,
    /// An image that is being read ahead.
    Ahead,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// [`DaemonError`]: something without which there are no zones.
pub fn run(args: &Args) -> Result<(), DaemonError> {
    let mut daemon = Daemon::start(args)?;
    call("tell init", activation::notify("READY=1"))?;
    while daemon.turn()? {}
    call("tell init", activation::notify("STOPPING=1"))?;
    daemon.stop()
}

impl Daemon {
    fn start(args: &Args) -> Result<Self, DaemonError> {
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
            Ok(_) => Some(data),
            // ENOENT: quotas are on, and nothing is known of this project yet.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Some(data),
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

    /// Microseconds since zoned started: the scheduler's clock.
    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Keeps zones from addresses that the node has got since.
    fn look_at_addresses(&mut self) {
        let looked = self.networks.as_mut().map(|networks| networks.refresh(Instant::now()));
        if let Some(Err(error)) = looked {
            eprintln!("zoned: {}", crate::chain(&error));
        }
    }

    /// One round: connect, claim, wait, act. False when it is time to end.
    fn turn(&mut self) -> Result<bool, DaemonError> {
        self.connect();
        self.claim();
        self.tidy();
        self.tidy_images();
        self.meter();
        self.look_at_addresses();
        self.tidy_standing();
        self.clients.tell_watchers(&self.events);
        for peer in self.clients.take_lost() {
            self.abandon_sessions(peer);
        }
        for source in self.wait()? {
            match source {
                Source::Signals => return Ok(false),
                Source::Storaged => self.hear_storaged(),
                Source::KernelLog => self.hear_kernel(),
                Source::Listener => self.clients.accept(),
                Source::Client(at) => self.answer_client(at),
                Source::Control(attempt) => self.hear_zone(attempt),
                Source::Process(attempt) => self.zone_gone(attempt),
                Source::Instance(first) => self.instance_gone(first),
                Source::Standing(ear) => self.hear_ear(ear),
                Source::ImportControl => self.hear_import(),
                Source::ImportProcess => self.import_gone(),
                Source::Ahead => self.images.tend(),
                Source::Ears => {}
            }
        }
        self.write_drafts();
        Ok(true)
    }

    fn wait(&self) -> Result<Vec<Source>, DaemonError> {
        let mut sources = vec![Source::Signals];
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let mut watch_for = |source, fd, flags| {
            sources.push(source);
            fds.push(PollFd::new(fd, flags));
        };
        for (id, client, full) in self.clients.sockets() {
            let room = if full { PollFlags::POLLOUT } else { PollFlags::empty() };
            watch_for(Source::Client(id), client, PollFlags::POLLIN | room);
        }
        let mut watch = |source, fd| watch_for(source, fd, PollFlags::POLLIN);
        if let Some(socket) = self.link.socket() {
            watch(Source::Storaged, socket);
        }
        if let Some(log) = &self.kernel_log {
            watch(Source::KernelLog, log.fd());
        }
        if let Some(listener) = self.clients.listener() {
            watch(Source::Listener, listener);
        }
        // A zone's words come before its end, or what it said last would be lost.
        for (attempt, entry) in &self.zones {
            if let Some(control) = entry.control() {
                watch(Source::Control(*attempt), control);
            }
        }
        for (attempt, entry) in &self.zones {
            watch(Source::Process(*attempt), entry.process());
        }
        for (first, process) in self.warm.processes() {
            watch(Source::Instance(first), process);
        }
        watch(Source::Ears, self.standing.ears());
        self.images.awaited().for_each(|fd| watch(Source::Ahead, fd));
        if let Some(import) = &self.images.import {
            import.control().into_iter().for_each(|fd| watch(Source::ImportControl, fd));
            import.process().into_iter().for_each(|fd| watch(Source::ImportProcess, fd));
        }
        match poll(&mut fds, self.timeout()) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return call("wait", Err(error)),
        }
        let ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|seen| !seen.is_empty());
        let ready = sources.into_iter().zip(&fds).filter(|(_, fd)| ready(fd)).map(|(s, _)| s);
        let mut ready: Vec<Source> = ready.collect();
        if let Some(at) = ready.iter().position(|source| matches!(source, Source::Ears)) {
            let heard = call("hear standing zones", self.standing.heard())?;
            drop(ready.splice(at..=at, heard.into_iter().map(Source::Standing)));
        }
        Ok(ready)
    }

    fn hear_ear(&mut self, ear: Ear) {
        match ear {
            Ear::Control(number) => self.hear_standing(number),
            Ear::Process(number) => self.standing_gone(number),
        }
    }

    fn timeout(&self) -> PollTimeout {
        if self.standing.has_drafts() {
            return PollTimeout::ZERO;
        }
        let tick = Duration::from_millis(TICK_MS);
        let ticking = !self.zones.is_empty()
            || !self.warm.is_empty()
            || !self.garbage.is_empty()
            || self.images.import.is_some()
            || self.scheduler.holds()
            || self.cgroups.has_accounts()
            || self.admission.is_held()
            || self.meter.has_news()
            || self.standing.busy();
        let now = Instant::now();
        let retry = self.link.retry_at().map(|at| at.saturating_duration_since(now));
        let due = self
            .standing
            .deadline_ms()
            .map(|at| Duration::from_millis(at.saturating_sub(self.now_us() / 1000)));
        let retry = [retry, due].into_iter().flatten().min();
        let wait = match (retry, ticking) {
            (Some(retry), true) => retry.min(tick),
            (Some(retry), false) => retry,
            (None, true) => tick,
            (None, false) => return PollTimeout::NONE,
        };
        // Rounded up, or the last millisecond would be spent spinning.
        u16::try_from(wait.as_millis() + 1).map_or(PollTimeout::MAX, PollTimeout::from)
    }

    /// Whether zones run that are no task's.
    fn runs_besides(&self) -> bool {
        self.standing.runs() || self.images.import.is_some()
    }

    /// Ends all zones and waits for them, and for what they wrote to be published. Attempts end with the
    /// connection; another one is made for the rest.
    fn stop(mut self) -> Result<(), DaemonError> {
        self.kernel_log = None;
        self.close_standing();
        self.lose_link("zoned was told to stop");
        let begun = Instant::now();
        while self.has_to_wait(begun.elapsed()) {
            self.connect();
            self.tidy_standing();
            self.meter();
            for source in self.wait()? {
                match source {
                    Source::Process(attempt) => self.zone_gone(attempt),
                    Source::Control(attempt) => self.hear_zone(attempt),
                    Source::Instance(first) => self.instance_gone(first),
                    Source::Standing(ear) => self.hear_ear(ear),
                    Source::ImportControl => self.hear_import(),
                    Source::ImportProcess => self.import_gone(),
                    Source::Storaged => self.hear_storaged(),
                    Source::Ahead => self.images.tend(),
                    Source::Ears
                    | Source::Signals
                    | Source::KernelLog
                    | Source::Listener
                    | Source::Client(_) => {}
                }
            }
        }
        self.leave_unpublished();
        self.tidy();
        self.cgroups.close()?;
        Ok(())
    }

    /// Whether something is not over yet that zoned, which was told to stop so long ago, waits for.
    fn has_to_wait(&self, since: Duration) -> bool {
        let within = |ms: u64| since < Duration::from_millis(ms);
        let heard = self.link.is_heard();
        let zones = !self.zones.is_empty() || !self.warm.is_empty() || self.runs_besides();
        // Without a storaged that answers, what is to be told has to wait for the next zoned.
        let most = |ms: u64| if heard { ms } else { STOP_MS_MAX };
        zones && within(STOP_MS_MAX)
            || self.standing.publishes() && within(most(PUBLISH_MS_MAX))
            || heard && self.meter.has_news() && within(STOP_MS_MAX)
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
