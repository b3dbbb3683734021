//! UploadPartCopy: a part from an object that is there.

use super::{find, number, part_failed};
use crate::s3::access::{Action, Admitted};
use crate::s3::checksum::{self, Algorithm, Expected};
use crate::s3::condition::{Conditions, Outcome, etag};
use crate::s3::copy::as_source;
use crate::s3::get::precondition_failed;
use crate::s3::{Api, error, version, writing};
use crate::store::uploads::{PART_BYTES_MAX, Upload, WrittenPart};
use crate::store::{ChecksumType, ContentRef, ObjectFile, ObjectRecord, OpenBlobError, VersionRef};
use http::HeaderMap;
use s3s::dto::{CopyPartResult, CopySource, UploadPartCopyInput, UploadPartCopyOutput};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};
use std::ops::Range;
use std::sync::Arc;

pub(in crate::s3) async fn copy(
    api: &Api,
    req: S3Request<UploadPartCopyInput>,
) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let admitted = api.admitted(&req)?;
    writing::refuse_unserved(&req.headers)?;
    let number = number(req.input.part_number)?;
    let source = Source::of(api, &req)?;
    let input = req.input;
    let upload = find(api, &admitted, &input.upload_id, &input.key)?;
    let range = match &input.copy_source_range {
        None => 0..source.record.size,
        Some(text) => parse_range(text, source.record.size)?,
    };
    if range.end - range.start > PART_BYTES_MAX {
        return Err(s3_error!(
            InvalidRequest,
            "the specified copy source is larger than the maximum allowable size for a copy source: \
             {PART_BYTES_MAX}"
        ));
    }
    let (written, sum) = fill(api, &upload, number, &source, range).await?;
    let tag = etag(&written.md5().into());
    let modified_ms = crate::s3::now_ms();
    let kept = Some((sum.0.name().to_owned(), sum.1));
    api.store.record_part(written, kept.clone(), modified_ms).await.map_err(part_failed)?;
    let shown = checksum::shown(kept.as_slice(), ChecksumType::FullObject);
    let result = CopyPartResult {
        checksum_crc32: shown.checksum_crc32,
        checksum_crc32c: shown.checksum_crc32c,
        checksum_crc64nvme: shown.checksum_crc64nvme,
        checksum_sha1: shown.checksum_sha1,
        checksum_sha256: shown.checksum_sha256,
        e_tag: Some(tag),
        last_modified: Some(crate::s3::list::time(modified_ms)),
    };
    Ok(S3Response::new(UploadPartCopyOutput {
        copy_part_result: Some(result),
        copy_source_version_id: source.shown,
        ..UploadPartCopyOutput::default()
    }))
}

/// What is copied from.
struct Source {
    record: ObjectRecord,
    file: Option<Arc<ObjectFile>>,
    /// What the client is told of its version.
    shown: Option<String>,
}

impl Source {
    fn of(api: &Api, req: &S3Request<UploadPartCopyInput>) -> S3Result<Source> {
        let CopySource::Bucket { bucket, key, version_id } = &req.input.copy_source else {
            return Err(s3_error!(NotImplemented, "access points are not served"));
        };
        let named = version::named(version_id.as_deref())?;
        let action = match named {
            None => Action::GetObject,
            Some(_) => Action::GetObjectVersion,
        };
        let admitted = api.may_version(req, action, bucket, key, version_id.as_deref())?;
        let (record, file) = open(api, &admitted, key, named)?;
        admitted.still_about(&record)?;
        check_conditions(req, &record)?;
        let shown = version::shown(&admitted, &record)?;
        Ok(Source { record, file, shown })
    }
}

type Opened = (ObjectRecord, Option<Arc<ObjectFile>>);

fn open(api: &Api, admitted: &Admitted, key: &str, named: Option<VersionRef>) -> S3Result<Opened> {
    let path = admitted.path(key)?;
    let mut tries = 0;
    loop {
        let view = api.store.read().map_err(|e| error::index(&e))?;
        let record = version::read(&view, &path, named).map_err(|e| as_source(admitted, e))?;
        let ContentRef::Blob(blob) = record.content else { return Ok((record, None)) };
        match api.store.open_blob(blob) {
            Ok(file) => return Ok((record, Some(file))),
            // Replaced and unlinked between the two looks: look again.
            Err(OpenBlobError::Missing { .. }) if tries == 0 => tries += 1,
            Err(failed) => return Err(error::open(&failed)),
        }
    }
}

fn check_conditions(req: &S3Request<UploadPartCopyInput>, record: &ObjectRecord) -> S3Result<()> {
    let since = req.input.copy_source_if_modified_since.clone();
    let until = req.input.copy_source_if_unmodified_since.clone();
    let conditions = Conditions::of_source(&req.headers, since, until)?;
    match conditions.check(&record.meta.etag, record.meta.modified_ms) {
        Outcome::Proceed => Ok(()),
        // A copy has nothing to answer 304 to.
        Outcome::Failed | Outcome::NotModified => Err(precondition_failed()),
    }
}

/// The bytes of a source: `bytes=first-last`, both there and both in it.
///
/// # Errors
/// InvalidArgument.
fn parse_range(text: &str, size: u64) -> Result<Range<u64>, S3Error> {
    let number = |digits: &str| {
        let digits =
            Some(digits).filter(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()));
        digits.and_then(|digits| digits.parse::<u64>().ok())
    };
    let ends = text.strip_prefix("bytes=").and_then(|rest| rest.split_once('-'));
    let ends = ends.and_then(|(first, last)| Some((number(first)?, number(last)?)));
    match ends {
        Some((first, last)) if first <= last && last < size => Ok(first..last + 1),
        Some((first, last)) if first <= last => Err(s3_error!(
            InvalidArgument,
            "Range specified is not valid for source object of size: {size}"
        )),
        Some(_) | None => Err(s3_error!(
            InvalidArgument,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last \
             are the zero-based offsets of the first and last bytes to copy"
        )),
    }
}

async fn fill(
    api: &Api,
    upload: &Upload,
    number: u32,
    source: &Source,
    range: Range<u64>,
) -> S3Result<(WrittenPart, (Algorithm, String))> {
    let chosen = upload.sum.as_ref().and_then(|sum| Algorithm::from_name(&sum.algorithm));
    let mut expected = Expected::of(&HeaderMap::new())?;
    if let Some(chosen) = chosen {
        expected = expected.or(chosen);
    }
    let size = Some(range.end - range.start);
    let mut writer = api.store.begin_part(upload.id, number, size).await.map_err(part_failed)?;
    let (written, expected) = match (&source.record.content, &source.file) {
        (ContentRef::Inline(bytes), _) => {
            // At most INLINE_BYTES_MAX.
            let bytes = bytes.slice(range.start as usize..range.end as usize);
            expected.update(&bytes);
            writer.write(bytes).await.map_err(part_failed)?;
            (writer.finish().await.map_err(part_failed)?, expected)
        }
        (ContentRef::Blob(_), Some(file)) => {
            let from = Arc::clone(file);
            let filled = api.store.copy_part(writer, from, range, expected, Expected::update);
            filled.await.map_err(part_failed)?
        }
        (ContentRef::Blob(_), None) => unreachable!("a blob is opened with its record"),
    };
    let md5 = written.md5();
    Ok((written, expected.check(md5, None)?))
}
