//! Sockets that a supervisor makes for its daemons: listening ones, and the ear for their notices.

use crate::seqpacket::Socket;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, UnixAddr, bind, listen,
    setsockopt, socket, sockopt,
};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The most connections that may wait; the kernel cuts it to `net.core.somaxconn`, 4096.
pub const BACKLOG_MAX: u16 = 4096;

/// Who may connect to a Unix socket: the owner and the mode of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// Mode; connecting needs write permission.
    pub mode: u32,
}

/// Listens on a TCP address, at once after an earlier listener has gone (`SO_REUSEADDR`).
///
/// # Errors
/// What socket(2), bind(2) and listen(2) say.
pub fn listen_tcp(address: SocketAddr, backlog: u16) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let listener = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&listener, sockopt::ReuseAddr, &true)?;
    bind(listener.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&listener, Backlog::new(backlog.min(BACKLOG_MAX))?)?;
    Ok(listener)
}

/// Listens on a `SOCK_SEQPACKET` Unix socket at `path`, in place of whatever socket was there.
///
/// # Errors
/// What the calls say.
pub fn listen_seqpacket(path: &Path, access: Access, backlog: u16) -> io::Result<OwnedFd> {
    let listener = bound(SockType::SeqPacket, path, access)?;
    listen(&listener, Backlog::new(backlog.min(BACKLOG_MAX))?)?;
    Ok(listener)
}

/// A datagram socket at `path` for the notices of sd_notify(3); it never waits.
///
/// # Errors
/// What the calls say.
pub fn ear(path: &Path, access: Access) -> io::Result<Socket> {
    let socket = Socket::from(bound(SockType::Datagram, path, access)?);
    socket.set_nonblocking()?;
    Ok(socket)
}

fn bound(kind: SockType, path: &Path, access: Access) -> io::Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let socket = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(access.mode))?;
    std::os::unix::fs::chown(path, Some(access.user), Some(access.group))?;
    Ok(socket)
}

#[cfg(test)]
mod test {
    use super::*;

    fn mine(mode: u32) -> Access {
        Access { user: nix::unistd::getuid().as_raw(), group: nix::unistd::getgid().as_raw(), mode }
    }

    #[test]
    fn a_notice_is_heard_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ear");
        let ear = ear(&path, mine(0o600)).unwrap();
        let mouth = std::os::unix::net::UnixDatagram::unbound().unwrap();
        mouth.send_to(b"READY=1", &path).unwrap();
        let mut notice = Vec::new();
        assert!(ear.recv(&mut notice).unwrap().unwrap().is_empty());
        assert_eq!(notice, b"READY=1");
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wire");
        drop(listen_seqpacket(&path, mine(0o660), 4).unwrap());
        let _again = listen_seqpacket(&path, mine(0o660), 4).unwrap();
        assert!(Socket::connect(&path).is_ok());
    }
}
