//! Objects over HTTP: reading parts of them, what is promised of bodies, what a query may ask for.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{BUCKET, Server, noise, talk};
use std::time::SystemTime;
use tests::s3::{Answer, Ask, Signing};
use tests::sigv4;

fn code(answer: &Answer) -> (u16, String) {
    (answer.status, answer.elements("Code").pop().unwrap_or_default())
}

#[test]
fn a_range_that_is_none_is_ignored() {
    let server = Server::start();
    server.client.put(BUCKET, "k", b"0123456789").unwrap();
    for range in ["bytes=5-2", "lines=1-2", "bytes=0-1,4-5", "bytes=x"] {
        for signing in [Signing::Signed, Signing::Presigned] {
            let headers = [("range", range)];
            let ask = Ask { headers: &headers, signing, ..Ask::new("", "") };
            let got = server.ask("GET", "k", ask);
            assert_eq!(
                (got.status, &got.body[..]),
                (200, &b"0123456789"[..]),
                "{range} {signing:?}"
            );
            assert_eq!(server.ask("HEAD", "k", ask).header("content-length"), "10");
        }
        let headers = [("range", range)];
        let signing = Signing::WrongSecret;
        let ask = Ask { headers: &headers, signing, ..Ask::new("", "") };
        assert_eq!(server.ask("GET", "k", ask).status, 403);
    }
}

#[test]
fn a_document_is_what_its_head_says() {
    let server = Server::start();
    let path = format!("/{BUCKET}");
    let body = b"<Delete><Object><Key>k</Key></Object></Delete>";
    let delete = |headers: &[(&str, &str)], signing| {
        server.client.put(BUCKET, "k", b"x").unwrap();
        let query = [("delete", "")];
        let ask =
            Ask { query: &query, headers, body: Some(body), signing, ..Ask::new("POST", &path) };
        let answer = server.client.request(&ask).unwrap();
        let is_there = server.client.get(BUCKET, "k").unwrap().is_some();
        (answer.status, answer.elements("Code").pop(), is_there)
    };
    let refused = |code: &str| (400, Some(code.to_owned()), true);
    let done = (200, None, false);
    let wrong = [("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")];
    assert_eq!(delete(&wrong, Signing::Signed), refused("BadDigest"));
    let wrong = [("x-amz-checksum-crc32", "AAAAAA==")];
    assert_eq!(delete(&wrong, Signing::Signed), refused("BadDigest"));
    let malformed = [("content-md5", "xx")];
    assert_eq!(delete(&malformed, Signing::Signed), refused("InvalidDigest"));
    assert_eq!(delete(&[], Signing::Unsigned), refused("InvalidRequest"));
    let right = [("content-md5", "5DKh5iefM5MSKvRILIuFwQ==")];
    assert_eq!(delete(&right, Signing::Unsigned), done);
    assert_eq!(delete(&[], Signing::Signed), done);
}

#[test]
fn a_sub_resource_of_another_method_does_nothing() {
    let server = Server::start();
    server.client.put(BUCKET, "k", b"x").unwrap();
    let ask = |method: &str, name: &str| {
        let query = [(name, "")];
        let ask = Ask { query: &query, body: (method == "PUT").then_some(b""), ..Ask::new("", "") };
        code(&server.ask(method, "k", ask))
    };
    let refused = (501, "NotImplemented".to_owned());
    assert_eq!(ask("DELETE", "acl"), refused);
    assert_eq!(ask("PUT", "renameObject"), refused);
    assert_eq!(ask("PUT", "encryption"), refused);
    assert_eq!(ask("GET", "torrent"), refused);
    assert_eq!(server.client.get(BUCKET, "k").unwrap().unwrap(), b"x");
}

#[test]
fn a_presigned_url_may_carry_settings() {
    let server = Server::start();
    let signing = Signing::Presigned;
    let put = |query: &[(&str, &str)]| {
        server.ask("PUT", "k", Ask { query, signing, body: Some(b"123456789"), ..Ask::new("", "") })
    };
    assert_eq!(put(&[("x-amz-meta-a", "b"), ("x-amz-checksum-crc32", "y/Q5Jg==")]).status, 200);
    assert_eq!(server.get("k", &[]).header("x-amz-meta-a"), "b");
    assert_eq!(code(&put(&[("x-amz-checksum-crc32", "AAAAAA==")])), (400, "BadDigest".to_owned()));
    assert_eq!(put(&[("x-amz-storage-class", "GLACIER")]).status, 501);
    let query = [("x-amz-checksum-mode", "ENABLED")];
    let got = server.ask("GET", "k", Ask { query: &query, signing, ..Ask::new("", "") });
    assert_eq!(got.header("x-amz-checksum-crc32"), "y/Q5Jg==");
}

