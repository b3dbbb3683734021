//! PutObject.
//!
//! Up to the inline threshold an object travels in the journal's record; a longer one goes into a staging
//! file that is sealed before its record is made. Either way nothing is visible before all of it is
//! there, checked, and on disk.

use super::checksum::{self, Expected};
use super::condition::{WriteConditions, WriteOutcome, etag};
use super::get::precondition_failed;
use super::post::FromForm;
use super::unsigned::Trailers;
use super::{Api, error, lock, writing};
use crate::events::{Change, EventKind};
use crate::store::{
    ChecksumType, Content, Metadata, ObjectPath, Staging, Txn, TxnError, Written, bucket,
};
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use s3s::crypto::{Checksum, Md5};
use s3s::dto::{PutObjectInput, PutObjectOutput, StreamingBlob};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};
use std::pin::Pin;

/// The largest object of one PUT, in bytes: what S3 allows an object to be at most.
const OBJECT_BYTES_MAX: u64 = 5 << 40;
/// What is gathered before it is handed to the disk, in bytes: a hand-over costs two thread switches.
pub(super) const BATCH_BYTES: usize = 256 * 1024;

/// Why the record was not made.
pub(super) enum Refused {
    NoBucket,
    Condition(WriteOutcome),
    /// In S3's words.
    Told(S3Error),
    Store(TxnError),
}

impl From<WriteOutcome> for Refused {
    fn from(outcome: WriteOutcome) -> Refused {
        Refused::Condition(outcome)
    }
}

impl From<TxnError> for Refused {
    fn from(error: TxnError) -> Refused {
        Refused::Store(error)
    }
}

pub(super) async fn put(
    api: &Api,
    req: S3Request<PutObjectInput>,
) -> S3Result<S3Response<PutObjectOutput>> {
    let admitted = api.admitted(&req)?;
    let wish = lock::Wish::of_put(api, &req)?;
    let teller = api.teller(&req)?;
    let kind = match req.extensions.get::<FromForm>() {
        Some(FromForm) => EventKind::CreatedPost,
        None => EventKind::CreatedPut,
    };
    let S3Request { input, headers, trailing_headers, extensions, .. } = req;
    writing::refuse_unserved(&headers)?;
    let path = admitted.path(&input.key)?;
    let length = input.content_length.map(|length| {
        u64::try_from(length).map_err(|_| s3_error!(InvalidArgument, "the length is negative"))
    });
    let length = length.transpose()?;
    if length.is_some_and(|length| length > OBJECT_BYTES_MAX) {
        return Err(s3_error!(EntityTooLarge, "an object has at most {OBJECT_BYTES_MAX} bytes"));
    }
    let mut expected = Expected::of(&headers)?;
    let mut meta = writing::described(&headers, input.metadata.as_ref())?;
    let mut body = Reader { body: input.body, read: 0 };
    let content = receive(api, &mut body, length, &mut expected, &mut meta.etag.md5).await?;
    if length.is_some_and(|length| length != body.read) {
        return Err(s3_error!(IncompleteBody, "the body has {} bytes", body.read));
    }
    let trailers = trailing_headers.and_then(|trailers| trailers.take());
    let trailers = trailers.or_else(|| Trailers::of(&extensions));
    let sum = expected.check(meta.etag.md5, trailers.as_ref())?;
    let sums = vec![(sum.0.name().to_owned(), sum.1)];
    meta.checksums.clone_from(&sums);
    let (tag, tags) = (meta.etag, meta.tags.clone());
    meta.modified_ms = super::now_ms();
    meta.acl = admitted.acl();
    wish.grant(admitted.bucket()?, meta.modified_ms, &mut meta)?;
    let conditions = WriteConditions::of(&headers)?;
    let name = input.bucket.clone();
    let (size, time_ms) = (body.read, meta.modified_ms);
    let done = api.store.transact(move |txn| commit(txn, &name, &path, content, meta, &conditions));
    let written = done.await.map_err(|e| error::transact(e, refusal))?;
    let key = input.key;
    let expiration = super::lifecycle::expiration(
        &api.settings,
        &input.bucket,
        key.as_bytes(),
        size,
        time_ms,
        &tags,
    );
    let change = || [Change::created(kind, key, size, tag, &written, time_ms)];
    api.tell(&teller, &input.bucket, change).await;
    let sums = checksum::shown(&sums, ChecksumType::FullObject);
    Ok(S3Response::new(PutObjectOutput {
        checksum_crc32: sums.checksum_crc32,
        checksum_crc32c: sums.checksum_crc32c,
        checksum_crc64nvme: sums.checksum_crc64nvme,
        checksum_sha1: sums.checksum_sha1,
        checksum_sha256: sums.checksum_sha256,
        checksum_type: sums.checksum_type,
        e_tag: Some(etag(&tag)),
        expiration,
        version_id: written.shown().map(|version| version.to_string()),
        ..PutObjectOutput::default()
    }))
}

