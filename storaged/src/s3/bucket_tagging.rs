//! Tags of buckets: kept and shown, nothing else looks at them.

use super::{Api, document, tags};
use crate::store::BucketConfig;
use s3s::dto::{
    DeleteBucketTaggingInput, DeleteBucketTaggingOutput, GetBucketTaggingInput,
    GetBucketTaggingOutput, PutBucketTaggingInput, PutBucketTaggingOutput, Tagging,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

/// Tags of a bucket: as S3 has it.
const TAGS_MAX: usize = 50;

pub(super) async fn put(
    api: &Api,
    req: S3Request<PutBucketTaggingInput>,
) -> S3Result<S3Response<PutBucketTaggingOutput>> {
    let admitted = api.admitted(&req)?;
    let input = req.input;
    tags::of_document(input.tagging.tag_set.clone(), TAGS_MAX)?;
    let document = document::to_xml(&input.tagging)?;
    let kind = BucketConfig::Tagging;
    document::keep(api, input.bucket, admitted.bucket()?, kind, document).await?;
    Ok(S3Response::new(PutBucketTaggingOutput {}))
}

pub(super) fn get(
    api: &Api,
    req: &S3Request<GetBucketTaggingInput>,
) -> S3Result<S3Response<GetBucketTaggingOutput>> {
    let missing = S3ErrorCode::NoSuchTagSet;
    let kept = document::kept(api, &req.input.bucket, BucketConfig::Tagging, missing)?;
    let Tagging { tag_set } = document::from_xml(&kept)?;
    Ok(S3Response::new(GetBucketTaggingOutput { tag_set }))
}

pub(super) async fn delete(
    api: &Api,
    req: S3Request<DeleteBucketTaggingInput>,
) -> S3Result<S3Response<DeleteBucketTaggingOutput>> {
    let admitted = api.admitted(&req)?;
    document::drop(api, req.input.bucket, admitted.bucket()?, BucketConfig::Tagging).await?;
    Ok(S3Response::new(DeleteBucketTaggingOutput {}))
}
