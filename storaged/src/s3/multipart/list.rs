//! ListParts and ListMultipartUploads.

use super::begin::kind_name;
use super::find;
use crate::s3::access::acl::Acl;
use crate::s3::checksum;
use crate::s3::condition::etag;
use crate::s3::get::signed;
use crate::s3::lifecycle::abortion_of;
use crate::s3::list::{Encoding, time};
use crate::s3::{Api, bucket, error};
use crate::store::ChecksumType;
use crate::store::uploads::{
    Upload, UploadEntry, UploadId, UploadMarker, UploadQuery, UploadedPart,
    list_uploads as list_page, parts,
};
use s3s::dto::{
    CommonPrefix, Initiator, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListPartsInput,
    ListPartsOutput, MultipartUpload, Owner, Part,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

/// Entries of one page: as S3 has it.
const PAGE_MAX: usize = 1000;

fn page_size(asked: Option<i32>, name: &str) -> S3Result<usize> {
    match asked.map(usize::try_from) {
        None => Ok(PAGE_MAX),
        Some(Ok(max)) => Ok(max.min(PAGE_MAX)),
        Some(Err(_)) => Err(s3_error!(InvalidArgument, "{name} is not to be negative")),
    }
}

fn initiator(upload: &Upload) -> Initiator {
    let name = Some(upload.initiator.clone());
    Initiator { display_name: name.clone(), id: name }
}

/// Who will own the object: the one its list names, or the bucket's owner if it has none.
fn owner(api: &Api, upload: &Upload) -> S3Result<Owner> {
    match &upload.meta.acl {
        None => Ok(bucket::owner(&api.accounts.name_of(upload.path.account))),
        Some(text) => {
            let acl = Acl::parse(text.as_bytes()).map_err(|e| error::internal(&e))?;
            Ok(bucket::owner(&acl.owner))
        }
    }
}

pub(in crate::s3) fn list_parts(
    api: &Api,
    req: S3Request<ListPartsInput>,
) -> S3Result<S3Response<ListPartsOutput>> {
    let admitted = api.admitted(&req)?;
    let input = req.input;
    if input.sse_customer_algorithm.is_some() || input.sse_customer_key.is_some() {
        return Err(s3_error!(NotImplemented, "server-side encryption is not served"));
    }
    let max = page_size(input.max_parts, "max-parts")?;
    let after = u32::try_from(input.part_number_marker.unwrap_or(0))
        .map_err(|_| s3_error!(InvalidArgument, "part-number-marker is not to be negative"))?;
    let upload = find(api, &admitted, &input.upload_id, &input.key)?;
    let view = api.store.read().map_err(|e| error::index(&e))?;
    let (found, more) = parts(&view, upload.id, after, max).map_err(|e| error::index(&e))?;
    let more = more && max > 0;
    let next = found.last().filter(|_| more).map(|part| part.number.cast_signed());
    let (abort_date, abort_rule_id) = abortion_of(&api.settings, &input.bucket, &upload).unzip();
    Ok(S3Response::new(ListPartsOutput {
        abort_date,
        abort_rule_id,
        bucket: Some(input.bucket),
        checksum_algorithm: algorithm(&upload),
        checksum_type: kind(&upload),
        initiator: Some(initiator(&upload)),
        is_truncated: Some(more),
        key: Some(input.key),
        max_parts: Some(max as i32),
        next_part_number_marker: next,
        owner: Some(owner(api, &upload)?),
        part_number_marker: Some(after.cast_signed()),
        parts: Some(found.iter().map(shown).collect()),
        storage_class: Some("STANDARD".to_owned().into()),
        upload_id: Some(input.upload_id),
        ..ListPartsOutput::default()
    }))
}

fn algorithm(upload: &Upload) -> Option<s3s::dto::ChecksumAlgorithm> {
    upload.sum.as_ref().map(|sum| sum.algorithm.to_ascii_uppercase().into())
}

fn kind(upload: &Upload) -> Option<s3s::dto::ChecksumType> {
    upload.sum.as_ref().map(|sum| kind_name(sum.kind).to_owned().into())
}

fn shown(part: &UploadedPart) -> Part {
    let sums = checksum::shown(part.sum.as_slice(), ChecksumType::FullObject);
    Part {
        checksum_crc32: sums.checksum_crc32,
        checksum_crc32c: sums.checksum_crc32c,
        checksum_crc64nvme: sums.checksum_crc64nvme,
        checksum_sha1: sums.checksum_sha1,
        checksum_sha256: sums.checksum_sha256,
        e_tag: Some(etag(&part.md5.into())),
        last_modified: Some(time(part.modified_ms)),
        part_number: Some(part.number.cast_signed()),
        size: Some(signed(part.size)),
    }
}

pub(in crate::s3) fn list_uploads(
    api: &Api,
    req: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    api.admitted(&req)?.bucket()?;
    let input = req.input;
    let encoding = Encoding::of(input.encoding_type.as_ref().map(s3s::dto::EncodingType::as_str))?;
    let max = page_size(input.max_uploads, "max-uploads")?;
    let prefix = input.prefix.unwrap_or_default();
    let delimiter = input.delimiter.unwrap_or_default();
    let key_marker = input.key_marker.unwrap_or_default();
    // Without a key it means nothing, as AWS has it.
    let id_marker = input.upload_id_marker.filter(|_| !key_marker.is_empty());
    let query = UploadQuery {
        bucket: input.bucket.clone(),
        prefix: prefix.as_bytes().to_vec(),
        delimiter: delimiter.as_bytes().to_vec(),
        after: marker(&key_marker, id_marker.as_deref(), &prefix, &delimiter)?,
        max,
    };
    let view = api.store.read().map_err(|e| error::index(&e))?;
    let page = list_page(&view, &query).map_err(|e| error::index(&e))?;
    let text = |key: &[u8]| Some(encoding.text(key));
    let (mut uploads, mut prefixes) = (Vec::new(), Vec::new());
    for entry in &page.entries {
        match entry {
            UploadEntry::Prefix(prefix) => prefixes.push(CommonPrefix { prefix: text(prefix) }),
            UploadEntry::Upload(upload) => uploads.push(MultipartUpload {
                checksum_algorithm: algorithm(upload),
                checksum_type: kind(upload),
                initiated: Some(time(upload.initiated_ms)),
                initiator: Some(initiator(upload)),
                key: text(upload.key()),
                owner: Some(owner(api, upload)?),
                storage_class: Some("STANDARD".to_owned().into()),
                upload_id: Some(upload.id.to_string()),
            }),
        }
    }
    let (next_key, next_id) = match &page.next {
        None => (None, None),
        Some(UploadMarker::Upload(key, id)) => (text(key), Some(id.to_string())),
        // AWS has an element for both, whichever they are.
        Some(UploadMarker::Key(key) | UploadMarker::Prefix(key)) => {
            (text(key), Some(String::new()))
        }
    };
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        common_prefixes: Some(prefixes),
        delimiter: text(delimiter.as_bytes()).filter(|text| !text.is_empty()),
        encoding_type: input.encoding_type,
        is_truncated: Some(page.next.is_some()),
        key_marker: text(key_marker.as_bytes()),
        max_uploads: Some(max as i32),
        next_key_marker: next_key,
        next_upload_id_marker: next_id,
        prefix: text(prefix.as_bytes()),
        upload_id_marker: Some(id_marker.unwrap_or_default()),
        uploads: Some(uploads),
        ..ListMultipartUploadsOutput::default()
    }))
}

