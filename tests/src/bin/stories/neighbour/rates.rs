//! What rates of the data disk give: bytes by the kernel's count, time by the node's clock. Past the page cache, where
//! a program's own time is that of the disk; `buffered` is about what goes through it.

use super::Zone;
use anyhow::{Context, Result, ensure};
use tests::appliance::Appliance;

const MIB: f64 = (1 << 20) as f64;
/// The rate that is asked for, in bytes a second, where the disk gives several times as much.
const RATE: u64 = 10_000_000;
/// The disk must give this many times the rate: else it is the disk that is measured.
const FASTER: u64 = 3;
/// How far below and above its rate a zone may be: a few of the kernel's slices of 100 ms.
const LESS: f64 = 0.85;
const MORE: f64 = 1.05;
/// How long a measurement goes on, in seconds.
const SECONDS: u64 = 6;

/// Bytes of a MiB that have to be on the zone's account: nearly all.
const COUNTED: u64 = (1 << 20) * 9 / 10;

/// A way to use the disk.
struct Way {
    name: &'static str,
    /// `dd`'s words for it.
    words: &'static str,
    /// What of io.stat it counts in.
    key: &'static str,
    rate: &'static str,
}

const WAYS: [Way; 2] = [
    Way {
        name: "written past the cache",
        words: "if=/dev/zero of=/out/f oflag=direct conv=notrunc,fsync",
        key: "wbytes",
        rate: "--write-rate",
    },
    Way {
        name: "read past the cache",
        words: "if=/out/f of=/dev/null iflag=direct",
        key: "rbytes",
        rate: "--read-rate",
    },
];

impl Way {
    fn line(&self, count: u64) -> String {
        format!("dd {} bs=1M count={count} 2>&1", self.words)
    }
}

/// Bytes a second of one run of `count` MiB.
fn run(zone: &Zone<'_>, way: &Way, count: u64) -> Result<f64> {
    let before = zone.counters()?;
    let out = zone.exec(&way.line(count))?;
    let after = zone.counters()?;
    let bytes = after.io(way.key).saturating_sub(before.io(way.key));
    ensure!(bytes >= count * COUNTED, "{bytes} bytes of {count} MiB were counted: {out}");
    // "… bytes (… MB, … MiB) copied, 6.7 s, …": dd's own clock begins after it was started.
    let seconds = out.split("copied, ").nth(1).and_then(|rest| rest.split(' ').next());
    let seconds: f64 = seconds.with_context(|| format!("no time in {out:?}"))?.parse()?;
    Ok((count << 20) as f64 / seconds.max(1e-3))
}

pub fn disk(a: &Appliance) -> Result<()> {
    let size = ["--memory", "64M", "--scratch", "16M", "--disk", "256M", "--output", "rates-out"];
    let zone = Zone::create(a, "rated", &size, &["sleep", "1000"])?;
    for way in &WAYS {
        zone.act(&["update", way.rate, "none"])?;
        let free = run(&zone, way, 64)?;
        let rate = RATE.min(free as u64 / FASTER);
        zone.act(&["update", way.rate, &rate.to_string()])?;
        let count = ((rate * SECONDS) >> 20).clamp(8, 64);
        let got = run(&zone, way, count)?;
        let part = got / rate as f64;
        println!(
            "  {}: {:.1} MiB/s free, {:.2} with a rate of {:.2}: {part:.3}",
            way.name,
            free / MIB,
            got / MIB,
            rate as f64 / MIB
        );
        zone.act(&["update", way.rate, "none"])?;
        ensure!((LESS..=MORE).contains(&part), "{}: {part:.3} of its rate", way.name);
    }
    zone.exec("rm /out/f")?;
    zone.delete()
}
