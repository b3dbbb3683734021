//! What a zone may talk to, as the programs of the kernel read it: pure.
//!
//! ```text
//!  0        8       12      16                         16 + 40 × n
//!  ┌────────┬───────┬───────┬──────────────────────────┬── … ─┐
//!  │ rate   │ count │ slot  │ address mask first last   │      │   native byte order,
//!  │        │       │       │ protocol verdict          │      │   addresses as IPv6 in the network's
//!  └────────┴───────┴───────┴──────────────────────────┴── … ─┘
//! ```
//!
//! The first line that fits decides; none that fits is a refusal. Lines stand by how much of the address
//! they name, and among equals permission before refusal: a wide rule never opens what the node keeps
//! closed (link-local addresses, its own, those of zones), one that names it does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wire::carve::{Network, Protocol, RULES_MAX, Rule};

/// Lines that the node adds to a zone's own at most: loopback, closed networks, the node's addresses.
pub const BUILT_IN_MAX: usize = 64;
/// The most lines of a policy; the programs look at no more.
pub const LINES_MAX: usize = RULES_MAX + BUILT_IN_MAX;
/// Bytes before the first line.
pub const HEAD_BYTES: usize = 16;
/// Bytes of a line.
pub const LINE_BYTES: usize = 40;
/// Bytes of a policy.
pub const POLICY_BYTES: usize = HEAD_BYTES + LINES_MAX * LINE_BYTES;
/// Where the programs find what.
pub const RATE_AT: i16 = 0;
/// As above.
pub const COUNT_AT: i16 = 8;
/// In a line: the mask, the ports, the protocol, the verdict; the address is at 0.
pub const MASK_AT: i16 = 16;
/// As above.
pub const FIRST_PORT_AT: i16 = 32;
/// As above.
pub const LAST_PORT_AT: i16 = 34;
/// As above.
pub const PROTOCOL_AT: i16 = 36;
/// As above.
pub const VERDICT_AT: i16 = 37;
/// Bits of an IPv4 address before it, when it is written as an IPv6 one (RFC 4291, 2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// Networks that stay closed unless a rule names one of their addresses: link-local, where clouds keep
/// their metadata (RFC 3927, RFC 4291), multicast and broadcast, which no rule of one address means.
const CLOSED: [(IpAddr, u8); 6] = [
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4),
    (IpAddr::V4(Ipv4Addr::BROADCAST), 32),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
    // The metadata service of some clouds has a unique local address, by custom this one.
    (IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), 128),
];
/// The zone itself: its own loopback, in a network namespace of its own. The unspecified address means it
/// too (connect(2) to it goes to the loopback).
const OWN: [(IpAddr, u8); 4] = [
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 32),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128),
];

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    address: u128,
    /// Bits of the address that count, as of an IPv6 address.
    bits: u8,
    first_port: u16,
    last_port: u16,
    /// The protocol's number; 0 is all.
    protocol: u8,
    allow: bool,
}

const fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

const fn mask(bits: u8) -> u128 {
    if bits == 0 { 0 } else { u128::MAX << (128 - bits as u32) }
}

/// An address as IPv6, and how many bits count then.
fn widened(address: IpAddr, prefix: u8) -> (u128, u8) {
    let (address, bits) = match address {
        IpAddr::V4(address) => (address.to_ipv6_mapped(), prefix.saturating_add(MAPPED_BITS)),
        IpAddr::V6(address) => (address, prefix),
    };
    (address.to_bits() & mask(bits), bits)
}

impl Line {
    fn of(address: IpAddr, prefix: u8, allow: bool) -> Self {
        let (address, bits) = widened(address, prefix);
        Self { address, bits, first_port: 0, last_port: u16::MAX, protocol: 0, allow }
    }

    fn write(self, to: &mut Vec<u8>) {
        to.extend(self.address.to_be_bytes());
        to.extend(mask(self.bits).to_be_bytes());
        to.extend(self.first_port.to_ne_bytes());
        to.extend(self.last_port.to_ne_bytes());
        to.extend([self.protocol, u8::from(self.allow), 0, 0]);
    }
}

/// What the programs are given for a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    rate: u64,
    slot: u32,
    lines: Vec<Line>,
}

