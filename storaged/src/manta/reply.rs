//! Responses, with the headers that Manta's clients look for.

use super::error::MantaError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, SERVER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use md5::{Digest, Md5};
use s3s::Body;
use serde::Serialize;
use std::time::Duration;

/// `Content-MD5`, which http has no name for.
pub const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const RESPONSE_TIME: HeaderName = HeaderName::from_static("x-response-time");
const SERVER_NAME: HeaderName = HeaderName::from_static("x-server-name");
/// The longest request id that is given back, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// An MD5 as HTTP writes it.
#[must_use]
pub fn md5_header(md5: &[u8; 16]) -> HeaderValue {
    HeaderValue::from_str(&STANDARD.encode(md5)).expect("base64 is ASCII")
}

/// A response with this body, its type, its length and its MD5.
pub fn whole(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Body> {
    let md5 = md5_header(&Md5::digest(&body).into());
    let length = body.len();
    let mut response = Response::new(Body::from(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CONTENT_MD5, md5);
    response
}

/// A JSON document.
pub fn json(status: StatusCode, document: &impl Serialize) -> Response<Body> {
    let body = serde_json::to_vec(document).expect("these documents have text keys only");
    whole(status, "application/json", body)
}

/// No body.
pub fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(0));
    response
}

/// 201 and where the new thing is.
pub fn created(location: &str) -> Response<Body> {
    let mut response = empty(StatusCode::CREATED);
    let location = HeaderValue::from_str(location).expect("logins and ids are ASCII");
    response.headers_mut().insert(LOCATION, location);
    response
}

/// A body that comes in pieces.
pub fn streamed<B>(content_type: &'static str, body: B) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + Sync + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let mut response = Response::new(Body::http_body(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The request's own id, or a new one.
#[must_use]
pub fn request_id(headers: &HeaderMap) -> HeaderValue {
    match headers.get(REQUEST_ID) {
        Some(id) if !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX => id.clone(),
        Some(_) | None => {
            let id = uuid::Uuid::new_v4().to_string();
            HeaderValue::from_str(&id).expect("a UUID is ASCII")
        }
    }
}

/// Adds what every response of Manta has.
pub fn finish(
    mut response: Response<Body>,
    request_id: &HeaderValue,
    took: Duration,
) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("Manta"));
    headers.insert(REQUEST_ID, request_id.clone());
    headers.insert(SERVER_NAME, HeaderValue::from_static("mobula"));
    let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    headers.insert(RESPONSE_TIME, HeaderValue::from(took));
    response
}

/// What the signature check answers by itself is S3's XML: says it in Manta's JSON.
pub fn without_xml(response: Response<Body>) -> Response<Body> {
    let is_xml = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/xml"));
    let failed = response.status().is_client_error() || response.status().is_server_error();
    if !(is_xml && failed) || response.extensions().get::<Ours>().is_some() {
        return response;
    }
    let status = response.status();
    let body = response.into_body().bytes().unwrap_or_default();
    let text = String::from_utf8_lossy(&body);
    let code = element(&text, "Code").unwrap_or_else(|| "BadRequest".to_owned());
    let message = element(&text, "Message").unwrap_or_default();
    MantaError::of_code(status, &code, &message).response()
}

/// Marks a response whose content type is a tenant's word, and not that of an error.
#[derive(Clone)]
pub struct Ours;

fn element(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (value, _) = rest.split_once(&format!("</{name}>"))?;
    let entities =
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    Some(entities.iter().fold(value.to_owned(), |text, (from, to)| text.replace(from, to)))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn an_error_in_xml_becomes_mantas_json() {
        let xml =
            "<Error><Code>SignatureDoesNotMatch</Code><Message>a &lt;b&gt; c</Message></Error>";
        let mut response = Response::new(Body::from(xml.to_owned()));
        *response.status_mut() = StatusCode::FORBIDDEN;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        let response = without_xml(response);
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        let body = response.into_body().bytes().unwrap();
        assert_eq!(&body[..], br#"{"code":"InvalidSignature","message":"a <b> c"}"#);
    }
}
