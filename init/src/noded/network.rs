//! The network as the kernel sees it: acts out what [`super::dhcp`] decides, or sets what is configured.

use super::dhcp::{self, Action, Event, Lease, Moment, State};
use super::packet::{self, MAC_BYTES, PACKET_BYTES_MAX};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use sys::clock::since_boot_ms;
use sys::netlink::{Link, Netlink};
use thiserror::Error;
use wire::machine::{InterfaceName, Network as Wanted};

use super::files::{self, FileError, Readers};

const CLASS: &str = "/sys/class/net";
const RESOLVER: &str = "/run/mobula/resolv.conf";
const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
/// `ARPHRD_ETHER`: what DHCP is spoken over.
const ETHERNET: &str = "1";
/// How often an interface that is not there yet is looked for.
const LOOK_MS: u64 = 1_000;
/// The most packets heard in one turn: a flood must not keep noded from its clock.
const PACKETS_MAX: usize = 32;

/// What can go wrong with the network.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// The kernel refuses.
    #[error("cannot {act} {interface}: {source}")]
    Kernel {
        /// What was tried.
        act: &'static str,
        /// On which interface.
        interface: String,
        /// Why not.
        source: io::Error,
    },
    /// `/etc/resolv.conf` can't be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A packet can't be written.
    #[error("cannot make a DHCP packet: {0}")]
    Packet(String),
}

/// The interface that is used.
#[derive(Debug)]
struct Interface {
    name: String,
    link: Link,
    mac: [u8; MAC_BYTES],
}

#[derive(Debug)]
enum Mode {
    /// No such interface yet.
    Absent { look_at_ms: u64 },
    /// Asks a server.
    Dhcp { interface: Interface, socket: UdpSocket, state: State },
    /// Is as configured.
    Set,
}

/// The node's network.
#[derive(Debug)]
pub struct Network {
    wanted: Wanted,
    hostname: String,
    mode: Mode,
    netlink: Netlink,
    address: Option<(Ipv4Addr, u8)>,
}

impl Network {
    /// Brings up the loopback and takes note of what is wanted.
    ///
    /// # Errors
    /// [`NetworkError`] if there is no network in this kernel.
    pub fn start(wanted: Wanted, hostname: String) -> Result<Self, NetworkError> {
        let fault =
            |act| move |source| NetworkError::Kernel { act, interface: "lo".to_owned(), source };
        let mut netlink = Netlink::open().map_err(fault("reach"))?;
        netlink.bring_up(Link(1)).map_err(fault("bring up"))?;
        let mode = Mode::Absent { look_at_ms: 0 };
        Ok(Self { wanted, hostname, mode, netlink, address: None })
    }

    /// The address, when there is one.
    #[must_use]
    pub const fn address(&self) -> Option<(Ipv4Addr, u8)> {
        self.address
    }

    /// What it wants.
    #[must_use]
    pub const fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// In a few words.
    #[must_use]
    pub fn describe(&self) -> String {
        match (&self.mode, self.address) {
            (_, Some((address, prefix))) => format!("address {address}/{prefix}"),
            (Mode::Absent { .. }, None) => "no network interface".to_owned(),
            (Mode::Dhcp { .. } | Mode::Set, None) => {
                "no address yet: no DHCP server answers".to_owned()
            }
        }
    }

