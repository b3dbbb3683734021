//! What HTTP/1.1 lets two readers read differently, over real sockets: one answer, then the end.

use super::*;

/// A request that must never be answered: it stands where only a wrong reading sees a request.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n";

/// Sends it all at once; the one status answered, after which the connection was closed.
fn only_status(address: SocketAddr, bytes: &[u8]) -> String {
    let answer = talk(address, bytes);
    assert_eq!(answer.matches("\r\nserver: ").count(), 1, "{answer}");
    assert!(!answer.contains("/hidden"), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    answer["HTTP/1.1 ".len()..][..3].to_owned()
}

fn put_with(fields: &str, rest: &str) -> Vec<u8> {
    format!("PUT /echo HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n{rest}").into_bytes()
}

#[test]
fn a_length_beside_an_encoding_hides_no_request() {
    let (_front, address) = start();
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 0\r\nTransfer-Encoding: identity",
    ] {
        let body = format!("0\r\n\r\n{HIDDEN}");
        assert_eq!(only_status(address, &put_with(fields, &body)), "400", "{fields}");
    }
}

#[test]
fn a_length_that_is_not_one_number_hides_no_request() {
    let (_front, address) = start();
    for fields in [
        "Content-Length: 3\r\nContent-Length: 3",
        "Content-Length: 3\r\nContent-Length: 30",
        "Content-Length: 3, 3",
        "Content-Length: +3",
        "Content-Length: -3",
        "Content-Length: 3 3",
        "Content-Length: 0x3",
        "Content-Length: 3;",
        "Content-Length:",
        "Content-Length: 18446744073709551616",
        "Content-Length : 3",
        "Content-Length\t: 3",
    ] {
        let body = format!("abc{HIDDEN}");
        assert_eq!(only_status(address, &put_with(fields, &body)), "400", "{fields}");
    }
}

#[test]
fn an_encoding_that_is_not_chunked_hides_no_request() {
    let (_front, address) = start();
    let chunked = format!("3\r\nabc\r\n0\r\n\r\n{HIDDEN}");
    for fields in [
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding:",
    ] {
        assert_eq!(only_status(address, &put_with(fields, &chunked)), "501", "{fields}");
    }
    for fields in [
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding: chunked\x00",
        "Transfer\x00-Encoding: chunked",
        " Transfer-Encoding: chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "X: y\r\n\tTransfer-Encoding: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "Transfer-Encoding\r\n: chunked",
    ] {
        assert_eq!(only_status(address, &put_with(fields, &chunked)), "400", "{fields:?}");
    }
    let old = format!("PUT /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}");
    assert_eq!(only_status(address, old.as_bytes()), "501");
}

#[test]
fn a_chunk_that_is_not_exactly_one_hides_no_request() {
    let (_front, address) = start();
    for body in [
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcX\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "3;a\rb\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "-1\r\n\r\n0\r\n\r\n",
        "3 3\r\nabc\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n",
        "10000000000000003\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "0\r\nContent-Length : 3\r\n\r\n",
        "0\r\n folded: x\r\n\r\n",
        "0\r\nX: y\n\r\n",
    ] {
        let all = put_with("Transfer-Encoding: chunked", &format!("{body}{HIDDEN}"));
        assert_eq!(only_status(address, &all), "400", "{body:?}");
    }
    let long = format!("3;x={}\r\nabc\r\n0\r\n\r\n", "y".repeat(limits::CHUNK_LINE_BYTES_MAX));
    assert_eq!(only_status(address, &put_with("Transfer-Encoding: chunked", &long)), "400");
}

