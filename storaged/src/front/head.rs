//! The head of a request: from bytes to parts, or a refusal. Pure.
//!
//! Stricter than HTTP asks for wherever leniency has let one request be read as two: only CR LF ends a
//! line, no field is folded, a body's length is given once and in one way.

use super::limits::{HEAD_BYTES_MAX, HEADERS_MAX, TARGET_BYTES_MAX};
use super::refusal::Refusal;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use memchr::{memchr_iter, memchr2_iter};

/// What the services here answer to. A method beside them is known and not allowed (405) if HTTP's own
/// documents name it (RFC 9110, RFC 5789), and not known (501) if not.
pub const METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE, Method::OPTIONS];

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By its length; 0 where the head says nothing.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// A request's head and what it says about the connection.
#[derive(Debug)]
pub struct Head {
    /// What is asked for.
    pub request: Request<()>,
    /// How its body is delimited.
    pub framing: Framing,
    /// Whether the client waits for a 100 before it sends the body.
    pub expects_continue: bool,
    /// Whether another request may follow.
    pub keep_alive: bool,
}

/// Finds the end of a head, given how many bytes were looked at before. `Ok(Err(n))`: not there yet,
/// `n` bytes have been looked at.
pub fn find_end(bytes: &[u8], looked_at: usize) -> Result<Result<usize, usize>, Refusal> {
    // Three bytes back: the end may have been cut anywhere.
    let from = looked_at.saturating_sub(3);
    let end = memchr_iter(b'\n', &bytes[from..])
        .find(|&at| bytes[from..=from + at].ends_with(b"\r\n\r\n"))
        .map(|at| from + at + 1);
    let head = &bytes[..end.unwrap_or(bytes.len())];
    if head.len() > HEAD_BYTES_MAX {
        // Without the end of a line, all of it is the first one, and that is long by its target.
        let has_line = head.windows(2).any(|w| w == b"\r\n");
        return Err(if has_line { Refusal::HeadTooLong } else { Refusal::TargetTooLong });
    }
    let bare = |at: usize| match head[at] {
        b'\n' => at == 0 || head[at - 1] != b'\r',
        b'\r' => head.get(at + 1).is_some_and(|&next| next != b'\n'),
        _ => false,
    };
    let back = from.saturating_sub(1);
    if memchr2_iter(b'\r', b'\n', &head[back..]).any(|at| bare(back + at)) {
        return Err(Refusal::BareLineEnd);
    }
    Ok(end.ok_or(bytes.len()))
}

/// Parses a whole head, the empty line included.
pub fn parse(bytes: &[u8]) -> Result<Head, Refusal> {
    let folds =
        |at: usize| bytes[..at].ends_with(b"\r") && matches!(bytes.get(at + 1), Some(b' ' | b'\t'));
    if memchr_iter(b'\n', bytes).any(folds) {
        return Err(Refusal::FoldedField);
    }
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(Refusal::Head),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooManyFields),
        Err(httparse::Error::Version) if has_version(bytes) => return Err(Refusal::Version),
        Err(_) => return Err(Refusal::Head),
    }
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let text = parsed.path.unwrap_or_default();
    if text.len() > TARGET_BYTES_MAX {
        return Err(Refusal::TargetTooLong);
    }
    let mut request = Request::new(());
    *request.version_mut() = version;
    *request.method_mut() = method(parsed.method.unwrap_or_default())?;
    let (uri, authority) = target(text)?;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.reserve(parsed.headers.len());
    for field in &*parsed.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Refusal::Head)?;
        headers.append(name, HeaderValue::from_bytes(field.value).map_err(|_| Refusal::Head)?);
    }
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && version == Version::HTTP_11) {
        return Err(Refusal::Host);
    }
    // Whom a request is for is said twice in a proxy's form: either both agree or one lies.
    if let (Some(authority), Some(host)) = (authority, headers.get(HOST))
        && !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes())
    {
        return Err(Refusal::Host);
    }
    let framing = framing(headers, version)?;
    let expects_continue = expects_continue(headers, version)?;
    let keep_alive = keep_alive(headers, version);
    Ok(Head { request, framing, expects_continue, keep_alive })
}

