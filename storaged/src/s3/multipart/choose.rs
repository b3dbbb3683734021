//! The list of parts that completes an upload: whether it is right, and what the object's entity tag and
//! checksum come to. Pure.

use crate::s3::checksum::{Algorithm, carried, combined, composite};
use crate::store::uploads::{PART_BYTES_MIN, SumChoice, UPLOAD_BYTES_MAX, UploadedPart};
use crate::store::{ChecksumType, ETagValue};
use s3s::crypto::{Checksum, Md5};
use s3s::dto::{CompletedMultipartUpload, CompletedPart};
use s3s::{S3Error, s3_error};
use std::collections::HashMap;

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The part's number.
    pub number: u32,
    /// Its entity tag, without quotes.
    pub etag: String,
    /// Its checksums, as far as the client gives them: algorithm and value.
    pub sums: Vec<(&'static str, String)>,
}

/// What the client says of the whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// Checksums: algorithm and value.
    pub sums: Vec<(&'static str, String)>,
    /// What they are of.
    pub kind: Option<ChecksumType>,
    /// Bytes.
    pub size: Option<u64>,
}

/// A list that is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The parts, in order.
    pub parts: Vec<UploadedPart>,
    /// The object's entity tag.
    pub etag: ETagValue,
    /// Its checksum: algorithm, value, what it is of.
    pub sum: Option<(String, String, ChecksumType)>,
}

/// The list in a request.
///
/// # Errors
/// MalformedXML when it is none.
pub fn read_list(list: Option<CompletedMultipartUpload>) -> Result<Vec<Asked>, S3Error> {
    let parts = list.and_then(|list| list.parts).unwrap_or_default();
    let malformed = || {
        s3_error!(
            MalformedXML,
            "the XML you provided was not well-formed or did not validate against our published schema"
        )
    };
    if parts.is_empty() {
        return Err(malformed());
    }
    let read = |part: CompletedPart| {
        let number = part.part_number.and_then(|number| u32::try_from(number).ok())?;
        let etag = part.e_tag.as_ref()?.value().to_owned();
        let sums = [
            (Algorithm::Crc32, part.checksum_crc32),
            (Algorithm::Crc32c, part.checksum_crc32c),
            (Algorithm::Crc64Nvme, part.checksum_crc64nvme),
            (Algorithm::Sha1, part.checksum_sha1),
        ];
        let sums = sums.into_iter().filter_map(|(algorithm, value)| Some((algorithm, value?)));
        let sums = sums.chain(part.checksum_sha256.map(carried::opened));
        let sums = sums.map(|(algorithm, value)| (algorithm.name(), value)).collect();
        Some(Asked { number, etag, sums })
    };
    parts.into_iter().map(|part| read(part).ok_or_else(malformed)).collect()
}

/// What tells one list from another.
#[must_use]
pub fn fingerprint(list: &[Asked]) -> [u8; 16] {
    let lines = list.iter().map(|asked| format!("{}:{}\n", asked.number, asked.etag));
    Md5::checksum(lines.collect::<String>().as_bytes())
}

/// The parts that are asked for, if they make an object.
///
/// # Errors
/// What S3 answers to a list that is wrong.
pub fn choose(
    list: &[Asked],
    claims: &Claims,
    recorded: &[UploadedPart],
    sum: Option<&SumChoice>,
) -> Result<Choice, S3Error> {
    if !list.is_sorted_by(|a, b| a.number < b.number) {
        return Err(s3_error!(
            InvalidPartOrder,
            "the list of parts was not in ascending order; parts must be ordered by part number"
        ));
    }
    let known: HashMap<u32, &UploadedPart> =
        recorded.iter().map(|part| (part.number, part)).collect();
    let parts = list.iter().map(|asked| {
        let part = known.get(&asked.number).filter(|part| is_it(asked, part));
        part.map(|part| (*part).clone()).ok_or_else(invalid_part)
    });
    let parts: Vec<_> = parts.collect::<Result<_, _>>()?;
    check_sizes(&parts, claims.size)?;
    if let Some(SumChoice { algorithm, kind: ChecksumType::Composite }) = sum
        && let Some(asked) =
            list.iter().find(|asked| !asked.sums.iter().any(|(n, _)| n == algorithm))
    {
        return Err(s3_error!(
            InvalidRequest,
            "The upload was created using a {algorithm} checksum. The complete request must include \
             the checksum for each part. It was missing for part {} in the request.",
            asked.number
        ));
    }
    let etag = etag(&parts);
    let sum = whole_sum(&parts, sum);
    check_sum(claims, sum.as_ref())?;
    Ok(Choice { parts, etag, sum })
}