#[test]
fn a_trailer_is_no_header_and_no_request() {
    let (_front, address) = start();
    let body = "3\r\nabc\r\n0\r\nContent-Length: 40\r\nX: y\r\n\r\n";
    let next = format!("GET /next HTTP/1.1\r\n{CLOSE}\r\n");
    let answer = talk(address, &put_with("Transfer-Encoding: chunked", &format!("{body}{next}")));
    assert!(answer.contains("\r\n\r\nabcHTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("GET /next"), "{answer}");
}

#[test]
fn heads_too_large_in_each_way_have_their_status() {
    let (_front, address) = start();
    let status = |head: String| only_status(address, head.as_bytes());
    let path = |length| "a".repeat(length);
    let target = |length| status(format!("GET /{} HTTP/1.1\r\n{CLOSE}\r\n", path(length)));
    assert_eq!(target(limits::TARGET_BYTES_MAX - 1), "200");
    assert_eq!(target(limits::TARGET_BYTES_MAX), "414");
    assert_eq!(target(2 * limits::HEAD_BYTES_MAX), "414");
    let fields = |count: usize| {
        let lines: String = (0..count).map(|n| format!("X-{n}: y\r\n")).collect();
        status(format!("GET /x HTTP/1.1\r\n{CLOSE}{lines}\r\n"))
    };
    assert_eq!(fields(limits::HEADERS_MAX - 2), "200");
    assert_eq!(fields(limits::HEADERS_MAX - 1), "431");
    let long = "y".repeat(limits::HEAD_BYTES_MAX);
    assert_eq!(status(format!("GET /x HTTP/1.1\r\n{CLOSE}X: {long}\r\n\r\n")), "431");
    // Without an end it is refused as soon as it is too long.
    assert_eq!(status(format!("GET /x HTTP/1.1\r\nX: {long}{long}")), "431");
}

#[test]
fn methods_and_versions_that_are_not_served_say_so() {
    let (_front, address) = start();
    let request = |line: &str| format!("{line}\r\n{CLOSE}\r\n");
    let status = |line: &str| only_status(address, request(line).as_bytes());
    assert_eq!(status("PATCH /x HTTP/1.1"), "405");
    assert_eq!(status("TRACE /x HTTP/1.1"), "405");
    assert_eq!(status("CONNECT h:80 HTTP/1.1"), "405");
    assert_eq!(status("BREW /x HTTP/1.1"), "501");
    assert_eq!(status("GET /x HTTP/2.0"), "505");
    assert_eq!(status("PRI * HTTP/2.0"), "505");
    assert_eq!(status("GET x HTTP/1.1"), "400");
    assert_eq!(status("GET /x"), "400");
    assert_eq!(status("GET /x HTTP/1.1 "), "400");
    assert_eq!(status("GET /\u{7f} HTTP/1.1"), "400");
    let answer = talk(address, request("PATCH /x HTTP/1.1").as_bytes());
    assert!(answer.contains("\r\nallow: GET, HEAD, PUT, POST, DELETE, OPTIONS\r\n"), "{answer}");
    assert_eq!(status("GET http://h/x HTTP/1.1"), "200");
    assert_eq!(status("GET http://elsewhere/x HTTP/1.1"), "400");
}

#[test]
fn an_old_client_is_served_once_unless_it_asks_for_more() {
    let (_front, address) = start();
    let answer = talk(address, b"GET /x HTTP/1.0\r\n\r\nGET /y HTTP/1.0\r\n\r\n");
    assert!(answer.ends_with("GET /x") && answer.contains("connection: close"), "{answer}");
    let kept = "GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let answer = talk(address, format!("{kept}GET /y HTTP/1.0\r\n\r\n").as_bytes());
    assert!(answer.contains("GET /x") && answer.ends_with("GET /y"), "{answer}");
    // An expectation means nothing in HTTP/1.0: no 100 (RFC 9110, 10.1.1).
    let expecting = "PUT /echo HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc";
    let answer = talk(address, expecting.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("abc"), "{answer}");
}

#[test]
fn a_thousand_pipelined_requests_are_answered_in_order() {
    let (_front, address) = start();
    let requests: String =
        (0..1000).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
    let last = format!("GET /last HTTP/1.1\r\n{CLOSE}\r\n");
    let answer = talk(address, format!("{requests}{last}").as_bytes());
    let mut at = 0;
    for n in 0..1000 {
        at += answer[at..].find(&format!("GET /{n}HTTP/1.1")).unwrap();
    }
    assert!(answer.ends_with("GET /last"));
}

#[test]
fn pipelined_uploads_larger_than_the_window_do_not_stall() {
    let (_front, address) = start();
    let mut stream = connect(address);
    let body = vec![b'x'; 3 * limits::BODY_WINDOW_BYTES];
    let head = format!("PUT /length HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut writer = stream.try_clone().unwrap();
    let one = [head.as_bytes(), &body].concat();
    let sender = std::thread::spawn(move || (0..5).for_each(|_| writer.write_all(&one).unwrap()));
    for _ in 0..5 {
        assert_eq!(read_response(&mut stream).1, body.len().to_string().as_bytes());
    }
    sender.join().unwrap();
}
