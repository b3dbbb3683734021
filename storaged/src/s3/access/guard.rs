//! Decides about requests: gathers what a decision takes, and says no in the protocol's words.

use super::acl::{ANONYMOUS, Acl, AclError, Canned, Wanted};
use super::action::{Action, Needs, Scope};
use super::admitted::{Admitted, Caller};
use super::context::Context;
use super::control::Ownership;
use super::decide::{By, Case, Verdict, decide};
use super::facts::{Facts, Known};
use super::{denied, error, no_such_bucket};
use crate::accounts::Accounts;
use crate::front::Origin;
use crate::store::uploads::{UploadId, upload};
use crate::store::{ObjectRecord, Store, VersionRef, object, object_version};
use http::HeaderMap;
use http::header::IF_MATCH;
use s3s::auth::Credentials;
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use std::sync::Arc;
use std::time::SystemTime;

/// Decides, on behalf of the protocol library and of the handlers.
pub struct Guard {
    store: Store,
    accounts: Arc<Accounts>,
    known: Known,
}

/// A request to be decided about.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) needs: Needs,
    pub(super) key: Option<&'a str>,
    pub(super) version: Option<&'a str>,
    pub(super) headers: &'a HeaderMap,
    pub(super) query: &'a str,
    pub(super) origin: Origin,
    /// The tags that are to be, if they are not in the headers.
    pub(super) tags: Option<&'a [(String, String)]>,
    /// Whether the headers are the fields of a form.
    pub(super) form: bool,
    /// Whether it is about what the request's path names.
    pub(super) own: bool,
}

/// An object there is, as far as access to it goes.
struct Found {
    acl: Acl,
    record: ObjectRecord,
}

impl Guard {
    pub(in crate::s3) fn new(store: Store, accounts: Arc<Accounts>) -> Guard {
        Guard { store, accounts, known: Known::default() }
    }

    pub(super) fn caller(&self, credentials: Option<&Credentials>) -> S3Result<Caller> {
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
        let owner = self.accounts.name_of(record.owner);
        let facts = Arc::new(Facts::read(&view, bucket, record, owner)?);
        self.known.put(&facts, generation);
        Ok(facts)
    }

    /// Whether who asks may do what is asked.
    ///
    /// # Errors
    /// AccessDenied, or what is wrong with the question.
    pub(super) fn judge(
        &self,
        caller: Caller,
        facts: Arc<Facts>,
        ask: &Ask<'_>,
    ) -> S3Result<Admitted> {
        let is_owner = caller.owns(&facts);
        if !is_owner && (facts.owner_is_alone() || ask.needs == Needs::Owner) {
            return Err(denied());
        }
        let (lists, judged) = match is_owner && facts.owner_reads_all() {
            true => (true, None),
            false => self.weigh(&caller, &facts, ask)?,
        };
        let acl = match ask.needs {
            Needs::Write => self.list_of_new(&caller, &facts, ask.headers)?,
            _ => None,
        };
        Ok(Admitted { caller, facts: Some(facts), lists, acl, judged })
    }

    /// Decides about each action that is needed; whether keys may be known, and the version that was looked at.
    fn weigh(
        &self,
        caller: &Caller,
        facts: &Facts,
        ask: &Ask<'_>,
    ) -> S3Result<(bool, Option<Option<crate::store::Version>>)> {
        let listed = facts.ownership != Ownership::BucketOwnerEnforced;
        let said = |found: Option<&Found>, action, key| {
            let context = Context {
                account: caller.name(),
                owner: &facts.owner_name,
                origin: ask.origin,
                headers: ask.headers,
                query: ask.query,
                version: ask.version,
                object_tags: found.map(|found| &found.record.meta.tags[..]),
                tags: ask.tags,
                form: ask.form,
                now: SystemTime::now(),
            };
            decide(&Case {
                facts,
                account: caller.name(),
                is_owner: caller.owns(facts),
                action,
                key,
                values: &|key| context.values(key),
                object: found.map(|found| &found.acl),
            })
        };
        let lists = matches!(said(None, Action::ListBucket, None), Verdict::Allowed(_));
        let hides = !lists && ask.own && ask.needs != Needs::Write;
        let looks = ask.key.is_some() && (listed || hides || facts.asks_for_tags());
        let found = if looks { self.find(facts, ask)? } else { None };
        let mut by = None;
        for action in actions(ask) {
            // That it is not there would be an answer, too.
            if hides && found.is_none() && is_about_one_there_is(action) {
                return Err(denied());
            }
            match said(found.as_ref(), action, ask.key) {
                Verdict::Allowed(By::Policy) if mends(action) => {
                    return Err(s3_error!(
                        MethodNotAllowed,
                        "only the account that owns the bucket may see or change its policy"
                    ));
                }
                Verdict::Allowed(ground) => by = by.or(Some(ground)),
                // Whoever writes by a list says with it whose the object is.
                Verdict::Silent if action == Action::PutObjectAcl && by == Some(By::Acl) => {}
                // What one began, one may look at and end, whether or not anybody wrote that down.
                Verdict::Silent
                    if is_about_an_upload(action) && self.began(caller, facts, ask)? => {}
                // There is no list of what there isn't: who may list learns that.
                Verdict::Silent if listed && lists && found.is_none() && reads(action) => {}
                Verdict::Silent | Verdict::Denied => return Err(denied()),
            }
        }
        Ok((lists, looks.then(|| found.map(|found| found.record.version))))
    }

