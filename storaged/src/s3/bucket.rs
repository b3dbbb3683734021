//! Buckets: made, looked at, listed, removed. They are directories of an account's `stor`, and their
//! names are global.

use super::{Api, access, error, multipart};
use crate::store::{BucketRecord, Made, Removed, TxnError, Versioning, bucket, buckets};
use s3s::dto::{
    Bucket, CreateBucketInput, CreateBucketOutput, DeleteBucketInput, DeleteBucketOutput,
    GetBucketLocationInput, GetBucketLocationOutput, HeadBucketInput, HeadBucketOutput,
    ListBucketsInput, ListBucketsOutput, Owner,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};
use std::sync::Arc;

/// The region there is. Signatures for any are accepted.
pub(super) const REGION: &str = "us-east-1";
/// Buckets of one page: as S3 has it.
const PAGE_MAX: usize = 10_000;

pub(super) async fn create(
    api: &Api,
    req: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let account = Arc::clone(api.admitted(&req)?.account()?);
    let documents = access::new_bucket(api, &account.name, &req.headers)?;
    let input = req.input;
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

pub(super) fn head(
    api: &Api,
    req: &S3Request<HeadBucketInput>,
) -> S3Result<S3Response<HeadBucketOutput>> {
    api.admitted(req)?.bucket()?;
    Ok(S3Response::new(HeadBucketOutput {
        bucket_region: Some(REGION.to_owned()),
        ..HeadBucketOutput::default()
    }))
}

pub(super) fn location(
    api: &Api,
    req: &S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    api.admitted(req)?.bucket()?;
    // Nothing stands for us-east-1.
    Ok(S3Response::new(GetBucketLocationOutput::default()))
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
    let max = input.max_buckets.and_then(|max| usize::try_from(max).ok()).unwrap_or(PAGE_MAX);
    let mut found: Vec<_> = all
        .into_iter()
        .filter(|(name, _)| name.starts_with(&prefix) && *name > after)
        .take(max.saturating_add(1))
        .collect();
    let more = found.len() > max;
    found.truncate(max);
    let next = found.last().filter(|_| more).map(|(name, _)| name.clone());
    let shown = found.into_iter().map(|(name, record)| Bucket {
        bucket_region: Some(REGION.to_owned()),
        creation_date: Some(super::list::time(record.created_ms)),
        name: Some(name),
    });
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(shown.collect()),
        continuation_token: next,
        owner: Some(owner(&account.name)),
        prefix: input.prefix,
    }))
}

/// An account as S3 shows an owner.
pub(super) fn owner(name: &str) -> Owner {
    Owner { display_name: Some(name.to_owned()), id: Some(name.to_owned()) }
}
