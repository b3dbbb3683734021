//! Five attacks in alternating quiet and attack windows, while a client reads a small object.
//!
//! How long a read takes is told, not asserted: on an emulated machine it says little. Asserted are the
//! counters of the store's own cgroup, and that each attack was one.

use super::counters::Counters;
use super::{Zone, uptime};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};
use tests::agent::wait_for;
use tests::appliance::Appliance;
use tests::load::content;
use tests::s3::Client;

const BUCKET: &str = "neighbour";
const KEY: &str = "small";
const OBJECT_BYTES: usize = 4096;
/// The store's cgroup: storaged and the prefetcher, and the pages of objects.
const STORE: &str = "/sys/fs/cgroup/store/storaged";
/// Each attack has this many windows, each after a quiet one; one more quiet one ends the story.
const ROUNDS: usize = 2;
/// A window is at least this long by the node's clock, ...
const WINDOW_S: f64 = 5.0;
/// ... and has at least this many reads, so that the slowest of a hundred is no single one.
const GETS_MIN: usize = 300;
/// Until a window has both, on a crowded machine.
const WINDOW_TIME: Duration = Duration::from_secs(180);
/// Until an attack shows in its zone's counters.
const ATTACK_TIME: Duration = Duration::from_secs(90);
/// How long stress-ng may take to clear up, in seconds: files left in /out would become objects.
const STOP_S: &str = "20";

/// An attack.
struct Attack {
    name: &'static str,
    carve: &'static [&'static str],
    command: &'static str,
    /// What of the attacker's counters has grown shows that it attacks; none before it does.
    evidence: fn(&Counters, &Counters) -> Result<Option<String>>,
}

/// The cap of each attacker, in microseconds of a period: one processor of two.
const QUOTA_US: u64 = 100_000;

const ATTACKS: [Attack; 5] = [
    Attack {
        name: "cpu-spin",
        carve: &["--cpu", "1", "--memory", "64M", "--scratch", "16M"],
        command: "--cpu 4",
        evidence: spins,
    },
    Attack {
        name: "memory-thrash",
        carve: &["--cpu", "1", "--memory", "96M", "--scratch", "16M", "--disk", "512M"],
        command: "--vm 1 --vm-bytes 64M --vm-keep --vm-method flip --hdd 1 --hdd-bytes 128M --hdd-write-size 1M --hdd-opts wr-seq,rd-seq",
        evidence: thrashes,
    },
    Attack {
        name: "io-flood",
        carve: &["--cpu", "1", "--memory", "96M", "--scratch", "16M", "--disk", "512M"],
        command: "--hdd 2 --hdd-bytes 64M --hdd-write-size 1M --hdd-opts direct,wr-seq,rd-seq",
        evidence: floods,
    },
    Attack {
        name: "fork-bomb",
        carve: &["--cpu", "1", "--memory", "64M", "--scratch", "16M", "--pids", "24"],
        command: "--fork 4 --fork-max 64",
        evidence: forks,
    },
    Attack {
        name: "sync-storm",
        carve: &["--cpu", "1", "--memory", "96M", "--scratch", "16M", "--disk", "512M"],
        command: "--io 2 --hdd 2 --hdd-bytes 4M --hdd-write-size 4k --hdd-opts fsync,wr-rnd",
        evidence: syncs,
    },
];

/// It wanted more processors than its cap, and got the better part of it.
fn spins(before: &Counters, now: &Counters) -> Result<Option<String>> {
    let periods = now.grown(before, "cpu.stat", "nr_periods")?;
    let throttled = now.grown(before, "cpu.stat", "nr_throttled")?;
    let used = now.grown(before, "cpu.stat", "usage_usec")?;
    let part = used as f64 / (periods * QUOTA_US).max(1) as f64;
    let told =
        format!("{:.0} % of its cap used, throttled in {throttled} of {periods}", part * 100.0);
    Ok((periods >= 10 && throttled * 2 >= periods && part >= 0.5).then_some(told))
}

