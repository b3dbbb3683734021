//! Every checksum that S3 has, wherever it goes in and comes out, end to end.

mod common;

use common::{BUCKET, Server, noise};
use storaged::s3::checksum::{Algorithm, composite};
use tests::s3::{Answer, Ask};

/// The least that a part which is not the last may have.
const PART: usize = 5 << 20;
const MODE: [(&str, &str); 1] = [("x-amz-checksum-mode", "ENABLED")];

fn header(algorithm: Algorithm) -> String {
    format!("x-amz-checksum-{}", algorithm.name())
}

fn element(algorithm: Algorithm) -> String {
    format!("Checksum{}", algorithm.name().to_uppercase())
}

fn code(answer: &Answer) -> (u16, String) {
    (answer.status, answer.elements("Code").pop().unwrap_or_default())
}

fn fine(answer: Answer) -> Answer {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

#[test]
fn each_is_verified_kept_shown_and_copied() {
    let server = Server::start();
    let large = noise(300_000);
    for algorithm in Algorithm::ALL {
        let name = header(algorithm);
        for body in [&b"123456789"[..], &large] {
            let sum = algorithm.sum(body);
            let wrong = server.put("other", &[(&name, &algorithm.sum(b"x"))], body);
            assert_eq!(code(&wrong), (400, "BadDigest".to_owned()), "{name}");
            assert_eq!(server.get("other", &[]).status, 404, "it is not stored");
            let short = server.put("other", &[(&name, "AA==")], body);
            assert_eq!(code(&short), (400, "InvalidRequest".to_owned()), "{name}");
            let put = fine(server.put("k", &[(&name, &sum)], body));
            assert_eq!(put.header(&name), sum);
            for method in ["GET", "HEAD"] {
                let got = server.ask(method, "k", Ask { headers: &MODE, ..Ask::new("", "") });
                let kind = got.header("x-amz-checksum-type");
                assert_eq!((got.header(&name), kind), (&*sum, "FULL_OBJECT"), "{method} {name}");
                let bare = server.ask(method, "k", Ask::new("", ""));
                assert_eq!(bare.header(&name), "", "nobody asked for it");
            }
            let ask = [("x-amz-object-attributes", "Checksum,ETag")];
            let ask = Ask { query: &[("attributes", "")], headers: &ask, ..Ask::new("", "") };
            let attributes = fine(server.ask("GET", "k", ask));
            assert_eq!(attributes.elements(&element(algorithm)), [&*sum], "{name}");
            let source = format!("{BUCKET}/k");
            let copied = fine(server.put("copy", &[("x-amz-copy-source", &source)], b""));
            assert_eq!(copied.elements(&element(algorithm)), [&*sum], "{name}");
            let listed = fine(server.list(&[("list-type", "2"), ("prefix", "copy")]));
            let upper = algorithm.name().to_uppercase();
            assert_eq!(listed.elements("ChecksumAlgorithm"), [upper.as_str()]);
            fine(server.put("plain", &[], body));
            let source = format!("{BUCKET}/plain");
            let asked = [("x-amz-copy-source", &*source), ("x-amz-checksum-algorithm", &upper)];
            let copied = fine(server.put("copy", &asked, b""));
            assert_eq!(copied.elements(&element(algorithm)), [&*sum], "{name}");
        }
    }
}

#[test]
fn each_may_come_behind_the_body() {
    let server = Server::start();
    const PAYLOAD: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
    for algorithm in Algorithm::ALL {
        let name = header(algorithm);
        let upper = algorithm.name().to_uppercase();
        let more = [
            ("content-encoding", "aws-chunked"),
            ("x-amz-decoded-content-length", "9"),
            ("x-amz-sdk-checksum-algorithm", &upper),
            ("x-amz-trailer", &name),
        ];
        let put = |sum: &str| {
            let body = format!("9\r\n123456789\r\n0\r\n{name}:{sum}\r\n\r\n");
            server.raw_put("k", PAYLOAD, &more, "", body.as_bytes())
        };
        let sum = algorithm.sum(b"123456789");
        let wrong = put(&algorithm.sum(b"12345678"));
        assert!(wrong.contains("<Code>BadDigest</Code>"), "{wrong}");
        let right = put(&sum);
        assert!(right.starts_with("HTTP/1.1 200 "), "{right}");
        let got = server.get("k", &MODE);
        assert_eq!((&got.body[..], got.header(&name)), (&b"123456789"[..], &*sum));
    }
    let unknown = server.put("k", &[("x-amz-checksum-md2", "AA==")], b"1");
    assert_eq!(code(&unknown), (400, "InvalidRequest".to_owned()));
}

#[test]
fn each_makes_a_composite_of_its_parts() {
    let server = Server::start();
    let bytes = noise(PART + 9);
    let (one, two) = bytes.split_at(PART);
    for algorithm in Algorithm::ALL.into_iter().filter(|a| *a != Algorithm::Crc64Nvme) {
        let (name, element) = (header(algorithm), element(algorithm));
        let upper = algorithm.name().to_uppercase();
        let said = [("x-amz-checksum-algorithm", &*upper)];
        let begun =
            Ask { query: &[("uploads", "")], headers: &said, body: Some(b""), ..Ask::new("", "") };
        let begun = fine(server.ask("POST", "k", begun));
        assert_eq!(begun.header("x-amz-checksum-type"), "COMPOSITE");
        let id = begun.elements("UploadId").pop().unwrap();
        let ask = |method: &str, more: (&str, &str), headers: &[(&str, &str)], body: &[u8]| {
            let query = [("uploadId", &*id), more];
            let ask = Ask { query: &query, headers, body: Some(body), ..Ask::new("", "") };
            server.ask(method, "k", ask)
        };
        let sums = [algorithm.sum(one), algorithm.sum(two)];
        let wrong = ask("PUT", ("partNumber", "2"), &[(&name, &sums[0])], two);
        assert_eq!(code(&wrong), (400, "BadDigest".to_owned()));
        let first = fine(ask("PUT", ("partNumber", "1"), &[(&name, &sums[0])], one));
        fine(server.put("source", &[], two));
        let source = format!("{BUCKET}/source");
        let second = fine(ask("PUT", ("partNumber", "2"), &[("x-amz-copy-source", &source)], b""));
        assert_eq!(first.header(&name), sums[0]);
        assert_eq!(second.elements(&element), [&*sums[1]], "{name}");
        let listed = fine(ask("GET", ("max-parts", "9"), &[], b""));
        assert_eq!(listed.elements(&element), sums);
        assert_eq!(listed.elements("ChecksumAlgorithm"), [upper.as_str()]);
        let tags = [first.header("etag").to_owned(), second.elements("ETag").pop().unwrap()];
        let list = |sums: [&str; 2]| {
            let part = |n: usize| {
                let (number, tag, sum) = (n + 1, &tags[n], sums[n]);
                format!(
                    "<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag><{element}>{sum}</{element}></Part>"
                )
            };
            format!("<CompleteMultipartUpload>{}{}</CompleteMultipartUpload>", part(0), part(1))
        };
        let complete = |list: String, headers: &[(&str, &str)]| {
            ask("POST", ("x-id", "CompleteMultipartUpload"), headers, list.as_bytes())
        };
        let wrong = complete(list([&sums[1], &sums[0]]), &[]);
        assert_eq!(code(&wrong), (400, "InvalidPart".to_owned()));
        let right = list([&sums[0], &sums[1]]);
        let wrong = complete(right.clone(), &[(&name, &sums[0])]);
        assert_eq!(code(&wrong), (400, "BadDigest".to_owned()));
        let whole = composite(algorithm, sums.iter().map(|sum| &**sum)).unwrap();
        let done = fine(complete(right, &[(&name, &whole)]));
        assert_eq!(done.elements(&element), [&*whole], "{name}");
        let head = server.ask("HEAD", "k", Ask { headers: &MODE, ..Ask::new("", "") });
        let kind = head.header("x-amz-checksum-type");
        assert_eq!((head.header(&name), kind), (&*whole, "COMPOSITE"));
        let part = Ask { query: &[("partNumber", "2")], headers: &MODE, ..Ask::new("", "") };
        assert_eq!(server.ask("HEAD", "k", part).header(&name), sums[1]);
        let wanted = [("x-amz-object-attributes", "Checksum,ObjectParts")];
        let wanted = Ask { query: &[("attributes", "")], headers: &wanted, ..Ask::new("", "") };
        let attributes = fine(server.ask("GET", "k", wanted));
        let expected = [&*whole, &sums[0], &sums[1]];
        assert_eq!(attributes.elements(&element), expected, "{name}");
    }
}

#[test]
fn each_vouches_for_a_document() {
    let server = Server::start();
    let tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    for algorithm in Algorithm::ALL {
        let name = header(algorithm);
        let put = |sum: &str| {
            let headers = [(&*name, sum)];
            let ask = Ask { query: &[("tagging", "")], headers: &headers, ..Ask::new("", "") };
            server.client.request(&Ask {
                method: "PUT",
                path: &format!("/{BUCKET}"),
                body: Some(tags),
                ..ask
            })
        };
        assert_eq!(put(&algorithm.sum(tags)).unwrap().status, 200, "{name}");
        assert_eq!(code(&put(&algorithm.sum(b"x")).unwrap()), (400, "BadDigest".to_owned()));
    }
}
