//! GetObjectAttributes: what is known of an object, without its content.

use super::condition::{etag, seconds};
use super::get::signed;
use super::{Api, Payload, checksum, document, error, version};
use crate::store::{ChecksumType, Metadata, PartRecord};
use s3s::dto::{
    GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectAttributesParts, ObjectPart,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

/// Parts of one page: as S3 has it.
const PARTS_MAX: usize = 1000;
/// What may be asked for.
const KNOWN: [&str; 5] = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];

pub(super) fn get(
    api: &Api,
    req: &S3Request<GetObjectAttributesInput>,
) -> S3Result<S3Response<GetObjectAttributesOutput>> {
    let (admitted, input) = (api.admitted(req)?, &req.input);
    if input.sse_customer_algorithm.is_some() || input.sse_customer_key.is_some() {
        return Err(s3_error!(NotImplemented, "encryption with customer keys is not served"));
    }
    // A header may list several.
    let wanted: Vec<_> = input
        .object_attributes
        .iter()
        .flat_map(|names| names.as_str().split(','))
        .map(str::trim)
        .collect();
    if wanted.is_empty() || wanted.iter().any(|name| !KNOWN.contains(name)) {
        return Err(s3_error!(InvalidArgument, "invalid attribute name specified"));
    }
    let wants = |name: &str| wanted.contains(&name);
    let named = version::named(input.version_id.as_deref())?;
    let view = api.store.read().map_err(|e| error::index(&e))?;
    let record = version::read(&view, &admitted.path(&input.key)?, named)?;
    let meta = &record.meta;
    let parts = wants("ObjectParts").then(|| page(meta, input.part_number_marker, input.max_parts));
    let output = GetObjectAttributesOutput {
        checksum: (wants("Checksum") && !meta.checksums.is_empty())
            .then(|| checksum::shown(&meta.checksums, meta.checksum_type)),
        e_tag: wants("ETag").then(|| etag(&meta.etag)),
        last_modified: Some(seconds(meta.modified_ms)),
        object_parts: parts.transpose()?.flatten(),
        object_size: wants("ObjectSize").then(|| signed(record.size)),
        storage_class: wants("StorageClass").then(|| "STANDARD".to_owned().into()),
        version_id: version::shown(&admitted, &record)?,
        ..GetObjectAttributesOutput::default()
    };
    let document = document::to_xml(&output)?;
    let document = without_quotes(document::readable(&document).unwrap_or(document));
    let mut response = S3Response::new(output);
    response.extensions.insert(Payload::Bytes(document.into()));
    Ok(response)
}

/// The document with its entity tag as S3 has it here and nowhere else: without the quotes that the library writes.
fn without_quotes(document: Vec<u8>) -> Vec<u8> {
    const BEGIN: &[u8] = b"<ETag>\"";
    const END: &[u8] = b"\"</ETag>";
    let begin = memchr::memmem::find(&document, BEGIN);
    let end = memchr::memmem::find(&document, END);
    match (begin, end) {
        (Some(begin), Some(end)) if begin + BEGIN.len() <= end => {
            let tag = &document[begin + BEGIN.len()..end];
            [&document[..begin], b"<ETag>", tag, b"</ETag>", &document[end + END.len()..]].concat()
        }
        _ => document,
    }
}

/// A page of the parts; nothing for an object that came whole. As S3 does, parts are listed only where they have
/// checksums; how many there are is told in any case.
fn page(
    meta: &Metadata,
    marker: Option<i32>,
    max: Option<i32>,
) -> S3Result<Option<GetObjectAttributesParts>> {
    if meta.parts.is_empty() {
        return Ok(None);
    }
    let count = |value: Option<i32>, default: usize| match value.map(usize::try_from) {
        None => Ok(default),
        Some(Ok(value)) => Ok(value),
        Some(Err(_)) => Err(s3_error!(InvalidArgument, "a count is not to be negative")),
    };
    let (after, max) = (count(marker, 0)?, count(max, PARTS_MAX)?.min(PARTS_MAX));
    let listed = meta.parts.iter().filter(|part| part.checksum.is_some());
    let mut rest = listed.filter(|part| part.number as usize > after);
    let parts: Vec<_> = rest.by_ref().take(max).map(shown).collect();
    let next = parts.last().and_then(|part| part.part_number);
    let number = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
    Ok(Some(GetObjectAttributesParts {
        is_truncated: Some(rest.next().is_some()),
        max_parts: Some(number(max)),
        next_part_number_marker: next,
        part_number_marker: Some(number(after)),
        parts: (!parts.is_empty()).then_some(parts),
        total_parts_count: Some(number(meta.parts.len())),
    }))
}

fn shown(part: &PartRecord) -> ObjectPart {
    let sum = part.checksum.as_slice();
    let sums = checksum::shown(sum, ChecksumType::default());
    ObjectPart {
        checksum_crc32: sums.checksum_crc32,
        checksum_crc32c: sums.checksum_crc32c,
        checksum_crc64nvme: sums.checksum_crc64nvme,
        checksum_sha1: sums.checksum_sha1,
        checksum_sha256: sums.checksum_sha256,
        part_number: i32::try_from(part.number).ok(),
        size: Some(signed(part.size)),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn parts(sums: bool) -> Metadata {
        let part = |number| PartRecord {
            number,
            size: 5,
            checksum: sums.then(|| ("crc32".to_owned(), format!("{number}"))),
        };
        Metadata { parts: [1, 3, 4].map(part).to_vec(), ..Metadata::default() }
    }

    #[test]
    fn parts_come_in_pages() {
        let page = |marker, max| {
            let page = page(&parts(true), marker, max).unwrap().unwrap();
            let numbers = page.parts.into_iter().flatten().filter_map(|part| part.part_number);
            (numbers.collect::<Vec<_>>(), page.is_truncated, page.next_part_number_marker)
        };
        assert_eq!(page(None, None), (vec![1, 3, 4], Some(false), Some(4)));
        assert_eq!(page(None, Some(2)), (vec![1, 3], Some(true), Some(3)));
        assert_eq!(page(Some(3), Some(2)), (vec![4], Some(false), Some(4)));
        assert_eq!(page(Some(4), None), (vec![], Some(false), None));
    }

    #[test]
    fn parts_without_checksums_are_only_counted() {
        let found = page(&parts(false), None, None).unwrap().unwrap();
        assert_eq!((found.total_parts_count, found.parts), (Some(3), None));
        assert!(page(&Metadata::default(), None, None).unwrap().is_none());
        assert!(page(&parts(true), Some(-1), None).is_err());
    }
}
