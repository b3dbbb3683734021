//! Corners of the protocol, over HTTP: lists in conditions, headers in several lines, documents with references,
//! copies of what came in parts, uploads that a rule will end or another account began.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::people::{BOBS, ada, allow, bob, bucket, nobody, open, policy, said};
use common::{BUCKET, Server, noise};
use md5::{Digest, Md5};
use tests::s3::{Answer, Ask, Signing};
use tests::sigv4::{hex, sha256};

/// The least that a part which is not the last may have.
const PART: usize = 5 << 20;

fn copy(server: &Server, key: &str, headers: &[(&str, &str)]) -> Answer {
    let source = format!("/{BUCKET}/k");
    server.put(key, &[headers, &[("x-amz-copy-source", &*source)]].concat(), b"")
}

#[test]
fn a_condition_names_any_of_several_objects() {
    let server = Server::start();
    let tag = server.client.put(BUCKET, "k", b"abc").unwrap();
    let (list, weak) = (format!("\"00\", {tag}"), format!("\"00\", W/{tag}"));
    let get = |headers: &[(&str, &str)]| server.get("k", headers).status;
    assert_eq!(get(&[("if-match", &list)]), 200);
    assert_eq!(get(&[("if-match", &weak)]), 412);
    assert_eq!(get(&[("if-match", "\"00\""), ("if-match", &tag)]), 200);
    assert_eq!(get(&[("if-match", "\"00\", \"01\"")]), 412);
    assert_eq!(get(&[("if-none-match", &list)]), 304);
    assert_eq!(get(&[("if-none-match", &weak)]), 304);
    assert_eq!(get(&[("if-none-match", &tag), ("if-none-match", "\"00\"")]), 304);
    assert_eq!(get(&[("if-none-match", "\"00\", W/\"01\"")]), 200);
    assert_eq!(get(&[("if-match", "\"00\" \"01\"")]), 400);
    let head = Ask { headers: &[("if-match", &list)], ..Ask::new("", "") };
    assert_eq!(server.ask("HEAD", "k", head).status, 200);
    let copied = |name: &str, value: &str| copy(&server, "copy", &[(name, value)]).status;
    assert_eq!(copied("x-amz-copy-source-if-match", &list), 200);
    assert_eq!(copied("x-amz-copy-source-if-none-match", &list), 412);
    assert_eq!(copied("if-match", "\"00\", \"01\""), 412);
    let put = |name: &str, value: &str| server.put("k", &[(name, value)], b"abc").status;
    assert_eq!(put("if-match", "\"00\", \"01\""), 412);
    assert_eq!(put("if-none-match", &list), 412);
    assert_eq!(put("if-match", &list), 200);
    let delete = |value: &str| {
        let ask = Ask { headers: &[("if-match", value)], ..Ask::new("", "") };
        server.ask("DELETE", "k", ask).status
    };
    assert_eq!((delete("\"00\", \"01\""), delete(&list)), (412, 204));
}

#[test]
fn metadata_in_several_lines_is_one_with_commas() {
    let server = Server::start();
    let lines = [("x-amz-meta-a", "1"), ("x-amz-meta-b", "x"), ("x-amz-meta-a", " 2, 3")];
    assert_eq!(server.put("k", &lines, b"x").status, 200);
    let got = server.get("k", &[]);
    assert_eq!((got.header("x-amz-meta-a"), got.header("x-amz-meta-b")), ("1,2, 3", "x"));
    // One line more than were signed is not what was signed.
    let added =
        server.raw_put("k", &sha256(b"x"), &[("x-amz-meta-a", "1")], "x-amz-meta-a: 2\r\n", b"x");
    assert!(added.starts_with("HTTP/1.1 403"), "{added}");
    let two_lists = [("x-amz-acl", "private"), ("x-amz-acl", "private")];
    assert_eq!(server.put("k", &two_lists, b"x").status, 400);
}

fn delete_list(server: &Server, document: &str, headers: &[(&str, &str)], how: Signing) -> Answer {
    let path = bucket();
    let ask = Ask { query: &[("delete", "")], headers, signing: how, ..Ask::new("POST", &path) };
    server.client.request(&Ask { body: Some(document.as_bytes()), ..ask }).unwrap()
}

