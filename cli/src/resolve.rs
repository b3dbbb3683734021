//! Host names to addresses, without the C library's resolver.
//!
//! The binary is static, and a static glibc would load the host's name service modules at run time,
//! which may be of another version. So numbers and `localhost` are read here, and every other name is
//! put to `getent`, which is the host's own and knows its hosts file, DNS and whatever else it uses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;
use ureq::config::Config;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// The most addresses of one name that are tried, as ureq holds no more.
const ADDRESSES_MAX: usize = 16;
/// The port of `http://` without one.
const PORT_DEFAULT: u16 = 80;

/// Asks in the order that the module describes.
#[derive(Debug)]
pub struct Names;

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &http::Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let port = uri.port_u16().unwrap_or(PORT_DEFAULT);
        let found = find(host)?;
        let mut addresses = self.empty();
        for ip in found.into_iter().take(ADDRESSES_MAX) {
            addresses.push(SocketAddr::new(ip, port));
        }
        if addresses.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(addresses) }
    }
}

/// The addresses of a host.
fn find(host: &str) -> Result<Vec<IpAddr>, ureq::Error> {
    literal(host).map_or_else(|| ask(host), Ok)
}

/// A connection to `HOST[:PORT]`, by the first of its addresses that answers.
pub fn connect(authority: &http::uri::Authority, most: Duration) -> Result<TcpStream, ureq::Error> {
    let port = authority.port_u16().unwrap_or(PORT_DEFAULT);
    let mut last = ureq::Error::HostNotFound;
    for ip in find(authority.host())?.into_iter().take(ADDRESSES_MAX) {
        match TcpStream::connect_timeout(&SocketAddr::new(ip, port), most) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = ureq::Error::Io(error),
        }
    }
    Err(last)
}

/// The addresses of a host that needs no asking.
fn literal(host: &str) -> Option<Vec<IpAddr>> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse() {
        return Some(vec![ip]);
    }
    let local = host.eq_ignore_ascii_case("localhost");
    local.then(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
}

/// The addresses that the host's name service has for a name.
fn ask(host: &str) -> Result<Vec<IpAddr>, ureq::Error> {
    let answer = Command::new("getent").args(["ahosts", "--", host]).output().map_err(|error| {
        let text = format!("cannot run getent to look up {host:?} (use a number instead): {error}");
        ureq::Error::Io(std::io::Error::new(error.kind(), text))
    })?;
    Ok(addresses(&String::from_utf8_lossy(&answer.stdout)))
}

/// The addresses in getent's table, each once.
fn addresses(table: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in table.lines() {
        let first = line.split_whitespace().next().and_then(|word| word.parse().ok());
        if let Some(ip) = first.filter(|ip| !found.contains(ip)) {
            found.push(ip);
        }
    }
    found
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn numbers_and_localhost_need_no_asking() {
        assert_eq!(literal("10.1.2.3").unwrap(), [IpAddr::from([10, 1, 2, 3])]);
        assert_eq!(literal("[::1]").unwrap(), [IpAddr::from(Ipv6Addr::LOCALHOST)]);
        assert_eq!(literal("LocalHost").unwrap()[0], IpAddr::from(Ipv4Addr::LOCALHOST));
        assert_eq!(literal("node.example"), None);
    }

    #[test]
    fn each_address_of_the_table_counts_once() {
        let table = "10.0.0.1 STREAM node\n10.0.0.1 DGRAM \nfe80::1 STREAM\nrubbish\n\n";
        let want: [IpAddr; 2] = [[10, 0, 0, 1].into(), "fe80::1".parse().unwrap()];
        assert_eq!(addresses(table), want);
    }
}
