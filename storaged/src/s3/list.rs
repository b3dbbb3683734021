//! ListObjects, both versions.
//!
//! The store pages through paths; here they become keys of a bucket, and places to go on from become
//! markers and tokens.

use super::access::Admitted;
use super::condition::etag;
use super::{Api, bucket, error, versions};
use crate::store::{After, Area, ListEntry, ListPage, ListQuery, list};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use s3s::dto::{
    CommonPrefix, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output,
    Object, Timestamp,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};
use std::time::{Duration, UNIX_EPOCH};

/// Entries of one page: as S3 has it.
const PAGE_MAX: usize = 1000;

pub(super) fn version_1(
    api: &Api,
    req: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    let admitted = api.admitted(&req)?;
    let input = req.input;
    let encoding = Encoding::of(input.encoding_type.as_ref().map(s3s::dto::EncodingType::as_str))?;
    let (prefix, delimiter) = (input.prefix.unwrap_or_default(), input.delimiter);
    let marker = input.marker.unwrap_or_default();
    let after = marker_place(&marker, &prefix, delimiter.as_deref().unwrap_or_default());
    let max = page_size(input.max_keys)?;
    let asked = Asked { bucket: &input.bucket, prefix: &prefix, after, max };
    let owner = api.accounts.name_of(admitted.bucket()?.owner);
    let page = asked.page(api, &admitted, delimiter.as_deref())?;
    let found = Found::of(&page, &owner, &input.bucket, encoding, true);
    // Without a delimiter the last key of a full page is the marker, and clients know.
    let is_full = page.entries.len() == max;
    let next = page.next.as_ref().filter(|_| delimiter.is_some() || !is_full);
    let next = next.map(|next| encoding.text(key_of(place_path(next), &input.bucket)));
    Ok(S3Response::new(ListObjectsOutput {
        common_prefixes: Some(found.prefixes),
        contents: Some(found.objects),
        delimiter: delimiter.map(|text| encoding.text(text.as_bytes())),
        encoding_type: input.encoding_type,
        is_truncated: Some(page.next.is_some()),
        marker: Some(encoding.text(marker.as_bytes())),
        max_keys: Some(max as i32),
        name: Some(input.bucket),
        next_marker: next,
        prefix: Some(encoding.text(prefix.as_bytes())),
        ..ListObjectsOutput::default()
    }))
}

pub(super) fn version_2(
    api: &Api,
    req: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let admitted = api.admitted(&req)?;
    let input = req.input;
    let encoding = Encoding::of(input.encoding_type.as_ref().map(s3s::dto::EncodingType::as_str))?;
    let prefix = input.prefix.unwrap_or_default();
    let after = match (&input.continuation_token, &input.start_after) {
        (Some(token), _) => Some(read_token(token)?),
        (None, Some(key)) if !key.is_empty() => Some(After::Path(key.as_bytes().to_vec())),
        (None, _) => None,
    };
    let max = page_size(input.max_keys)?;
    let asked = Asked { bucket: &input.bucket, prefix: &prefix, after, max };
    let owner = api.accounts.name_of(admitted.bucket()?.owner);
    let page = asked.page(api, &admitted, input.delimiter.as_deref())?;
    let with_owner = input.fetch_owner.unwrap_or(false);
    let found = Found::of(&page, &owner, &input.bucket, encoding, with_owner);
    Ok(S3Response::new(ListObjectsV2Output {
        key_count: Some((found.objects.len() + found.prefixes.len()) as i32),
        common_prefixes: Some(found.prefixes),
        contents: Some(found.objects),
        continuation_token: input.continuation_token,
        delimiter: input.delimiter.map(|text| encoding.text(text.as_bytes())),
        encoding_type: input.encoding_type,
        is_truncated: Some(page.next.is_some()),
        max_keys: Some(max as i32),
        next_continuation_token: page.next.as_ref().map(|next| token(next, &input.bucket)),
        name: Some(input.bucket),
        prefix: Some(encoding.text(prefix.as_bytes())),
        start_after: input.start_after.map(|text| encoding.text(text.as_bytes())),
        ..ListObjectsV2Output::default()
    }))
}

/// What is asked for, in keys of the bucket.
struct Asked<'a> {
    bucket: &'a str,
    prefix: &'a str,
    after: Option<After>,
    max: usize,
}

impl Asked<'_> {
    fn page(self, api: &Api, admitted: &Admitted, delimiter: Option<&str>) -> S3Result<ListPage> {
        let path = |key: &[u8]| [self.bucket.as_bytes(), b"/", key].concat();
        let query = ListQuery {
            account: admitted.bucket()?.owner,
            area: Area::Stor,
            prefix: path(self.prefix.as_bytes()),
            delimiter: delimiter.unwrap_or_default().as_bytes().to_vec(),
            after: self.after.map(|after| match after {
                After::Path(key) => After::Path(path(&key)),
                After::Prefix(key) => After::Prefix(path(&key)),
            }),
            max: self.max,
        };
        let view = api.store.read().map_err(|e| error::index(&e))?;
        list(&view, &query).map_err(|e| error::index(&e))
    }
}

struct Found {
    objects: Vec<Object>,
    prefixes: Vec<CommonPrefix>,
}

