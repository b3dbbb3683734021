//! Which task runs next: fair shares between accounts, in turn between an account's jobs.
//!
//! Pure: it is told what storaged has ready, what ended and what time it is, and says what to claim.
//!
//! Each account has a virtual time, which runs while its zones do: by the larger of the shares of places
//! and of memory that they hold, divided by the account's weight. The account with the least virtual
//! time is next, so that what counts is what was used, not how many tasks or jobs there are. An account
//! that was idle comes in at the time of the others: sleeping earns nothing, and neither does coming
//! back. The task whose turn it is waits for its memory, and the others wait behind it, or a large task
//! would never see enough of it at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use wire::job::JobId;
use wire::task::Runnable;

/// The weight of an account until accounts have weights of their own.
pub const WEIGHT: u64 = 100;
/// How long a task is taken to run before it has: without it an account whose turn it is would get every
/// free place at once.
const QUANTUM_US: u64 = 1_000_000;
/// The unit of shares: millionths of all places, or of all memory.
const WHOLE: u64 = 1_000_000;

/// How much may run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Zones.
    pub zones: u32,
    /// The sum of their memory limits, in MiB.
    pub memory_mib: u64,
}

/// A task to be claimed, and what it takes until it is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its job.
    pub job: JobId,
    /// Its phase, from 0.
    pub phase: u32,
    /// The account that pays.
    pub account: u32,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Disk, in GiB.
    pub disk_gib: u32,
    /// The zone image.
    pub image: String,
}

/// What is ready, what runs, and whose turn it is.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    accounts: BTreeMap<u32, Account>,
    zones: u32,
    memory_mib: u64,
    /// The least virtual time of an active account, never going back.
    floor: u128,
    now_us: u64,
    /// Images that are not there yet: their tasks wait, and hold up no others.
    held: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Account {
    virtual_time: u128,
    /// The share of what runs, in millionths.
    share: u64,
    zones: u32,
    /// Ready tasks, by job and phase.
    jobs: BTreeMap<JobId, BTreeMap<u32, Runnable>>,
    /// Whose turn it is among the jobs.
    turns: VecDeque<JobId>,
}

impl Scheduler {
    /// A scheduler that knows of nothing yet; at least one zone may run.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let limits = Limits { zones: limits.zones.max(1), memory_mib: limits.memory_mib.max(1) };
        let (accounts, held) = (BTreeMap::new(), BTreeSet::new());
        Self { limits, accounts, zones: 0, memory_mib: 0, floor: 0, now_us: 0, held }
    }

    /// How much may run at once.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Memory that running zones were granted, in MiB.
    #[must_use]
    pub const fn memory_mib(&self) -> u64 {
        self.memory_mib
    }

    /// Tasks that are ready and wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.accounts.values().flat_map(Account::entries).map(|entry| entry.ready).sum()
    }

    /// Lets time pass, up to `now_us` of a clock that never goes back.
    pub fn advance(&mut self, now_us: u64) {
        let passed = now_us.saturating_sub(self.now_us);
        self.now_us = self.now_us.max(now_us);
        for account in self.accounts.values_mut() {
            account.virtual_time +=
                u128::from(account.share) * u128::from(passed) / u128::from(WEIGHT);
        }
        self.settle();
    }

    /// Takes what storaged says is ready; each entry replaces what was known of its job and phase.
    pub fn update(&mut self, entries: Vec<Runnable>) {
        for entry in entries {
            let floor = self.floor;
            let account = self.accounts.entry(entry.account).or_default();
            if !account.is_active() {
                account.virtual_time = account.virtual_time.max(floor);
            }
            account.put(entry);
        }
        self.settle();
    }

    /// Forgets a job's ready tasks: it was cancelled.
    pub fn forget(&mut self, job: JobId) {
        for account in self.accounts.values_mut() {
            account.jobs.remove(&job);
            account.turns.retain(|other| *other != job);
        }
        self.settle();
    }

    /// Forgets all ready tasks: storaged is gone.
    pub fn forget_all(&mut self) {
        for account in self.accounts.values_mut() {
            account.jobs.clear();
            account.turns.clear();
        }
        self.settle();
    }

    /// Storaged had no such task any more.
    pub fn nothing_ready(&mut self, grant: &Grant) {
        if let Some(account) = self.accounts.get_mut(&grant.account) {
            account.remove(grant.job, grant.phase);
        }
        self.settle();
    }

    /// What [`Self::pick`] would give.
    #[must_use]
    pub fn next(&self) -> Option<Grant> {
        let account = self.accounts.get(&self.whose_turn()?)?;
        let entry = account.first(&self.held)?;
        let memory = self.memory_mib + u64::from(entry.memory_mib);
        let fits = self.zones < self.limits.zones && memory <= self.limits.memory_mib;
        // A task that asks for more than there is runs alone rather than never.
        (fits || self.zones == 0).then(|| entry.into())
    }

    /// The next task to claim, if one is ready and there is room for it; it counts as running from now.
    pub fn pick(&mut self) -> Option<Grant> {
        let grant = self.next()?;
        let account = self.accounts.get_mut(&grant.account)?;
        account.take(&grant);
        account.share += share(self.limits, &grant);
        account.zones += 1;
        self.zones += 1;
        self.memory_mib += u64::from(grant.memory_mib);
        Some(grant)
    }

    /// Tasks of this image wait until [`Self::review`] lets them go.
    pub fn hold(&mut self, image: String) {
        self.held.insert(image);
    }

    /// Looks again at the images that are held, and keeps those of which this is still true.
    pub fn review(&mut self, mut is_awaited: impl FnMut(&str) -> bool) {
        self.held.retain(|image| is_awaited(image));
    }

    /// Whether tasks wait for their image.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// What was granted is over, or never began.
    pub fn release(&mut self, grant: &Grant) {
        self.zones -= 1;
        self.memory_mib -= u64::from(grant.memory_mib);
        if let Some(account) = self.accounts.get_mut(&grant.account) {
            account.share -= share(self.limits, grant);
            account.zones -= 1;
        }
        self.settle();
    }

    fn whose_turn(&self) -> Option<u32> {
        let ready = self.accounts.iter().filter(|(_, account)| account.first(&self.held).is_some());
        ready.min_by_key(|(_, account)| account.claim()).map(|(id, _)| *id)
    }

    /// Moves the floor up, and forgets accounts that have nothing and owe nothing.
    fn settle(&mut self) {
        let active = self.accounts.values().filter(|account| account.is_active());
        if let Some(least) = active.map(|account| account.virtual_time).min() {
            self.floor = self.floor.max(least);
        }
        let floor = self.floor;
        self.accounts.retain(|_, account| account.is_active() || account.virtual_time > floor);
    }
}