/// Where markers point: a key that is a common prefix stands for all that it stands for.
fn marker(
    key: &str,
    id: Option<&str>,
    prefix: &str,
    delimiter: &str,
) -> S3Result<Option<UploadMarker>> {
    if key.is_empty() {
        return Ok(None);
    }
    let bytes = key.as_bytes().to_vec();
    if let Some(id) = id.filter(|id| !id.is_empty()) {
        let id = UploadId::parse(id).ok_or_else(|| {
            s3_error!(InvalidArgument, "the upload-id-marker is not the id of an upload")
        })?;
        return Ok(Some(UploadMarker::Upload(bytes, id)));
    }
    let rest = key.strip_prefix(prefix).filter(|_| !delimiter.is_empty());
    let end = rest.and_then(|rest| rest.find(delimiter)).map(|at| prefix.len() + at);
    Ok(Some(match end.is_some_and(|end| end + delimiter.len() == key.len()) {
        true => UploadMarker::Prefix(bytes),
        false => UploadMarker::Key(bytes),
    }))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_marker_is_a_key_an_upload_or_a_common_prefix() {
        let place = |key, id| marker(key, id, "p/", "/").unwrap();
        assert_eq!(place("", None), None);
        assert_eq!(place("p/a", None), Some(UploadMarker::Key(b"p/a".to_vec())));
        assert_eq!(place("p/a/", Some("")), Some(UploadMarker::Prefix(b"p/a/".to_vec())));
        let upload = UploadMarker::Upload(b"p/a".to_vec(), UploadId(16));
        assert_eq!(place("p/a", Some("0000000000000010")), Some(upload));
        assert!(marker("a", Some("x"), "", "").is_err());
    }
}
