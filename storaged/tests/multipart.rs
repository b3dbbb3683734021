//! Uploads in parts, end to end.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{BOB, BUCKET, Server, eventually, keys, noise};
use md5::{Digest, Md5};
use tests::s3::{Answer, Ask, Client};

/// The least that a part which is not the last may have.
const PART: usize = 5 << 20;

/// An upload on its way.
struct Upload<'a> {
    server: &'a Server,
    key: &'static str,
    id: String,
}

fn begin<'a>(server: &'a Server, key: &'static str, headers: &[(&str, &str)]) -> Upload<'a> {
    let answer = server.ask("POST", key, Ask { headers, query: &[("uploads", "")], ..empty() });
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = answer.elements("UploadId").pop().unwrap();
    Upload { server, key, id }
}

fn empty<'a>() -> Ask<'a> {
    Ask { body: Some(b""), ..Ask::new("", "") }
}

impl Upload<'_> {
    fn ask(
        &self,
        method: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut all = vec![("uploadId", &*self.id)];
        all.extend(query);
        let ask = Ask { query: &all, headers, body: Some(body), ..Ask::new("", "") };
        self.server.ask(method, self.key, ask)
    }

    fn part_with(&self, number: u32, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.ask("PUT", &[("partNumber", &number.to_string())], headers, body)
    }

    /// Its entity tag.
    fn part(&self, number: u32, body: &[u8]) -> String {
        let answer = self.part_with(number, &[], body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.header("etag").to_owned()
    }

    fn complete_with(&self, parts: &[(u32, &str)], headers: &[(&str, &str)]) -> Answer {
        let parts = parts.iter().map(|(number, etag)| {
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
        });
        self.complete_list(&parts.collect::<String>(), headers)
    }

    fn complete_list(&self, parts: &str, headers: &[(&str, &str)]) -> Answer {
        let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        self.ask("POST", &[], headers, body.as_bytes())
    }

    fn complete(&self, parts: &[(u32, &str)]) -> Answer {
        self.complete_with(parts, &[])
    }

    fn abort(&self) -> Answer {
        self.ask("DELETE", &[], &[], b"")
    }

    fn numbers(&self) -> Vec<String> {
        self.ask("GET", &[], &[], b"").elements("PartNumber")
    }

    fn object(&self) -> Option<Vec<u8>> {
        self.server.client.get(BUCKET, self.key).unwrap()
    }
}

fn code(answer: &Answer) -> (u16, String) {
    (answer.status, answer.elements("Code").pop().unwrap_or_default())
}

fn etag_of(parts: &[&[u8]]) -> String {
    let all: Vec<u8> = parts.iter().flat_map(Md5::digest).collect();
    let hex: String = Md5::digest(all).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}-{}\"", parts.len())
}

/// The file that an object of this bucket is, and those of uploads.
fn files_below(server: &Server, name: &str) -> usize {
    fn count(path: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
        entries
            .map(|entry| if entry.file_type().unwrap().is_dir() { count(&entry.path()) } else { 1 })
            .sum()
    }
    count(&server.data().join(name))
}

#[test]
fn parts_become_one_object_whatever_order_they_came_in() {
    let server = Server::start();
    let said = [("content-type", "text/x-test"), ("x-amz-meta-colour", "blue")];
    let upload = begin(&server, "dir/a b", &said);
    let bytes = noise(2 * PART + 1_000);
    let (one, two, three) = (&bytes[..PART], &bytes[PART..2 * PART], &bytes[2 * PART..]);
    let last = upload.part(3, three);
    let (first, second) = (upload.part(1, one), upload.part(2, two));
    assert_eq!(upload.object(), None);
    let done = upload.complete(&[(1, &first), (2, &second), (3, &last)]);
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(done.elements("ETag"), [etag_of(&[one, two, three])]);
    assert_eq!(done.elements("Key"), ["dir/a b"]);
    assert!(upload.object().unwrap() == bytes);
    let got = server.ask("HEAD", "dir/a b", Ask::new("", ""));
    assert_eq!(got.header("etag"), etag_of(&[one, two, three]));
    assert_eq!(got.header("content-type"), "text/x-test");
    assert_eq!(got.header("x-amz-meta-colour"), "blue");
    assert_eq!(got.header("content-length"), bytes.len().to_string());
    let ranged = server.get("dir/a b", &[("range", "bytes=5242870-5242889")]);
    assert_eq!(ranged.body, bytes[5_242_870..5_242_890]);
    eventually("the upload's files go", || files_below(&server, "uploads") == 0);
    assert_eq!(files_below(&server, "objects"), 1);
}

