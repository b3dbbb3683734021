//! What a zone writes through the page cache: on its account and at its rate, whoever has it written and however long
//! after. And what the filesystem notes of it, which is on nobody's account, but bounded.
//!
//! `fsync` and `sync` of a zone do nothing, so it is the kernel that writes, when a part of the zone's memory has to be
//! written or is old: what `dd` says of its speed is nothing to go by. Bytes are the kernel's count, time is the node's clock.

use super::{Zone, uptime};
use crate::standing::{run, state};
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tests::agent::wait_for;
use tests::appliance::Appliance;

const MIB: f64 = (1 << 20) as f64;
const KIB: f64 = 1024.0;
/// The rate, in bytes a second, where the disk gives many times as much.
const RATE: u64 = 4 << 20;
/// What may pass at once beside the rate: requests are of up to 2 MiB, a few begin before and end after a window.
const BURST: f64 = 8.0 * MIB;
/// Of its rate a zone gets so much at least: what is to be written comes in lots, with pauses between them.
const LESS: f64 = 0.6;
/// Of what zones write, this part, and so much more a second, may be on nobody: inodes, extents and the journal, at most.
const NOBODYS: f64 = 1.0 / 32.0;
const NOBODYS_A_SECOND: f64 = 64.0 * KIB;
/// A window by the node's clock, in seconds: several of those lots.
const WINDOW_S: f64 = 16.0;
/// Until a window is over, or has begun, on a crowded machine.
const WINDOW_TIME: Duration = Duration::from_secs(240);
/// Objects that are put meanwhile, each a file that is synced, and as many bytes as the zone would have written while
/// each of them waited for the zone's queue to the disk, or for half of it.
const PUTS: usize = 20;
const OBJECT_BYTES: usize = 64 << 10;
const WAITED: u64 = PUTS as u64 * (4 << 20);
const BUCKET: &str = "buffered";
const OUT: &str = "buffered-out";
/// New files without end, four at a time.
const FILES: &str = "i=0; while :; do i=$((i+1)); dd if=/dev/zero of=/out/f$i bs=1M count=16 2>/dev/null; \
    rm -f /out/f$((i-4)); done";
/// One file again and again.
const AGAIN: &str =
    "while :; do dd if=/dev/zero of=/out/f bs=1M count=16 conv=notrunc 2>/dev/null; done";
/// A file that grows by blocks, each on the disk with all that belongs to it before the next.
const BLOCKS: &str = "while :; do dd if=/dev/zero of=/out/s bs=4k count=1000 oflag=dsync,append conv=notrunc \
    2>/dev/null; : >/out/s; done";
/// Writes a second that such a zone may make, and what the journal may have to take for each.
const OPS: u64 = 20;
const JOURNAL: f64 = 64.0 * KIB;
/// The rate of a zone's second life, in bytes a second.
const LATER: u64 = 1 << 20;
/// Room for the fewest files that a zone may have.
const SMALL_DISK: &str = "8M";
const FILES_MIN: u64 = 1024;

/// Who has written how much.
struct Look {
    at: f64,
    disk: f64,
    zones: f64,
    zone: f64,
    writes: f64,
    /// By all cgroups together.
    booked: f64,
}

fn written(a: &Appliance, group: &str) -> Result<f64> {
    let text = a.agent.read(&format!("/sys/fs/cgroup/{group}/io.stat"))?;
    let counts = text.split_whitespace().filter_map(|pair| pair.strip_prefix("wbytes="));
    counts.map(|count| Ok(count.parse::<u64>()? as f64)).sum()
}

impl Look {
    fn of(a: &Appliance, zone: &Zone<'_>) -> Result<Self> {
        let at = uptime(a)?;
        let stat = a.agent.read("/sys/block/vda/stat")?;
        // Documentation/block/stat.rst: the seventh number is sectors of 512 bytes written.
        let sectors: u64 = stat.split_whitespace().nth(6).context("no sectors")?.parse()?;
        let groups = a.agent.list("/sys/fs/cgroup", false)?;
        let groups = groups.iter().filter_map(|name| name.strip_suffix('/'));
        let booked: Vec<f64> = groups.map(|name| written(a, name)).collect::<Result<_>>()?;
        let counters = zone.counters()?;
        Ok(Self {
            at,
            disk: (sectors * 512) as f64,
            zones: written(a, "zones")?,
            zone: counters.io("wbytes") as f64,
            writes: counters.io("wios") as f64,
            booked: booked.iter().sum(),
        })
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            at: self.at - before.at,
            disk: self.disk - before.disk,
            zones: self.zones - before.zones,
            zone: self.zone - before.zone,
            writes: self.writes - before.writes,
            booked: self.booked - before.booked,
        }
    }

    /// What is on nobody's account. The disk counts what it has finished, cgroups what is on its way to it.
    fn nobodys(&self) -> f64 {
        (self.disk - self.booked).max(0.0)
    }
}

/// What was written in a window.
fn window(a: &Appliance, zone: &Zone<'_>, what: &str) -> Result<Look> {
    let before = Look::of(a, zone)?;
    wait_for("the window to be over", WINDOW_TIME, || {
        Ok((uptime(a)? - before.at >= WINDOW_S).then_some(()))
    })?;
    let look = Look::of(a, zone)?.since(&before);
    println!(
        "  {what}: {:.2} MiB/s on the zone, in {:.1} writes/s; {:.2} on all zones, {:.3} on nobody ({:.1} KiB a write of the zone)",
        look.zone / look.at / MIB,
        look.writes / look.at,
        look.zones / look.at / MIB,
        look.nobodys() / look.at / MIB,
        look.nobodys() / look.writes.max(1.0) / KIB,
    );
    Ok(look)
}

