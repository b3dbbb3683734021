//! The daemon: one thread, one poll loop, and what it owns.
//!
//! Events come from storaged ([`crate::tasks`]), from zones ([`crate::running`]) and from whoever asks how
//! it is ([`crate::status`]). Nothing here waits for anything but in `poll`, except for the few
//! milliseconds in which the kernel starts a process. What makes the disk write has threads of its own
//! ([`crate::disk`]).

mod start;

use crate::account::Accounts;
use crate::args::Args;
use crate::carve::{Admission, Cgroup, CgroupError, Tree};
use crate::damage::KernelLog;
use crate::disk::{FileError, Worker, WorkerError};
use crate::events::Events;
use crate::images::{ImageError, Images, Note, Question};
use crate::link::Link;
use crate::meter::{Meter, OutboxError};
use crate::network::Networks;
use crate::room::{Connection, Full, Limited, Room, Rooms};
use crate::running::Entry;
use crate::scheduler::{Grant, Scheduler};
use crate::slot::{Pool, Slot};
use crate::standing::{Asker, Beside, Ear, Standing};
use crate::status::{Clients, PeerId};
use crate::warm::Warm;
use crate::zone::Launcher;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sys::activation;
use sys::seqpacket::SocketError;
use thiserror::Error;
use wire::standing::ZoneName;
use wire::task::AttemptId;
use wire::zone::{Counts, Outcome};

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
    /// The records of standing zones, or of accounts.
    #[error("cannot use the records of zones and accounts")]
    Records(#[from] FileError),
    /// What writes them.
    #[error("cannot write records")]
    Worker(#[from] WorkerError),
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
    Claim(Limited),
    /// More inputs for this attempt.
    Inputs { attempt: AttemptId },
    /// To keep lines of usage.
    Meter,
    /// To tell what tasks wait for.
    Held,
    /// Something for a standing zone.
    Standing(Beside),
    /// Something about images.
    Image(Question),
    /// To settle an attempt; its slot, unless its zone has been kept.
    Ended { attempt: AttemptId, slot: Option<Slot> },
}

/// What hangs on something that the disk is to take in.
#[derive(Debug)]
pub(crate) enum Written {
    /// A zone, to which nothing else happens until then.
    Zone(ZoneName),
    /// A zone that is to be, and who asked for it.
    New(Asker, ZoneName),
    /// The change of an account's limits.
    Account,
    /// What is to be known of an image.
    Image(Note),
    /// The quota of a room for a task, begun over this connection.
    Room(Connection, Grant, Room),
    /// The quota of the slot in which an import is to run.
    Import(Slot),
    /// Whether a task that is over has filled its disk.
    Over(AttemptId, Outcome, Full),
    /// Whether one whose zone is gone has.
    Gone(AttemptId, Full),
    /// That this slot has a quota no more.
    Unlimited(u32),
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
    pub(crate) quota: Option<Arc<File>>,
    /// Writes records, and what else goes to the data disk.
    pub(crate) disk: Worker<Written>,
    /// Removes trees, which may be large.
    pub(crate) sweeper: Worker<Written>,
    /// Sets quotas of tasks, which wait for the filesystem's journal and not for zones' records.
    pub(crate) quotas: Worker<Written>,
    /// Rooms whose quota is set.
    pub(crate) rooms: Rooms<Limited>,
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
    Disk,
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
                Source::Disk => self.hear_disk(),
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
        Ok(true)
    }

    fn wait(&mut self) -> Result<Vec<Source>, DaemonError> {
        self.disk.flush();
        self.sweeper.flush();
        self.quotas.flush();
        let mut sources = vec![Source::Signals];
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let mut watch_for = |source, fd, flags| {
            sources.push(source);
            fds.push(PollFd::new(fd, flags));
        };
        let heard = if self.has_room() { PollFlags::POLLIN } else { PollFlags::empty() };
        for (id, client, full) in self.clients.sockets() {
            let room = if full { PollFlags::POLLOUT } else { PollFlags::empty() };
            watch_for(Source::Client(id), client, heard | room);
        }
        let mut watch = |source, fd| watch_for(source, fd, PollFlags::POLLIN);
        watch(Source::Disk, self.disk.as_fd());
        watch(Source::Disk, self.sweeper.as_fd());
        watch(Source::Disk, self.quotas.as_fd());
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
            entry.process().into_iter().for_each(|fd| watch(Source::Process(*attempt), fd));
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
                    Source::Disk => self.hear_disk(),
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
        self.disk.finish();
        self.sweeper.finish();
        self.quotas.finish();
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
