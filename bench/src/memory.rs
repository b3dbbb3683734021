//! Memory of the servers: idle, with ten thousand idle connections, and with a thousand busy ones.

use crate::get;
use crate::idle;
use crate::peers::Peers;
use crate::process::Server;
use crate::report::Report;
use crate::settings::Scale;
use crate::wrk::{self, Scheme};
use anyhow::Result;
use std::time::Duration;

/// Connections that are busy.
const CONNECTIONS: u32 = 1000;

/// Figures for servers that have just started, then have been busy.
pub fn run(peers: &Peers, servers: &[Server], scale: &Scale, report: &mut Report) -> Result<()> {
    let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let idle: Vec<_> = servers.iter().map(Server::resident_bytes).collect();
    let size = get::SIZES[1];
    idle::run(servers, scale.quick, report)?;
    get::prepare(peers, servers, size, scale)?;
    for (server, idle) in servers.iter().zip(idle) {
        let targets = get::targets(peers, server, size, Scheme::Http, scale)?;
        let seconds = scale.seconds.max(5);
        let load = wrk::Load { scheme: Scheme::Http, targets, connections: CONNECTIONS, seconds };
        let busy = std::thread::scope(|scope| -> Result<u64> {
            let running = scope.spawn(|| wrk::run(server, &load));
            let mut most = 0;
            while !running.is_finished() {
                most = most.max(server.resident_bytes());
                std::thread::sleep(Duration::from_millis(50));
            }
            running.join().expect("wrk's thread does not panic")?;
            Ok(most)
        })?;
        let text = format!("{} idle, {} at most while busy", mebibytes(idle), mebibytes(busy));
        let what = format!("memory of {}, {CONNECTIONS} connections reading 64 KiB", server.name);
        report.fact(&what, text, None);
    }
    Ok(())
}
