//! Delivery: a thread a webhook, that posts what waits, in order, and waits longer after each failure.

use super::{Hook, Roots};
use crate::store::{Store, TransactError};
use crossbeam::channel::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long an event is tried: a day without its receiver is an outage that somebody knows of.
pub const AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How long one delivery may take, from the name's lookup to the answer's head.
const POST_TIME_MAX: Duration = Duration::from_secs(10);
/// The wait after the first failure; it doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest wait: a receiver that is back is noticed within minutes.
const PAUSE_MAX: Duration = Duration::from_secs(5 * 60);
/// Events that are read, posted and then removed in one transaction: what is posted again after a crash.
const BATCH: usize = 16;

/// What is done after a delivery failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is tried again after this long.
    Retry(Duration),
    /// It is dropped.
    GiveUp,
}

/// What to do with an event that waits since `since_ms` after so many failures in a row. Pure.
#[must_use]
pub fn after_failure(failures: u32, since_ms: u64, now_ms: u64) -> Step {
    if Duration::from_millis(now_ms.saturating_sub(since_ms)) >= AGE_MAX {
        return Step::GiveUp;
    }
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    Step::Retry(PAUSE_MIN.saturating_mul(doubled).min(PAUSE_MAX))
}

/// The thread's own.
pub(super) struct Delivery {
    store: Store,
    hook: Arc<Hook>,
    agent: ureq::Agent,
    failures: u32,
}

/// How a round went.
enum Round {
    /// Nothing waits.
    Idle,
    /// There may be more.
    More,
    /// It failed: wait first.
    Wait(Duration),
    /// The store takes no changes any more.
    End,
}

impl Delivery {
    pub(super) fn new(store: Store, hook: &Arc<Hook>, roots: Option<&Roots>) -> Self {
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // A redirect would lead where the operator did not allow, and so would a proxy.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_global(Some(POST_TIME_MAX))
            .user_agent(concat!("mobula/", env!("CARGO_PKG_VERSION")));
        if let Some(roots) = roots {
            config = config.tls_config(roots.config());
        }
        let agent = config.build().new_agent();
        Self { store, hook: Arc::clone(hook), agent, failures: 0 }
    }

    /// Delivers until nobody is left who could ring the bell.
    pub(super) fn run(mut self, bell: &Receiver<()>) {
        loop {
            let go_on = match self.round(bell) {
                Round::Idle => bell.recv().is_ok(),
                Round::More => bell.try_recv() != Err(TryRecvError::Disconnected),
                Round::Wait(pause) => wait(bell, pause),
                Round::End => false,
            };
            if !go_on {
                return;
            }
        }
    }

    fn round(&mut self, bell: &Receiver<()>) -> Round {
        let rows = self.store.read().and_then(|view| self.hook.queue.first(&view, BATCH));
        let rows = match rows {
            Ok(rows) if rows.is_empty() => return Round::Idle,
            Ok(rows) => rows,
            Err(error) => {
                log::error!("webhook {}: can't read its queue: {error}", self.name());
                return Round::Wait(PAUSE_MAX);
            }
        };
        let (mut done, mut outcome, mut late) = (Vec::new(), Round::More, 0);
        for (key, queued) in rows {
            match self.post(&queued.json) {
                Ok(()) => {
                    self.failures = 0;
                    self.hook.tally.delivered.fetch_add(1, Ordering::Relaxed);
                    self.hook.totals.delivered.fetch_add(1, Ordering::Relaxed);
                    done.push(key);
                }
                Err(why) => {
                    self.failures = self.failures.saturating_add(1);
                    self.hook.tally.failed.fetch_add(1, Ordering::Relaxed);
                    self.hook.totals.failed.fetch_add(1, Ordering::Relaxed);
                    match after_failure(self.failures, queued.since_ms, crate::s3::now_ms()) {
                        Step::GiveUp => {
                            late += 1;
                            done.push(key);
                        }
                        Step::Retry(pause) => {
                            self.tell_failure(&why, pause);
                            outcome = Round::Wait(pause);
                            break;
                        }
                    }
                }
            }
            if bell.try_recv() == Err(TryRecvError::Disconnected) {
                break;
            }
        }
        let queue = self.hook.queue.clone();
        if !done.is_empty() {
            match self.store.transact_wait(move |txn| queue.remove(txn, done)) {
                Ok(()) => self.hook.drop_some(late, "a day was not enough to deliver them"),
                Err(TransactError::ReadOnly(_) | TransactError::ShutDown) => return Round::End,
                Err(error) => {
                    log::warn!("webhook {}: events will come twice: {error}", self.name());
                    return Round::Wait(PAUSE_MIN);
                }
            }
        }
        outcome
    }

    fn name(&self) -> &str {
        &self.hook.webhook.name
    }

    fn tell_failure(&self, why: &str, pause: Duration) {
        // The first, and then seldom: an outage is not to fill the log.
        if self.failures.is_power_of_two() {
            let (url, failures) = (&self.hook.webhook.url, self.failures);
            log::warn!(
                "webhook {}: {url} does not take events: {why} (failure {failures}); next try in {} s",
                self.name(),
                pause.as_secs()
            );
        }
    }

    fn post(&self, json: &[u8]) -> Result<(), String> {
        let request = self.agent.post(&self.hook.webhook.url);
        let answer = request.content_type("application/json").send(json);
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("it answers {}", answer.status())),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Waits; whether there is still somebody to deliver for. Rings don't shorten the wait.
fn wait(bell: &Receiver<()>, pause: Duration) -> bool {
    let until = Instant::now() + pause;
    loop {
        match bell.recv_deadline(until) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}
