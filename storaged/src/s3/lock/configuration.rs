//! The object lock configuration of a bucket: that it locks, and what is written to it is locked by default.

use super::{malformed, mode_of, mode_text};
use crate::s3::{Api, access, error};
use crate::store::{BucketRecord, DefaultRetention, Period, Versioning, bucket};
use s3s::dto::{
    self, GetObjectLockConfigurationInput, GetObjectLockConfigurationOutput,
    ObjectLockConfiguration, ObjectLockRule, PutObjectLockConfigurationInput,
    PutObjectLockConfigurationOutput,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

/// The longest default retention, in days: as S3 has it (100 years).
const DEFAULT_DAYS_MAX: u32 = 36_500;
/// The longest default retention, in years: as S3 has it.
const DEFAULT_YEARS_MAX: u32 = 100;

pub(in crate::s3) async fn put_configuration(
    api: &Api,
    req: S3Request<PutObjectLockConfigurationInput>,
) -> S3Result<S3Response<PutObjectLockConfigurationOutput>> {
    let owner = api.admitted(&req)?.bucket()?.owner;
    let input = req.input;
    let default = default_retention(input.object_lock_configuration.ok_or_else(malformed)?)?;
    let name = input.bucket;
    let done = api.store.transact(move |txn| {
        let found = bucket(txn, &name).map_err(|e| error::index(&e))?;
        let found = found.filter(|record| record.owner == owner);
        let record = found.ok_or_else(access::no_such_bucket)?;
        if record.versioning != Versioning::Enabled {
            return Err(s3_error!(
                InvalidBucketState,
                "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration"
            ));
        }
        let record = BucketRecord { object_lock: true, default_retention: default, ..record };
        txn.change_bucket(&name, &record);
        Ok(())
    });
    done.await.map_err(|e| error::transact(e, |refused: S3Error| refused))?;
    Ok(S3Response::new(PutObjectLockConfigurationOutput::default()))
}

/// What a configuration asks for. Pure.
fn default_retention(configuration: ObjectLockConfiguration) -> S3Result<Option<DefaultRetention>> {
    let enabled = configuration.object_lock_enabled;
    if enabled.is_none_or(|enabled| enabled.as_str() != "Enabled") {
        return Err(malformed());
    }
    let Some(ObjectLockRule { default_retention }) = configuration.rule else { return Ok(None) };
    let dto::DefaultRetention { days, mode, years } = default_retention.ok_or_else(malformed)?;
    let mode = mode.as_ref().and_then(|mode| mode_of(mode.as_str())).ok_or_else(malformed)?;
    let within = |count: i32, max: u32| match u32::try_from(count) {
        Ok(0) | Err(_) => Err(s3_error!(
            InvalidArgument,
            "Default retention period must be a positive integer value"
        )),
        Ok(count) if count > max => {
            Err(s3_error!(InvalidArgument, "Default retention period too large"))
        }
        Ok(count) => Ok(count),
    };
    let period = match (days, years) {
        (Some(days), None) => Period::Days(within(days, DEFAULT_DAYS_MAX)?),
        (None, Some(years)) => Period::Years(within(years, DEFAULT_YEARS_MAX)?),
        (Some(_), Some(_)) | (None, None) => return Err(malformed()),
    };
    Ok(Some(DefaultRetention { mode, period }))
}

pub(in crate::s3) fn get_configuration(
    api: &Api,
    req: &S3Request<GetObjectLockConfigurationInput>,
) -> S3Result<S3Response<GetObjectLockConfigurationOutput>> {
    let admitted = api.admitted(req)?;
    let record = admitted.bucket()?;
    if !record.object_lock {
        return Err(s3_error!(
            ObjectLockConfigurationNotFoundError,
            "Object Lock configuration does not exist for this bucket"
        ));
    }
    let rule = record.default_retention.map(|DefaultRetention { mode, period }| {
        let (days, years) = match period {
            Period::Days(days) => (i32::try_from(days).ok(), None),
            Period::Years(years) => (None, i32::try_from(years).ok()),
        };
        let mode = Some(mode_text(mode).to_owned().into());
        ObjectLockRule { default_retention: Some(dto::DefaultRetention { days, mode, years }) }
    });
    let configuration =
        ObjectLockConfiguration { object_lock_enabled: Some("Enabled".to_owned().into()), rule };
    Ok(S3Response::new(GetObjectLockConfigurationOutput {
        object_lock_configuration: Some(configuration),
    }))
}

#[cfg(test)]
mod test {
    use super::*;
    use s3s::S3ErrorCode;

    #[test]
    fn a_configuration_has_one_period_within_limits() {
        let of = |days, years, mode: &str| {
            let default = dto::DefaultRetention { days, years, mode: Some(mode.to_owned().into()) };
            let read = default_retention(ObjectLockConfiguration {
                object_lock_enabled: Some("Enabled".to_owned().into()),
                rule: Some(ObjectLockRule { default_retention: Some(default) }),
            });
            read.map(|found| found.unwrap().period).map_err(|e| e.code().clone())
        };
        assert_eq!(of(Some(3), None, "GOVERNANCE"), Ok(Period::Days(3)));
        assert_eq!(of(None, Some(100), "COMPLIANCE"), Ok(Period::Years(100)));
        let (invalid, malformed) = (S3ErrorCode::InvalidArgument, S3ErrorCode::MalformedXML);
        assert_eq!(of(Some(0), None, "GOVERNANCE"), Err(invalid.clone()));
        assert_eq!(of(None, Some(101), "GOVERNANCE"), Err(invalid));
        assert_eq!(of(Some(1), Some(1), "GOVERNANCE"), Err(malformed.clone()));
        assert_eq!(of(Some(1), None, "governance"), Err(malformed.clone()));
        let off = ObjectLockConfiguration::default();
        assert_eq!(*default_retention(off).unwrap_err().code(), malformed);
    }
}