#[test]
fn an_object_has_a_checksum_without_being_given_one() {
    let server = Server::start();
    let sum = "x-amz-checksum-crc64nvme";
    assert_eq!(server.put("k", &[], b"123456789").header(sum), "rosUhgp5mIg=");
    let got = server.get("k", &[("x-amz-checksum-mode", "ENABLED")]);
    assert_eq!(
        (got.header(sum), got.header("x-amz-checksum-type")),
        ("rosUhgp5mIg=", "FULL_OBJECT")
    );
    assert_eq!(server.put("large", &[], &noise(100_000)).header(sum).len(), 12);
}

fn copy(server: &Server, key: &str, headers: &[(&str, &str)]) -> Answer {
    let source = ("x-amz-copy-source", "/bucket/a%20b");
    let headers: Vec<_> = headers.iter().copied().chain([source]).collect();
    server.put(key, &headers, b"")
}

#[test]
fn a_copy_has_the_bytes_and_what_was_said_of_them() {
    let server = Server::start();
    let said = [
        ("content-type", "a/b"),
        ("x-amz-meta-a", "1"),
        ("x-amz-tagging", "t=1"),
        ("cache-control", "no-cache"),
        ("x-amz-checksum-sha1", "98O8HYCOBHMq32eZZczDTKeuNEE="),
    ];
    let put = server.put("a b", &said, b"123456789");
    assert_eq!(put.status, 200);
    let copied = copy(&server, "copy", &[]);
    assert_eq!(
        (copied.status, copied.elements("ETag")),
        (200, vec![put.header("etag").to_owned()])
    );
    assert_eq!(copied.elements("ChecksumSHA1"), ["98O8HYCOBHMq32eZZczDTKeuNEE="]);
    let got = server.get("copy", &[]);
    assert_eq!((&got.body[..], got.header("content-type")), (&b"123456789"[..], "a/b"));
    assert_eq!((got.header("x-amz-meta-a"), got.header("x-amz-tagging-count")), ("1", "1"));
    let new = [
        ("x-amz-metadata-directive", "REPLACE"),
        ("x-amz-tagging-directive", "REPLACE"),
        ("x-amz-meta-b", "2"),
        ("content-type", "c/d"),
    ];
    assert_eq!(copy(&server, "copy", &new).status, 200);
    let got = server.get("copy", &[]);
    let heads =
        ["content-type", "x-amz-meta-a", "x-amz-meta-b", "x-amz-tagging-count", "cache-control"];
    assert_eq!(heads.map(|name| got.header(name)), ["c/d", "", "2", "", ""]);
}

#[test]
fn a_large_copy_outlives_its_source() {
    let server = Server::start();
    let body = noise(300_000);
    server.client.put(BUCKET, "a b", &body).unwrap();
    let sum = copy(&server, "copy", &[("x-amz-checksum-algorithm", "SHA256")]);
    assert_eq!((sum.status, sum.elements("ChecksumSHA256").len()), (200, 1));
    let given = sum.elements("ChecksumSHA256").pop().unwrap();
    assert_eq!(server.put("same", &[("x-amz-checksum-sha256", &*given)], &body).status, 200);
    server.client.delete(BUCKET, "a b").unwrap();
    assert!(server.client.get(BUCKET, "copy").unwrap().unwrap() == body);
    assert_eq!(code(&copy(&server, "copy", &[])), (404, "NoSuchKey".to_owned()));
}

#[test]
fn a_copy_onto_itself_must_change_something() {
    let server = Server::start();
    server.put("a b", &[("x-amz-meta-a", "1")], &noise(100_000));
    assert_eq!(code(&copy(&server, "a b", &[])), (400, "InvalidRequest".to_owned()));
    let replace = ("x-amz-metadata-directive", "REPLACE");
    assert_eq!(copy(&server, "a b", &[replace, ("x-amz-meta-a", "2")]).status, 200);
    let got = server.get("a b", &[]);
    assert!(got.header("x-amz-meta-a") == "2" && got.body == noise(100_000));
}

