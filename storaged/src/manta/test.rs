//! Manta's port without a port: signed requests into the service, responses out of it.

use super::service;
use crate::accounts::Accounts;
use crate::committer::wait;
use crate::front::{FileRange, Service};
use crate::jobs::Jobs;
use crate::jobs::time::now_ms;
use crate::store::{AccountId, Area, Content, Durability, Metadata, ObjectPath, Options, Store};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as _;
use md5::{Digest, Md5};
use s3s::Body;
use sha2::Sha256;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;

const SECRET: &str = "secret-of-ann-0123456789";

struct Face {
    _directory: tempfile::TempDir,
    store: Store,
    jobs: Jobs,
    account: AccountId,
    service: Arc<dyn Service>,
}

/// An answer with its body.
struct Answer {
    response: Response<()>,
    body: Vec<u8>,
}

impl Answer {
    fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    fn header(&self, name: &str) -> &str {
        self.response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Status and code of an error.
    fn error(&self) -> (u16, String) {
        (self.status(), self.json()["code"].as_str().unwrap().to_owned())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 2104, for keys of at most a block.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(to, byte)| *to ^= byte);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

/// Signature Version 4 in headers, with the payload signed too.
fn sign(method: &str, target: &str, body: &[u8], key: &str, secret: &str) -> Request<Body> {
    let time: String =
        crate::jobs::time::rfc3339(now_ms()).chars().filter(|c| !"-:".contains(*c)).collect();
    let time = format!("{}Z", time.split('.').next().unwrap());
    let (day, payload) = (&time[..8], hex(&Sha256::digest(body)));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = format!("host:h\nx-amz-content-sha256:{payload}\nx-amz-date:{time}\n");
    let names = "host;x-amz-content-sha256;x-amz-date";
    let canonical = format!("{method}\n{path}\n{query}\n{headers}\n{names}\n{payload}");
    let scope = format!("{day}/us-east-1/s3/aws4_request");
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let key_of_day = hmac(format!("AWS4{secret}").as_bytes(), day.as_bytes());
    let parts = ["us-east-1", "s3", "aws4_request"];
    let signing = parts.iter().fold(key_of_day, |key, part| hmac(&key, part.as_bytes()));
    let signature = hex(&hmac(&signing, to_sign.as_bytes()));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, Signature={signature}"
    );
    Request::builder()
        .method(method)
        .uri(target)
        .header("host", "h")
        .header("x-amz-date", &time)
        .header("x-amz-content-sha256", &payload)
        .header("content-length", body.len())
        .header("x-request-id", "of-the-client")
        .header("authorization", authorization)
        .body(Body::from(Bytes::copy_from_slice(body)))
        .unwrap()
}

impl Face {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = Options {
            durability: Durability::None,
            kept_bytes: Some(0),
            ..Options::new(directory.path().join("data"))
        };
        let store = Store::open(options).unwrap();
        let given = serde_json::from_value(serde_json::json!({"account": [
            {"name": "ann", "access_key": "KEYOFANN00000000", "secret_key": SECRET},
            {"name": "bob", "access_key": "KEYOFBOB00000000", "secret_key": "secret-of-bob-0123456789"},
        ]}));
        let accounts = Accounts::enter(&store, given.unwrap()).unwrap();
        let account = accounts.by_name("ann").unwrap().id;
        let jobs = Jobs::open(store.clone()).unwrap();
        let service = service(jobs.clone(), Arc::new(accounts));
        Self { _directory: directory, store, jobs, account, service }
    }

    fn send(&self, request: Request<Body>) -> Answer {
        let (parts, mut body) = wait(self.service.call(request)).into_parts();
        let mut bytes = Vec::new();
        if let Some(range) = parts.extensions.get::<FileRange>() {
            let file = std::fs::File::from((*range.file).as_fd().try_clone_to_owned().unwrap());
            bytes.resize(range.length as usize, 0);
            file.read_exact_at(&mut bytes, range.offset).unwrap();
        }
        while let Some(frame) =
            wait(std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)))
        {
            bytes.extend(frame.unwrap().into_data().unwrap());
        }
        Answer { response: Response::from_parts(parts, ()), body: bytes }
    }

    fn call(&self, method: &str, target: &str, body: &str) -> Answer {
        self.send(sign(method, target, body.as_bytes(), "KEYOFANN00000000", SECRET))
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let path = ObjectPath::new(self.account, Area::Stor, path).unwrap();
        let meta =
            Metadata { etag: <[u8; 16]>::from(Md5::digest(bytes)).into(), ..Metadata::default() };
        let mut staging = wait(self.store.stage(None, None)).unwrap();
        wait(staging.write(bytes.to_vec().into())).unwrap();
        let content = Content::Blob(wait(self.store.seal(staging)).unwrap());
        self.store.transact_wait(move |txn| txn.put_object(&path, content, meta)).unwrap();
    }

    fn job(&self) -> String {
        let made = self.call("POST", "/ann/jobs", r#"{"name":"n","phases":[{"exec":"wc"}]}"#);
        assert_eq!(made.status(), 201);
        made.header("location").to_owned()
    }
}

