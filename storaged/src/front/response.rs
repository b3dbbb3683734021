//! The head of a response and the framing of its body. Pure.

use super::head::METHODS;
use super::refusal::Refusal;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, SERVER, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode, Version};

/// What this server calls itself.
const SERVER_NAME: &str = "Mobula";

/// Ends a chunked body.
pub const LAST_CHUNK: Bytes = Bytes::from_static(b"0\r\n\r\n");
/// Ends a chunk.
pub const CHUNK_END: Bytes = Bytes::from_static(b"\r\n");
/// Lets a client that waits for it send its body.
pub const CONTINUE: Bytes = Bytes::from_static(b"HTTP/1.1 100 Continue\r\n\r\n");

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// So many bytes.
    Known(u64),
    /// Only its end will tell.
    Unknown,
}

/// How a body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none, whatever the head says.
    None,
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// Until the connection is closed, for HTTP/1.0.
    Close,
}

/// What the request says about its response.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its method: HEAD has no body.
    pub method: Method,
    /// Its version: HTTP/1.0 knows no chunks.
    pub version: Version,
}

/// How a body is to be sent.
pub fn framing(asked: &Asked, status: StatusCode, length: Length) -> Framing {
    let bodiless = status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || asked.method == Method::HEAD;
    match length {
        _ if bodiless => Framing::None,
        Length::Known(length) => Framing::Length(length),
        Length::Unknown if asked.version == Version::HTTP_10 => Framing::Close,
        Length::Unknown => Framing::Chunked,
    }
}

/// The bytes of a response's head.
pub fn encode_head(
    status: StatusCode,
    headers: &HeaderMap,
    framing: Framing,
    keep_alive: bool,
    date: &str,
) -> Bytes {
    let mut out = BytesMut::with_capacity(512);
    put(&mut out, &[b"HTTP/1.1 ", status.as_str().as_bytes(), b" "]);
    put(&mut out, &[status.canonical_reason().unwrap_or("Status").as_bytes(), b"\r\n"]);
    for (name, value) in headers {
        let ours = name == CONNECTION || name == TRANSFER_ENCODING || name == DATE;
        // A HEAD's or a 304's length is the handler's: it is that of the body which is not sent.
        let counted = name == CONTENT_LENGTH && framing != Framing::None;
        let useless = name == CONTENT_LENGTH && status == StatusCode::NO_CONTENT;
        if !(ours || counted || useless) {
            put(&mut out, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }
    match framing {
        Framing::Length(length) => {
            put(&mut out, &[b"content-length: ", length.to_string().as_bytes(), b"\r\n"]);
        }
        Framing::Chunked => put(&mut out, &[b"transfer-encoding: chunked\r\n"]),
        Framing::None | Framing::Close => {}
    }
    if !headers.contains_key(SERVER) {
        put(&mut out, &[b"server: ", SERVER_NAME.as_bytes(), b"\r\n"]);
    }
    put(&mut out, &[b"date: ", date.as_bytes(), b"\r\n"]);
    let connection: &[u8] = if keep_alive { b"keep-alive" } else { b"close" };
    put(&mut out, &[b"connection: ", connection, b"\r\n\r\n"]);
    out.freeze()
}

/// Ends a head that was written elsewhere with the fields that are the front's.
pub fn finish_head(mut head: Vec<u8>, keep_alive: bool, date: &str) -> Bytes {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let rest = ["server: ", SERVER_NAME, "\r\ndate: ", date, "\r\nconnection: ", connection];
    rest.iter().for_each(|part| head.extend_from_slice(part.as_bytes()));
    head.extend_from_slice(b"\r\n\r\n");
    head.into()
}

/// A whole response for a request that is refused.
pub fn encode_refusal(refusal: Refusal, asked: Option<&Asked>, date: &str) -> Bytes {
    let status = refusal.status();
    let body = format!("{status}: {refusal}\n");
    let mut headers = HeaderMap::new();
    headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    if refusal == Refusal::Method {
        let allowed = METHODS.map(|method| method.to_string()).join(", ");
        let allowed = http::HeaderValue::try_from(allowed).expect("methods are tokens");
        headers.insert(http::header::ALLOW, allowed);
    }
    let head = encode_head(status, &headers, Framing::Length(body.len() as u64), false, date);
    let silent = asked.is_some_and(|asked| asked.method == Method::HEAD);
    if silent { head } else { [&head[..], body.as_bytes()].concat().into() }
}

/// The line before a chunk's bytes.
pub fn chunk_start(length: usize) -> Bytes {
    format!("{length:x}\r\n").into()
}

fn put(out: &mut BytesMut, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.put_slice(part));
}

/// The current date as HTTP writes it, made once a second.
#[derive(Debug, Default)]
pub struct Clock {
    second: u64,
    text: String,
}

impl Clock {
    /// Now.
    pub fn date(&mut self) -> &str {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // Before 1970 there is no clock worth telling.
        let second = now.map_or(0, |since| since.as_secs());
        if self.text.is_empty() || second != self.second {
            self.second = second;
            self.text = http_date(second);
        }
        &self.text
    }
}

/// A Unix time as RFC 9110 wants it: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(seconds: u64) -> String {
    let mut text = Vec::with_capacity(29);
    put_http_date(&mut text, seconds);
    String::from_utf8(text).expect("a date is ASCII")
}

