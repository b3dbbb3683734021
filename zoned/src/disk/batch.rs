//! Which jobs are done together: a disk takes hardly longer to sync many records than to sync one. Pure.

use std::collections::BTreeSet;
use std::path::Path;

/// Records that share a sync; those behind them wait for no more than one such batch.
pub const RECORDS_MAX: usize = 32;

/// What is known of a job before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort<'a> {
    /// It replaces this record.
    Record(&'a Path),
    /// It is done alone.
    Alone,
}

/// How many jobs from the head of the queue are done together: records, up to the second one of the same file.
/// At least one, if there is any.
#[must_use]
pub fn together<'a>(jobs: impl Iterator<Item = Sort<'a>>) -> usize {
    let mut paths = BTreeSet::new();
    for (at, job) in jobs.take(RECORDS_MAX).enumerate() {
        match job {
            Sort::Record(path) if paths.insert(path) => {}
            Sort::Alone if at == 0 => return 1,
            Sort::Record(_) | Sort::Alone => return at,
        }
    }
    paths.len()
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    const PATHS: [&str; 40] = {
        let names = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN";
        let mut paths = [""; 40];
        let mut at = 0;
        while at < 40 {
            paths[at] = names.split_at(at + 1).0;
            at += 1;
        }
        paths
    };

    fn any_job() -> impl Strategy<Value = Sort<'static>> {
        prop_oneof![
            8 => (0..PATHS.len()).prop_map(|at| Sort::Record(Path::new(PATHS[at]))),
            1 => Just(Sort::Alone),
        ]
    }

    #[test]
    fn a_record_that_comes_again_waits_for_the_next_batch() {
        let jobs = ["a", "b", "a", "c"].map(|path| Sort::Record(Path::new(path)));
        assert_eq!(together(jobs.iter().copied()), 2);
        assert_eq!(together(jobs[2..].iter().copied()), 2);
        assert_eq!(together(std::iter::empty()), 0);
    }

    proptest! {
        #[test]
        fn batches_are_the_queue_cut_where_it_must_be(
            jobs in prop::collection::vec(any_job(), 0..100),
        ) {
            let mut left = &jobs[..];
            while !left.is_empty() {
                let count = together(left.iter().copied());
                prop_assert!((1..=RECORDS_MAX).contains(&count) && count <= left.len());
                let (batch, rest) = left.split_at(count);
                let paths: BTreeSet<_> = batch.iter().map(|job| format!("{job:?}")).collect();
                prop_assert_eq!(paths.len(), count);
                prop_assert!(count == 1 || !batch.contains(&Sort::Alone));
                // It is as long as it may be.
                prop_assert!(count == RECORDS_MAX || batch[0] == Sort::Alone || rest.first().is_none_or(
                    |next| *next == Sort::Alone || batch.contains(next)
                ));
                left = rest;
            }
        }
    }
}
