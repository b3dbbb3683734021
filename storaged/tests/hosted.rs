//! Buckets as hosts: `bucket.s3.test/key`, signed over what is sent.

mod common;

use common::{ADA, BUCKET, Server, keys, talk};
use std::time::SystemTime;
use tests::sigv4::{self, Parts, sha256};

/// A signed request to this host, and all that comes back.
fn ask(
    server: &Server,
    host: &str,
    method: &str,
    target: (&str, &[(&str, &str)]),
    body: &[u8],
    region: &str,
) -> String {
    let (path, query) = target;
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let query: Vec<_> = query.iter().map(own).collect();
    let time = SystemTime::now();
    let payload = sha256(body);
    let date = sigv4::timestamp(time);
    let headers = [("host", host), ("x-amz-content-sha256", &payload), ("x-amz-date", &date)];
    let mut headers: Vec<_> = headers.iter().map(own).collect();
    let parts = Parts { method, path, query: &query, headers: &headers, payload: &payload, time };
    let signature = sigv4::sign_in(&keys(ADA), &parts, region);
    headers.push(own(&("authorization", &sigv4::authorization(&keys(ADA), &signature))));
    let lines: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let query = sigv4::query_string(&query);
    let length = body.len();
    let head = format!(
        "{method} {path}?{query} HTTP/1.1\r\n{lines}connection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    talk(server.address, &[head.as_bytes(), body].concat())
}

#[test]
fn an_object_has_two_addresses() {
    let server = Server::start();
    let host = format!("{BUCKET}.s3.test:9000");
    let put = ask(&server, &host, "PUT", ("/a/b%20c", &[]), b"by its host", sigv4::REGION);
    assert!(put.starts_with("HTTP/1.1 200"), "{put}");
    assert_eq!(server.get("a/b c", &[]).text(), "by its host");
    let got = ask(&server, &host.to_uppercase(), "GET", ("/a/b%20c", &[]), b"", sigv4::REGION);
    assert!(got.ends_with("\r\n\r\nby its host"), "{got}");
}

#[test]
fn the_root_of_a_bucket_is_the_bucket() {
    let server = Server::start();
    server.put("k", &[], b"x");
    let host = format!("{BUCKET}.s3.test");
    let query: &[(&str, &str)] = &[("list-type", "2"), ("prefix", "k")];
    let list = ask(&server, &host, "GET", ("/", query), b"", sigv4::REGION);
    assert!(list.contains("<Key>k</Key>"), "{list}");
    let buckets = ask(&server, "s3.test", "GET", ("/", &[]), b"", sigv4::REGION);
    assert!(buckets.contains("<ListAllMyBucketsResult"), "{buckets}");
    let none = ask(&server, "nothing.s3.test", "GET", ("/k", &[]), b"", sigv4::REGION);
    assert!(none.contains("NoSuchBucket"), "{none}");
}

#[test]
fn a_signature_for_one_address_does_not_open_the_other() {
    let server = Server::start();
    server.put("k", &[], b"x");
    let host = format!("{BUCKET}.s3.test");
    let good = ask(&server, &host, "GET", ("/k", &[]), b"", sigv4::REGION);
    assert!(good.starts_with("HTTP/1.1 200"), "{good}");
    // The same target at another host is another bucket's, and another request.
    let moved = ask(&server, "s3.test", "GET", ("/k", &[]), b"", sigv4::REGION);
    assert!(!moved.starts_with("HTTP/1.1 200"), "{moved}");
}

#[test]
fn another_region_is_told_where_the_bucket_is() {
    let server = Server::start();
    let host = format!("{BUCKET}.s3.test");
    let told = ask(&server, &host, "GET", ("/", &[("location", "")]), b"", "eu-west-1");
    let same = ask(
        &server,
        "s3.test",
        "GET",
        (&format!("/{BUCKET}"), &[("location", "")]),
        b"",
        "eu-west-1",
    );
    let status = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    assert_eq!(status(&told), status(&same), "{told}\n{same}");
}
