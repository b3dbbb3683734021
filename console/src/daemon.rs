//! Asking a daemon over the wire: a connection, requests, each with one answer and one deadline, and news.

use crate::problem::Problem;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use wire::frame::{FDS_MAX, Frame, FrameError, Kind, MESSAGE_BYTES_MAX, Refusal, encode};
use wire::task::{Hello, Peer};

/// How long a daemon may take for its answer: all of them answer from memory.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// News that are kept while an answer is awaited: all that zoned still knows, with room to spare.
const NEWS_MAX: usize = 256;

/// Who can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// PID 1.
    Init,
    /// The object store.
    Storaged,
    /// The zones.
    Zoned,
}

impl Daemon {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Storaged => "storaged",
            Self::Zoned => "zoned",
        }
    }

    /// The word for its absence.
    pub const fn away_code(self) -> &'static str {
        match self {
            Self::Init => "InitUnavailable",
            Self::Storaged => "StoragedUnavailable",
            Self::Zoned => "ZonedUnavailable",
        }
    }
}

/// Asks a daemon, whose socket is in the folder `run`.
pub async fn ask<Q: Serialize, R: DeserializeOwned>(
    daemon: Daemon,
    run: &Path,
    request: &Q,
) -> Result<R, Problem> {
    Ok(Link::open(daemon, run).await?.ask(request).await?.0)
}

/// A connection to a daemon: several questions one after another, and news.
#[derive(Debug)]
pub struct Link {
    daemon: Daemon,
    path: PathBuf,
    socket: UnixDatagram,
    /// The id of the question before.
    last: u64,
    /// News that came while an answer was awaited.
    news: VecDeque<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Link {
    /// Connects to a daemon, whose socket is in the folder `run`.
    pub async fn open(daemon: Daemon, run: &Path) -> Result<Self, Problem> {
        let path = run.join(format!("{}.sock", daemon.name()));
        let away =
            |error: io::Error| Problem::away(daemon, &format!("{}: {error}", path.display()));
        let socket = open(&path).map_err(away)?;
        if daemon == Daemon::Storaged {
            // storaged serves several kinds of peers and wants to know which one comes.
            let hello = encode(Kind::Hello, 0, &Hello { peer: Peer::Consoled }, 0);
            let hello = hello.map_err(|error| Problem::nonsense(daemon, &chain(&error)))?;
            socket.send(&hello).await.map_err(away)?;
        }
        let (news, buffer) = (VecDeque::new(), vec![0; MESSAGE_BYTES_MAX + 1]);
        Ok(Self { daemon, path, socket, last: 0, news, buffer })
    }

    /// Asks, and gives the answer with the descriptors beside it.
    pub async fn ask<Q: Serialize, R: DeserializeOwned>(
        &mut self,
        request: &Q,
    ) -> Result<(R, Vec<OwnedFd>), Problem> {
        self.ask_within(ANSWER_MAX, request).await
    }

    /// Asks for what takes longer than an answer from memory.
    pub async fn ask_within<Q: Serialize, R: DeserializeOwned>(
        &mut self,
        most: Duration,
        request: &Q,
    ) -> Result<(R, Vec<OwnedFd>), Problem> {
        let daemon = self.daemon;
        let late = move |_| {
            Problem::away(daemon, &format!("nothing came within {} s", most.as_secs_f32()))
        };
        tokio::time::timeout(most, self.exchange(request)).await.map_err(late)?
    }

    async fn exchange<Q: Serialize, R: DeserializeOwned>(
        &mut self,
        request: &Q,
    ) -> Result<(R, Vec<OwnedFd>), Problem> {
        self.last += 1;
        let message = encode(Kind::Request, self.last, request, 0)
            .map_err(|error| Problem::unsendable(&error))?;
        self.socket.send(&message).await.map_err(|error| self.away(&error))?;
        loop {
            let (got, fds) = self.receive().await?;
            let frame = Frame::parse(&self.buffer[..got], fds.len());
            let frame = frame.map_err(|error| nonsense(self.daemon, &error))?;
            match frame.kind {
                Kind::Reply if frame.id == self.last => {
                    let body = frame.body().map_err(|error| nonsense(self.daemon, &error))?;
                    return Ok((body, fds));
                }
                Kind::Refusal if frame.id == self.last => {
                    let refusal: Refusal =
                        frame.body().map_err(|error| nonsense(self.daemon, &error))?;
                    return Err(Problem::refused(refusal));
                }
                Kind::Push => {
                    if self.news.len() == NEWS_MAX {
                        return Err(Problem::nonsense(self.daemon, "it talks of other things"));
                    }
                    self.news.push_back(self.buffer[..got].to_vec());
                }
                Kind::Reply | Kind::Refusal | Kind::Hello | Kind::Request => {}
            }
        }
    }

    /// The next news, once there are any. Nothing is lost if it is given up in between.
    pub async fn news<T: DeserializeOwned>(&mut self) -> Result<T, Problem> {
        loop {
            if let Some(news) = self.heard()? {
                return Ok(news);
            }
            let (got, fds) = self.receive().await?;
            let frame = Frame::parse(&self.buffer[..got], fds.len());
            if frame.map_err(|error| nonsense(self.daemon, &error))?.kind == Kind::Push {
                self.news.push_back(self.buffer[..got].to_vec());
            }
        }
    }

    /// News that came before the latest answer.
    pub fn heard<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Problem> {
        let Some(message) = self.news.pop_front() else { return Ok(None) };
        let body = Frame::parse(&message, 0).and_then(|frame| frame.body());
        body.map(Some).map_err(|error| nonsense(self.daemon, &error))
    }

    /// Reads one message, which is a byte longer than any may be if it was cut.
    async fn receive(&mut self) -> Result<(usize, Vec<OwnedFd>), Problem> {
        let (socket, buffer) = (&self.socket, &mut self.buffer);
        let got = socket.async_io(Interest::READABLE, || receive(socket, buffer)).await;
        match got {
            Ok((0, _)) => Err(self.away(&io::ErrorKind::ConnectionReset.into())),
            Ok(got) => Ok(got),
            Err(error) => Err(self.away(&error)),
        }
    }

    fn away(&self, error: &io::Error) -> Problem {
        Problem::away(self.daemon, &format!("{}: {error}", self.path.display()))
    }
}

/// A connection to `path`. The standard library knows no type for `SOCK_SEQPACKET`; its datagram socket
/// sends and receives messages in the same way, and is all that is needed on a connected one.
fn open(path: &Path) -> io::Result<UnixDatagram> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    // A full backlog is EAGAIN here, at once: the daemon is as good as away.
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    UnixDatagram::from_std(socket.into())
}

/// recvmsg(2): bytes and descriptors of one message.
fn receive(socket: &UnixDatagram, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(buffer)];
    let got = recvmsg(socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok((got.bytes, fds))
}

fn nonsense(daemon: Daemon, error: &FrameError) -> Problem {
    Problem::nonsense(daemon, &chain(error))
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
