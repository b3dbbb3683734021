//! Whether a bucket keeps versions.

use super::{Api, error};
use crate::store::{BucketRecord, Versioning, bucket};
use s3s::dto::{
    GetBucketVersioningInput, GetBucketVersioningOutput, PutBucketVersioningInput,
    PutBucketVersioningOutput,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

pub(super) async fn put(
    api: &Api,
    req: S3Request<PutBucketVersioningInput>,
) -> S3Result<S3Response<PutBucketVersioningOutput>> {
    let owner = api.admitted(&req)?.bucket()?.owner;
    let input = req.input;
    let configuration = input.versioning_configuration;
    let mfa = configuration.mfa_delete.as_ref().map(s3s::dto::MFADelete::as_str);
    if input.mfa.is_some() || mfa.is_some_and(|status| status != "Disabled") {
        return Err(s3_error!(NotImplemented, "MFA delete is not served"));
    }
    let versioning =
        match configuration.status.as_ref().map(s3s::dto::BucketVersioningStatus::as_str) {
            Some("Enabled") => Versioning::Enabled,
            Some("Suspended") => Versioning::Suspended,
            Some(_) => return Err(s3_error!(MalformedXML, "a status is Enabled or Suspended")),
            None => {
                return Err(s3_error!(
                    IllegalVersioningConfigurationException,
                    "The Versioning element must be specified"
                ));
            }
        };
    let name = input.bucket;
    let done = api.store.transact(move |txn| {
        let found = bucket(txn, &name).map_err(|e| error::index(&e))?;
        let found = found.filter(|record| record.owner == owner);
        let record = found.ok_or_else(super::access::no_such_bucket)?;
        if record.object_lock && versioning != Versioning::Enabled {
            return Err(s3_error!(
                InvalidBucketState,
                "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed."
            ));
        }
        txn.change_bucket(&name, &BucketRecord { versioning, ..record });
        Ok(())
    });
    done.await.map_err(|e| error::transact(e, |refused: S3Error| refused))?;
    Ok(S3Response::new(PutBucketVersioningOutput::default()))
}

pub(super) fn get(
    api: &Api,
    req: &S3Request<GetBucketVersioningInput>,
) -> S3Result<S3Response<GetBucketVersioningOutput>> {
    let admitted = api.admitted(req)?;
    let status = match admitted.bucket()?.versioning {
        // Nothing stands for a bucket that never kept versions.
        Versioning::Unversioned => None,
        Versioning::Enabled => Some("Enabled".to_owned().into()),
        Versioning::Suspended => Some("Suspended".to_owned().into()),
    };
    Ok(S3Response::new(GetBucketVersioningOutput { mfa_delete: None, status }))
}
