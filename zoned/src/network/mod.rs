//! Networks of zones: none unless a zone asks for one, and then what its rules name and nothing else.
//!
//! Owns the BPF programs on the cgroup of all zones, the bridge, the links and the table of rules. A zone is
//! known by the number of its cgroup. The programs stay in force when zoned ends, with what they know of
//! living zones: the next zoned takes them over. What a zone may reach is decided in [`policy`], what its
//! link looks like in [`plan`]; here it is done.

mod counters;
mod links;
mod plan;
mod policy;
mod programs;

pub use counters::Counters;
use counters::counters;
pub use links::resolver;
use policy::Policy;
use programs::{COUNTERS_BYTES, Maps};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use sys::bpf::{self, Attached, Map, Program};
use sys::netlink::Netlink;
use thiserror::Error;
use wire::carve::{Limit, Network, Protocol, Rule};

/// The most zones with a network: one for each slot there can be.
const ZONES_MAX: u32 = crate::slot::SLOTS_MAX;
/// How often the node's addresses are looked at while zones have a network. Until then a new one is kept
/// from them by the table of rules.
const LOOK_S: u64 = 5;
/// Rules that are shown as a limit: a message has to carry them, twice, with all others.
const RULES_SHOWN: usize = 8;
/// The number of a cgroup.
const KEY_BYTES: u32 = 8;
/// What the programs' maps are called: by these names the next zoned finds them.
const POLICIES: &str = "mobula_policy";
const COUNTERS: &str = "mobula_count";

/// Why a zone has no network, or not the one it asks for.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// The cgroup of the zones.
    #[error("cannot open the cgroup {path}")]
    Cgroup {
        /// Its path.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// A program that the kernel does not take.
    #[error(transparent)]
    Program(#[from] bpf::LoadError),
    /// A call failed.
    #[error("cannot {act}")]
    Call {
        /// What was tried.
        act: String,
        /// Why not.
        source: io::Error,
    },
    /// A rule that would lead to other zones.
    #[error("{address} belongs to zones, which never reach each other: leave that rule out")]
    OtherZones {
        /// The address.
        address: IpAddr,
    },
    /// A rule for an address of the node, which zones know by another.
    #[error("{address} is this node's own: a zone reaches it as {}", plan::GATEWAY)]
    NodeAddress {
        /// The address.
        address: IpAddr,
    },
    /// The node has an address that zones use.
    #[error(
        "the node's address {address} is in {}/{}, the network of its zones: give it another",
        plan::NETWORK.0, plan::NETWORK.1
    )]
    Overlap {
        /// The address.
        address: IpAddr,
    },
    /// No such zone.
    #[error("the zone in cgroup {0} has no network")]
    Unknown(u64),
}

fn call<T, E: Into<io::Error>>(
    act: impl Into<String>,
    result: Result<T, E>,
) -> Result<T, NetworkError> {
    result.map_err(|source| NetworkError::Call { act: act.into(), source: source.into() })
}

/// A zone that has a network.
#[derive(Debug)]
struct Member {
    slot: u32,
    /// None after a restart, until whoever keeps the zone's record tells.
    network: Option<Network>,
}

/// The networks of all zones.
#[derive(Debug)]
pub struct Networks {
    maps: Maps,
    members: BTreeMap<u64, Member>,
    /// The node's addresses, as they were last looked at.
    addresses: BTreeSet<IpAddr>,
    looked: Instant,
    /// Whether bridge and rules have been made by this zoned.
    ready: bool,
}

impl Networks {
    /// Puts the programs on the cgroup of all zones, which from then on have no network. Programs of an
    /// earlier zoned are replaced; the zones that they know keep what they have.
    ///
    /// # Errors
    /// [`NetworkError`]: nothing then keeps zones from the network but that they have no link.
    pub fn open(zones: &Path) -> Result<Self, NetworkError> {
        let failed = |source| NetworkError::Cgroup { path: zones.display().to_string(), source };
        let cgroup = File::open(zones).map_err(failed)?;
        let maps = maps(cgroup.as_fd())?;
        for (hook, name, code) in programs::all(&maps) {
            let program = Program::load(hook, name, &code)?;
            let text = name.to_string_lossy();
            let old = call(format!("look for {text}"), bpf::attached(cgroup.as_fd(), hook))?;
            let mut ours = old.into_iter().filter(|old| old.name == text);
            let first = ours.next().map(|old| old.program);
            let attached = program.attach(cgroup.as_fd(), hook, first.as_ref());
            call(format!("attach {text}"), attached)?;
            for more in ours {
                call(format!("detach {text}"), more.program.detach(cgroup.as_fd(), hook))?;
            }
        }
        let members = members(&maps)?;
        Ok(Self {
            maps,
            members,
            addresses: node_addresses()?,
            looked: Instant::now(),
            ready: false,
        })
    }

