//! storaged's own numbers, asked for over HTTP on this machine: one request, one answer, then nothing.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long storaged may take: it tells what it has counted. The message says it too.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// The most bytes of an answer: thousands of lines more than there are.
const BYTES_MAX: u64 = 4 << 20;

/// Why there are no numbers of storaged.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It cannot be reached, or breaks off.
    #[error("{address}: {source}")]
    Io {
        /// Where it was asked.
        address: SocketAddr,
        /// What happened.
        source: io::Error,
    },
    /// It takes too long.
    #[error("{0}: no answer within 5 s")]
    Slow(SocketAddr),
    /// Its answer is none.
    #[error("{address}: the answer {why}")]
    Answer {
        /// Where it was asked.
        address: SocketAddr,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// storaged's numbers, as it tells them.
pub async fn scrape(address: SocketAddr) -> Result<String, StoreError> {
    let answer = tokio::time::timeout(ANSWER_MAX, exchange(address)).await;
    let bytes = answer
        .map_err(|_| StoreError::Slow(address))?
        .map_err(|source| StoreError::Io { address, source })?;
    body(&bytes).map_err(|why| StoreError::Answer { address, why })
}

async fn exchange(address: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(BYTES_MAX).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// The body of an answer that is whole by its own words.
fn body(bytes: &[u8]) -> Result<String, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "is no text")?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("has no head")?;
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if !(status.starts_with("HTTP/1.1 200") || status.starts_with("HTTP/1.0 200")) {
        return Err("is not 200");
    }
    let length = lines.filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    match length {
        Some(length) if length == body.len() => Ok(body.to_owned()),
        Some(_) => Err("is not as long as it says"),
        None => Err("does not say how long it is"),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn only_a_whole_answer_is_one() {
        let good = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n";
        assert_eq!(body(good).unwrap(), "a 1\n");
        for bad in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n\r\na 1\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na 1\n",
            b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\na 1\n",
            b"\xff\r\n\r\n",
        ] {
            assert!(body(bad).is_err(), "{bad:?}");
        }
    }
}
