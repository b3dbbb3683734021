//! Zones that run: what they say, what becomes of them ([`crate::attempt`] decides), what they leave.

use crate::attempt::{Action, Event, Facts, State, step};
use crate::carve::Measured;
use crate::chain;
use crate::daemon::{Asked, Daemon, WORDS_A_TURN, Written};
use crate::meter::Key;
use crate::metering::how;
use crate::scheduler::Grant;
use crate::slot::Slot;
use crate::warm::{Idle, Kin, may_stay};
use crate::zone::Zone;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};
use sys::clone::{kill, reap};
use sys::seqpacket::{RecvError, SendError};
use wire::frame::{Frame, Kind, encode};
use wire::job::{JobId, PhaseKind};
use wire::standing::Stats;
use wire::task::{AttemptId, Request, Task, Usage};
use wire::zone::{Order, Outcome, Report, ZoneStatus};

/// How long a zone may take to run its first program, and how long to be gone when its task is over.
/// Each takes milliseconds; a node under full load takes seconds.
const CHANGE_MS_MAX: u64 = 60_000;
/// Room for a number of the kernel's, and its line's end.
const NUMBER_BYTES: usize = 24;

/// A zone, and the attempt that runs in it.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The attempt for which the zone was made.
    first: AttemptId,
    zone: Zone,
    kin: Kin,
    /// What the zone had used before this attempt.
    before: Stats,
    /// Counts from this attempt's beginning, where the kernel can (Linux 6.12).
    peak: Option<File>,
    grant: Grant,
    slot: Slot,
    state: State,
    /// When the state was entered.
    since: Instant,
    started: Instant,
    kind: PhaseKind,
    /// Inputs that the feeder has had.
    inputs: u64,
    asked_inputs: bool,
    /// Whether zone-init still holds its end of the control socket.
    listening: bool,
    /// It said how it went, and what the kernel knows of that is being looked up.
    reported: bool,
    /// Its first process has ended, and what the kernel knows of how is being looked up.
    gone: bool,
}

impl Entry {
    /// The first attempt of a zone.
    pub(crate) fn new(zone: Zone, grant: Grant, slot: Slot, task: &Task) -> Self {
        let now = Instant::now();
        Self {
            first: task.attempt,
            zone,
            kin: Kin::of(task),
            before: Stats::default(),
            peak: None,
            grant,
            slot,
            state: State::Starting,
            since: now,
            started: now,
            kind: task.kind,
            inputs: 0,
            asked_inputs: false,
            listening: true,
            reported: false,
            gone: false,
        }
    }

    /// A later one.
    pub(crate) fn again(idle: Idle, grant: Grant, task: &Task) -> Self {
        let Idle { first, zone, slot, stats: before, .. } = idle;
        let peak = fresh_peak(zone.cgroup.directory());
        let entry = Self::new(zone, grant, slot, task);
        // What it says first is how it went: that it has started is said once.
        Self { first, before, peak, state: State::Running, ..entry }
    }

    /// What the attempt used, of all that its zone has.
    fn usage(&self, stats: &Stats) -> Usage {
        let peak = self.peak.as_ref().and_then(|file| {
            let mut text = [0; NUMBER_BYTES];
            let got = file.read_at(&mut text, 0).ok()?;
            std::str::from_utf8(&text[..got]).ok()?.trim().parse().ok()
        });
        Usage {
            wall_us: micros(self.started),
            cpu_us: stats.cpu_us.saturating_sub(self.before.cpu_us),
            memory_peak_bytes: peak.unwrap_or(stats.memory_peak_bytes),
        }
    }

    /// The account that pays.
    pub(crate) const fn account(&self) -> u32 {
        self.grant.account
    }

    /// Whether its zone is made from this image.
    pub(crate) fn uses(&self, image: &str) -> bool {
        self.grant.image == image
    }

