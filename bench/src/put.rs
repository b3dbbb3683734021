//! Durable PUTs beside s3s-fs, which syncs nothing.

use crate::load::{self, Load, Round};
use crate::peers::Which;
use crate::process::Server;
use crate::report::{Bar, Comparison, Report};
use crate::settings::Scale;
use anyhow::{Context, Result};
use std::process::Command;
use std::time::Duration;

/// The bucket that is written to.
const BUCKET: &str = "written";

/// Where there is no bar, one round for so many shows enough.
const OTHERS_ROUNDS_PART: usize = 3;

/// A size of objects.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    name: &'static str,
    bytes: usize,
    /// Keys of each connection: overwritten in turn, so that the disk does not fill.
    keys: usize,
    /// The least rate beside s3s-fs's.
    least: f64,
}

impl Size {
    /// Bytes of an object.
    pub fn bytes(self) -> usize {
        self.bytes
    }
}

/// What is written.
pub const SIZES: [Size; 2] = [
    Size { name: "4 KiB", bytes: 4 << 10, keys: 1000, least: 3.0 },
    Size { name: "1 MiB", bytes: 1 << 20, keys: 8, least: 1.5 },
];

/// All rows of one size.
pub fn run(servers: &[Server], size: Size, scale: &Scale, report: &mut Report) -> Result<()> {
    let load = Load {
        bucket: BUCKET.to_owned(),
        bytes: size.bytes,
        connections: 32,
        keys: size.keys,
        time: Duration::from_secs(scale.seconds.into()),
    };
    let find = |which: Which| servers.iter().find(|server| server.name == which.name());
    let ours = find(Which::Storaged).context("storaged does not run")?;
    for peer in [Which::S3sFs, Which::SeaweedFs].into_iter().filter_map(find) {
        load::make_bucket(ours.address, BUCKET)?;
        load::make_bucket(peer.address, BUCKET)?;
        let mut pairs: Vec<(Round, Round)> = Vec::new();
        // Only one of them has a bar.
        let has_bar = peer.name == Which::S3sFs.name();
        let rounds = if has_bar { scale.rounds } else { scale.rounds.div_ceil(OTHERS_ROUNDS_PART) };
        for round in 0..rounds {
            let one = |server| -> Result<Round> {
                // What the other has left to write is not to be paid for by this one.
                Command::new("sync").status().context("sync")?;
                load::put(server, &load)
            };
            pairs.push(if round % 2 == 0 {
                let first = one(ours)?;
                (first, one(peer)?)
            } else {
                let first = one(peer)?;
                (one(ours)?, first)
            });
        }
        let what = format!("PUT {}", size.name);
        let of =
            |figure: fn(&Round) -> f64| pairs.iter().map(|(a, b)| (figure(a), figure(b))).collect();
        let bar = has_bar.then_some(Bar::AtLeast(size.least));
        report.compare(Comparison::new(&what, "requests/s", peer.name, of(|r| r.rate), bar));
        report.compare(Comparison::new(
            &what,
            "CPU µs a request",
            peer.name,
            of(|r| r.cpu_us),
            None,
        ));
        report.compare(Comparison::new(&what, "p99 µs", peer.name, of(|r| r.p99_us), None));
    }
    Ok(())
}
