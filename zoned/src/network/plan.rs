//! What a zone's link is made of: names, addresses, steps. Pure.
//!
//! ```text
//!   node                                       │ zone
//!   uplink ── nf_tables ── mobula0 ── z<slot> ═╪═ eth0   100.96.0.2 and up
//!             masquerade   100.96.0.1   tbf    │   fq
//!                             (into the zone)  │ (out of it)
//! ```

use std::net::{IpAddr, Ipv4Addr};
use sys::netlink::Bucket;
use sys::netlink::tables::{Chain, ChainHook, Match, Verdict};
use wire::carve::Network;

/// The bridge that zones are plugged into, and the table of rules about it.
pub const BRIDGE: &str = "mobula0";
/// As above.
pub const TABLE: &str = "mobula";
/// A zone's link, inside.
pub const INSIDE: &str = "eth0";
/// The network of the zones: of the addresses for networks behind a translator (RFC 6598), which neither
/// sites nor the Internet use. It has room for every slot.
pub const NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(100, 96, 0, 0), 19);
/// The node, as zones see it.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(100, 96, 0, 1);
/// The address of slot 0.
const FIRST: Ipv4Addr = Ipv4Addr::new(100, 96, 0, 2);
/// Ports of the node's address that zones' connections get, above those of the node itself
/// (`net.ipv4.ip_local_port_range`) and of its services: so many at once to any one destination.
const PORTS: (u16, u16) = (61_000, 65_535);
const TCP: u8 = 6;
const UDP: u8 = 17;
/// A full packet, as the link counts it and as rates do: Ethernet's header is not the zone's.
const FRAME_BYTES: u64 = 1514;
const PACKET_BYTES: u64 = 1500;
/// A bucket holds this part of a second of its rate, but two frames at least: less than a tick of
/// a slow clock would starve it.
const BURST_PARTS: u64 = 100;
/// What may wait before a bucket: this part of a second, within bounds. More only adds delay.
const WAIT_PARTS: u64 = 5;
const WAIT_BYTES_MIN: u64 = 32 * FRAME_BYTES;
const WAIT_BYTES_MAX: u64 = 16 << 20;

const _: () = assert!(crate::slot::SLOTS_MAX + 3 < 1 << (32 - NETWORK.1));

/// The address of a slot's zone.
#[must_use]
pub fn address(slot: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST.to_bits() + slot)
}

/// The name of a slot's link, on the node's side.
#[must_use]
pub fn link_name(slot: u32) -> String {
    format!("z{slot}")
}

/// The bucket for a rate in bytes of packets a second.
#[must_use]
pub fn bucket(rate: u64) -> Bucket {
    let rate = rate.saturating_mul(FRAME_BYTES) / PACKET_BYTES;
    let narrow = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
    Bucket {
        rate,
        burst: narrow((rate / BURST_PARTS).max(2 * FRAME_BYTES)),
        limit: narrow((rate / WAIT_PARTS).clamp(WAIT_BYTES_MIN, WAIT_BYTES_MAX)),
    }
}

/// The rate in bytes of packets that a bucket's rate stands for: [`bucket`] the other way round.
#[must_use]
pub fn packet_rate(bucket: u64) -> u64 {
    (bucket.saturating_mul(PACKET_BYTES)).div_ceil(FRAME_BYTES)
}

/// What is done, in this order, to give a zone its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A link of this name that an earlier zone left goes.
    Clear,
    /// The pair is made, one end in the zone.
    Pair,
    /// The node's end has no address that the kernel makes up, and is plugged into the bridge, alone.
    Plug,
    /// Packets into the zone pass this bucket; none is no cap.
    Bucket(Option<Bucket>),
    /// The node's end goes up.
    RaiseOutside,
    /// Loopback, addresses, queue and route inside.
    Inside {
        /// The zone's.
        address: Ipv4Addr,
        /// Whether it has a rate: then it takes a kernel that can pace.
        paced: bool,
    },
}

