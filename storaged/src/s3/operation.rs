//! Which of S3's operations a request is, for counters and logs. Pure, quick, and never an error: what it
//! can't tell is `Other`. The protocol library decides for itself what is done.

use super::hosted::Domains;
use http::{HeaderMap, Method, Request};

macro_rules! operations {
    ($($name:ident),* $(,)?) => {
        /// What a request asks for, as AWS calls it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        #[expect(missing_docs, reason = "the names are AWS's")]
        pub enum Operation { $($name),* }

        /// The operations' names, by their numbers.
        pub const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

operations! {
    AbortMultipartUpload, CompleteMultipartUpload, CopyObject, CreateBucket, CreateMultipartUpload,
    DeleteBucket, DeleteBucketConfiguration, DeleteObject, DeleteObjectTagging, DeleteObjects,
    GetBucketConfiguration, GetBucketLocation, GetObject, GetObjectAcl, GetObjectAttributes,
    GetObjectLegalHold, GetObjectRetention, GetObjectTagging, HeadBucket, HeadObject, ListBuckets,
    ListMultipartUploads, ListObjectVersions, ListObjects, ListObjectsV2, ListParts, PostObject,
    Preflight, PutBucketConfiguration, PutObject, PutObjectAcl, PutObjectLegalHold,
    PutObjectRetention, PutObjectTagging, UploadPart, UploadPartCopy, Other,
}

/// The parts of a query that choose an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sub {
    Acl,
    Attributes,
    Delete,
    LegalHold,
    ListType,
    Location,
    PartNumber,
    Retention,
    Tagging,
    UploadId,
    Uploads,
    Versions,
    /// A configuration that only buckets have.
    Configuration,
    /// Something that is not served.
    Unserved,
}

fn sub(name: &str) -> Option<Sub> {
    Some(match name {
        "acl" => Sub::Acl,
        "attributes" => Sub::Attributes,
        "delete" => Sub::Delete,
        "legal-hold" => Sub::LegalHold,
        "list-type" => Sub::ListType,
        "location" => Sub::Location,
        "partNumber" => Sub::PartNumber,
        "retention" => Sub::Retention,
        "tagging" => Sub::Tagging,
        "uploadId" => Sub::UploadId,
        "uploads" => Sub::Uploads,
        "versions" => Sub::Versions,
        "cors" | "lifecycle" | "notification" | "object-lock" | "ownershipControls" | "policy"
        | "policyStatus" | "publicAccessBlock" | "versioning" => Sub::Configuration,
        "restore"
        | "select"
        | "torrent"
        | "website"
        | "logging"
        | "encryption"
        | "replication"
        | "analytics"
        | "inventory"
        | "metrics"
        | "accelerate"
        | "requestPayment"
        | "intelligent-tiering"
        | "session" => Sub::Unserved,
        _ => return None,
    })
}

/// The operation of a request, by its head. Its bucket may be in its host.
#[must_use]
pub fn of(head: &Request<()>, domains: &Domains) -> Operation {
    use Operation as Op;
    let (method, headers) = (head.method(), head.headers());
    if *method == Method::OPTIONS {
        return Op::Preflight;
    }
    let (path, query) = (head.uri().path(), head.uri().query().unwrap_or_default());
    let path = path.strip_prefix('/').unwrap_or(path);
    let host = domains.bucket(headers);
    let (bucket, key) = match &host {
        Some((bucket, _)) => (&**bucket, path),
        None => path.split_once('/').unwrap_or((path, "")),
    };
    let subs = || query.split('&').filter_map(|pair| sub(pair.split('=').next().unwrap_or(pair)));
    if bucket.is_empty() {
        return if *method == Method::GET { Op::ListBuckets } else { Op::Other };
    }
    if key.is_empty() {
        of_bucket(method, subs().next())
    } else {
        of_object(method, subs(), headers)
    }
}

fn of_bucket(method: &Method, sub: Option<Sub>) -> Operation {
    use Operation as Op;
    match (method.as_str(), sub) {
        ("GET", Some(Sub::ListType)) => Op::ListObjectsV2,
        ("GET", Some(Sub::Versions)) => Op::ListObjectVersions,
        ("GET", Some(Sub::Uploads)) => Op::ListMultipartUploads,
        ("GET", Some(Sub::Location)) => Op::GetBucketLocation,
        ("GET", Some(Sub::Acl | Sub::Tagging | Sub::Configuration)) => Op::GetBucketConfiguration,
        ("GET", None) => Op::ListObjects,
        ("PUT", Some(Sub::Acl | Sub::Tagging | Sub::Configuration)) => Op::PutBucketConfiguration,
        ("PUT", None) => Op::CreateBucket,
        ("DELETE", Some(Sub::Tagging | Sub::Configuration)) => Op::DeleteBucketConfiguration,
        ("DELETE", None) => Op::DeleteBucket,
        ("POST", Some(Sub::Delete)) => Op::DeleteObjects,
        ("POST", None) => Op::PostObject,
        ("HEAD", _) => Op::HeadBucket,
        _ => Op::Other,
    }
}

fn of_object(
    method: &Method,
    mut subs: impl Iterator<Item = Sub>,
    headers: &HeaderMap,
) -> Operation {
    use Operation as Op;
    let mut first = subs.next();
    // An upload's id beside a part's number, in either order: a part is meant.
    if first == Some(Sub::UploadId) && subs.next() == Some(Sub::PartNumber) {
        first = Some(Sub::PartNumber);
    }
    let copied = || headers.contains_key("x-amz-copy-source");
    match (method.as_str(), first) {
        ("GET", Some(Sub::Acl)) => Op::GetObjectAcl,
        ("GET", Some(Sub::Attributes)) => Op::GetObjectAttributes,
        ("GET", Some(Sub::LegalHold)) => Op::GetObjectLegalHold,
        ("GET", Some(Sub::Retention)) => Op::GetObjectRetention,
        ("GET", Some(Sub::Tagging)) => Op::GetObjectTagging,
        ("GET", Some(Sub::UploadId)) => Op::ListParts,
        ("GET", Some(Sub::PartNumber) | None) => Op::GetObject,
        ("HEAD", _) => Op::HeadObject,
        ("PUT", Some(Sub::Acl)) => Op::PutObjectAcl,
        ("PUT", Some(Sub::LegalHold)) => Op::PutObjectLegalHold,
        ("PUT", Some(Sub::Retention)) => Op::PutObjectRetention,
        ("PUT", Some(Sub::Tagging)) => Op::PutObjectTagging,
        ("PUT", Some(Sub::PartNumber)) if copied() => Op::UploadPartCopy,
        ("PUT", Some(Sub::PartNumber)) => Op::UploadPart,
        ("PUT", None) if copied() => Op::CopyObject,
        ("PUT", None) => Op::PutObject,
        ("POST", Some(Sub::Uploads)) => Op::CreateMultipartUpload,
        ("POST", Some(Sub::UploadId)) => Op::CompleteMultipartUpload,
        ("DELETE", Some(Sub::UploadId)) => Op::AbortMultipartUpload,
        ("DELETE", Some(Sub::Tagging)) => Op::DeleteObjectTagging,
        ("DELETE", None) => Op::DeleteObject,
        _ => Op::Other,
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn head(method: &str, target: &str, headers: &[(&str, &str)]) -> Option<Request<()>> {
        let request = Request::builder().method(method).uri(target);
        let add = |request: http::request::Builder, (name, value): &(&str, &str)| {
            request.header(*name, *value)
        };
        headers.iter().fold(request, add).body(()).ok()
    }

    fn name(method: &str, target: &str, headers: &[&'static str]) -> &'static str {
        let headers: Vec<_> = headers.iter().map(|name| (*name, "/b/k")).collect();
        let head = head(method, target, &headers).unwrap();
        NAMES[of(&head, &Domains::default()) as usize]
    }

    #[test]
    fn a_bucket_in_the_host_is_one() {
        let domains = Domains::new(&["s3.lan".to_owned()]);
        let name = |method, target, host| {
            NAMES[of(&head(method, target, &[("host", host)]).unwrap(), &domains) as usize]
        };
        assert_eq!(name("GET", "/k", "b.s3.lan:9000"), "GetObject");
        assert_eq!(name("GET", "/?list-type=2", "b.s3.lan"), "ListObjectsV2");
        assert_eq!(name("PUT", "/a/b", "b.s3.lan"), "PutObject");
        assert_eq!(name("PUT", "/", "b.s3.lan"), "CreateBucket");
        assert_eq!(name("GET", "/", "s3.lan"), "ListBuckets");
        assert_eq!(name("GET", "/k", "s3.lan"), "ListObjects");
    }

    #[test]
    fn requests_are_told_apart() {
        assert_eq!(name("GET", "/", &[]), "ListBuckets");
        assert_eq!(name("GET", "/b", &[]), "ListObjects");
        assert_eq!(name("GET", "/b/?prefix=a&list-type=2", &[]), "ListObjectsV2");
        assert_eq!(name("GET", "/b?versions", &[]), "ListObjectVersions");
        assert_eq!(name("PUT", "/b?policy", &[]), "PutBucketConfiguration");
        assert_eq!(name("POST", "/b?delete=", &[]), "DeleteObjects");
        assert_eq!(name("GET", "/b/k?X-Amz-Signature=x&x-id=GetObject", &[]), "GetObject");
        assert_eq!(name("GET", "/b/a/b/c", &[]), "GetObject");
        assert_eq!(name("GET", "/b/k?partNumber=2", &[]), "GetObject");
        assert_eq!(name("PUT", "/b/k", &[]), "PutObject");
        assert_eq!(name("PUT", "/b/k", &["x-amz-copy-source"]), "CopyObject");
        assert_eq!(name("PUT", "/b/k?partNumber=1&uploadId=u", &[]), "UploadPart");
        assert_eq!(name("PUT", "/b/k?uploadId=u&partNumber=1", &[]), "UploadPart");
        let copy = ["x-amz-copy-source"];
        assert_eq!(name("PUT", "/b/k?uploadId=u&partNumber=1", &copy), "UploadPartCopy");
        assert_eq!(name("POST", "/b/k?uploads", &[]), "CreateMultipartUpload");
        assert_eq!(name("POST", "/b/k?uploadId=u", &[]), "CompleteMultipartUpload");
        assert_eq!(name("DELETE", "/b/k?uploadId=u", &[]), "AbortMultipartUpload");
        assert_eq!(name("OPTIONS", "/b/k", &[]), "Preflight");
        assert_eq!(name("GET", "/b?website", &[]), "Other");
        assert_eq!(name("POST", "/b/k?select&select-type=2", &[]), "Other");
    }

    proptest! {
        #[test]
        fn everything_has_an_operation(method in "[A-Z]{1,8}", target in "/?.{0,40}") {
            if let Some(head) = head(&method, &target, &[("host", "b.s3.lan")]) {
                for domains in [Domains::default(), Domains::new(&["s3.lan".to_owned()])] {
                    prop_assert!((of(&head, &domains) as usize) < NAMES.len());
                }
            }
        }
    }
}
