//! Buckets: made, looked at, listed, removed. They are directories of an account's `stor`, and their
//! names are global.

use super::{Api, access, error, multipart};
use crate::store::{
    BucketConfig, BucketRecord, Made, Removed, Snapshot, TxnError, Versioning, bucket,
    bucket_config, buckets,
};
use s3s::dto::{
    Bucket, CreateBucketConfiguration, CreateBucketInput, CreateBucketOutput, DeleteBucketInput,
    DeleteBucketOutput, GetBucketLocationInput, GetBucketLocationOutput, HeadBucketInput,
    HeadBucketOutput, ListBucketsInput, ListBucketsOutput, Owner,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};
use std::sync::Arc;

/// The region of buckets whose maker named none. Signatures for any are accepted.
pub(super) const REGION: &str = "us-east-1";
/// Characters of a region's name: twice what AWS's have.
const REGION_CHARS_MAX: usize = 64;
/// Buckets of one page: as S3 has it.
const PAGE_MAX: usize = 10_000;

pub(super) async fn create(
    api: &Api,
    req: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let account = Arc::clone(api.admitted(&req)?.account()?);
    let documents = access::new_bucket(api, &account.name, &req.headers)?;
    let input = req.input;
    let location = input.create_bucket_configuration.as_ref().map(named_location).transpose()?;
    let mut record = BucketRecord::new(account.id, super::now_ms());
    if input.object_lock_enabled_for_bucket == Some(true) {
        // Locks are of versions.
        record.object_lock = true;
        record.versioning = Versioning::Enabled;
    }
    let name = input.bucket.clone();
    let made = api.store.transact(move |txn| {
        let made = txn.make_bucket(&name, &record)?;
        if made == Made::New {
            for (kind, document) in documents {
                txn.put_bucket_config(&name, kind, document)?;
            }
            if let Some(location) = location.flatten() {
                txn.put_bucket_config(&name, BucketConfig::Location, location)?;
            }
        }
        Ok(made)
    });
    match made.await.map_err(|e| error::transact(e, |e| error::txn(&e)))? {
        Made::New => {
            Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{}", input.bucket)) }))
        }
        Made::Existed(record) if record.owner == account.id => {
            Err(s3_error!(BucketAlreadyOwnedByYou, "you have this bucket already"))
        }
        Made::Existed(_) => Err(s3_error!(BucketAlreadyExists, "somebody has this bucket")),
    }
}

/// The region that a bucket's maker names. There is one place, whatever it is called; but what was asked for
/// is what is shown.
fn named_location(configuration: &CreateBucketConfiguration) -> S3Result<Option<String>> {
    if configuration.bucket.is_some() || configuration.location.is_some() {
        return Err(s3_error!(NotImplemented, "directory buckets are not offered"));
    }
    let Some(constraint) = &configuration.location_constraint else { return Ok(None) };
    let name = constraint.as_str();
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if name.len() > REGION_CHARS_MAX || !name.chars().all(legal) {
        return Err(s3_error!(
            InvalidLocationConstraint,
            "The specified location-constraint is not valid"
        ));
    }
    // Nothing stands for the first region there was.
    Ok(Some(name.to_owned()).filter(|name| !name.is_empty() && name != REGION))
}

/// The region that a bucket is said to be in, if it is not the usual one.
fn region(view: &Snapshot, name: &str) -> S3Result<Option<String>> {
    let found = bucket_config(view, name, BucketConfig::Location);
    let found = found.map_err(|e| error::index(&e))?;
    Ok(found.map(|name| String::from_utf8_lossy(&name).into_owned()))
}

pub(super) fn head(
    api: &Api,
    req: &S3Request<HeadBucketInput>,
) -> S3Result<S3Response<HeadBucketOutput>> {
    api.admitted(req)?.bucket()?;
    let view = api.store.read().map_err(|e| error::index(&e))?;
    let region = region(&view, &req.input.bucket)?;
    Ok(S3Response::new(HeadBucketOutput {
        bucket_region: Some(region.unwrap_or_else(|| REGION.to_owned())),
        ..HeadBucketOutput::default()
    }))
}

pub(super) fn location(
    api: &Api,
    req: &S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    api.admitted(req)?.bucket()?;
    let view = api.store.read().map_err(|e| error::index(&e))?;
    let region = region(&view, &req.input.bucket)?;
    Ok(S3Response::new(GetBucketLocationOutput { location_constraint: region.map(Into::into) }))
}

pub(super) async fn delete(
    api: &Api,
    req: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    let owner = api.admitted(&req)?.bucket()?.owner;
    let name = req.input.bucket;
    let removed = loop {
        let asked = name.clone();
        let removed = api.store.transact(move |txn| {
            let record = bucket(txn, &asked).map_err(TxnError::from)?;
            match record.is_some_and(|record| record.owner == owner) {
                true => txn.remove_bucket(&asked),
                false => Ok(Removed::Missing),
            }
        });
        match removed.await.map_err(|e| error::transact(e, |e| error::txn(&e)))? {
            // They are no objects and don't keep a bucket, but each is an end of its own.
            Removed::Uploads => multipart::abort_some(api, &name).await?,
            removed => break removed,
        }
    };
    match removed {
        Removed::Uploads => unreachable!("they were seen to"),
        Removed::Gone => Ok(S3Response::new(DeleteBucketOutput {})),
        Removed::Missing => Err(s3_error!(NoSuchBucket, "the specified bucket does not exist")),
        Removed::NotEmpty => {
            Err(s3_error!(BucketNotEmpty, "the bucket you tried to delete is not empty"))
        }
    }
}

pub(super) fn list(
    api: &Api,
    req: S3Request<ListBucketsInput>,
) -> S3Result<S3Response<ListBucketsOutput>> {
    let account = Arc::clone(api.admitted(&req)?.account()?);
    let input = req.input;
    let view = api.store.read().map_err(|e| error::index(&e))?;
    let all = buckets(&view, account.id).map_err(|e| error::index(&e))?;
    let prefix = input.prefix.clone().unwrap_or_default();
    let after = input.continuation_token.unwrap_or_default();
    let max = match input.max_buckets.map(usize::try_from) {
        None => PAGE_MAX,
        Some(Ok(max @ 1..=PAGE_MAX)) => max,
        Some(_) => {
            return Err(s3_error!(InvalidArgument, "max-buckets is from 1 to {PAGE_MAX}"));
        }
    };
    let mut found = Vec::new();
    for (name, record) in all {
        if !name.starts_with(&prefix) || name <= after {
            continue;
        }
        let region = region(&view, &name)?.unwrap_or_else(|| REGION.to_owned());
        if input.bucket_region.as_ref().is_none_or(|wanted| *wanted == region) {
            found.push(Bucket {
                bucket_region: Some(region),
                creation_date: Some(super::list::time(record.created_ms)),
                name: Some(name),
            });
        }
        if found.len() > max {
            break;
        }
    }
    let more = found.len() > max;
    found.truncate(max);
    let next = found.last().filter(|_| more).and_then(|bucket| bucket.name.clone());
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(found),
        continuation_token: next,
        owner: Some(owner(&account.name)),
        prefix: input.prefix,
    }))
}

/// An account as S3 shows an owner.
pub(super) fn owner(name: &str) -> Owner {
    Owner { display_name: Some(name.to_owned()), id: Some(name.to_owned()) }
}
