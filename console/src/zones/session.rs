//! Sessions in zones: a WebSocket on one side, on the other a terminal or three pipes that zoned made.
//!
//! ```text
//!   client ══ WebSocket, session::Packet ══ consoled ══ pty or pipes ══ the program
//!                                              └── wire ── zoned: begins it, says how it ended
//! ```
//!
//! Nothing is kept beyond one piece in each direction: a client that does not read makes the program wait,
//! and a program that does not read makes the client wait. When the client goes, so do the descriptors,
//! and zoned ends what is left of the session.

use super::{ask, stray};
use crate::answer::Answer;
use crate::body::Page;
use crate::daemon::{Daemon, Link};
use crate::problem::Problem;
use crate::serve::Context;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::io::ioctl_fionbio;
use rustix::termios::{Winsize, tcsetwinsize};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};
use wire::frame::Refusal;
use wire::session::{Begin, End, PACKET_BYTES_MAX, PIECE_BYTES, Packet};
use wire::standing::{WindowSize, ZoneName, ZonePush, ZoneReply, ZoneRequest};
use wire::zone::Outcome;

/// How long a client may take to say what to run.
const BEGIN_MAX: Duration = Duration::from_secs(15);
/// How long output is awaited after the program's end. It is all there by then: its processes are gone.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// How long a client may take to read the last message.
const END_MAX: Duration = Duration::from_secs(15);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// What is answered to a plain request for a session.
pub fn not_asked_for() -> Problem {
    let message = "a session is a WebSocket (RFC 6455, version 13): `mobula zone exec` opens one";
    Problem::new(StatusCode::UPGRADE_REQUIRED, "WebSocketOnly", message)
}

/// Answers a request for a session by becoming a WebSocket.
pub fn begin(
    mut request: Request<Incoming>,
    zone: ZoneName,
    context: &Context,
) -> Result<Answer, Problem> {
    let key = key(request.headers()).ok_or_else(not_asked_for)?;
    let place = context.session()?;
    let upgrade = hyper::upgrade::on(&mut request);
    let (run, stopping) = (context.options.run.clone(), context.stopping.clone());
    tokio::spawn(async move {
        // A client that goes before it has the answer has asked for nothing.
        if let Ok(upgraded) = upgrade.await {
            serve(upgraded, zone, run, stopping, place).await;
        }
    });
    let mut answer = Response::new(Page::Whole(Full::new(Bytes::new())));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    Ok(answer)
}

/// The answer to the client's key, if the headers are those of a WebSocket.
fn key(headers: &HeaderMap) -> Option<HeaderValue> {
    let has = |name, word: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.split(',').any(|w| w.trim().eq_ignore_ascii_case(word)))
    };
    let asked = has(header::CONNECTION, "upgrade")
        && has(header::UPGRADE, "websocket")
        && has(header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| asked)?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
}

async fn serve(
    upgraded: Upgraded,
    zone: ZoneName,
    run: PathBuf,
    stopping: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(PACKET_BYTES_MAX))
        .max_frame_size(Some(PACKET_BYTES_MAX))
        .read_buffer_size(PACKET_BYTES_MAX)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * PACKET_BYTES_MAX);
    let io = TokioIo::new(upgraded);
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let end = match open(&mut socket, &zone, run).await {
        Ok(Opened::Attached(mut session)) => session.pump(&mut socket, stopping).await,
        Ok(Opened::Detached(session)) => Some(End::Detached { session }),
        Err(Some(refusal)) => Some(End::Refused(refusal)),
        Err(None) => None,
    };
    let Some(end) = end else { return };
    let last = async {
        send(&mut socket, &Packet::End(end)).await?;
        socket.close(None).await?;
        // The client closes its side when it has read the end.
        while let Some(Ok(_)) = socket.next().await {}
        Ok::<_, tungstenite::Error>(())
    };
    // Whoever does not want to hear the end need not.
    drop(timeout(END_MAX, last).await);
}

/// Hears what to run and has zoned begin it. The error is what to tell the client, if it is still there.
async fn open(
    socket: &mut Socket,
    zone: &ZoneName,
    run: PathBuf,
) -> Result<Opened, Option<Refusal>> {
    let refuse = |code: &str, message: String| Some(Refusal { code: code.to_owned(), message });
    let first = timeout(BEGIN_MAX, socket.next()).await.map_err(|_| None)?;
    let Some(Ok(Message::Binary(first))) = first else {
        return Err(refuse("InvalidPacket", "the first message has to be Begin (5)".to_owned()));
    };
    let begin = match Packet::parse(&first) {
        Ok(Packet::Begin(begin)) => begin,
        Ok(_) => return Err(refuse("InvalidPacket", "Begin (5) has to come first".to_owned())),
        Err(error) => return Err(refuse("InvalidPacket", error.to_string())),
    };
    Opened::begin(zone, begin, run).await.map_err(|problem| Some(problem.words()))
}