impl Policy {
    /// Compiles a zone's rules. `closed` are the addresses of the node and the network of the zones.
    ///
    /// More addresses than fit are left out from the end: whoever calls this bounds them.
    #[must_use]
    pub fn new(network: &Network, slot: u32, closed: &[(IpAddr, u8)]) -> Self {
        let own = OWN.iter().map(|(address, prefix)| Line::of(*address, *prefix, true));
        let room = BUILT_IN_MAX - OWN.len() - CLOSED.len();
        let shut = CLOSED.iter().chain(closed.iter().take(room));
        let shut = shut.map(|(address, prefix)| Line::of(*address, *prefix, false));
        let rules = network.allow.iter().take(RULES_MAX).map(|rule| Line {
            first_port: rule.first_port,
            last_port: rule.last_port,
            protocol: number(rule.protocol),
            ..Line::of(rule.address, rule.prefix, true)
        });
        let mut lines: Vec<Line> = own.chain(shut).chain(rules).collect();
        lines.sort_by_key(|line| (std::cmp::Reverse(line.bits), !line.allow));
        Self { rate: network.out_bytes.unwrap_or(0), slot, lines }
    }

    /// The bytes of it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(POLICY_BYTES);
        bytes.extend(self.rate.to_ne_bytes());
        let count = u32::try_from(self.lines.len()).unwrap_or(0);
        bytes.extend(count.to_ne_bytes());
        bytes.extend(self.slot.to_ne_bytes());
        self.lines.iter().for_each(|line| line.write(&mut bytes));
        bytes.resize(POLICY_BYTES, 0);
        bytes
    }

    /// What the programs of the kernel say, as a model of them.
    #[cfg(test)]
    fn allows(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        let (address, _) = widened(address, if address.is_ipv4() { 32 } else { 128 });
        let fits = |line: &&Line| {
            (line.address ^ address) & mask(line.bits) == 0
                && (line.protocol == 0 || line.protocol == number(protocol))
                && (line.first_port..=line.last_port).contains(&port)
        };
        self.lines.iter().find(fits).is_some_and(|line| line.allow)
    }
}

/// The slot of the zone that these bytes are the policy of, and its rate.
#[must_use]
pub fn slot_and_rate(bytes: &[u8]) -> Option<(u32, u64)> {
    let slot = bytes.get(12..16)?.try_into().ok()?;
    let rate = bytes.get(..8)?.try_into().ok()?;
    Some((u32::from_ne_bytes(slot), u64::from_ne_bytes(rate)))
}

/// A rule's network, with no bits set beyond its prefix.
#[must_use]
pub fn network_of(rule: &Rule) -> (IpAddr, u8) {
    let (bits, length) = widened(rule.address, rule.prefix);
    narrowed(bits, length)
}

/// [`widened`] the other way round.
fn narrowed(address: u128, bits: u8) -> (IpAddr, u8) {
    let six = Ipv6Addr::from_bits(address);
    match six.to_ipv4_mapped() {
        Some(four) if bits >= MAPPED_BITS => (IpAddr::V4(four), bits - MAPPED_BITS),
        _ => (IpAddr::V6(six), bits),
    }
}

/// The zone's own rules in these bytes: the lines that allow some protocol.
#[must_use]
pub fn rules(bytes: &[u8]) -> Vec<Rule> {
    let count = bytes.get(8..12).and_then(|count| count.try_into().ok()).map(u32::from_ne_bytes);
    let lines = bytes.get(HEAD_BYTES..).unwrap_or_default().chunks_exact(LINE_BYTES);
    lines.take(count.unwrap_or(0) as usize).filter_map(rule_of).collect()
}

