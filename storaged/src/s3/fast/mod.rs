//! The short way of GetObject and HeadObject: answered on the ring thread, without the protocol library.
//!
//! ```text
//!   head ─▶ plain? ─▶ whose signature? ─▶ their own bucket, nothing to evaluate? ─▶ a plain record? ─▶ answer
//!             └──────────────┴─────────── no, or not sure ──────────┴───────────────────┴─▶ the long way
//! ```
//! Owns no rule of S3's: what it answers is byte for byte what the long way would (a test compares them), and
//! whatever it does not know well it leaves to that. It refuses nothing and never waits for the disk, but for
//! what opening a file takes.

mod answer;
#[cfg(test)]
mod test;
pub mod wanted;

use super::Settings;
use super::access::Guard;
use super::lifecycle::expiration_of;
use super::signature::{self, Verifier};
use crate::accounts::Accounts;
use crate::format::object_key;
use crate::front::{Answer, Quick, QuickBody, Service};
use crate::store::{ObjectRecord, Store, Versioning};
use bytes::Bytes;
use http::Request;
use http::request::Parts;
use s3s::Body;
use std::sync::Arc;
use wanted::Wanted;

/// Smaller objects are copied faster than passed on.
const HOT_BYTES_MIN: usize = 2 * 1024;

/// The short way's own state.
pub struct Lane {
    store: Store,
    accounts: Arc<Accounts>,
    guard: Arc<Guard>,
    settings: Arc<Settings>,
    verifier: Verifier,
}

impl Lane {
    /// A short way into this store.
    #[must_use]
    pub fn new(
        store: Store,
        accounts: Arc<Accounts>,
        guard: Arc<Guard>,
        settings: Arc<Settings>,
    ) -> Lane {
        Lane { store, accounts, guard, settings, verifier: Verifier::default() }
    }

    /// The answer, if it can be given at once.
    pub fn answer(&self, head: &Parts) -> Option<Quick> {
        let claim = signature::parse(head)?;
        let wanted = wanted::parse(head, &claim)?;
        let account = |key: &str| self.accounts.by_access_key(key);
        let account = self.verifier.signer(&claim, head, signature::now(), account)?;
        // What goes wrong from here on goes wrong again the long way, which has the words for it.
        let facts = self.guard.facts(wanted.bucket).ok()?;
        let is_versioned = facts.record.versioning != Versioning::Unversioned;
        if facts.owner() != account.id || !facts.owner_reads_all() || is_versioned {
            return None;
        }
        let path = facts.path(&wanted.key).ok()?;
        if !wanted.body {
            let record = self.store.object(&path).ok()??;
            let expiration = self.expiration(&wanted, &record);
            return answer::without_body(&record, wanted.sums, expiration.as_deref());
        }
        let key = object_key(&path, None);
        // What is kept ready is without checksums, as most ask for it, and knows of no rules.
        let is_usual = !wanted.sums && self.has_no_rules(wanted.bucket);
        if is_usual && let Some(ready) = self.store.hot().get(&key) {
            return Some(answer::ready(ready));
        }
        let mark = self.store.mark();
        let (record, file) = self.store.open_object(&path).ok()??;
        let expiration = self.expiration(&wanted, &record);
        let kept = file.clone();
        let quick = answer::with_body(&record, file, wanted.sums, expiration.as_deref())?;
        if is_usual && let Some(file) = kept {
            self.store.hot().put_file(&key, mark, Bytes::copy_from_slice(&quick.head), file);
        }
        if let QuickBody::Bytes(content) = &quick.body
            && content.len() >= HOT_BYTES_MIN
            && is_usual
        {
            let note = Bytes::copy_from_slice(&quick.head);
            // Without memory for it, it is not kept; this answer is there all the same.
            if let Err(e) = self.store.hot().put(&key, mark, note, content) {
                log::debug!("can't keep an object ready: {e}");
            }
        }
        Some(quick)
    }
}

impl Lane {
    fn expiration(&self, wanted: &Wanted<'_>, record: &ObjectRecord) -> Option<String> {
        expiration_of(&self.settings, wanted.bucket, wanted.key.as_bytes(), record)
    }

    /// Whether no rule of the bucket's lifecycle has a say in an answer.
    fn has_no_rules(&self, bucket: &str) -> bool {
        self.settings.of(bucket).is_ok_and(|settings| settings.lifecycle.is_none())
    }
}

/// A service with a short way beside it.
pub struct Faster<S> {
    /// The short way.
    pub lane: Lane,
    /// The long way.
    pub long: S,
}

impl<S: Service> Service for Faster<S> {
    fn call(&self, request: Request<Body>) -> Answer {
        self.long.call(request)
    }

    fn quick(&self, head: &Parts) -> Option<Quick> {
        self.lane.answer(head)
    }
}
