//! The front against real sockets, with a toy behind it.

use super::*;
use crate::front::counts::PortCounts;
use http::{Method, StatusCode};
use http_body::{Body as _, Frame};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::task::{Context, Poll};

/// Answers by path: `/echo` with the body, `/length` with its length, `/file/N` with N bytes of a file,
/// `/deaf` without reading the body, `/slow` after a while, `/stream` in pieces, `/panic` never.
struct Toy {
    file: Descriptor,
}

const FILE_BYTES: usize = 8 << 20;

fn file_byte(at: usize) -> u8 {
    (at / 7 % 251) as u8
}

async fn collect(mut body: Body) -> Result<Vec<u8>, s3s::StdError> {
    let mut all = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        all.extend_from_slice(&frame?.into_data().unwrap_or_default());
    }
    Ok(all)
}

struct Pieces(u8);

impl http_body::Body for Pieces {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, Self::Error>>> {
        self.0 += 1;
        match self.0 {
            1 | 3 | 5 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            2 | 4 => Poll::Ready(Some(Ok(Frame::data(format!("piece {};", self.0).into())))),
            _ => Poll::Ready(None),
        }
    }
}

impl Service for Toy {
    fn call(&self, request: Request<Body>) -> Answer {
        let file = Arc::clone(&self.file);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let path = parts.uri.path();
            if let Some(length) = path.strip_prefix("/file/") {
                let length = length.parse().unwrap();
                let mut response = Response::new(Body::empty());
                response.extensions_mut().insert(FileRange { file, offset: 3, length });
                return response;
            }
            match path {
                "/echo" => match collect(body).await {
                    Ok(bytes) => Response::new(Body::from(bytes)),
                    Err(e) => {
                        let mut response = Response::new(Body::from(e.to_string()));
                        *response.status_mut() = StatusCode::BAD_REQUEST;
                        response
                    }
                },
                "/length" => {
                    let length = collect(body).await.unwrap().len();
                    Response::new(Body::from(length.to_string()))
                }
                "/slow" => {
                    let (sender, receiver) = crossbeam::channel::bounded(1);
                    let mut asleep = false;
                    std::future::poll_fn(|cx| {
                        if !std::mem::replace(&mut asleep, true) {
                            let (waker, sender) = (cx.waker().clone(), sender.clone());
                            std::thread::spawn(move || {
                                std::thread::sleep(Duration::from_millis(300));
                                sender.send(()).unwrap();
                                waker.wake();
                            });
                        }
                        receiver.try_recv().map_or(Poll::Pending, Poll::Ready)
                    })
                    .await;
                    Response::new(Body::from("late".to_owned()))
                }
                "/stream" => Response::new(Body::http_body(Pieces(0))),
                "/panic" => panic!("as asked"),
                _ => Response::new(Body::from(format!("{} {path}", parts.method))),
            }
        })
    }
}

fn start() -> (Front, SocketAddr) {
    start_with(limits::Times::default())
}

fn start_with(times: limits::Times) -> (Front, SocketAddr) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&(0..FILE_BYTES).map(file_byte).collect::<Vec<_>>()).unwrap();
    serve(Arc::new(OwnedFd::from(file)), times)
}

fn serve(file: Descriptor, times: limits::Times) -> (Front, SocketAddr) {
    serve_with(file, times, None)
}

fn serve_with(
    file: Descriptor,
    times: limits::Times,
    tls: Option<Arc<ServerConfig>>,
) -> (Front, SocketAddr) {
    let listener = sys::socket::listen_tcp("127.0.0.1:0".parse().unwrap(), 64).unwrap();
    let address = sys::listen::local_address(&listener).unwrap().unwrap();
    let service = Arc::new(Toy { file });
    (
        Front::start_with(
            vec![Port { listener, service, kinds: Kinds::one("toy"), tls }],
            Setting { threads: 2, times, lines: None },
        )
        .unwrap(),
        address,
    )
}

/// Waits for something to come true.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(std::time::Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// All that comes until the server closes.
fn talk(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    String::from_utf8_lossy(&all).into_owned()
}

/// One response: its status line and its body, by its length.
fn read_response(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head.lines().next().unwrap().to_owned(), body)
}

mod secure;
mod strict;

const CLOSE: &str = "Host: h\r\nConnection: close\r\n";