/// It ran into its limit again and again.
fn thrashes(before: &Counters, now: &Counters) -> Result<Option<String>> {
    let hits = now.grown(before, "memory.events", "max")?;
    let refaults = now.grown(before, "memory.stat", "workingset_refault_file")?;
    let told = format!("at its limit {hits} times, {refaults} pages read in again");
    Ok((hits >= 20).then_some(told))
}

/// It wrote past the page cache.
fn floods(before: &Counters, now: &Counters) -> Result<Option<String>> {
    let moved = |at: &Counters| at.io("rbytes") + at.io("wbytes");
    let bytes = moved(now).saturating_sub(moved(before));
    Ok((bytes >= 8 << 20).then(|| format!("{} MiB read and written", bytes >> 20)))
}

/// Its forks were refused.
fn forks(before: &Counters, now: &Counters) -> Result<Option<String>> {
    let refused = now.grown(before, "pids.events", "max")?;
    Ok((refused >= 20).then(|| format!("{refused} forks refused")))
}

/// It had small writes synced one by one.
fn syncs(before: &Counters, now: &Counters) -> Result<Option<String>> {
    let writes = now.io("wios").saturating_sub(before.io("wios"));
    Ok((writes >= 50).then(|| format!("{writes} writes, each synced")))
}

/// What the store may suffer while it is attacked, as parts of the window's time.
struct Bounds {
    /// All its threads that wanted a processor waited for one. Its weight is three to one of all zones, and
    /// zones have one of two processors here: what is left are moments until it is scheduled.
    cpu: f64,
    /// Nothing of it may be reclaimed, so it never waits for memory.
    memory: f64,
    /// More of its time than in the quiet window before, it waited for the disk: reads are of what is in
    /// memory, and all it does with the disk is to keep a few records. More than in the quiet one, because the
    /// kernel counts every wait for a request in io_uring as one for a disk, a client's next one too: quiet
    /// windows of one boot were seen to differ by 0.17 themselves.
    io_more: f64,
}

const BOUNDS: Bounds = Bounds { cpu: 0.15, memory: 0.01, io_more: 0.30 };
/// Pages that the store may have read in again in a window: its own program's, never objects'.
const REFAULTS_MAX: u64 = 256;

/// What came of a window.
struct Window {
    p99: Duration,
    gets: usize,
    before: Counters,
    after: Counters,
}

/// Reads until the window is long enough. Each read must give the object.
fn window(a: &Appliance, client: &Client, object: &[u8]) -> Result<Window> {
    let deadline = Instant::now() + WINDOW_TIME;
    let before = Counters::of(&a.agent, STORE)?;
    let mut times = Vec::new();
    loop {
        for _ in 0..GETS_MIN / 4 {
            let began = Instant::now();
            let got = client.get(BUCKET, KEY).context("a read failed")?;
            times.push(began.elapsed());
            ensure!(got.as_deref() == Some(object), "a read gave something else");
        }
        if times.len() >= GETS_MIN && uptime(a)? - before.at >= WINDOW_S {
            break;
        }
        ensure!(Instant::now() < deadline, "{} reads in {WINDOW_TIME:?}", times.len());
    }
    let after = Counters::of(&a.agent, STORE)?;
    times.sort_unstable();
    let p99 = times[times.len() * 99 / 100];
    Ok(Window { p99, gets: times.len(), before, after })
}

impl Window {
    /// What the store waited for, in words.
    fn told(&self) -> Result<String> {
        let percent =
            |file| -> Result<f64> { Ok(100.0 * self.after.part(&self.before, file, "full")?) };
        Ok(format!(
            "{} GETs, p99 {:.1} ms; the store stood still {:.2} % for cpu, {:.2} % for memory, {:.2} % for io",
            self.gets,
            self.p99.as_secs_f64() * 1e3,
            percent("cpu.pressure")?,
            percent("memory.pressure")?,
            percent("io.pressure")?
        ))
    }