impl Found {
    fn of(
        page: &ListPage,
        owner: &str,
        bucket: &str,
        encoding: Encoding,
        with_owner: bool,
    ) -> Found {
        let mut found = Found { objects: Vec::new(), prefixes: Vec::new() };
        for entry in &page.entries {
            match entry {
                ListEntry::Prefix(path) => {
                    let prefix = Some(encoding.text(key_of(path, bucket)));
                    found.prefixes.push(CommonPrefix { prefix });
                }
                ListEntry::Object { path, summary } => found.objects.push(Object {
                    checksum_algorithm: summary.checksum.as_deref().map(versions::algorithm),
                    checksum_type: summary
                        .checksum
                        .as_ref()
                        .map(|_| versions::type_text(summary.checksum_type)),
                    e_tag: Some(etag(&summary.etag)),
                    key: Some(encoding.text(key_of(path, bucket))),
                    last_modified: Some(time(summary.modified_ms)),
                    owner: with_owner.then(|| bucket::owner(owner)),
                    size: Some(super::get::signed(summary.size)),
                    storage_class: Some("STANDARD".to_owned().into()),
                    ..Object::default()
                }),
            }
        }
        found
    }
}

pub(super) fn key_of<'a>(path: &'a [u8], bucket: &str) -> &'a [u8] {
    path.get(bucket.len() + 1..).unwrap_or_default()
}

fn place_path(place: &After) -> &[u8] {
    match place {
        After::Path(path) | After::Prefix(path) => path,
    }
}

pub(super) fn page_size(asked: Option<i32>) -> S3Result<usize> {
    match asked.map(usize::try_from) {
        None => Ok(PAGE_MAX),
        Some(Ok(max)) => Ok(max.min(PAGE_MAX)),
        Some(Err(_)) => Err(s3_error!(InvalidArgument, "max-keys is not to be negative")),
    }
}

/// Where a marker points: one that is a common prefix stands for all that it stands for.
pub(super) fn marker_place(marker: &str, prefix: &str, delimiter: &str) -> Option<After> {
    if marker.is_empty() {
        return None;
    }
    let rest = marker.strip_prefix(prefix).filter(|_| !delimiter.is_empty());
    let end = rest.and_then(|rest| rest.find(delimiter)).map(|at| prefix.len() + at);
    let key = marker.as_bytes().to_vec();
    if end.is_some_and(|end| end + delimiter.len() == marker.len()) {
        Some(After::Prefix(key))
    } else {
        Some(After::Path(key))
    }
}

/// A continuation token: what kind of place it is, and the key.
fn token(place: &After, bucket: &str) -> String {
    let kind = match place {
        After::Path(_) => b"k",
        After::Prefix(_) => b"p",
    };
    BASE64_URL_SAFE_NO_PAD.encode([kind, key_of(place_path(place), bucket)].concat())
}

fn read_token(token: &str) -> S3Result<After> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok();
    match bytes.as_deref().and_then(|bytes| bytes.split_first()) {
        Some((b'k', key)) => Ok(After::Path(key.to_vec())),
        Some((b'p', key)) => Ok(After::Prefix(key.to_vec())),
        _ => Err(s3_error!(InvalidArgument, "the continuation token provided is incorrect")),
    }
}

/// How keys are written into the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Plain,
    Url,
}

impl Encoding {
    pub(super) fn of(asked: Option<&str>) -> S3Result<Encoding> {
        match asked {
            None => Ok(Encoding::Plain),
            Some("url") => Ok(Encoding::Url),
            Some(_) => Err(s3_error!(InvalidArgument, "the only encoding-type is url")),
        }
    }

    pub(super) fn text(self, key: &[u8]) -> String {
        match self {
            Encoding::Plain => String::from_utf8_lossy(key).into_owned(),
            Encoding::Url => key.iter().fold(String::with_capacity(key.len()), |text, &byte| {
                if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
                    text + &char::from(byte).to_string()
                } else {
                    text + &format!("%{byte:02X}")
                }
            }),
        }
    }
}

/// A time in a listing, to the millisecond.
pub(super) fn time(ms: u64) -> Timestamp {
    Timestamp::from(UNIX_EPOCH + Duration::from_millis(ms))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_went() {
        let places = [After::Path(b"b/a/\xff k".to_vec()), After::Prefix(b"b/a/".to_vec())];
        let back = places.clone().map(|place| read_token(&token(&place, "b")).unwrap());
        assert_eq!(back, [After::Path(b"a/\xff k".to_vec()), After::Prefix(b"a/".to_vec())]);
        assert!(read_token("").is_err() && read_token("eA").is_err() && read_token("!").is_err());
    }

    #[test]
    fn a_marker_that_is_a_common_prefix_stands_for_all_of_it() {
        let place = |marker| marker_place(marker, "p/", "/");
        assert_eq!(place(""), None);
        assert_eq!(place("p/a/"), Some(After::Prefix(b"p/a/".to_vec())));
        assert_eq!(place("p/a"), Some(After::Path(b"p/a".to_vec())));
        assert_eq!(place("p/a/b/"), Some(After::Path(b"p/a/b/".to_vec())));
        assert_eq!(place("o/"), Some(After::Path(b"o/".to_vec())));
        assert_eq!(marker_place("a/", "", ""), Some(After::Path(b"a/".to_vec())));
    }

    #[test]
    fn keys_are_escaped_where_asked() {
        assert_eq!(Encoding::Url.text("a/b c+ü".as_bytes()), "a/b%20c%2B%C3%BC");
        assert_eq!(Encoding::Plain.text("a/b c+ü".as_bytes()), "a/b c+ü");
    }

    #[test]
    fn a_page_is_as_large_as_asked_up_to_the_limit() {
        assert_eq!(page_size(None).unwrap(), 1000);
        assert_eq!(page_size(Some(0)).unwrap(), 0);
        assert_eq!(page_size(Some(5000)).unwrap(), 1000);
        assert!(page_size(Some(-1)).is_err());
    }
}
