//! UploadPart.

use super::{find, number, part_failed};
use crate::s3::checksum::{self, Algorithm, Expected};
use crate::s3::condition::etag;
use crate::s3::put::{BATCH_BYTES, Reader};
use crate::s3::unsigned::Trailers;
use crate::s3::{Api, writing};
use crate::store::ChecksumType;
use crate::store::uploads::{PART_BYTES_MAX, Upload};
use s3s::dto::{UploadPartInput, UploadPartOutput};
use s3s::{S3Request, S3Response, S3Result, s3_error};

pub(in crate::s3) async fn part(
    api: &Api,
    req: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let admitted = api.admitted(&req)?;
    let S3Request { input, headers, trailing_headers, extensions, .. } = req;
    writing::refuse_unserved(&headers)?;
    let number = number(input.part_number)?;
    let length = input.content_length.map(|length| {
        u64::try_from(length).map_err(|_| s3_error!(InvalidArgument, "the length is negative"))
    });
    let length = length.transpose()?;
    if length.is_some_and(|length| length > PART_BYTES_MAX) {
        return Err(s3_error!(
            EntityTooLarge,
            "your proposed upload exceeds the maximum allowed size: a part has at most {PART_BYTES_MAX} bytes"
        ));
    }
    let upload = find(api, &admitted, &input.upload_id, &input.key)?;
    let mut expected = expected(Expected::of(&headers)?, &upload)?;
    let mut writer = api.store.begin_part(upload.id, number, length).await.map_err(part_failed)?;
    let mut body = Reader { body: input.body, read: 0 };
    loop {
        let batch = body.batch(BATCH_BYTES, &mut expected).await?;
        if batch.is_empty() {
            break;
        }
        if body.read > length.unwrap_or(PART_BYTES_MAX) {
            return Err(s3_error!(EntityTooLarge, "the body is longer than the head says"));
        }
        writer.write(batch).await.map_err(part_failed)?;
    }
    if length.is_some_and(|length| length != body.read) {
        return Err(s3_error!(IncompleteBody, "the body has {} bytes", body.read));
    }
    let written = writer.finish().await.map_err(part_failed)?;
    let trailers = trailing_headers.and_then(|trailers| trailers.take());
    let trailers = trailers.or_else(|| Trailers::of(&extensions));
    let (algorithm, value) = expected.check(written.md5(), trailers.as_ref())?;
    let tag = etag(&written.md5().into());
    let sum = Some((algorithm.name().to_owned(), value));
    let recorded = api.store.record_part(written, sum.clone(), crate::s3::now_ms());
    recorded.await.map_err(part_failed)?;
    let shown = checksum::shown(sum.as_slice(), ChecksumType::FullObject);
    Ok(S3Response::new(UploadPartOutput {
        checksum_crc32: shown.checksum_crc32,
        checksum_crc32c: shown.checksum_crc32c,
        checksum_crc64nvme: shown.checksum_crc64nvme,
        checksum_sha1: shown.checksum_sha1,
        checksum_sha256: shown.checksum_sha256,
        e_tag: Some(tag),
        ..UploadPartOutput::default()
    }))
}

/// The checksum that a part is to have: the upload's algorithm, if it was begun with one.
fn expected(given: Expected, upload: &Upload) -> S3Result<Expected> {
    let chosen = upload.sum.as_ref().and_then(|sum| Algorithm::from_name(&sum.algorithm));
    let Some(chosen) = chosen else { return Ok(given) };
    match given.given() {
        Some(other) if other != chosen => Err(s3_error!(
            InvalidRequest,
            "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
            chosen.name(),
            other.name()
        )),
        Some(_) | None => Ok(given.or(chosen)),
    }
}
