//! DHCP packets (RFC 2131, RFC 2132): queries out, replies in. The format is dhcproto's; what a reply must
//! hold before it is believed is decided here, for anybody on the network can send one.

use super::dhcp::{Lease, Query, QueryKind, Reply, ReplyKind};
use dhcproto::v4::{DhcpOption, Flags, HType, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable};
use std::net::Ipv4Addr;

/// The most bytes of a packet: what fits an Ethernet frame.
pub const PACKET_BYTES_MAX: usize = 1500;
/// The most name servers that are taken; the resolver uses three.
const DNS_MAX: usize = 3;
/// Bytes of an Ethernet address.
pub const MAC_BYTES: usize = 6;
/// Where a packet has its hardware address's length; a library that trusts it must not see a wrong one.
const HLEN: usize = 2;

/// Writes a query; the address it goes to is [`destination`].
///
/// # Errors
/// dhcproto's text if it can't be written.
pub fn encode(query: &Query, mac: [u8; MAC_BYTES], hostname: &str) -> Result<Vec<u8>, String> {
    let none = Ipv4Addr::UNSPECIFIED;
    let client = match query.kind {
        QueryKind::Extend { address, .. } => address,
        QueryKind::Discover | QueryKind::Select { .. } => none,
    };
    let mut message = Message::new_with_id(query.xid, client, none, none, none, &mac);
    message.set_opcode(Opcode::BootRequest).set_htype(HType::Eth).set_secs(query.seconds);
    if client.is_unspecified() {
        message.set_flags(Flags::default().set_broadcast());
    }
    let options = message.opts_mut();
    let kind = match query.kind {
        QueryKind::Discover => MessageType::Discover,
        QueryKind::Select { .. } | QueryKind::Extend { .. } => MessageType::Request,
    };
    options.insert(DhcpOption::MessageType(kind));
    if let QueryKind::Select { address, server } = query.kind {
        options.insert(DhcpOption::RequestedIpAddress(address));
        options.insert(DhcpOption::ServerIdentifier(server));
    }
    options.insert(DhcpOption::ClientIdentifier([&[1], &mac[..]].concat()));
    options.insert(DhcpOption::Hostname(hostname.to_owned()));
    options.insert(DhcpOption::ParameterRequestList(vec![
        OptionCode::SubnetMask,
        OptionCode::Router,
        OptionCode::DomainNameServer,
        OptionCode::AddressLeaseTime,
        OptionCode::Renewal,
        OptionCode::Rebinding,
    ]));
    message.to_vec().map_err(|error| error.to_string())
}

/// Where a query goes.
#[must_use]
pub const fn destination(query: &Query) -> Ipv4Addr {
    match query.kind {
        QueryKind::Extend { server: Some(server), .. } => server,
        QueryKind::Discover | QueryKind::Select { .. } | QueryKind::Extend { server: None, .. } => {
            Ipv4Addr::BROADCAST
        }
    }
}

/// Reads a reply to this machine; none if the packet is anything else, or holds what can't be used.
#[must_use]
pub fn decode(packet: &[u8], mac: [u8; MAC_BYTES]) -> Option<Reply> {
    if usize::from(*packet.get(HLEN)?) != MAC_BYTES {
        return None;
    }
    let message = Message::decode(&mut Decoder::new(packet)).ok()?;
    if message.opcode() != Opcode::BootReply || message.chaddr() != mac {
        return None;
    }
    let option = |code| message.opts().get(code);
    let kind = match option(OptionCode::MessageType)? {
        DhcpOption::MessageType(MessageType::Offer) => ReplyKind::Offer,
        DhcpOption::MessageType(MessageType::Ack) => ReplyKind::Ack,
        DhcpOption::MessageType(MessageType::Nak) => ReplyKind::Nak,
        _ => return None,
    };
    let Some(DhcpOption::ServerIdentifier(server)) = option(OptionCode::ServerIdentifier) else {
        return None;
    };
    let seconds = |code| match option(code) {
        Some(
            DhcpOption::AddressLeaseTime(s) | DhcpOption::Renewal(s) | DhcpOption::Rebinding(s),
        ) => Some(*s),
        _ => None,
    };
    let lease = Lease {
        address: message.yiaddr(),
        prefix: match option(OptionCode::SubnetMask) {
            Some(DhcpOption::SubnetMask(mask)) => prefix(*mask)?,
            _ => 32,
        },
        router: match option(OptionCode::Router) {
            Some(DhcpOption::Router(routers)) => routers.first().copied(),
            _ => None,
        },
        dns: match option(OptionCode::DomainNameServer) {
            Some(DhcpOption::DomainNameServer(all)) => all.iter().copied().take(DNS_MAX).collect(),
            _ => Vec::new(),
        },
        server: *server,
        seconds: seconds(OptionCode::AddressLeaseTime).unwrap_or(0),
        renew_s: seconds(OptionCode::Renewal),
        rebind_s: seconds(OptionCode::Rebinding),
    };
    let usable = kind == ReplyKind::Nak || is_host(lease.address);
    usable.then_some(Reply { kind, xid: message.xid(), lease })
}

