//! Garbage on every socket: it is refused, and whoever sent it is dropped.

use crate::bad_tasks::{daemons, same_daemons};
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;
use tests::appliance::Appliance;
use tests::s3::Ask;
use wire::frame::{self, Kind};

/// Random messages for each socket.
const ROUNDS: usize = 20;

pub fn everywhere(a: &Appliance) -> Result<()> {
    let before = daemons(a)?;
    let mut rng = fastrand::Rng::with_seed(23);
    for port in a.ports {
        for request in http(&mut rng) {
            tcp(port, &request).with_context(|| format!("port {port}"))?;
        }
    }
    let sockets = a.agent.list("/run/mobula", false)?;
    let sockets: Vec<_> = sockets.iter().filter(|name| name.ends_with(".sock")).collect();
    ensure!(sockets.len() >= 4, "only {sockets:?} are in /run/mobula");
    for socket in sockets {
        wire(a, &format!("/run/mobula/{socket}"), &mut rng)?;
    }
    same_daemons(a, &before)?;
    a.s3.request(&Ask::new("GET", "/"))?.expect(200)?;
    a.jobs.request("GET", "", None)?.expect(200)?;
    Ok(())
}

/// Requests that are none, each wrong in its own way.
fn http(rng: &mut fastrand::Rng) -> Vec<Vec<u8>> {
    let noise = |rng: &mut fastrand::Rng, bytes: usize| -> Vec<u8> {
        (0..bytes).map(|_| rng.u8(..)).collect()
    };
    let mut requests: Vec<Vec<u8>> = (1..ROUNDS).map(|n| noise(rng, n * n * 10)).collect();
    let long = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(200_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(20_000));
    let chunk =
        "PUT /a/b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n";
    let length = "PUT /a/b HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n";
    let authorization =
        "GET / HTTP/1.1\r\nhost: a\r\nauthorization: AWS4-HMAC-SHA256 Credential=////,\r\n\r\n";
    let path = "GET /%ff%00/%2e%2e/%zz?%%%=&&&==%u1234 HTTP/1.1\r\nhost: a\r\n\r\n";
    let old = "GET / HTTP/0.9\r\n\r\n";
    let end = "PUT /a/b HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nshort";
    for request in [&long, &many, chunk, length, authorization, path, old, end] {
        requests.push(request.as_bytes().to_vec());
    }
    requests
}

/// Sends it, and waits for an answer or the end of the connection: both are good, silence is not.
fn tcp(port: u16, request: &[u8]) -> Result<()> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_write_timeout(Some(Duration::from_secs(30)))?;
    // The other side may hang up before it has read all of it.
    let sent = (&stream).write_all(request).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    match (&stream).take(1 << 20).read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => return Err(error).context(format!("no end, after {sent:?}")),
    }
    let text = String::from_utf8_lossy(&answer[..answer.len().min(12)]).into_owned();
    ensure!(!text.starts_with("HTTP/1.1 2"), "garbage was welcome: {text}");
    Ok(())
}

fn wire(a: &Appliance, socket: &str, rng: &mut fastrand::Rng) -> Result<()> {
    let mut messages: Vec<Vec<u8>> = Vec::new();
    for length in [0, 1, 23, 24, 25, 1_000, 60_000] {
        messages.push((0..length).map(|_| rng.u8(..)).collect());
    }
    let good = frame::encode(Kind::Request, 1, &"no such request", 0)?;
    for _ in 0..ROUNDS {
        let mut spoilt = good.clone();
        let at = rng.usize(..spoilt.len());
        spoilt[at] ^= 1 << rng.u8(..8);
        messages.push(spoilt);
    }
    messages.push(frame::encode(Kind::Request, 1, &"no such request", 3)?);
    messages.push(frame::encode(Kind::Hello, 1, &"no such hello", 0)?);
    messages.push(frame::encode(Kind::Reply, 77, &"an answer to nothing", 0)?);
    messages.push(good);
    // Each on a connection of its own, then all on one.
    for message in messages.iter().filter(|message| !message.is_empty()) {
        a.agent.send(socket, &[message]).with_context(|| format!("{socket}: {message:02x?}"))?;
    }
    let all: Vec<_> = messages.iter().map(Vec::as_slice).collect();
    a.agent.send(socket, &all).with_context(|| socket.to_owned())?;
    Ok(())
}