#[test]
fn wrong_lists_are_refused_and_change_nothing() {
    let server = Server::start();
    let upload = begin(&server, "k", &[]);
    let bytes = noise(PART + 10);
    let (small, one) = (upload.part(2, &bytes[..10]), upload.part(1, &bytes[..PART]));
    let last = upload.part(3, &bytes[PART..]);
    let refused = |parts: &[(u32, &str)]| code(&upload.complete(parts));
    assert_eq!(refused(&[(2, &small), (1, &one)]), (400, "InvalidPartOrder".to_owned()));
    assert_eq!(refused(&[(1, &one), (1, &one)]), (400, "InvalidPartOrder".to_owned()));
    assert_eq!(refused(&[(1, &small)]), (400, "InvalidPart".to_owned()));
    assert_eq!(refused(&[(1, &one), (7, &one)]), (400, "InvalidPart".to_owned()));
    assert_eq!(refused(&[(1, &one), (2, &small), (3, &last)]), (400, "EntityTooSmall".to_owned()));
    assert_eq!(refused(&[]), (400, "MalformedXML".to_owned()));
    assert_eq!(code(&upload.complete_list("<Part><ETag>x</ETag></Part>", &[])).0, 400);
    let size = [("x-amz-mp-object-size", "5")];
    let wrong = upload.complete_with(&[(1, &one)], &size);
    assert_eq!(code(&wrong), (400, "InvalidRequest".to_owned()));
    assert_eq!(upload.numbers(), ["1", "2", "3"]);
    assert_eq!(upload.complete(&[(1, &one), (3, &last)]).status, 200);
    assert!(upload.object().unwrap() == bytes, "a part that is left out leaves no gap");
}

#[test]
fn numbers_and_uploads_that_are_none_are_refused() {
    let server = Server::start();
    let upload = begin(&server, "k", &[]);
    let number = |number: &str| code(&upload.ask("PUT", &[("partNumber", number)], &[], b"x"));
    for wrong in ["0", "10001", "-1"] {
        assert_eq!(number(wrong), (400, "InvalidArgument".to_owned()), "{wrong}");
    }
    assert_eq!(number("10000").0, 200);
    for id in ["0000000000000001", "x", "00000000000000000"] {
        let none = Upload { server: &server, key: "k", id: id.to_owned() };
        let gone = (404, "NoSuchUpload".to_owned());
        assert_eq!(code(&none.part_with(1, &[], b"x")), gone);
        assert_eq!(code(&none.complete(&[(1, "\"00\"")])), gone);
        assert_eq!(code(&none.abort()), gone);
        assert_eq!(code(&none.ask("GET", &[], &[], b"")), gone);
    }
    // Of another key: an id alone opens nothing.
    let other = Upload { server: &server, key: "other", id: upload.id.clone() };
    assert_eq!(other.part_with(1, &[], b"x").status, 404);
    let bob = Client::new(&server.address.to_string(), keys(BOB));
    let path = format!("/{BUCKET}/k");
    let query = [("uploadId", &*upload.id), ("partNumber", "1")];
    let ask = Ask { query: &query, body: Some(b"x"), ..Ask::new("PUT", &path) };
    assert_eq!(bob.request(&ask).unwrap().status, 403);
}

#[test]
fn a_part_sent_again_replaces_and_one_that_fails_does_not() {
    let server = Server::start();
    let upload = begin(&server, "k", &[]);
    let bytes = noise(3 * PART);
    let (old, new) = (&bytes[..PART], &bytes[PART..2 * PART]);
    upload.part(1, old);
    let wrong = upload.part_with(1, &[("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")], new);
    assert_eq!(code(&wrong), (400, "BadDigest".to_owned()));
    let kept = upload.ask("GET", &[], &[], b"").elements("ETag");
    assert_eq!(kept.len(), 1);
    let second = upload.part(2, new);
    let again = upload.part(2, &bytes[2 * PART..]);
    assert_eq!(code(&upload.complete(&[(1, &kept[0]), (2, &second)])).1, "InvalidPart");
    assert_eq!(upload.complete(&[(1, &kept[0]), (2, &again)]).status, 200);
    assert!(upload.object().unwrap() == [old, &bytes[2 * PART..]].concat());
}

#[test]
fn an_aborted_upload_leaves_nothing() {
    let server = Server::start();
    let upload = begin(&server, "k", &[]);
    let tag = upload.part(1, &noise(PART));
    assert!(files_below(&server, "uploads") > 0);
    assert_eq!(upload.abort().status, 204);
    assert_eq!(code(&upload.abort()), (404, "NoSuchUpload".to_owned()));
    assert_eq!(upload.part_with(2, &[], b"x").status, 404);
    assert_eq!(upload.complete(&[(1, &tag)]).status, 404);
    eventually("the files go", || files_below(&server, "uploads") == 0);
    assert_eq!(upload.object(), None);
    assert!(server.list(&[("uploads", "")]).elements("UploadId").is_empty());
}

