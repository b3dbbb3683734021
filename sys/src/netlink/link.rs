//! Links made by software, and where they are plugged in: bridges, veth pairs (veth(4), ip-link(8)).

use super::message::Body;
use super::{Link, NLM_F_CREATE, NLM_F_EXCL, Netlink};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_SETLINK: u16 = 19;
const AF_INET6: u16 = 10;
const AF_BRIDGE: u8 = 7;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
/// No address but those that are set (`IN6_ADDR_GEN_MODE_NONE`).
const NO_ADDRESS: u8 = 1;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_ISOLATED: u16 = 33;
/// The most bytes of an interface's name (`IFNAMSIZ`, with its closing zero).
pub const NAME_BYTES_MAX: usize = 15;

/// A `struct ifinfomsg`.
pub(super) fn head(family: u8, link: Option<Link>) -> Vec<u8> {
    let mut bytes = vec![family, 0, 0, 0];
    bytes.extend(link.map_or(0, |link| link.0).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes
}

fn named(name: &str) -> io::Result<Body> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(io::Error::from_raw_os_error(libc::ERANGE));
    }
    Ok(Body::new(&head(0, None)).text(IFLA_IFNAME, name))
}

fn bridge(name: &str) -> io::Result<Body> {
    Ok(named(name)?.nested(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, "bridge")))
}

fn veth(name: &str, peer: &str, namespace: i32) -> io::Result<Body> {
    let peer = named(peer)?.with(IFLA_NET_NS_FD, &namespace.to_ne_bytes());
    Ok(named(name)?.nested(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "veth")
            .nested(IFLA_INFO_DATA, |data| data.with(VETH_INFO_PEER, peer.bytes()))
    }))
}

impl Netlink {
    /// Makes a bridge.
    ///
    /// # Errors
    /// What the kernel says: EEXIST if there is a link of this name.
    pub fn make_bridge(&mut self, name: &str) -> io::Result<()> {
        self.request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, bridge(name)?.bytes())
    }

    /// Makes a pair of links: `name` here, `peer` in another network namespace.
    ///
    /// # Errors
    /// What the kernel says: EEXIST if there is a link of either name.
    pub fn make_pair(
        &mut self,
        name: &str,
        peer: &str,
        namespace: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let body = veth(name, peer, namespace.as_raw_fd())?;
        self.request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body.bytes())
    }

    /// Removes a link; the other end of a pair goes with it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove_link(&mut self, link: Link) -> io::Result<()> {
        self.request(RTM_DELLINK, 0, &head(0, Some(link)))
    }

    /// Plugs a link into a bridge, where it reaches the node and no other link that is plugged in so.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn plug_isolated(&mut self, link: Link, bridge: Link) -> io::Result<()> {
        let plug = Body::new(&head(0, Some(link))).with(IFLA_MASTER, &bridge.0.to_ne_bytes());
        self.request(RTM_NEWLINK, 0, plug.bytes())?;
        let isolate = Body::new(&head(AF_BRIDGE, Some(link)))
            .nested(IFLA_PROTINFO, |port| port.with(IFLA_BRPORT_ISOLATED, &[1]));
        self.request(RTM_SETLINK, 0, isolate.bytes())
    }

    /// Lets a link have no IPv6 address that the kernel makes up.
    ///
    /// # Errors
    /// What the kernel says: EAFNOSUPPORT without IPv6.
    pub fn without_own_addresses(&mut self, link: Link) -> io::Result<()> {
        let body = Body::new(&head(0, Some(link))).nested(IFLA_AF_SPEC, |families| {
            families.nested(AF_INET6, |six| six.with(IFLA_INET6_ADDR_GEN_MODE, &[NO_ADDRESS]))
        });
        self.request(RTM_NEWLINK, 0, body.bytes())
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn names_are_as_long_as_the_kernel_s() {
        assert!(bridge("mobula0").is_ok());
        assert!(bridge("").is_err());
        assert!(bridge("sixteen-bytes-ab").is_err());
    }

    #[test]
    fn a_pair_names_both_ends_and_the_namespace_of_one() {
        let body = veth("z1", "eth0", 9).unwrap();
        let text = body.bytes();
        let find = |part: &[u8]| text.windows(part.len()).any(|window| window == part);
        assert!(find(b"z1\0") && find(b"veth\0") && find(b"eth0\0") && find(&[8, 0, 28, 0, 9]));
    }
}