#[test]
fn a_job_is_made_fed_looked_at_and_cancelled() {
    let face = Face::new();
    face.put("b/k", b"text");
    let job = face.job();
    let live = |rest: &str| format!("{job}/live/{rest}");
    let fed = face.call("POST", &live("in"), "/ann/stor/b/k\r\n/ann/stor/b/none");
    assert_eq!((fed.status(), fed.body.len()), (204, 0));
    let status = face.call("GET", &live("status"), "");
    let view = status.json();
    assert_eq!(
        (view["state"].as_str(), view["inputDone"].as_bool()),
        (Some("queued"), Some(false))
    );
    assert_eq!(
        (view["stats"]["tasks"].as_u64(), view["stats"]["errors"].as_u64()),
        (Some(1), Some(1))
    );
    let md5 = super::reply::md5_header(&Md5::digest(&status.body).into());
    assert_eq!(status.header("content-md5"), md5.to_str().unwrap());
    assert_eq!(face.call("GET", &live("in"), "").body, b"/ann/stor/b/k\n/ann/stor/b/none\n");
    assert_eq!(face.call("GET", &live("fail"), "").body, b"/ann/stor/b/none\n");
    let errors = face.call("GET", &live("err"), "");
    assert_eq!(errors.header("content-type"), "application/x-json-stream; type=job-error");
    assert_eq!(errors.json()["code"], "ResourceNotFoundError");
    assert_eq!(face.call("POST", &live("in/end"), "{}").status(), 202);
    assert_eq!(face.call("POST", &live("in/end"), "").status(), 202);
    assert_eq!(face.call("POST", &live("cancel"), "{}").status(), 202);
    let conflict = (409, "InvalidJobState".to_owned());
    assert_eq!(face.call("POST", &live("cancel"), "{}").error(), conflict);
    assert_eq!(face.call("POST", &live("in"), "/ann/stor/b/k").error(), conflict);
}

#[test]
fn every_answer_has_mantas_headers() {
    let face = Face::new();
    for answer in [face.call("GET", "/ann/jobs", ""), face.call("GET", "/ann/nothing", "")] {
        assert_eq!(answer.header("server"), "Manta");
        assert_eq!(answer.header("x-request-id"), "of-the-client");
        assert!(!answer.header("x-response-time").is_empty());
    }
}

#[test]
fn who_is_not_let_in_is_told_why_in_json() {
    let face = Face::new();
    let unsigned = Request::builder().uri("/ann/jobs").body(Body::empty()).unwrap();
    assert_eq!(face.send(unsigned).error(), (403, "AuthorizationFailed".to_owned()));
    let wrong = sign("GET", "/ann/jobs", b"", "KEYOFANN00000000", "another");
    assert_eq!(face.send(wrong).error(), (403, "InvalidSignature".to_owned()));
    let unknown = sign("GET", "/ann/jobs", b"", "NOBODY", SECRET);
    assert_eq!(face.send(unknown).error(), (403, "KeyDoesNotExist".to_owned()));
    let others = face.call("GET", "/bob/jobs", "");
    assert_eq!(others.error(), (403, "AuthorizationFailed".to_owned()));
    let mut altered = sign("GET", "/ann/jobs", b"", "KEYOFANN00000000", SECRET);
    *altered.uri_mut() = "/ann/jobs?limit=3".parse().unwrap();
    assert_eq!(face.send(altered).error(), (403, "InvalidSignature".to_owned()));
}