    /// Forgets all zones but these, as after a restart; their links go.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub fn keep(&mut self, living: &BTreeSet<u64>) -> Result<(), NetworkError> {
        let gone: Vec<u64> =
            self.members.keys().copied().filter(|id| !living.contains(id)).collect();
        gone.into_iter().try_for_each(|id| self.disconnect(id))
    }

    /// Gives the zone in this cgroup a link, by which it reaches what its rules name. Processes of it may
    /// run already: until this is done they have no network.
    ///
    /// # Errors
    /// [`NetworkError`]; the zone then has no network.
    pub fn connect(
        &mut self,
        cgroup: u64,
        slot: u32,
        namespace: BorrowedFd<'_>,
        network: &Network,
    ) -> Result<Ipv4Addr, NetworkError> {
        self.addresses = node_addresses()?;
        self.check(network)?;
        self.prepare()?;
        let made = plan::steps(slot, network)
            .into_iter()
            .try_for_each(|step| links::act(step, slot, namespace))
            .and_then(|()| {
                let zeros = self.maps.counters.set(&cgroup.to_ne_bytes(), &[0; COUNTERS_BYTES]);
                call("count for the zone", zeros)?;
                self.tell(cgroup, slot, network)
            });
        self.members.insert(cgroup, Member { slot, network: Some(network.clone()) });
        if let Err(error) = made {
            self.disconnect(cgroup)?;
            return Err(error);
        }
        Ok(plan::address(slot))
    }

    /// Changes rules and rates of a zone that has a network; what it has open stays open.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub fn change(&mut self, cgroup: u64, network: &Network) -> Result<(), NetworkError> {
        self.addresses = node_addresses()?;
        self.check(network)?;
        let slot = self.members.get(&cgroup).ok_or(NetworkError::Unknown(cgroup))?.slot;
        let mut netlink = call("reach the kernel", Netlink::open())?;
        links::set_bucket(&mut netlink, slot, network.in_bytes.map(plan::bucket))?;
        self.tell(cgroup, slot, network)?;
        self.members.insert(cgroup, Member { slot, network: Some(network.clone()) });
        Ok(())
    }

    /// What the next zoned does for a zone that lives on: its links stay, and connections over them; rules
    /// and rates are set again. A zone that was not connected yet is.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn restore(
        &mut self,
        cgroup: u64,
        slot: u32,
        namespace: BorrowedFd<'_>,
        network: &Network,
    ) -> Result<Ipv4Addr, NetworkError> {
        let known = self.members.get(&cgroup).is_some_and(|member| member.slot == slot);
        if known && links::find(&plan::link_name(slot)).is_some() {
            self.change(cgroup, network)?;
            return Ok(plan::address(slot));
        }
        self.connect(cgroup, slot, namespace, network)
    }

    /// Takes a zone's network away; nothing of it is left. No error if it had none.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub fn disconnect(&mut self, cgroup: u64) -> Result<(), NetworkError> {
        let Some(member) = self.members.remove(&cgroup) else { return Ok(()) };
        let key = cgroup.to_ne_bytes();
        call("close the zone's policy", self.maps.policies.remove(&key))?;
        call("drop the zone's counters", self.maps.counters.remove(&key))?;
        let mut netlink = call("reach the kernel", Netlink::open())?;
        links::clear(&mut netlink, member.slot)
    }

    /// What went over a zone's link since it was connected; none if it has no network.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub fn counters(&self, cgroup: u64) -> Result<Option<Counters>, NetworkError> {
        let bytes =
            call("read the zone's counters", self.maps.counters.get(&cgroup.to_ne_bytes()))?;
        Ok(bytes.map(|bytes| counters(&bytes)))
    }

    /// A zone's rates and rules, as asked for and as in force; empty if it has no network.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub fn limits(&self, cgroup: u64) -> Result<Vec<Limit>, NetworkError> {
        let Some(member) = self.members.get(&cgroup) else { return Ok(Vec::new()) };
        let bytes = call("read the zone's policy", self.maps.policies.get(&cgroup.to_ne_bytes()))?;
        let out = bytes.as_deref().and_then(policy::slot_and_rate).map(|(_, rate)| rate);
        let mut netlink = call("reach the kernel", Netlink::open())?;
        let into = match links::find(&plan::link_name(member.slot)) {
            Some(link) => call("read the zone's queue", netlink.queue(link))?,
            None => None,
        };
        let asked = member.network.as_ref();
        let asked_rate = |rate: Option<u64>| match (asked, rate) {
            (None, _) => "before this start".to_owned(),
            (Some(_), rate) => shown_rate(rate),
        };
        let rules = bytes.as_deref().map(policy::rules);
        let link_is_there = into.is_some();
        let into = into.and_then(|queue| queue.rate).map(plan::packet_rate);
        Ok(vec![
            Limit {
                name: "network out (EDT)".to_owned(),
                asked: asked_rate(asked.and_then(|network| network.out_bytes)),
                got: out.map_or_else(|| "no policy".to_owned(), |rate| shown_rate(Some(rate))),
            },
            Limit {
                name: "network in (tbf)".to_owned(),
                asked: asked_rate(asked.and_then(|network| network.in_bytes)),
                got: if link_is_there { shown_rate(into) } else { "no link".to_owned() },
            },
            Limit {
                name: "network rules".to_owned(),
                asked: asked.map_or_else(
                    || "before this start".to_owned(),
                    |network| shown_rules(&network.allow),
                ),
                got: rules.map_or_else(|| "no policy".to_owned(), |rules| shown_rules(&rules)),
            },
        ])
    }

    /// Looks at the node's addresses again if it is time, and closes new ones to zones.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub fn refresh(&mut self, now: Instant) -> Result<(), NetworkError> {
        let due = self.looked + Duration::from_secs(LOOK_S);
        if self.members.is_empty() || now < due {
            return Ok(());
        }
        self.looked = now;
        let addresses = node_addresses()?;
        if addresses == self.addresses {
            return Ok(());
        }
        self.addresses = addresses;
        let known =
            |(id, member): (&u64, &Member)| Some((*id, member.slot, member.network.clone()?));
        let all: Vec<_> = self.members.iter().filter_map(known).collect();
        all.iter().try_for_each(|(id, slot, network)| self.tell(*id, *slot, network))
    }

    /// Writes a zone's policy where the programs find it.
    fn tell(&self, cgroup: u64, slot: u32, network: &Network) -> Result<(), NetworkError> {
        let own = |address: &IpAddr| (*address, if address.is_ipv4() { 32 } else { 128 });
        let zones = (IpAddr::V4(plan::NETWORK.0), plan::NETWORK.1);
        let closed: Vec<_> = [zones].into_iter().chain(self.addresses.iter().map(own)).collect();
        let policy = Policy::new(network, slot, &closed).encode();
        call("set the zone's policy", self.maps.policies.set(&cgroup.to_ne_bytes(), &policy))
    }

    /// Refuses rules that could not be kept.
    ///
    /// # Errors
    /// [`NetworkError`] for the first of them.
    pub fn check(&self, network: &Network) -> Result<(), NetworkError> {
        for rule in &network.allow {
            let address = rule.address.to_canonical();
            let whole = rule.prefix >= if rule.address.is_ipv4() { 32 } else { 128 };
            let gateway = whole && address == IpAddr::V4(plan::GATEWAY);
            // A wider rule keeps what is closed closed; one inside the zones' network means zones.
            let inside = plan::is_zones(address) && (whole || rule.prefix >= plan::NETWORK.1);
            if inside && !gateway {
                return Err(NetworkError::OtherZones { address });
            }
            if whole && !gateway && self.addresses.contains(&address) {
                return Err(NetworkError::NodeAddress { address });
            }
        }
        Ok(())
    }

    /// Makes bridge and rules, once.
    fn prepare(&mut self) -> Result<(), NetworkError> {
        if self.ready {
            return Ok(());
        }
        let overlap = |address: &&IpAddr| plan::is_zones(**address) && **address != plan::GATEWAY;
        if let Some(address) = self.addresses.iter().find(overlap) {
            return Err(NetworkError::Overlap { address: *address });
        }
        links::prepare()?;
        self.ready = true;
        Ok(())
    }
}