#[test]
fn a_copy_has_conditions_on_both_sides() {
    let server = Server::start();
    let tag = server.client.put(BUCKET, "a b", b"abc").unwrap();
    let with = |key: &str, name: &str, value: &str| copy(&server, key, &[(name, value)]).status;
    assert_eq!(with("c", "x-amz-copy-source-if-match", &tag), 200);
    assert_eq!(with("c", "x-amz-copy-source-if-match", "\"00\""), 412);
    assert_eq!(with("c", "x-amz-copy-source-if-none-match", &tag), 412);
    let past = "Thu, 01 Jan 1970 00:00:00 GMT";
    assert_eq!(with("c", "x-amz-copy-source-if-modified-since", past), 200);
    assert_eq!(with("c", "x-amz-copy-source-if-unmodified-since", past), 412);
    assert_eq!(with("c", "if-none-match", "*"), 412);
    assert_eq!(with("c", "if-match", &tag), 200);
    assert_eq!(with("c", "if-match", "\"00\""), 412);
    assert_eq!(with("new", "if-match", &tag), 404);
    assert_eq!(with("new", "if-none-match", "*"), 200);
    assert_eq!(with("c", "x-amz-metadata-directive", "MIX"), 400);
    assert_eq!(with("c", "x-amz-server-side-encryption", "AES256"), 501);
}

#[test]
fn tags_are_put_read_and_removed() {
    let server = Server::start();
    server.put("k", &[("x-amz-tagging", "a=1&b=%C3%BC")], b"x");
    let tags = |answer: &Answer| (answer.elements("Key"), answer.elements("Value"));
    let ask = |method: &str, body| {
        let query = [("tagging", "")];
        server.ask(method, "k", Ask { query: &query, body, ..Ask::new("", "") })
    };
    let pair = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
    assert_eq!(tags(&ask("GET", None)), (pair("a", "b"), pair("1", "ü")));
    assert_eq!(server.get("k", &[]).header("x-amz-tagging-count"), "2");
    let head = server.ask("HEAD", "k", Ask::new("", ""));
    assert_eq!(head.header("x-amz-tagging-count"), "2");
    let before = server.get("k", &[]).header("last-modified").to_owned();
    let document = |tags: &str| format!("<Tagging><TagSet>{tags}</TagSet></Tagging>");
    let one = document("<Tag><Key>c</Key><Value>3</Value></Tag>");
    assert_eq!(ask("PUT", Some(one.as_bytes())).status, 200);
    assert_eq!(tags(&ask("GET", None)), (vec!["c".to_owned()], vec!["3".to_owned()]));
    let twice = document("<Tag><Key>c</Key><Value/></Tag><Tag><Key>c</Key><Value/></Tag>");
    assert_eq!(code(&ask("PUT", Some(twice.as_bytes()))), (400, "InvalidTag".to_owned()));
    let many: String = (0..11).map(|n| format!("<Tag><Key>{n}</Key><Value/></Tag>")).collect();
    let many = document(&many);
    assert_eq!(code(&ask("PUT", Some(many.as_bytes()))), (400, "BadRequest".to_owned()));
    assert_eq!(ask("DELETE", None).status, 204);
    assert_eq!(tags(&ask("GET", None)), (vec![], vec![]));
    assert_eq!(server.get("k", &[]).header("last-modified"), before);
    assert_eq!(server.put("k", &[("x-amz-tagging", "a=1&a=2")], b"x").status, 400);
}

#[test]
fn attributes_are_told_without_the_content() {
    let server = Server::start();
    server.put("k", &[("x-amz-checksum-crc32", "y/Q5Jg==")], b"123456789");
    let tag = server.get("k", &[]).header("etag").trim_matches('"').to_owned();
    let ask = |attributes: &str| {
        let (headers, query) = ([("x-amz-object-attributes", attributes)], [("attributes", "")]);
        server.ask("GET", "k", Ask { headers: &headers, query: &query, ..Ask::new("", "") })
    };
    let all = ask("ETag,Checksum,ObjectParts,StorageClass,ObjectSize");
    assert_eq!(
        (all.status, all.elements("ObjectSize")),
        (200, vec!["9".to_owned()]),
        "{}",
        all.text()
    );
    assert_eq!(all.elements("ETag"), [tag], "without its quotes, here alone");
    assert_eq!(all.elements("ChecksumCRC32"), ["y/Q5Jg=="]);
    assert_eq!(all.elements("StorageClass"), ["STANDARD"]);
    assert!(!all.text().contains("ObjectParts"));
    assert!(!ask("ObjectSize").text().contains("ETag"));
    assert_eq!(code(&ask("Colour")), (400, "InvalidArgument".to_owned()));
}

