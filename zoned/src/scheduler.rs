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

use std::collections::{BTreeMap, VecDeque};
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
        let accounts = BTreeMap::new();
        Self { limits, accounts, zones: 0, memory_mib: 0, floor: 0, now_us: 0 }
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
        let entry = account.first()?;
        let memory = self.memory_mib + u64::from(entry.memory_mib);
        let fits = self.zones < self.limits.zones && memory <= self.limits.memory_mib;
        // A task that asks for more than there is runs alone rather than never.
        (fits || self.zones == 0).then(|| entry.into())
    }

    /// The next task to claim, if one is ready and there is room for it; it counts as running from now.
    pub fn pick(&mut self) -> Option<Grant> {
        let grant = self.next()?;
        let account = self.accounts.get_mut(&grant.account)?;
        account.take();
        account.share += share(self.limits, &grant);
        account.zones += 1;
        self.zones += 1;
        self.memory_mib += u64::from(grant.memory_mib);
        Some(grant)
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
        let ready = self.accounts.iter().filter(|(_, account)| !account.jobs.is_empty());
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

    /// The entry whose turn it is: of the first job the latest phase, so that what was begun is ended.
    fn first(&self) -> Option<&Runnable> {
        self.jobs.get(self.turns.front()?)?.values().next_back()
    }

    /// Counts one task of the first entry less, and gives the turn to the next job.
    fn take(&mut self) {
        if let Some(entry) = self.first().cloned() {
            self.turns.rotate_left(1);
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
mod test {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn runnable(account: u32, job: u128, phase: u32, ready: u64, memory_mib: u32) -> Runnable {
        let job = JobId(Uuid::from_u128(job));
        Runnable { job, phase, account, ready, memory_mib, disk_gib: 8, image: "base".to_owned() }
    }

    fn scheduler(zones: u32, memory_mib: u64) -> Scheduler {
        Scheduler::new(Limits { zones, memory_mib })
    }

    fn accounts(grants: &[Grant]) -> Vec<u32> {
        grants.iter().map(|grant| grant.account).collect()
    }

    fn all(scheduler: &mut Scheduler) -> Vec<Grant> {
        std::iter::from_fn(|| scheduler.pick()).collect()
    }

    #[test]
    fn free_places_are_dealt_out_in_turn_whatever_the_numbers_of_tasks() {
        let mut s = scheduler(4, 1 << 20);
        s.update(vec![runnable(1, 10, 0, 1000, 1), runnable(2, 20, 0, 3, 1)]);
        assert_eq!(accounts(&all(&mut s)), [1, 2, 1, 2]);
    }

    #[test]
    fn an_account_gains_nothing_by_many_jobs() {
        let mut s = scheduler(4, 1 << 20);
        s.update((0..50).map(|job| runnable(1, job, 0, 9, 1)).collect());
        s.update(vec![runnable(2, 100, 0, 9, 1)]);
        assert_eq!(accounts(&all(&mut s)), [1, 2, 1, 2]);
    }

    #[test]
    fn jobs_of_an_account_take_turns_and_later_phases_go_first() {
        let mut s = scheduler(5, 1 << 20);
        let entries =
            vec![runnable(1, 10, 0, 9, 1), runnable(1, 10, 1, 1, 1), runnable(1, 20, 0, 1, 1)];
        s.update(entries);
        let got: Vec<(u128, u32)> =
            all(&mut s).iter().map(|grant| (grant.job.0.as_u128(), grant.phase)).collect();
        assert_eq!(got, [(10, 1), (20, 0), (10, 0), (10, 0), (10, 0)]);
    }

    #[test]
    fn a_large_task_waits_for_its_memory_and_is_not_overtaken() {
        let mut s = scheduler(8, 1000);
        s.update(vec![runnable(1, 10, 0, 1, 600)]);
        let first = s.pick().unwrap();
        s.update(vec![runnable(2, 20, 0, 1, 600), runnable(1, 11, 0, 5, 10)]);
        assert_eq!(s.pick(), None);
        s.advance(1_000_000);
        s.release(&first);
        assert_eq!(s.pick().map(|grant| grant.account), Some(2));
    }

    #[test]
    fn a_task_that_asks_for_more_than_there_is_runs_alone() {
        let mut s = scheduler(8, 100);
        s.update(vec![runnable(1, 10, 0, 2, 8192)]);
        let first = s.pick().unwrap();
        assert_eq!(s.pick(), None);
        s.release(&first);
        assert!(s.pick().is_some());
    }

    #[test]
    fn who_comes_late_shares_from_then_on_and_is_owed_nothing() {
        let mut s = scheduler(2, 1 << 20);
        s.update(vec![runnable(1, 10, 0, 1000, 1)]);
        let mut running = all(&mut s);
        s.advance(3_600_000_000);
        s.update(vec![runnable(2, 20, 0, 1000, 1)]);
        let mut served = Vec::new();
        for second in 0..100 {
            s.advance(3_600_000_000 + second * 1_000_000);
            running.drain(..).for_each(|grant| s.release(&grant));
            running = all(&mut s);
            served.extend(accounts(&running));
        }
        let late = served.iter().filter(|&&account| account == 2).count();
        assert!((90..=110).contains(&late), "{late} of {}", served.len());
    }

    #[test]
    fn what_storaged_has_no_more_is_not_asked_for_again() {
        let mut s = scheduler(4, 1 << 20);
        s.update(vec![runnable(1, 10, 0, 5, 1)]);
        let grant = s.pick().unwrap();
        s.nothing_ready(&grant);
        s.release(&grant);
        assert_eq!((s.pick(), s.waiting(), s.memory_mib()), (None, 0, 0));
    }

    #[test]
    fn a_cancelled_job_is_forgotten() {
        let mut s = scheduler(4, 1 << 20);
        s.update(vec![runnable(1, 10, 0, 5, 1), runnable(1, 20, 0, 1, 1)]);
        s.forget(JobId(Uuid::from_u128(10)));
        assert_eq!((all(&mut s).len(), s.waiting()), (1, 0));
    }

    #[derive(Debug, Clone)]
    enum Event {
        Update(Runnable),
        Next,
        Release(usize),
        NothingReady(usize),
        Advance(u64),
        Forget(u128),
        ForgetAll,
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0..3_u32, 0..3_u128, 0..2_u32, 0..5_u64, 1..2000_u32).prop_map(
                |(account, job, phase, ready, memory)| {
                    Event::Update(runnable(account, u128::from(account) * 10 + job, phase, ready, memory))
                }
            ),
            6 => Just(Event::Next),
            4 => any::<usize>().prop_map(Event::Release),
            1 => any::<usize>().prop_map(Event::NothingReady),
            2 => (0..10_000_000_u64).prop_map(Event::Advance),
            1 => (0..33_u128).prop_map(Event::Forget),
            1 => Just(Event::ForgetAll),
        ]
    }

    proptest! {
        #[test]
        fn limits_hold_and_something_always_runs(events in prop::collection::vec(any_event(), 1..200)) {
            let mut s = scheduler(4, 3000);
            let mut running: Vec<Grant> = Vec::new();
            let mut now = 0;
            for event in events {
                match event {
                    Event::Update(entry) => s.update(vec![entry]),
                    Event::Next => {
                        let waiting = s.waiting();
                        let got = s.pick();
                        prop_assert!(got.is_some() || !running.is_empty() || waiting == 0);
                        prop_assert_eq!(s.waiting() + u64::from(got.is_some()), waiting);
                        running.extend(got);
                    }
                    Event::Release(at) if !running.is_empty() => {
                        let grant = running.swap_remove(at % running.len());
                        s.release(&grant);
                    }
                    Event::NothingReady(at) if !running.is_empty() => {
                        let grant = running.swap_remove(at % running.len());
                        s.nothing_ready(&grant);
                        s.release(&grant);
                    }
                    Event::Release(_) | Event::NothingReady(_) => {}
                    Event::Advance(by) => {
                        now += by;
                        s.advance(now);
                    }
                    Event::Forget(job) => s.forget(JobId(Uuid::from_u128(job))),
                    Event::ForgetAll => s.forget_all(),
                }
                let memory: u64 = running.iter().map(|grant| u64::from(grant.memory_mib)).sum();
                prop_assert_eq!(s.memory_mib(), memory);
                prop_assert!(running.len() <= 4);
                prop_assert!(memory <= 3000 || running.len() == 1);
            }
        }

    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn over_time_accounts_get_the_same_whatever_their_tasks_take(
            durations in prop::collection::vec(1..20_u64, 3),
            jobs in prop::collection::vec(1..20_u128, 3),
        ) {
            // Three accounts that always have work, each with tasks of its own length and number of jobs.
            let mut s = scheduler(4, 1 << 20);
            let mut used = [0_u64; 3];
            let mut running: Vec<(u64, Grant)> = Vec::new();
            for tenth in 0..2000_u64 {
                s.advance(tenth * 100_000);
                for account in 0..3_u32 {
                    let many = (0..jobs[account as usize])
                        .map(|job| runnable(account, u128::from(account) * 100 + job, 0, 9, 1));
                    s.update(many.collect());
                }
                let over = running.extract_if(.., |(until, _)| *until <= tenth).collect::<Vec<_>>();
                over.iter().for_each(|(_, grant)| s.release(grant));
                while let Some(grant) = s.pick() {
                    let account = grant.account as usize;
                    used[account] += durations[account];
                    running.push((tenth + durations[account], grant));
                }
            }
            let (least, most) = (used.iter().min().unwrap(), used.iter().max().unwrap());
            prop_assert!(most - least <= most / 10, "{used:?}");
        }
    }
}
