//! A load of PUTs and DELETEs that remembers what it was promised, and the check that promises were kept.
//!
//! Each worker has keys of its own and does one operation at a time, so that a key's operations have an
//! order. A position (how far a block log has come, or just 0) is noted when an operation ends; one that
//! ended, acknowledged, by position P must be found by whoever looks at the state as of P or later, and the
//! one after it may be found, if it began in time.

use crate::s3::{Ask, Client};
use crate::uploads::{self, PART_BYTES, Upload};
use anyhow::{Result, anyhow, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Keys of each worker: few, so that most operations replace or delete something.
const KEYS: usize = 10;
/// What a worker waits after an operation failed: a daemon is on its way back.
const PAUSE: Duration = Duration::from_millis(20);
/// Threads that check.
const CHECKERS: usize = 4;
/// Objects of up to this many bytes are surely kept inline, whatever the store's threshold is.
pub const SMALL_BYTES_MAX: usize = 4000;
/// Objects of at least this many bytes surely have a file of their own.
pub const LARGE_BYTES_MIN: usize = 20_000;
const LARGE_BYTES_MAX: usize = 200_000;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Store the bytes that `seed` and `bytes` give.
    Put {
        /// What they are made from.
        seed: u64,
        /// How many.
        bytes: usize,
    },
    /// Store the bytes that `seed` and `bytes` give, in two parts.
    Parts {
        /// What they are made from.
        seed: u64,
        /// How many.
        bytes: usize,
    },
    /// Delete the object.
    Delete,
}

/// One operation and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// On which key.
    pub key: String,
    /// What.
    pub act: Act,
    /// Whether it was acknowledged; else it may have happened or not.
    pub acknowledged: bool,
    /// The position by which it had ended.
    pub ended: u64,
}

/// The bytes of an object.
#[must_use]
pub fn content(seed: u64, bytes: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut content = vec![0; bytes];
    rng.fill(&mut content);
    content
}

/// All that was asked for, each key's operations in order.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// By key.
    pub keys: BTreeMap<String, Vec<Operation>>,
}

impl History {
    /// Adds what was done later.
    pub fn extend(&mut self, later: Self) {
        for (key, operations) in later.keys {
            self.keys.entry(key).or_default().extend(operations);
        }
    }

    /// Operations that were acknowledged by `position`.
    #[must_use]
    pub fn acknowledged(&self, position: u64) -> usize {
        let promised = |o: &&Operation| o.acknowledged && o.ended <= position;
        self.keys.values().flatten().filter(promised).count()
    }

    /// What a key may hold as of `position`: each entry an object, or `None` for no object.
    #[must_use]
    pub fn allowed(&self, key: &str, position: u64) -> Vec<Option<Act>> {
        let operations = self.keys.get(key).map(Vec::as_slice).unwrap_or_default();
        let promised = operations.iter().rposition(|o| o.acknowledged && o.ended <= position);
        let after = promised.map_or(0, |index| index + 1);
        let object = |operation: &Operation| match operation.act {
            Act::Put { .. } | Act::Parts { .. } => Some(operation.act),
            Act::Delete => None,
        };
        let mut allowed = vec![promised.and_then(|index| object(&operations[index]))];
        for operation in &operations[after..] {
            allowed.push(object(operation));
            // Whatever came after this one was sent after `position`.
            if operation.ended > position {
                break;
            }
        }
        allowed
    }

    /// Says what is wrong with what was found under a key, if anything is.
    #[must_use]
    pub fn judge(&self, key: &str, position: u64, found: Option<&[u8]>) -> Option<String> {
        let allowed = self.allowed(key, position);
        let is = |act: &Option<Act>| match (act, found) {
            (Some(Act::Put { seed, bytes } | Act::Parts { seed, bytes }), Some(found)) => {
                found.len() == *bytes && found == content(*seed, *bytes)
            }
            (None | Some(Act::Delete), None) => true,
            _ => false,
        };
        if allowed.iter().any(is) {
            return None;
        }
        let found = found.map(|bytes| format!("{} bytes", bytes.len()));
        Some(format!("{key}: found {found:?} where one of {allowed:?} was expected"))
    }