#[test]
fn an_object_that_came_whole_is_its_only_part() {
    let server = Server::start();
    server.client.put(BUCKET, "k", b"0123456789").unwrap();
    let part = |number: &str, method: &str| {
        let query = [("partNumber", number)];
        server.ask(method, "k", Ask { query: &query, ..Ask::new("", "") })
    };
    let first = part("1", "GET");
    assert_eq!((first.status, first.header("content-range")), (206, "bytes 0-9/10"));
    assert_eq!(part("1", "HEAD").status, 206);
    assert_eq!(code(&part("2", "GET")), (416, "InvalidPartNumber".to_owned()));
    assert_eq!(part("0", "GET").status, 400);
    let (query, headers) = ([("partNumber", "1")], [("range", "bytes=0-1")]);
    let both = server.ask("GET", "k", Ask { query: &query, headers: &headers, ..Ask::new("", "") });
    assert_eq!(code(&both), (400, "InvalidRequest".to_owned()));
}

#[test]
fn a_range_of_another_object_is_not_sent() {
    let server = Server::start();
    let tag = server.client.put(BUCKET, "k", b"0123456789").unwrap();
    let date = server.get("k", &[]).header("last-modified").to_owned();
    let if_range = |value: &str| server.get("k", &[("range", "bytes=2-3"), ("if-range", value)]);
    assert_eq!(if_range(&tag).body, b"23");
    assert_eq!(if_range(&date).body, b"23");
    for other in ["\"00\"", &format!("W/{tag}"), "Thu, 01 Jan 1970 00:00:00 GMT"] {
        assert_eq!((if_range(other).status, if_range(other).body.len()), (200, 10), "{other}");
    }
    let beyond = server.get("k", &[("range", "bytes=10-")]);
    assert_eq!((beyond.status, beyond.header("content-range")), (416, "bytes */10"));
    assert_eq!(
        server
            .ask("HEAD", "k", Ask { headers: &[("range", "bytes=2-3")], ..Ask::new("", "") })
            .status,
        206
    );
}

#[test]
fn metadata_is_any_text_up_to_its_limit() {
    let server = Server::start();
    let put = |value: &str| server.put("k", &[("x-amz-meta-a", value)], b"x");
    assert_eq!(put("grün").status, 200);
    assert_eq!(server.get("k", &[]).header("x-amz-meta-a"), "=?UTF-8?B?Z3LDvG4=?=");
    assert_eq!(put("=?UTF-8?Q?gr=C3=BCn?=").status, 200);
    assert_eq!(server.get("k", &[]).header("x-amz-meta-a"), "=?UTF-8?B?Z3LDvG4=?=");
    assert_eq!(put(&"v".repeat(2047)).status, 200);
    assert_eq!(code(&put(&"v".repeat(2048))), (400, "MetadataTooLarge".to_owned()));
}

#[test]
fn a_deletion_may_be_conditional() {
    let server = Server::start();
    let tag = server.client.put(BUCKET, "k", b"abc").unwrap();
    let delete = |name: &str, value: &str| {
        let headers = [(name, value)];
        server.ask("DELETE", "k", Ask { headers: &headers, ..Ask::new("", "") }).status
    };
    assert_eq!(delete("if-match", "\"00\""), 412);
    assert_eq!(delete("x-amz-if-match-size", "4"), 412);
    assert!(server.client.get(BUCKET, "k").unwrap().is_some());
    assert_eq!(delete("if-match", &tag), 204);
    assert_eq!(delete("if-match", &tag), 204);
}

fn settle(server: &Server, name: &str, document: &str) {
    let (path, query) = (format!("/{BUCKET}"), [(name, "")]);
    let ask = Ask { query: &query, body: Some(document.as_bytes()), ..Ask::new("PUT", &path) };
    let answer = server.client.request(&ask).unwrap();
    assert!(answer.status < 300, "{}", answer.text());
}

