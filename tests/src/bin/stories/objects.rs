//! Stories of objects over S3.

use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tests::appliance::Appliance;
use tests::load::content;
use tests::s3::{Answer, Ask, Client, Signing};

/// Nothing, inline, both sides of any threshold, and several pages of a file.
const SIZES: [usize; 6] = [0, 1, 4_000, 16_384, 70_000, 3 << 20];

fn query<'a>(path: &'a str, query: &'a [(&'a str, &'a str)]) -> Ask<'a> {
    Ask { query, ..Ask::new("GET", path) }
}

fn contains(list: &[String], expected: &[&str]) -> Result<()> {
    ensure!(list == expected, "{list:?} instead of {expected:?}");
    Ok(())
}

pub fn put_list_get(a: &Appliance) -> Result<()> {
    let s3 = &a.s3;
    s3.create_bucket("things")?;
    s3.request(&Ask::new("HEAD", "/things"))?.expect(200)?;
    s3.request(&Ask::new("HEAD", "/no-things"))?.expect(404)?;
    let buckets = s3.request(&Ask::new("GET", "/"))?.expect(200)?.elements("Name");
    ensure!(buckets.iter().any(|name| name == "things"), "{buckets:?}");

    for size in SIZES {
        let (key, body) = (format!("sizes/{size}"), content(size as u64, size));
        let tag = s3.put("things", &key, &body)?;
        ensure!(s3.get("things", &key)?.as_deref() == Some(&body[..]), "{key} has changed");
        let head = s3.request(&Ask::new("HEAD", &format!("/things/{key}")))?.expect(200)?;
        ensure!(head.header("content-length") == size.to_string(), "{key}: {:?}", head.headers);
        ensure!(head.header("etag") == tag && !tag.is_empty(), "{key}: {:?}", head.headers);
    }
    for key in ["a", "a/b", "a b+c&d", "\u{e9}\u{1f41f}", "z"] {
        s3.put("things", key, key.as_bytes())?;
        ensure!(s3.get("things", key)?.as_deref() == Some(key.as_bytes()), "{key} has changed");
    }
    lists(s3)?;
    deletes(s3)
}

fn lists(s3: &Client) -> Result<()> {
    let all = ["a", "a b+c&d", "a/b"].map(str::to_owned);
    let page =
        s3.request(&query("/things", &[("list-type", "2"), ("prefix", "a")]))?.expect(200)?;
    contains(&page.elements("Key"), &all.each_ref().map(String::as_str))?;
    let folded = [("list-type", "2"), ("delimiter", "/")];
    let page = s3.request(&query("/things", &folded))?.expect(200)?;
    contains(&page.elements("Key"), &["a", "a b+c&d", "z", "\u{e9}\u{1f41f}"])?;
    ensure!(page.text().contains("<Prefix>sizes/</Prefix>"), "no common prefix: {}", page.text());
    let old = [("max-keys", "2"), ("marker", "a b+c&d")];
    let page = s3.request(&query("/things", &old))?.expect(200)?;
    contains(&page.elements("Key"), &["a/b", "sizes/0"])?;
    contains(&page.elements("IsTruncated"), &["true"])?;
    let two = [("list-type", "2"), ("max-keys", "2")];
    let page = s3.request(&query("/things", &two))?.expect(200)?;
    let token = page.elements("NextContinuationToken").pop().context("no token")?;
    let next = [("list-type", "2"), ("max-keys", "2"), ("continuation-token", &token)];
    let page = s3.request(&query("/things", &next))?.expect(200)?;
    contains(&page.elements("Key"), &["a/b", "sizes/0"])
}

fn deletes(s3: &Client) -> Result<()> {
    s3.request(&Ask::new("DELETE", "/things"))?.expect(409)?;
    s3.delete("things", "a")?;
    ensure!(s3.get("things", "a")?.is_none(), "a is still there");
    s3.delete("things", "a").context("deleting what is gone")?;
    let keys = s3.keys("things")?;
    let list: String = keys
        .iter()
        .map(|key| format!("<Object><Key>{}</Key></Object>", key.replace('&', "&amp;")))
        .collect();
    let body = format!("<Delete>{list}</Delete>");
    let ask = Ask { body: Some(body.as_bytes()), ..Ask::new("POST", "/things") };
    let deleted = s3.request(&Ask { query: &[("delete", "")], ..ask })?.expect(200)?;
    ensure!(deleted.elements("Key").len() == keys.len(), "{}", deleted.text());
    contains(&s3.keys("things")?, &[])?;
    s3.request(&Ask::new("DELETE", "/things"))?.expect(204)?;
    s3.request(&Ask::new("HEAD", "/things"))?.expect(404)?;
    Ok(())
}

