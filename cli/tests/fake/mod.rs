//! An appliance that is not there: S3, job calls and admin API from memory, with the faults that a real
//! one has on a bad day.
#![allow(dead_code, reason = "each test takes what it needs")]

pub mod zones;

use md5::{Digest, Md5};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

/// The account that the fake knows.
pub const ACCOUNT: &str = "ada";
/// Its access key.
pub const ACCESS_KEY: &str = "AKFAKE";
/// The admin token.
pub const TOKEN: &str = "fake-token";
/// The fake's only job.
pub const JOB: &str = "8d6e8c43-3e9c-4a3e-8b5e-9d9a2a5b7c11";
/// Keys on one page of a listing: few, so that listings have pages.
const PAGE_KEYS: usize = 3;

/// What the fake holds, and what is wrong with it.
#[derive(Default)]
pub struct State {
    /// Buckets, each with its objects.
    pub buckets: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Requests in order, as `METHOD target`.
    pub requests: Vec<String>,
    /// So many requests are answered by 503.
    pub busy: u32,
    /// The next object is cut off after so many bytes.
    pub cut: Option<usize>,
    /// Objects are sent with a bit turned.
    pub damage: bool,
    /// The job's description.
    pub job: Option<Value>,
    /// The job's inputs.
    pub inputs: Vec<String>,
    /// Whether the job's input has ended.
    pub ended: bool,
    /// Whether the job was cancelled.
    pub cancelled: bool,
    /// How often the job's state was asked for.
    pub looks: u32,
    /// The job's errors.
    pub errors: Vec<Value>,
    /// Standing zones.
    pub zones: zones::Zones,
}

/// A fake that listens; it serves until the process ends.
pub struct Fake {
    /// Where.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// A request, taken apart.
pub struct Request {
    method: String,
    path: String,
    query: HashMap<String, String>,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

/// An answer to it.
pub struct Response {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    cut: Option<usize>,
}

impl Fake {
    /// Starts one.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream.unwrap(), &state));
            }
        });
        Self { address, state }
    }

    /// What it holds.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Puts an object there.
    pub fn hold(&self, bucket: &str, key: &str, bytes: &[u8]) {
        let mut state = self.state();
        let bucket = state.buckets.entry(bucket.to_owned()).or_default();
        bucket.insert(key.to_owned(), bytes.to_vec());
    }

    /// The object's bytes.
    pub fn held(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        self.state().buckets.get(bucket)?.get(key).cloned()
    }
}

