//! CORS: which web pages of other origins a browser lets use a bucket.
//!
//! ```text
//!   request ─▶ Gate ─ OPTIONS ─▶ answered here, by the bucket's rules (no signature: browsers send none)
//!               └── others ─▶ the service behind ─▶ its answer, with the headers of the rule that fits
//! ```
//! The rules protect a browser's user, not the bucket: access is decided all the same.

mod gate;
mod rules;

pub use gate::Gate;
pub use rules::{Rule, Rules};

use super::{Api, document};
use crate::store::BucketConfig;
use s3s::dto::{
    CORSConfiguration, DeleteBucketCorsInput, DeleteBucketCorsOutput, GetBucketCorsInput,
    GetBucketCorsOutput, PutBucketCorsInput, PutBucketCorsOutput,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

pub(super) async fn put(
    api: &Api,
    req: S3Request<PutBucketCorsInput>,
) -> S3Result<S3Response<PutBucketCorsOutput>> {
    let admitted = api.admitted(&req)?;
    let input = req.input;
    let document = document::to_xml(&input.cors_configuration)?;
    Rules::parse(&document)?;
    document::keep(api, input.bucket, admitted.bucket()?, BucketConfig::Cors, document).await?;
    Ok(S3Response::new(PutBucketCorsOutput {}))
}

pub(super) fn get(
    api: &Api,
    req: &S3Request<GetBucketCorsInput>,
) -> S3Result<S3Response<GetBucketCorsOutput>> {
    let missing = S3ErrorCode::NoSuchCORSConfiguration;
    let kept = document::kept(api, &req.input.bucket, BucketConfig::Cors, missing)?;
    let CORSConfiguration { cors_rules } = document::from_xml(&kept)?;
    Ok(S3Response::new(GetBucketCorsOutput { cors_rules: Some(cors_rules) }))
}

pub(super) async fn delete(
    api: &Api,
    req: S3Request<DeleteBucketCorsInput>,
) -> S3Result<S3Response<DeleteBucketCorsOutput>> {
    let admitted = api.admitted(&req)?;
    document::drop(api, req.input.bucket, admitted.bucket()?, BucketConfig::Cors).await?;
    Ok(S3Response::new(DeleteBucketCorsOutput {}))
}
