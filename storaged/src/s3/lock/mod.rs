//! Object lock: retention and legal hold of versions; [`configuration`] is that of a bucket.
//!
//! What is decided here is what a request may ask for; that a locked version stays is enforced where versions
//! are removed, in [`crate::store`].

mod configuration;

pub(super) use configuration::{get_configuration, put_configuration};

use super::access::Action;
use super::{Api, error, version};
use crate::store::{BucketRecord, LegalHold, Metadata, ObjectRecord, Retention, RetentionMode};
use http::{HeaderMap, HeaderName};
use s3s::dto::{
    self, GetObjectLegalHoldInput, GetObjectLegalHoldOutput, GetObjectRetentionInput,
    GetObjectRetentionOutput, ObjectLockLegalHold, ObjectLockRetention, PutObjectLegalHoldInput,
    PutObjectLegalHoldOutput, PutObjectRetentionInput, PutObjectRetentionOutput, Timestamp,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

/// What a writer asks for with a new version.
#[derive(Debug, Clone, Default)]
pub(super) struct Wish {
    /// `x-amz-object-lock-mode`.
    pub mode: Option<dto::ObjectLockMode>,
    /// `x-amz-object-lock-retain-until-date`.
    pub until: Option<Timestamp>,
    /// `x-amz-object-lock-legal-hold`.
    pub hold: Option<dto::ObjectLockLegalHoldStatus>,
}

impl Wish {
    /// What a PUT asks for, if who asks may.
    ///
    /// # Errors
    /// AccessDenied, InvalidRequest for a write that nothing vouches for.
    pub fn of_put(api: &Api, req: &S3Request<dto::PutObjectInput>) -> S3Result<Wish> {
        let input = &req.input;
        let wish = Wish {
            mode: input.object_lock_mode.clone(),
            until: input.object_lock_retain_until_date.clone(),
            hold: input.object_lock_legal_hold_status.clone(),
        };
        let admitted = api.admitted(req)?;
        let bucket = admitted.bucket()?;
        wish.check_permissions(api, req, &input.bucket, &input.key)?;
        check_sum_given(bucket, &wish, has_sum(&req.headers))?;
        Ok(wish)
    }

    /// Whether who asks may lock a new version.
    ///
    /// # Errors
    /// AccessDenied.
    pub fn check_permissions<T>(
        &self,
        api: &Api,
        req: &S3Request<T>,
        bucket: &str,
        key: &str,
    ) -> S3Result<()> {
        let (retention, hold) = self.asks();
        if retention {
            api.may(req, Action::PutObjectRetention, bucket, key)?;
        }
        if hold {
            api.may(req, Action::PutObjectLegalHold, bucket, key)?;
        }
        Ok(())
    }

    /// Puts what is asked for into a new version's metadata. The permissions are for the caller to ask
    /// for: `s3:PutObjectRetention` and `s3:PutObjectLegalHold`.
    ///
    /// # Errors
    /// InvalidRequest where the bucket has no object lock or half is missing, InvalidArgument for what
    /// can't be.
    pub fn grant(&self, bucket: &BucketRecord, now_ms: u64, meta: &mut Metadata) -> S3Result<()> {
        let Wish { mode, until, hold } = self;
        if mode.is_none() && until.is_none() && hold.is_none() {
            return Ok(());
        }
        if !bucket.object_lock {
            return Err(no_lock());
        }
        meta.retention = match (mode, until) {
            (None, None) => None,
            (Some(mode), Some(until)) => Some(retention(mode.as_str(), until, now_ms)?),
            (Some(_), None) | (None, Some(_)) => {
                return Err(s3_error!(
                    InvalidArgument,
                    "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied"
                ));
            }
        };
        meta.legal_hold = match hold.as_ref().map(dto::ObjectLockLegalHoldStatus::as_str) {
            None => LegalHold::Never,
            Some(status) => hold_of(status).ok_or_else(|| {
                s3_error!(InvalidArgument, "Legal Hold must be either of 'ON' or 'OFF'")
            })?,
        };
        Ok(())
    }

    /// Whether retention, and whether a legal hold, is asked for: each needs a permission.
    pub fn asks(&self) -> (bool, bool) {
        (self.mode.is_some() || self.until.is_some(), self.hold.is_some())
    }
}

/// Refuses a write without any checksum to a bucket that locks: what can't be removed must be right.
pub(super) fn check_sum_given(bucket: &BucketRecord, wish: &Wish, given: bool) -> S3Result<()> {
    let (retention, hold) = wish.asks();
    let locks = retention || hold || bucket.default_retention.is_some();
    if locks && !given {
        return Err(s3_error!(
            InvalidRequest,
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters"
        ));
    }
    Ok(())
}

/// Whether a request brings a checksum of its body, in a header or behind it.
fn has_sum(headers: &HeaderMap) -> bool {
    let names = headers.keys().map(HeaderName::as_str);
    headers.contains_key("content-md5")
        || headers.contains_key("x-amz-trailer")
        || names.into_iter().any(|name| name.starts_with("x-amz-checksum-"))
}

const ON: &str = "ON";
const OFF: &str = "OFF";
const GOVERNANCE: &str = "GOVERNANCE";
const COMPLIANCE: &str = "COMPLIANCE";

fn mode_of(text: &str) -> Option<RetentionMode> {
    match text {
        GOVERNANCE => Some(RetentionMode::Governance),
        COMPLIANCE => Some(RetentionMode::Compliance),
        _ => None,
    }
}

/// A mode as clients write it.
pub(super) const fn mode_text(mode: RetentionMode) -> &'static str {
    match mode {
        RetentionMode::Governance => GOVERNANCE,
        RetentionMode::Compliance => COMPLIANCE,
    }
}

