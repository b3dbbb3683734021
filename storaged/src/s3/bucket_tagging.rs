//! Tags of buckets: kept and shown, nothing else looks at them.

use super::error::bad_request;
use super::{Api, document};
use crate::store::BucketConfig;
use s3s::dto::{
    DeleteBucketTaggingInput, DeleteBucketTaggingOutput, GetBucketTaggingInput,
    GetBucketTaggingOutput, PutBucketTaggingInput, PutBucketTaggingOutput, Tag, Tagging,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use std::collections::HashSet;

/// Tags of a bucket: as S3 has it.
const TAGS_MAX: usize = 50;
/// Characters of a tag's key: as S3 has it.
const KEY_CHARS_MAX: usize = 128;
/// Characters of a tag's value: as S3 has it.
const VALUE_CHARS_MAX: usize = 256;

pub(super) async fn put(
    api: &Api,
    req: S3Request<PutBucketTaggingInput>,
) -> S3Result<S3Response<PutBucketTaggingOutput>> {
    let admitted = api.admitted(&req)?;
    let input = req.input;
    check(&input.tagging.tag_set)?;
    let document = document::to_xml(&input.tagging)?;
    let kind = BucketConfig::Tagging;
    document::keep(api, input.bucket, admitted.bucket()?, kind, document).await?;
    Ok(S3Response::new(PutBucketTaggingOutput {}))
}

pub(super) fn get(
    api: &Api,
    req: &S3Request<GetBucketTaggingInput>,
) -> S3Result<S3Response<GetBucketTaggingOutput>> {
    let missing = S3ErrorCode::NoSuchTagSet;
    let kept = document::kept(api, &req.input.bucket, BucketConfig::Tagging, missing)?;
    let Tagging { tag_set } = document::from_xml(&kept)?;
    Ok(S3Response::new(GetBucketTaggingOutput { tag_set }))
}

pub(super) async fn delete(
    api: &Api,
    req: S3Request<DeleteBucketTaggingInput>,
) -> S3Result<S3Response<DeleteBucketTaggingOutput>> {
    let admitted = api.admitted(&req)?;
    document::drop(api, req.input.bucket, admitted.bucket()?, BucketConfig::Tagging).await?;
    Ok(S3Response::new(DeleteBucketTaggingOutput {}))
}

fn check(tags: &[Tag]) -> S3Result<()> {
    if tags.len() > TAGS_MAX {
        return Err(bad_request(format!("a bucket has at most {TAGS_MAX} tags")));
    }
    let mut keys = HashSet::new();
    for Tag { key, value } in tags {
        let (Some(key), Some(value)) = (key, value) else {
            return Err(s3_error!(MalformedXML, "a tag has a key and a value"));
        };
        if key.is_empty() || key.chars().count() > KEY_CHARS_MAX {
            return Err(s3_error!(InvalidTag, "the TagKey you have provided is invalid"));
        }
        if key.starts_with("aws:") {
            return Err(s3_error!(InvalidTag, "System tags cannot be added/updated by requester"));
        }
        if value.chars().count() > VALUE_CHARS_MAX {
            return Err(s3_error!(InvalidTag, "the TagValue you have provided is invalid"));
        }
        if !key.chars().chain(value.chars()).all(is_of_a_tag) {
            return Err(s3_error!(InvalidTag, "a tag has letters, digits, spaces and _.:/=+-@"));
        }
        if !keys.insert(key) {
            return Err(s3_error!(InvalidTag, "Cannot provide multiple Tags with the same key"));
        }
    }
    Ok(())
}

fn is_of_a_tag(char: char) -> bool {
    char.is_alphanumeric() || char == ' ' || "_.:/=+-@".contains(char)
}

#[cfg(test)]
mod test {
    use super::*;

    fn code(tags: &[(&str, &str)]) -> Option<String> {
        let tag = |(key, value): &(&str, &str)| Tag {
            key: Some((*key).to_owned()),
            value: Some((*value).to_owned()),
        };
        let tags: Vec<_> = tags.iter().map(tag).collect();
        check(&tags).err().map(|error| error.code().as_str().to_owned())
    }

    #[test]
    fn tags_are_held_to_their_rules() {
        assert_eq!(code(&[]), None);
        assert_eq!(code(&[("colour", "dark blue"), ("größe", "")]), None);
        assert_eq!(code(&[(&"k".repeat(128), &"v".repeat(256))]), None);
        let invalid = Some("InvalidTag".to_owned());
        assert_eq!(code(&[("a", "1"), ("a", "2")]), invalid);
        assert_eq!(code(&[("", "1")]), invalid);
        assert_eq!(code(&[("aws:a", "1")]), invalid);
        assert_eq!(code(&[("a", "<")]), invalid);
        assert_eq!(code(&[(&"k".repeat(129), "1")]), invalid);
        assert_eq!(code(&[("a", &"v".repeat(257))]), invalid);
        assert!(check(&[Tag { key: Some("a".to_owned()), value: None }]).is_err());
    }
}
