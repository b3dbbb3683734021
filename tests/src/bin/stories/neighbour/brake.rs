//! What happens at the end of a zone's memory: what it made itself ends it, what it only read does not.

use super::{Zone, uptime};
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tests::agent::wait_for;
use tests::appliance::Appliance;

/// Until a zone that has gone over its memory is reported: seconds, and what emulation makes of them.
const ENDED_TIME: Duration = Duration::from_secs(60);
/// A file eight times as large as the zone's memory, without a block on the disk.
const READ: &str = "truncate -s 256M /out/large && cat /out/large >/dev/null && rm /out/large";

pub fn ends(a: &Appliance) -> Result<()> {
    let size = ["--memory", "32M", "--scratch", "8M"];
    // The image whose programs are packed: to read them in again costs most.
    let began = uptime(a)?;
    let zone = Zone::of(a, "over", &size, &["tail", "/dev/zero"])?;
    wait_for("the end of a zone over its memory", ENDED_TIME, || {
        Ok(zone.act(&["why"])?.contains("memory").then_some(()))
    })?;
    println!("  32 MiB were over after {:.1} s of the node's clock", uptime(a)? - began);
    println!("  {}", zone.act(&["why"])?.lines().next().unwrap_or_default());
    zone.delete()?;

    let spec = [&size[..], &["--output", "brake-out"]].concat();
    let zone = Zone::of(a, "reader", &spec, &["sleep", "1000"])?;
    zone.exec(READ).context("reading more than the zone's memory")?;
    let after = zone.counters()?;
    let (hits, kills) =
        (after.number("memory.events", "max")?, after.number("memory.events", "oom_kill")?);
    println!("  256 MiB were read in 32 MiB: {hits} times at the limit");
    ensure!(hits > 0 && kills == 0, "{hits} times at the limit, {kills} kills");
    zone.delete()
}
