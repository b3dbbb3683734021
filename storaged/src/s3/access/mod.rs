//! Who may do what: decided before an operation's handler runs, and asked again by handlers that touch
//! more than the request's path names.
//!
//! ```text
//!   s3s (signature) ─▶ Guard::check ─▶ Admitted, in the request's extensions ─▶ handler
//!                        └── Facts of the bucket
//! ```
//! Owns the decision and its sentence, 403 or 404. Never changes anything.

mod action;
mod facts;

pub use action::{Action, Needs, Scope, needs};
pub use facts::Facts;
use facts::Known;

use super::{Api, error};
use crate::accounts::{Account, Accounts};
use crate::store::{BucketRecord, ObjectPath, Store};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::Credentials;
use s3s::path::S3Path;
use s3s::{S3Error, S3Request, S3Result, s3_error};
use std::sync::{Arc, OnceLock};

/// Who asks.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Somebody without a signature.
    Anonymous,
    /// Who signed.
    Account(Arc<Account>),
}

/// An extension of a request: who asks was found out before the protocol library came to it. Only this
/// process can add one.
#[derive(Debug, Clone)]
pub struct Proven(pub Caller);

/// An extension of a request: where the hook writes down who asks, once they may.
#[derive(Debug, Clone, Default)]
pub struct Probe(Arc<OnceLock<Caller>>);

impl Probe {
    /// Who asks, if they have been let in.
    #[must_use]
    pub fn caller(&self) -> Option<Caller> {
        self.0.get().cloned()
    }
}

/// A request that may go on.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// Who asks.
    pub caller: Caller,
    facts: Option<Arc<Facts>>,
}

impl Admitted {
    /// The bucket's facts.
    ///
    /// # Errors
    /// When the request names no bucket that exists; the hook has answered that before.
    pub fn facts(&self) -> S3Result<&Arc<Facts>> {
        self.facts.as_ref().ok_or_else(no_such_bucket)
    }

    /// The bucket.
    ///
    /// # Errors
    /// As [`Admitted::facts`].
    pub fn bucket(&self) -> S3Result<&BucketRecord> {
        self.facts().map(|facts| &facts.record)
    }

    /// Where a key of the bucket is: under the account of the bucket's owner.
    ///
    /// # Errors
    /// When the key is empty or too long.
    pub fn path(&self, key: &str) -> S3Result<ObjectPath> {
        self.facts()?.path(key)
    }

    /// Who asks, when that is an account.
    ///
    /// # Errors
    /// When nobody signed.
    pub fn account(&self) -> S3Result<&Arc<Account>> {
        match &self.caller {
            Caller::Account(account) => Ok(account),
            Caller::Anonymous => Err(denied()),
        }
    }
}

/// The answer to who may not.
#[must_use]
pub fn denied() -> S3Error {
    s3_error!(AccessDenied, "Access Denied")
}

pub(super) fn no_such_bucket() -> S3Error {
    s3_error!(NoSuchBucket, "the specified bucket does not exist")
}

/// Decides, on behalf of the protocol library and of the handlers.
pub struct Guard {
    store: Store,
    accounts: Arc<Accounts>,
    known: Known,
}

impl Guard {
    pub(super) fn new(store: Store, accounts: Arc<Accounts>) -> Guard {
        Guard { store, accounts, known: Known::default() }
    }

    fn caller(&self, credentials: Option<&Credentials>) -> S3Result<Caller> {
        let Some(credentials) = credentials else { return Ok(Caller::Anonymous) };
        // The signature was good a moment ago; the account may have gone since.
        let account = self.accounts.by_access_key(&credentials.access_key);
        account.map(Caller::Account).ok_or_else(denied)
    }

    /// A bucket's facts.
    ///
    /// # Errors
    /// When there is no such bucket or the index fails.
    pub fn facts(&self, bucket: &str) -> S3Result<Arc<Facts>> {
        // Before the view: what is read then is at least as new as this says.
        let generation = self.store.settings_generation();
        if let Some(facts) = self.known.get(bucket, generation) {
            return Ok(facts);
        }
        let view = self.store.read().map_err(|e| error::index(&e))?;
        let record = crate::store::bucket(&view, bucket).map_err(|e| error::index(&e))?;
        let record = record.ok_or_else(no_such_bucket)?;
        let facts = Arc::new(Facts { name: bucket.to_owned(), record });
        self.known.put(&facts, generation);
        Ok(facts)
    }

    fn admit(&self, caller: Caller, needs: Needs, path: &S3Path) -> S3Result<Admitted> {
        if needs == Needs::Account {
            let admitted = Admitted { caller, facts: None };
            admitted.account()?;
            return Ok(admitted);
        }
        let bucket = path.get_bucket_name().ok_or_else(denied)?;
        let facts = self.facts(bucket)?;
        owner_only(&caller, &facts)?;
        Ok(Admitted { caller, facts: Some(facts) })
    }
}

fn owner_only(caller: &Caller, facts: &Facts) -> S3Result<()> {
    match caller {
        Caller::Account(account) if account.id == facts.owner() => Ok(()),
        Caller::Account(_) | Caller::Anonymous => Err(denied()),
    }
}

/// The hook of the protocol library.
pub(super) struct Hook(pub(super) Arc<Guard>);

#[async_trait::async_trait]
impl S3Access for Hook {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let caller = match cx.extensions_mut().get::<Proven>().cloned() {
            Some(Proven(caller)) => caller,
            None => self.0.caller(cx.credentials())?,
        };
        let admitted = self.0.admit(caller, needs(cx.s3_op().name()), cx.s3_path())?;
        if let Some(Probe(place)) = cx.extensions_mut().get() {
            place.get_or_init(|| admitted.caller.clone());
        }
        cx.extensions_mut().insert(admitted);
        Ok(())
    }
}

impl Api {
    /// What the hook found out about a request.
    ///
    /// # Errors
    /// When the hook was not there: nothing is done then.
    pub(super) fn admitted<T>(&self, req: &S3Request<T>) -> S3Result<Admitted> {
        req.extensions.get::<Admitted>().cloned().ok_or_else(denied)
    }

    /// Whether who asks may do this too, to another bucket or key than the request's own, and where
    /// that is.
    ///
    /// # Errors
    /// AccessDenied, or NoSuchBucket.
    pub(super) fn may<T>(
        &self,
        req: &S3Request<T>,
        action: Action,
        bucket: &str,
        key: &str,
    ) -> S3Result<Admitted> {
        let caller = self.admitted(req)?.caller;
        let facts = self.guard.facts(bucket)?;
        owner_only(&caller, &facts)?;
        let _ = (action, key);
        Ok(Admitted { caller, facts: Some(facts) })
    }
}
