//! Uploads by HTML forms, as a browser sends them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use common::{ADA, BUCKET, Server, keys, noise};
use std::time::{Duration, SystemTime};
use tests::s3::{Answer, Ask, Signing};
use tests::sigv4;

/// A form in the making.
struct Form {
    fields: Vec<(String, String)>,
    file: Vec<u8>,
}

impl Form {
    fn new(file: &[u8]) -> Form {
        Form { fields: Vec::new(), file: file.to_vec() }
    }

    fn with(mut self, name: &str, value: &str) -> Form {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Signed with a policy of these conditions beside those that every form needs.
    fn signed(self, conditions: &str, ago: Duration) -> Form {
        let time = SystemTime::now() - ago;
        let date = sigv4::timestamp(time);
        let (access, _) = ADA;
        let credential = format!("{access}/{}/{}/s3/aws4_request", &date[..8], sigv4::REGION);
        let policy = format!(
            r#"{{"expiration": "2999-01-01T00:00:00.000Z", "conditions": [{conditions}
            {{"bucket": "{BUCKET}"}}, {{"x-amz-algorithm": "AWS4-HMAC-SHA256"}},
            {{"x-amz-credential": "{credential}"}}, {{"x-amz-date": "{date}"}}]}}"#
        );
        let policy = BASE64_STANDARD.encode(policy);
        let signature = sigv4::sign_policy(&keys(ADA), &policy, time);
        self.with("X-Amz-Algorithm", "AWS4-HMAC-SHA256")
            .with("X-Amz-Credential", &credential)
            .with("X-Amz-Date", &date)
            .with("Policy", &policy)
            .with("X-Amz-Signature", &signature)
    }

    fn send(&self, server: &Server) -> Answer {
        let mut body = Vec::new();
        for (name, value) in &self.fields {
            let head = "--edge\r\nContent-Disposition: form-data; name=";
            body.extend(format!("{head}\"{name}\"\r\n\r\n{value}\r\n").into_bytes());
        }
        let head =
            "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"cat.jpg\"\r\n";
        body.extend(format!("{head}Content-Type: image/jpeg\r\n\r\n").into_bytes());
        body.extend(&self.file);
        body.extend(b"\r\n--edge--\r\n");
        let path = format!("/{BUCKET}");
        let headers = [("content-type", "multipart/form-data; boundary=edge")];
        let signing = Signing::Anonymous;
        let ask = Ask { headers: &headers, body: Some(&body), signing, ..Ask::new("POST", &path) };
        server.client.request(&ask).unwrap()
    }
}

const KEYS: &str = r#"["starts-with", "$key", "in/"],"#;
const NOW: Duration = Duration::ZERO;

#[test]
fn a_signed_form_stores_its_file() {
    let server = Server::start();
    for size in [0, 1, 8192, 8193, 1_000_000] {
        let file = noise(size);
        let conditions = r#"["starts-with", "$key", "in/"], {"x-amz-meta-colour": "blau & grün"},
            ["eq", "$Content-Type", "image/jpeg"], ["content-length-range", 0, 1000000],"#;
        let form = Form::new(&file)
            .with("key", "in/${filename}")
            .with("Content-Type", "image/jpeg")
            .with("x-amz-meta-colour", "blau & grün")
            .signed(conditions, NOW);
        let answer = form.send(&server);
        assert_eq!((answer.status, answer.text().as_str()), (204, ""), "{size}");
        assert!(server.client.get(BUCKET, "in/cat.jpg").unwrap().unwrap() == file, "{size}");
    }
    let got = server.ask("HEAD", "in/cat.jpg", Ask::new("", ""));
    assert_eq!(got.header("content-type"), "image/jpeg");
    assert_eq!(got.header("x-amz-meta-colour"), "=?UTF-8?B?YmxhdSAmIGdyw7xu?=");
}

#[test]
fn a_form_says_what_its_file_sums_up_to() {
    let server = Server::start();
    let put = |sum: &str| {
        let conditions = format!("{KEYS} {{\"x-amz-checksum-xxhash64\": \"{sum}\"}},");
        let form = Form::new(b"Hello world").with("key", "in/a");
        form.with("x-amz-checksum-xxhash64", sum).signed(&conditions, NOW).send(&server)
    };
    assert_eq!(put("AAAAAAAAAAA=").elements("Code"), ["BadDigest"]);
    let stored = put("xQCwyRKzdtg=");
    assert_eq!((stored.status, stored.header("x-amz-checksum-xxhash64")), (204, "xQCwyRKzdtg="));
}

