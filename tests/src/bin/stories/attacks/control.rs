//! Attacks on those who run the zones: their sockets, their lives, their books.

use super::booted::{BUCKET, Booted};
use super::held;
use super::zones::{ZONE, delete, good, make};
use crate::garbage;
use crate::jobs::{JOB_TIME, map, name};
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tests::agent::{Process, wait_for};
use wire::frame::{self, Kind};
use wire::zone::{Outcome, Report};

const TASKS: usize = 6;
/// How often zoned is killed, each time a little later in the life of its zones.
const KILLS: u64 = 4;
/// Messages of one kind that a first process says in a row: more than its socket holds.
const WORDS: usize = 2_000;
/// zoned may keep some memory that it used once.
const GROWN_KIB_MAX: u64 = 8 * 1024;
const BACK_TIME: Duration = Duration::from_secs(60);
/// Zones that come and go.
const ZONES: usize = 100;

pub fn garbage(b: &Booted) -> Result<()> {
    garbage::everywhere(&b.appliance)?;
    let dead = b.run("probe 52 63; ls /run /var/run 2>/dev/null | grep -c sock", 128)?;
    ensure!(dead.error.is_some() || dead.stdout.trim().ends_with('0'), "{:?}", dead.stdout);
    held(64, "garbage on every socket was refused, and a zone sees none of them");
    Ok(())
}

/// The first process of a zone, by the last part of its cgroup's path.
fn first_process(b: &Booted, group: &str) -> Result<Option<i32>> {
    let all = b.appliance.agent.processes()?;
    let of_it = |p: &&Process| p.name == "zone-init" && p.cgroup.contains(group) && p.state != 'Z';
    Ok(all.iter().find(of_it).map(|process| process.pid))
}

/// What is said in one go, and what it is called.
type Speech = (&'static str, Vec<Vec<u8>>);

/// What a first process might say if it were a tenant's.
fn nonsense() -> Result<Vec<Speech>> {
    let mut rng = fastrand::Rng::with_seed(64);
    let mut noise = |bytes: usize| -> Vec<u8> { (0..bytes).map(|_| rng.u8(..)).collect() };
    let said = |report: &Report| frame::encode(Kind::Push, 0, report, 0);
    let standing = Report::Standing { restarts: 7, last_outcome: None, sessions: vec![1, 2, 3] };
    let over = Report::SessionOver { session: 99, outcome: Outcome::Exited { code: 0 } };
    let half = said(&standing)?[..20].to_vec();
    // Those that end a zone come last: it waits a little longer each time before it starts again.
    Ok(vec![
        ("sessions that never were", vec![said(&over)?; WORDS]),
        ("the same again and again", vec![said(&standing)?; WORDS]),
        ("another's words", vec![said(&Report::MoreInputs)?]),
        ("noise", vec![noise(60_000), noise(1), noise(24), half]),
    ])
}

/// First processes of zones say what makes no sense, as if a tenant had taken them over: it is the end of their
/// zone at most, and everybody else is served.
pub fn first_processes(b: &Booted) -> Result<()> {
    let a = &b.appliance;
    make(b, &[])?;
    let zoned = a.agent.daemon("zoned")?.pid;
    let resident = || resident_kib(b, zoned);
    let before = resident()?;
    let group = format!("/s-{ZONE}");
    for (what, messages) in nonsense()? {
        let runs = || {
            let text = good(a, &["zone", "get", ZONE])?;
            Ok(if text.contains("running") { first_process(b, &group)? } else { None })
        };
        let pid = wait_for("the zone to run again", BACK_TIME, runs)?;
        let sent = a.agent.speak(pid, &messages)?;
        ensure!(sent > 0, "{what}: nothing was taken");
        // Whatever became of it, it can be asked, and so can all others.
        good(a, &["zone", "get", ZONE])?;
        b.appliance.s3.get(BUCKET, "object")?.context("the store has lost an object")?;
        let why = good(a, &["zone", "why", ZONE])?;
        println!("  {what}, {sent} messages: {}", why.lines().next().unwrap_or("it runs on"));
    }
    wait_for("somebody to say what was wrong", BACK_TIME, || {
        Ok(good(a, &["zone", "why", ZONE])?.contains("nonsense").then_some(()))
    })?;
    delete(a, ZONE)?;
    // A task's: the attempt is lost, and its task runs again elsewhere.
    let job = a.jobs.submit(&map("sleep 3; cat"), &inputs(b, "nonsense", 1)?)?;
    let pid = wait_for("the task to run", BACK_TIME, || {
        let all = a.agent.processes()?;
        let sleeps = all.iter().find(|p| p.name == "sleep" && p.cgroup.contains("/z-"));
        sleeps.map_or(Ok(None), |task| first_process(b, &task.cgroup))
    })?;
    a.agent.speak(pid, &[b"no message".to_vec()])?;
    let status = a.jobs.wait(job, JOB_TIME)?;
    ensure!(status.stats.outputs == 1, "{status:?}: {:?}", a.jobs.errors(job)?);
    let grown = resident()?.saturating_sub(before);
    ensure!(grown < GROWN_KIB_MAX, "zoned has grown by {grown} KiB");
    held(64, "and first processes of zones, standing and task, hurt themselves alone");
    Ok(())
}

pub fn resident_kib(b: &Booted, pid: i32) -> Result<u64> {
    let text = b.appliance.agent.read(&format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

pub fn inputs(b: &Booted, prefix: &str, count: usize) -> Result<Vec<String>> {
    let keys = (0..count).map(|number| format!("{prefix}/{number}"));
    keys.map(|key| {
        b.appliance.s3.put(BUCKET, &key, b"x\n")?;
        Ok(name(BUCKET, &key))
    })
    .collect()
}

/// Kills a daemon while zones are made, run and cleared; the job is done all the same.
fn killed(b: &Booted, daemon: &str) -> Result<()> {
    let a = &b.appliance;
    let inputs = inputs(b, daemon, TASKS)?;
    for round in 0..KILLS {
        let job = a.jobs.submit(&map("sleep 1; cat"), &inputs)?;
        std::thread::sleep(Duration::from_millis(150 + 350 * round));
        a.agent.kill_daemon(daemon, BACK_TIME)?;
        let status = a.jobs.wait(job, JOB_TIME)?;
        let errors = a.jobs.errors(job)?;
        ensure!(
            errors.is_empty() && status.stats.outputs == TASKS as u64,
            "{status:?}: {errors:#?}"
        );
        wait_for("zones to be gone", BACK_TIME, || {
            let left = a.agent.processes()?;
            Ok((!left.iter().any(|p| p.cgroup.starts_with("/zones/"))).then_some(()))
        })
        .with_context(|| format!("round {round}: processes are left in zones"))?;
    }
    b.accept_daemons()
}

pub fn zoned_killed(b: &Booted) -> Result<()> {
    killed(b, "zoned")?;
    held(65, &format!("{KILLS} kills, each job done, no orphan"));
    Ok(())
}

pub fn storaged_killed(b: &Booted) -> Result<()> {
    killed(b, "storaged")?;
    held(66, &format!("{KILLS} kills, each job done"));
    Ok(())
}

pub fn leaks(b: &Booted) -> Result<()> {
    let a = &b.appliance;
    let inputs = inputs(b, "leaks", ZONES)?;
    let job = a.jobs.submit(&map("true"), &inputs)?;
    let status = a.jobs.wait(job, JOB_TIME)?;
    ensure!(status.stats.outputs == ZONES as u64, "{status:?}: {:?}", a.jobs.errors(job)?);
    b.healthy()?;
    held(70, &format!("{ZONES} zones came and went"));
    Ok(())
}