    /// What is to be watched.
    #[must_use]
    pub fn watched(&self) -> Option<BorrowedFd<'_>> {
        match &self.mode {
            Mode::Dhcp { socket, .. } => Some(socket.as_fd()),
            Mode::Absent { .. } | Mode::Set => None,
        }
    }

    /// When [`Self::turn`] is next due.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        match &self.mode {
            Mode::Absent { look_at_ms } => Some(*look_at_ms),
            Mode::Dhcp { state, .. } => Some(state.deadline_ms()),
            Mode::Set => None,
        }
    }

    /// Does what is due; gives lines for people.
    ///
    /// # Errors
    /// [`NetworkError`]; the next turn tries on.
    pub fn turn(&mut self) -> Result<Vec<String>, NetworkError> {
        let mut said = Vec::new();
        if let Mode::Absent { look_at_ms } = self.mode
            && since_boot_ms() >= look_at_ms
        {
            self.mode = Mode::Absent { look_at_ms: since_boot_ms() + LOOK_MS };
            if let Some(interface) = find(interface_of(&self.wanted)) {
                self.bring_up(interface, &mut said)?;
            }
        }
        for event in self.heard() {
            self.step(event, &mut said)?;
        }
        self.step(Event::Clock, &mut said)?;
        Ok(said)
    }

    fn bring_up(
        &mut self,
        interface: Interface,
        said: &mut Vec<String>,
    ) -> Result<(), NetworkError> {
        let name = interface.name.clone();
        let fault =
            |act| move |source| NetworkError::Kernel { act, interface: name.clone(), source };
        self.netlink.bring_up(interface.link).map_err(fault.clone()("bring up"))?;
        match self.wanted.clone() {
            Wanted::Dhcp { .. } => {
                let socket = sys::udp::on_interface(&interface.name, CLIENT_PORT);
                let socket = socket.map_err(fault("open a socket on"))?;
                self.mode = Mode::Dhcp { interface, socket, state: State::start(moment()) };
            }
            Wanted::Static { address, gateway, dns, .. } => {
                let lease = Lease {
                    address: address.address,
                    prefix: address.prefix,
                    router: gateway,
                    dns,
                    server: Ipv4Addr::UNSPECIFIED,
                    seconds: u32::MAX,
                    renew_s: None,
                    rebind_s: None,
                };
                said.extend(self.apply(&interface.name, interface.link, &lease)?);
                self.mode = Mode::Set;
            }
        }
        Ok(())
    }

    fn heard(&self) -> Vec<Event> {
        let Mode::Dhcp { interface, socket, .. } = &self.mode else { return Vec::new() };
        let mut events = Vec::new();
        let mut packet = [0; PACKET_BYTES_MAX];
        for _ in 0..PACKETS_MAX {
            // Nothing there, or an answer that nobody listened (ICMP): in both cases the clock goes on.
            let Ok((got, _)) = socket.recv_from(&mut packet) else { break };
            events.extend(packet::decode(&packet[..got], interface.mac).map(Event::Reply));
        }
        events
    }

    fn step(&mut self, event: Event, said: &mut Vec<String>) -> Result<(), NetworkError> {
        let Mode::Dhcp { interface, state, .. } = &mut self.mode else { return Ok(()) };
        let (name, link) = (interface.name.clone(), interface.link);
        let (next, actions) = dhcp::step(state.clone(), moment(), event);
        *state = next;
        for action in actions {
            match action {
                Action::Send(query) => self.send(&query)?,
                Action::Use(lease) => said.extend(self.apply(&name, link, &lease)?),
                Action::Drop(lease) => {
                    self.address = None;
                    let gone = self.netlink.remove_address(link, lease.address, lease.prefix);
                    let how = gone.map_or_else(|error| format!(": {error}"), |()| String::new());
                    said.push(format!("the lease of {} is over{how}", lease.address));
                }
            }
        }
        Ok(())
    }

    /// Sends a query. That it can't be sent is as good as that nobody answers: the clock tries again.
    fn send(&self, query: &dhcp::Query) -> Result<(), NetworkError> {
        let Mode::Dhcp { interface, socket, .. } = &self.mode else { return Ok(()) };
        let packet =
            packet::encode(query, interface.mac, &self.hostname).map_err(NetworkError::Packet)?;
        let to = SocketAddrV4::new(packet::destination(query), SERVER_PORT);
        let sent = socket.send_to(&packet, to);
        sent.map(drop).map_err(|source| NetworkError::Kernel {
            act: "ask for an address on",
            interface: interface.name.clone(),
            source,
        })
    }

    /// Makes the kernel use an address; says so if it is a new one.
    fn apply(
        &mut self,
        name: &str,
        link: Link,
        lease: &Lease,
    ) -> Result<Option<String>, NetworkError> {
        let fault =
            |act| move |source| NetworkError::Kernel { act, interface: name.to_owned(), source };
        let (address, prefix) = (lease.address, lease.prefix);
        self.netlink.set_address(link, address, prefix).map_err(fault("set the address of"))?;
        if let Some(router) = lease.router {
            let routed = self.netlink.set_default_route(link, router);
            routed.map_err(fault("set the default route over"))?;
        }
        let lines: String =
            lease.dns.iter().map(|server| format!("nameserver {server}\n")).collect();
        let readers = Readers { group: 0, mode: 0o644 };
        files::replace(Path::new(RESOLVER), lines.as_bytes(), readers)?;
        let before = self.address.replace((address, prefix));
        let router = lease.router.map(|router| format!(", router {router}")).unwrap_or_default();
        let new = before != self.address;
        Ok(new.then(|| format!("network {name} has address {address}/{prefix}{router}")))
    }
}

const fn interface_of(wanted: &Wanted) -> Option<&InterfaceName> {
    match wanted {
        Wanted::Dhcp { interface } | Wanted::Static { interface, .. } => interface.as_ref(),
    }
}

/// The interface with this name, else the first Ethernet there is.
fn find(name: Option<&InterfaceName>) -> Option<Interface> {
    let mut names: Vec<_> = std::fs::read_dir(CLASS)
        .ok()?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|found| name.is_none_or(|name| name.as_str() == found))
        .collect();
    names.sort();
    names.into_iter().find_map(|name| {
        let read = |file: &str| {
            let text = std::fs::read_to_string(Path::new(CLASS).join(&name).join(file)).ok()?;
            Some(text.trim().to_owned())
        };
        // Interfaces without a device are made by software: bridges, tunnels.
        let real = Path::new(CLASS).join(&name).join("device").exists();
        if read("type")? != ETHERNET || !real {
            return None;
        }
        let link = Link(read("ifindex")?.parse().ok()?);
        let mac = parse_mac(&read("address")?)?;
        Some(Interface { name, link, mac })
    })
}

fn parse_mac(text: &str) -> Option<[u8; MAC_BYTES]> {
    let bytes: Option<Vec<u8>> =
        text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
    bytes?.try_into().ok()
}

fn moment() -> Moment {
    // The standard library keys its hashes with random numbers.
    let random = std::hash::RandomState::new().build_hasher().finish();
    Moment { now_ms: since_boot_ms(), random }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_hardware_address_is_read() {
        assert_eq!(parse_mac("52:54:00:12:34:56"), Some([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
        assert_eq!(parse_mac("52:54:00"), None);
        assert_eq!(parse_mac(""), None);
    }
}