/// The larger of the shares of places and of memory, in millionths.
fn share(limits: Limits, grant: &Grant) -> u64 {
    let place = WHOLE / u64::from(limits.zones);
    let memory = u64::from(grant.memory_mib) * WHOLE / limits.memory_mib;
    place.max(memory).max(1)
}

impl Account {
    fn is_active(&self) -> bool {
        self.zones > 0 || !self.jobs.is_empty()
    }

    /// Its virtual time, with what it has just begun counted ahead.
    fn claim(&self) -> u128 {
        let ahead = u128::from(self.share) * u128::from(QUANTUM_US) / u128::from(WEIGHT);
        self.virtual_time + ahead
    }

    fn entries(&self) -> impl Iterator<Item = &Runnable> {
        self.jobs.values().flat_map(BTreeMap::values)
    }

    fn put(&mut self, entry: Runnable) {
        let (job, phase) = (entry.job, entry.phase);
        if entry.ready == 0 {
            self.remove(job, phase);
            return;
        }
        if self.jobs.entry(job).or_default().insert(phase, entry).is_none()
            && !self.turns.contains(&job)
        {
            self.turns.push_back(job);
        }
    }

    fn remove(&mut self, job: JobId, phase: u32) {
        if let Some(phases) = self.jobs.get_mut(&job) {
            phases.remove(&phase);
            if phases.is_empty() {
                self.jobs.remove(&job);
                self.turns.retain(|other| *other != job);
            }
        }
    }

    /// The entry whose turn it is: of the first job the latest phase, so that what was begun is ended. Those of
    /// images that are held have no turn.
    fn first(&self, held: &BTreeSet<String>) -> Option<&Runnable> {
        let latest = |job| {
            let phases: &BTreeMap<u32, Runnable> = self.jobs.get(job)?;
            phases.values().rfind(|entry| !held.contains(&entry.image))
        };
        self.turns.iter().find_map(latest)
    }

    /// Counts one task of what was granted less, and gives the turn to the next job.
    fn take(&mut self, grant: &Grant) {
        let phases = self.jobs.get(&grant.job);
        if let Some(entry) = phases.and_then(|phases| phases.get(&grant.phase)).cloned() {
            self.turns.retain(|job| *job != grant.job);
            self.turns.push_back(grant.job);
            self.put(Runnable { ready: entry.ready - 1, ..entry });
        }
    }
}

impl From<&Runnable> for Grant {
    fn from(entry: &Runnable) -> Self {
        let Runnable { job, phase, account, memory_mib, disk_gib, image, ready: _ } = entry.clone();
        Self { job, phase, account, memory_mib, disk_gib, image }
    }
}

#[cfg(test)]
mod test;