fn rule_of(line: &[u8]) -> Option<Rule> {
    let number = |at: i16, bytes: usize| line.get(at as usize..at as usize + bytes);
    let wide = |at: i16| Some(u128::from_be_bytes(number(at, 16)?.try_into().ok()?));
    let port = |at: i16| Some(u16::from_ne_bytes(number(at, 2)?.try_into().ok()?));
    let protocol = match number(PROTOCOL_AT, 1)? {
        [6] => Protocol::Tcp,
        [17] => Protocol::Udp,
        // What the node itself opens and closes is for all protocols.
        _ => return None,
    };
    let bits = u8::try_from(wide(MASK_AT)?.leading_ones()).ok()?;
    let (address, prefix) = narrowed(wide(0)?, bits);
    let (first_port, last_port) = (port(FIRST_PORT_AT)?, port(LAST_PORT_AT)?);
    (number(VERDICT_AT, 1)? == [1]).then_some(Rule {
        protocol,
        address,
        prefix,
        first_port,
        last_port,
    })
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    const NODE: (IpAddr, u8) = (IpAddr::V4(Ipv4Addr::new(10, 0, 2, 15)), 32);

    fn rule(protocol: Protocol, network: &str, ports: (u16, u16)) -> Rule {
        let (address, prefix) = network.split_once('/').unwrap();
        Rule {
            protocol,
            address: address.parse().unwrap(),
            prefix: prefix.parse().unwrap(),
            first_port: ports.0,
            last_port: ports.1,
        }
    }

    fn policy(allow: &[Rule]) -> Policy {
        Policy::new(&Network { allow: allow.to_vec(), ..Network::default() }, 7, &[NODE])
    }

    fn tcp(policy: &Policy, address: &str, port: u16) -> bool {
        policy.allows(Protocol::Tcp, address.parse().unwrap(), port)
    }

    #[test]
    fn nothing_is_allowed_but_the_zone_itself() {
        let none = policy(&[]);
        assert!(tcp(&none, "127.0.0.1", 80) && tcp(&none, "::1", 80));
        for address in ["1.1.1.1", "10.0.2.15", "169.254.169.254", "fe80::1", "::ffff:1.1.1.1"] {
            assert!(!tcp(&none, address, 80), "{address}");
        }
    }

    #[test]
    fn a_rule_for_all_opens_nothing_that_the_node_keeps_closed() {
        let all = [
            rule(Protocol::Tcp, "0.0.0.0/0", (0, 65_535)),
            rule(Protocol::Tcp, "::/0", (0, 65_535)),
        ];
        let all = policy(&all);
        assert!(tcp(&all, "1.1.1.1", 443) && tcp(&all, "2001:db8::1", 443));
        for address in [
            "10.0.2.15",
            "::ffff:10.0.2.15",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!tcp(&all, address, 80), "{address}");
        }
        assert!(!all.allows(Protocol::Udp, "1.1.1.1".parse().unwrap(), 443));
    }

    #[test]
    fn a_rule_that_names_a_closed_address_opens_its_port_alone() {
        let store = policy(&[rule(Protocol::Tcp, "10.0.2.15/32", (9000, 9000))]);
        assert!(tcp(&store, "10.0.2.15", 9000));
        assert!(!tcp(&store, "10.0.2.15", 8090));
    }

    #[test]
    fn a_narrow_rule_takes_nothing_from_a_wide_one() {
        let both = [
            rule(Protocol::Tcp, "10.0.0.0/8", (80, 80)),
            rule(Protocol::Tcp, "10.1.0.0/16", (443, 443)),
        ];
        let both = policy(&both);
        assert!(tcp(&both, "10.1.2.3", 80) && tcp(&both, "10.1.2.3", 443));
        assert!(!tcp(&both, "10.2.2.3", 443));
    }

    #[test]
    fn the_bytes_are_as_long_as_the_map_s_and_tell_the_slot() {
        let bytes = policy(&[]).encode();
        assert_eq!(bytes.len(), POLICY_BYTES);
        assert_eq!(slot_and_rate(&bytes), Some((7, 0)));
        assert_eq!(slot_and_rate(&bytes[..10]), None);
    }

    proptest! {
        #[test]
        fn whatever_the_rules_only_what_some_rule_covers_is_open(
            rules in prop::collection::vec((any::<u32>(), 0..=32_u8, any::<u16>(), any::<u16>()), 0..RULES_MAX),
            to in any::<u32>(), port in any::<u16>(),
        ) {
            let allow: Vec<Rule> = rules.iter().map(|(address, prefix, a, b)| Rule {
                protocol: Protocol::Tcp,
                address: IpAddr::V4(Ipv4Addr::from_bits(*address)),
                prefix: *prefix,
                first_port: *a.min(b),
                last_port: *a.max(b),
            }).collect();
            let address = IpAddr::V4(Ipv4Addr::from_bits(to));
            let covered = allow.iter().any(|rule| {
                let IpAddr::V4(network) = rule.address else { return false };
                let shift = 32 - u32::from(rule.prefix);
                (network.to_bits() ^ to).checked_shr(shift).unwrap_or(0) == 0
                    && (rule.first_port..=rule.last_port).contains(&port)
            });
            let own = OWN.iter().any(|(network, prefix)| Line::of(*network, *prefix, true).address
                == widened(address, 32).0 & mask(widened(*network, *prefix).1));
            // What is read back is what was asked for.
            let of = |rules: &[Rule]| {
                let mut all: Vec<_> =
                    rules.iter().map(|rule| (network_of(rule), rule.first_port, rule.last_port)).collect();
                all.sort();
                all
            };
            let read = super::rules(&policy(&allow).encode());
            prop_assert_eq!(of(&read), of(&allow));
            if policy(&allow).allows(Protocol::Tcp, address, port) {
                prop_assert!(covered || own);
            }
        }
    }
}
