//! Events: what happened to the objects of a bucket, told to the webhooks that its owner chose among those
//! that the operator configured.
//!
//! ```text
//!   a change is committed ─▶ tell ─▶ rules of the bucket ─▶ queue in the index (bounded) ─▶ answer
//!                                                              └─▶ a thread a webhook ─ POST ─▶ 2xx: gone
//! ```
//! **Invariant: what is answered is queued.** An answer to a change waits until its events are as durable as
//! the change. They are delivered at least once, in order, for as long as [`AGE_MAX`]; a webhook that does
//! not keep up loses the oldest, which is counted and logged.
//!
//! Never delivers anywhere that the operator did not name, and follows no redirect.

mod deliver;
mod event;
mod queue;
mod roots;
mod rules;

pub use deliver::{AGE_MAX, Step, after_failure};
pub use event::{Change, Event, EventKind, Who};
pub use queue::{QUEUED_MAX, Queued};
pub use roots::{Roots, RootsError, USUAL as USUAL_ROOTS};
pub use rules::{Rules, RulesError, Target};

use crate::s3::Settings;
use crate::store::{Store, TransactError, TxnError};
use crossbeam::channel::{Sender, TrySendError, bounded};
use deliver::Delivery;
use queue::Queue;
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;

/// The start of a webhook's name in configurations of buckets.
pub const ARN_PREFIX: &str = "arn:mobula:sqs::webhook:";
/// Characters of a webhook's name.
const NAME_CHARS_MAX: usize = 64;

/// Where events may go: the operator's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// What configurations call it.
    pub name: String,
    /// Where it is.
    pub url: http::Uri,
}

/// Why a text is no webhook.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WebhookError {
    /// No name.
    #[error("a webhook is NAME=URL, the name 1 to {NAME_CHARS_MAX} letters, digits, - and _")]
    Name,
    /// No URL that can be used.
    #[error("{0:?} is no http:// or https:// URL with a host and without user and password")]
    Url(String),
}

impl Webhook {
    /// Whether events go there encrypted, to somebody whom an authority vouches for.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.url.scheme() == Some(&http::uri::Scheme::HTTPS)
    }
}

impl FromStr for Webhook {
    type Err = WebhookError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, url) = text.split_once('=').ok_or(WebhookError::Name)?;
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(legal) {
            return Err(WebhookError::Name);
        }
        let parsed: Option<http::Uri> = url.parse().ok();
        let fit = |url: &http::Uri| {
            let plain = url.authority().is_some_and(|authority| {
                !authority.host().is_empty() && !authority.as_str().contains('@')
            });
            let known = [http::uri::Scheme::HTTP, http::uri::Scheme::HTTPS];
            url.scheme().is_some_and(|scheme| known.contains(scheme)) && plain
        };
        let url = parsed.filter(fit).ok_or_else(|| WebhookError::Url(url.to_owned()))?;
        Ok(Self { name: name.to_owned(), url })
    }
}

/// How a webhook is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    /// Its name.
    pub name: String,
    /// Events that wait.
    pub queued: u64,
    /// Events that it took.
    pub delivered: u64,
    /// Tries that failed.
    pub failed: u64,
    /// Events that it will never see.
    pub dropped: u64,
}

