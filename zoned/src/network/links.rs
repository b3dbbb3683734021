//! Does what [`super::plan`] says: the bridge and its rules, and each zone's link.

use super::plan::{self, Step};
use super::{NetworkError, call};
use std::fs;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use sys::namespace;
use sys::netlink::{Bucket, Link, Netlink, tables};

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
/// The node's resolvers, and the most of that file that is read: resolv.conf(5) knows three servers.
const RESOLVER: &str = "/etc/resolv.conf";
const RESOLVER_BYTES_MAX: u64 = 4096;
/// The loopback of any network namespace.
const LOOPBACK: Link = Link(1);

/// What a zone is told about resolvers, which it may ask if its rules say so; none if the node knows none.
#[must_use]
pub fn resolver() -> Option<String> {
    let mut text = String::new();
    fs::File::open(RESOLVER).ok()?.take(RESOLVER_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Makes bridge and rules, or makes them what they should be.
pub(super) fn prepare() -> Result<(), NetworkError> {
    // The rules come first: with forwarding on and no rules the node would be anybody's router.
    call("set the rules", tables::set_table(plan::TABLE, &plan::chains()))?;
    call("let packets through", fs::write(FORWARDING, "1"))?;
    let mut netlink = call("reach the kernel", Netlink::open())?;
    let link = match find(plan::BRIDGE) {
        Some(link) => link,
        None => {
            call("make the bridge", netlink.make_bridge(plan::BRIDGE))?;
            find(plan::BRIDGE).ok_or_else(|| missing(plan::BRIDGE))?
        }
    };
    no_made_up_addresses(&mut netlink, link)?;
    let address = netlink.set_address(link, plan::GATEWAY, plan::NETWORK.1);
    call("set the bridge's address", address)?;
    call("bring up the bridge", netlink.bring_up(link))?;
    Ok(())
}

fn missing(link: &str) -> NetworkError {
    let source = io::Error::from(io::ErrorKind::NotFound);
    NetworkError::Call { act: format!("find the link {link}"), source }
}

/// A link of this network namespace by its name.
pub(super) fn find(name: &str) -> Option<Link> {
    nix::net::if_::if_nametoindex(name).ok().map(Link)
}

fn no_made_up_addresses(netlink: &mut Netlink, link: Link) -> Result<(), NetworkError> {
    match netlink.without_own_addresses(link) {
        // No IPv6, no addresses of it.
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => Ok(()),
        other => call("keep the kernel from making up addresses", other),
    }
}

pub(super) fn clear(netlink: &mut Netlink, slot: u32) -> Result<(), NetworkError> {
    match find(&plan::link_name(slot)) {
        Some(link) => call("remove the zone's link", netlink.remove_link(link)),
        None => Ok(()),
    }
}

pub(super) fn set_bucket(
    netlink: &mut Netlink,
    slot: u32,
    bucket: Option<Bucket>,
) -> Result<(), NetworkError> {
    let name = plan::link_name(slot);
    let link = find(&name).ok_or_else(|| missing(&name))?;
    if let Some(bucket) = bucket {
        return call("cap what enters the zone", netlink.queue_by_bucket(link, bucket));
    }
    let queue = call("read the zone's queue", netlink.queue(link))?;
    if queue.is_some_and(|queue| queue.rate.is_some()) {
        call("take the cap away", netlink.remove_queue(link))?;
    }
    Ok(())
}

pub(super) fn act(step: Step, slot: u32, namespace: BorrowedFd<'_>) -> Result<(), NetworkError> {
    let name = plan::link_name(slot);
    let mut netlink = call("reach the kernel", Netlink::open())?;
    let outside = || find(&name).ok_or_else(|| missing(&name));
    match step {
        Step::Clear => clear(&mut netlink, slot),
        Step::Pair => {
            call("make the zone's link", netlink.make_pair(&name, plan::INSIDE, namespace))
        }
        Step::Plug => {
            no_made_up_addresses(&mut netlink, outside()?)?;
            let bridge = find(plan::BRIDGE).ok_or_else(|| missing(plan::BRIDGE))?;
            call("plug in the zone's link", netlink.plug_isolated(outside()?, bridge))
        }
        Step::Bucket(bucket) => set_bucket(&mut netlink, slot, bucket),
        Step::RaiseOutside => call("bring up the zone's link", netlink.bring_up(outside()?)),
        Step::Inside { address, paced } => {
            let inside = namespace::within_network(namespace, || furnish(address, paced));
            call("enter the zone's network", inside)?
        }
    }
}

/// In the zone's network: loopback, address, queue, route.
fn furnish(address: Ipv4Addr, paced: bool) -> Result<(), NetworkError> {
    let mut netlink = call("reach the kernel from the zone", Netlink::open())?;
    let link = find(plan::INSIDE).ok_or_else(|| missing(plan::INSIDE))?;
    call("bring up the zone's loopback", netlink.bring_up(LOOPBACK))?;
    no_made_up_addresses(&mut netlink, link)?;
    match netlink.queue_by_time(link) {
        // This kernel has no fq, and the zone no rate to be paced to.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) && !paced => {}
        other => call("pace what leaves the zone", other)?,
    }
    let prefix = plan::NETWORK.1;
    call("set the zone's address", netlink.set_address(link, address, prefix))?;
    call("bring up the zone's end", netlink.bring_up(link))?;
    call("set the zone's route", netlink.set_default_route(link, plan::GATEWAY))
}