#[test]
fn who_completes_again_gets_the_same_answer() {
    let server = Server::start();
    let upload = begin(&server, "k", &[("x-amz-checksum-algorithm", "CRC64NVME")]);
    let tag = upload.part(1, b"123456789");
    let done = upload.complete(&[(1, &tag)]);
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(done.elements("ChecksumCRC64NVME"), ["rosUhgp5mIg="]);
    server.client.delete(BUCKET, "k").unwrap();
    let again = upload.complete(&[(1, &tag)]);
    assert_eq!((again.status, again.text()), (200, done.text()));
    assert_eq!(server.client.get(BUCKET, "k").unwrap(), None, "it is not made again");
    assert_eq!(upload.complete(&[(2, &tag)]).status, 404);
}

#[test]
fn conditions_are_for_the_object_and_a_refused_upload_lives_on() {
    let server = Server::start();
    let there = server.client.put(BUCKET, "k", b"abc").unwrap();
    let upload = begin(&server, "k", &[]);
    let tag = upload.part(1, b"new");
    let with =
        |name: &str, value: &str| code(&upload.complete_with(&[(1, &tag)], &[(name, value)]));
    assert_eq!(with("if-none-match", "*"), (412, "PreconditionFailed".to_owned()));
    assert_eq!(with("if-match", "\"00\""), (412, "PreconditionFailed".to_owned()));
    assert_eq!(server.client.get(BUCKET, "k").unwrap().unwrap(), b"abc");
    assert_eq!(with("if-match", &there).0, 200);
    assert_eq!(server.client.get(BUCKET, "k").unwrap().unwrap(), b"new");
    let upload = begin(&server, "none", &[]);
    let tag = upload.part(1, b"x");
    let missing = upload.complete_with(&[(1, &tag)], &[("if-match", "\"00\"")]);
    assert_eq!(code(&missing), (404, "NoSuchKey".to_owned()));
    assert_eq!(upload.complete_with(&[(1, &tag)], &[("if-none-match", "*")]).status, 200);
}

#[test]
fn parts_may_be_copied_from_objects() {
    let server = Server::start();
    let bytes = noise(PART + 5_000);
    let source = server.client.put(BUCKET, "a/source ü", &bytes).unwrap();
    server.client.put(BUCKET, "small", b"0123456789").unwrap();
    let upload = begin(&server, "k", &[]);
    let copy = |number: u32, source: &str, more: &[(&str, &str)]| {
        let mut headers = vec![("x-amz-copy-source", source)];
        headers.extend(more);
        upload.part_with(number, &headers, b"")
    };
    let from = format!("/{BUCKET}/a/source%20%C3%BC");
    let range = |range| [("x-amz-copy-source-range", range)];
    let first = copy(1, &from, &range("bytes=10-5242889"));
    assert_eq!(first.status, 200, "{}", first.text());
    let first = first.elements("ETag").pop().unwrap();
    let second = copy(2, &format!("{BUCKET}/small"), &range("bytes=2-4"));
    let second = second.elements("ETag").pop().unwrap();
    for wrong in ["bytes=0-9999999", "bytes=9-2", "bytes=-5", "bytes=5-", "0-4", "bytes=a-b"] {
        let answer = copy(3, &from, &range(wrong));
        assert_eq!(code(&answer), (400, "InvalidArgument".to_owned()), "{wrong}");
    }
    let missing = copy(3, &format!("{BUCKET}/none"), &[]);
    assert_eq!(code(&missing), (404, "NoSuchKey".to_owned()));
    let with = |name: &str, value: &str| copy(3, &from, &[(name, value)]).status;
    assert_eq!(with("x-amz-copy-source-if-match", "\"00\""), 412);
    assert_eq!(with("x-amz-copy-source-if-none-match", &source), 412);
    assert_eq!(with("x-amz-copy-source-if-match", &source), 200);
    let bob = Client::new(&server.address.to_string(), keys(BOB));
    bob.create_bucket("bobs-own").unwrap();
    bob.put("bobs-own", "secret", b"x").unwrap();
    assert_eq!(copy(4, "bobs-own/secret", &[]).status, 403);
    let done = upload.complete(&[(1, &first), (2, &second)]);
    assert_eq!(done.status, 200, "{}", done.text());
    assert!(upload.object().unwrap() == [&bytes[10..5_242_890], b"234"].concat());
}

