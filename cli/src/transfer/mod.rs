//! `put` and `get`: many files at once, each streamed, its digest checked.

mod download;
mod upload;

pub use download::{Sink, fetch, get};
pub use upload::put;

use crate::failure::Failure;
use crate::output::{Screen, size, span};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Does `work` on each item, several at a time; gives the failures.
fn each<T: Sync>(
    items: &[T],
    parallel: u8,
    work: impl Fn(&T) -> Result<(), Failure> + Sync,
) -> Vec<Failure> {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..usize::from(parallel).min(items.len()) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Err(failure) = work(item) else { continue };
                    let hopeless = matches!(failure, Failure::Unreachable { .. });
                    failures.lock().expect("no worker panics").push(failure);
                    if hopeless {
                        // Nobody is there for the others either.
                        next.store(items.len(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    failures.into_inner().expect("no worker panics")
}

/// Says how it went.
fn finish(
    screen: &Screen,
    verb: &str,
    failures: Vec<Failure>,
    all: usize,
    bytes: u64,
    start: Instant,
) -> Result<(), Failure> {
    if failures.is_empty() && !screen.json {
        let (bytes, time) = (size(bytes), span(start.elapsed()));
        let things = if all == 1 { "object" } else { "objects" };
        screen.note(&format!("{verb} {all} {things}, {bytes} in {time}"));
    }
    Failure::summary(failures, all, "objects", |failure| screen.report(failure))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn every_item_is_worked_on_once_and_failures_are_kept() {
        let items: Vec<u64> = (1..=100).collect();
        let sum = std::sync::atomic::AtomicU64::new(0);
        let failures = each(&items, 8, |item| {
            sum.fetch_add(*item, Ordering::Relaxed);
            if item % 10 == 0 { Err(Failure::Usage(item.to_string())) } else { Ok(()) }
        });
        assert_eq!((sum.into_inner(), failures.len()), (5050, 10));
    }
}