    /// Its first process's socket, as long as something may come from it.
    pub(crate) fn control(&self) -> Option<BorrowedFd<'_>> {
        self.listening.then(|| self.zone.control.as_fd())
    }

    /// Readable when the zone is gone, until that is known.
    pub(crate) fn process(&self) -> Option<BorrowedFd<'_>> {
        (!self.gone).then(|| self.zone.pidfd.as_fd())
    }

    pub(crate) fn status(&self, attempt: AttemptId) -> ZoneStatus {
        let Measured { cpu_us, memory_bytes, .. } = self.zone.cgroup.measure();
        let cpu_us = cpu_us.saturating_sub(self.before.cpu_us);
        ZoneStatus {
            attempt,
            job: self.grant.job,
            phase: self.grant.phase,
            account: self.grant.account,
            running_us: micros(self.started),
            memory_mib: self.grant.memory_mib,
            memory_bytes,
            cpu_us,
        }
    }

    /// What it has used and met so far.
    pub(crate) fn stats(&self) -> wire::standing::Stats {
        self.zone.cgroup.stats()
    }

    fn order(&self, order: &Order, fds: &[BorrowedFd<'_>]) -> Result<(), String> {
        let message = encode(Kind::Push, 0, order, fds.len()).map_err(|error| chain(&error))?;
        match self.zone.control.send(&message, fds) {
            // It is ending: that will be seen by its pidfd.
            Ok(()) | Err(SendError::Closed) => Ok(()),
            Err(error) => Err(chain(&error)),
        }
    }

    /// The next report; none if there is none, or never will be.
    fn report(&mut self) -> Result<Option<Report>, String> {
        let mut message = Vec::new();
        let fds = match self.zone.control.recv(&mut message) {
            Ok(Some(fds)) => fds,
            Ok(None) => {
                self.listening = false;
                return Ok(None);
            }
            Err(RecvError::Empty) => return Ok(None),
            Err(error) => return Err(chain(&error)),
        };
        let frame = Frame::parse(&message, fds.len()).map_err(|error| chain(&error))?;
        frame.body().map(Some).map_err(|error| chain(&error))
    }
}

/// The bytes in all these files.
pub(crate) fn size_of_all(files: &[OwnedFd]) -> u64 {
    // One that can't be asked counts nothing: nobody pays for what is not known.
    let size = |file: &OwnedFd| nix::sys::stat::fstat(file).map_or(0, |found| found.st_size);
    files.iter().map(|file| u64::try_from(size(file)).unwrap_or(0)).sum()
}

