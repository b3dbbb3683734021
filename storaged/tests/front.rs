//! The front with the real services behind it: who is asked for a body, and how the daemon ends.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::daemon::Daemon;
use common::{BUCKET, PATIENCE, Server, eventually, noise, signed_head, talk};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;
use tests::sigv4;

const SCRAPE: &str = "GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
const EXPECT: &str = "expect: 100-continue\r\n";

fn connect(address: std::net::SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A head, which is all there is of a response here.
fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn a_body_is_asked_for_once_its_head_is_authorised() {
    let server = Server::start();
    let body = noise(100_000);
    let head = server.signed_head("k", sigv4::UNSIGNED, &[], body.len(), EXPECT);
    let mut stream = connect(server.address);
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(read_head(&mut stream), "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(&body).unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 200 "));
    assert!(server.client.get(BUCKET, "k").unwrap().unwrap() == body);
}

#[test]
fn nobody_refused_is_asked_for_a_body() {
    let server = Server::start();
    let good = server.signed_head("k", sigv4::UNSIGNED, &[], 9, EXPECT);
    let signature = good.find("Signature=").unwrap() + "Signature=".len();
    let mut forged = good.clone();
    forged.replace_range(
        signature..=signature,
        if forged[signature..].starts_with('0') { "1" } else { "0" },
    );
    let path = format!("PUT /{BUCKET}/k HTTP/1.1\r\nhost: {}\r\n", server.address);
    let anonymous = format!("{path}content-length: 9\r\n{EXPECT}\r\n");
    let length = 6_u64 << 40;
    let too_long =
        server.signed_head("k", sigv4::UNSIGNED, &[], usize::try_from(length).unwrap(), EXPECT);
    let unsigned =
        server.signed_head("k", sigv4::UNSIGNED, &[], 9, &format!("{EXPECT}x-amz-meta-a: b\r\n"));
    let delete = format!(
        "POST /{BUCKET}?delete HTTP/1.1\r\nhost: {}\r\ncontent-length: 9\r\n\
         content-md5: 1B2M2Y8AsgTpgAmY7PhCfg==\r\n{EXPECT}\r\n",
        server.address
    );
    for (head, status) in
        [(forged, "403"), (anonymous, "403"), (too_long, "400"), (unsigned, "403"), (delete, "403")]
    {
        // The connection ends with the answer: the client may or may not send the body.
        let answer = talk(server.address, head.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}{answer}");
    }
    assert_eq!(server.client.get(BUCKET, "k").unwrap(), None);
}

#[test]
fn the_daemon_ends_when_what_it_does_is_done() {
    let data = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(data.path(), &["--metrics", "127.0.0.1:0"], 3);
    daemon.create_bucket();
    let address = daemon.ports["S3"];
    let received = || {
        let text = talk(daemon.ports["metrics"], SCRAPE.as_bytes());
        number(&text, "mobula_http_received_bytes_total{port=\"s3\"}") as usize
    };
    let before = received();
    let mut idle = connect(address);
    let mut half = connect(address);
    half.write_all(b"GET / HT").unwrap();
    let mut busy = connect(address);
    let body = noise(100_000);
    let head = signed_head(address, "k", sigv4::UNSIGNED, &[], body.len(), "");
    busy.write_all(head.as_bytes()).unwrap();
    busy.write_all(&body[..50_000]).unwrap();
    let sent = b"GET / HT".len() + head.len() + 50_000;
    eventually("all that was sent is received", || received() == before + sent);
    daemon.terminate();
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    // Each ring thread lets go of the port in its own time, and what comes before is closed unanswered.
    let until = Instant::now() + PATIENCE;
    let error = std::iter::repeat_with(|| TcpStream::connect(address))
        .take_while(|_| Instant::now() < until)
        .find_map(Result::err);
    assert_eq!(error.unwrap().kind(), ErrorKind::ConnectionRefused);
    // A request that has begun to come is one in progress, and told that the connection ends with it.
    half.write_all(b"TP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert!(read_head(&mut half).contains("connection: close\r\n"));
    busy.write_all(&body[50_000..]).unwrap();
    let answer = read_head(&mut busy);
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"),
        "{answer}"
    );
    drop((busy, half));
    assert!(daemon.wait().success());
    let again = Daemon::start(data.path(), &[], 2);
    assert!(again.client().get(BUCKET, "k").unwrap().unwrap() == body);
}

