//! What consoled's tests share: a real consoled, and daemons that are played.
#![allow(dead_code, reason = "each test takes what it needs")]

pub mod zoned;

use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, accept, bind, listen, recv,
    send, socket,
};
use nix::unistd::close;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;
use wire::frame::{Frame, Kind, MESSAGE_BYTES_MAX};

/// Longer than any answer takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The admin token.
pub const TOKEN: &str = "the-admin-token-of-this-test";

/// consoled, its folder, and where it listens; killed when dropped.
pub struct Console {
    pub child: Child,
    pub run: TempDir,
    pub address: SocketAddr,
    /// What it says on standard error behind its first line, once it has ended.
    said: Option<JoinHandle<Vec<String>>>,
}

impl Console {
    pub fn start() -> Self {
        let run = tempfile::tempdir().unwrap();
        std::fs::write(run.path().join("admin-token"), format!("{TOKEN}\n")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_consoled"));
        command.args(["--listen", "127.0.0.1:0"]);
        Self::spawn(command, run)
    }

    pub fn spawn(mut command: Command, run: TempDir) -> Self {
        let (token, data) = (run.path().join("admin-token"), run.path().join("data"));
        command.arg("--run").arg(run.path()).arg("--token-file").arg(token).arg("--data").arg(data);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let address = first.rsplit(' ').next().unwrap().parse().unwrap();
        let said = Some(std::thread::spawn(move || lines.map_while(Result::ok).collect()));
        Self { child, run, address, said }
    }

    /// What it said until its end, which is waited for.
    pub fn said(&mut self) -> Vec<String> {
        self.said.take().unwrap().join().unwrap()
    }

    /// Sends a request as it is, and gives status, head and body of the answer.
    pub fn raw(&self, request: &[u8]) -> (u16, String, Value) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    pub fn ask(&self, method: &str, target: &str) -> (u16, Value) {
        self.tell(method, target, "")
    }

    /// Sends a request with a body.
    pub fn tell(&self, method: &str, target: &str, body: &str) -> (u16, Value) {
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\
             Authorization: Bearer {TOKEN}\r\n\r\n{body}",
            body.len()
        );
        let (status, _, body) = self.raw(request.as_bytes());
        (status, body)
    }

    pub fn plays(
        &self,
        daemon: &str,
        answer: impl Fn(Value) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Receiver<Value> {
        play(&self.run.path().join(format!("{daemon}.sock")), answer)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Plays a daemon at `path`: each message's body goes into the channel, and `answer` says which messages
/// to send for a request. The thread ends with the process.
fn play(path: &Path, answer: impl Fn(Value) -> Vec<Vec<u8>> + Send + 'static) -> Receiver<Value> {
    let listener =
        socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    listen(&listener, Backlog::new(8).unwrap()).unwrap();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let listener: OwnedFd = listener;
        loop {
            let peer = accept(listener.as_raw_fd()).unwrap();
            let mut buffer = vec![0; MESSAGE_BYTES_MAX];
            loop {
                let got = recv(peer, &mut buffer, MsgFlags::empty()).unwrap_or(0);
                if got == 0 {
                    break;
                }
                let frame = Frame::parse(&buffer[..got], 0).unwrap();
                let body: Value = frame.body().unwrap();
                // The receiver may have lost interest.
                drop(sender.send(body.clone()));
                let answers = if frame.kind == Kind::Request { answer(body) } else { Vec::new() };
                for message in answers {
                    send(peer, &message, MsgFlags::MSG_NOSIGNAL).unwrap();
                }
            }
            close(peer).unwrap();
        }
    });
    receiver
}
