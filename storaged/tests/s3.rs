//! storaged's S3 face on this machine: the front, a store in a temporary directory, and a client that
//! signs by its own hands.

mod common;

use common::{ADA, BOB, BUCKET, Server, keys, noise, talk};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::SystemTime;
use tests::s3::{Ask, Client, Signing};
use tests::sigv4::{self, Parts};

#[test]
fn objects_of_every_size_come_back_as_they_went() {
    let server = Server::start();
    for size in [0, 1, 8191, 8192, 8193, 65_536, 65_537, 3 << 20] {
        let body = noise(size);
        let key = format!("size/{size}");
        server.client.put(BUCKET, &key, &body).unwrap();
        assert!(server.client.get(BUCKET, &key).unwrap().unwrap() == body, "{size}");
        let head = server.ask("HEAD", &key, Ask::new("", ""));
        assert_eq!((head.status, head.header("content-length")), (200, &*size.to_string()));
    }
}

#[test]
fn an_object_keeps_what_was_said_of_it() {
    let server = Server::start();
    let said = [
        ("content-type", "text/x-test"),
        ("cache-control", "no-cache"),
        ("content-disposition", "attachment"),
        ("content-language", "en"),
        ("x-amz-meta-colour", "blue"),
    ];
    assert_eq!(server.put("k", &said, b"abc").status, 200);
    let got = server.get("k", &[]);
    for (name, value) in said {
        assert_eq!(got.header(name), value);
    }
    assert_eq!(got.header("etag"), "\"900150983cd24fb0d6963f7d28e17f72\"");
    assert_eq!(got.header("accept-ranges"), "bytes");
    let query = [("response-content-type", "a/b"), ("response-cache-control", "private")];
    let got = server.ask("GET", "k", Ask { query: &query, ..Ask::new("", "") });
    assert_eq!((got.header("content-type"), got.header("cache-control")), ("a/b", "private"));
}

#[test]
fn ranges_are_served_of_small_and_large_objects() {
    let server = Server::start();
    for size in [100, 200_000] {
        let body = noise(size);
        server.client.put(BUCKET, "k", &body).unwrap();
        let range = |range: &str| server.get("k", &[("range", range)]);
        let part = range("bytes=5-9");
        assert_eq!((part.status, &part.body[..]), (206, &body[5..10]));
        assert_eq!(part.header("content-range"), format!("bytes 5-9/{size}"));
        assert_eq!(range("bytes=-7").body, body[size - 7..]);
        assert_eq!(range("bytes=90-").body, body[90..]);
        assert_eq!(range("bytes=90-999999999").body, body[90..]);
        assert_eq!(range(&format!("bytes={size}-")).status, 416);
    }
}

#[test]
fn conditions_decide_about_reading_and_writing() {
    let server = Server::start();
    let tag = server.client.put(BUCKET, "k", b"abc").unwrap();
    let date = server.get("k", &[]).header("last-modified").to_owned();
    let read = |name: &str, value: &str| server.get("k", &[(name, value)]).status;
    assert_eq!(read("if-match", &tag), 200);
    assert_eq!(read("if-match", "\"00\""), 412);
    assert_eq!(read("if-none-match", "\"00\""), 200);
    assert_eq!(read("if-modified-since", &date), 304);
    assert_eq!(read("if-unmodified-since", &date), 200);
    assert_eq!(read("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT"), 412);
    let unchanged = server.get("k", &[("if-none-match", &tag)]);
    assert_eq!((unchanged.status, unchanged.header("etag")), (304, &*tag));
    // Dates in the old forms are dates (RFC 9110, 5.6.7), and what is none is ignored.
    for (name, value, status) in [
        ("if-modified-since", "Friday, 01-Jan-99 00:00:00 GMT", 200),
        ("if-modified-since", "Sat Nov 15 08:49:37 2098", 304),
        ("if-modified-since", "yesterday", 200),
        ("if-unmodified-since", "Friday, 01-Jan-99 00:00:00 GMT", 412),
        ("if-unmodified-since", "0", 200),
    ] {
        assert_eq!(read(name, value), status, "{name}: {value}");
    }
    let headers = [("if-modified-since", "yesterday")];
    let forged = Ask { headers: &headers, signing: Signing::WrongSecret, ..Ask::new("", "") };
    assert_eq!(server.ask("GET", "k", forged).status, 403);
    let said = [("cache-control", "max-age=9"), ("expires", "Thu, 01 Jan 2099 00:00:00 GMT")];
    let tag_said = server.put("said", &said, b"abc").header("etag").to_owned();
    let unchanged = server.get("said", &[("if-none-match", &tag_said)]);
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    for (name, value) in said {
        assert_eq!(unchanged.header(name), value);
    }
    let write = |key: &str, name: &str, value: &str| server.put(key, &[(name, value)], b"abc");
    assert_eq!(write("k", "if-none-match", "*").status, 412);
    assert_eq!(write("new", "if-none-match", "*").status, 200);
    assert_eq!(write("k", "if-match", &tag).status, 200);
    assert_eq!(write("k", "if-match", "\"00\"").status, 412);
    assert_eq!(write("none", "if-match", &tag).status, 404);
}

