//! Asking a daemon over the wire: one connection, one request, one answer, one deadline.

use crate::problem::Problem;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixDatagram;
use wire::frame::{Frame, FrameError, Kind, MESSAGE_BYTES_MAX, Refusal, encode};
use wire::task::{Hello, Peer};

/// How long a daemon may take for its answer: all of them answer from memory.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Messages that are passed over while the answer is awaited: news that was not asked for.
const PASSED_OVER_MAX: usize = 64;
/// The id of our only request on a connection.
const ID: u64 = 1;

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
    let path = run.join(format!("{}.sock", daemon.name()));
    let late = || Problem::away(daemon, &format!("nothing came within {} s", ANSWER_MAX.as_secs()));
    tokio::time::timeout(ANSWER_MAX, exchange(daemon, &path, request)).await.map_err(|_| late())?
}

async fn exchange<Q: Serialize, R: DeserializeOwned>(
    daemon: Daemon,
    path: &Path,
    request: &Q,
) -> Result<R, Problem> {
    let away = |error: io::Error| Problem::away(daemon, &format!("{}: {error}", path.display()));
    let nonsense = |error: FrameError| Problem::nonsense(daemon, &chain(&error));
    let socket = open(path).map_err(away)?;
    if daemon == Daemon::Storaged {
        // storaged serves several kinds of peers and wants to know which one comes.
        let hello = encode(Kind::Hello, 0, &Hello { peer: Peer::Consoled }, 0);
        socket.send(&hello.map_err(nonsense)?).await.map_err(away)?;
    }
    let message = encode(Kind::Request, ID, request, 0).map_err(nonsense)?;
    socket.send(&message).await.map_err(away)?;
    let mut buffer = vec![0; MESSAGE_BYTES_MAX + 1];
    for _ in 0..PASSED_OVER_MAX {
        let got = read(&socket, &mut buffer).await.map_err(away)?;
        let frame = Frame::parse(&buffer[..got], 0).map_err(nonsense)?;
        match (frame.kind, frame.id) {
            (Kind::Reply, ID) => return frame.body().map_err(nonsense),
            (Kind::Refusal, ID) => {
                let refusal: Refusal = frame.body().map_err(nonsense)?;
                return Err(Problem::refused(refusal));
            }
            (Kind::Reply | Kind::Refusal | Kind::Hello | Kind::Push | Kind::Request, _) => {}
        }
    }
    Err(Problem::nonsense(daemon, "it talks of other things"))
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

/// Reads one message, which is a byte longer than any may be if it was cut. Descriptors that come with it
/// are dropped by the kernel, since nobody here asks for them.
async fn read(socket: &UnixDatagram, buffer: &mut [u8]) -> io::Result<usize> {
    match socket.recv(buffer).await? {
        0 => Err(io::ErrorKind::ConnectionReset.into()),
        got => Ok(got),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
