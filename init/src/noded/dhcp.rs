//! A DHCPv4 client (RFC 2131), decided here and acted out by [`super::network`].
//!
//! ```text
//!            offer            ack              T1            T2
//!  Selecting ─────▶ Requesting ───▶ Bound ───▶ Renewing ───▶ Rebinding
//!     ▲                 │ nak, no answer  ▲ ack    │              │ nak, lease over
//!     └─────────────────┴─────────────────┼────────┴──────────────┘
//!                                         └── ack ─────── from both
//! ```
//!
//! The broadcast flag is set, so that a plain UDP socket hears the answers; addresses are not probed by
//! ARP first, for the server does.

use std::net::Ipv4Addr;

/// The first wait for an answer.
const ANSWER_MS_MIN: u64 = 1_000;
/// The longest, on a network where nobody answers.
const ANSWER_MS_MAX: u64 = 32_000;
/// Requests for one offer before another is looked for.
const REQUESTS_MAX: u32 = 4;
/// The shortest time between two requests for more time (RFC 2131 4.4.5).
const RENEW_MS_MIN: u64 = 60_000;
/// Shorter leases are taken for this long: renewing more often would flood the server.
pub const LEASE_S_MIN: u32 = 60;

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Offer, ack or nak.
    pub kind: ReplyKind,
    /// Which conversation.
    pub xid: u32,
    /// What it offers or grants.
    pub lease: Lease,
}

/// The kinds of replies that mean something to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyKind {
    /// An address may be had.
    Offer,
    /// It is granted.
    Ack,
    /// It is refused.
    Nak,
}

/// An address and what comes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Bits of its network's prefix.
    pub prefix: u8,
    /// Where packets to elsewhere go.
    pub router: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Who granted it.
    pub server: Ipv4Addr,
    /// For how long.
    pub seconds: u32,
    /// When to ask for more time, if the server says.
    pub renew_s: Option<u32>,
    /// When to ask anybody for more time, if the server says.
    pub rebind_s: Option<u32>,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// What it asks for.
    pub kind: QueryKind,
    /// Which conversation.
    pub xid: u32,
    /// Seconds since the conversation began.
    pub seconds: u16,
}

/// What a query asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryKind {
    /// Is there an address for me? To all.
    Discover,
    /// I take this offer of this server. To all.
    Select {
        /// The address.
        address: Ipv4Addr,
        /// The server.
        server: Ipv4Addr,
    },
    /// More time for this address; to the server, or to all if none.
    Extend {
        /// The address.
        address: Ipv4Addr,
        /// The server.
        server: Option<Ipv4Addr>,
    },
}

/// A granted lease and its times, in milliseconds since boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The lease.
    pub lease: Lease,
    renew_ms: u64,
    rebind_ms: u64,
    over_ms: u64,
}

/// Where the client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Looks for an offer.
    Selecting {
        /// The conversation.
        xid: u32,
        /// Since when.
        since_ms: u64,
        /// Queries sent.
        tries: u32,
        /// When the next is sent.
        next_ms: u64,
    },
    /// Has taken an offer.
    Requesting {
        /// The conversation.
        xid: u32,
        /// Since when.
        since_ms: u64,
        /// The offer.
        offer: Lease,
        /// Queries sent.
        tries: u32,
        /// When the next is sent.
        next_ms: u64,
    },
    /// Has an address.
    Bound(Held),
    /// Has an address and asks for more time, first its server and then everybody.
    Extending {
        /// The address.
        held: Held,
        /// The conversation.
        xid: u32,
        /// When the next query is sent.
        next_ms: u64,
    },
}

/// What happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time has passed.
    Clock,
    /// A server said something.
    Reply(Reply),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this.
    Send(Query),
    /// Use this address from now on.
    Use(Lease),
    /// Don't use this address any more.
    Drop(Lease),
}

/// The time, and a number nobody can foresee.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Milliseconds since boot.
    pub now_ms: u64,
    /// Any number.
    pub random: u64,
}

impl State {
    /// Begins to look for an address.
    #[must_use]
    pub const fn start(moment: Moment) -> Self {
        let since_ms = moment.now_ms;
        Self::Selecting { xid: moment.random as u32, since_ms, tries: 0, next_ms: since_ms }
    }

    /// When [`Event::Clock`] will change something.
    #[must_use]
    pub const fn deadline_ms(&self) -> u64 {
        match self {
            Self::Selecting { next_ms, .. } | Self::Requesting { next_ms, .. } => *next_ms,
            Self::Bound(held) => held.renew_ms,
            Self::Extending { held, next_ms, .. } => {
                if *next_ms < held.over_ms {
                    *next_ms
                } else {
                    held.over_ms
                }
            }
        }
    }

    /// The address it has.
    #[must_use]
    pub const fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Bound(held) | Self::Extending { held, .. } => Some(&held.lease),
            Self::Selecting { .. } | Self::Requesting { .. } => None,
        }
    }
}

impl Held {
    fn new(lease: Lease, now_ms: u64) -> Self {
        let ms = |seconds: u32| u64::from(seconds) * 1000;
        let whole = ms(lease.seconds.max(LEASE_S_MIN));
        let rebind = lease.rebind_s.map_or(whole / 8 * 7, ms).clamp(whole / 4, whole / 8 * 7);
        let renew = lease.renew_s.map_or(whole / 2, ms).clamp(whole / 8, rebind / 8 * 7);
        Self {
            lease,
            renew_ms: now_ms + renew,
            rebind_ms: now_ms + rebind,
            over_ms: now_ms + whole,
        }
    }
}

