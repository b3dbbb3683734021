//! A line about a request, as JSON: begun with its head, ended with its answer. Pure.
//!
//! Signatures and session tokens are left out of targets: whoever reads the log must not be able to ask again.

use super::RequestId;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, REFERER, USER_AGENT};
use http::{HeaderName, HeaderValue, Request};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

/// Bytes that are kept of one text in a line: a key of 1,024 bytes, escaped, and a query fit.
const TEXT_BYTES_MAX: usize = 4096;
/// What most lines need.
const USUAL_BYTES: usize = 512;
/// Parameters of a presigned URL that let whoever has them in.
const SECRETS: [&str; 3] = ["X-Amz-Signature", "X-Amz-Security-Token", "Signature"];

/// Where and when a request came in.
pub(super) struct Arrived<'a> {
    /// Whole seconds, as text.
    pub(super) second: &'a str,
    /// And milliseconds.
    pub(super) millis: u32,
    pub(super) port: &'static str,
    pub(super) operation: &'static str,
    pub(super) remote: Option<IpAddr>,
    pub(super) id: RequestId,
}

/// How a request ended.
pub(super) struct Ended {
    /// Of the answer; none if the connection ended first.
    pub(super) status: Option<u16>,
    /// Bytes of the answer, its head included.
    pub(super) sent: u64,
    /// From the end of the request's head.
    pub(super) time: Duration,
    /// To the answer's beginning.
    pub(super) to_answer: Option<Duration>,
}

/// What is known when the head is here.
pub(super) fn begin(arrived: &Arrived<'_>, head: &Request<()>) -> String {
    let mut line = String::with_capacity(USUAL_BYTES);
    let Arrived { second, millis, port, operation, remote, id } = arrived;
    let id = id.as_str();
    put(
        &mut line,
        format_args!(
            "{{\"time\":\"{second}.{millis:03}Z\",\"request\":\"{id}\",\"port\":\"{port}\""
        ),
    );
    if let Some(remote) = remote {
        put(&mut line, format_args!(",\"remote\":\"{remote}\""));
    }
    put(&mut line, format_args!(",\"operation\":\"{operation}\",\"method\":\"{}\"", head.method()));
    text(&mut line, "target", &target(head));
    if let Some(key) = access_key(head) {
        text(&mut line, "access_key", key);
    }
    for (name, header) in [
        ("host", HOST),
        ("user_agent", USER_AGENT),
        ("referer", REFERER),
        ("length", CONTENT_LENGTH),
    ] {
        field(&mut line, name, head.headers().get(&header));
    }
    line
}

/// The rest, and the end of the line.
pub(super) fn end(line: &mut String, ended: &Ended) {
    match ended.status {
        Some(status) => put(line, format_args!(",\"status\":{status}")),
        None => line.push_str(",\"status\":null"),
    }
    put(line, format_args!(",\"sent\":{},\"micros\":{}", ended.sent, ended.time.as_micros()));
    if let Some(time) = ended.to_answer {
        put(line, format_args!(",\"micros_to_answer\":{}", time.as_micros()));
    }
    line.push_str("}\n");
}

fn put(line: &mut String, text: std::fmt::Arguments<'_>) {
    line.write_fmt(text).expect("a string takes all that is written to it");
}

fn field(line: &mut String, name: &str, value: Option<&HeaderValue>) {
    if let Some(value) = value {
        text(line, name, &String::from_utf8_lossy(value.as_bytes()));
    }
}

fn text(line: &mut String, name: &str, value: &str) {
    let end = value.floor_char_boundary(TEXT_BYTES_MAX);
    let value = serde_json::to_string(&value[..end]).expect("a text is JSON");
    put(line, format_args!(",\"{name}\":{value}"));
}

/// The target without what would let its reader in.
fn target(head: &Request<()>) -> String {
    let Some(query) = head.uri().query() else { return head.uri().path().to_owned() };
    let mut target = head.uri().path().to_owned();
    for (at, pair) in query.split('&').enumerate() {
        target.push(if at == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((name, _)) if SECRETS.contains(&name) => {
                target.push_str(name);
                target.push_str("=-");
            }
            _ => target.push_str(pair),
        }
    }
    target
}

/// The access key that a request claims, whether it may or not: the status tells.
fn access_key(head: &Request<()>) -> Option<&str> {
    let header = |name: &HeaderName| head.headers().get(name).and_then(|value| value.to_str().ok());
    let in_query = || {
        let query = head.uri().query()?;
        query.split('&').find_map(|pair| pair.strip_prefix("X-Amz-Credential="))
    };
    let credential = header(&AUTHORIZATION)
        .and_then(|text| text.split_once("Credential="))
        .map(|(_, rest)| rest)
        .or_else(in_query)?;
    let key = credential.split(['/', '%', ',', ' ']).next()?;
    (!key.is_empty()).then_some(key)
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn line(head: &Request<()>) -> serde_json::Value {
        let arrived = Arrived {
            second: "2026-11-22T12:00:00",
            millis: 7,
            port: "s3",
            operation: "GetObject",
            remote: Some("192.0.2.1".parse().unwrap()),
            id: super::super::id::Ids::new(0).next(),
        };
        let mut line = begin(&arrived, head);
        let time = Duration::from_micros(1234);
        end(&mut line, &Ended { status: Some(200), sent: 9, time, to_answer: None });
        assert_eq!(line.matches('\n').count(), 1);
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn a_line_says_what_happened_and_gives_no_secret_away() {
        let head = Request::builder()
            .uri("/b/k?X-Amz-Credential=AKADA%2F2026&X-Amz-Signature=deadbeef&a=b")
            .header("host", "h")
            .header("user-agent", "a \"quoted\" one")
            .body(())
            .unwrap();
        let line = line(&head);
        assert_eq!(line["time"], "2026-11-22T12:00:00.007Z");
        assert_eq!(line["request"].as_str().unwrap().len(), 16);
        assert_eq!(line["target"], "/b/k?X-Amz-Credential=AKADA%2F2026&X-Amz-Signature=-&a=b");
        assert_eq!(line["access_key"], "AKADA");
        assert_eq!(line["user_agent"], "a \"quoted\" one");
        assert_eq!((&line["status"], &line["micros"]), (&200.into(), &1234.into()));
    }

    proptest! {
        #[test]
        fn any_head_makes_one_line_of_json(
            path in "/[!-~&&[^#?]]{0,60}",
            agent in prop::collection::vec(32..=255_u8, 0..5000),
        ) {
            let Ok(uri) = path.parse::<http::Uri>() else { return Ok(()) };
            let Ok(agent) = HeaderValue::from_bytes(&agent) else { return Ok(()) };
            let head = Request::builder().uri(uri).header("user-agent", agent).body(()).unwrap();
            line(&head);
        }
    }
}