/// What became of events, of all webhooks together, since the start.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Events that a webhook took.
    pub delivered: Arc<AtomicU64>,
    /// Tries that failed.
    pub failed: Arc<AtomicU64>,
    /// Events that no webhook will see.
    pub dropped: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Tally {
    delivered: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

/// A webhook and its queue.
struct Hook {
    webhook: Webhook,
    queue: Queue,
    tally: Tally,
    totals: Totals,
}

impl Hook {
    fn drop_some(&self, count: u64, why: &str) {
        if count > 0 {
            let before = self.tally.dropped.fetch_add(count, Ordering::Relaxed);
            self.totals.dropped.fetch_add(count, Ordering::Relaxed);
            let (name, all) = (&self.webhook.name, before + count);
            log::warn!("webhook {name}: {count} events dropped, {why}; {all} since the start");
        }
    }
}

/// The events of a store. Clones are the same; with the last one delivery ends.
#[derive(Clone)]
pub struct Events(Arc<Inner>);

struct Inner {
    store: Store,
    settings: Arc<Settings>,
    /// Each with the bell that its thread hears.
    hooks: HashMap<String, (Arc<Hook>, Sender<()>)>,
    totals: Totals,
}

/// Why events can't be told.
#[derive(Debug, Error)]
pub enum EventsError {
    /// The index failed.
    #[error("can't count the events that wait")]
    Index(#[from] crate::store::IndexError),
    /// Two of one name.
    #[error("there are two webhooks {0:?}")]
    Twice(String),
    /// Nobody who could vouch for it.
    #[error("webhook {0:?} is https, and no authorities are named: --webhook-ca FILE")]
    Roots(String),
    /// No thread.
    #[error("can't start the thread of a webhook")]
    Thread(#[source] std::io::Error),
}

impl Events {
    /// Starts delivering to these webhooks, what waits from before first; to encrypted ones whom these authorities
    /// vouch for.
    ///
    /// # Errors
    /// When the index fails, two have one name, one is encrypted without authorities, or a thread can't be started.
    pub fn start(
        store: &Store,
        settings: &Arc<Settings>,
        webhooks: Vec<Webhook>,
        roots: Option<&Roots>,
    ) -> Result<Self, EventsError> {
        let (mut hooks, totals) = (HashMap::new(), Totals::default());
        for webhook in webhooks {
            let name = webhook.name.clone();
            if webhook.is_encrypted() && roots.is_none() {
                return Err(EventsError::Roots(name));
            }
            let queue = Queue::open(&store.read()?, &name)?;
            let (bell, heard) = bounded(1);
            let hook =
                Arc::new(Hook { webhook, queue, tally: Tally::default(), totals: totals.clone() });
            if hooks.insert(name.clone(), (Arc::clone(&hook), bell)).is_some() {
                return Err(EventsError::Twice(name));
            }
            let delivery = Delivery::new(store.clone(), &hook, roots);
            std::thread::Builder::new()
                .name(format!("hook-{}", &name[..name.len().min(10)]))
                .spawn(move || delivery.run(&heard))
                .map_err(EventsError::Thread)?;
        }
        let (store, settings) = (store.clone(), Arc::clone(settings));
        Ok(Self(Arc::new(Inner { store, settings, hooks, totals })))
    }

    /// Whether the operator named such a webhook.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.0.hooks.contains_key(name)
    }

    /// What became of all events.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.0.totals
    }

    /// How each webhook is doing.
    #[must_use]
    pub fn counters(&self) -> Vec<Counters> {
        let counters = |(hook, _): &(Arc<Hook>, Sender<()>)| Counters {
            name: hook.webhook.name.clone(),
            queued: hook.queue.length(),
            delivered: hook.tally.delivered.load(Ordering::Relaxed),
            failed: hook.tally.failed.load(Ordering::Relaxed),
            dropped: hook.tally.dropped.load(Ordering::Relaxed),
        };
        let mut all: Vec<_> = self.0.hooks.values().map(counters).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The events of a store that delivers none.
    #[must_use]
    pub fn silent(store: &Store, settings: &Arc<Settings>) -> Self {
        let (store, settings) = (store.clone(), Arc::clone(settings));
        Self(Arc::new(Inner { store, settings, hooks: HashMap::new(), totals: Totals::default() }))
    }

    /// What a bucket tells whom; nothing when there is nobody.
    #[must_use]
    pub fn rules(&self, bucket: &str) -> Option<Arc<Rules>> {
        match self.0.settings.of(bucket) {
            Ok(settings) => settings.notification.clone(),
            Err(error) => {
                log::error!("bucket {bucket}: can't tell of changes: {error:?}");
                None
            }
        }
    }

    /// Tells of changes of a bucket that are committed. When this returns, what is to be delivered is as
    /// durable as they are. It never fails: the changes have happened; what can't be queued is counted.
    pub async fn tell(&self, who: &Who, bucket: &str, changes: impl IntoIterator<Item = Change>) {
        let Some(rules) = self.rules(bucket) else { return };
        let mut told: HashMap<&str, Vec<Vec<u8>>> = HashMap::new();
        for change in changes {
            for target in rules.targets(change.kind, &change.key) {
                let event = Event { who, bucket, change: &change, configuration: &target.id };
                told.entry(&target.webhook).or_default().push(event.to_json());
            }
        }
        for (webhook, events) in told {
            self.enqueue(webhook, events).await;
        }
    }

    /// Tells a webhook that a bucket's events will come.
    pub async fn tell_test(&self, webhook: &str, bucket: &str, now_ms: u64) {
        self.enqueue(webhook, vec![event::test(bucket, now_ms)]).await;
    }

    async fn enqueue(&self, webhook: &str, events: Vec<Vec<u8>>) {
        let count = events.len() as u64;
        let Some((hook, bell)) = self.0.hooks.get(webhook) else {
            log::warn!(
                "webhook {webhook}: {count} events dropped, it is not configured any more; start storaged with --webhook {webhook}=URL"
            );
            return;
        };
        let (queue, now_ms) = (hook.queue.clone(), crate::s3::now_ms());
        let done = self.0.store.transact(move |txn| queue.push(txn, now_ms, events));
        match done.await {
            Ok(displaced) => hook.drop_some(displaced, "the queue was full"),
            Err(error) => {
                if let Err(error) = self.0.store.read().and_then(|v| hook.queue.recount(&v)) {
                    log::error!("webhook {webhook}: can't count its events: {error}");
                }
                hook.drop_some(count, &format!("they can't be queued: {}", told(&error)));
            }
        }
        match bell.try_send(()) {
            // It rings already; or the thread has ended, with the store.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }
}

fn told(error: &TransactError<TxnError>) -> String {
    match error {
        TransactError::Refused(error) => error.to_string(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod test;
