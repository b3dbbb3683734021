//! Idle connections by the thousand: what each costs the server, and the kernel.
//!
//! The kernel's part is the growth of its slab caches, divided by the connections. The clients are on the same
//! machine, so it has both ends of each: the caches are named, so that what only a server has can be told.

use crate::process::Server;
use crate::report::Report;
use anyhow::{Context, Result, ensure};
use nix::libc::linger;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Connections at once.
const CONNECTIONS: usize = 10_000;
/// Descriptors that are needed beside those of connections.
const OTHER_FILES: u64 = 200;
/// Connections before: what the first ones bring into memory is no connection's.
const WARM_UP: usize = 100;
/// After the last answer, until all that goes with a request has gone.
const SETTLE_TIME: Duration = Duration::from_secs(3);
/// How long an answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// What a connection may cost of the server's memory: the limit of the front's own test.
const RESIDENT_BYTES_MAX: f64 = 4096.0;
/// Caches that grow by less than this for each connection are not named.
const NAMED_BYTES_MIN: f64 = 64.0;

/// What is in use now.
struct Used {
    resident: u64,
    /// Bytes of objects in use, by slab cache.
    caches: BTreeMap<String, f64>,
    /// Bytes of the slab caches as a whole, what is free in them included.
    slab: f64,
}

impl Used {
    fn now(server: &Server) -> Result<Used> {
        let caches = fs::read_to_string("/proc/slabinfo").context("slab caches, as root")?;
        let memory = fs::read_to_string("/proc/meminfo")?;
        let slab = memory.lines().find_map(|line| line.strip_prefix("Slab:"));
        let slab = slab.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        Ok(Used {
            resident: server.resident_bytes(),
            caches: caches.lines().filter_map(cache).collect(),
            slab: slab.context("no Slab in /proc/meminfo")? * 1024.0,
        })
    }
}

/// A line of slabinfo(5): the cache's name, and its bytes in use.
fn cache(line: &str) -> Option<(String, f64)> {
    let mut fields = line.split_whitespace();
    let name = fields.next()?.to_owned();
    let active: f64 = fields.next()?.parse().ok()?;
    let bytes: f64 = fields.nth(1)?.parse().ok()?;
    Some((name, active * bytes))
}

/// Figures of each of these servers.
pub fn run(servers: &[Server], quick: bool, report: &mut Report) -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("allow as many files as may be")?;
    // Where fewer descriptors are allowed, fewer are tried.
    let allowed = usize::try_from(hard.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX);
    let count = allowed.min(if quick { CONNECTIONS / 10 } else { CONNECTIONS });
    for server in servers {
        (0..WARM_UP).try_for_each(|_| connect(server).map(drop))?;
        std::thread::sleep(SETTLE_TIME);
        let before = Used::now(server)?;
        let streams: Vec<TcpStream> = (0..count)
            .map(|number| connect(server).with_context(|| format!("connection {number}")))
            .collect::<Result<_>>()
            .with_context(|| server.name)?;
        std::thread::sleep(SETTLE_TIME);
        let after = Used::now(server)?;
        drop(streams);
        tell(server, count, &before, &after, report);
    }
    Ok(())
}

fn tell(server: &Server, count: usize, before: &Used, after: &Used, report: &mut Report) {
    let each = |bytes: f64| bytes / count as f64;
    let resident = each(after.resident as f64 - before.resident as f64);
    let mut caches: Vec<(&str, f64)> = after
        .caches
        .iter()
        .map(|(name, bytes)| {
            (name.as_str(), each(bytes - before.caches.get(name).copied().unwrap_or_default()))
        })
        .filter(|(_, bytes)| *bytes >= NAMED_BYTES_MIN)
        .collect();
    caches.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let named: Vec<String> =
        caches.iter().map(|(name, bytes)| format!("{name} {bytes:.0}")).collect();
    let text = format!(
        "{resident:.0} bytes of its own each; {:.0} of the kernel for both ends: {}",
        each(after.slab - before.slab),
        named.join(", ")
    );
    let met = (server.name == "storaged").then_some(resident <= RESIDENT_BYTES_MAX);
    let bar = if met.is_some() { ", ≤ 4096 bytes of its own each" } else { "" };
    report.fact(&format!("memory of {}, {count} idle connections{bar}", server.name), text, met);
}

/// A connection that was answered once, and leaves nothing behind when it is dropped.
fn connect(server: &Server) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(server.address)?;
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    // A close that waits would take memory, and an address, for a minute.
    setsockopt(&stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?;
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    stream.write_all(request.as_bytes())?;
    let mut answer = [0; 4096];
    let read = stream.read(&mut answer)?;
    ensure!(answer[..read].starts_with(b"HTTP/1.1 "), "it answers something else than HTTP");
    Ok(stream)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_line_of_slabinfo_is_read_and_a_heading_is_none() {
        let line = "TCP   12   13   2560   12    8 : tunables    0    0    0 : slabdata 2 2 0";
        assert_eq!(cache(line), Some(("TCP".to_owned(), 12.0 * 2560.0)));
        assert_eq!(cache("slabinfo - version: 2.1"), None);
        assert_eq!(cache("# name            <active_objs> <num_objs> <objsize>"), None);
    }
}