#[test]
fn checksums_of_parts_make_that_of_the_object() {
    let server = Server::start();
    let bytes = noise(PART + 9);
    let (one, two) = bytes.split_at(PART);
    let body = |tags: [&str; 2], sums: [&str; 2]| {
        let part = |n: usize| {
            format!(
                "<Part><PartNumber>{}</PartNumber><ETag>{}</ETag><ChecksumCRC32>{}</ChecksumCRC32></Part>",
                n + 1,
                tags[n],
                sums[n]
            )
        };
        part(0) + &part(1)
    };
    for (kind, whole) in [("COMPOSITE", false), ("FULL_OBJECT", true)] {
        let said = [("x-amz-checksum-algorithm", "CRC32"), ("x-amz-checksum-type", kind)];
        let upload = begin(&server, "k", &said);
        let parts = [upload.part_with(1, &[], one), upload.part_with(2, &[], two)];
        let tags = [parts[0].header("etag"), parts[1].header("etag")];
        let sums = [0, 1].map(|n: usize| parts[n].header("x-amz-checksum-crc32"));
        assert_eq!(sums[0].len(), 8);
        let other = upload.part_with(
            3,
            &[("x-amz-checksum-sha1", "98O8HYCOBHMq32eZZczDTKeuNEE=")],
            b"123456789",
        );
        assert_eq!(code(&other), (400, "InvalidRequest".to_owned()));
        if !whole {
            let bare = upload.complete(&[(1, tags[0]), (2, tags[1])]);
            assert!(bare.text().contains("missing for part 1"), "{}", bare.text());
        }
        let wrong = upload.complete_list(&body(tags, [sums[1], sums[0]]), &[]);
        assert_eq!(code(&wrong), (400, "InvalidPart".to_owned()));
        let claim = [("x-amz-checksum-crc32", "AAAAAA==")];
        let wrong = upload.complete_list(&body(tags, sums), &claim);
        assert_eq!(code(&wrong), (400, "BadDigest".to_owned()));
        let done = upload.complete_list(&body(tags, sums), &[]);
        assert_eq!(done.status, 200, "{}", done.text());
        let value = done.elements("ChecksumCRC32").pop().unwrap();
        assert_eq!(done.elements("ChecksumType"), [kind]);
        assert_eq!(value.ends_with("-2"), !whole, "{value}");
        let mode = [("x-amz-checksum-mode", "ENABLED")];
        let head = server.ask("HEAD", "k", Ask { headers: &mode, ..Ask::new("", "") });
        assert_eq!(head.header("x-amz-checksum-crc32"), value);
        assert_eq!(head.header("x-amz-checksum-type"), kind);
        if whole {
            let stored = server.put("whole", &[("x-amz-checksum-crc32", &value)], &bytes);
            assert_eq!(stored.status, 200, "it is the checksum of all bytes");
        }
    }
}

#[test]
fn parts_are_listed_in_pages() {
    let server = Server::start();
    let upload = begin(&server, "k", &[]);
    for number in [1, 2, 3, 5, 9] {
        upload.part(number, &noise(number as usize));
    }
    let (mut found, mut marker) = (Vec::new(), "0".to_owned());
    loop {
        let page =
            upload.ask("GET", &[("max-parts", "2"), ("part-number-marker", &marker)], &[], b"");
        found.extend(page.elements("PartNumber"));
        assert_eq!(page.elements("MaxParts"), ["2"]);
        if page.elements("IsTruncated") == ["false"] {
            break;
        }
        marker = page.elements("NextPartNumberMarker").pop().unwrap();
    }
    assert_eq!(found, ["1", "2", "3", "5", "9"]);
    let sizes = upload.ask("GET", &[], &[], b"").elements("Size");
    assert_eq!(sizes, ["1", "2", "3", "5", "9"]);
    let wrong = upload.ask("GET", &[("max-parts", "-1")], &[], b"");
    assert_eq!(code(&wrong), (400, "InvalidArgument".to_owned()));
}

