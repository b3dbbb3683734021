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
mod wanted;

use super::Settings;
use super::access::Guard;
use super::lifecycle::expiration_of;
use super::signature::{self, Verifier};
use crate::accounts::Accounts;
use crate::front::{Answer, Quick, Service};
use crate::store::{ObjectRecord, Store, Versioning};
use http::Request;
use http::request::Parts;
use s3s::Body;
use std::sync::Arc;
use wanted::Wanted;

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
        if wanted.body {
            let (record, file) = self.store.open_object(&path).ok()??;
            let expiration = self.expiration(&wanted, &record);
            answer::with_body(&record, file, wanted.sums, expiration.as_deref())
        } else {
            let record = self.store.object(&path).ok()??;
            let expiration = self.expiration(&wanted, &record);
            answer::without_body(&record, wanted.sums, expiration.as_deref())
        }
    }
}

impl Lane {
    fn expiration(&self, wanted: &Wanted<'_>, record: &ObjectRecord) -> Option<String> {
        expiration_of(&self.settings, wanted.bucket, wanted.key.as_bytes(), record)
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