pub fn ranges_and_conditions(a: &Appliance) -> Result<()> {
    a.s3.create_bucket("parts")?;
    for (key, size) in [("small", 3_000), ("large", 300_000)] {
        let body = content(5, size);
        let tag = a.s3.put("parts", key, &body)?;
        let path = format!("/parts/{key}");
        let get = |name, value: &str| {
            a.s3.request(&Ask { headers: &[(name, value)], ..Ask::new("GET", &path) })
        };
        let part = |answer: Answer, from: usize, to: usize| {
            let answer = answer.expect(206)?;
            ensure!(answer.body == body[from..to], "{key}: wrong bytes for {from}..{to}");
            let range = format!("bytes {from}-{}/{size}", to - 1);
            ensure!(answer.header("content-range") == range, "{:?}", answer.headers);
            Ok(())
        };
        part(get("range", "bytes=0-9")?, 0, 10)?;
        part(get("range", "bytes=100-2099")?, 100, 2_100)?;
        part(get("range", "bytes=-7")?, size - 7, size)?;
        part(get("range", "bytes=2990-999999999")?, 2_990, size)?;
        get("range", &format!("bytes={size}-"))?.expect(416)?;
        get("if-match", &tag)?.expect(200)?;
        get("if-match", "\"other\"")?.expect(412)?;
        get("if-none-match", &tag)?.expect(304)?;
        get("if-none-match", "\"other\"")?.expect(200)?;
        get("if-modified-since", "Wed, 01 Jan 2098 00:00:00 GMT")?.expect(304)?;
        get("if-unmodified-since", "Wed, 01 Jan 2020 00:00:00 GMT")?.expect(412)?;
    }
    Ok(())
}

pub fn signing(a: &Appliance) -> Result<()> {
    let s3 = &a.s3;
    s3.create_bucket("signed")?;
    let body = content(9, 100_000);
    let put = |signing| Ask { body: Some(&body), signing, ..Ask::new("PUT", "/signed/key") };
    let get = |signing| Ask { signing, ..Ask::new("GET", "/signed/key") };
    for signing in [Signing::Signed, Signing::Unsigned, Signing::Chunks(8_192), Signing::Presigned]
    {
        s3.delete("signed", "key")?;
        s3.request(&put(signing))?.expect(200).with_context(|| format!("PUT {signing:?}"))?;
        let read = if let Signing::Chunks(_) = signing { Signing::Signed } else { signing };
        let answer = s3.request(&get(read))?.expect(200).with_context(|| format!("{read:?}"))?;
        ensure!(answer.body == body, "{signing:?}: the object has changed");
    }
    for signing in [Signing::WrongSecret, Signing::Anonymous, Signing::Stale(3_600)] {
        for ask in [put(signing), get(signing), Ask { signing, ..Ask::new("GET", "/signed") }] {
            let answer = s3.request(&ask)?;
            let (method, status) = (ask.method, answer.status);
            ensure!(status == 403, "{method} {signing:?}: {status}: {}", answer.text());
        }
    }
    Ok(())
}

pub fn malformed(a: &Appliance) -> Result<()> {
    let send = |request: &[u8]| -> Result<String> {
        let stream = TcpStream::connect(("127.0.0.1", a.ports[0]))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        (&stream).write_all(request)?;
        let mut answer = [0; 12];
        (&stream).read_exact(&mut answer).context("no answer")?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let requests: [&[u8]; 4] = [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"PUT /b/k HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\n",
        b"PUT /b/k HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
    ];
    for request in requests {
        let answer = send(request)?;
        let request = String::from_utf8_lossy(request);
        ensure!(answer == "HTTP/1.1 400", "{request:?} is answered with {answer:?}");
    }
    let delete = Ask { body: Some(b"<Delete><Obj"), ..Ask::new("POST", "/kept") };
    a.s3.request(&Ask { query: &[("delete", "")], ..delete })?.expect(400)?;
    Ok(())
}
