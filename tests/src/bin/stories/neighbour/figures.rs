//! What limits of processors and memory give, by the kernel's own count.

use super::Zone;
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tests::agent::wait_for;
use tests::appliance::Appliance;

/// Until a zone has used what is to be measured, on a crowded machine.
const USED_TIME: Duration = Duration::from_secs(240);
/// How much of it: long enough that the last period, cut in two, does not count.
const CPU_US: u64 = 10_000_000;
/// Half a processor in periods of 100 ms.
const QUOTA_US: u64 = 50_000;
/// How far off that may be.
const OFF_MAX: f64 = 0.02;
/// How often it is looked where processes run.
const LOOKS: usize = 20;
const MIB: u64 = 1 << 20;

/// cpu.max and cpuset.
pub fn processors(a: &Appliance) -> Result<()> {
    let size = ["--cpu", "0.5", "--memory", "64M", "--scratch", "16M"];
    let command = ["stress-ng", "--temp-path", "/tmp", "--cpu", "4"];
    let zone = Zone::create(a, "capped", &size, &command)?;
    wait_for("the zone to be at its cap", USED_TIME, || {
        Ok((zone.counters()?.number("cpu.stat", "nr_throttled")? >= 5).then_some(()))
    })?;
    let before = zone.counters()?;
    let after = wait_for("ten seconds of the zone's time", USED_TIME, || {
        let now = zone.counters()?;
        Ok((now.grown(&before, "cpu.stat", "usage_usec")? >= CPU_US).then_some(now))
    })?;
    let used = after.grown(&before, "cpu.stat", "usage_usec")?;
    let periods = after.grown(&before, "cpu.stat", "nr_periods")?;
    let part = used as f64 / (periods * QUOTA_US) as f64;
    println!(
        "  cpu.max 0.5: {:.2} s used in {periods} periods, {part:.4} of the quota; {:.3} processors by the clock",
        used as f64 / 1e6,
        used as f64 / 1e6 / (after.at - before.at)
    );
    ensure!((part - 1.0).abs() <= OFF_MAX, "{part} of its quota was used");
    zone.act(&["update", "--cpu", "none", "--cpus", "1"])?;
    let cgroup = zone.cgroup()?;
    let effective = a.agent.read(&format!("{cgroup}/cpuset.cpus.effective"))?;
    ensure!(effective.trim() == "1", "cpuset.cpus.effective is {effective:?}");
    on_the_second(a, &cgroup, LOOKS)?;
    let before = zone.counters()?;
    let after = wait_for("five seconds of one processor", USED_TIME, || {
        let now = zone.counters()?;
        Ok((now.grown(&before, "cpu.stat", "usage_usec")? >= CPU_US / 2).then_some(now))
    })?;
    on_the_second(a, &cgroup, LOOKS)?;
    let used = after.grown(&before, "cpu.stat", "usage_usec")? as f64 / 1e6;
    let part = used / (after.at - before.at);
    println!("  cpuset 1: four that spin used {part:.3} processors and ran on no other");
    ensure!(part <= 1.0 + OFF_MAX, "{part} processors of one were used");
    zone.delete()
}

/// Checks again and again that no process of a cgroup is on another processor than the second.
fn on_the_second(a: &Appliance, cgroup: &str, looks: usize) -> Result<()> {
    for _ in 0..looks {
        let pids = a.agent.read(&format!("{cgroup}/cgroup.procs"))?;
        ensure!(pids.lines().count() >= 5, "four that spin and their first: {pids:?}");
        for pid in pids.lines() {
            // One that has ended meanwhile is on no processor.
            let Ok(stat) = a.agent.read(&format!("/proc/{pid}/stat")) else { continue };
            let (_, fields) = stat.rsplit_once(") ").context("no process's stat")?;
            // proc_pid_stat(5): state is field 3, processor 39. One that sleeps since before the change
            // has not run anywhere since.
            let fields: Vec<&str> = fields.split(' ').collect();
            let (state, processor) = (fields[0], fields[36]);
            ensure!(state != "R" || processor == "1", "process {pid} is on processor {processor}");
        }
    }
    Ok(())
}

/// The file that each of two zones holds in memory.
const HELD_BYTES: u64 = 40 * MIB;
/// More than an account may have on this node, in one zone.
const FILLER_MIB: u64 = 1280;
/// Passes over that, until the unprotected zone has lost half.
const PASSES: usize = 8;

/// memory.low, within an account that is at its limit.
pub fn protected(a: &Appliance) -> Result<()> {
    let size = ["--memory", "96M", "--scratch", "16M", "--output", "low-out"];
    let low = [&size[..], &["--memory-low", "64M"]].concat();
    let kept = Zone::create(a, "kept", &low, &["sleep", "1000"])?;
    let bare = Zone::create(a, "bare", &size, &["sleep", "1000"])?;
    let hold = format!("truncate -s {HELD_BYTES} /out/f; cat /out/f >/dev/null");
    for zone in [&kept, &bare] {
        zone.exec(&hold)?;
    }
    let held = |zone: &Zone<'_>| zone.counters()?.number("memory.stat", "file");
    let (kept_before, bare_before) = (held(&kept)?, held(&bare)?);
    ensure!(kept_before >= HELD_BYTES && bare_before >= HELD_BYTES, "{kept_before} {bare_before}");
    let memory = format!("{FILLER_MIB}M");
    let large = ["--memory", &memory, "--scratch", "16M", "--output", "low-out"];
    let filler = Zone::create(a, "filler", &large, &["sleep", "1000"])?;
    filler.exec(&format!("truncate -s {FILLER_MIB}M /out/f"))?;
    let mut passes = 0;
    while held(&bare)? > bare_before / 2 {
        passes += 1;
        ensure!(passes <= PASSES, "the unprotected zone still has {} bytes", held(&bare)?);
        filler.exec("cat /out/f >/dev/null")?;
    }
    let (kept_now, bare_now) = (held(&kept)?, held(&bare)?);
    println!(
        "  memory.low 64 MiB: of {} MiB {} are left; without it {} of {}",
        kept_before / MIB,
        kept_now / MIB,
        bare_now / MIB,
        bare_before / MIB
    );
    // A few pages that nobody protects may be among them: those of programs.
    ensure!(kept_now >= kept_before - MIB, "{kept_now} of {kept_before} protected bytes are left");
    for zone in [filler, kept, bare] {
        // What is in /out is no output: it would become objects.
        zone.exec("rm -f /out/f")?;
        zone.delete()?;
    }
    Ok(())
}
