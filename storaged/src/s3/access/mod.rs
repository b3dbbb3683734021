//! Who may do what: decided before an operation's handler runs, and asked again by handlers that touch
//! more than the request's path names.
//!
//! ```text
//!   s3s (signature) ─▶ Hook ─▶ Guard ─▶ Admitted, in the request's extensions ─▶ handler
//!                               ├── Facts of the bucket: policy, lists, blocks
//!                               ├── Context: what the request says
//!                               └── decide (pure)
//! ```
//! Owns the decision and its sentence, 403 or 404, and the operations on what decides: policies, lists,
//! blocks, ownership. An account's canonical id is its name.

pub mod acl;
mod action;
mod admitted;
mod context;
mod control;
mod decide;
mod facts;
mod guard;
mod lists;
pub mod policy;
mod settings;

pub use action::{Action, Needs, Scope, needs};
pub use admitted::{Admitted, Caller};
pub use control::{Block, Ownership};
pub use facts::{Facts, Rules};
pub use guard::Guard;
pub(super) use lists::{get_bucket_acl, get_object_acl, put_bucket_acl, put_object_acl};
pub(super) use settings::{
    delete_ownership, delete_policy, delete_public_block, get_ownership, get_policy,
    get_public_block, new_bucket, policy_status, put_ownership, put_policy, put_public_block,
};

use super::post::FromForm;
use super::{Api, error};
use crate::front::Origin;
use guard::Ask;
use http::{Extensions, Uri};
use s3s::access::{S3Access, S3AccessContext};
use s3s::dto::PutObjectTaggingInput;
use s3s::path::S3Path;
use s3s::{S3Error, S3Request, S3Result, s3_error};
use std::sync::{Arc, OnceLock};

/// The owner of the bucket, as the client expects it.
const EXPECTED_OWNER: &str = "x-amz-expected-bucket-owner";
/// The owner of the bucket that is copied from, as the client expects it.
const EXPECTED_SOURCE_OWNER: &str = "x-amz-source-expected-bucket-owner";

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

/// The answer to who may not.
#[must_use]
pub fn denied() -> S3Error {
    s3_error!(AccessDenied, "Access Denied")
}

pub(super) fn no_such_bucket() -> S3Error {
    s3_error!(NoSuchBucket, "the specified bucket does not exist")
}

/// The hook of the protocol library.
pub(super) struct Hook(pub(super) Arc<Guard>);

#[async_trait::async_trait]
impl S3Access for Hook {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let origin = origin(cx.extensions_mut());
        let proven = cx.extensions_mut().get::<Proven>().cloned();
        let form = cx.extensions_mut().get::<FromForm>().is_some();
        let caller = match proven {
            Some(Proven(caller)) => caller,
            None => self.0.caller(cx.credentials())?,
        };
        let (name, path) = (cx.s3_op().name(), cx.s3_path());
        let needs = needs(name);
        if needs == Needs::Account {
            let (lists, acl, judged) = (false, None, None);
            let admitted = Admitted { caller, facts: None, lists, acl, judged };
            admitted.account()?;
            admit(cx.extensions_mut(), admitted);
            return Ok(());
        }
        let facts = self.0.facts(path.get_bucket_name().ok_or_else(denied)?)?;
        let key = match path {
            S3Path::Object { key, .. } => Some(&**key),
            S3Path::Root | S3Path::Bucket { .. } => None,
        };
        let headers = cx.headers();
        Guard::expect_owner(headers, EXPECTED_OWNER, &facts)?;
        let version = parameter(cx.uri(), "versionId");
        // What the tags are to be is in the body: decided below, once that is read.
        let waits = name == "PutObjectTagging" && facts.asks_for_new_tags();
        let ask = Ask {
            needs: if waits { Needs::EachKey } else { needs },
            key,
            version: version.as_deref(),
            headers,
            query: cx.uri().query().unwrap_or_default(),
            origin,
            tags: None,
            form,
            own: true,
        };
        let admitted = self.0.judge(caller, facts, &ask)?;
        admit(cx.extensions_mut(), admitted);
        Ok(())
    }

    async fn put_object_tagging(&self, req: &mut S3Request<PutObjectTaggingInput>) -> S3Result<()> {
        let Some(before) = req.extensions.get::<Admitted>().cloned() else { return Err(denied()) };
        let facts = Arc::clone(before.facts()?);
        if !facts.asks_for_new_tags() {
            return Ok(());
        }
        let tags = req.input.tagging.tag_set.iter();
        let tags = tags.map(|tag| {
            (tag.key.clone().unwrap_or_default(), tag.value.clone().unwrap_or_default())
        });
        let tags: Vec<_> = tags.collect();
        let ask = Ask {
            needs: needs("PutObjectTagging"),
            key: Some(&req.input.key),
            version: req.input.version_id.as_deref(),
            headers: &req.headers,
            query: req.uri.query().unwrap_or_default(),
            origin: origin(&req.extensions),
            tags: Some(&tags),
            form: false,
            own: true,
        };
        let admitted = self.0.judge(before.caller, facts, &ask)?;
        req.extensions.insert(admitted);
        Ok(())
    }
}

fn admit(extensions: &mut Extensions, admitted: Admitted) {
    if let Some(Probe(place)) = extensions.get() {
        place.get_or_init(|| admitted.caller.clone());
    }
    extensions.insert(admitted);
}

fn origin(extensions: &Extensions) -> Origin {
    extensions.get::<Origin>().copied().unwrap_or_default()
}

/// A parameter of the query. The protocol library refuses it twice.
fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let mut all = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    all.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
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
        self.may_version(req, action, bucket, key, None)
    }

    /// As [`Api::may`], to one version. The action is the one for versions then.
    ///
    /// # Errors
    /// AccessDenied, or NoSuchBucket.
    pub(super) fn may_version<T>(
        &self,
        req: &S3Request<T>,
        action: Action,
        bucket: &str,
        key: &str,
        version: Option<&str>,
    ) -> S3Result<Admitted> {
        self.may_do(
            req,
            bucket,
            &Ask {
                needs: Needs::One(action),
                key: Some(key),
                version,
                headers: &req.headers,
                query: req.uri.query().unwrap_or_default(),
                origin: origin(&req.extensions),
                tags: None,
                form: false,
                own: false,
            },
        )
    }

    fn may_do<T>(&self, req: &S3Request<T>, bucket: &str, ask: &Ask<'_>) -> S3Result<Admitted> {
        let caller = self.admitted(req)?.caller;
        let facts = self.guard.facts(bucket)?;
        Guard::expect_owner(&req.headers, EXPECTED_SOURCE_OWNER, &facts)?;
        self.guard.judge(caller, facts, ask)
    }
}