#[test]
fn a_request_is_answered_and_the_connection_kept() {
    let (_front, address) = start();
    let mut stream = connect(address);
    for _ in 0..3 {
        stream.write_all(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let (status, body) = read_response(&mut stream);
        assert_eq!((status.as_str(), body.as_slice()), ("HTTP/1.1 200 OK", &b"GET /x"[..]));
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (_front, address) = start();
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut stream = connect(address);
    let all = [request("/slow"), request("/a"), request("/file/9"), request("/b")].concat();
    stream.write_all(all.as_bytes()).unwrap();
    let bodies: Vec<_> = (0..4).map(|_| read_response(&mut stream).1).collect();
    let file: Vec<_> = (3..12).map(file_byte).collect();
    assert_eq!(bodies, [&b"late"[..], b"GET /a", &file, b"GET /b"]);
}

#[test]
fn bodies_of_both_framings_arrive_whole() {
    let (_front, address) = start();
    let big = vec![b'z'; 5 << 20];
    let mut stream = connect(address);
    let head = format!("PUT /length HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", big.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&big).unwrap();
    assert_eq!(read_response(&mut stream).1, big.len().to_string().as_bytes());
    let chunked = "PUT /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n";
    for byte in chunked.as_bytes() {
        stream.write_all(&[*byte]).unwrap();
    }
    assert_eq!(read_response(&mut stream).1, b"abcde");
}

#[test]
fn a_continue_is_sent_when_the_body_is_asked_for() {
    let (_front, address) = start();
    let mut stream = connect(address);
    let expect = "Host: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(format!("PUT /echo HTTP/1.1\r\n{expect}").as_bytes()).unwrap();
    assert_eq!(read_response(&mut stream).0, "HTTP/1.1 100 Continue");
    stream.write_all(b"abc").unwrap();
    assert_eq!(read_response(&mut stream).1, b"abc");
    // Not asked for: the answer comes at once, and the connection ends, as the body may come or not.
    let answer = talk(address, format!("PUT /deaf HTTP/1.1\r\n{expect}").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("connection: close"));
}

#[test]
fn files_are_sent_whole_small_and_large() {
    let (_front, address) = start();
    let mut stream = connect(address);
    for length in [0, 1, 65536, 65537, FILE_BYTES - 3] {
        stream
            .write_all(format!("GET /file/{length} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes())
            .unwrap();
        let (_, body) = read_response(&mut stream);
        assert_eq!(body.len(), length);
        assert!(body.iter().enumerate().all(|(at, byte)| *byte == file_byte(at + 3)));
    }
}

#[test]
fn files_that_are_not_in_memory_are_sent_whole_too() {
    use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
    let mut cold = tempfile::tempfile().unwrap();
    cold.write_all(&(0..FILE_BYTES).map(file_byte).collect::<Vec<_>>()).unwrap();
    cold.sync_all().unwrap();
    let file: Descriptor = Arc::new(OwnedFd::from(cold.try_clone().unwrap()));
    let (_front, address) = serve(file, limits::Times::default());
    let mut stream = connect(address);
    for length in [60_000, FILE_BYTES - 3] {
        posix_fadvise(&cold, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
        let request = format!("GET /file/{length} HTTP/1.1\r\nHost: h\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let (_, body) = read_response(&mut stream);
        assert_eq!(body.len(), length);
        assert!(body.iter().enumerate().all(|(at, byte)| *byte == file_byte(at + 3)));
    }
}

#[test]
fn a_slow_reader_gets_all_of_a_large_file_and_holds_up_nobody() {
    let (_front, address) = start();
    let mut slow = connect(address);
    slow.write_all(b"GET /file/8000000 HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut first = [0; 1];
    slow.read_exact(&mut first).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(talk(address, format!("GET /x HTTP/1.1\r\n{CLOSE}\r\n").as_bytes()).contains("GET /x"));
    let mut rest = vec![0; 8_000_000];
    slow.read_exact(&mut rest).unwrap();
}

#[test]
fn a_head_request_has_no_body() {
    let (_front, address) = start();
    let answer = talk(address, format!("HEAD /file/70000 HTTP/1.1\r\n{CLOSE}\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn a_stream_is_sent_in_chunks() {
    let (_front, address) = start();
    let answer = talk(address, format!("GET /stream HTTP/1.1\r\n{CLOSE}\r\n").as_bytes());
    assert!(answer.ends_with("\r\n8\r\npiece 2;\r\n8\r\npiece 4;\r\n0\r\n\r\n"), "{answer}");
}

#[test]
fn an_old_client_gets_a_stream_until_the_end() {
    let (_front, address) = start();
    let answer = talk(address, b"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(answer.ends_with("\r\n\r\npiece 2;piece 4;"), "{answer}");
}

#[test]
fn rubbish_is_refused_and_the_server_stays() {
    let (_front, address) = start();
    let status = |bytes: &[u8]| talk(address, bytes).lines().next().unwrap_or("").to_owned();
    assert_eq!(status(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"), "HTTP/1.1 400 Bad Request");
    assert_eq!(status(b"GET / HTTP/1.1\nHost: h\n\n"), "HTTP/1.1 400 Bad Request");
    assert_eq!(
        status(
            b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
        ),
        "HTTP/1.1 400 Bad Request"
    );
    let long = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "y".repeat(64 << 10));
    assert_eq!(status(long.as_bytes()), "HTTP/1.1 431 Request Header Fields Too Large");
    let broken = "PUT /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX";
    assert_eq!(status(broken.as_bytes()), "HTTP/1.1 400 Bad Request");
    assert_eq!(status(format!("GET /x HTTP/1.1\r\n{CLOSE}\r\n").as_bytes()), "HTTP/1.1 200 OK");
}

#[test]
fn a_panic_is_an_answer_and_no_end() {
    let (_front, address) = start();
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\n{CLOSE}\r\n");
    assert!(talk(address, request("/panic").as_bytes()).starts_with("HTTP/1.1 500"));
    assert!(talk(address, request("/x").as_bytes()).starts_with("HTTP/1.1 200"));
}

#[test]
fn a_refused_upload_sees_its_answer_though_nobody_reads_it() {
    let (_front, address) = start();
    let mut stream = connect(address);
    let length = 64 << 20;
    let head = format!("PUT /deaf HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&vec![0; 1 << 20]).unwrap();
    let (status, body) = read_response(&mut stream);
    assert_eq!((status.as_str(), body.as_slice()), ("HTTP/1.1 200 OK", &b"PUT /deaf"[..]));
}

#[test]
fn an_upload_cut_short_is_no_upload() {
    let (_front, address) = start();
    let mut stream = connect(address);
    stream.write_all(b"PUT /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let (status, body) = read_response(&mut stream);
    assert_eq!(status, "HTTP/1.1 400 Bad Request");
    assert!(String::from_utf8(body).unwrap().contains("closed the connection"));
}

#[test]
fn a_drain_lets_requests_finish_and_takes_no_new_ones() {
    let (front, address) = start();
    let mut busy = connect(address);
    let mut idle = connect(address);
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let counts = front.counts();
    eventually("both are there, and one asks", || {
        let total = |number: fn(&PortCounts) -> u64| counts.total(0, number);
        total(|port| port.opened.get()) == 2 && total(|port| port.begun.get()) == 1
    });
    let drain = std::thread::spawn(move || front.drain(Duration::from_secs(10)));
    let (_, body) = read_response(&mut busy);
    assert_eq!(body, b"late");
    drop(busy);
    assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0);
    drain.join().unwrap();
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_thousand_connections_are_served() {
    let (_front, address) = start();
    let mut streams: Vec<_> = (0..1000).map(|_| connect(address)).collect();
    let method = Method::GET;
    for stream in &mut streams {
        stream.write_all(format!("{method} /x HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
    }
    for stream in &mut streams {
        assert_eq!(read_response(stream).1, b"GET /x");
    }
}

/// Limits so short that a test can wait for them.
fn impatient() -> limits::Times {
    let short = Duration::from_millis(500);
    limits::Times {
        head: short,
        keep_alive: short,
        body_idle: short,
        send_idle: short,
        handler: short,
        linger: short,
    }
}

#[test]
fn a_head_that_drips_in_is_refused() {
    let (_front, address) = start_with(impatient());
    let mut stream = connect(address);
    let mut answer = Vec::new();
    for byte in b"GET / HTTP/1.1\r\nHost: h\r\nX: 0123456789abcdef".iter().cycle() {
        std::thread::sleep(Duration::from_millis(100));
        // Whoever is late finds the answer, and behind it that nobody listens any more.
        let refused = stream.write_all(&[*byte]).is_err();
        stream.set_nonblocking(true).unwrap();
        let read = stream.read_to_end(&mut answer);
        stream.set_nonblocking(false).unwrap();
        if refused || read.is_ok() || !answer.is_empty() {
            break;
        }
    }
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_body_that_does_not_come_is_refused() {
    let (_front, address) = start_with(impatient());
    let head = "PUT /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc";
    assert!(talk(address, head.as_bytes()).starts_with("HTTP/1.1 408 "));
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let (_front, address) = start_with(impatient());
    assert_eq!(talk(address, b""), "");
}

#[test]
fn a_client_that_reads_nothing_is_dropped() {
    let (front, address) = start_with(impatient());
    let mut stream = connect(address);
    stream.write_all(b"GET /file/8000000 HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let counts = front.counts();
    eventually("it is dropped", || counts.total(0, |port| port.closed.get()) == 1);
    let mut all = Vec::new();
    // Cut off, by a reset or an end: either way not all of it.
    drop(stream.read_to_end(&mut all));
    assert!(all.len() < 8_000_000, "{}", all.len());
}
