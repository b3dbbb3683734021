//! What a request's query asks for beyond bucket and key, before the protocol library routes it. Pure.
//!
//! The library looks for the sub-resources that it knows of a method, and takes a request without one for the plain
//! operation: `DELETE /bucket/key?acl` would delete the object, and `PUT /bucket/key?renameObject` store one. And it
//! reads settings from headers alone, where presigned URLs may have them in the query.

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method};
use percent_encoding::percent_decode_str;
use s3s::{S3Error, s3_error};

/// Every sub-resource that S3 has.
const ALL: [&str; 43] = [
    "abac",
    "accelerate",
    "acl",
    "analytics",
    "annotation",
    "attributes",
    "cors",
    "delete",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "location",
    "logging",
    "metadataAnnotationTable",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "partNumber",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "renameObject",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "session",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];
/// Those of a bucket that can be read.
const BUCKET_GET: &[&str] = &[
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "lifecycle",
    "location",
    "logging",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "session",
    "tagging",
    "uploads",
    "versioning",
    "versions",
    "website",
];
/// Those of a bucket that can be set.
const BUCKET_PUT: &[&str] = &[
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "lifecycle",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "tagging",
    "versioning",
    "website",
];
/// Those of a bucket that can be removed.
const BUCKET_DELETE: &[&str] = &[
    "analytics",
    "cors",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "lifecycle",
    "metadataTable",
    "metrics",
    "ownershipControls",
    "policy",
    "publicAccessBlock",
    "replication",
    "tagging",
    "website",
];
const OBJECT_GET: &[&str] = &[
    "acl",
    "attributes",
    "legal-hold",
    "partNumber",
    "retention",
    "tagging",
    "torrent",
    "uploadId",
    "versionId",
];
const OBJECT_PUT: &[&str] =
    &["acl", "legal-hold", "partNumber", "retention", "tagging", "uploadId", "versionId"];
/// Those that are set of a version; everything else that is put is a new one.
const OF_VERSION_PUT: [&str; 4] = ["acl", "legal-hold", "retention", "tagging"];
/// Those that are asked of a version; uploads make a new one.
const OF_VERSION_POST: [&str; 2] = ["restore", "select"];
const OBJECT_POST: &[&str] = &["restore", "select", "uploadId", "uploads", "versionId"];

/// Parameters that stay in the query though they look like settings: they are the signature, and what it says of
/// the payload.
const SIGNATURE: [&str; 8] = [
    "x-amz-algorithm",
    "x-amz-content-sha256",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
];

/// Refuses sub-resources that the method has not, and makes headers of settings in the query.
///
/// # Errors
/// What to answer.
pub fn settle(parts: &mut Parts) -> Result<(), S3Error> {
    if let Some(query) = parts.uri.query() {
        check(&parts.method, parts.uri.path(), query)?;
        let settings = settings(query)?;
        for (name, value) in settings {
            match parts.headers.get(&name) {
                Some(said) if *said == value => {}
                Some(_) => {
                    return Err(s3_error!(InvalidArgument, "{name} has two values"));
                }
                None => drop(parts.headers.insert(name, value)),
            }
        }
    }
    Ok(())
}

fn check(method: &Method, path: &str, query: &str) -> Result<(), S3Error> {
    let path = path.trim_start_matches('/');
    let is_object = path.split_once('/').is_some_and(|(_, key)| !key.is_empty());
    let allowed: &[&str] = match (method, is_object) {
        (&Method::GET, false) => BUCKET_GET,
        (&Method::PUT, false) => BUCKET_PUT,
        (&Method::DELETE, false) => BUCKET_DELETE,
        (&Method::POST, false) => &["delete", "metadataTable"],
        (&Method::GET, true) => OBJECT_GET,
        (&Method::HEAD, true) => &["partNumber", "versionId"],
        (&Method::PUT, true) => OBJECT_PUT,
        (&Method::DELETE, true) => &["tagging", "uploadId", "versionId"],
        (&Method::POST, true) => OBJECT_POST,
        _ => &[],
    };
    let has = |name: &str| names(query).any(|found| found == name);
    let names_in_vain = |names: &[&str]| has("versionId") && !names.iter().any(|name| has(name));
    let has_no_version = match *method {
        _ if !is_object => has("versionId"),
        Method::PUT => names_in_vain(&OF_VERSION_PUT),
        Method::POST => names_in_vain(&OF_VERSION_POST),
        _ => false,
    };
    if has_no_version {
        return Err(s3_error!(InvalidArgument, "This operation does not accept a version-id."));
    }
    if let Some(wrong) = names(query).find(|name| ALL.contains(name) && !allowed.contains(name)) {
        return Err(s3_error!(NotImplemented, "{method} with ?{wrong} is not served"));
    }
    if *method == Method::PUT && is_object && has("uploadId") != has("partNumber") {
        return Err(s3_error!(InvalidArgument, "a part needs both uploadId and partNumber"));
    }
    Ok(())
}