#[test]
fn what_is_no_job_is_refused_with_its_fault() {
    let face = Face::new();
    let refused = |body: &str| {
        let answer = face.call("POST", "/ann/jobs", body);
        (answer.error(), answer.json()["message"].as_str().unwrap().to_owned())
    };
    let bad = (400, "InvalidJob".to_owned());
    assert_eq!(refused("{").0, bad);
    assert_eq!(refused(r#"{"phases":[]}"#).0, bad);
    let (error, message) = refused(r#"{"phases":[{"exec":"a"}],"colour":"red"}"#);
    assert!(error == bad && message.contains("colour"));
    assert_eq!(refused(&format!("{{\"name\":\"{}\"", "x".repeat(200_000))).0, bad);
    let unknown = "/ann/jobs/6b9b6cb5-2d1c-4f0e-9d54-0a0c2f1f6f55/live/status";
    assert_eq!(face.call("GET", unknown, "").error(), (404, "ResourceNotFound".to_owned()));
}

#[test]
fn jobs_are_listed_the_newest_first_in_pages_that_begin_with_their_marker() {
    let face = Face::new();
    let ids: Vec<String> = (0..5)
        .map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(3));
            face.job().rsplit('/').next().unwrap().to_owned()
        })
        .collect();
    let list = |query: &str| -> Vec<String> {
        let answer = face.call("GET", &format!("/ann/jobs?{query}"), "");
        let text = String::from_utf8(answer.body).unwrap();
        let row = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        text.lines().map(|line| row(line)["name"].as_str().unwrap().to_owned()).collect()
    };
    let newest: Vec<&String> = ids.iter().rev().collect();
    assert_eq!(list("limit=1024").iter().collect::<Vec<_>>(), newest);
    let page = list(&format!("limit=3&marker={}", newest[1]));
    assert_eq!(page.iter().collect::<Vec<_>>(), newest[1..4]);
    face.call("POST", &format!("/ann/jobs/{}/live/in/end", ids[4]), "");
    assert_eq!(list("state=running").iter().collect::<Vec<_>>(), newest[1..]);
    assert_eq!(list("name=n").len(), 5);
    assert!(list("name=m").is_empty());
    assert_eq!(face.call("GET", "/ann/jobs?limit=0", "").status(), 400);
}

#[test]
fn objects_are_read_whole_in_part_and_not_at_all() {
    let face = Face::new();
    face.put("b/k", b"0123456789");
    let whole = face.call("GET", "/ann/stor/b/k", "");
    assert_eq!((whole.status(), &whole.body[..]), (200, &b"0123456789"[..]));
    assert_eq!(whole.header("content-md5"), "eB5eJF1ptWaXm4bijSPyxw==");
    let etag = whole.header("etag").to_owned();
    let with = |name: &str, value: &str| {
        let mut request = sign("GET", "/ann/stor/b/k", b"", "KEYOFANN00000000", SECRET);
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
        face.send(request)
    };
    let part = with("range", "bytes=2-4");
    assert_eq!((part.status(), &part.body[..]), (206, &b"234"[..]));
    assert_eq!(part.header("content-range"), "bytes 2-4/10");
    assert_eq!(with("range", "bytes=20-").header("content-range"), "bytes */10");
    assert_eq!(with("if-match", &etag).status(), 200);
    assert_eq!(with("if-match", "\"other\"").error().0, 412);
    assert_eq!(with("if-none-match", &etag).status(), 304);
    assert_eq!(face.call("DELETE", "/ann/stor/b/k", "").status(), 204);
    assert_eq!(face.call("GET", "/ann/stor/b/k", "").error().0, 404);
    assert_eq!(face.call("DELETE", "/ann/stor/b/k", "").error().0, 404);
}

#[test]
fn a_job_that_is_put_away_is_read_as_before() {
    let face = Face::new();
    let job = face.job();
    assert_eq!(
        face.call("POST", &format!("{job}/live/in?end=true"), "/ann/stor/none").status(),
        204
    );
    let read = |rest: &str| face.call("GET", &format!("{job}/{rest}"), "");
    let all = ["live/status", "job.json", "live/in", "in.txt", "live/out", "live/fail", "err.txt"];
    let before =
        all.map(|rest| (read(rest).status(), read(rest).header("content-type").to_owned()));
    let (view, input) = (read("live/status").json(), read("in.txt").body);
    let now = crate::jobs::archive::Keeping { ms: 0, max: 0 };
    assert_eq!(face.jobs.put_away(now_ms(), now).unwrap(), 1);
    let after = all.map(|rest| (read(rest).status(), read(rest).header("content-type").to_owned()));
    assert_eq!(after, before);
    assert_eq!((read("live/status").json(), read("live/in").body), (view, input));
    assert!(face.call("GET", "/ann/jobs", "").body.is_empty());
    assert_eq!(face.call("POST", &format!("{job}/live/cancel"), "").status(), 404);
    assert_eq!(face.call("DELETE", &format!("{job}/in.txt"), "").status(), 204);
    assert_eq!(read("in.txt").status(), 404);
    assert_eq!(face.call("DELETE", &format!("{job}/live"), "").status(), 404);
}

#[test]
fn a_list_of_many_pages_comes_whole() {
    let face = Face::new();
    let job = face.job();
    let lines: String = (0..1000).map(|n| format!("/ann/stor/none/{n}\n")).collect();
    assert_eq!(face.call("POST", &format!("{job}/live/in?end=true"), &lines).status(), 204);
    assert_eq!(face.call("GET", &format!("{job}/live/in"), "").body, lines.as_bytes());
    let id = job.rsplit('/').next().unwrap().parse().unwrap();
    let view = face.jobs.view(face.account, id).unwrap();
    assert_eq!((view.stats.errors, view.state), (1000, wire::job::JobState::Done));
}