/// The value of one line of the numbers; 0 if there is none.
fn number(text: &str, line: &str) -> f64 {
    let found = text.lines().find_map(|l| l.strip_prefix(line));
    found.map_or(0.0, |value| value.trim().parse().unwrap())
}

#[test]
fn requests_are_counted_by_operation_and_status() {
    let data = tempfile::tempdir().unwrap();
    let arguments = ["--metrics", "127.0.0.1:0", "--domain", "s3.test"];
    let daemon = Daemon::start(data.path(), &arguments, 3);
    daemon.create_bucket();
    let client = daemon.client();
    let body = noise(300_000);
    client.put(BUCKET, "k", &body).unwrap();
    for _ in 0..3 {
        client.get(BUCKET, "k").unwrap();
    }
    client.get(BUCKET, "none").unwrap();
    talk(daemon.ports["S3"], b"nonsense\r\n\r\n");
    // A bucket in the host: without a signature, but an object all the same.
    let hosted = format!("GET /k HTTP/1.1\r\nHost: {BUCKET}.s3.test\r\nConnection: close\r\n\r\n");
    assert!(talk(daemon.ports["S3"], hosted.as_bytes()).starts_with("HTTP/1.1 403 "));
    // An answer is counted when the kernel has all of it: a client may be a moment faster.
    let until = Instant::now() + PATIENCE;
    let running = "mobula_http_requests_running{port=\"s3\"}";
    let text = std::iter::repeat_with(|| talk(daemon.ports["metrics"], SCRAPE.as_bytes()))
        .find(|text| number(text, running) == 0.0 || Instant::now() > until)
        .unwrap();
    let total = |operation: &str, status: &str| {
        number(
            &text,
            &format!(
                "mobula_http_requests_total{{port=\"s3\",operation=\"{operation}\",status=\"{status}\"}}"
            ),
        )
    };
    assert_eq!(total("CreateBucket", "2xx"), 1.0, "{text}");
    assert_eq!(total("PutObject", "2xx"), 1.0);
    assert_eq!(total("GetObject", "2xx"), 3.0);
    assert_eq!(total("GetObject", "4xx"), 2.0);
    let of_gets = "{port=\"s3\",operation=\"GetObject\",status=\"2xx\"";
    let last = format!("mobula_http_request_seconds_bucket{of_gets},le=\"+Inf\"}}");
    assert_eq!(number(&text, &last), 3.0);
    assert!(number(&text, &format!("mobula_http_request_seconds_sum{of_gets}}}")) > 0.0);
    assert_eq!(number(&text, "mobula_http_refused_total{port=\"s3\"}"), 1.0);
    assert_eq!(number(&text, running), 0.0);
    assert!(number(&text, "mobula_http_received_bytes_total{port=\"s3\"}") > 300_000.0);
    assert!(number(&text, "mobula_http_sent_bytes_total{port=\"s3\"}") > 900_000.0);
    assert_eq!(number(&text, "mobula_store_objects"), 1.0);
    assert_eq!(number(&text, "mobula_store_read_only"), 0.0);
    assert!(number(&text, "process_resident_memory_bytes") > 0.0);
    let other = talk(daemon.ports["metrics"], SCRAPE.replace("/metrics", "/").as_bytes());
    assert!(other.starts_with("HTTP/1.1 404 "));
}