    /// Reads every key and gives what is wrong; the listing must agree with what is there. Also gives the
    /// number of objects that surely have a file of their own.
    ///
    /// # Errors
    /// If a request gets no answer, or one that is neither "here it is" nor "there is none".
    pub fn check(
        &self,
        client: &Client,
        bucket: &str,
        position: u64,
    ) -> Result<(Vec<String>, usize)> {
        let keys: Vec<_> = self.keys.keys().collect();
        let share = keys.len().div_ceil(CHECKERS).max(1);
        let results = std::thread::scope(|scope| {
            let threads: Vec<_> = keys
                .chunks(share)
                .map(|keys| scope.spawn(move || self.check_some(client, bucket, position, keys)))
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no checker panics")).collect()
        });
        let results: Result<Vec<_>> = results;
        let (mut wrong, mut present, mut large) = (Vec::new(), BTreeSet::new(), 0);
        for (w, p, l) in results? {
            wrong.extend(w);
            present.extend(p);
            large += l;
        }
        let listed: BTreeSet<_> = client.keys(bucket)?.into_iter().collect();
        for key in listed.symmetric_difference(&present) {
            wrong.push(format!("{key}: the listing and the object disagree"));
        }
        Ok((wrong, large))
    }

    fn check_some(
        &self,
        client: &Client,
        bucket: &str,
        position: u64,
        keys: &[&String],
    ) -> Result<(Vec<String>, Vec<String>, usize)> {
        let (mut wrong, mut present, mut large) = (Vec::new(), Vec::new(), 0);
        for key in keys {
            let found = client.get(bucket, key)?;
            wrong.extend(self.judge(key, position, found.as_deref()));
            if let Some(found) = found {
                large += usize::from(found.len() >= LARGE_BYTES_MIN);
                present.push((*key).clone());
            }
        }
        Ok((wrong, present, large))
    }
}

/// How far the world has come; see [`Operation::ended`].
pub type Position = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A load that runs.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    workers: Vec<JoinHandle<Result<Vec<Operation>>>>,
}

impl Load {
    /// Starts `workers` threads that put and delete in `bucket` until told to stop.
    #[must_use]
    pub fn start(
        client: &Client,
        bucket: &str,
        workers: usize,
        seed: u64,
        position: &Position,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let workers = (0..workers)
            .map(|number| {
                let worker = Worker {
                    client: client.apart(),
                    bucket: bucket.to_owned(),
                    number,
                    rng: fastrand::Rng::with_seed(seed.wrapping_add(number as u64)),
                    position: Arc::clone(position),
                };
                let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
                std::thread::spawn(move || worker.run(&stop, &done))
            })
            .collect();
        Self { stop, done, workers }
    }