#[test]
fn a_form_may_be_signed_long_before_it_is_sent() {
    let server = Server::start();
    let form = Form::new(b"x").with("key", "in/a").signed(KEYS, Duration::from_secs(86_400));
    assert_eq!(form.send(&server).status, 204);
}

#[test]
fn a_form_says_how_it_is_answered() {
    let server = Server::start();
    let form = |name: &str, value: &str| {
        let conditions = format!(r#"{KEYS} {{"{name}": "{value}"}},"#);
        let form = Form::new(b"abc").with("key", "in/a b").with(name, value);
        form.signed(&conditions, NOW).send(&server)
    };
    let created = form("success_action_status", "201");
    assert_eq!(created.status, 201);
    assert_eq!(created.elements("Key"), ["in/a b"]);
    assert_eq!(created.elements("ETag"), ["\"900150983cd24fb0d6963f7d28e17f72\""]);
    assert!(created.elements("Location")[0].ends_with("/bucket/in/a%20b"), "{}", created.text());
    assert_eq!(form("success_action_status", "200").status, 200);
    assert_eq!(form("success_action_status", "500").status, 204);
    // The client follows redirections, to where nobody is.
    let path = format!("http://{}/nowhere", server.address);
    assert_eq!(form("success_action_redirect", &path).elements("Code"), ["NoSuchBucket"]);
    assert_eq!(form("success_action_redirect", "javascript:x").status, 204);
}

#[test]
fn what_the_policy_does_not_say_is_not_done() {
    let server = Server::start();
    let code = |form: Form| {
        let answer = form.send(&server);
        (answer.status, answer.elements("Code").pop().unwrap_or_default())
    };
    let denied = (403, "AccessDenied".to_owned());
    let small = |key: &str| Form::new(b"abcd").with("key", key);
    assert_eq!(code(small("out/a").signed(KEYS, NOW)), denied);
    assert_eq!(code(small("in/a").with("acl", "public-read").signed(KEYS, NOW)), denied);
    let ranged = |range: &str| {
        let conditions = format!(r#"{KEYS} ["content-length-range", {range}],"#);
        code(small("in/a").signed(&conditions, NOW))
    };
    assert_eq!(ranged("1, 3"), (400, "EntityTooLarge".to_owned()));
    assert_eq!(ranged("5, 9"), (400, "EntityTooSmall".to_owned()));
    let mut forged = small("in/a").signed(KEYS, NOW);
    forged.fields.last_mut().unwrap().1 = "00".repeat(32);
    assert_eq!(code(forged), (403, "SignatureDoesNotMatch".to_owned()));
    let mut nobody = small("in/a").signed(KEYS, NOW);
    nobody.fields[2].1 = nobody.fields[2].1.replace("AKADA", "AKNONE");
    assert_eq!(code(nobody), (403, "InvalidAccessKeyId".to_owned()));
    let version_2 = small("in/a").with("AWSAccessKeyId", "AKADA").with("signature", "x");
    assert_eq!(code(version_2), (400, "InvalidRequest".to_owned()));
    assert_eq!(code(small("in/a")), denied);
    assert_eq!(code(Form::new(b"x").signed("", NOW)), (400, "InvalidArgument".to_owned()));
    let large = small("in/a").with("x-ignore-all", &"x".repeat(30_000)).signed(KEYS, NOW);
    assert_eq!(code(large), (400, "MaxPostPreDataLengthExceeded".to_owned()));
    assert_eq!(server.client.keys(BUCKET).unwrap(), Vec::<String>::new());
}

#[test]
fn a_form_that_would_copy_copies_nothing() {
    let server = Server::start();
    server.client.put(BUCKET, "secret", b"secret").unwrap();
    let conditions = format!(r#"{KEYS} {{"x-amz-copy-source": "/{BUCKET}/secret"}},"#);
    let form = Form::new(b"mine").with("key", "in/a").with("x-amz-copy-source", "/bucket/secret");
    assert_eq!(form.signed(&conditions, NOW).send(&server).status, 204);
    assert_eq!(server.client.get(BUCKET, "in/a").unwrap().unwrap(), b"mine");
}