#[test]
fn s3_is_served_encrypted_with_a_certificate_that_is_kept() {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let data = tempfile::tempdir().unwrap();
    let arguments = ["--https", "127.0.0.1:0"];
    let daemon = Daemon::start(data.path(), &arguments, 3);
    daemon.create_bucket();
    let pem = std::fs::read(data.path().join("tls.pem")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    let put = |daemon: &Daemon, key: &str| {
        let address = daemon.ports["HTTPS"];
        let name = "localhost".try_into().unwrap();
        let client = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
        let mut stream = rustls::StreamOwned::new(client, connect(address));
        let body = noise(200_000);
        let close = "connection: close\r\n";
        let head = signed_head(address, key, sigv4::UNSIGNED, &[], body.len(), close);
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(daemon.client().get(BUCKET, key).unwrap().unwrap() == body);
    };
    put(&daemon, "a");
    drop(daemon);
    put(&Daemon::start(data.path(), &arguments, 3), "b");
}

#[test]
fn contents_stay_readable_when_another_size_is_kept_in_the_index() {
    let data = tempfile::tempdir().unwrap();
    let files = || {
        let within = |path: std::path::PathBuf| std::fs::read_dir(path).unwrap().count();
        let folders = std::fs::read_dir(data.path().join("objects")).unwrap();
        folders.map(|folder| within(folder.unwrap().path())).sum::<usize>()
    };
    let runs = [(None, 8192, 0), (Some("0"), 1, 1), (Some("65536"), 65_536, 1), (None, 8193, 2)];
    for (run, (told, bytes, expected)) in runs.into_iter().enumerate() {
        let arguments: Vec<&str> = told.iter().flat_map(|told| ["--inline-bytes", told]).collect();
        let mut daemon = Daemon::start(data.path(), &arguments, 2);
        if run == 0 {
            daemon.create_bucket();
        }
        let client = daemon.client();
        client.put(BUCKET, &run.to_string(), &noise(bytes)).unwrap();
        for (before, (_, bytes, _)) in runs.iter().enumerate().take(run + 1) {
            let content = client.get(BUCKET, &before.to_string()).unwrap().unwrap();
            assert!(content == noise(*bytes), "{before} after {run}");
        }
        assert_eq!(files(), expected, "after run {run}");
        drop(client);
        daemon.terminate();
        assert!(daemon.wait().success());
    }
}

#[test]
fn every_request_is_a_line_of_the_access_log() {
    let data = tempfile::tempdir().unwrap();
    let arguments = ["--access-log", "ada"];
    let mut daemon = Daemon::start(data.path(), &arguments, 2);
    daemon.create_bucket();
    let client = daemon.client();
    client.put(BUCKET, "k", b"abc").unwrap();
    client.get(BUCKET, "k").unwrap();
    let none = client.request(&tests::s3::Ask::new("GET", &format!("/{BUCKET}/none"))).unwrap();
    let id = none.header("x-amz-request-id").to_owned();
    assert_eq!(none.elements("RequestId"), [&*id]);
    drop(client);
    daemon.terminate();
    assert!(daemon.wait().success());
    let daemon = Daemon::start(data.path(), &arguments, 2);
    let bucket = storaged::hourly::ACCESS.bucket;
    let keys = daemon.client().keys(bucket).unwrap();
    let read = |key: &String| daemon.client().get(bucket, key).unwrap().unwrap();
    let text = String::from_utf8(keys.iter().flat_map(read).collect()).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut seen: Vec<_> = lines
        .iter()
        .map(|line| (line["operation"].as_str().unwrap(), line["status"].as_u64().unwrap()))
        .collect();
    // Two ring threads write as they come to it.
    seen.sort_unstable();
    let expected =
        [("CreateBucket", 200), ("GetObject", 200), ("GetObject", 404), ("PutObject", 200)];
    assert_eq!(seen, expected, "{text}");
    let put = lines.iter().find(|line| line["operation"] == "PutObject").unwrap();
    assert_eq!((&put["port"], &put["length"]), (&"s3".into(), &"3".into()));
    assert_eq!((&put["access_key"], &put["remote"]), (&common::ADA.0.into(), &"127.0.0.1".into()));
    assert_eq!(put["target"], format!("/{BUCKET}/k"));
    // By the name that its answer has, a request is found.
    assert!(!id.is_empty());
    assert!(
        lines.iter().any(|line| line["request"] == id && line["status"] == 404),
        "{id}: {text}"
    );
}

/// Resident bytes of a process (proc_pid_status(5)).
fn resident(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn ten_thousand_idle_connections_cost_little() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    // Where fewer descriptors are allowed, fewer are tried.
    let count = 10_000.min(hard.saturating_sub(200));
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path(), &[], 2);
    let address = daemon.ports["S3"];
    let request = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let ask = |stream: &mut TcpStream| {
        stream.write_all(request.as_bytes()).unwrap();
        assert!(read_head(stream).starts_with("HTTP/1.1 403 "));
        let mut body = [0; 4096];
        assert!(stream.read(&mut body).unwrap() > 0);
    };
    // What the first requests bring into memory is no connection's.
    (0..100).for_each(|_| ask(&mut connect(address)));
    let before = resident(daemon.id());
    let mut streams: Vec<_> = (0..count).map(|_| connect(address)).collect();
    let fresh = resident(daemon.id());
    streams.iter_mut().for_each(ask);
    let each = |bytes: u64| bytes.saturating_sub(before) / count;
    // What the answers took goes when all of them are sent.
    eventually("an idle connection costs little", || each(resident(daemon.id())) < 4096);
    let idle = resident(daemon.id());
    println!(
        "{count} connections: {} bytes each before their first request, {} idle after it",
        each(fresh),
        each(idle)
    );
    ask(&mut streams[usize::try_from(count).unwrap() - 1]);
}