    /// Whether who asks began the upload that the request names.
    fn began(&self, caller: &Caller, facts: &Facts, ask: &Ask<'_>) -> S3Result<bool> {
        let (Some(name), Some(key)) = (caller.name(), ask.key) else { return Ok(false) };
        let mut query = form_urlencoded::parse(ask.query.as_bytes());
        let id = query.find(|(name, _)| name == "uploadId");
        let id = id.and_then(|(_, id)| UploadId::parse(&id));
        let (Some(id), Ok(path)) = (id, facts.path(key)) else { return Ok(false) };
        let view = self.store.read().map_err(|e| error::index(&e))?;
        let upload = upload(&view, id).map_err(|e| error::index(&e))?;
        Ok(upload.is_some_and(|upload| upload.path == path && upload.initiator == name))
    }

    fn find(&self, facts: &Facts, ask: &Ask<'_>) -> S3Result<Option<Found>> {
        let Some(key) = ask.key else { return Ok(None) };
        let Ok(path) = facts.path(key) else { return Ok(None) };
        let view = self.store.read().map_err(|e| error::index(&e))?;
        let record = match ask.version.map(VersionRef::parse) {
            None => object(&view, &path),
            Some(Some(version)) => object_version(&view, &path, version),
            Some(None) => Ok(None),
        };
        let Some(record) = record.map_err(|e| error::index(&e))? else { return Ok(None) };
        let acl = list_of(&record, facts)?;
        Ok(Some(Found { acl, record }))
    }

    /// The list of an object that a request writes, as it is kept.
    fn list_of_new(
        &self,
        caller: &Caller,
        facts: &Facts,
        headers: &HeaderMap,
    ) -> S3Result<Option<String>> {
        let wanted = Wanted::of_headers(headers).map_err(|e| told(&e))?;
        self.list_for(caller.name().unwrap_or(ANONYMOUS), facts, wanted)
    }

    /// The list of an object that `writer` writes, as it is kept, given what was asked for.
    ///
    /// # Errors
    /// When that is not allowed here.
    pub(super) fn list_for(
        &self,
        writer: &str,
        facts: &Facts,
        wanted: Option<Wanted>,
    ) -> S3Result<Option<String>> {
        let bucket_owner = facts.owner_name.as_str();
        let gives_away = wanted == Some(Wanted::Canned(Canned::BucketOwnerFullControl));
        let owner = match facts.ownership {
            Ownership::BucketOwnerEnforced => {
                return match wanted {
                    None => Ok(None),
                    Some(wanted) if wanted.is_bucket_owners(bucket_owner) => Ok(None),
                    Some(_) => Err(not_supported()),
                };
            }
            Ownership::BucketOwnerPreferred if gives_away => bucket_owner,
            Ownership::BucketOwnerPreferred | Ownership::ObjectWriter => writer,
        };
        let wanted = wanted.unwrap_or(Wanted::Canned(Canned::Private));
        let acl = self.checked(facts, wanted, owner)?;
        if acl == Acl::private(bucket_owner) {
            return Ok(None);
        }
        acl.text().map(Some).map_err(|e| error::internal(&e))
    }

    /// A list, if all it names exists and the public is not let in where that is blocked.
    ///
    /// # Errors
    /// InvalidArgument, AccessDenied.
    pub(super) fn checked(&self, facts: &Facts, wanted: Wanted, owner: &str) -> S3Result<Acl> {
        let known = |name: &&str| self.accounts.by_name(name).is_some() || *name == owner;
        if let Some(stranger) = wanted.accounts().find(|name| !known(name)) {
            return Err(s3_error!(InvalidArgument, "Invalid id: there is no account {stranger:?}"));
        }
        let acl = wanted.list(owner, &facts.owner_name);
        if facts.block.block_public_acls && acl.is_public() {
            return Err(s3_error!(
                AccessDenied,
                "the list lets in the public, and the bucket's public access block forbids that"
            ));
        }
        Ok(acl)
    }