/// Whether the first line has three parts, of which the last is some version of HTTP.
fn has_version(head: &[u8]) -> bool {
    let line = head.split(|&b| b == b'\r').next().unwrap_or_default();
    let mut parts = line.split(|&b| b == b' ');
    let version = parts.nth(2);
    parts.next().is_none() && version.is_some_and(|version| version.starts_with(b"HTTP/"))
}

fn method(text: &str) -> Result<Method, Refusal> {
    let method = Method::from_bytes(text.as_bytes()).map_err(|_| Refusal::Head)?;
    match method {
        method if METHODS.contains(&method) => Ok(method),
        Method::PATCH | Method::TRACE | Method::CONNECT => Err(Refusal::Method),
        _ => Err(Refusal::MethodUnknown),
    }
}

/// A path with its query, and the authority if it came in the form that a proxy is sent, which a server
/// must take as well (RFC 9112, 3.2.2).
fn target(text: &str) -> Result<(Uri, Option<String>), Refusal> {
    let uri: Uri = text.parse().map_err(|_| Refusal::Target)?;
    if text.starts_with('/') {
        return Ok((uri, None));
    }
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(Refusal::Target);
    }
    let parts = uri.into_parts();
    let authority = parts.authority.ok_or(Refusal::Target)?;
    let path = parts.path_and_query.ok_or(Refusal::Target)?;
    let path = Uri::try_from(path.as_str()).map_err(|_| Refusal::Target)?;
    Ok((path, Some(authority.as_str().to_owned())))
}

fn framing(headers: &HeaderMap, version: Version) -> Result<Framing, Refusal> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(Refusal::LengthTwice);
    }
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    match (length, encodings.next()) {
        (Some(_), Some(_)) => Err(Refusal::LengthAndEncoding),
        (None, None) => Ok(Framing::Length(0)),
        (Some(length), None) => decimal(length.as_bytes()).map(Framing::Length),
        (None, Some(encoding)) => {
            let chunked = encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
            if chunked && encodings.next().is_none() && version == Version::HTTP_11 {
                Ok(Framing::Chunked)
            } else {
                Err(Refusal::Encoding)
            }
        }
    }
}

/// A length: digits only, no sign, no list.
fn decimal(text: &[u8]) -> Result<u64, Refusal> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::Length);
    }
    std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).ok_or(Refusal::Length)
}

fn expects_continue(headers: &HeaderMap, version: Version) -> Result<bool, Refusal> {
    match headers.get(EXPECT) {
        None => Ok(false),
        Some(value) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            Ok(version == Version::HTTP_11)
        }
        Some(_) => Err(Refusal::Expectation),
    }
}

fn keep_alive(headers: &HeaderMap, version: Version) -> bool {
    let says = |word: &str| {
        headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case(word))
    };
    !says("close") && (version == Version::HTTP_11 || says("keep-alive"))
}

#[cfg(test)]
mod test {
    use super::*;

    fn refused(head: &str) -> Refusal {
        let head = head.replace('\n', "\r\n") + "\r\n\r\n";
        parse(head.as_bytes()).unwrap_err()
    }

    fn accepted(head: &str) -> Head {
        parse((head.replace('\n', "\r\n") + "\r\n\r\n").as_bytes()).unwrap()
    }

    #[test]
    fn a_plain_head_is_taken_apart() {
        let head = accepted(
            "PUT /b/a%20b?x=1 HTTP/1.1\nHost: h\nContent-Length: 12\nExpect: 100-Continue",
        );
        assert_eq!(head.request.uri(), "/b/a%20b?x=1");
        assert_eq!(head.request.method(), Method::PUT);
        assert_eq!(head.framing, Framing::Length(12));
        assert!(head.expects_continue && head.keep_alive);
    }

    #[test]
    fn the_connection_is_kept_as_version_and_field_say() {
        assert!(!accepted("GET / HTTP/1.0").keep_alive);
        assert!(accepted("GET / HTTP/1.0\nConnection: Keep-Alive").keep_alive);
        assert!(!accepted("GET / HTTP/1.1\nHost: h\nConnection: te, close").keep_alive);
    }

