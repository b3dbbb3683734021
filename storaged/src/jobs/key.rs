//! The keys of jobs' records. Numbers are big-endian, so that bytes are in the order of numbers.
//!
//! ```text
//!  JOBS h job                        head        what never changes
//!  JOBS p job                        progress    the counters
//!  JOBS l account created⁻¹ job      –           an account's jobs, the newest first
//!  JOBS a job                        –           jobs that are not done
//!  JOBS t job phase task             task
//!  JOBS r job phase task             –           tasks that may be claimed
//!  JOBS x attempt                    attempt     living attempts
//!  JOBS q job phase reducer number   input       what a reducer reads, in order
//!  JOBS c job phase reducer          –           settled reducers whose inputs are to be cleared
//!  JOBS i job number                 name        the job's inputs, as they came
//!  JOBS o job number                 name        the job's outputs
//!  JOBS e job number                 error       the job's errors
//!  JOBS z job                        –           jobs that are put away, while the rest of their records goes
//! ```

use crate::format::Keyspace;
use crate::index::View;
use crate::store::AccountId;
use std::ops::{Bound, ControlFlow};
use uuid::Uuid;
use wire::job::JobId;
use wire::task::AttemptId;

/// The first byte of every key here.
pub const JOBS: u8 = Keyspace::Jobs.byte();

/// Bytes of a job's name in a key.
const JOB_BYTES: usize = 16;

fn of_job(table: u8, job: JobId) -> Vec<u8> {
    let mut key = Vec::with_capacity(40);
    key.extend_from_slice(&[JOBS, table]);
    key.extend_from_slice(job.0.as_bytes());
    key
}

fn with(mut key: Vec<u8>, more: &[u8]) -> Vec<u8> {
    key.extend_from_slice(more);
    key
}

fn of_phase(table: u8, job: JobId, phase: usize) -> Vec<u8> {
    let phase = u32::try_from(phase).expect("a job has few phases");
    with(of_job(table, job), &phase.to_be_bytes())
}

/// What never changes in a job.
#[must_use]
pub fn head(job: JobId) -> Vec<u8> {
    of_job(b'h', job)
}

/// The heads of all jobs.
#[must_use]
pub fn all_heads() -> Vec<u8> {
    vec![JOBS, b'h']
}

/// A job that is put away and of which there are records left.
#[must_use]
pub fn put_away(job: JobId) -> Vec<u8> {
    of_job(b'z', job)
}

/// Every such job.
#[must_use]
pub fn all_put_away() -> Vec<u8> {
    vec![JOBS, b'z']
}

/// All that a job may have many of.
#[must_use]
pub fn lists_of(job: JobId) -> [Vec<u8>; 7] {
    [b't', b'r', b'q', b'c', b'i', b'o', b'e'].map(|table| of_job(table, job))
}

/// A job's counters.
#[must_use]
pub fn progress(job: JobId) -> Vec<u8> {
    of_job(b'p', job)
}

/// An entry of the account's list of jobs.
#[must_use]
pub fn listed(account: AccountId, created_ms: u64, job: JobId) -> Vec<u8> {
    let newest_first = (u64::MAX - created_ms).to_be_bytes();
    with(with(all_listed(account), &newest_first), job.0.as_bytes())
}

/// The account's list of jobs.
#[must_use]
pub fn all_listed(account: AccountId) -> Vec<u8> {
    with(vec![JOBS, b'l'], &account.0.to_be_bytes())
}

/// A job that is not done.
#[must_use]
pub fn active(job: JobId) -> Vec<u8> {
    of_job(b'a', job)
}

/// Every job that is not done.
#[must_use]
pub fn all_active() -> Vec<u8> {
    vec![JOBS, b'a']
}

/// A task.
#[must_use]
pub fn task(job: JobId, phase: usize, number: u64) -> Vec<u8> {
    with(of_phase(b't', job, phase), &number.to_be_bytes())
}

/// A task's place in the ready queue.
#[must_use]
pub fn ready(job: JobId, phase: usize, number: u64) -> Vec<u8> {
    with(all_ready(job, phase), &number.to_be_bytes())
}

/// The ready queue of a phase.
#[must_use]
pub fn all_ready(job: JobId, phase: usize) -> Vec<u8> {
    of_phase(b'r', job, phase)
}

/// A living attempt.
#[must_use]
pub fn attempt(attempt: AttemptId) -> Vec<u8> {
    with(all_attempts(), &attempt.0.to_be_bytes())
}

