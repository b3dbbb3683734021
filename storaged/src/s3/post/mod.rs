//! Uploads by HTML forms: `POST /bucket` with `multipart/form-data`.
//!
//! ```text
//!   fields ─▶ signature over the policy ─▶ policy ─▶ PUT /bucket/key, proven to be the signer's ─▶ s3s ─▶ access ─▶ PutObject
//!   file ──── streamed, its length bounded by the policy ────────────────────────────────────────────────▲
//! ```
//! The protocol library could take forms, too: it keeps the file in memory, reads it before it asks whether that is
//! allowed, takes Signature Version 2, and refuses forms that were signed a quarter of an hour ago. So the form is read
//! here, and becomes the PUT that it stands for.

pub mod form;
pub mod policy;
mod stream;

use super::access::{Caller, Proven};
use super::error::{coded, internal};
use crate::accounts::{Account, Accounts};
use crate::front::Origin;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use form::{FormError, Head};
use hmac::{Hmac, KeyInit, Mac};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HOST, LOCATION, REFERER, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use policy::Policy;
use s3s::dto::{Tagging, Timestamp};
use s3s::{Body, S3Error, s3_error, xml};
use sha2::Sha256;
use std::sync::Arc;
use std::time::SystemTime;
pub use stream::LengthError;
use stream::{FileBody, Receiver};

/// What a path may hold as it is.
const PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');
/// What a query's value may hold as it is.
const QUERY: &AsciiSet = &PATH.add(b'/');
/// The one algorithm.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Fields that are headers of the same name.
const PLAIN: [&str; 6] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
];
/// Beginnings of the names of fields that are headers of the same name. Others of that family would ask for something
/// else than an upload, a copy for one.
const FAMILIES: [&str; 8] = [
    "x-amz-meta-",
    "x-amz-checksum-",
    "x-amz-grant-",
    "x-amz-object-lock-",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-server-side-encryption",
    "x-amz-storage-class",
    "x-amz-website-redirect-location",
];

/// An extension of a request: it was a form.
#[derive(Debug, Clone, Copy)]
pub(super) struct FromForm;

/// Whether a request brings a form.
pub(super) fn is_form(parts: &Parts) -> bool {
    parts.method == Method::POST && super::screen::is_form(&parts.headers)
}

/// What the answer to a form depends on beside the upload.
pub(super) struct Wishes {
    bucket: String,
    key: String,
    /// Where the form was sent: `https://host`.
    origin: String,
    redirect: Option<Uri>,
    status: StatusCode,
}

/// Reads a form up to its file, checks it, and makes a PUT of it.
///
/// # Errors
/// What to answer.
pub(super) async fn enter(
    accounts: &Accounts,
    parts: Parts,
    body: Body,
) -> Result<(Request<Body>, Wishes), S3Error> {
    let bucket = bucket_of(&parts)?;
    let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = form::boundary(content_type.unwrap_or_default()).map_err(|e| malformed(&e))?;
    let mut receiver = Receiver::new(body);
    let head = loop {
        if let Some(head) = form::parse(receiver.bytes(), &boundary).map_err(|e| malformed(&e))? {
            break head;
        }
        if !receiver.more().await? {
            return Err(s3_error!(MalformedPOSTRequest, "the form ends before its file"));
        }
    };
    let (caller, policy) = proven(accounts, &head)?;
    if let Some(policy) = &policy {
        let checked = policy.check(&head, &bucket, &Timestamp::from(SystemTime::now()));
        checked.map_err(|e| s3_error!(AccessDenied, "{e}"))?;
    }
    let wishes = wishes(&parts, &head, bucket)?;
    let length = policy.as_ref().map_or((0, u64::MAX), Policy::length);
    let file = FileBody::new(receiver, head.length, &boundary, length);
    let target = format!("/{}/{}", wishes.bucket, utf8_percent_encode(&wishes.key, PATH));
    let mut request = Request::new(Body::http_body(file));
    *request.method_mut() = Method::PUT;
    *request.uri_mut() = target.parse().map_err(|_| s3_error!(InvalidURI, "the key is no path"))?;
    *request.headers_mut() = headers(&parts, &head)?;
    *request.extensions_mut() = parts.extensions;
    request.extensions_mut().insert(Proven(caller));
    request.extensions_mut().insert(FromForm);
    Ok((request, wishes))
}

fn malformed(error: &FormError) -> S3Error {
    match error {
        FormError::TooLarge => coded(
            "MaxPostPreDataLengthExceeded",
            StatusCode::BAD_REQUEST,
            "your POST request fields preceding the upload file were too large",
        ),
        FormError::NoFile => coded(
            "IncorrectNumberOfFilesInPostRequest",
            StatusCode::BAD_REQUEST,
            "POST requires exactly one file upload per request",
        ),
        FormError::Boundary | FormError::Malformed { .. } | FormError::Text => {
            s3_error!(MalformedPOSTRequest, "{error}")
        }
    }
}

