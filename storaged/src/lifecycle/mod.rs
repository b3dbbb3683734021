//! Lifecycle: what becomes of old objects, versions and uploads, by the rules of their bucket.
//!
//! ```text
//!   rules (parsed, checked) ─┐
//!   version + time ──────────┴▶ plan ─▶ an action, or none                                  pure
//!   worker: walk a page (a short view) ─▶ plan ─▶ a small transaction that plans again, and acts
//! ```
//! A pass starts at each midnight (UTC), when storaged starts, and for a bucket whose rules have changed. It
//! keeps nothing on disk: what it did is done, and the next pass finds the rest.
//!
//! **Invariant: nothing is removed on the word of an old view.** The transaction that acts reads rules and
//! version again. What object lock protects stays.

mod act;
mod plan;
mod rules;
mod walk;
mod worker;

pub use plan::{Action, Day, Expiry, State, Subject, Tags, abortion, aborts, expiry, plan};
pub use rules::{Abort, Expiration, Filter, Noncurrent, Rule, Rules, RulesError};
pub use worker::{Clock, Lifecycle, LifecycleError};

#[cfg(test)]
mod test;
