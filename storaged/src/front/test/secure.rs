//! The front behind TLS, with a client of the same library and sockets that speak none.

use super::*;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

type Secure = StreamOwned<ClientConnection, TcpStream>;

struct Server {
    _front: Front,
    address: SocketAddr,
    client: Arc<ClientConfig>,
}

fn start_secure(times: limits::Times) -> Server {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&(0..FILE_BYTES).map(file_byte).collect::<Vec<_>>()).unwrap();
    let data = tempfile::tempdir().unwrap();
    let config = crate::certificate::own(data.path(), "127.0.0.1".parse().unwrap()).unwrap();
    let pem = std::fs::read(data.path().join("tls.pem")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (front, address) = serve_with(Arc::new(OwnedFd::from(file)), times, Some(config));
    Server { _front: front, address, client: Arc::new(client) }
}

impl Server {
    fn connect(&self) -> Secure {
        let name = "127.0.0.1".try_into().unwrap();
        let connection = ClientConnection::new(Arc::clone(&self.client), name).unwrap();
        StreamOwned::new(connection, connect(self.address))
    }

    /// All that comes until the server closes, which it must say.
    fn talk(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    }
}

fn body(answer: &[u8]) -> &[u8] {
    let head = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    &answer[head + 4..]
}

fn asking(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\n{CLOSE}\r\n").into_bytes()
}

#[test]
fn bytes_files_and_streams_come_through() {
    let server = start_secure(limits::Times::default());
    assert_eq!(body(&server.talk(&asking("/x"))), b"GET /x");
    for length in [0, 1, 65_536, 65_537, FILE_BYTES - 3] {
        let answer = server.talk(&asking(&format!("/file/{length}")));
        let got = body(&answer);
        assert_eq!(got.len(), length);
        assert!(got.iter().enumerate().all(|(at, byte)| *byte == file_byte(at + 3)));
    }
    let chunks = server.talk(&asking("/stream"));
    assert_eq!(body(&chunks), b"8\r\npiece 2;\r\n8\r\npiece 4;\r\n0\r\n\r\n");
    // Until the end, which TLS makes known: a cut would be an error of the read.
    assert_eq!(body(&server.talk(b"GET /stream HTTP/1.0\r\n\r\n")), b"piece 2;piece 4;");
}

#[test]
fn a_connection_serves_many_requests_and_large_uploads() {
    let server = start_secure(limits::Times::default());
    let mut stream = server.connect();
    let upload = vec![b'u'; 3 << 20];
    for _ in 0..3 {
        let head =
            format!("PUT /length HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", upload.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&upload).unwrap();
        let expected = upload.len().to_string();
        let mut answer = Vec::new();
        while !answer.ends_with(expected.as_bytes()) {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
    }
    let requests: Vec<u8> = ["/slow", "/a", "/file/9", "/b"]
        .iter()
        .flat_map(|path| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes())
        .chain(asking("/last"))
        .collect();
    stream.write_all(&requests).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let text = String::from_utf8_lossy(&all);
    let places: Vec<_> = ["late", "GET /a", "GET /b", "GET /last"].map(|t| text.find(t)).into();
    assert!(places.is_sorted() && places.iter().all(Option::is_some), "{text}");
}

#[test]
fn a_body_is_asked_for_by_a_continue() {
    let server = start_secure(limits::Times::default());
    let mut stream = server.connect();
    let head =
        format!("PUT /echo HTTP/1.1\r\n{CLOSE}Content-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut told = vec![0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut told).unwrap();
    assert_eq!(told, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abc").unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(body(&all), b"abc");
}

#[test]
fn who_speaks_no_tls_is_told_so_and_left() {
    let server = start_secure(limits::Times::default());
    let mut stream = connect(server.address);
    stream.write_all(&asking("/x")).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    // An alert record: 21, whatever version, two bytes.
    assert!(all.first() == Some(&21) && all.len() == 7, "{all:?}");
    assert_eq!(body(&server.talk(&asking("/x"))), b"GET /x");
}

#[test]
fn who_does_not_finish_a_handshake_is_left() {
    let server = start_secure(impatient());
    let mut stream = connect(server.address);
    let hello = [22, 3, 1, 1, 0];
    for byte in hello.iter().chain(std::iter::repeat_n(&1, 100)) {
        std::thread::sleep(Duration::from_millis(50));
        if stream.write_all(&[*byte]).is_err() {
            return;
        }
    }
    panic!("bytes of a handshake may drip for ever");
}

#[test]
fn a_slow_reader_gets_all_of_a_large_file() {
    let server = start_secure(limits::Times::default());
    let mut stream = server.connect();
    stream.write_all(&asking("/file/8000000")).unwrap();
    let mut first = [0];
    stream.read_exact(&mut first).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(body(&rest).len(), 8_000_000);
}

#[test]
fn a_refusal_is_encrypted_too() {
    let server = start_secure(limits::Times::default());
    let answer = server.talk(b"nonsense\r\n\r\n");
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&answer));
}