#[test]
fn checksums_are_kept_when_they_hold_and_refused_when_not() {
    let server = Server::start();
    let sum = ("x-amz-checksum-crc64nvme", "rosUhgp5mIg=");
    let stored = server.put("k", &[sum], b"123456789");
    assert_eq!((stored.status, stored.header(sum.0)), (200, sum.1));
    let got = server.get("k", &[("x-amz-checksum-mode", "ENABLED")]);
    assert_eq!((got.header(sum.0), got.header("x-amz-checksum-type")), (sum.1, "FULL_OBJECT"));
    assert_eq!(server.get("k", &[]).header(sum.0), "");
    let wrong = server.put("k2", &[("x-amz-checksum-crc32", "AAAAAA==")], b"123456789");
    assert_eq!((wrong.status, wrong.elements("Code")), (400, vec!["BadDigest".to_owned()]));
    let wrong = server.put("k2", &[("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")], &noise(100_000));
    assert_eq!((wrong.status, wrong.elements("Code")), (400, vec!["BadDigest".to_owned()]));
    assert_eq!(server.client.get(BUCKET, "k2").unwrap(), None);
}

#[test]
fn payloads_may_be_signed_unsigned_and_in_chunks() {
    let server = Server::start();
    let body = noise(300_000);
    for signing in [Signing::Signed, Signing::Unsigned, Signing::Chunks(65_536), Signing::Presigned]
    {
        let ask = Ask { body: Some(&body), signing, ..Ask::new("", "") };
        assert_eq!(server.ask("PUT", "k", ask).status, 200, "{signing:?}");
        assert!(server.client.get(BUCKET, "k").unwrap().unwrap() == body, "{signing:?}");
        server.client.delete(BUCKET, "k").unwrap();
    }
}

#[test]
fn a_trailing_checksum_is_checked() {
    let server = Server::start();
    let word = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
    let headers = [
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "9"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
    ];
    let put = |sum: &str| {
        let body = format!("9\r\n123456789\r\n0\r\nx-amz-checksum-crc32:{sum}\r\n\r\n");
        server.raw_put("k", word, &headers, "", body.as_bytes())
    };
    assert!(put("AAAAAA==").contains("BadDigest"));
    assert_eq!(server.client.get(BUCKET, "k").unwrap(), None);
    let stored = put("y/Q5Jg==");
    assert!(stored.starts_with("HTTP/1.1 200"), "{stored}");
    let got = server.get("k", &[("x-amz-checksum-mode", "ENABLED")]);
    assert_eq!(
        (&got.body[..], got.header("x-amz-checksum-crc32")),
        (&b"123456789"[..], "y/Q5Jg==")
    );
    assert_eq!(got.header("content-encoding"), "");
}

#[test]
fn whoever_signs_wrongly_is_refused() {
    let server = Server::start();
    server.client.put(BUCKET, "k", b"abc").unwrap();
    let status = |signing| server.ask("GET", "k", Ask { signing, ..Ask::new("", "") }).status;
    assert_eq!(status(Signing::WrongSecret), 403);
    assert_eq!(status(Signing::Stale(3600)), 403);
    assert_eq!(status(Signing::Anonymous), 403);
    let address = server.address.to_string();
    let stranger = Client::new(&address, keys(("AKNOBODY", "secret-of-ada")));
    let answer = stranger.request(&Ask::new("GET", "/")).unwrap();
    assert_eq!(answer.elements("Code"), ["InvalidAccessKeyId"]);
}