/// The cgroup's `memory.peak`, which counts from now on for whoever reads it by this descriptor; none where
/// there is no such file, or a kernel that can't.
fn fresh_peak(cgroup: BorrowedFd<'_>) -> Option<File> {
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let file: File = openat(cgroup, "memory.peak", flags, Mode::empty()).ok()?.into();
    file.write_at(b"reset\n", 0).ok()?;
    Some(file)
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl Daemon {
    /// Takes in what a zone has said: all of it, unless it goes on saying more.
    pub(crate) fn hear_zone(&mut self, attempt: AttemptId) {
        for _ in 0..WORDS_A_TURN {
            let Some(entry) = self.zones.get_mut(&attempt).filter(|entry| entry.listening) else {
                return;
            };
            match entry.report() {
                Ok(Some(Report::Started)) => self.happen(attempt, Event::Started),
                Ok(Some(Report::Over(outcome))) => self.over(attempt, outcome),
                Ok(Some(Report::MoreInputs)) => self.ask_inputs(attempt),
                Ok(Some(
                    Report::Restarted { .. }
                    | Report::SessionOver { .. }
                    | Report::Standing { .. }
                    | Report::Publish { .. },
                )) => {
                    self.rubbish(attempt, "it speaks as a standing zone does".to_owned());
                }
                Ok(None) => return,
                Err(message) => {
                    self.rubbish(attempt, format!("its first process spoke nonsense: {message}"));
                }
            }
        }
    }

    /// A task is over: its zone ends, or stays for another one.
    fn over(&mut self, attempt: AttemptId, outcome: Outcome) {
        let Some(entry) = self.zones.get_mut(&attempt).filter(|entry| !entry.reported) else {
            return;
        };
        entry.reported = true;
        let project = entry.slot.project();
        self.look_up(project, |full| Written::Over(attempt, outcome, full));
    }

    /// What the kernel knows of how a task was that is over.
    pub(crate) fn over_looked_up(&mut self, attempt: AttemptId, outcome: Outcome, full: bool) {
        let Some(facts) = self.facts(attempt, full) else { return };
        let event = if may_stay(&outcome, facts.out_of_memory) {
            Event::Done(outcome, facts)
        } else {
            Event::Over(outcome)
        };
        self.happen(attempt, event);
    }

    /// A zone's first process has ended, and every other one with it.
    pub(crate) fn zone_gone(&mut self, attempt: AttemptId) {
        self.hear_zone(attempt);
        let Some(entry) = self.zones.get_mut(&attempt) else { return };
        entry.gone = true;
        let project = entry.slot.project();
        self.look_up(project, |full| Written::Gone(attempt, full));
    }

    /// What the kernel knows of how a zone was that is gone. Its instance may have been kept before that was seen, and is
    /// gone as one.
    pub(crate) fn gone_looked_up(&mut self, attempt: AttemptId, full: bool) {
        let Some(entry) = self.zones.get(&attempt).filter(|entry| entry.gone) else { return };
        if let Err(error) = reap(entry.zone.pidfd.as_fd()) {
            eprintln!("zoned: cannot reap the zone of attempt {}: {error}", attempt.0);
        }
        if let Some(facts) = self.facts(attempt, full) {
            self.happen(attempt, Event::Gone(facts));
        }
    }

    fn facts(&self, attempt: AttemptId, out_of_disk: bool) -> Option<Facts> {
        let entry = self.zones.get(&attempt)?;
        Some(Facts { out_of_memory: entry.zone.cgroup.measure().out_of_memory, out_of_disk })
    }

    /// A zone, or storaged about it, said what makes no sense: the zone is heard no more.
    pub(crate) fn rubbish(&mut self, attempt: AttemptId, message: String) {
        eprintln!("zoned: attempt {}: {message}", attempt.0);
        if let Some(entry) = self.zones.get_mut(&attempt) {
            entry.listening = false;
        }
        self.happen(attempt, Event::Rubbish(message));
    }

    /// Ends the attempts of a cancelled job.
    pub(crate) fn cancel(&mut self, job: JobId) {
        let of_job =
            |(attempt, entry): (&AttemptId, &Entry)| (entry.grant.job == job).then_some(*attempt);
        let attempts: Vec<AttemptId> = self.zones.iter().filter_map(of_job).collect();
        attempts.into_iter().for_each(|attempt| self.happen(attempt, Event::Cancel));
        self.cool(job);
    }

    /// Ends all attempts, and tells nobody.
    pub(crate) fn kill_all(&mut self) {
        let attempts: Vec<AttemptId> = self.zones.keys().copied().collect();
        attempts.into_iter().for_each(|attempt| self.happen(attempt, Event::LinkLost));
        self.cool_all();
    }

    /// Hands a reducer its next inputs.
    pub(crate) fn feed(&mut self, attempt: AttemptId, fds: &[OwnedFd], end: bool) {
        let Some(entry) = self.zones.get_mut(&attempt) else { return };
        entry.asked_inputs = false;
        entry.inputs += fds.len() as u64;
        self.meter.delivered(&Key::Task(attempt), size_of_all(fds));
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        if let Err(message) = entry.order(&Order::Inputs { end }, &fds) {
            self.rubbish(attempt, format!("its first process does not take inputs: {message}"));
        }
    }

    /// Looks after what is overdue, and after cgroups that were busy.
    pub(crate) fn tidy(&mut self) {
        let limit = Duration::from_millis(CHANGE_MS_MAX);
        let late: Vec<AttemptId> = self
            .zones
            .iter()
            .filter(|(_, entry)| entry.since.elapsed() > limit)
            .map(|(attempt, _)| *attempt)
            .collect();
        for attempt in late {
            self.happen(attempt, Event::Overdue("the zone did not start, or end, in a minute"));
        }
        if let Err(error) = self.cgroups.tidy(Instant::now()) {
            eprintln!("zoned: {}", chain(&error));
        }
        self.tidy_warm();
        self.garbage.retain(|cgroup| match cgroup.remove() {
            Ok(removed) => !removed,
            Err(error) => {
                eprintln!("zoned: {}", chain(&error));
                false
            }
        });
    }

    fn ask_inputs(&mut self, attempt: AttemptId) {
        let Some(entry) = self.zones.get_mut(&attempt) else { return };
        if entry.kind != PhaseKind::Reduce || entry.asked_inputs {
            return self
                .rubbish(attempt, "its first process asks for inputs it can't have".to_owned());
        }
        entry.asked_inputs = true;
        let request = Request::NextInputs { attempt, from: entry.inputs };
        if let Err((error, _)) = self.link.ask(&request, Asked::Inputs { attempt }) {
            self.lose_link(&chain(&error));
        }
    }

    /// Moves an attempt to its next state and does what that asks for.
    fn happen(&mut self, attempt: AttemptId, event: Event) {
        let Some(entry) = self.zones.get_mut(&attempt) else { return };
        let (state, action) = step(&entry.state, event);
        if state != entry.state {
            entry.state = state;
            entry.since = Instant::now();
        }
        match action {
            None => {}
            Some(Action::Acknowledge) => {
                if let Err(message) = entry.order(&Order::Acknowledged, &[]) {
                    eprintln!("zoned: attempt {}: {message}", attempt.0);
                }
            }
            Some(Action::Kill) => {
                // The first process's end is the end of all; the cgroup makes sure of it.
                let killed = kill(entry.zone.pidfd.as_fd(), libc::SIGKILL);
                if let Err(error) = entry.zone.cgroup.kill() {
                    eprintln!("zoned: {}", chain(&error));
                }
                if let Err(error) = killed {
                    eprintln!("zoned: cannot kill the zone of attempt {}: {error}", attempt.0);
                }
            }
            Some(Action::Settle(ending)) => {
                if let Some((slot, usage)) = self.clear(attempt, &how(&ending)) {
                    self.settle(attempt, Some(slot), ending, usage);
                }
            }
            Some(Action::Keep(ending)) => {
                if let Some((entry, stats, usage)) = self.strike(attempt, &how(&ending)) {
                    self.settle(attempt, None, ending, usage);
                    let Entry { first, zone, slot, kin, .. } = entry;
                    let since = Instant::now();
                    self.keep_warm(Idle { first, zone, slot, kin, stats, since });
                }
            }
            Some(Action::Forget) => {
                let how = "the connection to the store ended";
                if let Some((slot, _)) = self.clear(attempt, how) {
                    self.put_back(slot);
                }
            }
        }
    }

    /// Takes an attempt that is over out of the books; gives what its zone has used, and what the attempt.
    fn strike(&mut self, attempt: AttemptId, how: &str) -> Option<(Entry, Stats, Usage)> {
        let entry = self.zones.remove(&attempt)?;
        let stats = entry.zone.cgroup.stats();
        let usage = entry.usage(&stats);
        self.meter.end(&Key::Task(attempt), &stats, how);
        self.scheduler.advance(self.now_us());
        self.scheduler.release(&entry.grant);
        Some((entry, stats, usage))
    }

    /// Takes a zone that is gone out of the books; gives its slot and what its attempt used.
    fn clear(&mut self, attempt: AttemptId, how: &str) -> Option<(Slot, Usage)> {
        let (entry, _, usage) = self.strike(attempt, how)?;
        self.garbage.push(entry.zone.cgroup);
        Some((entry.slot, usage))
    }
}