    /// How many operations have been acknowledged.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until `more` operations have been acknowledged from now on.
    ///
    /// # Errors
    /// If that takes longer than `limit`, or a worker has given up.
    pub fn wait(&self, more: u64, limit: Duration) -> Result<()> {
        let (goal, deadline) = (self.done() + more, Instant::now() + limit);
        while self.done() < goal {
            ensure!(Instant::now() < deadline, "{} of {goal} operations in {limit:?}", self.done());
            ensure!(!self.workers.iter().any(JoinHandle::is_finished), "a worker has given up");
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Lets each worker finish what it does and gives all that was done.
    ///
    /// # Errors
    /// If a worker was refused something.
    pub fn finish(self) -> Result<History> {
        self.stop.store(true, Ordering::Relaxed);
        let mut history = History::default();
        for worker in self.workers {
            let operations = worker.join().map_err(|_| anyhow!("a worker panicked"))??;
            for operation in operations {
                history.keys.entry(operation.key.clone()).or_default().push(operation);
            }
        }
        Ok(history)
    }
}

struct Worker {
    client: Client,
    bucket: String,
    number: usize,
    rng: fastrand::Rng,
    position: Position,
}

impl Worker {
    fn run(mut self, stop: &AtomicBool, done: &AtomicU64) -> Result<Vec<Operation>> {
        let mut operations = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let key = format!("worker{}/key {}", self.number, self.rng.usize(..KEYS));
            let act = self.choose();
            let acknowledged = self.carry_out(&key, act)?;
            let ended = (self.position)();
            operations.push(Operation { key, act, acknowledged, ended });
            if acknowledged {
                done.fetch_add(1, Ordering::Relaxed);
            } else {
                std::thread::sleep(PAUSE);
            }
        }
        Ok(operations)
    }

    fn choose(&mut self) -> Act {
        let seed = self.rng.u64(..);
        match self.rng.u8(..60) {
            0..18 => Act::Delete,
            18 => Act::Parts { seed, bytes: PART_BYTES + self.rng.usize(1..LARGE_BYTES_MAX) },
            19..42 => Act::Put { seed, bytes: self.rng.usize(..SMALL_BYTES_MAX) },
            _ => Act::Put { seed, bytes: self.rng.usize(LARGE_BYTES_MIN..LARGE_BYTES_MAX) },
        }
    }

    /// Whether it was acknowledged. No answer and "not now" are taken as they come; a refusal is an error.
    fn carry_out(&self, key: &str, act: Act) -> Result<bool> {
        let path = format!("/{}/{key}", self.bucket);
        let (body, good) = match act {
            Act::Parts { seed, bytes } => return self.upload(&path, &content(seed, bytes)),
            Act::Put { seed, bytes } => (Some(content(seed, bytes)), 200),
            Act::Delete => (None, 204),
        };
        let method = if body.is_some() { "PUT" } else { "DELETE" };
        let asked = Ask { body: body.as_deref(), ..Ask::new(method, &path) };
        let answer = uploads::ask(&self.client, &asked, good)?;
        Ok(answer.is_some())
    }

    /// An upload in two parts, the second one first. One that fails is left as it is.
    fn upload(&self, path: &str, content: &[u8]) -> Result<bool> {
        let upload = Upload { client: &self.client, path };
        let Some(id) = upload.begin()? else { return Ok(false) };
        let (first, second) = content.split_at(PART_BYTES);
        let Some(second) = upload.part(&id, 2, second)? else { return Ok(false) };
        let Some(first) = upload.part(&id, 1, first)? else { return Ok(false) };
        upload.complete(&id, [(1, &*first), (2, &*second)])
    }
}

#[cfg(test)]
mod test {
    use super::*;

    const FIRST: Act = Act::Put { seed: 1, bytes: 10 };
    const SECOND: Act = Act::Put { seed: 2, bytes: 20 };

    fn history(operations: &[(Act, bool, u64)]) -> History {
        let operation = |(act, acknowledged, ended): &(Act, bool, u64)| Operation {
            key: "k".into(),
            act: *act,
            acknowledged: *acknowledged,
            ended: *ended,
        };
        let operations = operations.iter().map(operation).collect();
        History { keys: [("k".to_owned(), operations)].into() }
    }

    #[test]
    fn what_was_acknowledged_must_be_there() {
        let history = history(&[(FIRST, true, 10)]);
        assert_eq!(history.allowed("k", 10), [Some(FIRST)]);
        assert!(history.judge("k", 10, None).is_some());
        assert!(history.judge("k", 10, Some(&content(1, 10))).is_none());
        assert!(history.judge("k", 10, Some(&content(1, 9))).is_some());
    }

    #[test]
    fn what_was_in_flight_may_be_there_or_not() {
        let history = history(&[(FIRST, true, 10), (SECOND, true, 20), (Act::Delete, true, 30)]);
        assert_eq!(history.allowed("k", 5), [None, Some(FIRST)]);
        assert_eq!(history.allowed("k", 15), [Some(FIRST), Some(SECOND)]);
        assert_eq!(history.allowed("k", 25), [Some(SECOND), None]);
        assert_eq!(history.allowed("k", 30), [None]);
        assert!(history.judge("k", 15, Some(&content(2, 20))).is_none());
        assert!(history.judge("k", 25, Some(&content(1, 10))).is_some());
    }

    #[test]
    fn what_was_never_acknowledged_may_be_there_until_something_later_is() {
        let history = history(&[(FIRST, true, 10), (SECOND, false, 20), (Act::Delete, true, 30)]);
        assert_eq!(history.allowed("k", 25), [Some(FIRST), Some(SECOND), None]);
        assert_eq!(history.allowed("k", 30), [None]);
    }

    #[test]
    fn only_what_was_acknowledged_in_time_counts() {
        let history = history(&[(FIRST, true, 10), (SECOND, false, 20), (Act::Delete, true, 30)]);
        assert_eq!(history.acknowledged(25), 1);
        assert_eq!(history.acknowledged(30), 2);
    }
}
