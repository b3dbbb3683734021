//! PutObject.
//!
//! Up to the inline threshold an object travels in the journal's record; a longer one goes into a staging
//! file that is sealed before its record is made. Either way nothing is visible before all of it is
//! there, checked, and on disk.

use super::checksum::{Algorithm, Expected};
use super::condition::{etag, holds};
use super::get::precondition_failed;
use super::{Api, error, lock};
use crate::events::{Change, EventKind};
use crate::store::{
    Content, INLINE_BYTES_MAX, Metadata, ObjectPath, Staging, Txn, TxnError, Written, bucket,
};
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use s3s::crypto::{Checksum, Md5};
use s3s::dto::{ETagCondition, PutObjectInput, PutObjectOutput, StreamingBlob, TimestampFormat};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};
use std::pin::Pin;

/// The largest object of one PUT, in bytes: what S3 allows an object to be at most.
const OBJECT_BYTES_MAX: u64 = 5 << 40;
/// What is gathered before it is handed to the disk, in bytes: a hand-over costs two thread switches.
const BATCH_BYTES: usize = 256 * 1024;
/// Bytes of a user's metadata, names and values: as S3 has it.
const USER_METADATA_BYTES_MAX: usize = 2048;

/// Why the record was not made.
enum Refused {
    NoBucket,
    Precondition,
    NoKey,
    Store(TxnError),
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
    let S3Request { input, headers, trailing_headers, .. } = req;
    refuse_unserved(&input)?;
    let path = admitted.path(&input.key)?;
    let length = input.content_length.map(|length| {
        u64::try_from(length).map_err(|_| s3_error!(InvalidArgument, "the length is negative"))
    });
    let length = length.transpose()?;
    if length.is_some_and(|length| length > OBJECT_BYTES_MAX) {
        return Err(s3_error!(EntityTooLarge, "an object has at most {OBJECT_BYTES_MAX} bytes"));
    }
    let mut expected = Expected::of(&headers)?;
    let mut meta = metadata(&input)?;
    let mut body = Reader { body: input.body, read: 0 };
    let content = receive(api, &mut body, length, &mut expected, &mut meta.etag.md5).await?;
    if length.is_some_and(|length| length != body.read) {
        return Err(s3_error!(IncompleteBody, "the body has {} bytes", body.read));
    }
    let trailers = trailing_headers.and_then(|trailers| trailers.take());
    let sum = expected.check(meta.etag.md5, trailers.as_ref())?;
    meta.checksums = vec![(sum.0.name().to_owned(), sum.1.clone())];
    let tag = meta.etag;
    meta.modified_ms = super::now_ms();
    meta.acl = admitted.acl();
    wish.grant(admitted.bucket()?, meta.modified_ms, &mut meta)?;
    let conditions = (input.if_match, input.if_none_match);
    let name = input.bucket.clone();
    let (size, time_ms) = (body.read, meta.modified_ms);
    let done = api.store.transact(move |txn| commit(txn, &name, &path, content, meta, &conditions));
    let written = done.await.map_err(|e| error::transact(e, refusal))?;
    let key = input.key;
    let change = || [Change::created(EventKind::CreatedPut, key, size, tag, &written, time_ms)];
    api.tell(&teller, &input.bucket, change).await;
    let mut output = PutObjectOutput {
        e_tag: Some(etag(&tag)),
        version_id: written.shown().map(|version| version.to_string()),
        ..PutObjectOutput::default()
    };
    let (algorithm, value) = sum;
    let place = match algorithm {
        Algorithm::Crc32 => &mut output.checksum_crc32,
        Algorithm::Crc32c => &mut output.checksum_crc32c,
        Algorithm::Crc64Nvme => &mut output.checksum_crc64nvme,
        Algorithm::Sha1 => &mut output.checksum_sha1,
        Algorithm::Sha256 => &mut output.checksum_sha256,
    };
    *place = Some(value);
    output.checksum_type = Some("FULL_OBJECT".to_owned().into());
    Ok(S3Response::new(output))
}

/// What would be promised and not kept is refused.
fn refuse_unserved(input: &PutObjectInput) -> S3Result<()> {
    let refused = |what: &str| Err(s3_error!(NotImplemented, "{what} is not served"));
    if input.server_side_encryption.is_some()
        || input.sse_customer_algorithm.is_some()
        || input.sse_customer_key.is_some()
        || input.ssekms_key_id.is_some()
    {
        return refused("server-side encryption");
    }
    if input.tagging.is_some() {
        return refused("tagging");
    }
    if input.storage_class.as_ref().is_some_and(|class| class.as_str() != "STANDARD") {
        return refused("a storage class other than STANDARD");
    }
    if input.website_redirect_location.is_some() {
        return refused("website redirection");
    }
    if input.write_offset_bytes.is_some() {
        return refused("appending");
    }
    Ok(())
}

