//! Uploads in parts, end to end.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{BOB, BUCKET, Server, keys, noise};
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
    let all: Vec<u8> = parts.iter().flat_map(|part| Md5::digest(part)).collect();
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

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
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