#[test]
fn a_body_that_is_not_the_signed_one_is_not_stored() {
    let server = Server::start();
    let (signed, sent) = (noise(100_000), noise(100_001)[1..].to_vec());
    let answer = server.raw_put("k", &sigv4::sha256(&signed), &[], "", &sent);
    assert!(answer.contains("XAmzContentSHA256Mismatch"), "{answer}");
    assert_eq!(server.client.get(BUCKET, "k").unwrap(), None);
}

#[test]
fn a_header_that_nobody_signed_is_refused() {
    let server = Server::start();
    let unsigned = "x-amz-meta-evil: 1\r\n";
    let answer = server.raw_put("k", sigv4::UNSIGNED, &[], unsigned, b"abc");
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("not signed"), "{answer}");
    assert_eq!(server.client.get(BUCKET, "k").unwrap(), None);
}

#[test]
fn a_body_cut_short_is_nothing() {
    let server = Server::start();
    let path = format!("/{BUCKET}/k");
    let time = SystemTime::now();
    let headers = [
        ("host".to_owned(), server.address.to_string()),
        ("x-amz-content-sha256".to_owned(), sigv4::UNSIGNED.to_owned()),
        ("x-amz-date".to_owned(), sigv4::timestamp(time)),
    ];
    let payload = sigv4::UNSIGNED;
    let parts = Parts { method: "PUT", path: &path, query: &[], headers: &headers, payload, time };
    let signature = sigv4::sign(&keys(ADA), &parts);
    let lines: String = headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
    let authorization = sigv4::authorization(&keys(ADA), &signature);
    let head = format!(
        "PUT {path} HTTP/1.1\r\n{lines}authorization: {authorization}\r\n\
         content-length: 1000000\r\n\r\n"
    );
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&noise(500_000)).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("IncompleteBody"), "{answer}");
    assert_eq!(server.client.get(BUCKET, "k").unwrap(), None);
}

#[test]
fn somebody_elses_bucket_is_closed() {
    let server = Server::start();
    server.client.put(BUCKET, "k", b"abc").unwrap();
    let bob = Client::new(&server.address.to_string(), keys(BOB));
    let path = format!("/{BUCKET}/k");
    let status = |method: &str, path: &str, body| {
        bob.request(&Ask { body, ..Ask::new(method, path) }).unwrap().status
    };
    assert_eq!(status("GET", &path, None), 403);
    assert_eq!(status("PUT", &path, Some(&b"x"[..])), 403);
    assert_eq!(status("DELETE", &path, None), 403);
    assert_eq!(status("GET", &format!("/{BUCKET}"), None), 403);
    assert_eq!(status("PUT", &format!("/{BUCKET}"), Some(&b""[..])), 409);
    assert_eq!(server.client.get(BUCKET, "k").unwrap().unwrap(), b"abc");
}

#[test]
fn buckets_come_and_go() {
    let server = Server::start();
    server.client.create_bucket("another").unwrap();
    let ask = |method: &str, path: &str| server.client.request(&Ask::new(method, path)).unwrap();
    assert_eq!(ask("GET", "/").elements("Name"), ["another", BUCKET]);
    server.client.put("another", "k", b"abc").unwrap();
    assert_eq!(ask("DELETE", "/another").elements("Code"), ["BucketNotEmpty"]);
    server.client.delete("another", "k").unwrap();
    assert_eq!(ask("DELETE", "/another").status, 204);
    assert_eq!(ask("DELETE", "/another").elements("Code"), ["NoSuchBucket"]);
    assert_eq!(ask("HEAD", "/another").status, 404);
    assert_eq!(ask("HEAD", &format!("/{BUCKET}")).status, 200);
}

#[test]
fn pages_of_a_listing_hold_everything_once() {
    let server = Server::start();
    let mut keys: Vec<_> = (0..25).map(|n| format!("d{}/f{n:02}", n % 4)).collect();
    keys.extend((0..7).map(|n| format!("top{n}")));
    keys.sort();
    keys.iter().for_each(|key| drop(server.client.put(BUCKET, key, b"").unwrap()));
    let walk = |size: &str, delimiter: &str| {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let mut query = vec![("list-type", "2"), ("max-keys", size)];
            let more = [("delimiter", delimiter), ("continuation-token", &*token)];
            query.extend(more.into_iter().filter(|(_, value)| !value.is_empty()));
            let page = server.list(&query);
            found.extend(page.elements("Key"));
            // The first of them repeats what was asked for.
            found.extend(page.elements("Prefix").into_iter().filter(|prefix| !prefix.is_empty()));
            match page.elements("NextContinuationToken").pop() {
                Some(next) => token = next,
                None => break,
            }
        }
        found.sort();
        found
    };
    let mut rolled: Vec<_> = (0..4).map(|n| format!("d{n}/")).collect();
    rolled.extend((0..7).map(|n| format!("top{n}")));
    for size in ["1", "2", "7", "1000"] {
        assert_eq!(walk(size, ""), keys);
        assert_eq!(walk(size, "/"), rolled);
    }
}

