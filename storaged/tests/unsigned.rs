//! Bodies in AWS's chunks from whom nobody knows, and what they may say of a version.

mod common;

use common::people::{ALL, allow, nobody, open, policy, start};
use common::{BUCKET, Server, talk};
use storaged::s3::checksum::Algorithm;
use tests::s3::Ask;

/// A request that nobody signs, with these header lines and this body.
fn send(server: &Server, target: &str, lines: &str, body: &str) -> String {
    let host = server.address;
    let head = format!("PUT {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{lines}");
    let head = format!("{head}content-length: {}\r\n\r\n", body.len());
    talk(server.address, &[head.as_bytes(), body.as_bytes()].concat())
}

const CODING: &str = "content-encoding: aws-chunked\r\nx-amz-decoded-content-length: 9\r\n";
const SAID: &str = "x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\n";

#[test]
fn nobody_s_chunks_are_taken_for_what_they_are() {
    let server = start();
    open(&server);
    let path = format!("/{BUCKET}/open/new");
    let sum = Algorithm::XxHash3.sum(b"123456789");
    let trailer = "x-amz-trailer: x-amz-checksum-xxhash3\r\n";
    let body =
        |sum: &str| format!("5\r\n12345\r\n4\r\n6789\r\n0\r\nx-amz-checksum-xxhash3:{sum}\r\n\r\n");
    let lines = format!("{CODING}{SAID}{trailer}");
    let refused = send(&server, &path, &lines, &body(&sum));
    assert!(refused.starts_with("HTTP/1.1 403 "), "nobody let them in: {refused}");
    let statement = allow(ALL, "s3:PutObject", "/open/*", "{}");
    assert_eq!(policy(&server, &statement).status, 204);
    let got = || server.client.get(BUCKET, "open/new").unwrap();
    for (what, body, code) in [
        ("another sum", body("AAAAAAAAAAA="), "BadDigest"),
        ("no sum", "9\r\n123456789\r\n0\r\n\r\n".to_owned(), "MalformedTrailerError"),
        ("too short", "4\r\n1234\r\n0\r\n\r\n".to_owned(), "IncompleteBody"),
        ("no end", "9\r\n123456789\r\n".to_owned(), "IncompleteBody"),
        ("no chunks", "123456789".to_owned(), "IncompleteBody"),
    ] {
        let answer = send(&server, &path, &lines, &body);
        assert!(answer.contains(&format!("<Code>{code}</Code>")), "{what}: {answer}");
        assert_eq!(got(), None, "{what}");
    }
    // As libraries send it that leave out what only a signature needs.
    for lines in [&lines, &format!("{CODING}{trailer}")] {
        let answer = send(&server, &path, lines, &body(&sum));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains(&format!("x-amz-checksum-xxhash3: {sum}\r\n")), "{answer}");
        assert_eq!(got().unwrap(), b"123456789");
        server.client.delete(BUCKET, "open/new").unwrap();
    }
    let plain = send(&server, &path, &format!("{CODING}{SAID}"), "9\r\n123456789\r\n0\r\n\r\n");
    assert!(plain.starts_with("HTTP/1.1 200 "), "{plain}");
    assert_eq!(got().unwrap(), b"123456789");
    let head = nobody(&server).plain("HEAD", &path);
    assert_eq!(head.header("content-encoding"), "");
}

#[test]
fn chunks_that_nobody_can_check_are_refused() {
    let server = start();
    open(&server);
    let statement = allow(ALL, "s3:PutObject", "/open/*", "{}");
    assert_eq!(policy(&server, &statement).status, 204);
    let path = format!("/{BUCKET}/open/new");
    let body = "9;chunk-signature=00\r\n123456789\r\n0;chunk-signature=00\r\n\r\n";
    let signed = "x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\n";
    let answer = send(&server, &path, &format!("{CODING}{signed}"), body);
    assert!(answer.contains("<Code>InvalidRequest</Code>"), "{answer}");
    let answer = send(&server, &path, SAID, body);
    assert!(answer.contains("<Code>MissingContentLength</Code>"), "{answer}");
    assert_eq!(server.client.get(BUCKET, "open/new").unwrap(), None);
}

#[test]
fn what_is_put_is_a_new_version_whichever_it_names() {
    let server = start();
    for version in ["null", "", "0000000000000001"] {
        let query = [("versionId", version)];
        let ask = Ask { query: &query, body: Some(b"new"), ..Ask::new("", "") };
        let answer = server.ask("PUT", "k", ask);
        assert_eq!(
            (answer.status, answer.elements("Code")),
            (400, vec!["InvalidArgument".to_owned()])
        );
    }
    assert_eq!(server.client.get(BUCKET, "k").unwrap().unwrap(), b"secret");
}
