//! The operations on access control lists, of buckets and of objects.

use super::super::{Api, document, error};
use super::acl::{Acl, Wanted};
use super::admitted::Admitted;
use super::control::Ownership;
use super::denied;
use super::facts::Facts;
use super::guard::{list_of, not_supported, told};
use crate::events::{Change, EventKind};
use crate::store::{
    BucketConfig, IndexError, ObjectPath, ObjectRecord, TxnError, VersionRef, View, object,
    object_version,
};
use http::HeaderMap;
use s3s::dto::{
    AccessControlPolicy, GetBucketAclInput, GetBucketAclOutput, GetObjectAclInput,
    GetObjectAclOutput, PutBucketAclInput, PutBucketAclOutput, PutObjectAclInput,
    PutObjectAclOutput,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

pub(in crate::s3) fn get_bucket_acl(
    api: &Api,
    req: &S3Request<GetBucketAclInput>,
) -> S3Result<S3Response<GetBucketAclOutput>> {
    let admitted = api.admitted(req)?;
    let AccessControlPolicy { grants, owner } = shown_of_bucket(admitted.facts()?).document();
    Ok(S3Response::new(GetBucketAclOutput { grants, owner }))
}

fn shown_of_bucket(facts: &Facts) -> Acl {
    match facts.ownership {
        Ownership::BucketOwnerEnforced => Acl::private(&facts.owner_name),
        Ownership::BucketOwnerPreferred | Ownership::ObjectWriter => facts.acl.clone(),
    }
}

/// What a request asks a list to be, by its headers or its document; whom it calls the owner must be.
fn wanted(headers: &HeaderMap, body: Option<AccessControlPolicy>, owner: &str) -> S3Result<Wanted> {
    let by_headers = Wanted::of_headers(headers).map_err(|e| told(&e))?;
    match (by_headers, body) {
        (Some(wanted), None) => Ok(wanted),
        (None, Some(document)) => {
            let (named, wanted) = Wanted::of_document(document).map_err(|e| told(&e))?;
            match named {
                Some(named) if named == owner => Ok(wanted),
                Some(_) => Err(denied()),
                None => Err(s3_error!(MalformedACLError, "the list does not name its owner")),
            }
        }
        (Some(_), Some(_)) => {
            Err(s3_error!(UnexpectedContent, "a list is given by headers or in the body, not both"))
        }
        (None, None) => Err(s3_error!(
            MissingSecurityHeader,
            "your request was missing a required header: x-amz-acl, or a grant"
        )),
    }
}

pub(in crate::s3) async fn put_bucket_acl(
    api: &Api,
    req: S3Request<PutBucketAclInput>,
) -> S3Result<S3Response<PutBucketAclOutput>> {
    let admitted = api.admitted(&req)?;
    let facts = admitted.facts()?;
    let owner = facts.owner_name.as_str();
    let wanted = wanted(&req.headers, req.input.access_control_policy, owner)?;
    if facts.ownership == Ownership::BucketOwnerEnforced {
        return match wanted.is_bucket_owners(owner) {
            true => Ok(S3Response::new(PutBucketAclOutput {})),
            false => Err(not_supported()),
        };
    }
    let acl = api.guard.checked(facts, wanted, owner)?;
    let text = acl.text().map_err(|e| error::internal(&e))?;
    document::keep(api, facts.name.clone(), &facts.record, BucketConfig::Acl, text.into_bytes())
        .await?;
    Ok(S3Response::new(PutBucketAclOutput {}))
}

pub(in crate::s3) fn get_object_acl(
    api: &Api,
    req: &S3Request<GetObjectAclInput>,
) -> S3Result<S3Response<GetObjectAclOutput>> {
    let admitted = api.admitted(req)?;
    let facts = admitted.facts()?;
    let path = admitted.path(&req.input.key)?;
    let version = version(req.input.version_id.as_deref())?;
    let record = judged(api, &admitted, &path, version)?;
    let acl = match facts.ownership {
        Ownership::BucketOwnerEnforced => Acl::private(&facts.owner_name),
        Ownership::BucketOwnerPreferred | Ownership::ObjectWriter => list_of(&record, facts)?,
    };
    let AccessControlPolicy { grants, owner } = acl.document();
    Ok(S3Response::new(GetObjectAclOutput { grants, owner, request_charged: None }))
}

fn version(text: Option<&str>) -> S3Result<Option<VersionRef>> {
    let parse = |text| {
        VersionRef::parse(text)
            .ok_or_else(|| s3_error!(InvalidArgument, "Invalid version id specified"))
    };
    text.map(parse).transpose()
}

fn gone(admitted: &Admitted, version: Option<VersionRef>) -> S3Error {
    match version {
        None => admitted.missing_key(),
        Some(_) => s3_error!(NoSuchVersion, "the specified version does not exist"),
    }
}

fn no_list() -> S3Error {
    s3_error!(MethodNotAllowed, "a delete marker has no list")
}

/// A version as it is now, if it is still the one that was decided about.
fn judged(
    api: &Api,
    admitted: &Admitted,
    path: &ObjectPath,
    version: Option<VersionRef>,
) -> S3Result<ObjectRecord> {
    let view = api.store.read().map_err(|e| error::index(&e))?;
    let found = found(&view, path, version).map_err(|e| error::index(&e))?;
    let record = found.ok_or_else(|| gone(admitted, version))?;
    if record.is_marker() {
        return Err(no_list());
    }
    admitted.still_about(&record)?;
    Ok(record)
}

fn found(
    view: &(impl View + ?Sized),
    path: &ObjectPath,
    version: Option<VersionRef>,
) -> Result<Option<ObjectRecord>, IndexError> {
    match version {
        None => object(view, path),
        Some(version) => object_version(view, path, version),
    }
}

/// Why a list was not changed.
enum Refused {
    Gone,
    Marker,
    Changed,
    Store(TxnError),
}

pub(in crate::s3) async fn put_object_acl(
    api: &Api,
    req: S3Request<PutObjectAclInput>,
) -> S3Result<S3Response<PutObjectAclOutput>> {
    let (admitted, teller) = (api.admitted(&req)?, api.teller(&req)?);
    let facts = admitted.facts()?;
    let path = admitted.path(&req.input.key)?;
    let version = version(req.input.version_id.as_deref())?;
    let record = judged(api, &admitted, &path, version)?;
    // Whose an object is does not change with its list.
    let owner = match facts.ownership {
        Ownership::BucketOwnerEnforced => facts.owner_name.clone(),
        Ownership::BucketOwnerPreferred | Ownership::ObjectWriter => list_of(&record, facts)?.owner,
    };
    let wanted = wanted(&req.headers, req.input.access_control_policy, &owner)?;
    if facts.ownership == Ownership::BucketOwnerEnforced {
        return match wanted.is_bucket_owners(&owner) {
            true => Ok(S3Response::new(PutObjectAclOutput::default())),
            false => Err(not_supported()),
        };
    }
    let acl = api.guard.checked(facts, wanted, &owner)?;
    let text = match acl == Acl::private(&facts.owner_name) {
        true => None,
        false => Some(acl.text().map_err(|e| error::internal(&e))?),
    };
    let seen = record.version;
    let done = api.store.transact(move |txn| {
        let record = found(txn, &path, version)
            .map_err(|e| Refused::Store(e.into()))?
            .ok_or(Refused::Gone)?;
        if record.is_marker() {
            return Err(Refused::Marker);
        }
        if record.version != seen {
            return Err(Refused::Changed);
        }
        let mut meta = record.meta.clone();
        meta.acl = text;
        txn.change_object(&path, &record, meta);
        Ok(())
    });
    let refused = |refused| match refused {
        Refused::Gone => gone(&admitted, version),
        Refused::Marker => no_list(),
        Refused::Changed => {
            s3_error!(OperationAborted, "the object was overwritten meanwhile; try again")
        }
        Refused::Store(e) => error::txn(&e),
    };
    done.await.map_err(|e| error::transact(e, refused))?;
    let shown = super::super::version::shown(&admitted, &record)?;
    let change = || {
        [Change {
            kind: EventKind::AclPut,
            key: req.input.key,
            size: Some(record.size),
            etag: Some(record.meta.etag.to_string()),
            version: shown,
            sequence: record.version.0,
            time_ms: super::super::now_ms(),
        }]
    };
    api.tell(&teller, &facts.name, change).await;
    Ok(S3Response::new(PutObjectAclOutput::default()))
}
