//! One HTTP exchange: signed, repeated where that is safe, its refusals turned into failures.

use crate::config::Keys;
use crate::endpoint::Endpoint;
use crate::failure::{Failure, hint};
use crate::output::Screen;
use crate::resolve::Names;
use crate::sign::{self, Payload};
use serde::Deserialize;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Read};
use std::time::{Duration, SystemTime};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Body as AnswerBody, SendBody};

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long a peer may be silent, while it reads, works or answers: a large object's fsync is the
/// longest work there is.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// How often a request is sent at most, if the service is busy or the connection breaks.
pub const ATTEMPTS_MAX: u32 = 6;
/// The wait before the second attempt; it doubles each time.
const BACK_OFF_FIRST: Duration = Duration::from_millis(200);
/// The wait before an answer that broke off is asked for again, from where it stopped.
pub const SILENT_RETRY: Duration = Duration::from_millis(500);
/// The longest wait between two attempts, also when the service asks for more.
const BACK_OFF_MAX: Duration = Duration::from_secs(10);
/// The most bytes of an error's body that are looked at.
const ERROR_BYTES_MAX: u64 = 64 * 1024;
/// The most bytes of an answer that is read whole: a page of a listing is far below.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The most connections that are kept open to one service.
const CONNECTIONS_MAX: usize = 16;

/// What comes back.
pub type Answer = http::Response<AnswerBody>;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub enum Who<'a> {
    /// Someone with an account's keys.
    Keys(&'a Keys),
    /// Someone with the admin token.
    Token(&'a str),
}

/// In what form a service says why it refuses.
#[derive(Debug, Clone, Copy)]
pub enum Dialect {
    /// S3's XML.
    Xml,
    /// `{"code": …, "message": …}`, as Manta and the admin API have it.
    Json,
}

/// When a request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Whenever it failed for a passing reason: doing it twice is doing it once.
    Always,
    /// Only if the service said that it did nothing (503).
    IfRefused,
    /// Never: the first answer is the answer.
    Never,
}

/// A request without its body.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// What it is for, as a failure's message begins: `get logs/a`.
    pub what: String,
    /// HTTP's method.
    pub method: &'static str,
    /// Whom to ask.
    pub endpoint: &'a Endpoint,
    /// Path and query, encoded.
    pub target: String,
    /// Headers beside those of signature and framing.
    pub headers: Vec<(&'static str, String)>,
    /// Who asks.
    pub who: Who<'a>,
    /// When it may be sent again.
    pub repeat: Repeat,
    /// How refusals look.
    pub dialect: Dialect,
}

/// A request's body.
pub enum Body<'a> {
    /// None.
    Empty,
    /// Bytes at hand; their digest is signed.
    Bytes(&'a [u8]),
    /// Bytes that are read as they are sent, afresh for each attempt.
    Stream {
        /// How many there are.
        length: u64,
        /// Opens them from the first one.
        open: &'a mut dyn FnMut() -> Result<Box<dyn Read + 'a>, Failure>,
    },
}

/// Connections to services.
#[derive(Debug)]
pub struct Http {
    agent: ureq::Agent,
    screen: Screen,
}

