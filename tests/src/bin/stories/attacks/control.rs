//! Attacks on those who run the zones: their sockets, their lives, their books.

use super::booted::{BUCKET, Booted};
use super::held;
use crate::garbage;
use crate::jobs::{JOB_TIME, map, name};
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tests::agent::wait_for;

const TASKS: usize = 6;
/// How often zoned is killed, each time a little later in the life of its zones.
const KILLS: u64 = 4;
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
