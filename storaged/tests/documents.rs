//! Documents of requests and answers: in chunks, not as they were signed, with characters that XML does not bear.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::people::{ada, bucket, said};
use common::{ADA, BUCKET, Server, keys, talk};
use std::time::SystemTime;
use tests::s3::{Answer, Ask, Signing};
use tests::sigv4::{self, Parts, sha256};

const CHUNKS: Signing = Signing::Chunks(20);
const TAGS: &str =
    "<Tagging><TagSet><Tag><Key>k</Key><Value>&#252;</Value></Tag></TagSet></Tagging>";

fn ask(
    server: &Server,
    method: &str,
    path: &str,
    query: &[(&str, &str)],
    document: &str,
) -> Answer {
    let ask = Ask { query, signing: CHUNKS, ..Ask::new(method, path) };
    server.client.request(&Ask { body: Some(document.as_bytes()), ..ask }).unwrap()
}

#[test]
fn documents_may_come_in_chunks() {
    let server = Server::start();
    for key in ["a😀b", "🚀&é", "other"] {
        server.client.put(BUCKET, key, b"x").unwrap();
    }
    let key = format!("/{BUCKET}/other");
    assert_eq!(ask(&server, "PUT", &key, &[("tagging", "")], TAGS).status, 200);
    let tags = server.ask("GET", "other", Ask { query: &[("tagging", "")], ..Ask::new("", "") });
    assert_eq!(tags.elements("Value"), ["ü"]);
    let list = "<Delete><Object><Key>a&#128512;b</Key></Object>\
        <Object><Key>&#x1f680;&amp;&#233;</Key></Object></Delete>";
    let deleted = ask(&server, "POST", &bucket(), &[("delete", "")], list);
    assert_eq!(deleted.elements("Deleted").len(), 2, "{}", deleted.text());
    assert_eq!(server.client.keys(BUCKET).unwrap(), ["other"]);
    let place = "<CreateBucketConfiguration><LocationConstraint>eu-north-1</LocationConstraint>\
        </CreateBucketConfiguration>";
    assert_eq!(ask(&server, "PUT", "/far", &[], place).status, 200);
    let head = server.client.request(&Ask::new("HEAD", "/far")).unwrap();
    assert_eq!(head.header("x-amz-bucket-region"), "eu-north-1");
    let wrong = ask(&server, "PUT", &key, &[("tagging", "")], "<Tagging>");
    assert_eq!((wrong.status, &*said(&wrong)), (400, "MalformedXML"));
    assert_eq!(ask(&server, "PUT", "/plain", &[], "").status, 200);
}

#[test]
fn a_list_of_parts_may_come_in_chunks() {
    let server = Server::start();
    let ada = ada(&server);
    let path = format!("/{BUCKET}/k");
    let begun = ada.ask("POST", &path, &[("uploads", "")], Ask::new("", ""));
    let id = begun.elements("UploadId").pop().unwrap();
    let part = [("partNumber", "1"), ("uploadId", &*id)];
    let put = ada.ask("PUT", &path, &part, Ask { body: Some(b"abc"), ..Ask::new("", "") });
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part>\
         </CompleteMultipartUpload>",
        put.header("etag")
    );
    let done = ask(&server, "POST", &path, &[("uploadId", &id)], &list);
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(server.get("k", &[]).body, b"abc");
}

