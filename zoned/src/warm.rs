//! Instances: zones that have run a task and wait a little for the next one of the same job and phase.
//!
//! What makes a zone takes a hundred times as long as what hands it a task. As in Manta, `init` runs once an
//! instance, and what a task leaves in the zone's files the next one of its kin finds; nothing of it
//! survives into another phase, job or account. An instance is let go when nobody came for a while, when
//! its slot is wanted, and with the connection.

use crate::chain;
use crate::daemon::Daemon;
use crate::scheduler::Grant;
use crate::slot::Slot;
use crate::zone::Zone;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};
use sys::clone::{kill, reap};
use wire::job::{JobId, PhaseKind};
use wire::standing::Stats;
use wire::task::{AttemptId, Task};
use wire::zone::Outcome;

/// How long an instance is kept without a task. The next one comes within the time of a commit if there is
/// one; making a new zone takes about a millisecond, so that there is little to be won by waiting longer.
const HOLD_MS: u64 = 1_000;

/// What tasks have in common that may run in one instance, one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kin {
    job: JobId,
    phase: u32,
    kind: PhaseKind,
    account: u32,
    memory_mib: u32,
    image: String,
    init: Option<String>,
    assets: Vec<String>,
}

impl Kin {
    pub(crate) fn of(task: &Task) -> Self {
        Self {
            job: task.job,
            phase: task.phase,
            kind: task.kind,
            account: task.account,
            memory_mib: task.memory_mib,
            image: task.image.clone(),
            init: task.init.clone(),
            assets: task.assets.clone(),
        }
    }

    /// Whether a task of this grant can be of this kin: what is known before the task itself is.
    fn suits(&self, grant: &Grant) -> bool {
        (self.job, self.phase, self.account) == (grant.job, grant.phase, grant.account)
            && self.memory_mib == grant.memory_mib
            && self.image == grant.image
    }
}

/// Whether a zone may be kept whose task ended like this: what broke it might break the next task too.
pub(crate) const fn may_stay(outcome: &Outcome, out_of_memory: bool) -> bool {
    matches!(outcome, Outcome::Exited { .. } | Outcome::Signalled { .. }) && !out_of_memory
}

/// An instance without a task.
#[derive(Debug)]
pub(crate) struct Idle {
    /// The attempt for which the zone was made: it names the instance.
    pub(crate) first: AttemptId,
    pub(crate) zone: Zone,
    pub(crate) slot: Slot,
    pub(crate) kin: Kin,
    /// What it has used so far.
    pub(crate) stats: Stats,
    /// Since when it waits.
    pub(crate) since: Instant,
}

/// All instances without a task.
#[derive(Debug, Default)]
pub(crate) struct Warm {
    waiting: BTreeMap<AttemptId, Idle>,
    /// Killed, and not gone yet.
    ending: BTreeMap<AttemptId, Idle>,
}

impl Warm {
    /// Whether there is anything to be looked after.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.ending.is_empty()
    }

    /// Takes the instance for a task of this grant: the one used last, whose memory is the warmest.
    pub(crate) fn take(&mut self, grant: &Grant) -> Option<Idle> {
        let suiting = self.waiting.values().filter(|idle| idle.kin.suits(grant));
        let first = suiting.max_by_key(|idle| idle.since)?.first;
        self.waiting.remove(&first)
    }

    /// The first processes of all, to be watched.
    pub(crate) fn processes(&self) -> impl Iterator<Item = (AttemptId, BorrowedFd<'_>)> {
        let all = self.waiting.iter().chain(&self.ending);
        all.map(|(first, idle)| (*first, idle.zone.pidfd.as_fd()))
    }

    /// Those that have waited for longer than they may.
    fn overdue(&self, now: Instant) -> Vec<AttemptId> {
        let hold = Duration::from_millis(HOLD_MS);
        let late = |idle: &&Idle| now.saturating_duration_since(idle.since) >= hold;
        self.waiting.values().filter(late).map(|idle| idle.first).collect()
    }

    fn longest_waiting(&self) -> Option<AttemptId> {
        self.waiting.values().min_by_key(|idle| idle.since).map(|idle| idle.first)
    }

    fn of_job(&self, job: JobId) -> Vec<AttemptId> {
        self.waiting.values().filter(|idle| idle.kin.job == job).map(|idle| idle.first).collect()
    }
}

impl Daemon {
    /// Keeps an instance whose task is over for the next one.
    pub(crate) fn keep_warm(&mut self, mut idle: Idle) {
        match self.launcher.stay(&mut idle.zone) {
            Ok(()) => {
                self.warm.waiting.insert(idle.first, idle);
            }
            Err(error) => {
                eprintln!("zoned: instance {}: {}", idle.first.0, chain(&error));
                self.end_instance(idle);
            }
        }
    }

