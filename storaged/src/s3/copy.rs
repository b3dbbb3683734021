//! CopyObject: a new object with the bytes of another. A content in a file is shared, not copied, whatever its size. An
//! object that came in parts is read once for it: its copy came whole, and has the entity tag and checksum of that.

use super::access::{Action, Admitted};
use super::checksum::{self, Algorithm};
use super::condition::{Conditions, Outcome, WriteConditions, etag, seconds};
use super::get::precondition_failed;
use super::lifecycle::expiration;
use super::put::{Refused, check_bucket, refusal};
use super::{Api, error, lock, version, writing};
use crate::events::{Change, EventKind};
use crate::store::{
    ChecksumType, ContentRef, Metadata, ObjectPath, ObjectRecord, Txn, TxnError, VersionRef,
    Written,
};
use md5::{Digest, Md5};
use s3s::dto::{
    ChecksumAlgorithm, CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource,
    MetadataDirective, TaggingDirective,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

/// The largest object that a copy is read for, so that it is one that came whole: what S3 copies at all. A larger one,
/// which there it does not, keeps the entity tag of its parts.
const WHOLE_BYTES_MAX: u64 = 5 << 30;

/// Where the bytes come from.
struct Source {
    path: ObjectPath,
    named: Option<VersionRef>,
    /// The object as it was found; it must still be that when the copy is made.
    record: ObjectRecord,
    /// What the answer calls its version.
    shown: Option<String>,
}

pub(super) async fn copy(
    api: &Api,
    req: S3Request<CopyObjectInput>,
) -> S3Result<S3Response<CopyObjectOutput>> {
    let (admitted, teller) = (api.admitted(&req)?, api.teller(&req)?);
    writing::refuse_unserved(&req.headers)?;
    let source = source(api, &req)?;
    check_conditions(&req, &source.record)?;
    let input = &req.input;
    let path = admitted.path(&input.key)?;
    let replaces = replaces(input.metadata_directive.as_ref().map(MetadataDirective::as_str))?;
    let algorithm = algorithm(input)?;
    let sum = wanted_sum(algorithm, &source.record);
    if path == source.path && source.named.is_none() && !replaces && algorithm.is_none() {
        return Err(s3_error!(
            InvalidRequest,
            "This copy request is illegal because it is trying to copy an object to itself without changing the \
             object's metadata, storage class, website redirect location or encryption attributes."
        ));
    }
    let wish = lock::Wish {
        mode: input.object_lock_mode.clone(),
        until: input.object_lock_retain_until_date.clone(),
        hold: input.object_lock_legal_hold_status.clone(),
    };
    wish.check_permissions(api, &req, &input.bucket, &input.key)?;
    let mut meta = described(api, &req, &source.record, replaces)?;
    meta.modified_ms = super::now_ms();
    if let Some(algorithm) = sum {
        summed(api, algorithm, &source.record, &mut meta).await?;
    }
    meta.acl = admitted.acl();
    wish.grant(admitted.bucket()?, meta.modified_ms, &mut meta)?;
    let conditions = WriteConditions::of(&req.headers)?;
    let (name, told) = (input.bucket.clone(), meta.clone());
    let Source { path: from, named, record, shown } = source;
    let size = record.size;
    let done = api.store.transact(move |txn| {
        check_bucket(txn, &name, &path)?;
        conditions.check(txn.object(&path).map_err(TxnError::from)?.as_ref())?;
        commit(txn, &from, named, &record, &path, meta)
    });
    let written = done.await.map_err(|e| error::transact(e, refusal))?;
    let (kind, key, time_ms) = (EventKind::CreatedCopy, input.key.clone(), told.modified_ms);
    let expiration =
        expiration(&api.settings, &input.bucket, key.as_bytes(), size, time_ms, &told.tags);
    let change = || [Change::created(kind, key, size, told.etag, &written, time_ms)];
    api.tell(&teller, &input.bucket, change).await;
    Ok(S3Response::new(CopyObjectOutput {
        copy_object_result: Some(result(&told)),
        copy_source_version_id: shown,
        expiration,
        version_id: written.shown().map(|version| version.to_string()),
        ..CopyObjectOutput::default()
    }))
}

fn source(api: &Api, req: &S3Request<CopyObjectInput>) -> S3Result<Source> {
    let CopySource::Bucket { bucket, key, version_id } = &req.input.copy_source else {
        return Err(s3_error!(NotImplemented, "access points are not served"));
    };
    let named = version::named(version_id.as_deref())?;
    let action = match named {
        None => Action::GetObject,
        Some(_) => Action::GetObjectVersion,
    };
    let admitted = api.may_version(req, action, bucket, key, version_id.as_deref())?;
    let path = admitted.path(key)?;
    let view = api.store.read().map_err(|e| error::index(&e))?;
    let record = version::read(&view, &path, named).map_err(|e| as_source(&admitted, e))?;
    admitted.still_about(&record)?;
    let shown = version::shown(&admitted, &record)?;
    Ok(Source { path, named, record, shown })
}

/// A delete marker that is named can't be read; as a source it is called differently.
pub(super) fn as_source(admitted: &Admitted, error: S3Error) -> S3Error {
    match *error.code() {
        S3ErrorCode::MethodNotAllowed => s3_error!(
            InvalidRequest,
            "the source of a copy request may not specifically refer to a delete marker by version id"
        ),
        S3ErrorCode::NoSuchKey => admitted.missing_key(),
        _ => error,
    }
}

fn check_conditions(req: &S3Request<CopyObjectInput>, source: &ObjectRecord) -> S3Result<()> {
    let since = req.input.copy_source_if_modified_since.clone();
    let until = req.input.copy_source_if_unmodified_since.clone();
    let conditions = Conditions::of_source(&req.headers, since, until)?;
    match conditions.check(&source.meta.etag, source.meta.modified_ms) {
        Outcome::Proceed => Ok(()),
        Outcome::NotModified | Outcome::Failed => Err(precondition_failed()),
    }
}

/// What a directive says: to replace, or to copy, which is what happens without one.
fn replaces(directive: Option<&str>) -> S3Result<bool> {
    match directive {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(_) => Err(s3_error!(InvalidArgument, "unknown directive")),
    }
}

fn algorithm(input: &CopyObjectInput) -> S3Result<Option<Algorithm>> {
    let name = input.checksum_algorithm.as_ref().map(ChecksumAlgorithm::as_str);
    let algorithm = name.map(|name| {
        Algorithm::parse(name)
            .ok_or_else(|| s3_error!(InvalidRequest, "checksum algorithm provided is unsupported"))
    });
    algorithm.transpose()
}

/// What is said about the copy: some of it by the source, some by the request.
fn described(
    api: &Api,
    req: &S3Request<CopyObjectInput>,
    source: &ObjectRecord,
    replaces_metadata: bool,
) -> S3Result<Metadata> {
    let input = &req.input;
    let said = writing::described(&req.headers, input.metadata.as_ref())?;
    let from = source.meta.clone();
    let own = Metadata {
        etag: from.etag,
        checksums: from.checksums,
        checksum_type: from.checksum_type,
        parts: from.parts,
        ..Metadata::default()
    };
    let tags = if replaces(input.tagging_directive.as_ref().map(TaggingDirective::as_str))? {
        said.tags
    } else {
        check_tags(api, req, &from.tags)?;
        from.tags
    };
    let (content_type, headers, user) = if replaces_metadata {
        (said.content_type, said.headers, said.user)
    } else {
        (from.content_type, from.headers, from.user)
    };
    Ok(Metadata { content_type, headers, user, tags, ..own })
}

/// Whether tags may be read there and written here.
fn check_tags(
    api: &Api,
    req: &S3Request<CopyObjectInput>,
    tags: &[(String, String)],
) -> S3Result<()> {
    let CopySource::Bucket { bucket, key, version_id } = &req.input.copy_source else {
        return Ok(());
    };
    if !tags.is_empty() {
        let action = match version_id {
            None => Action::GetObjectTagging,
            Some(_) => Action::GetObjectVersionTagging,
        };
        api.may(req, action, bucket, key)?;
        api.may(req, Action::PutObjectTagging, &req.input.bucket, &req.input.key)?;
    }
    Ok(())
}

/// The checksum that a copy is to get by reading its source: one that is asked for and not there, and the source's own
/// where it came in parts, since then it is read in any case.
fn wanted_sum(asked: Option<Algorithm>, source: &ObjectRecord) -> Option<Algorithm> {
    let meta = &source.meta;
    let own = || meta.checksums.iter().find_map(|(name, _)| Algorithm::from_name(name));
    if becomes_whole(source) {
        return asked.or_else(own).or(Some(Algorithm::DEFAULT));
    }
    let has = |algorithm: &Algorithm| {
        let is_there = meta.checksums.iter().any(|(name, _)| name == algorithm.name());
        is_there && meta.checksum_type == ChecksumType::FullObject
    };
    asked.filter(|algorithm| !has(algorithm))
}

/// Whether a copy is, to its reader, an object that came whole, though its source came in parts.
fn becomes_whole(source: &ObjectRecord) -> bool {
    source.meta.etag.parts.is_some() && source.size <= WHOLE_BYTES_MAX
}

/// Reads the source once, for the copy's checksum, and for its entity tag where that is another.
async fn summed(
    api: &Api,
    algorithm: Algorithm,
    source: &ObjectRecord,
    meta: &mut Metadata,
) -> S3Result<()> {
    let whole = becomes_whole(source);
    let sums = (checksum::Summing::new(algorithm), whole.then(Md5::new));
    let take = |(sum, md5): &mut (checksum::Summing, Option<Md5>), bytes: &[u8]| {
        sum.update(bytes);
        if let Some(md5) = md5 {
            md5.update(bytes);
        }
    };
    let (sum, md5) = match &source.content {
        ContentRef::Inline(bytes) => {
            let mut sums = sums;
            take(&mut sums, bytes);
            sums
        }
        ContentRef::Blob(blob) => {
            let file = api.store.open_blob(*blob).map_err(|e| error::open(&e))?;
            let read = api.store.read_through(file, sums, take);
            read.await.map_err(|e| error::internal(&e))?
        }
    };
    meta.checksums = vec![(algorithm.name().to_owned(), sum.value())];
    meta.checksum_type = ChecksumType::FullObject;
    match md5 {
        Some(md5) => {
            meta.etag = <[u8; 16]>::from(md5.finalize()).into();
            meta.parts = Vec::new();
        }
        // Those of the parts are of another kind.
        None => meta.parts.iter_mut().for_each(|part| part.checksum = None),
    }
    Ok(())
}

fn commit(
    txn: &mut Txn<'_>,
    from: &ObjectPath,
    named: Option<VersionRef>,
    found: &ObjectRecord,
    path: &ObjectPath,
    meta: Metadata,
) -> Result<Written, Refused> {
    let now = version::read(txn, from, named).map_err(Refused::Told)?;
    if now.version != found.version {
        return Err(Refused::Told(s3_error!(
            OperationAborted,
            "the source was written while it was copied; please try again"
        )));
    }
    Ok(txn.put_shared(path, now.content, now.size, meta)?)
}

fn result(meta: &Metadata) -> CopyObjectResult {
    let sums = checksum::shown(&meta.checksums, meta.checksum_type);
    CopyObjectResult {
        checksum_crc32: sums.checksum_crc32,
        checksum_crc32c: sums.checksum_crc32c,
        checksum_crc64nvme: sums.checksum_crc64nvme,
        checksum_sha1: sums.checksum_sha1,
        checksum_sha256: sums.checksum_sha256,
        checksum_type: sums.checksum_type,
        e_tag: Some(etag(&meta.etag)),
        last_modified: Some(seconds(meta.modified_ms)),
    }
}