#[test]
fn listings_take_their_parameters_seriously() {
    let server = Server::start();
    for key in ["a b", "a/1", "a/2", "b"] {
        server.client.put(BUCKET, key, b"x").unwrap();
    }
    let keys = |query: &[(&str, &str)]| server.list(query).elements("Key");
    assert_eq!(keys(&[("prefix", "a/")]), ["a/1", "a/2"]);
    assert_eq!(keys(&[("list-type", "2"), ("start-after", "a/1")]), ["a/2", "b"]);
    assert_eq!(keys(&[("marker", "a/1")]), ["a/2", "b"]);
    assert_eq!(keys(&[("delimiter", "/"), ("marker", "a/")]), ["b"]);
    assert_eq!(keys(&[("encoding-type", "url"), ("prefix", "a ")]), ["a%20b"]);
    let none = server.list(&[("list-type", "2"), ("max-keys", "0")]);
    assert_eq!(
        (none.elements("Key").len(), none.elements("IsTruncated")),
        (0, vec!["false".into()])
    );
    let status = |query: &[(&str, &str)]| server.list(query).status;
    assert_eq!(status(&[("max-keys", "-1")]), 400);
    assert_eq!(status(&[("encoding-type", "rot13")]), 400);
    assert_eq!(status(&[("list-type", "2"), ("continuation-token", "%%%")]), 400);
}

#[test]
fn many_objects_go_at_once() {
    let server = Server::start();
    for key in ["a", "b", "c"] {
        server.client.put(BUCKET, key, b"x").unwrap();
    }
    let body = b"<Delete><Object><Key>a</Key></Object><Object><Key>c</Key></Object>\
                 <Object><Key>never</Key></Object></Delete>";
    let path = format!("/{BUCKET}");
    let ask = Ask { query: &[("delete", "")], body: Some(body), ..Ask::new("POST", &path) };
    let answer = server.client.request(&ask).unwrap();
    assert_eq!((answer.status, answer.elements("Key").len()), (200, 3));
    assert_eq!(server.client.keys(BUCKET).unwrap(), ["b"]);
    let ask = Ask { body: Some(b"<Delete>"), ..ask };
    assert_eq!(server.client.request(&ask).unwrap().status, 400);
}

#[test]
fn what_is_not_served_says_so() {
    let server = Server::start();
    let path = format!("/{BUCKET}");
    let status = |query: &[(&str, &str)]| {
        server.client.request(&Ask { query, ..Ask::new("GET", &path) }).unwrap().status
    };
    assert_eq!(status(&[("accelerate", "")]), 501);
    assert_eq!(status(&[("website", "")]), 501);
    assert_eq!(server.put("k", &[("x-amz-server-side-encryption", "AES256")], b"x").status, 501);
    assert_eq!(server.put("k", &[("x-amz-storage-class", "GLACIER")], b"x").status, 501);
    assert_eq!(server.put("k", &[("x-amz-acl", "aws-exec-read")], b"x").status, 501);
    assert_eq!(server.client.get(BUCKET, "k").unwrap(), None);
}

#[test]
fn rubbish_is_answered_and_forgotten() {
    let server = Server::start();
    let long = [b"GET / HTTP/1.1\r\nHost: h\r\nA: ".to_vec(), vec![b'x'; 70_000]].concat();
    let all: [&[u8]; 6] = [
        b"\x00\xff\xfe\x80 garbage \r\n\r\n",
        b"GET /%zz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        b"PUT /b/k HTTP/1.1\r\nHost: h\r\nAuthorization: AWS4-HMAC-SHA256 x\r\n\
          Connection: close\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0",
        &long,
    ];
    for bytes in all {
        let answer = talk(server.address, bytes);
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    server.client.put(BUCKET, "k", b"still here").unwrap();
}