/// The first few rules in words, whatever order they came in.
fn shown_rules(rules: &[Rule]) -> String {
    let whole = |rule: &Rule| {
        let (network, bits) = policy::network_of(rule);
        let protocol = if rule.protocol == Protocol::Tcp { "tcp" } else { "udp" };
        format!("{protocol} {network}/{bits} port {}-{}", rule.first_port, rule.last_port)
    };
    let mut texts: Vec<String> = rules.iter().map(whole).collect();
    texts.sort();
    texts.dedup();
    let more = texts.len().saturating_sub(RULES_SHOWN);
    texts.truncate(RULES_SHOWN);
    match (texts.is_empty(), more) {
        (true, _) => "nobody".to_owned(),
        (false, 0) => texts.join(", "),
        (false, more) => format!("{}, and {more} more", texts.join(", ")),
    }
}

fn shown_rate(rate: Option<u64>) -> String {
    match rate {
        None | Some(0) => "no cap".to_owned(),
        Some(rate) => format!("{rate} B/s"),
    }
}

/// The addresses of this node, but for loopback's.
fn node_addresses() -> Result<BTreeSet<IpAddr>, NetworkError> {
    let all = call("list the node's addresses", nix::ifaddrs::getifaddrs())?;
    let addresses = all.filter_map(|one| one.address);
    let addresses = addresses.filter_map(|address| {
        let four = address.as_sockaddr_in().map(|four| IpAddr::V4(four.ip()));
        four.or_else(|| address.as_sockaddr_in6().map(|six| IpAddr::V6(six.ip())))
    });
    Ok(addresses.filter(|address| !address.is_loopback()).collect())
}

