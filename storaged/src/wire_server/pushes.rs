//! What zoned is told unasked: each job's ready tasks, when they change, and cancelled jobs. Names of
//! changed jobs wait here, each once, and are looked up when the connection is idle: so a slow peer gets
//! fewer pushes, never a longer queue.

use crate::jobs::notice::News;
use crate::jobs::{Jobs, JobsError};
use std::collections::BTreeSet;
use wire::frame::{FrameError, Kind, encode};
use wire::job::{JobId, PHASES_MAX};
use wire::task::{Push, Runnable};

/// Jobs looked up for one push.
const JOBS_PER_PUSH: usize = 16;
/// Entries in one message: each has at most 400 bytes.
const ENTRIES_MAX: usize = 64;
/// Jobs read at a time when zoned arrives.
const ARRIVAL_PAGE: usize = 1024;

const _: () = assert!(JOBS_PER_PUSH * PHASES_MAX <= 4 * ENTRIES_MAX);

/// News for zoned.
#[derive(Debug, Default)]
pub struct Pushes {
    changed: BTreeSet<JobId>,
    cancelled: BTreeSet<JobId>,
    /// Phases that zoned believes to have ready tasks.
    known: BTreeSet<(JobId, u32)>,
}

impl Pushes {
    /// zoned has just come and knows nothing.
    pub fn arrive(&mut self, jobs: &Jobs) -> Result<(), JobsError> {
        *self = Self::default();
        let mut after = None;
        loop {
            let page = jobs.active(after, ARRIVAL_PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(*last);
            self.changed.extend(page);
        }
    }

    /// Notes what changed.
    pub fn note(&mut self, news: News) {
        self.changed.extend(news.changed);
        self.cancelled.extend(news.cancelled);
    }

    /// Notes a job of which to tell again.
    pub fn tell_again(&mut self, job: Option<JobId>) {
        self.changed.extend(job);
    }

    /// Whether there is no news.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.cancelled.is_empty()
    }

    /// The next messages to send; none when there is no news.
    pub fn next(&mut self, jobs: &Jobs) -> Result<Vec<Vec<u8>>, JobsError> {
        let mut messages = Vec::new();
        while let Some(job) = self.cancelled.pop_first() {
            messages.push(encoded(&Push::Cancel { job }));
        }
        let mut entries = Vec::new();
        for _ in 0..JOBS_PER_PUSH {
            let Some(job) = self.changed.pop_first() else { break };
            entries.extend(jobs.runnable(job)?);
        }
        entries.retain(|entry| self.is_news(entry));
        for chunk in entries.chunks(ENTRIES_MAX) {
            messages.push(encoded(&Push::Runnable(chunk.to_vec())));
        }
        Ok(messages)
    }

    /// Phases without ready tasks are told once.
    fn is_news(&mut self, entry: &Runnable) -> bool {
        let phase = (entry.job, entry.phase);
        if entry.ready == 0 {
            return self.known.remove(&phase);
        }
        self.known.insert(phase);
        true
    }
}

fn encoded(push: &Push) -> Vec<u8> {
    let bytes: Result<Vec<u8>, FrameError> = encode(Kind::Push, 0, push, 0);
    bytes.expect("entries are few and their names were bounded when the job was made")
}
