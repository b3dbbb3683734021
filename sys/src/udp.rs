//! A UDP socket that speaks on one interface before that has an address (socket(7), udp(7)).

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

/// Opens one at `port` that sends and hears on `interface` only (`SO_BINDTODEVICE`), broadcasts too. It
/// never waits.
///
/// # Errors
/// What the calls say.
pub fn on_interface(interface: &str, port: u16) -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::Broadcast, &true)?;
    setsockopt(&socket, sockopt::BindToDevice, &OsString::from(interface))?;
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    bind(socket.as_raw_fd(), &SockaddrStorage::from(any))?;
    Ok(socket.into())
}
