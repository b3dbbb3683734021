//! The short way gives the long way's answers.

use super::*;
use crate::front::{QuickBody, Service};
use crate::store::Options;
use bytes::Bytes;
use http::{Request, Response};
use s3s::Body;
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::SystemTime;
use tests::sigv4::{self, Keys};

const BUCKET: &str = "bucket";

struct World {
    service: Arc<dyn Service>,
    _data: tempfile::TempDir,
}

fn keys(name: &str) -> Keys {
    Keys { access: format!("AK{name}"), secret: format!("secret-of-{name}") }
}

impl World {
    fn new() -> World {
        let data = tempfile::tempdir().unwrap();
        let options = Options { kept_bytes: Some(0), ..Options::new(data.path()) };
        let store = Store::open(options).unwrap();
        let account = |name: &str| wire::machine::Account {
            name: name.to_owned().try_into().unwrap(),
            access_key: keys(name).access.try_into().unwrap(),
            secret_key: keys(name).secret.try_into().unwrap(),
            ssh_keys: Vec::new(),
            limits: Default::default(),
        };
        let accounts = wire::machine::Accounts { accounts: vec![account("ada"), account("bob")] };
        let accounts = Arc::new(Accounts::enter(&store, accounts).unwrap());
        let world = World { service: crate::s3::service(store, accounts), _data: data };
        assert_eq!(world.long("ada", "PUT", "", &[], b"").status(), 200);
        world
    }

    /// The answer of the long way, whatever the request.
    fn long(
        &self,
        who: &str,
        method: &str,
        key: &str,
        headers: &[(&str, &str)],
        body: &'static [u8],
    ) -> Response<Body> {
        let (parts, ()) = request(who, method, key, headers).into_parts();
        let body = Body::from(Bytes::from_static(body));
        crate::committer::wait(self.service.call(Request::from_parts(parts, body)))
    }

    fn put(&self, key: &str, headers: &[(&str, &str)], body: &'static [u8]) {
        let answer = self.long("ada", "PUT", key, headers, body);
        assert_eq!(answer.status(), 200, "{:?}", answer.body().bytes());
    }

    /// The answer of the short way, if it has one.
    fn short(&self, who: &str, method: &str, key: &str, headers: &[(&str, &str)]) -> Option<Quick> {
        self.service.quick(&request(who, method, key, headers).into_parts().0)
    }
}

/// A request with its signature.
fn request(who: &str, method: &str, key: &str, more: &[(&str, &str)]) -> Request<()> {
    let (time, own) = (SystemTime::now(), |text: &str| text.to_owned());
    let path = match key {
        "" => format!("/{BUCKET}"),
        key => format!("/{BUCKET}/{}", sigv4::percent(key.as_bytes(), true)),
    };
    let mut headers = vec![
        (own("host"), own("h")),
        (own("x-amz-content-sha256"), own(sigv4::UNSIGNED)),
        (own("x-amz-date"), sigv4::timestamp(time)),
    ];
    headers.extend(more.iter().map(|(name, value)| (own(name), own(value))));
    let (path, payload) = (path.as_str(), sigv4::UNSIGNED);
    let parts = sigv4::Parts { method, path, query: &[], headers: &headers, payload, time };
    let signature = sigv4::sign(&keys(who), &parts);
    headers.push((own("authorization"), sigv4::authorization(&keys(who), &signature)));
    let request = Request::builder().method(method).uri(path);
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(name, value));
    request.body(()).unwrap()
}

/// An answer's fields, lower-case, in no order.
fn fields_of_long(answer: &Response<Body>, length: Option<usize>) -> BTreeSet<String> {
    let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
    let fields = answer.headers().iter().filter(|(name, _)| *name != "x-amz-request-id");
    let mut fields: BTreeSet<_> =
        fields.map(|(name, value)| format!("{name}: {}", text(value))).collect();
    // The front counts what it has in memory.
    fields.extend(length.map(|length| format!("content-length: {length}")));
    fields
}

fn fields_of_short(answer: &Quick) -> BTreeSet<String> {
    let text = std::str::from_utf8(&answer.head).unwrap();
    let lines = text.strip_prefix("HTTP/1.1 200 OK\r\n").unwrap().strip_suffix("\r\n").unwrap();
    lines.split("\r\n").map(str::to_owned).collect()
}