fn bucket_of(parts: &Parts) -> Result<String, S3Error> {
    let path = percent_decode_str(parts.uri.path()).decode_utf8();
    let path = path.map_err(|_| s3_error!(InvalidURI, "the path is not UTF-8"))?;
    let bucket = path.strip_prefix('/').unwrap_or_default().trim_end_matches('/');
    if bucket.is_empty() || bucket.contains('/') {
        return Err(s3_error!(
            MethodNotAllowed,
            "a form is sent to a bucket; its key is a field of the form"
        ));
    }
    Ok(bucket.to_owned())
}

/// Who sends the form, and the policy that holds for it: one without a signature is anybody's.
fn proven(accounts: &Accounts, head: &Head) -> Result<(Caller, Option<Policy>), S3Error> {
    if head.field("signature").is_some() || head.field("awsaccesskeyid").is_some() {
        return Err(s3_error!(
            InvalidRequest,
            "Signature Version 2 is not accepted; please use AWS4-HMAC-SHA256"
        ));
    }
    let policy = head.field("policy").map(read_policy).transpose()?;
    let Some(signature) = head.field("x-amz-signature") else {
        return Ok((Caller::Anonymous, policy));
    };
    let needed = |name: &'static str| {
        let missing =
            || s3_error!(InvalidArgument, "a signed POST must contain a field named {name}");
        head.field(name).ok_or_else(missing)
    };
    let text = needed("policy")?;
    if needed("x-amz-algorithm")? != ALGORITHM {
        return Err(s3_error!(InvalidArgument, "x-amz-algorithm is not {ALGORITHM}"));
    }
    needed("x-amz-date")?;
    let scope = Scope::parse(needed("x-amz-credential")?)
        .ok_or_else(|| s3_error!(InvalidArgument, "x-amz-credential is malformed"))?;
    let account = accounts.by_access_key(scope.access_key).ok_or_else(|| {
        s3_error!(InvalidAccessKeyId, "the access key you provided does not exist in our records")
    })?;
    if !scope.signed(&account, text, signature) {
        return Err(s3_error!(
            SignatureDoesNotMatch,
            "the signature over the policy does not match; check your key and signing method"
        ));
    }
    Ok((Caller::Account(Arc::clone(&account)), policy))
}

fn read_policy(text: &str) -> Result<Policy, S3Error> {
    let invalid = |e: &dyn std::fmt::Display| s3_error!(InvalidPolicyDocument, "{e}");
    let json = BASE64_STANDARD.decode(text).map_err(|e| invalid(&e))?;
    policy::parse(&json).map_err(|e| invalid(&e))
}

/// `key/20260101/region/s3/aws4_request`.
struct Scope<'a> {
    access_key: &'a str,
    date: &'a str,
    region: &'a str,
}

impl Scope<'_> {
    fn parse(credential: &str) -> Option<Scope<'_>> {
        let mut parts = credential.rsplitn(5, '/');
        let mut next = || parts.next();
        let (end, service, region, date, access_key) =
            (next()?, next()?, next()?, next()?, next()?);
        (end == "aws4_request" && service == "s3").then_some(Scope { access_key, date, region })
    }

    fn signed(&self, account: &Account, text: &str, signature: &str) -> bool {
        let secret = format!("AWS4{}", account.secret_key.expose());
        let steps = [self.date, self.region, "s3", "aws4_request"];
        let key = steps.iter().fold(secret.into_bytes(), |key, step| {
            mac(&key, step).finalize().into_bytes().to_vec()
        });
        // Compared in constant time.
        unhex(signature).is_some_and(|given| mac(&key, text).verify_slice(&given).is_ok())
    }
}