    #[test]
    fn a_body_delimited_in_two_ways_is_refused() {
        let head = "POST / HTTP/1.1\nHost: h\n";
        let refused = |more: &str| refused(&format!("{head}{more}"));
        assert_eq!(
            refused("Content-Length: 1\nTransfer-Encoding: chunked"),
            Refusal::LengthAndEncoding
        );
        assert_eq!(refused("Content-Length: 1\nContent-Length: 1"), Refusal::LengthTwice);
        assert_eq!(refused("Content-Length: 1, 1"), Refusal::Length);
        assert_eq!(refused("Content-Length: +1"), Refusal::Length);
        assert_eq!(refused("Content-Length: 0x1"), Refusal::Length);
        assert_eq!(refused("Content-Length: 99999999999999999999"), Refusal::Length);
        assert_eq!(refused("Transfer-Encoding: gzip, chunked"), Refusal::Encoding);
        assert_eq!(refused("Transfer-Encoding: xchunked"), Refusal::Encoding);
        assert_eq!(
            refused("Transfer-Encoding: chunked\nTransfer-Encoding: identity"),
            Refusal::Encoding
        );
        assert_eq!(refused("Transfer-Encoding : chunked"), Refusal::Head);
    }

    #[test]
    fn odd_heads_are_refused() {
        assert_eq!(refused("GET / HTTP/1.1\nHost: h\n folded"), Refusal::FoldedField);
        assert_eq!(refused("GET / HTTP/1.1"), Refusal::Host);
        assert_eq!(refused("GET / HTTP/1.1\nHost: h\nHost: h"), Refusal::Host);
        assert_eq!(refused("GET / HTTP/2.0\nHost: h"), Refusal::Version);
        assert_eq!(refused("GET http://x/ HTTP/1.1\nHost: h"), Refusal::Host);
        assert_eq!(refused("GET ftp://h/ HTTP/1.1\nHost: h"), Refusal::Target);
        assert_eq!(refused("OPTIONS * HTTP/1.1\nHost: h"), Refusal::Target);
        assert_eq!(refused("GET  / HTTP/1.1\nHost: h"), Refusal::Head);
        assert_eq!(refused("GET /a b HTTP/1.1\nHost: h"), Refusal::Head);
        assert_eq!(refused("GET / HTTP/1.1\nHost: h\nExpect: tea"), Refusal::Expectation);
        assert_eq!(refused("rubbish"), Refusal::Head);
    }

    #[test]
    fn a_target_in_a_proxys_form_is_its_path() {
        let head = accepted("GET http://H:80/a?b=c HTTP/1.1\nHost: h:80");
        assert_eq!(head.request.uri(), "/a?b=c");
        assert_eq!(accepted("GET https://h HTTP/1.1\nHost: h").request.uri(), "/");
    }

    #[test]
    fn methods_are_served_known_or_unknown() {
        let refused = |method: &str| refused(&format!("{method} /x HTTP/1.1\nHost: h"));
        assert_eq!(refused("PATCH"), Refusal::Method);
        assert_eq!(refused("TRACE"), Refusal::Method);
        assert_eq!(refused("CONNECT"), Refusal::Method);
        assert_eq!(refused("BREW"), Refusal::MethodUnknown);
        assert_eq!(refused("get"), Refusal::MethodUnknown);
        for method in METHODS {
            accepted(&format!("{method} /x HTTP/1.1\nHost: h"));
        }
    }

    #[test]
    fn only_cr_lf_ends_a_line() {
        assert_eq!(find_end(b"GET / HTTP/1.1\nHost: h\n\n", 0), Err(Refusal::BareLineEnd));
        assert_eq!(find_end(b"GET / HTTP/1.1\r\nA: b\rc\r\n", 16), Err(Refusal::BareLineEnd));
        assert_eq!(find_end(b"GET / HTTP/1.1\r", 0), Ok(Err(15)));
        assert_eq!(find_end(b"A\r\n\r\nB", 0), Ok(Ok(5)));
        assert_eq!(find_end(&[b'a'; HEAD_BYTES_MAX + 1], 0), Err(Refusal::TargetTooLong));
        let long = [b"GET / HTTP/1.1\r\nA: ".to_vec(), vec![b'a'; HEAD_BYTES_MAX]].concat();
        assert_eq!(find_end(&long, 0), Err(Refusal::HeadTooLong));
    }
}
