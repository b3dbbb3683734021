//! CreateMultipartUpload.

use crate::s3::checksum::Algorithm;
use crate::s3::lifecycle::abortion_of;
use crate::s3::put::{Refused, check_bucket, refusal};
use crate::s3::{Api, error, lock, writing};
use crate::store::ChecksumType;
use crate::store::uploads::{NewUpload, SumChoice};
use s3s::dto::{CreateMultipartUploadInput, CreateMultipartUploadOutput};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

pub(in crate::s3) async fn begin(
    api: &Api,
    req: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let admitted = api.admitted(&req)?;
    let input = &req.input;
    let sum = sum_choice(
        input.checksum_algorithm.as_ref().map(s3s::dto::ChecksumAlgorithm::as_str),
        input.checksum_type.as_ref().map(s3s::dto::ChecksumType::as_str),
    )?;
    writing::refuse_unserved(&req.headers)?;
    let wish = lock::Wish {
        mode: input.object_lock_mode.clone(),
        until: input.object_lock_retain_until_date.clone(),
        hold: input.object_lock_legal_hold_status.clone(),
    };
    wish.check_permissions(api, &req, &input.bucket, &input.key)?;
    let initiated_ms = crate::s3::now_ms();
    let mut meta = writing::described(&req.headers, input.metadata.as_ref())?;
    meta.acl = admitted.acl();
    wish.grant(admitted.bucket()?, initiated_ms, &mut meta)?;
    let new = NewUpload {
        bucket: input.bucket.clone(),
        path: admitted.path(&input.key)?,
        initiator: admitted.caller.name().unwrap_or_default().to_owned(),
        initiated_ms,
        sum: sum.clone(),
        meta,
    };
    let (name, key) = (req.input.bucket, req.input.key);
    let begun = api.store.transact(move |txn| -> Result<_, Refused> {
        check_bucket(txn, &new.bucket, &new.path)?;
        Ok(txn.begin_upload(new)?)
    });
    let upload = begun.await.map_err(|e| error::transact(e, refusal))?;
    let (abort_date, abort_rule_id) = abortion_of(&api.settings, &name, &upload).unzip();
    Ok(S3Response::new(CreateMultipartUploadOutput {
        abort_date,
        abort_rule_id,
        bucket: Some(name),
        key: Some(key),
        upload_id: Some(upload.id.to_string()),
        checksum_algorithm: sum.as_ref().map(|sum| sum.algorithm.to_ascii_uppercase().into()),
        checksum_type: sum.as_ref().map(|sum| kind_name(sum.kind).to_owned().into()),
        ..CreateMultipartUploadOutput::default()
    }))
}

/// What a type of checksum is called.
pub(super) fn kind_name(kind: ChecksumType) -> &'static str {
    match kind {
        ChecksumType::FullObject => "FULL_OBJECT",
        ChecksumType::Composite => "COMPOSITE",
    }
}

/// The type of checksum of this name.
pub(super) fn kind_of(name: &str) -> S3Result<ChecksumType> {
    match name {
        "FULL_OBJECT" => Ok(ChecksumType::FullObject),
        "COMPOSITE" => Ok(ChecksumType::Composite),
        _ => Err(s3_error!(InvalidRequest, "value for x-amz-checksum-type header is invalid")),
    }
}

/// Which checksum, made how; AWS's table ("Checking object integrity"): a CRC-64 is always that of the whole,
/// a digest never, the other CRCs are that of the parts' unless told otherwise.
fn sum_choice(algorithm: Option<&str>, kind: Option<&str>) -> S3Result<Option<SumChoice>> {
    let kind = kind.map(kind_of).transpose()?;
    let Some(name) = algorithm else {
        return match kind {
            None => Ok(None),
            Some(_) => Err(s3_error!(
                InvalidRequest,
                "the x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header"
            )),
        };
    };
    let algorithm = Algorithm::parse(name).ok_or_else(|| {
        s3_error!(InvalidRequest, "checksum algorithm provided is unsupported: {name}")
    })?;
    let kind = match (algorithm, kind) {
        (Algorithm::Crc64Nvme, Some(ChecksumType::Composite)) => Err(mismatch("COMPOSITE", name)),
        (Algorithm::Crc64Nvme, _) => Ok(ChecksumType::FullObject),
        (digest, Some(ChecksumType::FullObject)) if digest.crc().is_none() => {
            Err(mismatch("FULL_OBJECT", name))
        }
        (_, kind) => Ok(kind.unwrap_or(ChecksumType::Composite)),
    }?;
    Ok(Some(SumChoice { algorithm: algorithm.name().to_owned(), kind }))
}

fn mismatch(kind: &str, algorithm: &str) -> S3Error {
    s3_error!(
        InvalidRequest,
        "The {kind} checksum type cannot be used with the {algorithm} checksum algorithm."
    )
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_checksum_is_made_as_aws_makes_it() {
        let choice = |algorithm, kind| sum_choice(algorithm, kind).map(|c| c.map(|c| c.kind));
        assert_eq!(choice(None, None).unwrap(), None);
        assert!(choice(None, Some("COMPOSITE")).is_err());
        assert!(choice(Some("MD2"), None).is_err());
        let full = Some(ChecksumType::FullObject);
        let composite = Some(ChecksumType::Composite);
        assert_eq!(choice(Some("CRC64NVME"), None).unwrap(), full);
        assert!(choice(Some("CRC64NVME"), Some("COMPOSITE")).is_err());
        assert_eq!(choice(Some("SHA256"), None).unwrap(), composite);
        assert!(choice(Some("SHA1"), Some("FULL_OBJECT")).is_err());
        for name in ["MD5", "SHA512", "XXHASH64", "XXHASH3", "XXHASH128"] {
            assert_eq!(choice(Some(name), None).unwrap(), composite);
            assert!(choice(Some(name), Some("FULL_OBJECT")).is_err());
        }
        assert_eq!(choice(Some("CRC32"), None).unwrap(), composite);
        assert_eq!(choice(Some("CRC32C"), Some("FULL_OBJECT")).unwrap(), full);
        assert!(choice(Some("CRC32"), Some("HALF")).is_err());
    }
}
