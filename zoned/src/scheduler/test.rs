//! Whose turn it is, and what time makes of it.

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
fn tasks_whose_image_is_not_there_yet_wait_and_hold_up_nobody() {
    let mut s = scheduler(8, 1000);
    let late = |account, job, phase| {
        let image = "late".to_owned();
        Runnable { image, ..runnable(account, job, phase, 1, 1) }
    };
    // Of one job, of one account, and of an account that has nothing else.
    s.update(vec![late(1, 10, 1), runnable(1, 10, 0, 1, 1), late(1, 11, 0), late(2, 20, 0)]);
    s.update(vec![runnable(1, 12, 0, 1, 1)]);
    s.hold("late".to_owned());
    let jobs = |grants: Vec<Grant>| -> Vec<(u128, u32)> {
        grants.iter().map(|grant| (grant.job.0.as_u128(), grant.phase)).collect()
    };
    assert_eq!(jobs(all(&mut s)), [(10, 0), (12, 0)]);
    s.review(|image| image == "late");
    assert!(s.holds() && s.pick().is_none());
    s.review(|_| false);
    assert_eq!((jobs(all(&mut s)), s.waiting()), (vec![(20, 0), (11, 0), (10, 1)], 0));
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
