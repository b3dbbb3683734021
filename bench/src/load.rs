//! The load of PUTs: blocking connections, one request at a time each, every request signed anew.

use crate::peers::{KEYS_ACCESS, keys};
use crate::process::Server;
use crate::statistics::percentile;
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tests::sigv4::{self, Parts};

/// How long one answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// The longest head of an answer, and the longest body that is read.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// What a round came to.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// Requests a second.
    pub rate: f64,
    /// Of their latencies, in microseconds.
    pub p99_us: f64,
    /// Microseconds of the server's CPU time a request.
    pub cpu_us: f64,
}

/// A load of PUTs.
#[derive(Debug, Clone)]
pub struct Load {
    /// Where to.
    pub bucket: String,
    /// Bytes of an object.
    pub bytes: usize,
    /// Connections.
    pub connections: usize,
    /// Keys of each connection, taken in turn.
    pub keys: usize,
    /// How long.
    pub time: Duration,
}

/// A connection that is kept.
pub struct Connection {
    stream: TcpStream,
    host: String,
    answer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub fn new(address: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(address).context("connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        Ok(Connection { stream, host: address.to_string(), answer: Vec::new() })
    }

    /// Asks and reads the whole answer: its status and body.
    pub fn ask(
        &mut self,
        method: &str,
        path: &str,
        query: &[(String, String)],
        body: &[u8],
    ) -> Result<(u16, &[u8])> {
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let time = SystemTime::now();
        let payload = sigv4::UNSIGNED;
        let headers = [
            own("host", &self.host),
            own("x-amz-content-sha256", payload),
            own("x-amz-date", &sigv4::timestamp(time)),
        ];
        let signature =
            sigv4::sign(&keys(), &Parts { method, path, query, headers: &headers, payload, time });
        let authorization = sigv4::authorization(&keys(), &signature);
        let mark = if query.is_empty() { "" } else { "?" };
        let target = format!("{path}{mark}{}", sigv4::query_string(query));
        let mut message = format!(
            "{method} {target} HTTP/1.1\r\nhost: {}\r\nx-amz-content-sha256: {payload}\r\nx-amz-date: {}\r\n\
             authorization: {authorization}\r\ncontent-length: {}\r\n\r\n",
            self.host, headers[2].1, body.len()
        )
        .into_bytes();
        message.extend_from_slice(body);
        self.stream.write_all(&message)?;
        self.read()
    }

    fn read(&mut self) -> Result<(u16, &[u8])> {
        self.answer.clear();
        let mut buffer = [0; 64 * 1024];
        loop {
            let read = self.stream.read(&mut buffer).context("read an answer")?;
            ensure!(read > 0, "the connection was closed");
            self.answer.extend_from_slice(&buffer[..read]);
            ensure!(self.answer.len() <= ANSWER_BYTES_MAX, "an answer is too long");
            let Some(end) = self.answer.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&self.answer[..end]).to_ascii_lowercase();
            let field = |name: &str| {
                let line = head.lines().find_map(|line| line.strip_prefix(name));
                line.map(str::trim).map(str::to_owned)
            };
            let complete = match field("content-length:") {
                Some(length) => self.answer.len() >= end + 4 + length.parse::<usize>()?,
                None if field("transfer-encoding:").is_some() => {
                    self.answer.ends_with(b"0\r\n\r\n")
                }
                None => true,
            };
            if complete {
                let status = head.split(' ').nth(1).unwrap_or_default().parse()?;
                return Ok((status, &self.answer[end + 4..]));
            }
        }
    }
}

/// Makes a bucket, if it is not there.
pub fn make_bucket(address: SocketAddr, bucket: &str) -> Result<()> {
    let mut connection = Connection::new(address)?;
    let (status, body) = connection.ask("PUT", &format!("/{bucket}"), &[], b"")?;
    let text = String::from_utf8_lossy(body);
    ensure!(
        status == 200 || status == 409,
        "can't make a bucket as {KEYS_ACCESS}: {status} {text}"
    );
    Ok(())
}

/// Runs a round of PUTs against a server.
pub fn put(server: &Server, load: &Load) -> Result<Round> {
    let body: Arc<Vec<u8>> = Arc::new(tests::load::content(7, load.bytes));
    let before = server.cpu_seconds();
    let began = Instant::now();
    let threads: Vec<_> = (0..load.connections)
        .map(|number| {
            let (load, body, address) = (load.clone(), Arc::clone(&body), server.address);
            std::thread::spawn(move || put_one_by_one(address, &load, number, &body, began))
        })
        .collect();
    let mut latencies = Vec::new();
    for thread in threads {
        latencies.extend(thread.join().expect("a thread of the load does not panic")?);
    }
    let seconds = began.elapsed().as_secs_f64();
    let cpu = server.cpu_seconds() - before;
    latencies.sort_unstable();
    let count = latencies.len() as f64;
    Ok(Round {
        rate: count / seconds,
        p99_us: percentile(&latencies, 0.99) as f64,
        cpu_us: cpu * 1e6 / count,
    })
}

/// Latencies in microseconds of one connection's PUTs.
fn put_one_by_one(
    address: SocketAddr,
    load: &Load,
    number: usize,
    body: &[u8],
    began: Instant,
) -> Result<Vec<u64>> {
    let mut connection = Connection::new(address)?;
    let mut latencies = Vec::new();
    for turn in 0.. {
        if began.elapsed() >= load.time {
            break;
        }
        let path = format!("/{}/put/{number}/{}", load.bucket, turn % load.keys);
        let asked = Instant::now();
        let (status, answer) = connection.ask("PUT", &path, &[], body)?;
        ensure!(status == 200, "a PUT: {status} {}", String::from_utf8_lossy(answer));
        latencies.push(u64::try_from(asked.elapsed().as_micros())?);
    }
    Ok(latencies)
}

/// Puts objects `0..count` of a size, 32 connections at a time: what GETs then ask for.
pub fn fill(
    address: SocketAddr,
    bucket: &str,
    prefix: &str,
    count: usize,
    bytes: usize,
) -> Result<()> {
    const CONNECTIONS: usize = 32;
    make_bucket(address, bucket)?;
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|first| {
            let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
            std::thread::spawn(move || -> Result<()> {
                let mut connection = Connection::new(address)?;
                for number in (first..count).step_by(CONNECTIONS) {
                    let body = tests::load::content(number as u64, bytes);
                    let path = format!("/{bucket}/{prefix}{number}");
                    let (status, answer) = connection.ask("PUT", &path, &[], &body)?;
                    ensure!(status == 200, "{path}: {status} {}", String::from_utf8_lossy(answer));
                }
                Ok(())
            })
        })
        .collect();
    threads.into_iter().try_for_each(|t| t.join().expect("a thread of the load does not panic"))
}