/// Every living attempt.
#[must_use]
pub fn all_attempts() -> Vec<u8> {
    vec![JOBS, b'x']
}

/// An input of a reducer.
#[must_use]
pub fn reducer_input(job: JobId, phase: usize, reducer: u32, number: u64) -> Vec<u8> {
    with(reducer_inputs(job, phase, reducer), &number.to_be_bytes())
}

/// The inputs of a reducer.
#[must_use]
pub fn reducer_inputs(job: JobId, phase: usize, reducer: u32) -> Vec<u8> {
    with(of_phase(b'q', job, phase), &reducer.to_be_bytes())
}

/// A settled reducer whose inputs are to be cleared.
#[must_use]
pub fn clearing(job: JobId, phase: usize, reducer: u32) -> Vec<u8> {
    with(of_phase(b'c', job, phase), &reducer.to_be_bytes())
}

/// Every settled reducer of a job whose inputs are to be cleared.
#[must_use]
pub fn all_clearing(job: JobId) -> Vec<u8> {
    of_job(b'c', job)
}

/// The lists of names that a job keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// The job's inputs.
    Inputs,
    /// Its outputs.
    Outputs,
    /// Its errors.
    Errors,
}

/// A job's list.
#[must_use]
pub fn list(list: List, job: JobId) -> Vec<u8> {
    let table = match list {
        List::Inputs => b'i',
        List::Outputs => b'o',
        List::Errors => b'e',
    };
    of_job(table, job)
}

/// An entry of a job's list.
#[must_use]
pub fn listed_in(of: List, job: JobId, number: u64) -> Vec<u8> {
    with(list(of, job), &number.to_be_bytes())
}

/// The last 8 bytes of a key, as the number that they are.
#[must_use]
pub fn last_number(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// The last 16 bytes of a key, as the job that they name.
#[must_use]
pub fn last_job(key: &[u8]) -> Option<JobId> {
    key.last_chunk::<JOB_BYTES>().map(|bytes| JobId(Uuid::from_bytes(*bytes)))
}

/// Phase and reducer of a [`clearing`] key.
#[must_use]
pub fn last_reducer(key: &[u8]) -> Option<(usize, u32)> {
    let (rest, reducer) = key.split_last_chunk()?;
    let phase = u32::from_be_bytes(*rest.last_chunk()?);
    Some((phase as usize, u32::from_be_bytes(*reducer)))
}

/// The first key behind all that start with `prefix`.
#[must_use]
pub fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    unreachable!("every prefix starts with {JOBS}")
}

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// At most `max` entries whose keys start with `prefix` and come after `after`, in order.
///
/// # Errors
/// When the index fails.
pub fn page(
    view: &dyn View,
    prefix: &[u8],
    after: Option<&[u8]>,
    max: usize,
) -> Result<Vec<Entry>, crate::index::IndexError> {
    let mut found = Vec::new();
    if max == 0 {
        return Ok(found);
    }
    let end = behind(prefix);
    let from = match after {
        Some(key) if key >= prefix => Bound::Excluded(key),
        Some(_) | None => Bound::Included(prefix),
    };
    view.range(from, Bound::Excluded(&end), &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        if found.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(found)
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    const JOB: JobId = JobId(Uuid::from_bytes([0xff; 16]));

    #[test]
    fn a_prefix_of_all_ones_ends_behind_the_byte_before() {
        assert_eq!(behind(&[JOBS, b'a', 0xff, 0xff]), [JOBS, b'b']);
    }

    #[test]
    fn the_parts_of_a_key_are_read_back() {
        assert_eq!(last_number(&task(JOB, 3, 77)), Some(77));
        assert_eq!(last_job(&listed(AccountId(1), 5, JOB)), Some(JOB));
        assert_eq!(last_reducer(&clearing(JOB, 2, 9)), Some((2, 9)));
    }

    proptest! {
        #[test]
        fn keys_are_in_the_order_of_their_numbers(a: u64, b: u64, p in 0..16_usize, q in 0..16_usize) {
            let order = task(JOB, p, a).cmp(&task(JOB, q, b));
            prop_assert_eq!(order, (p, a).cmp(&(q, b)));
            prop_assert!(ready(JOB, p, a) < behind(&all_ready(JOB, p)));
        }

        #[test]
        fn newer_jobs_come_first(a in 0..u64::MAX, b in 0..u64::MAX) {
            let order = listed(AccountId(1), a, JOB).cmp(&listed(AccountId(1), b, JOB));
            prop_assert_eq!(order, b.cmp(&a));
        }
    }
}
