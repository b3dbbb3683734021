//! S3's operations, one function each.

use crate::config::{Keys, Settings};
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::http::{Answer, Body, Call, Dialect, Http, Repeat, Who};
use crate::name::{Name, encode_value};
use base64::{Engine, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The most keys in one DeleteObjects, as in S3.
pub const DELETE_KEYS_MAX: usize = 1000;

/// An account's objects.
#[derive(Debug)]
pub struct S3<'a> {
    http: &'a Http,
    endpoint: &'a Endpoint,
    keys: Keys,
}

/// A bucket, as ListBuckets shows it.
#[derive(Debug, Deserialize, Serialize)]
pub struct Bucket {
    /// Its name.
    #[serde(rename(deserialize = "Name", serialize = "bucket"))]
    pub name: String,
    /// When it was made.
    #[serde(rename(deserialize = "CreationDate", serialize = "created"), default)]
    pub created: String,
}

/// An object, as ListObjectsV2 shows it.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    #[serde(rename = "Key")]
    pub key: String,
    /// Its bytes.
    #[serde(rename = "Size", default)]
    pub size: u64,
    /// When it was written.
    #[serde(rename = "LastModified", default)]
    pub modified: String,
    /// Its entity tag, in quotes.
    #[serde(rename = "ETag", default)]
    pub etag: String,
}

/// One page of a listing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Objects.
    pub entries: Vec<Entry>,
    /// Beginnings of keys that have a `/` behind the prefix.
    pub folders: Vec<String>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
}

/// A key that DeleteObjects could not delete.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub struct Undeleted {
    /// The key.
    #[serde(rename = "Key")]
    pub key: String,
    /// S3's word for why.
    #[serde(rename = "Code", default)]
    pub code: String,
    /// The explanation.
    #[serde(rename = "Message", default)]
    pub message: String,
}

impl<'a> S3<'a> {
    /// The account whose keys are configured.
    pub fn new(http: &'a Http, settings: &'a Settings) -> Result<Self, Failure> {
        Ok(Self { http, endpoint: &settings.s3, keys: settings.keys()? })
    }

