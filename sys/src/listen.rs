//! TCP sockets: what the kernel says of them, and should know of accepted ones (`tcp(7)`). Listening ones are made by
//! [`crate::socket::listen_tcp`].

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{SockaddrStorage, getpeername, getsockname, setsockopt, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

/// Makes a socket blocking, whatever whoever made it thought: io_uring gives up on others at once instead
/// of waiting for them.
pub fn let_it_block(socket: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL)?);
    fcntl(&socket, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(())
}

/// The address a socket is bound to; none if it is no internet socket.
pub fn local_address(socket: impl AsFd) -> io::Result<Option<SocketAddr>> {
    Ok(internet(&getsockname::<SockaddrStorage>(socket.as_fd().as_raw_fd())?))
}

/// The address a socket is connected to; none if it is no internet socket.
pub fn peer_address(socket: impl AsFd) -> io::Result<Option<SocketAddr>> {
    Ok(internet(&getpeername::<SockaddrStorage>(socket.as_fd().as_raw_fd())?))
}

fn internet(name: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = name.as_sockaddr_in().map(|a| SocketAddr::from((a.ip(), a.port())));
    v4.or_else(|| name.as_sockaddr_in6().map(|a| SocketAddr::from((a.ip(), a.port()))))
}

/// Sends small answers at once instead of waiting for more to send (`TCP_NODELAY`).
pub fn send_at_once(socket: impl AsFd) -> io::Result<()> {
    Ok(setsockopt(&socket, sockopt::TcpNoDelay, &true)?)
}

/// Ends our side of a connection (`shutdown(2)`, `SHUT_WR`): the peer reads to the end of what was sent.
pub fn finish_sending(socket: impl AsFd) -> io::Result<()> {
    Ok(nix::sys::socket::shutdown(socket.as_fd().as_raw_fd(), nix::sys::socket::Shutdown::Write)?)
}

#[cfg(test)]
mod test {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_listening_socket_takes_connections_where_it_says() {
        let listener = crate::socket::listen_tcp("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let address = local_address(&listener).unwrap().unwrap();
        assert_ne!(address.port(), 0);
        let stream = TcpStream::connect(address).unwrap();
        assert_eq!(peer_address(&stream).unwrap(), Some(address));
        send_at_once(stream).unwrap();
    }
}
