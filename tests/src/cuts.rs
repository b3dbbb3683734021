//! Moments at which a disk's power is cut while a load runs, and what the load was promised by then.

use crate::blocklog::{Base, Cut, Log, survivors};
use crate::load::History;
use anyhow::{Context, Result};
use std::fs::File;

/// A moment, and what is known about it.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Entries of the block log that were sent by then.
    pub upto: usize,
    /// How far the block log had come.
    pub position: u64,
    /// What becomes of what no flush covers.
    pub cut: Cut,
}

/// Moments spread over the load, most of them with something at stake. `begun` is how far the log had come when
/// the load began.
#[must_use]
pub fn choose(log: &Log, begun: u64, history: &History, cuts: usize, seed: u64) -> Vec<Moment> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let first = log.entries_before(begun);
    let ends = history.keys.values().flatten().map(|operation| operation.ended);
    let last = log.entries_before(ends.filter(|end| *end != u64::MAX).max().unwrap_or_default());
    let moment = |number: usize| {
        let (from, to) = (last - first, cuts);
        let upto = first + from * number / to + rng.usize(..from / to + 1);
        let upto = upto.min(last);
        let position = log.entries.get(upto).map_or(u64::MAX, |entry| entry.start);
        let cut = match number % 4 {
            0 => Cut::Harsh,
            1 => Cut::Kind,
            _ => Cut::Random,
        };
        Moment { upto, position, cut }
    };
    (0..cuts).map(moment).collect()
}

/// Writes the disk as it was at a moment, the `number`th of its run, to `target` from byte `start` on.
///
/// # Errors
/// As [`Base::rebuild`].
pub fn rebuild(
    base: &Base,
    log: &Log,
    moment: &Moment,
    seed: u64,
    (target, start): (&File, u64),
) -> Result<()> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let kept = survivors(&log.entries, moment.upto, moment.cut, &mut rng);
    base.rebuild(log, &kept, target, start).context("rebuilding a disk")
}