async fn send(socket: &mut Socket, packet: &Packet<'_>) -> Result<(), tungstenite::Error> {
    let bytes = packet.encode().expect("a piece, and an end, fit a message");
    socket.send(Message::Binary(bytes.into())).await
}

type Pipe = UnixStream;

/// A session that runs.
struct Session {
    number: u64,
    link: Link,
    terminal: bool,
    input: Option<Pipe>,
    /// What the client sent and the program has not read yet.
    pending: Vec<u8>,
    output: Option<Pipe>,
    errors: Option<Pipe>,
    over: Option<Outcome>,
}

/// What happened in a session.
enum Happened {
    Message(Option<Result<Message, tungstenite::Error>>),
    Wrote(io::Result<usize>),
    Output(io::Result<usize>),
    Errors(io::Result<usize>),
    News(Result<ZonePush, Problem>),
    Late,
}

/// What has begun.
enum Opened {
    Attached(Box<Session>),
    /// One that runs by itself, by its number.
    Detached(u64),
}

impl Opened {
    async fn begin(zone: &ZoneName, begin: Begin, run: PathBuf) -> Result<Self, Problem> {
        let Begin { command, environment, terminal, detached } = begin;
        wire::standing::check_command(&command, &environment)
            .map_err(|error| Problem::body("InvalidCommand", &error.to_string()))?;
        let mut link = Link::open(Daemon::Zoned, &run).await?;
        let name = zone.clone();
        let request = ZoneRequest::Exec { name, command, environment, terminal, detached };
        let (reply, pipes) = ask(&mut link, request).await?;
        let ZoneReply::Session { session: number } = reply else { return Err(stray(&reply)) };
        if detached {
            return Ok(Self::Detached(number));
        }
        let session = Session::new(number, link, pipes, terminal.is_some())?;
        Ok(Self::Attached(Box::new(session)))
    }
}

impl Session {
    fn new(
        number: u64,
        link: Link,
        mut pipes: Vec<OwnedFd>,
        terminal: bool,
    ) -> Result<Self, Problem> {
        let broken =
            |error: io::Error| Problem::nonsense(Daemon::Zoned, &format!("a descriptor: {error}"));
        let (input, output, errors) = match (terminal, pipes.len()) {
            (true, 1) => {
                let output = pipes.remove(0);
                (output.try_clone().map_err(broken)?, output, None)
            }
            (false, 3) => {
                let errors = pipes.pop();
                let output = pipes.remove(1);
                (pipes.remove(0), output, errors)
            }
            (_, got) => {
                let why = format!("a session with {got} descriptors");
                return Err(Problem::nonsense(Daemon::Zoned, &why));
            }
        };
        Ok(Self {
            number,
            link,
            terminal,
            input: Some(pipe(input).map_err(broken)?),
            pending: Vec::new(),
            output: Some(pipe(output).map_err(broken)?),
            errors: errors.map(pipe).transpose().map_err(broken)?,
            over: None,
        })
    }