#[test]
fn keys_may_be_written_by_reference() {
    let server = Server::start();
    let document = "<Delete><Object><Key>a&#128512;b</Key></Object>\
        <Object><Key>&#x1f680;&amp;&#233;</Key></Object></Delete>";
    let md5 = base64(&Md5::digest(document));
    let headers = [("content-md5", &*md5)];
    for how in [Signing::Signed, Signing::Unsigned, Signing::Presigned] {
        for key in ["a😀b", "🚀&é", "other"] {
            server.client.put(BUCKET, key, b"x").unwrap();
        }
        let answer = delete_list(&server, document, &headers, how);
        assert_eq!(answer.status, 200, "{how:?}: {}", answer.text());
        assert_eq!(answer.elements("Deleted").len(), 2, "{}", answer.text());
        assert_eq!(server.client.keys(BUCKET).unwrap(), ["other"]);
    }
    for (what, code) in [("a&#1114112;", "MalformedXML"), ("&#x1f600;</Key>", "MalformedXML")] {
        let wrong = format!("<Delete><Object><Key>{what}</Key></Object></Delete>");
        assert_eq!(said(&delete_list(&server, &wrong, &[], Signing::Signed)), code, "{what}");
    }
}

#[test]
fn a_reference_opens_no_door() {
    let server = Server::start();
    server.client.put(BUCKET, "😀", b"x").unwrap();
    let document = "<Delete><Object><Key>&#128512;</Key></Object></Delete>";
    let md5 = base64(&Md5::digest(document));
    let headers = [("content-md5", &*md5)];
    for how in [Signing::WrongSecret, Signing::Anonymous, Signing::Stale(3600)] {
        let answer = delete_list(&server, document, &headers, how);
        assert_eq!(answer.status, 403, "{how:?}: {}", answer.text());
    }
    let path = bucket();
    let others = bob(&server).ask(
        "POST",
        &path,
        &[("delete", "")],
        Ask { headers: &headers, body: Some(document.as_bytes()), ..Ask::new("", "") },
    );
    assert_eq!(others.status, 403);
    let wrong = [("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")];
    assert_eq!(said(&delete_list(&server, document, &wrong, Signing::Signed)), "BadDigest");
    assert_eq!(server.client.keys(BUCKET).unwrap(), ["😀"]);
    // A document that is not the one that was signed is refused before anybody looks for references.
    let tags =
        "<Tagging><TagSet><Tag><Key>k</Key><Value>&#128512;</Value></Tag></TagSet></Tagging>";
    let answer =
        server.raw_put("%F0%9F%98%80?tagging=", &sha256(b"another"), &[], "", tags.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 4") && !answer.contains("MalformedXML"), "{answer}");
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(bytes)
}

/// The id of an upload that somebody begins.
fn begin(who: &common::people::As<'_>, key: &str) -> (String, Answer) {
    let path = format!("/{BUCKET}/{key}");
    let answer = who.ask("POST", &path, &[("uploads", "")], Ask::new("", ""));
    assert_eq!(answer.status, 200, "{}", answer.text());
    (answer.elements("UploadId").pop().unwrap(), answer)
}

#[test]
fn a_copy_of_parts_came_whole() {
    let server = Server::start();
    let ada = ada(&server);
    let bytes = noise(PART + 9);
    let (id, _) = begin(&ada, "k");
    let path = format!("/{BUCKET}/k");
    let parts = (1..).zip([&bytes[..PART], &bytes[PART..]]).map(|(number, part): (u32, _)| {
        let query = [("partNumber", &*number.to_string()), ("uploadId", &*id)];
        let put = ada.ask("PUT", &path, &query, Ask { body: Some(part), ..Ask::new("", "") });
        let tag = put.header("etag");
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>")
    });
    let list = parts.collect::<String>();
    let list = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
    let body = Some(list.as_bytes());
    let done = ada.ask("POST", &path, &[("uploadId", &id)], Ask { body, ..Ask::new("", "") });
    assert_eq!(done.status, 200, "{}", done.text());
    assert!(done.elements("ETag")[0].ends_with("-2\""));
    let whole = format!("\"{}\"", hex(&Md5::digest(&bytes)));
    let copied = copy(&server, "copy", &[]);
    assert_eq!(copied.elements("ETag"), [&*whole], "{}", copied.text());
    assert_eq!(copied.elements("ChecksumType"), ["FULL_OBJECT"]);
    let sum = copied.elements("ChecksumCRC64NVME").pop().unwrap();
    assert_eq!(server.put("same", &[("x-amz-checksum-crc64nvme", &*sum)], &bytes).status, 200);
    let got = server.get("copy", &[]);
    assert_eq!(got.header("etag"), whole);
    assert!(got.body == bytes);
    let part = server.ask("GET", "copy", Ask { query: &[("partNumber", "2")], ..Ask::new("", "") });
    assert_eq!(part.status, 416, "it has no second part");
    // Onto itself, too, as where its metadata is to change.
    let replace = [("x-amz-metadata-directive", "REPLACE"), ("x-amz-checksum-algorithm", "SHA256")];
    let again = copy(&server, "k", &replace);
    assert_eq!((again.elements("ETag"), again.elements("ChecksumSHA256").len()), (vec![whole], 1));
}

#[test]
fn an_upload_says_when_a_rule_will_end_it() {
    let server = Server::start();
    let ada = ada(&server);
    let rules = "<LifecycleConfiguration><Rule><ID>old uploads</ID><Status>Enabled</Status>\
        <Filter><Prefix>tmp/</Prefix></Filter><AbortIncompleteMultipartUpload>\
        <DaysAfterInitiation>2</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>\
        </LifecycleConfiguration>";
    let heads = ["x-amz-abort-date", "x-amz-abort-rule-id"];
    let told = |answer: &Answer| heads.map(|name| answer.header(name).to_owned());
    assert_eq!(told(&begin(&ada, "tmp/k").1), ["", ""]);
    assert_eq!(ada.put(&bucket(), &[("lifecycle", "")], rules).status, 200);
    assert_eq!(told(&begin(&ada, "k").1), ["", ""]);
    let (id, begun) = begin(&ada, "tmp/k");
    let [date, rule] = told(&begun);
    assert!(date.ends_with(" 00:00:00 GMT"), "{date}");
    assert_eq!(rule, "old uploads");
    let path = format!("/{BUCKET}/tmp/k");
    assert_eq!(told(&ada.ask("GET", &path, &[("uploadId", &id)], Ask::new("", ""))), [date, rule]);
}

#[test]
fn who_began_an_upload_may_look_at_it_and_end_it() {
    let server = Server::start();
    open(&server);
    let (ada, bob, nobody) = (ada(&server), bob(&server), nobody(&server));
    assert_eq!(policy(&server, &allow(BOBS, "s3:PutObject", "/*", "{}")).status, 204);
    let path = format!("/{BUCKET}/k");
    let (adas, _) = begin(&ada, "k");
    let (bobs, _) = begin(&bob, "k");
    let parts = |who: &common::people::As<'_>, id: &str| {
        who.ask("GET", &path, &[("uploadId", id)], Ask::new("", ""))
    };
    let listed = parts(&bob, &bobs);
    assert_eq!(listed.status, 200, "{}", listed.text());
    // Lists are off in this bucket: what is made there is its owner's.
    assert_eq!(listed.elements("ID"), ["bob", "ada"], "{}", listed.text());
    assert_eq!(parts(&ada, &bobs).status, 200);
    assert_eq!(parts(&nobody, &bobs).status, 403);
    assert_eq!(parts(&bob, &adas).status, 403);
    let other = format!("/{BUCKET}/other");
    let elsewhere = bob.ask("GET", &other, &[("uploadId", &bobs)], Ask::new("", ""));
    assert_eq!(elsewhere.status, 403);
    let abort = |who: &common::people::As<'_>, id: &str| {
        who.ask("DELETE", &path, &[("uploadId", id)], Ask::new("", "")).status
    };
    assert_eq!((abort(&bob, &adas), abort(&nobody, &bobs)), (403, 403));
    assert_eq!(abort(&bob, &bobs), 204);
    assert_eq!(abort(&bob, &bobs), 403, "there is none of theirs any more");
    // What the owner forbids is forbidden.
    let (bobs, _) = begin(&bob, "k");
    let deny = common::people::statement("Deny", BOBS, "s3:AbortMultipartUpload", "/*", "{}");
    let both = format!("{},{deny}", allow(BOBS, "s3:PutObject", "/*", "{}"));
    assert_eq!(policy(&server, &both).status, 204);
    assert_eq!((abort(&bob, &bobs), abort(&ada, &bobs)), (403, 204));
}