/// The steps for a zone in this slot.
#[must_use]
pub fn steps(slot: u32, network: &Network) -> Vec<Step> {
    vec![
        Step::Clear,
        Step::Pair,
        Step::Plug,
        Step::Bucket(network.in_bytes.map(bucket)),
        Step::RaiseOutside,
        Step::Inside { address: address(slot), paced: network.out_bytes.is_some() },
    ]
}

/// The rules of the node: zones reach what is not a zone, by the node's address, and nobody reaches them.
/// Of the node itself they see one address. Connections that are not theirs are not tracked: no zone can
/// fill the table that the store's clients would need.
#[must_use]
pub fn chains() -> Vec<Chain> {
    let from = |is| Match::From { link: BRIDGE.to_owned(), is };
    let to = |is| Match::To { link: BRIDGE.to_owned(), is };
    let source = |is| Match::Source { network: NETWORK, is };
    let input = vec![
        (vec![from(true), source(false)], Verdict::Drop),
        (vec![from(true), Match::Destination { network: (GATEWAY, 32), is: false }], Verdict::Drop),
        (
            vec![from(false), Match::Destination { network: NETWORK, is: true }, loopback(false)],
            Verdict::Drop,
        ),
    ];
    let forward = vec![
        (vec![from(true), source(true), to(false)], Verdict::Accept),
        (vec![to(true), from(false), Match::Answer], Verdict::Accept),
    ];
    let nat = vec![(vec![source(true), to(false)], Verdict::Masquerade(PORTS.0, PORTS.1))];
    let own = |protocol| vec![from(false), Match::Protocol(protocol), Match::PortBelow(PORTS.0)];
    let arrival = vec![
        (own(TCP), Verdict::Untracked),
        (own(UDP), Verdict::Untracked),
        (
            vec![from(true), Match::Destination { network: (GATEWAY, 32), is: true }],
            Verdict::Untracked,
        ),
    ];
    let sending = vec![(Vec::new(), Verdict::Untracked)];
    vec![
        Chain { name: "arrival", hook: ChainHook::Arrival, accept: true, rules: arrival },
        Chain { name: "sending", hook: ChainHook::Sending, accept: true, rules: sending },
        Chain { name: "input", hook: ChainHook::Input, accept: true, rules: input },
        Chain { name: "forward", hook: ChainHook::Forward, accept: false, rules: forward },
        Chain { name: "nat", hook: ChainHook::SourceNat, accept: true, rules: nat },
    ]
}

fn loopback(is: bool) -> Match {
    Match::From { link: "lo".to_owned(), is }
}

/// Whether an address is one of those that zones have.
#[must_use]
pub fn is_zones(address: IpAddr) -> bool {
    let IpAddr::V4(address) = address.to_canonical() else { return false };
    let bits = 32 - u32::from(NETWORK.1);
    (address.to_bits() ^ NETWORK.0.to_bits()) >> bits == 0
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn each_slot_has_an_address_in_the_network() {
        assert_eq!(address(0), Ipv4Addr::new(100, 96, 0, 2));
        assert!(is_zones(address(crate::slot::SLOTS_MAX).into()));
        assert!(!is_zones("100.96.32.0".parse().unwrap()));
        assert!(is_zones("::ffff:100.96.0.9".parse().unwrap()));
    }

    #[test]
    fn names_fit_an_interface() {
        assert!(link_name(u32::MAX).len() <= sys::netlink::NAME_BYTES_MAX);
    }

    #[test]
    fn a_bucket_lets_full_frames_through_and_reads_back_as_asked() {
        for rate in [wire::carve::RATE_BYTES_MIN, 1_000_000, 125_000_000, 12_500_000_000] {
            let bucket = bucket(rate);
            assert!(u64::from(bucket.burst) >= 2 * FRAME_BYTES);
            assert_eq!(packet_rate(bucket.rate), rate);
        }
    }
}