/// A request's body, and how much of it was read.
pub(super) struct Reader {
    pub(super) body: Option<StreamingBlob>,
    pub(super) read: u64,
}

impl Reader {
    async fn next(&mut self) -> S3Result<Option<Bytes>> {
        let Some(body) = &mut self.body else { return Ok(None) };
        match std::future::poll_fn(|cx| Pin::new(&mut *body).poll_next(cx)).await {
            None => Ok(None),
            Some(Ok(bytes)) => {
                self.read += bytes.len() as u64;
                Ok(Some(bytes))
            }
            Some(Err(e)) => Err(error::body(e)),
        }
    }

    /// The next bytes, at least as many as asked for unless the body ends. One piece that is enough
    /// is not copied.
    pub(super) async fn batch(
        &mut self,
        enough: usize,
        expected: &mut Expected,
    ) -> S3Result<Bytes> {
        let Some(first) = self.next().await? else { return Ok(Bytes::new()) };
        expected.update(&first);
        if first.len() >= enough {
            return Ok(first);
        }
        let mut batch = BytesMut::with_capacity(enough.min(BATCH_BYTES));
        batch.extend_from_slice(&first);
        while batch.len() < enough {
            let Some(next) = self.next().await? else { break };
            expected.update(&next);
            batch.extend_from_slice(&next);
        }
        Ok(batch.freeze())
    }
}

async fn receive(
    api: &Api,
    body: &mut Reader,
    length: Option<u64>,
    expected: &mut Expected,
    md5: &mut [u8; 16],
) -> S3Result<Content> {
    let inline_max = api.store.inline_bytes();
    let large = length.is_some_and(|length| length > inline_max as u64);
    let mut first = Bytes::new();
    if !large {
        first = body.batch(inline_max + 1, expected).await?;
        if first.len() <= inline_max {
            *md5 = Md5::checksum(&first);
            return Ok(Content::Inline(first));
        }
    }
    let mut staging = api.store.stage(length, None).await.map_err(|e| error::stage(&e))?;
    if !first.is_empty() {
        write(&mut staging, first).await?;
    }
    // The staging file gathers the pieces as they are.
    while let Some(bytes) = body.next().await? {
        expected.update(&bytes);
        if body.read > length.unwrap_or(OBJECT_BYTES_MAX) {
            return Err(s3_error!(EntityTooLarge, "the body is longer than the head says"));
        }
        write(&mut staging, bytes).await?;
    }
    if length.is_some_and(|length| length != body.read) {
        return Err(s3_error!(IncompleteBody, "the body has {} bytes", body.read));
    }
    let sealed = api.store.seal(staging).await.map_err(|e| error::seal(&e))?;
    *md5 = sealed.md5();
    Ok(Content::Blob(sealed))
}

async fn write(staging: &mut Staging, bytes: Bytes) -> S3Result<()> {
    staging.write(bytes).await.map_err(|e| error::stage(&e))
}

fn commit(
    txn: &mut Txn<'_>,
    name: &str,
    path: &ObjectPath,
    content: Content,
    meta: Metadata,
    conditions: &WriteConditions,
) -> Result<Written, Refused> {
    check_bucket(txn, name, path)?;
    conditions.check(txn.object(path).map_err(TxnError::from)?.as_ref())?;
    Ok(txn.put_object(path, content, meta)?)
}

/// The bucket may have gone, or changed hands, since the request was let in.
pub(super) fn check_bucket(txn: &Txn<'_>, name: &str, path: &ObjectPath) -> Result<(), Refused> {
    let owned = bucket(txn, name).map_err(TxnError::from)?;
    let ours = owned.is_some_and(|record| record.owner == path.account);
    if ours { Ok(()) } else { Err(Refused::NoBucket) }
}

pub(super) fn refusal(refused: Refused) -> S3Error {
    match refused {
        Refused::NoBucket => s3_error!(NoSuchBucket, "the specified bucket does not exist"),
        Refused::Condition(WriteOutcome::Failed) => precondition_failed(),
        Refused::Condition(WriteOutcome::Missing) => {
            s3_error!(NoSuchKey, "the specified key does not exist")
        }
        Refused::Told(error) => error,
        Refused::Store(error) => error::txn(&error),
    }
}