fn names(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name))
}

fn settings(query: &str) -> Result<Vec<(HeaderName, HeaderValue)>, S3Error> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let named = pairs.filter_map(|(name, value)| {
        let name = name.to_ascii_lowercase();
        let is_setting = name.starts_with("x-amz-") && !SIGNATURE.contains(&name.as_str());
        is_setting.then_some((name, value))
    });
    named
        .map(|(name, value)| {
            let invalid = || s3_error!(InvalidArgument, "{name} in the query is no header");
            let value: Vec<u8> = percent_decode_str(&value.replace('+', " ")).collect();
            let value = HeaderValue::from_bytes(&value).map_err(|_| invalid())?;
            Ok((HeaderName::try_from(&name).map_err(|_| invalid())?, value))
        })
        .collect()
}

#[cfg(test)]
mod test {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    fn settled(method: &str, target: &str) -> Result<Parts, S3Error> {
        let request = Request::builder().method(method).uri(target).header("x-amz-acl", "private");
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        settle(&mut parts).map(|()| parts)
    }

    #[test]
    fn a_sub_resource_of_another_method_is_not_the_plain_operation() {
        for (method, target) in [
            ("DELETE", "/b/k?acl"),
            ("PUT", "/b/k?renameObject"),
            ("PUT", "/b/k?encryption"),
            ("PUT", "/b/k?website="),
            ("HEAD", "/b/k?tagging"),
            ("DELETE", "/b?versioning"),
            ("PUT", "/b?metadataConfiguration"),
            ("PUT", "/b/k?uploadId=x"),
            ("PUT", "/b/k?partNumber=1"),
        ] {
            assert!(settled(method, target).is_err(), "{method} {target}");
        }
        for (method, target) in [
            ("DELETE", "/b/k?tagging"),
            ("DELETE", "/b/k?versionId=x"),
            ("PUT", "/b/k?partNumber=1&uploadId=x"),
            ("GET", "/b?list-type=2&prefix=acl"),
            ("GET", "/b/k?response-content-type=a"),
            ("PUT", "/b/k?x-id=PutObject"),
            ("GET", "/"),
            ("HEAD", "/b"),
        ] {
            assert!(settled(method, target).is_ok(), "{method} {target}");
        }
    }

    #[test]
    fn a_version_is_named_only_where_there_is_one() {
        let code = |method, target| settled(method, target).err().map(|e| e.code().clone());
        let refused = Some(s3s::S3ErrorCode::InvalidArgument);
        for (method, target) in [
            ("PUT", "/b/k?versionId=x"),
            ("PUT", "/b/k?versionId="),
            ("PUT", "/b/k?partNumber=1&uploadId=x&versionId=null"),
            ("POST", "/b/k?uploads&versionId=x"),
            ("POST", "/b/k?uploadId=x&versionId=x"),
            ("GET", "/b?versionId=x"),
            ("DELETE", "/b?versionId=x"),
        ] {
            assert_eq!(code(method, target), refused, "{method} {target}");
        }
        for target in
            ["/b/k?acl&versionId=x", "/b/k?versionId=x&tagging", "/b/k?retention&versionId="]
        {
            assert_eq!(code("PUT", target), None, "{target}");
        }
    }

    #[test]
    fn settings_in_the_query_are_headers() {
        let parts =
            settled("PUT", "/b/k?X-Amz-Signature=0&X-Amz-Meta-A=b%20c&x-amz-acl=private").unwrap();
        assert_eq!(parts.headers["x-amz-meta-a"], "b c");
        assert!(!parts.headers.contains_key("x-amz-signature"));
        assert!(settled("PUT", "/b/k?x-amz-acl=public-read").is_err());
        assert!(settled("PUT", "/b/k?x-amz-tagging=%0d%0aevil:%201").is_err());
    }

    proptest! {
        #[test]
        fn any_query_leaves_the_signature_where_it_is(
            name in prop_oneof![Just("X-Amz-Signature"), Just("x-amz-date"), Just("x-amz-meta-a")],
            query in "[a-z?=&%+A-Z0-9-]{0,60}",
        ) {
            if let Ok(parts) = settled("PUT", &format!("/b/k?{name}=v&{query}")) {
                let moved = parts.headers.contains_key(name);
                prop_assert_eq!(moved, name == "x-amz-meta-a");
            }
        }
    }
}