    /// Puts an instance back whose turn came to nothing.
    pub(crate) fn unused(&mut self, idle: Idle) {
        self.unlimit(&idle.slot);
        self.warm.waiting.insert(idle.first, idle);
    }

    /// Lets one instance go, so that somebody else may have its slot.
    pub(crate) fn make_room(&mut self) {
        // One at a time: its slot is on its way.
        if !self.warm.ending.is_empty() {
            return;
        }
        if let Some(first) = self.warm.longest_waiting() {
            self.let_go(first);
        }
    }

    /// Lets go of those that nobody came for.
    pub(crate) fn tidy_warm(&mut self) {
        self.warm.overdue(Instant::now()).into_iter().for_each(|first| self.let_go(first));
    }

    /// Lets go of those of a cancelled job.
    pub(crate) fn cool(&mut self, job: JobId) {
        self.warm.of_job(job).into_iter().for_each(|first| self.let_go(first));
    }

    /// Lets go of all: nobody will send tasks for them.
    pub(crate) fn cool_all(&mut self) {
        let all: Vec<AttemptId> = self.warm.waiting.keys().copied().collect();
        all.into_iter().for_each(|first| self.let_go(first));
    }

    fn let_go(&mut self, first: AttemptId) {
        if let Some(idle) = self.warm.waiting.remove(&first) {
            self.end_instance(idle);
        }
    }

    /// Kills an instance that runs no task; its slot comes back when it is gone.
    pub(crate) fn end_instance(&mut self, idle: Idle) {
        // The first process's end is the end of all, and there is no other.
        if let Err(error) = kill(idle.zone.pidfd.as_fd(), libc::SIGKILL) {
            eprintln!("zoned: cannot kill instance {}: {error}", idle.first.0);
        }
        self.warm.ending.insert(idle.first, idle);
    }

    /// An instance's first process has ended: it was let go, or fell.
    pub(crate) fn instance_gone(&mut self, first: AttemptId) {
        let waiting = self.warm.waiting.remove(&first);
        let Some(idle) = waiting.or_else(|| self.warm.ending.remove(&first)) else { return };
        if let Err(error) = reap(idle.zone.pidfd.as_fd()) {
            eprintln!("zoned: cannot reap instance {}: {error}", first.0);
        }
        self.garbage.push(idle.zone.cgroup);
        self.put_back(idle.slot);
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn task() -> Task {
        Task {
            attempt: AttemptId(7),
            job: JobId(uuid::Uuid::from_u128(1)),
            phase: 0,
            kind: PhaseKind::Map,
            account: 1,
            login: "ann".to_owned(),
            exec: "wc".to_owned(),
            init: None,
            input: Some("/ann/stor/x".to_owned()),
            assets: Vec::new(),
            environment: Vec::new(),
            memory_mib: 1024,
            disk_gib: 8,
            image: "base".to_owned(),
        }
    }

    fn grant() -> Grant {
        let Task { job, phase, account, memory_mib, disk_gib, image, .. } = task();
        Grant { job, phase, account, memory_mib, disk_gib, image }
    }

    #[test]
    fn an_instance_is_for_its_own_job_phase_account_size_and_image_alone() {
        let kin = Kin::of(&task());
        assert!(kin.suits(&grant()));
        let other = JobId(uuid::Uuid::from_u128(2));
        assert!(!kin.suits(&Grant { job: other, ..grant() }));
        assert!(!kin.suits(&Grant { phase: 1, ..grant() }));
        assert!(!kin.suits(&Grant { account: 2, ..grant() }));
        assert!(!kin.suits(&Grant { memory_mib: 512, ..grant() }));
        assert!(!kin.suits(&Grant { image: "media".to_owned(), ..grant() }));
    }

    #[test]
    fn tasks_with_other_assets_or_another_init_are_no_kin() {
        let kin = Kin::of(&task());
        let another = Task { exec: "cat".to_owned(), attempt: AttemptId(8), ..task() };
        assert_eq!(kin, Kin::of(&another));
        assert_ne!(kin, Kin::of(&Task { init: Some("make".to_owned()), ..task() }));
        assert_ne!(kin, Kin::of(&Task { assets: vec!["/ann/stor/a".to_owned()], ..task() }));
        assert_ne!(kin, Kin::of(&Task { kind: PhaseKind::Reduce, ..task() }));
    }

    #[test]
    fn a_zone_that_was_killed_or_broke_is_not_kept() {
        assert!(may_stay(&Outcome::Exited { code: 3 }, false));
        assert!(may_stay(&Outcome::Signalled { signal: 9 }, false));
        assert!(!may_stay(&Outcome::Exited { code: 0 }, true));
        assert!(!may_stay(&Outcome::Broken { message: String::new() }, false));
        assert!(!may_stay(&Outcome::InitFailed { message: String::new() }, false));
    }
}
