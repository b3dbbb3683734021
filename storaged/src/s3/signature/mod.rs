//! Signature Version 4 of requests without a body, verified by ourselves: the protocol library derives a
//! signing key with four HMACs for each request, and makes twenty strings on the way.
//!
//! ```text
//!   head ─▶ Claim (pure: who says to have signed what, and when) ─▶ its time ─▶ its key, kept ─▶ compared
//! ```
//! This only ever says *yes*. Whatever is unusual, wrong, late or unknown has no verdict here and goes the
//! long way, where the protocol library decides and finds the words; so this may be stricter than
//! the library and must never be laxer, which the property tests hold it to. No verdict is remembered:
//! each request is verified, only keys are kept.

mod claim;
mod date;
#[cfg(test)]
mod test;

pub use claim::{Claim, parse};
pub use date::{Stamp, now};

use crate::accounts::Account;
use hmac::{Hmac, KeyInit, Mac};
use http::request::Parts;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use subtle::ConstantTimeEq;

/// Seconds that a client's clock may be wrong (AWS: 15 minutes).
pub const SKEW_SECONDS_MAX: u64 = 15 * 60;
/// The longest that a presigned URL is good for, in seconds (AWS: seven days).
pub const EXPIRES_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;
/// Signing keys that are kept: one an account, day and region, so this is many accounts.
const KEYS_MAX: usize = 1024;

type Signer = Hmac<Sha256>;

/// A signing key and the account it was derived for.
struct Kept {
    account: Arc<Account>,
    key: Signer,
}

/// Verifies, and keeps the keys it has derived.
#[derive(Default)]
pub struct Verifier {
    /// By scope, as it stands in the request.
    keys: RwLock<HashMap<Box<str>, Kept>>,
}

impl Verifier {
    /// The account that made a request's claim, if that is beyond doubt.
    pub fn signer(
        &self,
        claim: &Claim<'_>,
        head: &Parts,
        now: u64,
        account: impl FnOnce(&str) -> Option<Arc<Account>>,
    ) -> Option<Arc<Account>> {
        if !claim.is_timely(now) {
            return None;
        }
        let account = account(claim.access_key)?;
        let mut canonical = Vec::with_capacity(1024);
        claim.canonical_request(head, &mut canonical);
        let digest = Sha256::digest(&canonical);
        let mut to_sign = canonical;
        to_sign.clear();
        claim.string_to_sign(&digest.into(), &mut to_sign);
        let (key, is_new) = match self.kept(claim, &account) {
            Some(key) => (key, false),
            None => (derive(account.secret_key.expose(), claim), true),
        };
        let mut mac = key.clone();
        mac.update(&to_sign);
        let signature: [u8; 32] = mac.finalize().into_bytes().into();
        if !bool::from(signature.ct_eq(&claim.signature)) {
            return None;
        }
        if is_new {
            self.keep(claim, &account, key);
        }
        Some(account)
    }

    fn kept(&self, claim: &Claim<'_>, account: &Arc<Account>) -> Option<Signer> {
        let keys = self.keys.read().expect("no holder of this lock panics");
        // An account that was changed since is another one, whatever its name.
        keys.get(claim.scope)
            .filter(|kept| Arc::ptr_eq(&kept.account, account))
            .map(|kept| kept.key.clone())
    }

    /// Keeps the key of somebody who has proved to know it.
    fn keep(&self, claim: &Claim<'_>, account: &Arc<Account>, key: Signer) {
        let mut keys = self.keys.write().expect("no holder of this lock panics");
        if keys.len() >= KEYS_MAX {
            keys.clear();
        }
        keys.insert(claim.scope.into(), Kept { account: Arc::clone(account), key });
    }
}

/// The key of a scope: date, region, service, end.
fn derive(secret: &str, claim: &Claim<'_>) -> Signer {
    let mut secret = ["AWS4", secret].concat().into_bytes();
    let mut key = signer(&secret);
    secret.fill(0);
    for part in [claim.date, claim.region, claim::SERVICE, claim::END] {
        key.update(part.as_bytes());
        key = signer(&key.finalize().into_bytes());
    }
    key
}

fn signer(key: &[u8]) -> Signer {
    Signer::new_from_slice(key).expect("HMAC takes keys of any length")
}
