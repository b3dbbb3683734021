//! What becomes of jobs that are long done: they are put away. Their description and lists become objects beside their
//! outputs, as with Manta, and all their records go: the index holds what is at work and what was lately, however many
//! jobs there were.
//!
//! ```text
//!   done long ago, or one of too many ─▶ lists written ─▶ one transaction: objects in, head and counters out, a mark in
//!      ─▶ the rest of its records, page by page ─▶ the mark
//! ```
//! **Invariant: a job is readable throughout,** by its records or, from that transaction on, by its objects.

use super::job::Job;
use super::key;
use super::lists::Which;
use super::progress::{Life, Progress};
use super::record::{Head, Record};
use super::time::now_ms;
use super::{Jobs, JobsError};
use crate::store::{AccountId, Area, Content, Metadata, ObjectPath, Staging};
use bytes::Bytes;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use md5::{Digest, Md5};
use std::cmp::Reverse;
use std::time::Duration;
use wire::job::{JobId, JobView};

/// How long the records of a job are kept once it is done, in milliseconds: 30 days, so that last month's can be listed.
pub const KEPT_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// How many done jobs of an account keep their records: some 10 KB each without their lists, 100 MB in all.
pub const KEPT_MAX: usize = 10_000;
/// Between two looks: what is kept for a month may be kept for an hour more.
const LOOK: Duration = Duration::from_secs(60 * 60);
/// From the start to the first look: whoever waits for the start comes first.
const FIRST_LOOK: Duration = Duration::from_secs(60);
/// Records read, or removed, in one go: bounds how long everybody else's commits wait.
const PAGE: usize = 256;
/// The file with a job's description and what became of it, beside its lists.
pub const DESCRIPTION: &str = "job.json";

/// How many done jobs keep their records, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Keeping {
    /// Milliseconds since they were done.
    pub ms: u64,
    /// The most of one account.
    pub max: usize,
}

impl Default for Keeping {
    fn default() -> Self {
        Self { ms: KEPT_MS, max: KEPT_MAX }
    }
}

/// A job that is done and has nothing left to clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoneJob {
    /// Whose.
    pub account: AccountId,
    /// Since when, in milliseconds since 1970.
    pub done_ms: u64,
    /// Which.
    pub id: JobId,
}

/// Those that are to be put away: all that were done long ago, and the oldest where an account has too many. Pure.
#[must_use]
pub fn due(mut done: Vec<DoneJob>, now_ms: u64, keeping: Keeping) -> Vec<DoneJob> {
    done.sort_unstable_by_key(|job| (job.account.0, Reverse(job.done_ms), job.id.0));
    let (mut account, mut kept) = (None, 0);
    done.retain(|job| {
        if account != Some(job.account) {
            (account, kept) = (Some(job.account), 0);
        }
        let is_old = job.done_ms.saturating_add(keeping.ms) <= now_ms;
        kept += usize::from(!is_old);
        is_old || kept > keeping.max
    });
    done
}

/// The thread that puts jobs away. Dropped, it ends with the job it is at.
pub struct Archivist {
    // Held for its end alone.
    _bell: Sender<()>,
}

impl Archivist {
    /// Starts the thread.
    pub fn start(jobs: impl Fn() -> Option<Jobs> + Send + 'static) -> Self {
        let (bell, ended) = bounded(0);
        std::thread::Builder::new()
            .name("archivist".into())
            .spawn(move || run(&jobs, &ended))
            .expect("a thread can be started when the store opens");
        Self { _bell: bell }
    }
}

fn run(jobs: &impl Fn() -> Option<Jobs>, ended: &Receiver<()>) {
    let mut pause = FIRST_LOOK;
    while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        pause = LOOK;
        // Not held while it waits: the jobs end when nobody else has them.
        let Some(jobs) = jobs() else { return };
        match jobs.put_away(now_ms(), Keeping::default()) {
            Ok(0) => {}
            Ok(count) => log::info!("{count} jobs that are long done were put away"),
            Err(error) => {
                log::error!("cannot put done jobs away: {}", crate::s3::chain(&error));
            }
        }
    }
}

/// A job's file, put away.
///
/// # Panics
/// Never: such a path is short.
#[must_use]
pub fn path(account: AccountId, id: JobId, file: &str) -> ObjectPath {
    let path = format!("{id}/{file}");
    ObjectPath::new(account, Area::Jobs, path).expect("the name of a job and a short one fit")
}

impl Jobs {
    /// Puts away what is due; how many jobs that were.
    ///
    /// # Errors
    /// What the store says: the next look goes on.
    pub fn put_away(&self, now_ms: u64, keeping: Keeping) -> Result<usize, JobsError> {
        self.finish_removals()?;
        let due = due(self.done()?, now_ms, keeping);
        for job in &due {
            self.put_one_away(*job)?;
        }
        Ok(due.len())
    }