fn invalid_part() -> S3Error {
    s3_error!(
        InvalidPart,
        "one or more of the specified parts could not be found; the part may not have been uploaded, or \
         the specified entity tag may not match the part's entity tag"
    )
}

fn is_it(asked: &Asked, part: &UploadedPart) -> bool {
    let same_sum = |(name, value): &(&str, String)| match &part.sum {
        Some((algorithm, kept)) if algorithm == name => kept == value,
        Some(_) | None => true,
    };
    ETagValue::from(part.md5).to_string() == asked.etag && asked.sums.iter().all(same_sum)
}

fn check_sizes(parts: &[UploadedPart], claimed: Option<u64>) -> Result<(), S3Error> {
    let (_, all_but_last) = parts.split_last().ok_or_else(invalid_part)?;
    if all_but_last.iter().any(|part| part.size < PART_BYTES_MIN) {
        return Err(s3_error!(
            EntityTooSmall,
            "your proposed upload is smaller than the minimum allowed size: every part but the last has at \
             least {PART_BYTES_MIN} bytes"
        ));
    }
    let total = parts.iter().fold(0_u64, |total, part| total.saturating_add(part.size));
    if total > UPLOAD_BYTES_MAX {
        return Err(s3_error!(
            EntityTooLarge,
            "an object in parts has at most {UPLOAD_BYTES_MAX} bytes, this has {total}"
        ));
    }
    match claimed.filter(|claimed| *claimed != total) {
        None => Ok(()),
        Some(claimed) => Err(s3_error!(
            InvalidRequest,
            "The provided 'x-amz-mp-object-size' header value {claimed} does not match what was \
             computed: {total}"
        )),
    }
}

fn etag(parts: &[UploadedPart]) -> ETagValue {
    let all: Vec<u8> = parts.iter().flat_map(|part| part.md5).collect();
    // At most 10,000 have numbers.
    let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    ETagValue { md5: Md5::checksum(&all), parts: Some(count) }
}

/// The checksum of the whole: as the upload was begun, or else, if all parts have one of the same kind that
/// can be put together, that of all bytes.
fn whole_sum(
    parts: &[UploadedPart],
    choice: Option<&SumChoice>,
) -> Option<(String, String, ChecksumType)> {
    let (name, kind) = match choice {
        Some(choice) => (&choice.algorithm, choice.kind),
        None => (&parts.first()?.sum.as_ref()?.0, ChecksumType::FullObject),
    };
    let algorithm = Algorithm::from_name(name)?;
    let values = parts.iter().map(|part| {
        let sum = part.sum.as_ref().filter(|(algorithm, _)| algorithm == name);
        sum.map(|(_, value)| (value.as_str(), part.size))
    });
    let values: Vec<_> = values.collect::<Option<_>>()?;
    let value = match kind {
        ChecksumType::FullObject => combined(algorithm, values)?,
        ChecksumType::Composite => composite(algorithm, values.into_iter().map(|(sum, _)| sum))?,
    };
    Some((name.clone(), value, kind))
}

fn check_sum(
    claims: &Claims,
    found: Option<&(String, String, ChecksumType)>,
) -> Result<(), S3Error> {
    if let (Some(claimed), Some((_, _, kind))) = (claims.kind, found)
        && claimed != *kind
    {
        return Err(s3_error!(
            InvalidRequest,
            "the checksum type of the request is not the one that the upload was created with"
        ));
    }
    for (name, value) in &claims.sums {
        let (algorithm, computed) = match found {
            Some((algorithm, computed, _)) => (algorithm.as_str(), computed),
            None => continue,
        };
        // A composite value may come without the number of its parts.
        let bare = computed.split_once('-').map_or(computed.as_str(), |(bare, _)| bare);
        if algorithm != *name {
            return Err(s3_error!(
                InvalidRequest,
                "the checksum of the request is a {name}, the upload was created with {algorithm}"
            ));
        }
        if value != computed && value != bare {
            return Err(s3_error!(
                BadDigest,
                "the {name} you specified did not match the calculated checksum"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "choose_test.rs"]
mod test;
