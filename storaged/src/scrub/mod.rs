//! The scrub: one thread that reads everything again and again, slowly, and reports what is no longer what
//! it was.
//!
//! ```text
//!   records ─▶ small contents against their entity tags, page by page of the index
//!     ─▶ files, in the order of their ids: what the kernel sealed it checks as it is read in, of others the
//!        digest is computed ─▶ rest, until a day after the pass began ─▶ records …
//! ```
//! It mends nothing. Pages that are in memory were checked as they were read in and are not read from the disk
//! again; those it brought in itself it lets go of. Where it is is kept in the index, so that a restart goes on.

mod pace;
mod pass;
mod place;

pub use pace::Pacer;
pub use place::Place;

use crate::committer::{Committer, wait};
use crate::format::Keyspace;
use crate::store::{IndexError, TxnError};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use pass::{Damage, Pass};
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use wire::task::ScrubStatus;

/// Bytes a second that are read, unless told otherwise: a terabyte in a day and a half, and next to nothing
/// of what any disk can do.
pub const RATE: u64 = 8 << 20;
/// From the beginning of one pass to that of the next, at least.
pub const PASS_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// Findings that are listed in the status, which is one message; all are logged and counted.
pub const LISTED_MAX: usize = 16;
/// Characters of a finding in the status: even escaped, all of them fit in one message between daemons.
const FINDING_CHARS_MAX: usize = 500;
/// How often it is noted in the index how far the scrub has come.
const NOTE_INTERVAL: Duration = Duration::from_secs(60);
/// After the index failed, how long until the next try.
const RETRY: Duration = Duration::from_secs(600);

/// What the scrub works on.
pub(crate) struct Surroundings {
    pub(crate) committer: Arc<Committer>,
    /// The directory of objects.
    pub(crate) objects: PathBuf,
    /// Bytes a second; 0: it does not run.
    pub(crate) rate: u64,
}

/// The thread's handle.
pub(crate) struct Scrub {
    shared: Arc<Mutex<ScrubStatus>>,
    stop: Sender<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

impl Scrub {
    pub(crate) fn start(around: Surroundings) -> io::Result<Self> {
        let (stop, stopped) = bounded(1);
        let shared = Arc::new(Mutex::new(ScrubStatus::default()));
        let mut thread = None;
        if around.rate > 0 {
            let shared = Arc::clone(&shared);
            let work =
                move || Runner { pacer: Pacer::new(around.rate), around, shared, stopped }.run();
            thread = Some(std::thread::Builder::new().name("scrub".into()).spawn(work)?);
        }
        Ok(Self { shared, stop, thread: Mutex::new(thread) })
    }

    /// How it is going.
    pub(crate) fn status(&self) -> ScrubStatus {
        lock(&self.shared).clone()
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        if let Some(thread) = lock(&self.thread).take() {
            // Fails if the thread is gone already, which is what is wanted.
            let (Ok(()) | Err(_)) = self.stop.send(());
            if thread.join().is_err() {
                log::error!("the scrub's thread panicked");
            }
        }
    }
}

struct Runner {
    around: Surroundings,
    pacer: Pacer,
    shared: Arc<Mutex<ScrubStatus>>,
    stopped: Receiver<()>,
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Runner {
    fn run(mut self) {
        let mut place = match self.noted() {
            Ok(place) => place,
            Err(error) => {
                log::warn!("the scrub begins anew: {error}");
                Place::default()
            }
        };
        let mut noted = Instant::now();
        lock(&self.shared).passes = place.passes();
        loop {
            if let Place::Resting { until_ms, .. } = place {
                let rest =
                    Duration::from_millis(until_ms.saturating_sub(now_ms())).min(PASS_INTERVAL);
                if self.pause(rest).is_break() {
                    return;
                }
                place = place.next(None, now_ms());
                continue;
            }
            let moved = self.step(&place);
            let pause = match moved {
                Ok(ControlFlow::Continue(next)) => {
                    let ended = matches!(next, Place::Resting { .. });
                    place = next;
                    if ended || noted.elapsed() >= NOTE_INTERVAL {
                        self.note(&place);
                        noted = Instant::now();
                    }
                    Duration::ZERO
                }
                Ok(ControlFlow::Break(())) => {
                    self.note(&place);
                    return;
                }
                Err(error) => {
                    log::warn!("the scrub can't read the index: {}", crate::s3::chain(&error));
                    RETRY
                }
            };
            if !pause.is_zero() && self.pause(pause).is_break() {
                return;
            }
        }
    }

    /// Waits, unless it is the end.
    fn pause(&self, time: Duration) -> ControlFlow<()> {
        match self.stopped.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => ControlFlow::Continue(()),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => ControlFlow::Break(()),
        }
    }

    /// Looks at what is at a place; where to go on, if it is not the end.
    fn step(&mut self, place: &Place) -> Result<ControlFlow<(), Place>, IndexError> {
        let mut ended = false;
        let (pacer, stopped, shared) = (&mut self.pacer, &self.stopped, &self.shared);
        let mut pace = |bytes: u64| {
            lock(shared).bytes += bytes;
            let wait = pacer.wait(Instant::now(), bytes);
            match stopped.recv_timeout(wait) {
                Err(RecvTimeoutError::Timeout) => ControlFlow::Continue(()),
                Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                    ended = true;
                    ControlFlow::Break(())
                }
            }
        };
        let committer = &self.around.committer;
        let pass = Pass { objects: &self.around.objects, view: &|| committer.view() };
        let (found, after) = pass.look(place, &mut pace)?;
        for damage in found {
            self.report(&damage);
        }
        if ended {
            return Ok(ControlFlow::Break(()));
        }
        let next = place.next(after, now_ms());
        let mut status = lock(&self.shared);
        status.passes = next.passes();
        if let (Place::Resting { .. }, false) = (&next, matches!(place, Place::Resting { .. })) {
            status.last_pass_ms = Some(now_ms());
            let (bytes, damaged) = (status.bytes, status.damaged);
            drop(status);
            log::debug!("the scrub has read everything: {bytes} bytes, {damaged} findings so far");
        }
        Ok(ControlFlow::Continue(next))
    }

    fn report(&self, damage: &Damage) {
        let text = damage.to_string();
        log::error!("scrub: {text}");
        let text: String = text.chars().take(FINDING_CHARS_MAX).collect();
        let mut status = lock(&self.shared);
        // Each pass finds it again.
        if !status.findings.contains(&text) {
            status.damaged += 1;
            if status.findings.len() < LISTED_MAX {
                status.findings.push(text);
            }
        }
    }

    fn noted(&self) -> Result<Place, IndexError> {
        let value = self.around.committer.view().get(&key())?;
        Ok(value.and_then(|value| Place::decode(&value).ok()).unwrap_or_default())
    }

    fn note(&self, place: &Place) {
        let value = place.encode();
        let noted = wait(self.around.committer.transact(move |txn| {
            txn.put(key(), value);
            Ok::<_, TxnError>(())
        }));
        if let Err(error) = noted {
            // A store that takes no changes is scrubbed all the same.
            log::debug!("where the scrub is was not noted: {error}");
        }
    }
}

fn key() -> Vec<u8> {
    Keyspace::Settings.key(b"scrub")
}

#[cfg(test)]
mod test;