fn retention(mode: &str, until: &Timestamp, now_ms: u64) -> S3Result<Retention> {
    let mode = mode_of(mode).ok_or_else(malformed)?;
    let nanos = time::OffsetDateTime::from(until.clone()).unix_timestamp_nanos();
    let until_ms = u64::try_from(nanos / 1_000_000).unwrap_or(0);
    if until_ms <= now_ms {
        return Err(s3_error!(InvalidArgument, "The retain until date must be in the future!"));
    }
    Ok(Retention { mode, until_ms })
}

fn malformed() -> S3Error {
    s3_error!(
        MalformedXML,
        "the XML you provided was not well-formed or did not validate against our published schema"
    )
}

fn no_lock() -> S3Error {
    s3_error!(InvalidRequest, "Bucket is missing Object Lock Configuration")
}

fn locked() -> S3Error {
    s3_error!(AccessDenied, "Access Denied because object protected by object lock.")
}

/// Whether who asks may override governance, and said so.
pub(super) fn bypasses<T>(
    api: &Api,
    req: &S3Request<T>,
    asked: Option<bool>,
    bucket: &str,
    key: &str,
) -> S3Result<bool> {
    if asked != Some(true) {
        return Ok(false);
    }
    match api.may(req, Action::BypassGovernanceRetention, bucket, key) {
        Ok(_) => Ok(true),
        // Without the permission the header says nothing.
        Err(error) if *error.code() == S3ErrorCode::AccessDenied => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a version's retention may become this one. Pure.
fn may_become(
    current: Option<Retention>,
    wanted: Option<Retention>,
    now_ms: u64,
    bypass: bool,
) -> bool {
    let Some(current) = current.filter(|current| current.until_ms > now_ms) else { return true };
    let is_longer =
        wanted.is_some_and(|new| new.mode == current.mode && new.until_ms >= current.until_ms);
    is_longer || (bypass && current.mode == RetentionMode::Governance)
}

pub(super) async fn put_retention(
    api: &Api,
    req: S3Request<PutObjectRetentionInput>,
) -> S3Result<S3Response<PutObjectRetentionOutput>> {
    let admitted = api.admitted(&req)?;
    let asked = req.input.bypass_governance_retention;
    let bypass = bypasses(api, &req, asked, &req.input.bucket, &req.input.key)?;
    let input = req.input;
    if !admitted.bucket()?.object_lock {
        return Err(no_lock());
    }
    let (path, named) = (admitted.path(&input.key)?, version::named(input.version_id.as_deref())?);
    let now_ms = super::now_ms();
    let wanted = match input.retention {
        None => return Err(malformed()),
        Some(ObjectLockRetention { mode: None, retain_until_date: None }) => None,
        Some(ObjectLockRetention { mode: Some(mode), retain_until_date: Some(until) }) => {
            Some(retention(mode.as_str(), &until, now_ms)?)
        }
        Some(_) => return Err(malformed()),
    };
    let changed = version::change(api, path, named, move |meta| {
        if !may_become(meta.retention, wanted, now_ms, bypass) {
            return Err(locked());
        }
        meta.retention = wanted;
        Ok(())
    });
    changed.await?;
    Ok(S3Response::new(PutObjectRetentionOutput::default()))
}

pub(super) fn get_retention(
    api: &Api,
    req: &S3Request<GetObjectRetentionInput>,
) -> S3Result<S3Response<GetObjectRetentionOutput>> {
    let input = &req.input;
    let record = locked_record(api, req, &input.key, input.version_id.as_deref())?;
    let Retention { mode, until_ms } = record.meta.retention.ok_or_else(no_such_lock)?;
    let retention = ObjectLockRetention {
        mode: Some(mode_text(mode).to_owned().into()),
        retain_until_date: Some(super::list::time(until_ms)),
    };
    Ok(S3Response::new(GetObjectRetentionOutput { retention: Some(retention) }))
}

pub(super) async fn put_legal_hold(
    api: &Api,
    req: S3Request<PutObjectLegalHoldInput>,
) -> S3Result<S3Response<PutObjectLegalHoldOutput>> {
    let admitted = api.admitted(&req)?;
    let input = req.input;
    if !admitted.bucket()?.object_lock {
        return Err(no_lock());
    }
    let (path, named) = (admitted.path(&input.key)?, version::named(input.version_id.as_deref())?);
    let status = input.legal_hold.and_then(|hold| hold.status).ok_or_else(malformed)?;
    let hold = hold_of(status.as_str()).ok_or_else(malformed)?;
    let changed = version::change(api, path, named, move |meta| {
        meta.legal_hold = hold;
        Ok(())
    });
    changed.await?;
    Ok(S3Response::new(PutObjectLegalHoldOutput::default()))
}

pub(super) fn get_legal_hold(
    api: &Api,
    req: &S3Request<GetObjectLegalHoldInput>,
) -> S3Result<S3Response<GetObjectLegalHoldOutput>> {
    let input = &req.input;
    let record = locked_record(api, req, &input.key, input.version_id.as_deref())?;
    let status = hold_text(record.meta.legal_hold).ok_or_else(no_such_lock)?;
    let legal_hold = ObjectLockLegalHold { status: Some(status.to_owned().into()) };
    Ok(S3Response::new(GetObjectLegalHoldOutput { legal_hold: Some(legal_hold) }))
}

fn hold_of(text: &str) -> Option<LegalHold> {
    match text {
        ON => Some(LegalHold::On),
        OFF => Some(LegalHold::Off),
        _ => None,
    }
}

/// A legal hold as clients read it; nothing where there never was one.
pub(super) const fn hold_text(hold: LegalHold) -> Option<&'static str> {
    match hold {
        LegalHold::Never => None,
        LegalHold::Off => Some(OFF),
        LegalHold::On => Some(ON),
    }
}

/// A version of a bucket with object lock.
fn locked_record<T>(
    api: &Api,
    req: &S3Request<T>,
    key: &str,
    id: Option<&str>,
) -> S3Result<ObjectRecord> {
    let admitted = api.admitted(req)?;
    if !admitted.bucket()?.object_lock {
        return Err(no_lock());
    }
    let (path, named) = (admitted.path(key)?, version::named(id)?);
    let view = api.store.read().map_err(|e| error::index(&e))?;
    version::read(&view, &path, named)
}

fn no_such_lock() -> S3Error {
    s3_error!(
        NoSuchObjectLockConfiguration,
        "the specified object does not have an ObjectLock configuration"
    )
}

#[cfg(test)]
mod test {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn kept(mode: RetentionMode, until_ms: u64) -> Option<Retention> {
        Some(Retention { mode, until_ms })
    }

    #[test]
    fn retention_gets_longer_freely_and_shorter_only_by_bypass_of_governance() {
        use RetentionMode::{Compliance, Governance};
        let may = |current, wanted, bypass| may_become(current, wanted, 10, bypass);
        assert!(may(None, kept(Governance, 20), false));
        assert!(may(kept(Compliance, 10), None, false), "its time is over");
        for mode in [Governance, Compliance] {
            assert!(may(kept(mode, 20), kept(mode, 20), false));
            assert!(may(kept(mode, 20), kept(mode, 21), false));
            let shorter = [kept(mode, 19), None];
            assert_eq!(shorter.map(|new| may(kept(mode, 20), new, false)), [false; 2]);
            let bypassed = mode == Governance;
            assert_eq!(shorter.map(|new| may(kept(mode, 20), new, true)), [bypassed; 2]);
        }
        assert!(!may(kept(Governance, 20), kept(Compliance, 30), false));
        assert!(may(kept(Governance, 20), kept(Compliance, 30), true));
        assert!(!may(kept(Compliance, 20), kept(Governance, 30), true));
    }

    fn wish(mode: Option<&str>, until_ms: Option<u64>, hold: Option<&str>) -> Wish {
        Wish {
            mode: mode.map(|mode| mode.to_owned().into()),
            until: until_ms.map(|ms| Timestamp::from(UNIX_EPOCH + Duration::from_millis(ms))),
            hold: hold.map(|hold| hold.to_owned().into()),
        }
    }

    #[test]
    fn a_writer_gets_the_lock_it_asks_for_or_is_told_why_not() {
        let locking =
            BucketRecord { object_lock: true, ..BucketRecord::new(crate::store::AccountId(1), 0) };
        let grant = |bucket: &BucketRecord, wish: Wish| {
            let mut meta = Metadata::default();
            let granted = wish.grant(bucket, 1000, &mut meta);
            granted.map(|()| (meta.retention, meta.legal_hold)).map_err(|e| e.code().clone())
        };
        let full = || wish(Some("COMPLIANCE"), Some(1001), Some("ON"));
        assert_eq!(
            grant(&locking, full()),
            Ok((kept(RetentionMode::Compliance, 1001), LegalHold::On))
        );
        assert_eq!(grant(&locking, wish(None, None, Some("OFF"))), Ok((None, LegalHold::Off)));
        let invalid = Err(S3ErrorCode::InvalidArgument);
        assert_eq!(grant(&locking, wish(Some("GOVERNANCE"), Some(1000), None)), invalid);
        assert_eq!(grant(&locking, wish(Some("GOVERNANCE"), None, None)), invalid);
        assert_eq!(grant(&locking, wish(None, None, Some("on"))), invalid);
        let plain = BucketRecord { object_lock: false, ..locking };
        assert_eq!(grant(&plain, full()), Err(S3ErrorCode::InvalidRequest));
        assert_eq!(grant(&plain, Wish::default()), Ok((None, LegalHold::Never)));
    }
}