    /// Passes on what comes from either side, to the end; nothing if the client has gone.
    async fn pump(
        &mut self,
        socket: &mut Socket,
        mut stopping: watch::Receiver<bool>,
    ) -> Option<End> {
        let mut out = vec![0; PIECE_BYTES];
        let mut err = vec![0; PIECE_BYTES];
        let mut late = std::pin::pin!(sleep(DRAIN_MAX));
        loop {
            let is_over = self.over.is_some();
            if self.output.is_none() && self.errors.is_none() && is_over {
                return self.over.take().map(End::Outcome);
            }
            let happened = tokio::select! {
                message = socket.next(), if self.pending.is_empty() => Happened::Message(message),
                wrote = write(self.input.as_ref(), &self.pending), if !self.pending.is_empty() => {
                    Happened::Wrote(wrote)
                }
                got = read(self.output.as_ref(), &mut out) => Happened::Output(got),
                got = read(self.errors.as_ref(), &mut err) => Happened::Errors(got),
                news = self.link.news(), if !is_over => Happened::News(news),
                () = late.as_mut(), if is_over => Happened::Late,
                _ = stopping.wait_for(|stop| *stop) => {
                    return Some(lost("consoled is stopping"));
                }
            };
            let passed = match happened {
                Happened::Message(Some(Ok(message))) => match self.hear(&message) {
                    Ok(true) => Ok(()),
                    Ok(false) => return None,
                    Err(refusal) => return Some(End::Refused(refusal)),
                },
                Happened::Message(Some(Err(_)) | None) => return None,
                Happened::Wrote(wrote) => {
                    self.wrote(wrote.ok());
                    Ok(())
                }
                Happened::Output(Ok(got)) if got > 0 => {
                    send(socket, &Packet::Output(&out[..got])).await
                }
                Happened::Errors(Ok(got)) if got > 0 => {
                    send(socket, &Packet::Errors(&err[..got])).await
                }
                // The other end is closed; a terminal says EIO then.
                Happened::Output(_) => {
                    self.output = None;
                    Ok(())
                }
                Happened::Errors(_) => {
                    self.errors = None;
                    Ok(())
                }
                Happened::News(Ok(ZonePush::SessionOver { session, outcome })) => {
                    if session == self.number {
                        self.over = Some(outcome);
                        late.set(sleep(DRAIN_MAX));
                    }
                    Ok(())
                }
                Happened::News(Ok(ZonePush::Events(_))) => Ok(()),
                Happened::News(Err(problem)) => return Some(lost(&problem.message)),
                Happened::Late => return self.over.take().map(End::Outcome),
            };
            if passed.is_err() {
                return None;
            }
        }
    }

    /// Takes a message of the client's; false if it says that it goes.
    fn hear(&mut self, message: &Message) -> Result<bool, Refusal> {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            // Answered by the library.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Ok(true),
            Message::Close(_) => return Ok(false),
            Message::Text(_) => return Err(unfit("messages are binary")),
        };
        match Packet::parse(bytes) {
            // A terminal has no end of input but the letter that its program takes for one.
            Ok(Packet::Input([])) if self.terminal => {}
            Ok(Packet::Input([])) => self.input = None,
            Ok(Packet::Input(bytes)) if self.input.is_some() => self.pending = bytes.to_vec(),
            // The program does not read any more.
            Ok(Packet::Input(_)) => {}
            Ok(Packet::Size(size)) => self.resize(size),
            Ok(Packet::Begin(_) | Packet::Output(_) | Packet::Errors(_) | Packet::End(_)) => {
                return Err(unfit("after Begin (5), a client sends input (0) and sizes (4)"));
            }
            Err(error) => return Err(unfit(&error.to_string())),
        }
        Ok(true)
    }

    fn resize(&self, size: WindowSize) {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        if let Some(terminal) = self.output.as_ref().filter(|_| self.terminal) {
            // It fails when the terminal is gone, and then its size is no matter.
            tcsetwinsize(terminal, size).unwrap_or_default();
        }
    }

    fn wrote(&mut self, wrote: Option<usize>) {
        match wrote {
            Some(count) => drop(self.pending.drain(..count)),
            // Nobody reads any more, as after `head -1`: what comes is thrown away.
            None => {
                self.pending.clear();
                self.input = None;
            }
        }
    }
}

fn lost(message: &str) -> End {
    End::Lost { message: message.to_owned() }
}

fn unfit(why: &str) -> Refusal {
    Refusal { code: "InvalidPacket".to_owned(), message: why.to_owned() }
}

/// The event loop knows no safe type for "any descriptor". A stream socket's is polled as they all are,
/// and nothing of a socket is asked of it here: what is read and written goes by read(2) and write(2).
fn pipe(fd: OwnedFd) -> io::Result<Pipe> {
    ioctl_fionbio(&fd, true)?;
    UnixStream::from_std(fd.into())
}

async fn read(pipe: Option<&Pipe>, into: &mut [u8]) -> io::Result<usize> {
    match pipe {
        None => std::future::pending().await,
        Some(pipe) => {
            pipe.async_io(Interest::READABLE, || Ok(rustix::io::read(pipe, &mut *into)?)).await
        }
    }
}

async fn write(pipe: Option<&Pipe>, bytes: &[u8]) -> io::Result<usize> {
    match pipe {
        None => Err(io::ErrorKind::BrokenPipe.into()),
        Some(pipe) => {
            pipe.async_io(Interest::WRITABLE, || Ok(rustix::io::write(pipe, bytes)?)).await
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (name.parse().unwrap(), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn the_key_is_answered_as_the_rfc_has_it() {
        let mut asked = headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]);
        assert_eq!(key(&asked).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        asked.remove("upgrade");
        assert_eq!(key(&asked), None);
    }
}