    /// Refuses when the client expects another owner.
    ///
    /// # Errors
    /// AccessDenied.
    pub(super) fn expect_owner(headers: &HeaderMap, name: &str, facts: &Facts) -> S3Result<()> {
        match headers.get(name) {
            Some(owner) if owner.as_bytes() != facts.owner_name.as_bytes() => Err(denied()),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether there is an account of this name.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.accounts.by_name(name).is_some()
    }
}

/// The list of an object there is.
///
/// # Errors
/// When it can't be read.
pub(super) fn list_of(record: &ObjectRecord, facts: &Facts) -> S3Result<Acl> {
    match &record.meta.acl {
        None => Ok(Acl::private(&facts.owner_name)),
        Some(text) => Acl::parse(text.as_bytes()).map_err(|e| error::internal(&e)),
    }
}

pub(super) fn not_supported() -> S3Error {
    s3_error!(
        AccessControlListNotSupported,
        "the bucket does not allow ACLs: its ownership control is BucketOwnerEnforced"
    )
}

/// What is wrong with a list, in the protocol's words.
pub(super) fn told(error: &AclError) -> S3Error {
    let code = match error {
        AclError::Canned(_) | AclError::Header(_) | AclError::Group(_) => {
            S3ErrorCode::InvalidArgument
        }
        AclError::Both => S3ErrorCode::InvalidRequest,
        AclError::NotServed(_) => S3ErrorCode::NotImplemented,
        AclError::Malformed | AclError::TooMany => S3ErrorCode::MalformedACLError,
        AclError::Email => S3ErrorCode::UnresolvableGrantByEmailAddress,
    };
    S3Error::with_message(code, error.to_string())
}

fn mends(action: Action) -> bool {
    matches!(action, Action::GetBucketPolicy | Action::PutBucketPolicy | Action::DeleteBucketPolicy)
}

/// Whether an action reads an object or its list, for which a list of its own would be asked.
fn reads(action: Action) -> bool {
    matches!(
        action,
        Action::GetObject
            | Action::GetObjectVersion
            | Action::GetObjectAcl
            | Action::GetObjectVersionAcl
    )
}

/// Whether an action can only be done to an object that there is.
fn is_about_one_there_is(action: Action) -> bool {
    let of_what_is_not =
        matches!(action, Action::PutObject | Action::DeleteObject | Action::DeleteObjectVersion);
    action.scope() == Scope::Object && !of_what_is_not && !is_about_an_upload(action)
}

/// Whether an action is done to an upload, which whoever began it may do (AWS, "Multipart upload API and permissions").
fn is_about_an_upload(action: Action) -> bool {
    matches!(action, Action::AbortMultipartUpload | Action::ListMultipartUploadParts)
}

/// The actions that a request takes.
fn actions(ask: &Ask<'_>) -> Vec<Action> {
    let versioned = |plain, versioned| if ask.version.is_some() { versioned } else { plain };
    let mut all = match ask.needs {
        Needs::Account | Needs::EachKey | Needs::Owner => Vec::new(),
        Needs::One(action) => vec![action],
        Needs::Versioned(plain, version) => vec![versioned(plain, version)],
        Needs::Attributes => vec![
            versioned(Action::GetObject, Action::GetObjectVersion),
            versioned(Action::GetObjectAttributes, Action::GetObjectVersionAttributes),
        ],
        Needs::Write => {
            let has = |name: &str| ask.headers.contains_key(name);
            let grants = ask.headers.keys().any(|name| name.as_str().starts_with("x-amz-grant-"));
            let more = [
                (Action::PutObjectTagging, has("x-amz-tagging")),
                (Action::PutObjectAcl, has("x-amz-acl") || grants),
                (Action::PutObjectLegalHold, has("x-amz-object-lock-legal-hold")),
                (
                    Action::PutObjectRetention,
                    has("x-amz-object-lock-mode") || has("x-amz-object-lock-retain-until-date"),
                ),
            ];
            let more = more.into_iter().filter(|(_, asked)| *asked).map(|(action, _)| action);
            std::iter::once(Action::PutObject).chain(more).collect()
        }
    };
    // Whoever learns whether a tag is the object's learns something of its content (AWS, "Conditional requests").
    let changes = [Action::PutObject, Action::DeleteObject, Action::DeleteObjectVersion];
    if all.first().is_some_and(|first| changes.contains(first)) && names_a_tag(ask.headers) {
        all.push(versioned(Action::GetObject, Action::GetObjectVersion));
    }
    all
}

/// Whether a request is to be done to an object of a certain entity tag alone.
fn names_a_tag(headers: &HeaderMap) -> bool {
    headers.get_all(IF_MATCH).iter().any(|value| value != "*")
}