impl Http {
    /// No connections yet.
    pub fn new(screen: Screen) -> Self {
        let config = ureq::config::Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // The endpoint is what the user says it is; a proxy would see every object.
            .proxy(None)
            .user_agent(concat!("mobula/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_MAX))
            .timeout_per_read(Some(SILENCE_MAX))
            .timeout_per_write(Some(SILENCE_MAX))
            .max_idle_connections(CONNECTIONS_MAX)
            .max_idle_connections_per_host(CONNECTIONS_MAX)
            .build();
        let agent = ureq::Agent::with_parts(config, DefaultConnector::default(), Names);
        Self { agent, screen }
    }

    /// Sends a request and gives the answer, if it is a success (2xx).
    ///
    /// A service that is busy (503), and a connection that breaks, are tried again as far as the call
    /// may be repeated.
    pub fn send(&self, call: &Call<'_>, mut body: Body<'_>) -> Result<Answer, Failure> {
        let mut attempt = 1;
        loop {
            let outcome = self.once(call, &mut body)?;
            let (failure, wish) = match outcome {
                Ok(answer) if answer.status().is_success() => return Ok(answer),
                Ok(answer) => {
                    let wish = retry_after(&answer);
                    (refusal(call, answer), wish)
                }
                Err(error) => (network(call, error), None),
            };
            if attempt == ATTEMPTS_MAX || !may_repeat(call.repeat, &failure) {
                return Err(failure);
            }
            let wait = back_off(attempt, wish, random());
            let left = ATTEMPTS_MAX - attempt;
            self.screen.note(&format!(
                "{}; trying again in {:.1} s ({left} left)",
                failure.chain(),
                wait.as_secs_f64()
            ));
            std::thread::sleep(wait);
            attempt += 1;
        }
    }

    /// One attempt; the outer error is ours and final, the inner one is the network's.
    fn once(
        &self,
        call: &Call<'_>,
        body: &mut Body<'_>,
    ) -> Result<Result<Answer, ureq::Error>, Failure> {
        let url = format!("{}{}", call.endpoint, call.target);
        let payload = match body {
            Body::Empty => Payload::Signed(&[]),
            Body::Bytes(bytes) => Payload::Signed(bytes),
            Body::Stream { .. } => Payload::Unsigned,
        };
        let mut request = http::Request::builder().method(call.method).uri(&url);
        for (name, value) in call.headers(&url, payload)? {
            request = request.header(name, value);
        }
        let unfit = |error: http::Error| Failure::Usage(format!("{}: {error}", call.what));
        match body {
            // RFC 9110, 8.6: what could have a body says that it has none.
            Body::Empty if matches!(call.method, "PUT" | "POST") => {
                let request = request.header("content-length", 0);
                Ok(self.agent.run(request.body(&[][..]).map_err(unfit)?))
            }
            Body::Empty => Ok(self.agent.run(request.body(()).map_err(unfit)?)),
            Body::Bytes(bytes) => Ok(self.agent.run(request.body(&**bytes).map_err(unfit)?)),
            Body::Stream { length, open } => {
                let mut source = Source { reader: open()?, left: *length, error: None };
                let request = request
                    .header("content-length", *length)
                    // A refusal then comes before the bytes are sent, not after.
                    .header("expect", "100-continue")
                    .body(SendBody::from_reader(&mut source))
                    .map_err(unfit)?;
                let outcome = self.agent.run(request);
                match source.error {
                    Some(error) => {
                        let what = call.what.clone();
                        Err(Failure::Source { what, source: error })
                    }
                    None => Ok(outcome),
                }
            }
        }
    }

    /// Sends a request whose answer goes on for as long as it likes, with silences in it.
    pub fn follow(&self, call: &Call<'_>) -> Result<Answer, Failure> {
        let url = format!("{}{}", call.endpoint, call.target);
        let mut request = http::Request::builder().method(call.method).uri(&url);
        for (name, value) in call.headers(&url, Payload::Signed(&[]))? {
            request = request.header(name, value);
        }
        let unfit = |error: http::Error| Failure::Usage(format!("{}: {error}", call.what));
        let request = self.agent.configure_request(request.body(()).map_err(unfit)?);
        let request = request.timeout_per_read(None).build();
        match self.agent.run(request) {
            Ok(answer) if answer.status().is_success() => Ok(answer),
            Ok(answer) => Err(refusal(call, answer)),
            Err(error) => Err(network(call, error)),
        }
    }

    /// Sends a request whose answer is short, and reads it whole.
    pub fn fetch(&self, call: &Call<'_>, body: Body<'_>) -> Result<Vec<u8>, Failure> {
        let mut answer = self.send(call, body)?;
        let bytes = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        bytes.map_err(|error| network(call, error))
    }
}

impl Call<'_> {
    fn headers(&self, url: &str, payload: Payload<'_>) -> Result<Vec<(String, String)>, Failure> {
        let own = self.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let mut all: Vec<_> = own.collect();
        match self.who {
            Who::Token(token) => {
                all.push(("authorization".to_owned(), format!("Bearer {token}")));
            }
            Who::Keys(keys) => {
                let mut to_sign = vec![("host", self.endpoint.authority())];
                to_sign.extend(self.headers.iter().map(|(name, value)| (*name, value.as_str())));
                let now = SystemTime::now();
                let signed = sign::headers(keys, self.method, url, &to_sign, payload, now)
                    .map_err(|error| Failure::Usage(format!("{}: {error}", self.what)))?;
                all.extend(signed);
            }
        }
        Ok(all)
    }
}

/// Exactly as many bytes as were announced, and a note of why they did not come.
struct Source<'a> {
    reader: Box<dyn Read + 'a>,
    left: u64,
    error: Option<io::Error>,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let got = self.reader.read(&mut buffer[..most]).and_then(|got| match got {
            0 => Err(io::Error::new(ErrorKind::UnexpectedEof, "it became shorter as it was read")),
            got => Ok(got),
        });
        match got {
            Ok(got) => {
                self.left -= got as u64;
                Ok(got)
            }
            Err(error) => {
                let copy = io::Error::new(error.kind(), error.to_string());
                self.error = Some(error);
                Err(copy)
            }
        }
    }
}