/// The maps of an earlier zoned if they have the shape of today's, else new ones.
fn maps(cgroup: BorrowedFd<'_>) -> Result<Maps, NetworkError> {
    let old = call("look for an earlier zoned", bpf::attached(cgroup, bpf::Hook::Egress))?;
    let take = |old: Vec<Attached>, name: &str, bytes: usize| {
        let maps = old.into_iter().flat_map(|old| old.maps);
        maps.filter(|(found, map)| found == name && map.value_bytes() == bytes)
            .map(|(_, map)| map)
            .next()
    };
    let again = call("look for an earlier zoned", bpf::attached(cgroup, bpf::Hook::Egress))?;
    let found =
        take(old, POLICIES, policy::POLICY_BYTES).zip(take(again, COUNTERS, COUNTERS_BYTES));
    if let Some((policies, counters)) = found {
        return Ok(Maps { policies, counters });
    }
    let new = |name, bytes: usize| {
        let bytes = u32::try_from(bytes).map_err(io::Error::other)?;
        Map::hash(name, KEY_BYTES, bytes, ZONES_MAX)
    };
    Ok(Maps {
        policies: call("make a map", new(c"mobula_policy", policy::POLICY_BYTES))?,
        counters: call("make a map", new(c"mobula_count", COUNTERS_BYTES))?,
    })
}

/// The zones that the maps know.
fn members(maps: &Maps) -> Result<BTreeMap<u64, Member>, NetworkError> {
    let mut members = BTreeMap::new();
    for key in call("list the zones that have a network", maps.policies.keys())? {
        let value = call("read a zone's policy", maps.policies.get(&key))?;
        let slot = value.as_deref().and_then(policy::slot_and_rate).map(|(slot, _)| slot);
        let id = key.try_into().map(u64::from_ne_bytes);
        if let (Ok(id), Some(slot)) = (id, slot) {
            members.insert(id, Member { slot, network: None });
        }
    }
    Ok(members)
}