    fn call(&self, what: String, method: &'static str, target: String) -> Call<'_> {
        let headers = Vec::new();
        let (endpoint, who) = (self.endpoint, Who::Keys(&self.keys));
        // Each of S3's operations here says what shall be, not what shall change.
        let repeat = Repeat::Always;
        Call { what, method, endpoint, target, headers, who, repeat, dialect: Dialect::Xml }
    }

    /// ListBuckets.
    pub fn buckets(&self) -> Result<Vec<Bucket>, Failure> {
        let call = self.call("list buckets".to_owned(), "GET", "/".to_owned());
        let answer = self.http.fetch(&call, Body::Empty)?;
        Ok(xml::<Buckets>(&call.what, &answer)?.buckets.list)
    }

    /// One page of ListObjectsV2; `shallow` folds what lies behind the next `/`.
    pub fn page(&self, prefix: &Name, shallow: bool, after: Option<&str>) -> Result<Page, Failure> {
        let bucket = prefix.with_key("");
        // In alphabetical order, as the signature has them.
        let mut query = String::new();
        if let Some(token) = after {
            query.push_str(&format!("continuation-token={}&", encode_value(token)));
        }
        if shallow {
            query.push_str("delimiter=%2F&");
        }
        let start = encode_value(&prefix.key);
        query.push_str(&format!("encoding-type=url&list-type=2&prefix={start}"));
        let target = format!("{}?{query}", bucket.url_path());
        let call = self.call(format!("list {prefix}"), "GET", target);
        let answer = self.http.fetch(&call, Body::Empty)?;
        xml::<ListResult>(&call.what, &answer)?.page(&call.what)
    }

    /// Every object whose key begins as `prefix` does, page by page.
    pub fn walk(
        &self,
        prefix: &Name,
        shallow: bool,
        mut visit: impl FnMut(Page) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut after: Option<String> = None;
        loop {
            let mut page = self.page(prefix, shallow, after.as_deref())?;
            let next = page.next.take();
            visit(page)?;
            match next {
                None => return Ok(()),
                Some(next) if after.as_ref() == Some(&next) => {
                    let what = format!("list {prefix}");
                    let why = "two pages end at the same place".to_owned();
                    return Err(Failure::Nonsense { what, why });
                }
                Some(next) => after = Some(next),
            }
        }
    }

    /// Whether an object (or bucket) is there.
    pub fn exists(&self, name: &Name) -> Result<bool, Failure> {
        let call = self.call(format!("look for {name}"), "HEAD", name.url_path());
        match self.http.send(&call, Body::Empty) {
            Ok(_) => Ok(true),
            Err(Failure::Refused { status: 404, .. }) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// PutObject; gives the entity tag. `md5` is sent along if it is known beforehand.
    pub fn put(
        &self,
        name: &Name,
        body: Body<'_>,
        md5: Option<&[u8]>,
        content_type: Option<&str>,
    ) -> Result<String, Failure> {
        let mut call = self.call(format!("put {name}"), "PUT", name.url_path());
        if let Some(md5) = md5 {
            call.headers.push(("content-md5", STANDARD.encode(md5)));
        }
        if let Some(content_type) = content_type {
            call.headers.push(("content-type", content_type.to_owned()));
        }
        let answer = self.http.send(&call, body)?;
        Ok(etag(&answer).unwrap_or_default())
    }

    /// GetObject, from byte `from`; if `same` is given, only as long as the object is still that one.
    pub fn get(&self, name: &Name, from: u64, same: Option<&str>) -> Result<Answer, Failure> {
        let mut call = self.call(format!("get {name}"), "GET", name.url_path());
        if from > 0 {
            call.headers.push(("range", format!("bytes={from}-")));
        }
        if let Some(etag) = same {
            call.headers.push(("if-match", format!("\"{etag}\"")));
        }
        self.http.send(&call, Body::Empty)
    }

    /// DeleteObject.
    pub fn delete(&self, name: &Name) -> Result<(), Failure> {
        let call = self.call(format!("remove {name}"), "DELETE", name.url_path());
        self.http.send(&call, Body::Empty).map(drop)
    }

    /// DeleteObjects, at most [`DELETE_KEYS_MAX`] of them; gives those that are still there.
    pub fn delete_many(&self, bucket: &Name, keys: &[String]) -> Result<Vec<Undeleted>, Failure> {
        let body = delete_request(keys);
        let target = format!("{}?delete=", bucket.with_key("").url_path());
        let what = format!("remove {} objects of {}", keys.len(), bucket.bucket);
        let mut call = self.call(what, "POST", target);
        call.headers.push(("content-md5", STANDARD.encode(Md5::digest(&body))));
        let answer = self.http.fetch(&call, Body::Bytes(body.as_bytes()))?;
        Ok(xml::<DeleteResult>(&call.what, &answer)?.errors)
    }

    /// CreateBucket; a bucket of one's own that is already there is as good as a new one if `lenient`.
    pub fn make_bucket(&self, bucket: &Name, lenient: bool) -> Result<(), Failure> {
        let call = self.call(format!("make bucket {bucket}"), "PUT", bucket.url_path());
        match self.http.send(&call, Body::Empty) {
            Err(Failure::Refused { code, .. }) if lenient && code == "BucketAlreadyOwnedByYou" => {
                Ok(())
            }
            outcome => outcome.map(drop),
        }
    }

    /// DeleteBucket.
    pub fn remove_bucket(&self, bucket: &Name) -> Result<(), Failure> {
        let call = self.call(format!("remove bucket {bucket}"), "DELETE", bucket.url_path());
        self.http.send(&call, Body::Empty).map(drop)
    }
}

/// The entity tag of an answer, without its quotes.
pub fn etag(answer: &Answer) -> Option<String> {
    let value = answer.headers().get("etag")?.to_str().ok()?;
    Some(value.trim_matches('"').to_owned())
}

/// Whether an entity tag is the object's MD5 (that of an object put in parts is not).
pub fn is_md5(etag: &str) -> bool {
    etag.len() == 32 && etag.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn xml<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Failure> {
    let nonsense = |why: String| Failure::Nonsense { what: what.to_owned(), why };
    let text = std::str::from_utf8(bytes).map_err(|error| nonsense(error.to_string()))?;
    quick_xml::de::from_str(text).map_err(|error| nonsense(error.to_string()))
}

fn delete_request(keys: &[String]) -> String {
    let mut body = String::from("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for key in keys {
        let key = quick_xml::escape::escape(key.as_str());
        body.push_str(&format!("<Object><Key>{key}</Key></Object>"));
    }
    body.push_str("<Quiet>true</Quiet></Delete>");
    body
}

#[derive(Deserialize)]
struct Buckets {
    #[serde(rename = "Buckets", default)]
    buckets: BucketList,
}

#[derive(Deserialize, Default)]
struct BucketList {
    #[serde(rename = "Bucket", default)]
    list: Vec<Bucket>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListResult {
    #[serde(default)]
    is_truncated: bool,
    next_continuation_token: Option<String>,
    encoding_type: Option<String>,
    #[serde(default)]
    contents: Vec<Entry>,
    #[serde(default)]
    common_prefixes: Vec<Folder>,
}

#[derive(Deserialize)]
struct Folder {
    #[serde(rename = "Prefix")]
    prefix: String,
}

#[derive(Deserialize)]
struct DeleteResult {
    #[serde(rename = "Error", default)]
    errors: Vec<Undeleted>,
}

impl ListResult {
    fn page(self, what: &str) -> Result<Page, Failure> {
        let nonsense = |why: &str| Failure::Nonsense { what: what.to_owned(), why: why.to_owned() };
        // Keys may hold characters that XML has no form for, so we asked for them encoded; a service
        // that does not do so says nothing of it.
        let encoded = self.encoding_type.as_deref() == Some("url");
        let text = |text: String| {
            if !encoded {
                return Ok(text);
            }
            let text = text.replace('+', "%20");
            let bytes = percent_encoding::percent_decode_str(&text).collect();
            String::from_utf8(bytes).map_err(|_| nonsense("a key is not UTF-8"))
        };
        let entry = |entry: Entry| Ok(Entry { key: text(entry.key)?, ..entry });
        let entries = self.contents.into_iter().map(entry).collect::<Result<_, Failure>>()?;
        let folders = self.common_prefixes.into_iter().map(|folder| text(folder.prefix));
        let folders = folders.collect::<Result<_, Failure>>()?;
        let next = match (self.is_truncated, self.next_continuation_token) {
            (false, _) => None,
            (true, Some(token)) => Some(token),
            (true, None) => return Err(nonsense("a page is cut and names no next one")),
        };
        Ok(Page { entries, folders, next })
    }
}

#[cfg(test)]
mod test {
    use super::*;

    const PAGE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
        <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>
        <EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>
        <NextContinuationToken>t/1</NextContinuationToken>
        <Contents><Key>a%2Bb+c%0A</Key><LastModified>2026-11-22T08:00:00.000Z</LastModified>
        <ETag>&quot;00&quot;</ETag><Size>7</Size></Contents>
        <CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>
        <Contents><Key>e</Key><Size>0</Size></Contents></ListBucketResult>"#;

    fn page(text: &str) -> Result<Page, Failure> {
        xml::<ListResult>("list b", text.as_bytes())?.page("list b")
    }

    #[test]
    fn a_page_is_read_with_keys_decoded_and_parts_in_any_order() {
        let page = page(PAGE).unwrap();
        let keys: Vec<_> = page.entries.iter().map(|e| (e.key.as_str(), e.size)).collect();
        assert_eq!(keys, [("a+b c\n", 7), ("e", 0)]);
        assert_eq!((page.folders, page.next), (vec!["d/".to_owned()], Some("t/1".to_owned())));
    }

    #[test]
    fn without_an_encoding_keys_are_taken_as_they_are() {
        let text = PAGE.replace("<EncodingType>url</EncodingType>", "");
        assert_eq!(page(&text).unwrap().entries[0].key, "a%2Bb+c%0A");
    }

    #[test]
    fn a_cut_page_without_a_next_one_is_nonsense() {
        let token = "<NextContinuationToken>t/1</NextContinuationToken>";
        assert!(matches!(page(&PAGE.replace(token, "")), Err(Failure::Nonsense { .. })));
    }

    #[test]
    fn an_empty_list_of_buckets_is_read() {
        let none = "<ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>";
        assert!(xml::<Buckets>("", none.as_bytes()).unwrap().buckets.list.is_empty());
    }

    #[test]
    fn keys_are_escaped_in_a_delete() {
        let body = delete_request(&["a<b>&c".to_owned()]);
        assert!(body.contains("<Key>a&lt;b&gt;&amp;c</Key>"), "{body}");
    }

    #[test]
    fn an_etag_of_parts_is_no_md5() {
        assert!(is_md5("d41d8cd98f00b204e9800998ecf8427e"));
        assert!(!is_md5("d41d8cd98f00b204e9800998ecf8427e-2"));
    }
}