    /// Holds what the store suffered against its bounds, beside a quiet window.
    fn check(&self, quiet: &Self) -> Result<()> {
        let Bounds { cpu, memory, io_more } = BOUNDS;
        let io = quiet.after.part(&quiet.before, "io.pressure", "full")? + io_more;
        for (file, most) in
            [("cpu.pressure", cpu), ("memory.pressure", memory), ("io.pressure", io)]
        {
            let part = self.after.part(&self.before, file, "full")?;
            ensure!(
                part <= most,
                "{file}: the store stood still {part:.3} of the time, not {most:.3}"
            );
        }
        // It has no cap of processors and no end of memory: nothing may have been given to it.
        for (file, key) in [
            ("cpu.stat", "nr_throttled"),
            ("cpu.stat", "throttled_usec"),
            ("memory.events", "low"),
            ("memory.events", "high"),
            ("memory.events", "max"),
            ("memory.events", "oom"),
            ("memory.events", "oom_kill"),
        ] {
            // Without a cap there is no line of it.
            let grown = self.after.grown(&self.before, file, key).unwrap_or(0);
            ensure!(grown == 0, "{file}: {key} of the store grew by {grown}");
        }
        let refaults = self.after.grown(&self.before, "memory.stat", "workingset_refault_file")?;
        ensure!(refaults <= REFAULTS_MAX, "{refaults} pages of the store were read in again");
        Ok(())
    }
}

pub fn hostile(a: &Appliance) -> Result<()> {
    let object = content(77, OBJECT_BYTES);
    a.s3.create_bucket(BUCKET)?;
    a.s3.put(BUCKET, KEY, &object)?;
    let client = a.s3.apart();
    // The first reads make the connection and bring the object in.
    window(a, &client, &object)?;
    let mut ratios = Vec::new();
    let mut faults = Vec::new();
    for _ in 0..ROUNDS {
        for attack in &ATTACKS {
            let quiet = window(a, &client, &object).context("a quiet window")?;
            println!("  quiet: {}", quiet.told()?);
            let (hit, evidence) = attacked(a, &client, &object, attack).context(attack.name)?;
            let ratio = hit.p99.as_secs_f64() / quiet.p99.as_secs_f64();
            println!("  {}: {}; p99 {ratio:.2} times; {evidence}", attack.name, hit.told()?);
            // All windows are told before the first fault ends the story.
            faults
                .extend(hit.check(&quiet).err().map(|error| format!("{}: {error:#}", attack.name)));
            ratios.push(ratio);
        }
    }
    let last = window(a, &client, &object).context("the last quiet window")?;
    println!("  quiet: {}", last.told()?);
    ratios.sort_by(f64::total_cmp);
    let middle = (ratios[(ratios.len() - 1) / 2] + ratios[ratios.len() / 2]) / 2.0;
    println!(
        "  median of {} ratios attack/quiet of the p99 of a 4 KiB GET: {middle:.2}",
        ratios.len()
    );
    ensure!(faults.is_empty(), "{faults:#?}");
    Ok(())
}

/// One window under attack, and the words for what the attacker did in it.
fn attacked(
    a: &Appliance,
    client: &Client,
    object: &[u8],
    attack: &Attack,
) -> Result<(Window, String)> {
    let place = if attack.carve.contains(&"--disk") { "/out" } else { "/tmp" };
    let line = format!("exec stress-ng --temp-path {place} --oomable {}", attack.command);
    let output = ["--restart", "--output", "neighbour-out"];
    let zone =
        Zone::create(a, attack.name, &[attack.carve, &output].concat(), &["bash", "-c", &line])?;
    let begun = zone.counters()?;
    let began = wait_for("the attack to begin", ATTACK_TIME, || {
        (attack.evidence)(&begun, &zone.counters()?)
    });
    began.with_context(|| zone.act(&["logs"]).unwrap_or_default())?;
    let before = zone.counters()?;
    let window = window(a, client, object)?;
    let after = zone.counters()?;
    let evidence = (attack.evidence)(&before, &after)?;
    let evidence = evidence.with_context(|| format!("it did not attack: {before:?} {after:?}"))?;
    zone.act(&["stop", "-t", STOP_S])?;
    zone.delete()?;
    Ok((window, evidence))
}