#[test]
fn an_old_version_is_brought_back_by_copying_it() {
    let server = Server::start();
    let on = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    settle(&server, "versioning", on);
    let old = server.put("k", &[], b"old").header("x-amz-version-id").to_owned();
    server.put("k", &[], b"new");
    let source = format!("bucket/k?versionId={old}");
    let copied = server.put("k", &[("x-amz-copy-source", &source)], b"");
    assert_eq!((copied.status, copied.header("x-amz-copy-source-version-id")), (200, &*old));
    assert!(!copied.header("x-amz-version-id").is_empty());
    assert_eq!(server.client.get(BUCKET, "k").unwrap().unwrap(), b"old");
    let marker = server.ask("DELETE", "k", Ask::new("", ""));
    let from = |source: &str| code(&server.put("c", &[("x-amz-copy-source", source)], b""));
    assert_eq!(from("bucket/k"), (404, "NoSuchKey".to_owned()));
    let source = format!("bucket/k?versionId={}", marker.header("x-amz-version-id"));
    assert_eq!(from(&source), (400, "InvalidRequest".to_owned()));
    let query = [("tagging", ""), ("versionId", &*old)];
    let body = b"<Tagging><TagSet><Tag><Key>a</Key><Value/></Tag></TagSet></Tagging>";
    let tagged =
        server.ask("PUT", "k", Ask { query: &query, body: Some(body), ..Ask::new("", "") });
    assert_eq!((tagged.status, tagged.header("x-amz-version-id")), (200, &*old));
}

#[test]
fn whoever_may_write_may_send_a_form_without_a_signature() {
    let server = Server::start();
    settle(&server, "publicAccessBlock", "<PublicAccessBlockConfiguration/>");
    let policy = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*",
        "Action": ["s3:PutObject", "s3:GetObject"], "Resource": "arn:aws:s3:::bucket/in/*"}]}"#;
    settle(&server, "policy", policy);
    let form = |key: &str| {
        let field = "--e\r\nContent-Disposition: form-data; name=";
        let body = format!("{field}key\r\n\r\n{key}\r\n{field}file\r\n\r\nabc\r\n--e--\r\n");
        let headers = [("content-type", "multipart/form-data; boundary=e")];
        let (path, signing) = (format!("/{BUCKET}"), Signing::Anonymous);
        let body = Some(body.as_bytes());
        let ask = Ask { headers: &headers, body, signing, ..Ask::new("POST", &path) };
        server.client.request(&ask).unwrap().status
    };
    assert_eq!((form("in/a"), form("out/a")), (204, 403));
    let get = |query: &[(&str, &str)]| {
        let signing = Signing::Anonymous;
        code(&server.ask("GET", "in/a", Ask { query, signing, ..Ask::new("", "") }))
    };
    assert_eq!(get(&[]).0, 200);
    let overriding = [("response-content-type", "text/html")];
    assert_eq!(get(&overriding), (400, "InvalidRequest".to_owned()));
}

#[test]
fn any_region_will_do_and_clients_are_told_a_better_one() {
    let server = Server::start();
    server.client.put(BUCKET, "k", b"abc").unwrap();
    let ask = |method: &str, secret: &str| {
        let (time, own) = (SystemTime::now(), |text: &str| text.to_owned());
        let path = format!("/{BUCKET}/k");
        let mut headers = vec![
            (own("host"), server.address.to_string()),
            (own("range"), own("bytes=1-1")),
            (own("x-amz-content-sha256"), own(sigv4::UNSIGNED)),
            (own("x-amz-date"), sigv4::timestamp(time)),
        ];
        let payload = sigv4::UNSIGNED;
        let parts =
            sigv4::Parts { method, path: &path, query: &[], headers: &headers, payload, time };
        let keys = sigv4::Keys { access: own("AKADA"), secret: own(secret) };
        let signature = sigv4::sign_in(&keys, &parts, "US");
        headers.push((own("authorization"), sigv4::authorization(&keys, &signature)));
        let lines: String = headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
        let length = if method == "PUT" { "content-length: 0\r\n" } else { "" };
        let head = format!("{method} {path} HTTP/1.1\r\n{lines}{length}connection: close\r\n\r\n");
        talk(server.address, head.as_bytes())
    };
    let got = ask("GET", "secret-of-ada");
    assert!(got.starts_with("HTTP/1.1 206") && got.ends_with("b"), "{got}");
    assert!(ask("HEAD", "secret-of-ada").starts_with("HTTP/1.1 206"));
    let told = ask("PUT", "secret-of-ada");
    assert!(told.starts_with("HTTP/1.1 400") && told.contains("<Region>us-east-1<"), "{told}");
    assert!(ask("GET", "another").starts_with("HTTP/1.1 400"));
    assert_eq!(server.client.get(BUCKET, "k").unwrap().unwrap(), b"abc");
}