/// Decides what an event makes of the client. A reply to another conversation changes nothing.
#[must_use]
pub fn step(state: State, moment: Moment, event: Event) -> (State, Vec<Action>) {
    let now_ms = moment.now_ms;
    match (state, event) {
        (state, Event::Clock) if now_ms < state.deadline_ms() => (state, vec![]),
        (State::Selecting { xid, since_ms, tries, .. }, Event::Clock) => {
            let next_ms = now_ms + wait_ms(tries, moment.random);
            let query = query(QueryKind::Discover, xid, since_ms, now_ms);
            let state = State::Selecting { xid, since_ms, tries: tries.saturating_add(1), next_ms };
            (state, vec![query])
        }
        (State::Selecting { xid, since_ms, .. }, Event::Reply(reply))
            if reply.xid == xid && reply.kind == ReplyKind::Offer =>
        {
            let offer = reply.lease;
            request(State::Requesting { xid, since_ms, offer, tries: 0, next_ms: now_ms }, moment)
        }
        (state @ State::Requesting { .. }, Event::Clock) => request(state, moment),
        (State::Requesting { xid, offer, .. }, Event::Reply(reply))
            if reply.xid == xid
                && reply.kind != ReplyKind::Offer
                && reply.lease.server == offer.server =>
        {
            granted_or_not(reply, None, moment)
        }
        (State::Bound(held), Event::Clock) => {
            let xid = moment.random as u32;
            extend(State::Extending { held, xid, next_ms: now_ms }, moment)
        }
        (state @ State::Extending { .. }, Event::Clock) => extend(state, moment),
        (State::Extending { held, xid, .. }, Event::Reply(reply))
            if reply.xid == xid && reply.kind != ReplyKind::Offer =>
        {
            granted_or_not(reply, Some(held), moment)
        }
        (
            state @ (State::Selecting { .. }
            | State::Requesting { .. }
            | State::Bound(_)
            | State::Extending { .. }),
            Event::Reply(_),
        ) => (state, vec![]),
    }
}

/// Sends a request for the offer, or gives the offer up after [`REQUESTS_MAX`].
fn request(state: State, moment: Moment) -> (State, Vec<Action>) {
    let State::Requesting { xid, since_ms, offer, tries, .. } = state else {
        return (state, vec![]);
    };
    let now_ms = moment.now_ms;
    if tries >= REQUESTS_MAX {
        return (State::start(moment), vec![]);
    }
    let kind = QueryKind::Select { address: offer.address, server: offer.server };
    let action = query(kind, xid, since_ms, now_ms);
    let next_ms = now_ms + wait_ms(tries, moment.random);
    (State::Requesting { xid, since_ms, offer, tries: tries + 1, next_ms }, vec![action])
}

/// Asks for more time, or gives the address up when its time is over.
fn extend(state: State, moment: Moment) -> (State, Vec<Action>) {
    let State::Extending { held, xid, .. } = state else { return (state, vec![]) };
    let now_ms = moment.now_ms;
    if now_ms >= held.over_ms {
        return (State::start(moment), vec![Action::Drop(held.lease)]);
    }
    // To its own server up to T2, to any after it; each time half of what is left, but not too often.
    let (server, until_ms) = if now_ms < held.rebind_ms {
        (Some(held.lease.server), held.rebind_ms)
    } else {
        (None, held.over_ms)
    };
    let next_ms = until_ms.min(now_ms + ((until_ms - now_ms) / 2).max(RENEW_MS_MIN));
    let kind = QueryKind::Extend { address: held.lease.address, server };
    let action = query(kind, xid, held.renew_ms, now_ms);
    (State::Extending { held, xid, next_ms }, vec![action])
}

/// What a server's final word makes of the client.
fn granted_or_not(reply: Reply, held: Option<Held>, moment: Moment) -> (State, Vec<Action>) {
    if reply.kind != ReplyKind::Ack {
        let dropped = held.map(|held| Action::Drop(held.lease));
        return (State::start(moment), dropped.into_iter().collect());
    }
    let mut actions = Vec::new();
    let moved = held.filter(|held| held.lease.address != reply.lease.address);
    actions.extend(moved.map(|held| Action::Drop(held.lease)));
    actions.push(Action::Use(reply.lease.clone()));
    (State::Bound(Held::new(reply.lease, moment.now_ms)), actions)
}

fn query(kind: QueryKind, xid: u32, since_ms: u64, now_ms: u64) -> Action {
    let seconds = u16::try_from(now_ms.saturating_sub(since_ms) / 1000).unwrap_or(u16::MAX);
    Action::Send(Query { kind, xid, seconds })
}

/// The wait for an answer doubles, and differs by up to a quarter between nodes that boot together.
fn wait_ms(tries: u32, random: u64) -> u64 {
    let wait = (ANSWER_MS_MIN << tries.min(16)).min(ANSWER_MS_MAX);
    wait + random % (wait / 4 + 1)
}

#[cfg(test)]
#[path = "dhcp_test.rs"]
mod test;