    /// All jobs that are done and have nothing left to clear.
    fn done(&self) -> Result<Vec<DoneJob>, JobsError> {
        let (mut found, mut after) = (Vec::new(), None::<Vec<u8>>);
        loop {
            let view = self.read()?;
            let page = key::page(&view, &key::all_heads(), after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(found) };
            after = Some(last.clone());
            for (key, value) in &page {
                let Some(id) = key::last_job(key) else { continue };
                let account = Head::decode(value)?.account();
                let progress = Progress::load(&view, &key::progress(id))?;
                let is_clear = progress.phases.iter().all(|phase| phase.clearing == 0);
                if let (Life::Done { at_ms: done_ms }, true) = (progress.life, is_clear) {
                    found.push(DoneJob { account, done_ms, id });
                }
            }
        }
    }

    fn put_one_away(&self, DoneJob { account, id, .. }: DoneJob) -> Result<(), JobsError> {
        let job = Job::load(&self.read()?, id)?;
        let mut files = vec![(DESCRIPTION, "application/json", self.described(&job)?)];
        for which in Which::ALL {
            let text = self.written(account, id, which)?;
            files.push((which.file(), which.content_type(), text));
        }
        let now_ms = now_ms();
        self.store.transact_wait(move |txn| {
            for (file, content_type, Text { content, md5 }) in files {
                let meta = Metadata {
                    etag: md5.into(),
                    modified_ms: now_ms,
                    content_type: Some(content_type.to_owned()),
                    ..Metadata::default()
                };
                txn.put_object(&path(account, id, file), content, meta)?;
            }
            txn.delete(key::head(id));
            txn.delete(key::progress(id));
            txn.delete(key::listed(account, job.head.created_ms, id));
            txn.put(key::put_away(id), Vec::new());
            Ok::<_, JobsError>(())
        })?;
        self.finish_removal(id)
    }

    fn described(&self, job: &Job) -> Result<Text, JobsError> {
        let view = JobView { input_done: true, ..job.view() };
        let mut json = serde_json::to_vec(&view).expect("a job is texts and numbers");
        json.push(b'\n');
        let mut writer = Writer::new(self);
        writer.push(&json)?;
        writer.finish()
    }

    fn written(&self, account: AccountId, id: JobId, which: Which) -> Result<Text, JobsError> {
        let (mut writer, mut from) = (Writer::new(self), 0);
        loop {
            let page = self.lines(account, id, which, from, PAGE)?;
            let Some((last, _)) = page.last() else { return writer.finish() };
            from = last + 1;
            let lines = page.iter().filter(|(_, line)| !line.is_empty());
            let text: String = lines.flat_map(|(_, line)| [line, "\n"]).collect();
            writer.push(text.as_bytes())?;
        }
    }

    /// Goes on with what an earlier start was at.
    fn finish_removals(&self) -> Result<(), JobsError> {
        loop {
            let page = key::page(&self.read()?, &key::all_put_away(), None, PAGE)?;
            let ids: Vec<_> = page.iter().filter_map(|(key, _)| key::last_job(key)).collect();
            if ids.is_empty() {
                return Ok(());
            }
            ids.into_iter().try_for_each(|id| self.finish_removal(id))?;
        }
    }

    /// Removes what is left of the records of a job that is put away.
    fn finish_removal(&self, id: JobId) -> Result<(), JobsError> {
        let remove = move |txn: &mut crate::store::Txn<'_>| {
            for table in key::lists_of(id) {
                let page = key::page(txn, &table, None, PAGE)?;
                let more = !page.is_empty();
                page.into_iter().for_each(|(key, _)| txn.delete(key));
                if more {
                    return Ok(true);
                }
            }
            txn.delete(key::put_away(id));
            Ok::<_, JobsError>(false)
        };
        while self.store.transact_wait(remove)? {}
        Ok(())
    }
}

/// A file's content.
struct Text {
    content: Content,
    md5: [u8; 16],
}

/// A file in the making: in memory while it is small.
struct Writer<'a> {
    jobs: &'a Jobs,
    small: Vec<u8>,
    staging: Option<Staging>,
}

impl<'a> Writer<'a> {
    fn new(jobs: &'a Jobs) -> Self {
        Self { jobs, small: Vec::new(), staging: None }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), JobsError> {
        self.small.extend_from_slice(bytes);
        if self.small.len() > self.jobs.store.inline_bytes() {
            let store = &self.jobs.store;
            let mut staging = match self.staging.take() {
                Some(staging) => staging,
                None => store.wait(store.stage(None, None))?,
            };
            store.wait(staging.write(Bytes::from(std::mem::take(&mut self.small))))?;
            self.staging = Some(staging);
        }
        Ok(())
    }

    fn finish(self) -> Result<Text, JobsError> {
        let Self { jobs, small, staging } = self;
        let store = &jobs.store;
        let Some(mut staging) = staging else {
            let md5 = Md5::digest(&small).into();
            return Ok(Text { content: Content::Inline(small.into()), md5 });
        };
        if !small.is_empty() {
            store.wait(staging.write(Bytes::from(small)))?;
        }
        let sealed = store.wait(store.seal(staging))?;
        Ok(Text { md5: sealed.md5(), content: Content::Blob(sealed) })
    }
}

#[cfg(test)]
#[path = "archive_test.rs"]
mod test;
