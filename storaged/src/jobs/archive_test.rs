//! Jobs that are put away: which, what is left, and that it goes on after a crash.

use super::*;
use crate::committer::wait;
use crate::index::View as _;
use crate::store::{Durability, Options, Store};
use proptest::prelude::*;
use std::ops::{Bound, ControlFlow};
use wire::job::JobSpec;

const NOW_MS: u64 = 100 * 24 * 60 * 60 * 1000;
/// Everything goes.
const NONE: Keeping = Keeping { ms: 0, max: 0 };

struct World {
    jobs: Jobs,
    account: AccountId,
    _data: tempfile::TempDir,
}

fn world() -> World {
    let data = tempfile::tempdir().unwrap();
    let options = Options {
        durability: Durability::None,
        kept_bytes: Some(0),
        ..Options::new(data.path().join("data"))
    };
    let store = Store::open(options).unwrap();
    let account = store.transact_wait(|txn| txn.account("ann")).unwrap();
    World { jobs: Jobs::open(store).unwrap(), account, _data: data }
}

impl World {
    fn job(&self) -> JobId {
        let spec: JobSpec =
            serde_json::from_str(r#"{"name":"n","phases":[{"exec":"wc"}]}"#).unwrap();
        wait(self.jobs.create(self.account, "ann", spec)).unwrap()
    }

    /// A job whose inputs are all missing, and which is done therefore.
    fn done(&self, inputs: usize) -> JobId {
        let id = self.job();
        let lines: Vec<_> = (0..inputs).map(|n| format!("/ann/stor/none/{n}")).collect();
        for page in lines.chunks(crate::jobs::LINES_MAX) {
            wait(self.jobs.add_inputs(self.account, id, page.to_vec())).unwrap();
        }
        wait(self.jobs.end_input(self.account, id)).unwrap();
        id
    }

    fn file(&self, id: JobId, file: &str) -> Option<String> {
        let opened = self.jobs.store.open_object(&path(self.account, id, file)).unwrap();
        opened.map(|(record, opened)| match (record.content, opened) {
            (crate::store::ContentRef::Inline(bytes), _) => {
                String::from_utf8(bytes.to_vec()).unwrap()
            }
            (_, Some(file)) => {
                use std::os::fd::AsFd;
                use std::os::unix::fs::FileExt;
                let file = std::fs::File::from(file.as_fd().try_clone_to_owned().unwrap());
                let mut bytes = vec![0; record.size as usize];
                file.read_exact_at(&mut bytes, 0).unwrap();
                String::from_utf8(bytes).unwrap()
            }
            (_, None) => panic!("a blob is opened"),
        })
    }

    /// Records of jobs.
    fn records(&self) -> usize {
        let mut count = 0;
        let view = self.jobs.read().unwrap();
        let (from, to) = ([key::JOBS], key::behind(&[key::JOBS]));
        view.range(Bound::Included(&from), Bound::Excluded(&to), &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
        count
    }
}

#[test]
fn a_job_that_is_put_away_leaves_its_files_and_no_record() {
    let world = world();
    let (large, small, living) = (world.done(1000), world.done(0), world.job());
    let living_alone = world.records();
    assert_eq!(world.jobs.put_away(now_ms(), Keeping::default()).unwrap(), 0);
    assert_eq!(world.records(), living_alone);
    assert_eq!(world.jobs.put_away(now_ms(), NONE).unwrap(), 2);
    let lines: String = (0..1000).map(|n| format!("/ann/stor/none/{n}\n")).collect();
    assert_eq!(world.file(large, "in.txt").unwrap(), lines);
    assert_eq!(world.file(large, "fail.txt").unwrap(), lines);
    assert_eq!(world.file(large, "out.txt").unwrap(), "");
    assert_eq!(world.file(large, "err.txt").unwrap().lines().count(), 1000);
    let json: serde_json::Value =
        serde_json::from_str(&world.file(large, DESCRIPTION).unwrap()).unwrap();
    assert_eq!((&json["state"], &json["stats"]["errors"]), (&"done".into(), &1000.into()));
    assert_eq!(world.file(small, "in.txt").unwrap(), "");
    assert!(world.jobs.view(world.account, large).is_err());
    assert_eq!(world.file(living, DESCRIPTION), None);
    world.jobs.view(world.account, living).unwrap();
    // Head, counters, its place in two lists: what a job without input has.
    assert_eq!(world.records(), 4);
    assert_eq!(world.jobs.put_away(now_ms(), NONE).unwrap(), 0);
}

#[test]
fn what_a_crash_left_of_a_job_goes_at_the_next_look() {
    let world = world();
    let id = world.done(600);
    // As if it ended behind the transaction that puts the job away.
    world
        .jobs
        .store
        .transact_wait(move |txn| {
            txn.delete(key::head(id));
            txn.delete(key::progress(id));
            txn.put(key::put_away(id), Vec::new());
            Ok::<_, JobsError>(())
        })
        .unwrap();
    assert!(world.records() > 600);
    world.jobs.put_away(now_ms(), NONE).unwrap();
    // Its place in the list of jobs goes with the transaction that was played above.
    assert_eq!(world.records(), 1);
}

proptest! {
    #[test]
    fn what_is_kept_is_young_and_not_too_much(
        jobs in proptest::collection::vec((0..3_u32, 0..NOW_MS), 0..60), ms in 0..NOW_MS, max in 0..8_usize,
    ) {
        let job = |(n, (account, done_ms)): (usize, (u32, u64))| DoneJob {
            account: AccountId(account),
            done_ms,
            id: JobId(uuid::Uuid::from_u128(n as u128)),
        };
        let all: Vec<_> = jobs.into_iter().enumerate().map(job).collect();
        let due = due(all.clone(), NOW_MS, Keeping { ms, max });
        let kept: Vec<_> = all.iter().filter(|job| !due.contains(job)).collect();
        prop_assert_eq!(due.len() + kept.len(), all.len());
        for account in 0..3 {
            let of = |job: &&&DoneJob| job.account.0 == account;
            let young = |job: &&DoneJob| job.account.0 == account && job.done_ms + ms > NOW_MS;
            prop_assert_eq!(kept.iter().filter(of).count(), all.iter().filter(young).count().min(max));
            // None goes that is younger than one that stays.
            let oldest = kept.iter().filter(of).map(|job| job.done_ms).min();
            let youngest = due.iter().filter(|job| job.account.0 == account).map(|job| job.done_ms).max();
            prop_assert!(oldest.is_none() || youngest.is_none() || youngest <= oldest);
        }
    }
}
