//! A node whose disk is slow and kept busy by a zone: new work waits, everybody can see why, and nothing fails.
//!
//! Under emulation processors are short long before the disk is, so the machine's disk is made slow from outside (QEMU's
//! throttle); who keeps it busy then is a zone, and what the gate goes by is the kernel's own account of that.

use super::Zone;
use crate::accounts::Metrics;
use crate::jobs::{JOB_TIME, map, name};
use crate::standing::{json, run, state};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;
use tests::agent::wait_for;
use tests::appliance::Appliance;
use wire::job::JobId;

const BUCKET: &str = "pressure";
/// What the machine's disk does in a second while it is slow: a hundredth of what it does otherwise, and enough for
/// everything that has to be on it to get there.
const SLOW_IOPS: u64 = 150;
/// The zone's: writers that wait for every block, each with a file of its own that is gone when they are.
const FLOOD: &str = "for i in 1 2 3 4; do (exec 3>/out/$i; rm /out/$i; while :; do \
    dd if=/dev/zero of=/proc/self/fd/3 bs=4k count=512 oflag=direct,dsync conv=notrunc 2>/dev/null; \
    done) & done; wait";
/// Per cent of 10 s in which zones stand still: past the mark from which zoned holds work back, and not just so.
const SHORT: f64 = 65.0;
/// 1 while new work waits.
const HELD: &str = "mobula_work_held";
/// Until pressure has risen, been noticed, or fallen: the kernel's averages are over 10 s of its clock.
const PRESSURE_TIME: Duration = Duration::from_secs(300);
/// Tasks, and zones, that come while the node is short: one in ten seconds is let in all the same, so many that
/// some wait for minutes.
const TASKS: usize = 12;
const LATE: [&str; 3] = ["late-a", "late-b", "late-c"];

/// The machine's disk, slow until this is dropped.
struct Slow<'a>(&'a Appliance);

impl<'a> Slow<'a> {
    fn make(a: &'a Appliance) -> Result<Self> {
        a.machine.limit_disk(SLOW_IOPS)?;
        Ok(Self(a))
    }
}

impl Drop for Slow<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.machine.limit_disk(0) {
            println!("  the disk stays slow: {error}");
        }
    }
}

/// An average over 10 s, in per cent, from a `*.pressure` file.
fn average(a: &Appliance, file: &str, kind: &str) -> Result<f64> {
    let text = a.agent.read(&format!("/sys/fs/cgroup/{file}"))?;
    let line = text.lines().find(|line| line.starts_with(kind));
    let value = line.and_then(|line| line.split("avg10=").nth(1)?.split(' ').next()?.parse().ok());
    value.with_context(|| format!("no {kind} in {file}: {text:?}"))
}

/// The node's last event of this kind: its number, and its words.
fn told(a: &Appliance, kind: &str) -> Result<Option<(u64, String)>> {
    let of_kind = |event: &Value| {
        let what = &event["what"];
        (what["event"] == kind).then(|| {
            let why = what["why"].as_str().unwrap_or_default().to_owned();
            (event["number"].as_u64().unwrap_or_default(), why)
        })
    };
    Ok(json(a, &["zone", "events"])?.iter().filter_map(of_kind).next_back())
}

/// Waits for an event of this kind after that number.
fn hear(a: &Appliance, kind: &str, after: u64) -> Result<(u64, String)> {
    wait_for(&format!("the event {kind}"), PRESSURE_TIME, || {
        Ok(told(a, kind)?.filter(|(number, _)| *number > after))
    })
}

