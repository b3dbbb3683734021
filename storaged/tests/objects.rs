//! Objects over HTTP: reading parts of them, what is promised of bodies, what a query may ask for.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{BUCKET, Server, noise};
use tests::s3::{Answer, Ask, Signing};

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
    let right = [("content-md5", "2WqvWqJcyMVnZb+MMc5DNQ==")];
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