fn metadata(input: &PutObjectInput) -> S3Result<Metadata> {
    let user = input.metadata.iter().flatten();
    let mut user: Vec<_> = user.map(|(name, value)| (name.clone(), value.clone())).collect();
    user.sort();
    let size: usize = user.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > USER_METADATA_BYTES_MAX {
        return Err(s3_error!(
            MetadataTooLarge,
            "metadata has at most {USER_METADATA_BYTES_MAX} bytes, this has {size}"
        ));
    }
    let expires = input.expires.as_ref().map(|time| {
        let mut text = Vec::new();
        time.format(TimestampFormat::HttpDate, &mut text)
            .map_err(|_| s3_error!(InvalidArgument, "the Expires is no date"))?;
        String::from_utf8(text).map_err(|_| s3_error!(InvalidArgument, "the Expires is no date"))
    });
    let headers = [
        ("cache-control", input.cache_control.clone()),
        ("content-disposition", input.content_disposition.clone()),
        ("content-encoding", input.content_encoding.as_deref().and_then(lasting_encoding)),
        ("content-language", input.content_language.clone()),
        ("expires", expires.transpose()?),
    ];
    let kept = headers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Ok(Metadata {
        content_type: input.content_type.clone(),
        headers: kept.collect(),
        user,
        ..Metadata::default()
    })
}

/// A content encoding without what was only for the way here.
fn lasting_encoding(text: &str) -> Option<String> {
    let lasting: Vec<_> =
        text.split(',').map(str::trim).filter(|part| *part != "aws-chunked").collect();
    let text = lasting.join(",");
    (!text.is_empty()).then_some(text)
}

struct Reader {
    body: Option<StreamingBlob>,
    read: u64,
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
    async fn batch(&mut self, enough: usize, expected: &mut Expected) -> S3Result<Bytes> {
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
    let large = length.is_some_and(|length| length > INLINE_BYTES_MAX as u64);
    let enough = if large { BATCH_BYTES } else { INLINE_BYTES_MAX + 1 };
    let first = body.batch(enough, expected).await?;
    if first.len() <= INLINE_BYTES_MAX && !large {
        *md5 = Md5::checksum(&first);
        return Ok(Content::Inline(first));
    }
    let mut staging = api.store.stage(length, None).await.map_err(|e| error::stage(&e))?;
    write(&mut staging, first).await?;
    loop {
        let batch = body.batch(BATCH_BYTES, expected).await?;
        if batch.is_empty() {
            break;
        }
        if body.read > length.unwrap_or(OBJECT_BYTES_MAX) {
            return Err(s3_error!(EntityTooLarge, "the body is longer than the head says"));
        }
        write(&mut staging, batch).await?;
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
    (matches, none_match): &(Option<ETagCondition>, Option<ETagCondition>),
) -> Result<Written, Refused> {
    // The bucket may have gone while the body came.
    let owned = bucket(txn, name).map_err(TxnError::from)?;
    if owned.is_none_or(|record| record.owner != path.account) {
        return Err(Refused::NoBucket);
    }
    if matches.is_some() || none_match.is_some() {
        let found = txn.object(path).map_err(TxnError::from)?;
        match (matches, &found) {
            (Some(_), None) => return Err(Refused::NoKey),
            (Some(tag), Some(record)) if !holds(tag, &record.meta.etag) => {
                return Err(Refused::Precondition);
            }
            (Some(_) | None, _) => {}
        }
        if let (Some(tag), Some(record)) = (none_match, &found)
            && holds(tag, &record.meta.etag)
        {
            return Err(Refused::Precondition);
        }
    }
    Ok(txn.put_object(path, content, meta)?)
}

fn refusal(refused: Refused) -> S3Error {
    match refused {
        Refused::NoBucket => s3_error!(NoSuchBucket, "the specified bucket does not exist"),
        Refused::Precondition => precondition_failed(),
        Refused::NoKey => s3_error!(NoSuchKey, "the specified key does not exist"),
        Refused::Store(error) => error::txn(&error),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_encoding_of_the_way_is_not_kept() {
        assert_eq!(lasting_encoding("aws-chunked"), None);
        assert_eq!(lasting_encoding("aws-chunked, gzip"), Some("gzip".to_owned()));
        assert_eq!(lasting_encoding("gzip,br"), Some("gzip,br".to_owned()));
    }
}
