//! Links, addresses, routes and queues by rtnetlink(7), rules of nf_tables: the few requests that a node
//! with one interface and zones behind it needs.
//!
//! Requests are built by hand, answers read by hand; both are plain bytes and tested as such. Nothing here
//! waits long: the kernel answers each request at once.

mod link;
mod message;
mod queue;
pub mod tables;

pub use link::NAME_BYTES_MAX;
pub use queue::{Bucket, Queue};

use message::{message, messages, word};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const AF_INET: u8 = 2;
const IFF_UP: u32 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTN_UNICAST: u8 = 1;
/// The most bytes of an answer that are looked at: an acknowledgement repeats at most the request.
const ANSWER_BYTES_MAX: usize = 4096;
/// The most bytes of one part of a list (`NLMSG_GOODSIZE` on any machine), and the most parts.
const PART_BYTES_MAX: usize = 32 * 1024;
const PARTS_MAX: usize = 4096;

/// A network interface by the kernel's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link(pub u32);

/// A connection to the kernel's network configuration.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens one.
    ///
    /// # Errors
    /// What socket(2) and bind(2) say.
    pub fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Brings a link up.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn bring_up(&mut self, link: Link) -> io::Result<()> {
        self.request(RTM_NEWLINK, 0, &up(link))
    }

    /// Gives a link an address, or changes its prefix if it has it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_address(&mut self, link: Link, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        self.request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &of_address(link, address, prefix))
    }

    /// Takes an address from a link.
    ///
    /// # Errors
    /// What the kernel says: EADDRNOTAVAIL if it has it not.
    pub fn remove_address(&mut self, link: Link, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        self.request(RTM_DELADDR, 0, &of_address(link, address, prefix))
    }

    /// Sends what has no other way to this gateway.
    ///
    /// # Errors
    /// What the kernel says: ENETUNREACH if the gateway is on no network of the link.
    pub fn set_default_route(&mut self, link: Link, gateway: Ipv4Addr) -> io::Result<()> {
        self.request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &default_route(link, gateway))
    }

    fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let flags = flags | NLM_F_REQUEST | NLM_F_ACK;
        let message = message(kind, flags, self.sequence, body);
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut answer = [0; ANSWER_BYTES_MAX];
        loop {
            let got = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
            // An answer to an earlier request, given up then, is passed over.
            if let Some(result) = acknowledgement(&answer[..got], self.sequence) {
                return result;
            }
        }
    }

    /// Asks for a list; gives its parts as they came.
    fn dump(&mut self, kind: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.sequence = self.sequence.wrapping_add(1);
        let message = message(kind, NLM_F_REQUEST | NLM_F_DUMP, self.sequence, body);
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut parts = Vec::new();
        let mut part = vec![0; PART_BYTES_MAX];
        while parts.len() < PARTS_MAX {
            let got = recv(self.socket.as_raw_fd(), &mut part, MsgFlags::empty())?;
            if let Some(Err(error)) = acknowledgement(&part[..got], self.sequence) {
                return Err(error);
            }
            parts.push(part[..got].to_vec());
            let last = |(kind, number, _)| kind == NLMSG_DONE && number == self.sequence;
            if messages(&part[..got]).into_iter().any(last) {
                return Ok(parts);
            }
        }
        Err(io::Error::other("the kernel's list has no end"))
    }
}

fn attribute(kind: u16, value: [u8; 4]) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..2].copy_from_slice(&8_u16.to_ne_bytes());
    bytes[2..4].copy_from_slice(&kind.to_ne_bytes());
    bytes[4..].copy_from_slice(&value);
    bytes
}

/// A `struct ifinfomsg` that sets `IFF_UP` alone.
fn up(link: Link) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(link.0.to_ne_bytes());
    bytes.extend(IFF_UP.to_ne_bytes());
    bytes.extend(IFF_UP.to_ne_bytes());
    bytes
}

/// A `struct ifaddrmsg` with its attributes.
fn of_address(link: Link, address: Ipv4Addr, prefix: u8) -> Vec<u8> {
    let mut bytes = vec![AF_INET, prefix, 0, RT_SCOPE_UNIVERSE];
    bytes.extend(link.0.to_ne_bytes());
    bytes.extend(attribute(IFA_LOCAL, address.octets()));
    bytes.extend(attribute(IFA_ADDRESS, address.octets()));
    // A network of two or one has no broadcast address.
    if prefix < 31 {
        let host = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
        let broadcast = Ipv4Addr::from_bits(address.to_bits() | host);
        bytes.extend(attribute(IFA_BROADCAST, broadcast.octets()));
    }
    bytes
}

/// A `struct rtmsg` with its attributes.
fn default_route(link: Link, gateway: Ipv4Addr) -> Vec<u8> {
    let mut bytes =
        vec![AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST];
    bytes.extend([0; 4]);
    bytes.extend(attribute(RTA_GATEWAY, gateway.octets()));
    bytes.extend(attribute(RTA_OIF, link.0.to_ne_bytes()));
    bytes
}

/// What the kernel says to the request with this number; none if the answer is not about it.
fn acknowledgement(answer: &[u8], sequence: u32) -> Option<io::Result<()>> {
    let ours = |(kind, number, body)| (kind == NLMSG_ERROR && number == sequence).then_some(body);
    let body = messages(answer).into_iter().find_map(ours)?;
    Some(match word(body, 0)?.cast_signed() {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
    })
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn an_address_comes_with_its_broadcast() {
        let bytes = of_address(Link(2), Ipv4Addr::new(10, 0, 2, 15), 24);
        assert_eq!(bytes[..8], [2, 24, 0, 0, 2, 0, 0, 0]);
        assert_eq!(bytes[bytes.len() - 4..], [10, 0, 2, 255]);
    }

    #[test]
    fn a_single_address_has_no_broadcast() {
        let bytes = of_address(Link(2), Ipv4Addr::new(10, 0, 2, 15), 32);
        assert_eq!(bytes.len(), 8 + 2 * 8);
    }

    #[test]
    fn the_length_counts_header_and_body() {
        let bytes = message(RTM_NEWLINK, NLM_F_REQUEST, 7, &up(Link(1)));
        assert_eq!(bytes[..4], 32_u32.to_ne_bytes());
        assert_eq!(bytes.len(), 32);
    }

    fn answer(code: i32) -> Vec<u8> {
        message(NLMSG_ERROR, 0, 7, &code.to_ne_bytes())
    }

    #[test]
    fn an_acknowledgement_is_told_from_a_refusal_and_from_anothers() {
        assert!(acknowledgement(&answer(0), 7).unwrap().is_ok());
        let refused = acknowledgement(&answer(-1), 7).unwrap().unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(1));
        assert!(acknowledgement(&answer(0), 8).is_none());
        assert!(acknowledgement(&answer(0)[..10], 7).is_none());
    }

    #[test]
    fn the_kernel_refuses_what_does_not_exist() {
        let mut netlink = Netlink::open().unwrap();
        assert!(netlink.bring_up(Link(u32::MAX / 2)).is_err());
    }
}
