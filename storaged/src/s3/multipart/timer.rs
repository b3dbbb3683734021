//! Waiting for a while without a thread that does: one thread wakes all who do.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::pin::Pin;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Timer {
    waiting: Mutex<BinaryHeap<Reverse<Entry>>>,
    changed: Condvar,
}

struct Entry(Instant, Waker);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

fn timer() -> &'static Timer {
    static TIMER: OnceLock<Timer> = OnceLock::new();
    static THREAD: OnceLock<bool> = OnceLock::new();
    let timer = TIMER.get_or_init(Timer::default);
    THREAD.get_or_init(|| {
        let spawned = std::thread::Builder::new().name("timer".into()).spawn(|| timer.run());
        if let Err(error) = &spawned {
            log::error!("no thread for times: long answers will not be kept alive: {error}");
        }
        spawned.is_ok()
    });
    timer
}

impl Timer {
    fn lock(&self) -> MutexGuard<'_, BinaryHeap<Reverse<Entry>>> {
        self.waiting.lock().expect("no holder of this lock panics")
    }

    fn run(&self) {
        let mut waiting = self.lock();
        loop {
            let now = Instant::now();
            let due = waiting.peek().is_some_and(|Reverse(entry)| entry.0 <= now);
            if due {
                let entry = waiting.pop();
                // A waker may do anything, but not under this lock.
                drop(waiting);
                entry.into_iter().for_each(|Reverse(entry)| entry.1.wake());
                waiting = self.lock();
                continue;
            }
            let first = waiting.peek().map(|Reverse(entry)| entry.0 - now);
            waiting = match first {
                None => self.changed.wait(waiting).expect("no holder of this lock panics"),
                Some(time) => {
                    let woken = self.changed.wait_timeout(waiting, time);
                    woken.expect("no holder of this lock panics").0
                }
            };
        }
    }
}

/// Ready after a while.
#[derive(Debug)]
pub(super) struct Sleep {
    until: Instant,
}

impl Sleep {
    pub(super) fn new(time: Duration) -> Self {
        Self { until: Instant::now() + time }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.until {
            return Poll::Ready(());
        }
        let timer = timer();
        timer.lock().push(Reverse(Entry(self.until, cx.waker().clone())));
        timer.changed.notify_one();
        Poll::Pending
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn sleepers_wake_in_any_order_and_not_before_their_time() {
        let sleepers = [30, 10, 20].map(|ms| {
            std::thread::spawn(move || {
                let (time, start) = (Duration::from_millis(ms), Instant::now());
                crate::committer::wait(Sleep::new(time));
                assert!(start.elapsed() >= time);
            })
        });
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
    }
}
