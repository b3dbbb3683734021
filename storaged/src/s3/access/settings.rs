//! The operations on policies, public access blocks and ownership controls.

use super::super::{Api, document, error};
use super::acl::{Acl, Canned, Wanted};
use super::admitted::Admitted;
use super::control::{Block, Ownership};
use super::facts::{Facts, Rules};
use super::guard::told;
use super::policy::Policy;
use crate::store::BucketConfig;
use http::{HeaderMap, StatusCode};
use s3s::dto::{
    DeleteBucketOwnershipControlsInput, DeleteBucketOwnershipControlsOutput,
    DeleteBucketPolicyInput, DeleteBucketPolicyOutput, DeletePublicAccessBlockInput,
    DeletePublicAccessBlockOutput, GetBucketOwnershipControlsInput,
    GetBucketOwnershipControlsOutput, GetBucketPolicyInput, GetBucketPolicyOutput,
    GetBucketPolicyStatusInput, GetBucketPolicyStatusOutput, GetPublicAccessBlockInput,
    GetPublicAccessBlockOutput, PolicyStatus, PutBucketOwnershipControlsInput,
    PutBucketOwnershipControlsOutput, PutBucketPolicyInput, PutBucketPolicyOutput,
    PutPublicAccessBlockInput, PutPublicAccessBlockOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

/// Who owns what others write into a new bucket.
const OBJECT_OWNERSHIP: &str = "x-amz-object-ownership";

fn no_policy() -> S3Error {
    s3_error!(NoSuchBucketPolicy, "the bucket policy does not exist")
}

/// An error of S3's that the library has no name for.
fn custom(code: &'static str, status: StatusCode, message: &'static str) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message);
    error.set_status_code(status);
    error
}

async fn keep(
    api: &Api,
    admitted: &Admitted,
    kind: BucketConfig,
    document: Vec<u8>,
) -> S3Result<()> {
    let facts = admitted.facts()?;
    document::keep(api, facts.name.clone(), &facts.record, kind, document).await
}

/// The documents of a bucket that is being made, by what its headers ask for.
///
/// # Errors
/// When that can't be: lists where they are switched off, or the public let in.
pub(in crate::s3) fn new_bucket(
    api: &Api,
    owner: &str,
    headers: &HeaderMap,
) -> S3Result<Vec<(BucketConfig, Vec<u8>)>> {
    let mut documents = Vec::new();
    let mut ownership = Ownership::BucketOwnerEnforced;
    if let Some(word) = headers.get(OBJECT_OWNERSHIP) {
        let known = word.to_str().ok().and_then(Ownership::from_word);
        ownership = known
            .ok_or_else(|| s3_error!(InvalidArgument, "Invalid x-amz-object-ownership header"))?;
        let document = ownership.document().map_err(|e| error::internal(&e))?;
        documents.push((BucketConfig::OwnershipControls, document));
    }
    let wanted = Wanted::of_headers(headers).map_err(|e| told(&e))?;
    let Some(wanted) = wanted.filter(|wanted| *wanted != Wanted::Canned(Canned::Private)) else {
        return Ok(documents);
    };
    if ownership == Ownership::BucketOwnerEnforced {
        return Err(s3_error!(
            InvalidBucketAclWithObjectOwnership,
            "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting"
        ));
    }
    if let Some(stranger) = wanted.accounts().find(|name| !api.guard.knows(name)) {
        return Err(s3_error!(InvalidArgument, "Invalid id: there is no account {stranger:?}"));
    }
    let acl = wanted.list(owner, owner);
    if acl.is_public() {
        return Err(custom(
            "InvalidBucketAclWithBlockPublicAccessError",
            StatusCode::BAD_REQUEST,
            "Bucket cannot have public ACLs set with BlockPublicAccess enabled",
        ));
    }
    let text = acl.text().map_err(|e| error::internal(&e))?;
    documents.push((BucketConfig::Acl, text.into_bytes()));
    Ok(documents)
}

pub(in crate::s3) fn get_policy(
    api: &Api,
    req: &S3Request<GetBucketPolicyInput>,
) -> S3Result<S3Response<GetBucketPolicyOutput>> {
    let admitted = api.admitted(req)?;
    let kept = document::found(api, &admitted.facts()?.name, BucketConfig::Policy)?;
    let text = String::from_utf8(kept.ok_or_else(no_policy)?);
    let text = text.map_err(|e| error::internal(&e))?;
    Ok(S3Response::new(GetBucketPolicyOutput { policy: Some(text) }))
}

pub(in crate::s3) async fn put_policy(
    api: &Api,
    req: S3Request<PutBucketPolicyInput>,
) -> S3Result<S3Response<PutBucketPolicyOutput>> {
    let admitted = api.admitted(&req)?;
    let facts = admitted.facts()?;
    let text = req.input.policy;
    let policy = Policy::parse(text.as_bytes(), &facts.name)
        .map_err(|e| s3_error!(MalformedPolicy, "{e}"))?;
    if let Some(stranger) = policy.accounts().find(|name| !api.guard.knows(name)) {
        return Err(s3_error!(MalformedPolicy, "Invalid principal in policy: {stranger}"));
    }
    if facts.block.block_public_policy && policy.is_public() {
        return Err(s3_error!(
            AccessDenied,
            "the policy lets in the public, and the bucket's public access block forbids that"
        ));
    }
    keep(api, &admitted, BucketConfig::Policy, text.into_bytes()).await?;
    Ok(S3Response::with_status(PutBucketPolicyOutput {}, StatusCode::NO_CONTENT))
}