pub fn waits(a: &Appliance) -> Result<()> {
    a.s3.create_bucket(BUCKET)?;
    for at in 0..TASKS {
        a.s3.put(BUCKET, &format!("input {at}"), b"one line\n")?;
    }
    let size = ["--memory", "64M", "--scratch", "16M", "--disk", "64M", "--output", "pressure-out"];
    let busy = Zone::create(a, "busy", &size, &["bash", "-c", FLOOD])?;
    let slow = Slow::make(a)?;
    let (job, late, number) = held(a)?;
    busy.act(&["stop", "-t", "0"])?;
    drop(slow);
    hear(a, "released", number).context("after the flood")?;
    ensure!(Metrics::of(a)?.value(HELD)? == 0.0, "{HELD} after it was released");
    let status = a.jobs.wait(job, JOB_TIME)?;
    let fine = status.stats.errors == 0 && status.stats.outputs == TASKS as u64;
    ensure!(fine, "{status:?}: {:?}", a.jobs.errors(job)?);
    for zone in late {
        wait_for("a zone that waited to run", PRESSURE_TIME, || {
            Ok((state(a, &zone.name)? == "running").then_some(()))
        })?;
        zone.delete()?;
    }
    println!("  all {TASKS} tasks and {} zones that waited have run", LATE.len());
    busy.delete()
}

/// Brings new work to a node that is short of its disk: the job, the zones, and the number of the event which tells
/// that they wait.
fn held(a: &Appliance) -> Result<(JobId, Vec<Zone<'_>>, u64)> {
    let before = told(a, "held")?.map_or(0, |(number, _)| number);
    wait_for("pressure on the disk", PRESSURE_TIME, || {
        let zones = average(a, "zones/io.pressure", "full")?;
        Ok((zones >= SHORT).then(|| println!("  zones stand still {zones:.0} % of 10 s")))
    })?;
    let inputs: Vec<_> = (0..TASKS).map(|at| name(BUCKET, &format!("input {at}"))).collect();
    let job = a.jobs.submit(&map("cat"), &inputs)?;
    let (number, why) = hear(a, "held", before)?;
    println!("  held: {why}");
    ensure!(why.contains("disk"), "it waits for something else: {why}");
    let mut late = Vec::new();
    for name in LATE {
        run(a, &["zone", "create", "--no-wait", "--memory", "32M", "--scratch", "8M", name])?;
        late.push(Zone { a, name: name.to_owned() });
    }
    told_everywhere(a, job, &late)?;
    let status = a.jobs.status(job)?;
    let (over, errors) = (status.stats.tasks_done, status.stats.errors);
    ensure!(errors == 0, "{:?}", a.jobs.errors(job)?);
    ensure!(over < TASKS as u64, "all tasks were run while work was held");
    println!("  {over} of {TASKS} tasks are over meanwhile, none has failed");
    // Who writes has his answer, if later than else.
    a.s3.put(BUCKET, "meanwhile", b"acknowledged")?;
    Ok((job, late, number))
}

/// Whoever asks is told that work waits, and for what: for a zone, the node, a job, and in numbers.
fn told_everywhere(a: &Appliance, job: JobId, late: &[Zone<'_>]) -> Result<()> {
    // One in ten seconds is let in: of three that wait one or two go on waiting meanwhile.
    wait_for("a zone that says that it waits for the node", PRESSURE_TIME, || {
        for zone in late {
            let (state, why) = (state(a, &zone.name)?, zone.act(&["why"])?);
            let first = why.lines().next().unwrap_or_default();
            if state == "ready" && first.contains("it waits for the node") && first.contains("disk")
            {
                println!("  {}: {first}", zone.name);
                return Ok(Some(()));
            }
        }
        Ok(None)
    })?;
    let job = job.to_string();
    for (words, start) in [
        (&["node", "status"][..], "zones    new work waits: "),
        (&["job", "get", &job], "waits    for the node: "),
    ] {
        let text = run(a, words)?;
        let line = text.lines().find(|line| line.starts_with(start) && line.contains("disk"));
        println!("  {}", line.with_context(|| format!("{words:?} does not say so:\n{text}"))?);
    }
    ensure!(Metrics::of(a)?.value(HELD)? == 1.0, "{HELD} while work is held");
    Ok(())
}