fn mac(key: &[u8], text: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

fn wishes(parts: &Parts, head: &Head, bucket: String) -> Result<Wishes, S3Error> {
    let key = head.field("key").filter(|key| !key.is_empty()).ok_or_else(|| {
        s3_error!(
            InvalidArgument,
            "Bucket POST must contain a field named 'key'. If it is specified, please check the order of the fields."
        )
    })?;
    let key = key.replace("${filename}", head.file_name.as_deref().unwrap_or_default());
    let redirect = head.field("success_action_redirect").or_else(|| head.field("redirect"));
    // What is no address to go to is ignored, as S3 does.
    let redirect = redirect.and_then(|text| text.parse::<Uri>().ok());
    let redirect = redirect.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
    let status = match head.field("success_action_status") {
        Some("200") => StatusCode::OK,
        Some("201") => StatusCode::CREATED,
        Some(_) | None => StatusCode::NO_CONTENT,
    };
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let secure = parts.extensions.get::<Origin>().is_some_and(|origin| origin.secure);
    let origin = format!("{}://{host}", if secure { "https" } else { "http" });
    Ok(Wishes { bucket, key, origin, redirect, status })
}

fn headers(parts: &Parts, head: &Head) -> Result<HeaderMap, S3Error> {
    let mut headers = HeaderMap::new();
    // What says where the form comes from, and is no field of it.
    for name in [HOST, REFERER, USER_AGENT] {
        headers.extend(parts.headers.get(&name).map(|value| (name, value.clone())));
    }
    for (name, value) in &head.fields {
        let (name, value) = match name.as_str() {
            "acl" => ("x-amz-acl", value.clone()),
            "tagging" => ("x-amz-tagging", tagging(value)?),
            name if PLAIN.contains(&name) => (name, value.clone()),
            name if FAMILIES.iter().any(|family| name.starts_with(family)) => (name, value.clone()),
            _ => continue,
        };
        let invalid = || s3_error!(InvalidArgument, "the form's field {name} can't be a header");
        let header = HeaderName::try_from(name).map_err(|_| invalid())?;
        let value = HeaderValue::try_from(value.into_bytes()).map_err(|_| invalid())?;
        headers.append(header, value);
    }
    Ok(headers)
}

/// The form has tags as a document, the header as a query.
fn tagging(text: &str) -> Result<String, S3Error> {
    let tags: Tagging = super::document::from_xml(text.as_bytes())?;
    let escaped =
        |text: Option<String>| utf8_percent_encode(&text.unwrap_or_default(), QUERY).to_string();
    let pair = |tag: s3s::dto::Tag| format!("{}={}", escaped(tag.key), escaped(tag.value));
    Ok(tags.tag_set.into_iter().map(pair).collect::<Vec<_>>().join("&"))
}

/// The answer to a form whose upload was answered so.
pub(super) fn answer(wishes: &Wishes, mut stored: Response<Body>) -> Response<Body> {
    if stored.status() != StatusCode::OK {
        return stored;
    }
    let tag = stored.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).unwrap_or_default();
    let tag = tag.to_owned();
    let path = format!("{}/{}", wishes.bucket, utf8_percent_encode(&wishes.key, PATH));
    let place = format!("{}/{path}", wishes.origin);
    let escaped = |text: &str| utf8_percent_encode(text, QUERY).to_string();
    let (status, location) = match &wishes.redirect {
        Some(uri) => {
            let mark = if uri.query().is_some() { '&' } else { '?' };
            let (bucket, key) = (escaped(&wishes.bucket), escaped(&wishes.key));
            let query = format!("bucket={bucket}&key={key}&etag={}", escaped(&tag));
            (StatusCode::SEE_OTHER, format!("{uri}{mark}{query}"))
        }
        None => (wishes.status, place.clone()),
    };
    *stored.status_mut() = status;
    if let Ok(location) = HeaderValue::try_from(location) {
        stored.headers_mut().insert(LOCATION, location);
    }
    if status != StatusCode::CREATED {
        return stored;
    }
    let (bucket, key) = (&wishes.bucket, &wishes.key);
    let document = Stored { location: &place, bucket, key, tag: &tag };
    match document.written() {
        Ok(document) => {
            let xml = HeaderValue::from_static("application/xml");
            stored.headers_mut().insert(CONTENT_TYPE, xml);
            stored.headers_mut().remove(CONTENT_LENGTH);
            stored.map(|_| Body::from(document))
        }
        Err(error) => super::told(internal(&error)),
    }
}

/// S3's document about what a form has stored.
struct Stored<'a> {
    location: &'a str,
    bucket: &'a str,
    key: &'a str,
    tag: &'a str,
}

impl Stored<'_> {
    fn written(&self) -> Result<Vec<u8>, xml::SerError> {
        let mut bytes = Vec::new();
        let mut writer = xml::Serializer::new(&mut bytes);
        writer.decl()?;
        writer.content("PostResponse", self)?;
        Ok(bytes)
    }
}

impl xml::SerializeContent for Stored<'_> {
    fn serialize_content<W: std::io::Write>(&self, s: &mut xml::Serializer<W>) -> xml::SerResult {
        s.content("Location", self.location)?;
        s.content("Bucket", self.bucket)?;
        s.content("Key", self.key)?;
        s.content("ETag", self.tag)
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_credential_may_hold_slashes_in_its_key() {
        let scope = Scope::parse("a/b/20260101/here/s3/aws4_request").unwrap();
        assert_eq!((scope.access_key, scope.date, scope.region), ("a/b", "20260101", "here"));
        assert!(Scope::parse("a/20260101/here/ec2/aws4_request").is_none());
        assert!(Scope::parse("a/s3/aws4_request").is_none());
    }

    #[test]
    fn only_whole_hexadecimal_bytes_are_a_signature() {
        assert_eq!(unhex("00fF"), Some(vec![0, 255]));
        assert_eq!((unhex("0"), unhex("0g"), unhex("é")), (None, None, None));
    }

    #[test]
    fn tags_of_a_form_become_a_query() {
        let text = "<Tagging><TagSet><Tag><Key>a b</Key><Value>1&amp;2</Value></Tag>\
                    <Tag><Key>c</Key><Value></Value></Tag></TagSet></Tagging>";
        assert_eq!(tagging(text).unwrap(), "a%20b=1%262&c=");
        assert!(tagging("<Tagging>").is_err());
    }
}