/// Appends a Unix time as RFC 9110 wants it.
pub fn put_http_date(out: &mut Vec<u8>, seconds: u64) {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // The calendar in years that begin in March, so that the leap day is the last of its year; days
    // are counted from 0000-03-01, which is 719,468 days before 1970.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    let two = |number: u64| [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8];
    let time = [second / 3_600, second / 60 % 60, second % 60].map(two);
    out.extend_from_slice(DAYS[(days % 7) as usize].as_bytes());
    out.extend_from_slice(b", ");
    out.extend_from_slice(&two(day));
    out.push(b' ');
    out.extend_from_slice(MONTHS[month as usize].as_bytes());
    out.push(b' ');
    out.extend_from_slice(&two(year / 100));
    out.extend_from_slice(&two(year));
    for (before, number) in [b' ', b':', b':'].into_iter().zip(time) {
        out.push(before);
        out.extend_from_slice(&number);
    }
    out.extend_from_slice(b" GMT");
}

#[cfg(test)]
mod test {
    use super::*;

    fn asked(method: Method, version: Version) -> Asked {
        Asked { method, version }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(http_date(4_107_542_399), "Sun, 28 Feb 2100 23:59:59 GMT");
        assert_eq!(http_date(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT");
    }

    #[test]
    fn bodies_are_framed_as_request_and_status_allow() {
        let new = asked(Method::GET, Version::HTTP_11);
        let old = asked(Method::GET, Version::HTTP_10);
        let head = asked(Method::HEAD, Version::HTTP_11);
        let ok = StatusCode::OK;
        assert_eq!(framing(&new, ok, Length::Known(3)), Framing::Length(3));
        assert_eq!(framing(&new, ok, Length::Unknown), Framing::Chunked);
        assert_eq!(framing(&old, ok, Length::Unknown), Framing::Close);
        assert_eq!(framing(&head, ok, Length::Known(3)), Framing::None);
        assert_eq!(framing(&new, StatusCode::NOT_MODIFIED, Length::Known(3)), Framing::None);
    }

    #[test]
    fn a_head_has_one_length_and_ours_counts() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, 99.into());
        headers.insert(CONNECTION, http::HeaderValue::from_static("x"));
        let text = encode_head(StatusCode::OK, &headers, Framing::Length(3), true, "now");
        assert_eq!(
            text,
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nserver: Mobula\r\ndate: now\r\n\
             connection: keep-alive\r\n\r\n"
        );
        let text = encode_head(StatusCode::OK, &headers, Framing::None, false, "now");
        assert!(text.starts_with(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n"));
    }

    #[test]
    fn a_refusal_says_why() {
        let text = encode_refusal(Refusal::Host, None, "now");
        assert!(text.starts_with(b"HTTP/1.1 400 Bad Request\r\n"));
        assert!(text.ends_with(b"there must be one Host field\n"));
    }
}