/// Serves requests until the client goes away.
fn serve(stream: &TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = read(&mut reader, stream) {
        if zones::is_session(&request) {
            return zones::session(stream, &request, |text| {
                state.lock().unwrap().zones.sessions.push(text);
            });
        }
        let response = answer(&mut state.lock().unwrap(), &request);
        let mut text = format!("HTTP/1.1 {} Fake\r\n", response.status);
        for (name, value) in &response.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if response.status != 204 {
            text.push_str(&format!("content-length: {}\r\n", response.body.len()));
        }
        text.push_str("\r\n");
        let mut writer = stream;
        writer.write_all(text.as_bytes()).unwrap();
        if request.method != "HEAD" {
            let length = response.cut.unwrap_or(response.body.len());
            writer.write_all(&response.body[..length]).unwrap();
        }
        if response.cut.is_some() {
            stream.shutdown(std::net::Shutdown::Both).unwrap();
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>, mut stream: &TcpStream) -> Option<Request> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    if headers.contains_key("expect") {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let has_body = matches!(method.as_str(), "PATCH" | "PUT" | "POST");
    assert_eq!(headers.contains_key("content-length"), has_body, "{method} {target}");
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let query = pairs.map(|(key, value)| (key.to_owned(), decode(value))).collect();
    Some(Request { method, path: decode(path), query, headers, body })
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

fn respond(status: u16, body: impl Into<Vec<u8>>) -> Response {
    Response { status, headers: Vec::new(), body: body.into(), cut: None }
}

fn xml_error(status: u16, code: &str) -> Response {
    respond(status, format!("<Error><Code>{code}</Code><Message>as asked</Message></Error>"))
}

fn json_error(status: u16, code: &str) -> Response {
    respond(status, json!({ "code": code, "message": "as asked" }).to_string())
}

fn answer(state: &mut State, request: &Request) -> Response {
    state.requests.push(format!("{} {}", request.method, request.path));
    if state.busy > 0 {
        state.busy -= 1;
        let mut response = xml_error(503, "SlowDown");
        response.headers.push(("retry-after", "0".to_owned()));
        return response;
    }
    let authorization = request.headers.get("authorization").map_or("", String::as_str);
    if request.path.starts_with("/v1/") {
        return match authorization == format!("Bearer {TOKEN}") {
            true => zones::answer(&mut state.zones, request).unwrap_or_else(|| admin(request)),
            false => json_error(401, "TokenInvalid"),
        };
    }
    if !authorization.starts_with(&format!("AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/")) {
        return match request.path.starts_with(&format!("/{ACCOUNT}/")) {
            true => json_error(403, "InvalidSignature"),
            false => xml_error(403, "InvalidAccessKeyId"),
        };
    }
    match request.path.strip_prefix(&format!("/{ACCOUNT}/jobs")) {
        Some(rest) => manta(state, request, rest),
        None => s3(state, request),
    }
}

fn s3(state: &mut State, request: &Request) -> Response {
    let path = request.path.strip_prefix('/').unwrap();
    let (name, key) = path.split_once('/').unwrap_or((path, ""));
    if name.is_empty() {
        let bucket = |name| format!("<Bucket><Name>{name}</Name></Bucket>");
        let list: String = state.buckets.keys().map(bucket).collect();
        return respond(200, format!("<R><Buckets>{list}</Buckets></R>"));
    }
    if request.method == "PUT" && key.is_empty() {
        let there = state.buckets.contains_key(name);
        state.buckets.entry(name.to_owned()).or_default();
        return if there { xml_error(409, "BucketAlreadyOwnedByYou") } else { respond(200, "") };
    }
    let (damage, cut) = (state.damage, &mut state.cut);
    let Some(bucket) = state.buckets.get_mut(name) else { return xml_error(404, "NoSuchBucket") };
    match (request.method.as_str(), key) {
        ("GET", "") => list(bucket, &request.query),
        ("POST", "") => delete_many(bucket, request),
        ("DELETE", "") if bucket.is_empty() => {
            state.buckets.remove(name);
            respond(204, "")
        }
        ("DELETE", "") => xml_error(409, "BucketNotEmpty"),
        ("PUT", key) => put(bucket, key, request),
        ("DELETE", key) => {
            bucket.remove(key);
            respond(204, "")
        }
        (_, key) => match bucket.get(key) {
            Some(bytes) => get(bytes, request, damage, cut),
            None => xml_error(404, "NoSuchKey"),
        },
    }
}

fn put(bucket: &mut BTreeMap<String, Vec<u8>>, key: &str, request: &Request) -> Response {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let md5 = Md5::digest(&request.body);
    if request.headers.get("content-md5").is_some_and(|sent| *sent != STANDARD.encode(md5)) {
        return xml_error(400, "BadDigest");
    }
    bucket.insert(key.to_owned(), request.body.clone());
    let mut response = respond(200, "");
    response.headers.push(("etag", format!("\"{}\"", hex(&md5))));
    response
}

fn get(bytes: &[u8], request: &Request, damage: bool, cut: &mut Option<usize>) -> Response {
    let etag = format!("\"{}\"", hex(&Md5::digest(bytes)));
    let range = request
        .headers
        .get("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    if request.headers.get("if-match").is_some_and(|wanted| *wanted != etag) {
        return xml_error(412, "PreconditionFailed");
    }
    let mut body = bytes[range.unwrap_or(0)..].to_vec();
    if damage {
        body[0] ^= 1;
    }
    let mut response = respond(if range.is_some() { 206 } else { 200 }, body);
    response.headers.push(("etag", etag));
    if request.method == "GET" {
        response.cut = cut.take();
    }
    response
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn list(bucket: &BTreeMap<String, Vec<u8>>, query: &HashMap<String, String>) -> Response {
    let prefix = query.get("prefix").map_or("", String::as_str);
    let after = query.get("continuation-token").map_or("", String::as_str);
    let mut rows: BTreeMap<String, String> = BTreeMap::new();
    for (key, bytes) in bucket.iter().filter(|(key, _)| key.starts_with(prefix)) {
        let slash = key[prefix.len()..].find('/').filter(|_| query.contains_key("delimiter"));
        let (row, text) = match slash {
            Some(at) => {
                let folder = &key[..=prefix.len() + at];
                (folder, format!("<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"))
            }
            None => {
                let encoded =
                    percent_encoding::utf8_percent_encode(key, percent_encoding::CONTROLS);
                let size = bytes.len();
                let text = format!(
                    "<Contents><Key>{encoded}</Key><LastModified>2026-11-22T08:00:00.000Z\
                     </LastModified><ETag>\"e\"</ETag><Size>{size}</Size></Contents>"
                );
                (key.as_str(), text)
            }
        };
        rows.insert(row.to_owned(), text);
    }
    let rows: Vec<_> = rows.into_iter().filter(|(key, _)| key.as_str() > after).collect();
    let page: String = rows.iter().take(PAGE_KEYS).map(|(_, text)| text.as_str()).collect();
    let more = match rows.len() > PAGE_KEYS {
        true => {
            let last = &rows[PAGE_KEYS - 1].0;
            format!(
                "<IsTruncated>true</IsTruncated><NextContinuationToken>{last}</NextContinuationToken>"
            )
        }
        false => "<IsTruncated>false</IsTruncated>".to_owned(),
    };
    respond(200, format!("<R><EncodingType>url</EncodingType>{more}{page}</R>"))
}

fn delete_many(bucket: &mut BTreeMap<String, Vec<u8>>, request: &Request) -> Response {
    let text = String::from_utf8(request.body.clone()).unwrap();
    for part in text.split("<Key>").skip(1) {
        bucket.remove(part.split("</Key>").next().unwrap());
    }
    respond(200, "<DeleteResult/>")
}

fn manta(state: &mut State, request: &Request, rest: &str) -> Response {
    let body = String::from_utf8_lossy(&request.body).into_owned();
    let rest = rest.strip_prefix(&format!("/{JOB}/")).unwrap_or(rest);
    match (request.method.as_str(), rest) {
        ("POST", "") => {
            state.job = Some(serde_json::from_str(&body).unwrap());
            let mut response = respond(201, "");
            response.headers.push(("location", format!("/{ACCOUNT}/jobs/{JOB}")));
            response
        }
        ("GET", "") => respond(200, format!("{}\n", json!({ "name": JOB, "type": "directory" }))),
        _ if state.job.is_none() => json_error(404, "ResourceNotFound"),
        ("POST", "live/in") => {
            state.inputs.extend(body.lines().map(str::to_owned));
            respond(204, "")
        }
        ("POST", "live/in/end") => {
            state.ended = true;
            respond(202, "")
        }
        ("POST", "live/cancel") => {
            state.cancelled = true;
            respond(202, "")
        }
        ("GET", "live/status") => status(state),
        ("GET", "live/in") => respond(200, state.inputs.join("\n")),
        ("GET", "live/out") => respond(200, format!("/{ACCOUNT}/jobs/{JOB}/stor/reduce.1.a\n")),
        ("GET", "live/err") => {
            let lines: Vec<_> = state.errors.iter().map(Value::to_string).collect();
            respond(200, lines.join("\n"))
        }
        ("GET", "stor/reduce.1.a") => {
            let (damage, cut) = (state.damage, &mut state.cut);
            get(b"  3 result\n", request, damage, cut)
        }
        ("GET", "stor/err") => respond(200, "bash: line 1: nonsuch: command not found\n"),
        _ => json_error(404, "ResourceNotFound"),
    }
}

/// The job is done at the third look.
fn status(state: &mut State) -> Response {
    state.looks += 1;
    let done = state.looks > 2 || state.cancelled;
    let phases = &state.job.as_ref().unwrap()["phases"];
    let tasks = state.inputs.len() + 1;
    let view = json!({
        "id": JOB, "name": "", "state": if done { "done" } else { "running" },
        "cancelled": state.cancelled, "inputDone": state.ended, "transient": false,
        "stats": {
            "errors": state.errors.len(), "outputs": 1, "retries": 0, "tasks": tasks,
            "tasksDone": if done { tasks } else { 0 },
        },
        "timeCreated": "2026-11-22T08:00:00.000Z", "phases": phases,
    });
    respond(200, view.to_string())
}

fn admin(request: &Request) -> Response {
    let service = json!({
        "name": "storaged", "state": "ready", "pid": 40, "since_ms": 3000, "restarts": 0,
        "message": "", "memory_bytes": 4096,
    });
    let node = json!({
        "hostname": "node", "version": "0.1.0", "kernel": "6.12", "phase": "ready",
        "uptime_ms": 9000, "kernel_to_init_ms": 2310, "init_to_ready_ms": 4020,
        "memory_total_bytes": 1 << 30, "memory_available_bytes": 1 << 29, "services": [service],
    });
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/v1/node") => {
            let view = json!({
                "node": node, "addresses": [{ "interface": "eth0", "ip": "10.0.2.15" }],
                "clock_unix_ms": 1_795_336_352_000_u64, "data_disk": null, "degraded": ["no disk"],
            });
            respond(200, view.to_string())
        }
        ("GET", "/v1/node/logs") => {
            let lines = request.query["lines"].parse::<u32>().unwrap();
            let service = request.query.get("service").cloned().unwrap_or_else(|| "init".into());
            let line =
                json!({ "service": service, "at_ms": 2310, "text": format!("{lines} lines") });
            respond(200, json!({ "lines": [line] }).to_string())
        }
        ("POST", "/v1/node/poweroff") => {
            respond(202, json!({ "accepted": "poweroff" }).to_string())
        }
        _ => json_error(503, "StoragedUnavailable"),
    }
}