/// Waits until a zone's cgroup, or all of them, has written so much more.
fn begun(a: &Appliance, bytes: f64) -> Result<()> {
    let before = written(a, "zones")?;
    wait_for("zones to write", WINDOW_TIME, || {
        Ok((written(a, "zones")? >= before + bytes).then_some(()))
    })
}

/// A zone with a disk and a rate of it.
fn make<'a>(a: &'a Appliance, name: &str, disk: &str) -> Result<Zone<'a>> {
    let rate = RATE.to_string();
    let output = ["--disk", disk, "--output", OUT, "--write-rate", &rate];
    let size = ["--memory", "64M", "--scratch", "16M"];
    Zone::create(a, name, &[&size[..], &output].concat(), &["sleep", "10000"])
}

/// Has it write from now on.
fn write(zone: &Zone<'_>, line: &str) -> Result<()> {
    let line = format!("echo $$ >/tmp/pid; {line}");
    let words = ["zone", "exec", "--detach", &zone.name, "--", "bash", "-c", &line];
    run(zone.a, &words).map(drop)
}

/// Ends it. What is in /out would become objects: it goes before.
fn end(zone: Zone<'_>) -> Result<()> {
    zone.exec("read -r pid </tmp/pid; kill -9 $pid; rm -f /out/*")?;
    zone.delete()
}

pub fn held(a: &Appliance) -> Result<()> {
    a.s3.create_bucket(BUCKET)?;
    let zone = make(a, "files", "256M")?;
    write(&zone, FILES)?;
    begun(a, 16.0 * MIB)?;
    let look = window(a, &zone, "new files, 4 MiB/s")?;
    let (least, most) = (LESS * RATE as f64 * look.at, RATE as f64 * look.at + BURST);
    ensure!((least..=most).contains(&look.zone), "{} is not {least} to {most}", look.zone);
    let most = look.zone * NOBODYS + look.at * NOBODYS_A_SECOND;
    ensure!(look.nobodys() <= most, "{} bytes are on nobody, not {most}", look.nobodys());
    others(a, &zone)?;
    end(zone)
}

/// Who has objects synced meanwhile does not wait for what the zone has to write.
fn others(a: &Appliance, zone: &Zone<'_>) -> Result<()> {
    let before = zone.counters()?;
    let content = vec![7; OBJECT_BYTES];
    for number in 0..PUTS {
        a.s3.put(BUCKET, &format!("object {number}"), &content)?;
    }
    let now = zone.counters()?;
    let meanwhile = now.io("wbytes") - before.io("wbytes");
    println!(
        "  {PUTS} PUTs in {:.1} s, the zone wrote {:.1} MiB meanwhile",
        now.at - before.at,
        meanwhile as f64 / MIB
    );
    ensure!(meanwhile <= WAITED, "the zone wrote {meanwhile} bytes while {PUTS} objects were put");
    Ok(())
}

/// What a zone had in the page cache when it was stopped stays with its first life: written again in the second it is
/// on the account, not on the zone, and at the rate that was.
pub fn lives(a: &Appliance) -> Result<()> {
    let zone = make(a, "lives", "256M")?;
    write(&zone, AGAIN)?;
    begun(a, 8.0 * MIB)?;
    zone.act(&["stop", "-t", "0"])?;
    zone.act(&["start"])?;
    wait_for("the zone to run", WINDOW_TIME, || {
        Ok((state(a, &zone.name)? == "running").then_some(()))
    })?;
    zone.act(&["update", "--write-rate", &LATER.to_string()])?;
    write(&zone, AGAIN)?;
    begun(a, 8.0 * MIB)?;
    let look = window(a, &zone, "its old file, in a second life with 1 MiB/s")?;
    let most = (RATE + LATER) as f64 * look.at + BURST;
    ensure!(look.zones <= most, "{} bytes on all zones, not {most}", look.zones);
    ensure!(look.zones > 0.0, "nothing was written");
    end(zone)?;
    // It was published when the zone was stopped, and the bucket made for it.
    let published = a.s3.get(OUT, "f")?.context("what a zone wrote is no object after its stop")?;
    ensure!(published.len() as f64 >= 8.0 * MIB, "{} bytes were published", published.len());
    a.s3.delete(OUT, "f")?;
    Ok(())
}

/// What the filesystem notes for a zone is bounded by what bounds the zone: writes a second that wait for the journal,
/// and files.
pub fn noted(a: &Appliance) -> Result<()> {
    let zone = make(a, "blocks", SMALL_DISK)?;
    let made = zone
        .exec("i=0; while : 2>/dev/null >/out/n$i; do i=$((i+1)); done; echo $i; rm -f /out/*")?;
    let files: u64 = made.trim().parse().with_context(|| format!("no number: {made:?}"))?;
    println!("  {files} files of nothing on a disk of {SMALL_DISK}");
    ensure!((FILES_MIN * 9 / 10..FILES_MIN).contains(&files), "{files} files");
    write(&zone, BLOCKS)?;
    begun(a, 64.0 * KIB)?;
    window(a, &zone, "blocks one by one")?;
    zone.act(&["update", "--write-ops", &OPS.to_string()])?;
    let look = window(a, &zone, "the same with 20 writes/s")?;
    let most = OPS as f64 * look.at + OPS as f64;
    ensure!(look.writes > 0.0 && look.writes <= most, "{} writes, not {most}", look.writes);
    let most = most * JOURNAL;
    ensure!(look.nobodys() <= most, "{} bytes are on nobody, not {most}", look.nobodys());
    end(zone)
}