pub(in crate::s3) async fn delete_policy(
    api: &Api,
    req: S3Request<DeleteBucketPolicyInput>,
) -> S3Result<S3Response<DeleteBucketPolicyOutput>> {
    let admitted = api.admitted(&req)?;
    let facts = admitted.facts()?;
    document::drop(api, facts.name.clone(), &facts.record, BucketConfig::Policy).await?;
    Ok(S3Response::new(DeleteBucketPolicyOutput {}))
}

pub(in crate::s3) fn policy_status(
    api: &Api,
    req: &S3Request<GetBucketPolicyStatusInput>,
) -> S3Result<S3Response<GetBucketPolicyStatusOutput>> {
    let admitted = api.admitted(req)?;
    let facts = admitted.facts()?;
    if matches!(facts.rules, Rules::None) {
        return Err(no_policy());
    }
    let is_public = Some(facts.has_public_policy());
    let policy_status = Some(PolicyStatus { is_public });
    Ok(S3Response::new(GetBucketPolicyStatusOutput { policy_status }))
}

pub(in crate::s3) fn get_public_block(
    api: &Api,
    req: &S3Request<GetPublicAccessBlockInput>,
) -> S3Result<S3Response<GetPublicAccessBlockOutput>> {
    let admitted = api.admitted(req)?;
    let facts = admitted.facts()?;
    let deleted = document::found(api, &facts.name, BucketConfig::PublicAccessBlock)?;
    if deleted.is_some_and(|document| document.is_empty()) {
        return Err(custom(
            "NoSuchPublicAccessBlockConfiguration",
            StatusCode::NOT_FOUND,
            "the public access block configuration was not found",
        ));
    }
    let configuration = Some(facts.block.configuration());
    Ok(S3Response::new(GetPublicAccessBlockOutput {
        public_access_block_configuration: configuration,
    }))
}

pub(in crate::s3) async fn put_public_block(
    api: &Api,
    req: S3Request<PutPublicAccessBlockInput>,
) -> S3Result<S3Response<PutPublicAccessBlockOutput>> {
    let admitted = api.admitted(&req)?;
    let block = Block::of(&req.input.public_access_block_configuration);
    let document = block.document().map_err(|e| error::internal(&e))?;
    keep(api, &admitted, BucketConfig::PublicAccessBlock, document).await?;
    Ok(S3Response::new(PutPublicAccessBlockOutput {}))
}

pub(in crate::s3) async fn delete_public_block(
    api: &Api,
    req: S3Request<DeletePublicAccessBlockInput>,
) -> S3Result<S3Response<DeletePublicAccessBlockOutput>> {
    // An empty document: without one the bucket would be as new, and closed.
    keep(api, &api.admitted(&req)?, BucketConfig::PublicAccessBlock, Vec::new()).await?;
    Ok(S3Response::new(DeletePublicAccessBlockOutput {}))
}

pub(in crate::s3) fn get_ownership(
    api: &Api,
    req: &S3Request<GetBucketOwnershipControlsInput>,
) -> S3Result<S3Response<GetBucketOwnershipControlsOutput>> {
    let admitted = api.admitted(req)?;
    let facts = admitted.facts()?;
    let deleted = document::found(api, &facts.name, BucketConfig::OwnershipControls)?;
    if deleted.is_some_and(|document| document.is_empty()) {
        return Err(s3_error!(
            OwnershipControlsNotFoundError,
            "the bucket ownership controls were not found"
        ));
    }
    let ownership_controls = Some(facts.ownership.controls());
    Ok(S3Response::new(GetBucketOwnershipControlsOutput { ownership_controls }))
}

pub(in crate::s3) async fn put_ownership(
    api: &Api,
    req: S3Request<PutBucketOwnershipControlsInput>,
) -> S3Result<S3Response<PutBucketOwnershipControlsOutput>> {
    let admitted = api.admitted(&req)?;
    let ownership = Ownership::of(&req.input.ownership_controls);
    let ownership = ownership.ok_or_else(|| {
        s3_error!(MalformedXML, "one rule is to be given, with an ObjectOwnership that is known")
    })?;
    if ownership == Ownership::BucketOwnerEnforced && grants_others(admitted.facts()?) {
        return Err(s3_error!(
            InvalidBucketAclWithObjectOwnership,
            "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting"
        ));
    }
    let document = ownership.document().map_err(|e| error::internal(&e))?;
    keep(api, &admitted, BucketConfig::OwnershipControls, document).await?;
    Ok(S3Response::new(PutBucketOwnershipControlsOutput {}))
}

fn grants_others(facts: &Facts) -> bool {
    facts.acl != Acl::private(&facts.owner_name)
}

pub(in crate::s3) async fn delete_ownership(
    api: &Api,
    req: S3Request<DeleteBucketOwnershipControlsInput>,
) -> S3Result<S3Response<DeleteBucketOwnershipControlsOutput>> {
    keep(api, &api.admitted(&req)?, BucketConfig::OwnershipControls, Vec::new()).await?;
    Ok(S3Response::new(DeleteBucketOwnershipControlsOutput {}))
}