#[test]
fn the_short_way_says_what_the_long_way_says() {
    let world = World::new();
    let said = [
        ("content-type", "text/x-test; charset=utf-8"),
        ("cache-control", "no-cache, no-store"),
        ("content-disposition", "attachment; filename=\"a b\""),
        ("content-encoding", "identity"),
        ("content-language", "en"),
        ("x-amz-meta-colour", "blue and green"),
        ("x-amz-meta-shape", "round"),
        ("x-amz-checksum-crc32", "NSRBwg=="),
    ];
    let large: &'static [u8] = vec![7; 100_000].leak();
    world.put("plain", &[], b"abc");
    world.put("empty", &[], b"");
    world.put("described/é +.txt", &said, b"abc");
    world.put("newer", &[("x-amz-checksum-xxhash3", "tqy52Eo4/3Q=")], b"Hello world");
    world.put("large", &said[..7], large);
    world.put("medium", &said[..7], &large[..4000]);
    for key in
        ["plain", "empty", "described/é +.txt", "newer", "medium", "medium", "large", "large"]
    {
        for (method, mode) in
            [("GET", None), ("HEAD", None), ("GET", Some("ENABLED")), ("HEAD", Some("ENABLED"))]
        {
            let headers: Vec<_> = mode.iter().map(|mode| ("x-amz-checksum-mode", *mode)).collect();
            let long = world.long("ada", method, key, &headers, b"");
            let short = world.short("ada", method, key, &headers).expect(key);
            let bytes = long.body().bytes().filter(|_| method == "GET");
            let is_counted = long.headers().contains_key("content-length");
            let length = bytes.as_ref().map(Bytes::len).filter(|_| !is_counted);
            assert_eq!(fields_of_short(&short), fields_of_long(&long, length), "{method} {key}");
            assert_eq!(long.status(), short.status);
            match short.body {
                QuickBody::None => assert_eq!(method, "HEAD"),
                QuickBody::Bytes(short) => assert_eq!(Some(short), bytes),
                QuickBody::File(range) => assert_eq!((range.offset, range.length), (0, 100_000)),
                QuickBody::Memory(range) => assert_eq!(range.length, 4000),
            }
        }
    }
}

#[test]
fn what_is_not_plain_goes_the_long_way() {
    let world = World::new();
    world.put("k", &[], b"abc");
    world.put(
        "odd",
        &[("x-amz-meta-a", "b"), ("expires", "Thu, 01 Jan 2026 00:00:00 GMT")],
        b"abc",
    );
    assert!(world.short("ada", "GET", "k", &[]).is_some());
    for header in [
        ("range", "bytes=0-0"),
        ("if-match", "*"),
        ("if-none-match", "*"),
        ("origin", "http://x"),
        ("x-amz-checksum-mode", "enabled"),
        ("x-amz-expected-bucket-owner", "1"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("expect", "100-continue"),
    ] {
        assert!(world.short("ada", "GET", "k", &[header]).is_none(), "{header:?}");
    }
    for (who, method, key) in [
        ("bob", "GET", "k"),
        ("ada", "GET", "missing"),
        ("ada", "PUT", "k"),
        ("ada", "DELETE", "k"),
        ("ada", "GET", ""),
        ("ada", "GET", "odd"),
    ] {
        assert!(world.short(who, method, key, &[]).is_none(), "{who} {method} {key}");
    }
}

#[test]
fn an_object_of_a_bucket_that_was_made_by_somebody_else_since_is_not_shown() {
    let world = World::new();
    world.put("k", &[], b"abc");
    assert!(world.short("bob", "GET", "k", &[]).is_none());
    assert_eq!(world.long("ada", "DELETE", "k", &[], b"").status(), 204);
    assert!(world.short("ada", "GET", "k", &[]).is_none());
    assert_eq!(world.long("ada", "DELETE", "", &[], b"").status(), 204);
    assert_eq!(world.long("bob", "PUT", "", &[], b"").status(), 200);
    assert!(world.short("ada", "GET", "k", &[]).is_none());
}

#[test]
fn what_is_kept_ready_is_the_object_and_goes_with_it() {
    let world = World::new();
    let content = |byte: u8| -> &'static [u8] { vec![byte; 4000].leak() };
    let bytes = |range: crate::front::FileRange| {
        let mut bytes = vec![0; usize::try_from(range.length).unwrap()];
        let file = std::fs::File::from(range.file.as_fd().try_clone_to_owned().unwrap());
        file.read_exact_at(&mut bytes, range.offset).unwrap();
        bytes
    };
    for byte in [1, 2] {
        world.put("k", &[], content(byte));
        let Some(Quick { body: QuickBody::Bytes(first), .. }) = world.short("ada", "GET", "k", &[])
        else {
            panic!("it can't be ready yet");
        };
        assert_eq!(first, content(byte));
        let Some(Quick { body: QuickBody::Memory(range), .. }) =
            world.short("ada", "GET", "k", &[])
        else {
            panic!("it is ready now");
        };
        assert_eq!(bytes(range), content(byte));
    }
    assert_eq!(world.long("ada", "DELETE", "k", &[], b"").status(), 204);
    assert!(world.short("ada", "GET", "k", &[]).is_none());
}
