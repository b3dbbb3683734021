//! What the supervisor hands over and wants to hear: sd_listen_fds(3) and sd_notify(3), without unsafe
//! code. The sockets come through `listenfd`; a notice is one datagram.

use listenfd::ListenFd;
use std::env;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use thiserror::Error;
use tokio::net::TcpListener;

/// The name under which init hands over consoled's socket.
const NAME: &str = "admin";

/// Why there is no socket to listen on.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Neither handed over nor asked for.
    #[error("no supervisor handed one over: start with --listen ADDRESS:PORT")]
    None,
    /// Sockets were handed over, none of them by the name of ours.
    #[error(
        "the supervisor handed over {names:?}, {NAME:?} was expected: check the service's file"
    )]
    Names {
        /// `LISTEN_FDNAMES`.
        names: String,
    },
    /// The one handed over is no TCP listener.
    #[error("the socket handed over is no TCP listener: check the service's file")]
    Kind(#[source] io::Error),
    /// The address cannot be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What bind(2) says.
        source: io::Error,
    },
}

/// The socket that was handed over, else one bound to `address`.
pub fn listener(address: Option<SocketAddr>) -> Result<TcpListener, ListenError> {
    let names = env::var("LISTEN_FDNAMES").ok();
    let mut inherited = ListenFd::from_env();
    if inherited.len() == 0 {
        let address = address.ok_or(ListenError::None)?;
        let bound = std::net::TcpListener::bind(address).and_then(adopt);
        return bound.map_err(|source| ListenError::Bind { address, source });
    }
    let place = place(names.as_deref())
        .ok_or_else(|| ListenError::Names { names: names.unwrap_or_default() })?;
    let socket = inherited.take_tcp_listener(place).map_err(ListenError::Kind)?;
    let socket = socket.ok_or(ListenError::None)?;
    adopt(socket).map_err(ListenError::Kind)
}

/// The number of our socket among those named; without names it is the first.
fn place(names: Option<&str>) -> Option<usize> {
    names.map_or(Some(0), |names| names.split(':').position(|name| name == NAME))
}

fn adopt(socket: std::net::TcpListener) -> io::Result<TcpListener> {
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

/// Tells the supervisor; silent if there is none.
pub fn notify(state: &str) -> io::Result<()> {
    match env::var_os("NOTIFY_SOCKET") {
        None => Ok(()),
        Some(path) => UnixDatagram::unbound()?.send_to(state.as_bytes(), path).map(drop),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn our_socket_is_found_by_its_name() {
        assert_eq!(place(Some("wire:admin")), Some(1));
        assert_eq!(place(Some("wire")), None);
        assert_eq!(place(None), Some(0));
    }
}
