//! What a writer says about a new object in the headers of its request: the same for PutObject, CopyObject and
//! CreateMultipartUpload. Pure.

use super::tags;
use crate::store::Metadata;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use s3s::{S3Result, s3_error};

/// Bytes of a user's metadata, names and values: as S3 has it.
const USER_METADATA_BYTES_MAX: usize = 2048;
/// Headers that are kept and given back as they came.
const KEPT: [&str; 5] =
    ["cache-control", "content-disposition", "content-encoding", "content-language", "expires"];
/// The beginning of what is said about the user's own metadata.
const USER: &str = "x-amz-meta-";

/// Refuses what would be promised and not kept.
///
/// # Errors
/// NotImplemented.
pub(super) fn refuse_unserved(headers: &HeaderMap) -> S3Result<()> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let names = || headers.keys().map(http::HeaderName::as_str);
    let refused = |what: &str| Err(s3_error!(NotImplemented, "{what} is not served"));
    let encryption = ["x-amz-server-side-encryption", "x-amz-copy-source-server-side-encryption"];
    if names().any(|name| encryption.iter().any(|start| name.starts_with(start))) {
        return refused("server-side encryption");
    }
    if text("x-amz-storage-class").is_some_and(|class| class != "STANDARD") {
        return refused("a storage class other than STANDARD");
    }
    if text("x-amz-website-redirect-location").is_some() {
        return refused("website redirection");
    }
    if text("x-amz-write-offset-bytes").is_some() {
        return refused("appending");
    }
    Ok(())
}

/// What is to be kept of what is said, with the user's metadata as the protocol library has read it.
///
/// # Errors
/// What S3 says about what can't be kept.
pub(super) fn described(
    headers: &HeaderMap,
    user: Option<&s3s::dto::Metadata>,
) -> S3Result<Metadata> {
    let text = |name: &str| headers.get(name).map(readable).transpose();
    let mut kept = Vec::new();
    for name in KEPT {
        let value = text(name)?;
        let value = if name == "content-encoding" {
            value.as_deref().and_then(lasting_encoding)
        } else {
            value
        };
        kept.extend(value.map(|value| (name.to_owned(), value)));
    }
    Ok(Metadata {
        content_type: text(CONTENT_TYPE.as_str())?.filter(|text| !text.is_empty()),
        headers: kept,
        user: user_metadata(headers, user)?,
        tags: text("x-amz-tagging")?.map_or(Ok(tags::Tags::new()), |text| tags::parse(&text))?,
        ..Metadata::default()
    })
}

fn readable(value: &HeaderValue) -> S3Result<String> {
    let text = std::str::from_utf8(value.as_bytes());
    text.map(str::to_owned).map_err(|_| s3_error!(InvalidArgument, "a header is not UTF-8"))
}

fn user_metadata(
    headers: &HeaderMap,
    user: Option<&s3s::dto::Metadata>,
) -> S3Result<Vec<(String, String)>> {
    let pairs = user.into_iter().flatten();
    let mut pairs: Vec<_> = pairs.map(|(name, value)| (name.clone(), value.clone())).collect();
    pairs.sort();
    let size: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > USER_METADATA_BYTES_MAX {
        return Err(s3_error!(
            MetadataTooLarge,
            "your metadata headers exceed the maximum allowed metadata size: \
             {USER_METADATA_BYTES_MAX} bytes, these have {size}"
        ));
    }
    // What the library leaves out would be lost silently.
    let given = headers.keys().filter(|name| name.as_str().starts_with(USER)).count();
    if given != pairs.len() {
        return Err(s3_error!(InvalidArgument, "a name of metadata is empty"));
    }
    Ok(pairs)
}

/// A content encoding without what was only for the way here.
fn lasting_encoding(text: &str) -> Option<String> {
    let lasting: Vec<_> =
        text.split(',').map(str::trim).filter(|part| *part != "aws-chunked").collect();
    let text = lasting.join(",");
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod test {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (
                http::HeaderName::from_static(name),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            )
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn the_encoding_of_the_way_is_not_kept() {
        assert_eq!(lasting_encoding("aws-chunked"), None);
        assert_eq!(lasting_encoding("aws-chunked, gzip"), Some("gzip".to_owned()));
        assert_eq!(lasting_encoding("gzip,br"), Some("gzip,br".to_owned()));
    }

    #[test]
    fn what_is_said_is_kept() {
        let said = headers(&[
            ("content-type", "a/b"),
            ("expires", "whenever"),
            ("content-encoding", "aws-chunked"),
            ("x-amz-tagging", "a=b"),
            ("host", "h"),
        ]);
        let kept = described(&said, None).unwrap();
        assert_eq!(kept.content_type.as_deref(), Some("a/b"));
        assert_eq!(kept.headers, [("expires".to_owned(), "whenever".to_owned())]);
        assert_eq!(kept.tags, [("a".to_owned(), "b".to_owned())]);
    }

    #[test]
    fn metadata_has_its_limit_in_bytes() {
        let user = |name: &str, value: String| {
            let said = headers(&[("x-amz-meta-a", "x")]);
            let user = s3s::dto::Metadata::from([(name.to_owned(), value)]);
            described(&said, Some(&user)).map(|meta| meta.user.len())
        };
        assert_eq!(user("a", "ü".repeat(1023)).unwrap(), 1);
        assert!(user("ab", "ü".repeat(1024)).is_err());
        assert!(described(&headers(&[("x-amz-meta-", "x")]), None).is_err());
    }

    #[test]
    fn what_would_not_be_kept_is_refused() {
        let refused = |name, value| refuse_unserved(&headers(&[(name, value)])).is_err();
        assert!(refused("x-amz-server-side-encryption", "AES256"));
        assert!(refused("x-amz-server-side-encryption-customer-key", "x"));
        assert!(refused("x-amz-storage-class", "GLACIER"));
        assert!(refused("x-amz-website-redirect-location", "/x"));
        assert!(!refused("x-amz-storage-class", "STANDARD"));
    }
}
