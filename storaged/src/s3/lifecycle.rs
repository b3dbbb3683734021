//! Lifecycle configurations of buckets, and the header that says when an object will expire.

use super::{Api, Settings, document};
use crate::front::response::http_date;
use crate::lifecycle::{Rules, RulesError, State, Subject, Tags, abortion, expiry};
use crate::store::uploads::Upload;
use crate::store::{BucketConfig, ObjectRecord};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{
    BucketLifecycleConfiguration, DeleteBucketLifecycleInput, DeleteBucketLifecycleOutput,
    GetBucketLifecycleConfigurationInput, GetBucketLifecycleConfigurationOutput,
    PutBucketLifecycleConfigurationInput, PutBucketLifecycleConfigurationOutput, Timestamp,
    TransitionDefaultMinimumObjectSize,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

/// From which size on objects change their storage class: what S3 says unless told otherwise. There is one
/// class here, so that it means nothing.
const TRANSITION_SIZE: &str = "all_storage_classes_128K";

fn transition_size() -> Option<TransitionDefaultMinimumObjectSize> {
    Some(TRANSITION_SIZE.to_owned().into())
}

pub(super) async fn put(
    api: &Api,
    req: S3Request<PutBucketLifecycleConfigurationInput>,
) -> S3Result<S3Response<PutBucketLifecycleConfigurationOutput>> {
    let admitted = api.admitted(&req)?;
    let input = req.input;
    let size = input.transition_default_minimum_object_size;
    if size.is_some_and(|size| size.as_str() != TRANSITION_SIZE) {
        return Err(s3_error!(NotImplemented, "there is one storage class, and no transition"));
    }
    let Some(configuration) = input.lifecycle_configuration else {
        return Err(s3_error!(MalformedXML, "there is no lifecycle configuration"));
    };
    let document = document::to_xml(&Rules::with_ids(configuration))?;
    Rules::parse(&document).map_err(|e| refusal(&e))?;
    let kind = BucketConfig::Lifecycle;
    document::keep(api, input.bucket, admitted.bucket()?, kind, document).await?;
    Ok(S3Response::new(PutBucketLifecycleConfigurationOutput {
        transition_default_minimum_object_size: transition_size(),
    }))
}

pub(super) fn get(
    api: &Api,
    req: &S3Request<GetBucketLifecycleConfigurationInput>,
) -> S3Result<S3Response<GetBucketLifecycleConfigurationOutput>> {
    let missing = S3ErrorCode::NoSuchLifecycleConfiguration;
    let kept = document::kept(api, &req.input.bucket, BucketConfig::Lifecycle, missing)?;
    let BucketLifecycleConfiguration { rules } = document::from_xml(&kept)?;
    Ok(S3Response::new(GetBucketLifecycleConfigurationOutput {
        rules: Some(rules),
        transition_default_minimum_object_size: transition_size(),
    }))
}

pub(super) async fn delete(
    api: &Api,
    req: S3Request<DeleteBucketLifecycleInput>,
) -> S3Result<S3Response<DeleteBucketLifecycleOutput>> {
    let admitted = api.admitted(&req)?;
    document::drop(api, req.input.bucket, admitted.bucket()?, BucketConfig::Lifecycle).await?;
    Ok(S3Response::new(DeleteBucketLifecycleOutput {}))
}

fn refusal(error: &RulesError) -> S3Error {
    match error {
        RulesError::Malformed(_) => s3_error!(MalformedXML, "{error}"),
        RulesError::Argument(_) => s3_error!(InvalidArgument, "{error}"),
        RulesError::Request(_) => s3_error!(InvalidRequest, "{error}"),
        RulesError::NotOffered(_) => s3_error!(NotImplemented, "{error}"),
    }
}

/// What `x-amz-expiration` says of the current version of an object; nothing if it is kept for ever.
#[must_use]
pub(super) fn expiration(
    settings: &Settings,
    bucket: &str,
    key: &[u8],
    size: u64,
    modified_ms: u64,
    tags: &[(String, String)],
) -> Option<String> {
    // Settings that can't be read: whoever needs them will say so, a header need not.
    let found = settings.of(bucket).ok()?;
    let rules = found.lifecycle.as_deref()?;
    let state = State::Current;
    let subject = Subject { key, size, modified_ms, tags: Tags::Read(tags), state };
    let expiry = expiry(rules, &subject, settings.day())?;
    let rule = utf8_percent_encode(expiry.rule, NON_ALPHANUMERIC);
    let date = http_date(expiry.at_ms / 1000);
    Some(format!("expiry-date=\"{date}\", rule-id=\"{rule}\""))
}

/// As [`expiration`], of a record.
#[must_use]
pub(super) fn expiration_of(
    settings: &Settings,
    bucket: &str,
    key: &[u8],
    record: &ObjectRecord,
) -> Option<String> {
    let meta = &record.meta;
    expiration(settings, bucket, key, record.size, meta.modified_ms, &meta.tags)
}

/// What `x-amz-abort-date` and `x-amz-abort-rule-id` say of an upload; nothing if no rule will abort it.
#[must_use]
pub(super) fn abortion_of(
    settings: &Settings,
    bucket: &str,
    upload: &Upload,
) -> Option<(Timestamp, String)> {
    // As with expirations: a header need not say that settings can't be read.
    let found = settings.of(bucket).ok()?;
    let rules = found.lifecycle.as_deref()?;
    let told = abortion(rules, upload.key(), upload.initiated_ms, settings.day())?;
    Some((super::list::time(told.at_ms), told.rule.to_owned()))
}