#[test]
fn uploads_are_listed_in_pages_each_once() {
    let server = Server::start();
    let names = ["a", "a", "a/b", "a/c", "b", "b/x", "b/x", "c"];
    let ids: Vec<_> = names.iter().map(|key| (*key, begin(&server, key, &[]).id)).collect();
    let walk = |max: &str, more: &[(&str, &str)]| {
        let (mut keys, mut prefixes) = (Vec::new(), Vec::new());
        let (mut key, mut id) = (String::new(), String::new());
        loop {
            let mut query = vec![("uploads", ""), ("max-uploads", max)];
            query.extend(more);
            query.extend(
                [("key-marker", &*key), ("upload-id-marker", &*id)]
                    .iter()
                    .filter(|(_, v)| !v.is_empty()),
            );
            let page = server.list(&query);
            assert_eq!(page.status, 200, "{query:?}: {}", page.text());
            let uploads = page.text();
            let uploads = uploads.split("<Upload>").skip(1);
            let of = |text: &str, name: &str| {
                let rest = text.split_once(&format!("<{name}>")).unwrap().1;
                rest.split_once('<').unwrap().0.to_owned()
            };
            keys.extend(uploads.map(|upload| (of(upload, "Key"), of(upload, "UploadId"))));
            let found = page.text();
            let found = found.split("<CommonPrefixes>").skip(1);
            prefixes.extend(found.map(|text| of(text, "Prefix")));
            if page.elements("IsTruncated") == ["false"] {
                return (keys, prefixes);
            }
            key = page.elements("NextKeyMarker").pop().unwrap();
            id = page.elements("NextUploadIdMarker").pop().unwrap_or_default();
        }
    };
    let all: Vec<_> = ids.iter().map(|(key, id)| ((*key).to_owned(), id.clone())).collect();
    for max in ["1", "2", "3", "1000"] {
        assert_eq!(walk(max, &[]), (all.clone(), vec![]), "{max}");
        let rolled: Vec<_> = all.iter().filter(|(key, _)| !key.contains('/')).cloned().collect();
        let (keys, prefixes) = walk(max, &[("delimiter", "/")]);
        assert_eq!((keys, prefixes), (rolled, vec!["a/".to_owned(), "b/".to_owned()]), "{max}");
        let below: Vec<_> = all.iter().filter(|(key, _)| key.starts_with("b/")).cloned().collect();
        assert_eq!(walk(max, &[("prefix", "b/")]).0, below);
    }
    let none = server.list(&[("uploads", ""), ("max-uploads", "0")]);
    assert_eq!(none.elements("IsTruncated"), ["false"]);
}

#[test]
fn many_at_once_and_the_same_part_twice_leave_one_whole_object() {
    let server = Server::start();
    let upload = begin(&server, "k", &[]);
    let bytes = noise(4 * PART + 77);
    let part = |number: usize| &bytes[number * PART..((number + 1) * PART).min(bytes.len())];
    std::thread::scope(|scope| {
        for number in [4, 0, 1, 2, 3, 1, 2] {
            let upload = &upload;
            scope.spawn(move || upload.part(number as u32 + 1, part(number)));
        }
    });
    let tags = upload.ask("GET", &[], &[], b"").elements("ETag");
    let list: Vec<_> = (1..).zip(tags.iter().map(|tag| &**tag)).collect();
    // Completed by two at once, while a part comes once more.
    let answers: Vec<_> = std::thread::scope(|scope| {
        let late = scope.spawn(|| upload.part_with(1, &[], part(0)).status);
        let asked: Vec<_> = (0..2).map(|_| scope.spawn(|| upload.complete(&list))).collect();
        let answers = asked.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!([200, 404, 409].contains(&late.join().unwrap()));
        answers
    });
    for answer in answers {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert!(upload.object().unwrap() == bytes);
    eventually("the upload's files go", || files_below(&server, "uploads") == 0);
}

#[test]
fn a_bucket_goes_with_its_uploads_but_not_with_objects() {
    let server = Server::start();
    server.client.create_bucket("going").unwrap();
    let query = [("uploads", "")];
    let ask = Ask { query: &query, body: Some(b""), ..Ask::new("POST", "/going/k") };
    let id = server.client.request(&ask).unwrap().elements("UploadId").pop().unwrap();
    let query = [("uploadId", &*id), ("partNumber", "1")];
    let ask = Ask { query: &query, body: Some(b"abc"), ..Ask::new("PUT", "/going/k") };
    assert_eq!(server.client.request(&ask).unwrap().status, 200);
    server.client.put("going", "o", b"x").unwrap();
    let remove = || server.client.request(&Ask::new("DELETE", "/going")).unwrap();
    assert_eq!(code(&remove()), (409, "BucketNotEmpty".to_owned()));
    assert_eq!(server.client.request(&ask).unwrap().status, 200, "the upload is still there");
    server.client.delete("going", "o").unwrap();
    assert_eq!(remove().status, 204);
    eventually("the upload's files go", || files_below(&server, "uploads") == 0);
    server.client.create_bucket("going").unwrap();
    assert_eq!(server.client.request(&ask).unwrap().status, 404);
}
