//! Rules of nf_tables (nft(8)) for one table of IPv4, written as one transaction: all of it or nothing.
//!
//! Nothing is read back and nothing of others is touched. `Documentation/networking/netlink_spec`,
//! linux/netfilter/nf_tables.h; Linux 5.2 or newer.

use super::message::{Body, message, messages, word};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NFNL_SUBSYS_NFTABLES`, the high half of each message's kind.
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
/// `NFPROTO_IPV4`.
const IPV4: u8 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NLMSG_ERROR: u16 = 2;
const REGISTER: u32 = 1;
const SECOND_REGISTER: u32 = 2;
const VERDICT_REGISTER: u32 = 0;
/// `NF_NAT_RANGE_PROTO_SPECIFIED`.
const PORTS_GIVEN: u32 = 2;
/// Bits of `ct state` for answers, and for what belongs to them.
const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
/// Where IPv4's header has its addresses (RFC 791).
const SOURCE_AT: u32 = 12;
const DESTINATION_AT: u32 = 16;
/// Where TCP and UDP have their port of destination (RFC 9293, RFC 768).
const PORT_AT: u32 = 2;
/// Bytes of an interface's name, as rules compare it.
const NAME_BYTES: usize = 16;
/// The most bytes of an answer: an error repeats the message it is about.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// When a chain is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainHook {
    /// As soon as it comes in, before connections are tracked.
    Arrival,
    /// As soon as the node sends it, likewise.
    Sending,
    /// For the node itself.
    Input,
    /// Through the node.
    Forward,
    /// On the way out, to change addresses.
    SourceNat,
}

/// A chain and its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// When it is asked.
    pub hook: ChainHook,
    /// Whether a packet that no rule decides about goes on.
    pub accept: bool,
    /// Each a list of conditions and what becomes of a packet that meets them all.
    pub rules: Vec<(Vec<Match>, Verdict)>,
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// It came in over this link, or over any other.
    From {
        /// The link's name.
        link: String,
        /// False: any other.
        is: bool,
    },
    /// It goes out over this link, or over any other.
    To {
        /// The link's name.
        link: String,
        /// False: any other.
        is: bool,
    },
    /// Its source is in this network, or is not.
    Source {
        /// The network.
        network: (Ipv4Addr, u8),
        /// False: is not.
        is: bool,
    },
    /// Its destination is in this network, or is not.
    Destination {
        /// The network.
        network: (Ipv4Addr, u8),
        /// False: is not.
        is: bool,
    },
    /// It is of this protocol over IP.
    Protocol(u8),
    /// Its destination is a port below this one, of a protocol that has ports at the usual place.
    PortBelow(u16),
    /// It belongs to a connection that was let through before.
    Answer,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Accept,
    /// It is gone.
    Drop,
    /// No connection is made of it.
    Untracked,
    /// It takes the address of the link it leaves by, and a port from the first to the second.
    Masquerade(u16, u16),
}

fn head(family: u8) -> Body {
    Body::new(&[family, 0, 0, 0])
}

/// `Body` of an expression within a rule.
fn expression(list: Body, name: &str, data: impl FnOnce(Body) -> Body) -> Body {
    list.nested(1, |element| element.text(1, name).nested(2, data))
}

fn big(value: u32) -> [u8; 4] {
    value.to_be_bytes()
}

/// Register compared with a value: equal if `is`.
fn compare(list: Body, is: bool, value: &[u8]) -> Body {
    compare_by(list, u32::from(!is), value)
}

/// Register compared with a value by an operator of `enum nft_cmp_ops`.
fn compare_by(list: Body, operator: u32, value: &[u8]) -> Body {
    expression(list, "cmp", |data| {
        data.with(1, &big(REGISTER)).with(2, &big(operator)).nested(3, |inner| inner.with(1, value))
    })
}

/// Register and mask.
fn masked(list: Body, mask: &[u8; 4]) -> Body {
    expression(list, "bitwise", |data| {
        data.with(1, &big(REGISTER))
            .with(2, &big(REGISTER))
            .with(3, &big(4))
            .nested(4, |inner| inner.with(1, mask))
            .nested(5, |inner| inner.with(1, &[0; 4]))
    })
}

/// What is known of the packet beside its bytes (`enum nft_meta_keys`).
fn meta(list: Body, key: u32) -> Body {
    expression(list, "meta", |data| data.with(1, &big(REGISTER)).with(2, &big(key)))
}

/// Bytes of the packet, from its network header (1) or its transport header (2) on.
fn payload(list: Body, base: u32, at: u32, bytes: u32) -> Body {
    expression(list, "payload", |data| {
        let data = data.with(1, &big(REGISTER)).with(2, &big(base));
        data.with(3, &big(at)).with(4, &big(bytes))
    })
}

fn by_name(list: Body, key: u32, link: &str, is: bool) -> Body {
    let list = meta(list, key);
    let mut name = [0; NAME_BYTES];
    name.iter_mut().zip(link.bytes().take(NAME_BYTES - 1)).for_each(|(to, from)| *to = from);
    compare(list, is, &name)
}

fn by_network(list: Body, at: u32, network: (Ipv4Addr, u8), is: bool) -> Body {
    let list = payload(list, 1, at, 4);
    let mask = u32::MAX.checked_shl(32 - u32::from(network.1.min(32))).unwrap_or(0);
    let value = network.0.to_bits() & mask;
    compare(masked(list, &big(mask)), is, &big(value))
}

fn condition(list: Body, condition: &Match) -> Body {
    const IN_NAME: u32 = 6;
    const OUT_NAME: u32 = 7;
    const PROTOCOL: u32 = 16;
    const LESS: u32 = 2;
    match condition {
        Match::From { link, is } => by_name(list, IN_NAME, link, *is),
        Match::To { link, is } => by_name(list, OUT_NAME, link, *is),
        Match::Source { network, is } => by_network(list, SOURCE_AT, *network, *is),
        Match::Destination { network, is } => by_network(list, DESTINATION_AT, *network, *is),
        Match::Protocol(number) => compare(meta(list, PROTOCOL), true, &[*number]),
        Match::PortBelow(port) => {
            compare_by(payload(list, 2, PORT_AT, 2), LESS, &port.to_be_bytes())
        }
        Match::Answer => {
            let list = expression(list, "ct", |data| data.with(1, &big(REGISTER)).with(2, &big(0)));
            // The state is in the machine's order, as the kernel keeps it.
            let list = masked(list, &ESTABLISHED_OR_RELATED.to_ne_bytes());
            compare(list, false, &[0; 4])
        }
    }
}

/// Puts a port into a register.
fn constant(list: Body, register: u32, port: u16) -> Body {
    expression(list, "immediate", |data| {
        data.with(1, &big(register)).nested(2, |inner| inner.with(1, &port.to_be_bytes()))
    })
}

fn verdict(list: Body, verdict: Verdict) -> Body {
    let code = match verdict {
        Verdict::Untracked => return expression(list, "notrack", |data| data),
        Verdict::Masquerade(first, last) => {
            let list = constant(constant(list, REGISTER, first), SECOND_REGISTER, last);
            return expression(list, "masq", |data| {
                let data = data.with(1, &big(PORTS_GIVEN));
                data.with(2, &big(REGISTER)).with(3, &big(SECOND_REGISTER))
            });
        }
        Verdict::Accept => 1,
        Verdict::Drop => 0,
    };
    expression(list, "immediate", |data| {
        data.with(1, &big(VERDICT_REGISTER))
            .nested(2, |inner| inner.nested(2, |verdict| verdict.with(1, &big(code))))
    })
}

fn chain(table: &str, chain: &Chain) -> Body {
    // Priorities are those of nft(8): raw, filter, srcnat.
    let (number, priority, kind) = match chain.hook {
        ChainHook::Arrival => (0, -300, "filter"),
        ChainHook::Sending => (3, -300, "filter"),
        ChainHook::Input => (1, 0, "filter"),
        ChainHook::Forward => (2, 0, "filter"),
        ChainHook::SourceNat => (4, 100_i32, "nat"),
    };
    head(IPV4)
        .text(1, table)
        .text(3, chain.name)
        .nested(4, |hook| hook.with(1, &big(number)).with(2, &priority.to_be_bytes()))
        .with(5, &big(u32::from(chain.accept)))
        .text(7, kind)
}

fn rule(table: &str, chain: &str, conditions: &[Match], outcome: Verdict) -> Body {
    head(IPV4).text(1, table).text(2, chain).nested(4, |list| {
        let list = conditions.iter().fold(list, condition);
        verdict(list, outcome)
    })
}

/// The transaction: an earlier table of this name goes, the new one comes.
fn transaction(table: &str, chains: Option<&[Chain]>) -> Vec<(u16, u16, Body)> {
    // The head names the subsystem, in the network's order.
    let bracket = || Body::new(&[0, 0, 0, SUBSYSTEM as u8]);
    let named = || head(IPV4).text(1, table);
    // Making it first lets the removal succeed whether or not there was one.
    let mut all = vec![
        (BATCH_BEGIN, 0, bracket()),
        (NEW_TABLE, NLM_F_CREATE, named()),
        (DELETE_TABLE, 0, named()),
    ];
    if let Some(chains) = chains {
        all.push((NEW_TABLE, NLM_F_CREATE, named()));
        for one in chains {
            all.push((NEW_CHAIN, NLM_F_CREATE, chain(table, one)));
            all.extend(one.rules.iter().map(|(conditions, outcome)| {
                let flags = NLM_F_CREATE | NLM_F_APPEND;
                (NEW_RULE, flags, rule(table, one.name, conditions, *outcome))
            }));
        }
    }
    all.push((BATCH_END, 0, bracket()));
    all
}

/// Makes the table of this name be as given, for IPv4, in the network namespace of the caller.
///
/// # Errors
/// What the kernel says of the first message that it does not take; then nothing was changed.
pub fn set_table(table: &str, chains: &[Chain]) -> io::Result<()> {
    send_all(&transaction(table, Some(chains)))
}

/// Removes the table of this name, if there is one.
///
/// # Errors
/// As [`set_table`].
pub fn remove_table(table: &str) -> io::Result<()> {
    send_all(&transaction(table, None))
}

fn send_all(all: &[(u16, u16, Body)]) -> io::Result<()> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    let mut bytes = Vec::new();
    // The last message but the closing one is acknowledged; of the others errors alone are told.
    let last = all.len() - 2;
    for (at, (kind, flags, body)) in all.iter().enumerate() {
        let flags = if at == last { flags | NLM_F_ACK } else { *flags };
        let sequence = u32::try_from(at).map_err(io::Error::other)?;
        bytes.extend(message(*kind, flags | NLM_F_REQUEST, sequence, body.bytes()));
    }
    send(socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    loop {
        let got = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        for (kind, sequence, body) in messages(&answer[..got]) {
            let code = word(body, 0).map_or(0, u32::cast_signed);
            if kind == NLMSG_ERROR && code != 0 {
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            if kind == NLMSG_ERROR && usize::try_from(sequence) == Ok(last) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_transaction_replaces_the_table_and_is_bracketed() {
        let rules = vec![(vec![Match::Answer], Verdict::Accept)];
        let one = Chain { name: "f", hook: ChainHook::Forward, accept: false, rules };
        let kinds: Vec<u16> =
            transaction("t", Some(&[one])).iter().map(|(kind, _, _)| *kind).collect();
        let expected =
            [BATCH_BEGIN, NEW_TABLE, DELETE_TABLE, NEW_TABLE, NEW_CHAIN, NEW_RULE, BATCH_END];
        assert_eq!(kinds, expected);
    }
}