/// Whether a failure is likely to be gone in a moment, and the request may go out again.
fn may_repeat(repeat: Repeat, failure: &Failure) -> bool {
    match failure {
        Failure::Refused { status, .. } => *status == 503 && repeat != Repeat::Never,
        Failure::Broken { .. } => repeat == Repeat::Always,
        _ => false,
    }
}

/// How long to wait after attempt number `attempt` (from 1): twice as long each time, or as the service
/// wishes, and up to half as long again so that many clients do not come back together.
fn back_off(attempt: u32, wish: Option<Duration>, random: u64) -> Duration {
    let doubled = BACK_OFF_FIRST.saturating_mul(1 << (attempt - 1).min(16));
    let base = wish.unwrap_or(doubled).min(BACK_OFF_MAX);
    base + base.mul_f64((random % 1000) as f64 / 2000.0)
}

fn random() -> u64 {
    RandomState::new().hash_one(0_u8)
}

fn retry_after(answer: &Answer) -> Option<Duration> {
    let seconds = answer.headers().get("retry-after")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// What went wrong below HTTP, or in it.
pub fn network(call: &Call<'_>, error: ureq::Error) -> Failure {
    let what = call.what.clone();
    let endpoint = call.endpoint.to_string();
    match error {
        ureq::Error::Io(ref e)
            if matches!(
                e.kind(),
                ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::BrokenPipe
                    | ErrorKind::UnexpectedEof
            ) =>
        {
            Failure::Broken { what, endpoint, source: Box::new(error) }
        }
        ureq::Error::Io(_)
        | ureq::Error::Timeout(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed => {
            Failure::Unreachable { endpoint, source: Box::new(error) }
        }
        other => Failure::Nonsense { what, why: other.to_string() },
    }
}

#[derive(Deserialize)]
struct XmlError {
    #[serde(rename = "Code")]
    code: String,
    #[serde(rename = "Message", default)]
    message: String,
}

#[derive(Deserialize)]
struct JsonError {
    code: String,
    #[serde(default)]
    message: String,
}

/// What the service said when it refused.
fn refusal(call: &Call<'_>, mut answer: Answer) -> Failure {
    let status = answer.status();
    // A HEAD has no body, and a body that breaks off tells no more than the status.
    let bytes = answer.body_mut().with_config().limit(ERROR_BYTES_MAX).read_to_vec();
    let text = String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default();
    let (code, message) = explanation(call.dialect, &text).unwrap_or_else(|| {
        let reason = status.canonical_reason().unwrap_or("refused");
        (reason.replace(' ', ""), reason.to_lowercase())
    });
    let hint = hint(&code);
    Failure::Refused { what: call.what.clone(), status: status.as_u16(), code, message, hint }
}

fn explanation(dialect: Dialect, text: &str) -> Option<(String, String)> {
    let (code, message) = match dialect {
        Dialect::Xml => {
            let error: XmlError = quick_xml::de::from_str(text).ok()?;
            (error.code, error.message)
        }
        Dialect::Json => {
            let error: JsonError = serde_json::from_str(text).ok()?;
            (error.code, error.message)
        }
    };
    let message = if message.is_empty() { "no explanation given".to_owned() } else { message };
    Some((crate::output::plain(&code), crate::output::plain(&message)))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_vary_by_half() {
        let waits: Vec<_> = (1..=8).map(|n| back_off(n, None, 0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert!(back_off(1, None, 999).as_millis() < 300);
    }

    #[test]
    fn the_service_may_wish_for_a_wait_within_the_limit() {
        let wish = |s| back_off(1, Some(Duration::from_secs(s)), 0).as_secs();
        assert_eq!((wish(3), wish(3600)), (3, 10));
    }

    #[test]
    fn both_dialects_are_understood_and_rubbish_is_not() {
        let xml = "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>gone</Message>\
                   <Resource>/b/k</Resource></Error>";
        let want = Some(("NoSuchKey".to_owned(), "gone".to_owned()));
        assert_eq!(explanation(Dialect::Xml, xml), want);
        let json = r#"{"code":"NoSuchKey","message":"gone","more":1}"#;
        assert_eq!(explanation(Dialect::Json, json), want);
        assert_eq!(explanation(Dialect::Xml, "<html>"), None);
        assert_eq!(explanation(Dialect::Json, ""), None);
    }

    #[test]
    fn a_source_that_shrinks_is_noticed_and_one_that_grows_is_cut() {
        let reader = Box::new(&b"abc"[..]);
        let mut source = Source { reader, left: 5, error: None };
        assert!(source.read_to_end(&mut Vec::new()).is_err());
        assert_eq!(source.error.unwrap().kind(), ErrorKind::UnexpectedEof);
        let mut source = Source { reader: Box::new(&b"abc"[..]), left: 2, error: None };
        let mut got = Vec::new();
        source.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"ab");
    }
}