/// The length of a mask's prefix; none if its ones have gaps or it has none.
fn prefix(mask: Ipv4Addr) -> Option<u8> {
    let bits = mask.to_bits();
    let ones = bits.leading_ones();
    (ones > 0 && bits.count_ones() == ones).then(|| u8::try_from(ones).ok()).flatten()
}

/// Whether a machine can have this address.
fn is_host(address: Ipv4Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_broadcast())
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    const MAC: [u8; MAC_BYTES] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

    fn offer(yiaddr: Ipv4Addr, mask: Ipv4Addr) -> Vec<u8> {
        let none = Ipv4Addr::UNSPECIFIED;
        let mut message = Message::new_with_id(7, none, yiaddr, none, none, &MAC);
        message.set_opcode(Opcode::BootReply);
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(MessageType::Offer));
        options.insert(DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 0, 2, 2)));
        options.insert(DhcpOption::SubnetMask(mask));
        options.insert(DhcpOption::Router(vec![Ipv4Addr::new(10, 0, 2, 2)]));
        options.insert(DhcpOption::AddressLeaseTime(86400));
        message.to_vec().unwrap()
    }

    #[test]
    fn an_offer_is_read() {
        let packet = offer(Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::new(255, 255, 255, 0));
        let reply = decode(&packet, MAC).unwrap();
        assert_eq!((reply.kind, reply.xid, reply.lease.prefix), (ReplyKind::Offer, 7, 24));
        assert_eq!(reply.lease.seconds, 86400);
    }

    #[test]
    fn an_offer_to_another_machine_is_not_ours() {
        let packet = offer(Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::new(255, 255, 255, 0));
        assert_eq!(decode(&packet, [1; MAC_BYTES]), None);
    }

    #[test]
    fn an_address_no_machine_can_have_is_not_taken() {
        for bad in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)] {
            assert_eq!(decode(&offer(bad, Ipv4Addr::new(255, 0, 0, 0)), MAC), None, "{bad}");
        }
    }

    #[test]
    fn a_mask_with_gaps_is_not_taken() {
        let packet = offer(Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::new(255, 0, 255, 0));
        assert_eq!(decode(&packet, MAC), None);
    }

    #[test]
    fn a_query_can_be_read_by_its_own_library() {
        let kind = QueryKind::Select {
            address: Ipv4Addr::new(10, 0, 2, 15),
            server: Ipv4Addr::new(10, 0, 2, 2),
        };
        let query = Query { kind, xid: 9, seconds: 3 };
        let packet = encode(&query, MAC, "mobula").unwrap();
        let message = Message::decode(&mut Decoder::new(&packet)).unwrap();
        assert_eq!((message.xid(), message.flags().broadcast()), (9, true));
        assert_eq!(destination(&query), Ipv4Addr::BROADCAST);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_never_a_panic(packet: Vec<u8>) {
            prop_assert_eq!(decode(&packet, MAC), None);
        }

        #[test]
        fn a_damaged_offer_is_an_answer_never_a_panic(
            damage in proptest::collection::vec((0..300_usize, any::<u8>()), 1..8),
            cut in 0..300_usize,
        ) {
            let mut packet = offer(Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::new(255, 255, 255, 0));
            for (at, byte) in damage {
                if let Some(place) = packet.get_mut(at) {
                    *place = byte;
                }
            }
            packet.truncate(cut.max(1));
            if let Some(reply) = decode(&packet, MAC) {
                prop_assert!((1..=32).contains(&reply.lease.prefix));
            }
        }
    }
}
