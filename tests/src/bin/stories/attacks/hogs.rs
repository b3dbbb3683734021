//! Attacks on what the node has once: memory, processors, the disk. Their zones may die of it; nobody else.

use super::booted::{BUCKET, Booted};
use super::felt::Felt;
use super::zones::{ZONE, delete, make, within};
use super::{held, judged};
use crate::jobs::{JOB_TIME, name};
use anyhow::{Context, Result, ensure};
use probe::Line;
use probe::expected::Place;
use std::time::{Duration, Instant};
use tests::appliance::Appliance;

const ZONE_MIB: u64 = 128;
/// A GET of 4 KiB may take this long while others hog all they can, on an emulated machine with two
/// processors; how much longer than in quiet is measured by the benchmarks.
const GET_TIME_MAX: Duration = Duration::from_secs(5);
const GETS: usize = 40;

/// Hogs of memory in its several shapes: each is the end of its zone, told as such.
pub fn die_alone(b: &Booted) -> Result<()> {
    for (number, what) in [
        (3, "anonymous memory"),
        (8, "System V segments"),
        (10, "page tables"),
        (19, "socket buffers"),
    ] {
        let ran = b.run(&format!("probe hog {number}"), ZONE_MIB)?;
        let began = Line::all(&ran.stderr).iter().any(|line| line.number == number);
        ensure!(began, "case {number} never began: {:?} {}", ran.error, ran.stderr);
        let error = ran.error.with_context(|| format!("{what}: it survived"))?;
        let memory = error.code == "UserTaskError" && error.message.contains("memory");
        ensure!(memory, "{what}: {error:?}");
        b.healthy().with_context(|| format!("after {what}"))?;
        held(number, &format!("{what}: {}", error.message));
    }
    Ok(())
}

/// The longest of some small reads.
fn slowest_get(a: &Appliance) -> Result<Duration> {
    let mut slowest = Duration::ZERO;
    for _ in 0..GETS {
        let began = Instant::now();
        a.s3.get(BUCKET, "small")?.context("the object is gone")?;
        slowest = slowest.max(began.elapsed());
    }
    Ok(slowest)
}

/// Hogs of processors and of the disk: the store serves all the while, and its own counters say that it was not
/// held up.
pub fn not_felt(b: &Booted) -> Result<()> {
    let a = &b.appliance;
    a.s3.put(BUCKET, "small", &[7; 4096])?;
    let quiet = slowest_get(a)?;
    for (number, line) in [
        (13, "probe hog 13"),
        (14, "probe hog 14"),
        (17, "for _ in 1 2 3 4 5 6 7 8; do probe 17; done"),
        (18, "probe hog 18"),
    ] {
        let spec = b.job(line, ZONE_MIB)?;
        let inputs = vec![name(BUCKET, "object"), name(BUCKET, "small")];
        let before = Felt::now(a)?;
        let job = a.jobs.submit(&spec, &inputs)?;
        let slowest = slowest_get(a)?;
        let status = a.jobs.wait(job, JOB_TIME)?;
        let felt = before.since(a).with_context(|| format!("case {number}"))?;
        ensure!(status.stats.outputs == 2, "{status:?}: {:?}", a.jobs.errors(job)?);
        ensure!(slowest < GET_TIME_MAX, "case {number}: a GET took {slowest:?}");
        for output in a.jobs.outputs(job)? {
            a.s3.request(&tests::s3::Ask::new("GET", "/"))?.expect(200)?;
            let text = a.jobs.object(&output)?;
            let first = String::from_utf8_lossy(&text[..text.len().min(400)]).into_owned();
            ensure!(Line::all(&first).iter().any(|line| line.number == number), "{first}");
            // Past the page cache it wrote: blocks of its own stand behind what it said.
            let direct = number != 13 || (text.len() > 64 << 10 && text.ends_with(b"dddd"));
            ensure!(direct, "the hammer did not hammer: {} bytes", text.len());
        }
        b.healthy().with_context(|| format!("after case {number}"))?;
        held(number, &format!("slowest of {GETS} GETs {slowest:?}, {quiet:?} before; {felt}"));
    }
    from_a_standing_zone(b)
}

/// The same from a standing zone, whose /out is on the data disk.
fn from_a_standing_zone(b: &Booted) -> Result<()> {
    let a = &b.appliance;
    make(b, &["--output", &format!("{BUCKET}/hammered")])?;
    for number in [13, 14] {
        let before = Felt::now(a)?;
        let ran = std::thread::scope(|scope| -> Result<(i32, String)> {
            let hog = scope.spawn(|| {
                within(a, ZONE, &format!("/tmp/probe hog {number}; rm -f /out/hammered"))
            });
            let slowest = slowest_get(a)?;
            ensure!(slowest < GET_TIME_MAX, "case {number}: a GET took {slowest:?}");
            hog.join().map_err(|_| anyhow::anyhow!("the hog panicked"))?
        })?;
        let felt = before.since(a).with_context(|| format!("case {number}, standing"))?;
        ensure!(ran.0 == 0 && ran.1.contains("began=yes"), "{ran:?}");
        let hammered = number != 13 || ran.1.contains("direct writes");
        ensure!(hammered && !ran.1.contains(" 0 direct writes"), "{ran:?}");
        held(number, &format!("from a standing zone: {felt}"));
    }
    delete(a, ZONE)
}

/// More output than its quota is refused, whichever way it is asked for, and told if it was all taken.
pub fn output(b: &Booted) -> Result<()> {
    judged(&b.output("probe 12", ZONE_MIB)?, &[12], Place::Task)?;
    let ran = b.run("probe hog 12", ZONE_MIB)?;
    let error = ran.error.context("a task with all of its disk taken has succeeded")?;
    ensure!(error.message.contains("disk space"), "{error:?}");
    held(12, &error.message);
    Ok(())
}