/// What comes back of a tagging of `k` that is signed for this payload.
fn tagged(server: &Server, payload: &str, more: &[(&str, &str)], body: &[u8]) -> String {
    let time = SystemTime::now();
    let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut headers = vec![
        own("host", &server.address.to_string()),
        own("x-amz-content-sha256", payload),
        own("x-amz-date", &sigv4::timestamp(time)),
    ];
    headers.extend(more.iter().map(|(name, value)| own(name, value)));
    let path = format!("/{BUCKET}/k");
    let query = [own("tagging", "")];
    let parts =
        Parts { method: "PUT", path: &path, query: &query, headers: &headers, payload, time };
    let signature = sigv4::sign(&keys(ADA), &parts);
    headers.push(own("authorization", &sigv4::authorization(&keys(ADA), &signature)));
    let lines: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!(
        "PUT {path}?tagging= HTTP/1.1\r\n{lines}connection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    talk(server.address, &[head.as_bytes(), body].concat())
}

#[test]
fn a_document_that_is_not_the_one_that_was_signed_is_refused_by_name() {
    let server = Server::start();
    server.client.put(BUCKET, "k", b"x").unwrap();
    let is = |answer: &str, status: u16, code: &str| {
        let fits = answer.starts_with(&format!("HTTP/1.1 {status} "));
        fits && (code.is_empty() || answer.contains(&format!("<Code>{code}</Code>")))
    };
    let right = tagged(&server, &sha256(TAGS.as_bytes()), &[], TAGS.as_bytes());
    assert!(is(&right, 200, ""), "{right}");
    let other = tagged(&server, &sha256(b"another"), &[], TAGS.as_bytes());
    assert!(is(&other, 400, "XAmzContentSHA256Mismatch"), "{other}");
    let length = TAGS.len().to_string();
    let in_chunks = [("x-amz-decoded-content-length", &*length)];
    let false_ = "0".repeat(64);
    let body = format!(
        "{:x};chunk-signature={false_}\r\n{TAGS}\r\n0;chunk-signature={false_}\r\n\r\n",
        TAGS.len()
    );
    let forged = tagged(&server, sigv4::STREAMING, &in_chunks, body.as_bytes());
    assert!(is(&forged, 403, "SignatureDoesNotMatch"), "{forged}");
    let plain = tagged(&server, sigv4::STREAMING, &in_chunks, TAGS.as_bytes());
    assert!(is(&plain, 400, "IncompleteBody"), "{plain}");
}

#[test]
fn the_sum_behind_a_document_is_of_the_document() {
    let server = Server::start();
    server.client.put(BUCKET, "k", b"x").unwrap();
    let length = TAGS.len().to_string();
    let sum = storaged::s3::checksum::Algorithm::Crc32.sum(TAGS.as_bytes());
    let headers = [
        ("x-amz-decoded-content-length", &*length),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
        ("x-amz-sdk-checksum-algorithm", "CRC32"),
    ];
    let send = |sum: &str| {
        let body = format!("{:x}\r\n{TAGS}\r\n0\r\nx-amz-checksum-crc32:{sum}\r\n\r\n", TAGS.len());
        tagged(&server, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", &headers, body.as_bytes())
    };
    let wrong = send("AAAAAA==");
    assert!(wrong.starts_with("HTTP/1.1 400 ") && wrong.contains("BadDigest"), "{wrong}");
    let right = send(&sum);
    assert!(right.starts_with("HTTP/1.1 200 "), "{right}");
}

#[test]
fn keys_that_xml_does_not_bear_come_back_as_they_are() {
    let server = Server::start();
    // What a Mac calls the icon of a folder, and worse.
    let keys = ["Icon\r", "a\u{1}b", "c\nd\te", "\u{ffff}"];
    for key in keys {
        server.client.put(BUCKET, key, b"x").unwrap();
    }
    let mut sorted = keys.to_vec();
    sorted.sort_unstable();
    assert_eq!(server.client.keys(BUCKET).unwrap(), sorted);
    let page = server.list(&[]);
    assert!(page.text().contains("<Key>Icon&#13;</Key>"), "{}", page.text());
    assert_eq!(page.elements("Key"), sorted);
    assert_eq!(server.list(&[("versions", "")]).elements("Key"), sorted);
    let coded = server.list(&[("encoding-type", "url")]);
    assert!(coded.elements("Key").contains(&"Icon%0D".to_owned()), "{}", coded.text());
    let objects: String = ["Icon&#13;", "c&#10;d&#x9;e"]
        .map(|key| format!("<Object><Key>{key}</Key></Object>"))
        .concat();
    let list = format!("<Delete>{objects}</Delete>");
    let gone = ask(&server, "POST", &bucket(), &[("delete", "")], &list);
    assert_eq!(gone.elements("Key"), ["Icon\r", "c\nd\te"], "{}", gone.text());
    assert_eq!(server.client.keys(BUCKET).unwrap(), ["a\u{1}b", "\u{ffff}"]);
    // An object's own bytes are nobody's business, whatever they are said to be.
    let xml = b"<a>\r\x01</a>";
    server.put("doc", &[("content-type", "application/xml")], xml);
    assert_eq!(server.get("doc", &[]).body, xml);
    assert_eq!(server.get("doc", &[("origin", "http://x")]).body, xml);
}
