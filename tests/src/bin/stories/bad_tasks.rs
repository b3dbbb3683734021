//! Stories of tasks that go wrong: their owner is told why, and nobody else notices.

use crate::jobs::{JOB_TIME, map, name, phase};
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tests::agent::wait_for;
use tests::appliance::Appliance;
use tests::manta::JobError;
use tests::s3::Ask;
use wire::job::{JobSpec, PhaseKind};

/// Until what a job leaves is gone: a zone that waits in vain, one that is taken apart, on a busy machine.
const ZONES_GONE: Duration = Duration::from_secs(30);

fn one_object(a: &Appliance) -> Result<String> {
    if a.s3.request(&Ask::new("HEAD", "/one"))?.status == 404 {
        a.s3.create_bucket("one")?;
    }
    a.s3.put("one", "object", b"one line\n")?;
    Ok(name("one", "object"))
}

/// Runs a job that must fail in its one task, and gives the error.
fn error(a: &Appliance, spec: &JobSpec, input: String) -> Result<JobError> {
    let job = a.jobs.submit(spec, &[input])?;
    let status = a.jobs.wait(job, JOB_TIME)?;
    let mut errors = a.jobs.errors(job)?;
    ensure!(status.stats.errors == 1 && errors.len() == 1, "{:?}: {errors:#?}", status.stats);
    ensure!(a.jobs.outputs(job)?.is_empty(), "a failed task has an output");
    errors.pop().context("one was counted")
}

pub fn missing_object(a: &Appliance) -> Result<()> {
    let missing = name("kept", "no such object");
    let error = error(a, &map("cat"), missing.clone())?;
    ensure!(error.code == "ResourceNotFoundError", "{error:?}");
    ensure!(error.message.contains("no such object"), "{error:?}");
    Ok(())
}

pub fn failing_commands(a: &Appliance) -> Result<()> {
    let input = one_object(a)?;
    let found = error(a, &map("no-such-command"), input.clone())?;
    ensure!(found.code == "UserTaskError" && found.message.contains("127"), "{found:?}");
    let stderr = found.stderr.context("what it wrote to stderr is not kept")?;
    let text = String::from_utf8_lossy(&a.jobs.object(&stderr)?).into_owned();
    ensure!(text.contains("no-such-command"), "stderr: {text:?}");

    let found = error(a, &map("cat; echo to the point >&2; exit 3"), input.clone())?;
    ensure!(found.code == "UserTaskError" && found.message.contains('3'), "{found:?}");
    let stderr = found.stderr.context("what it wrote to stderr is not kept")?;
    ensure!(a.jobs.object(&stderr)? == b"to the point\n", "another stderr");

    let found = error(a, &map("kill -SEGV $$"), input)?;
    ensure!(found.code == "UserTaskError", "{found:?}");
    Ok(())
}

pub fn memory_hog(a: &Appliance) -> Result<()> {
    let input = one_object(a)?;
    // The neighbour runs all the while, in a zone of its own.
    let neighbour = a.jobs.submit(&map("sleep 15; cat"), std::slice::from_ref(&input))?;
    let mut hog = map("python3 -c 'x = bytearray(700 << 20); x[::4096] = b\"x\" * (700 << 8)'");
    hog.phases[0].memory = Some(128);
    let before = daemons(a)?;
    let found = error(a, &hog, input)?;
    ensure!(found.code == "UserTaskError" && found.message.contains("memory"), "{found:?}");
    let status = a.jobs.wait(neighbour, JOB_TIME)?;
    ensure!(status.stats.errors == 0 && status.stats.outputs == 1, "the neighbour: {status:?}");
    same_daemons(a, &before)
}

pub fn fork_bomb(a: &Appliance) -> Result<()> {
    let input = one_object(a)?;
    let before = daemons(a)?;
    let job = a.jobs.submit(&map("b() { b | b & b; }; b"), std::slice::from_ref(&input))?;
    let other = JobSpec { name: String::new(), phases: vec![phase(PhaseKind::Map, "wc -l")] };
    // While it explodes, others are served.
    std::thread::sleep(Duration::from_secs(3));
    let other = a.jobs.submit(&other, &[input])?;
    let status = a.jobs.wait(other, JOB_TIME)?;
    ensure!(status.stats.outputs == 1, "the neighbour: {status:?}");
    ensure!(a.s3.get("one", "object")?.is_some(), "the store does not answer");
    // bash gives up at some time; if not, the owner does.
    if a.jobs.status(job)?.state != "done" {
        let path = format!("/{job}/live/cancel");
        let answer = a.jobs.request("POST", &path, Some(("application/json", b"{}")))?;
        ensure!(answer.status == 202 || a.jobs.status(job)?.state == "done", "{}", answer.text());
    }
    a.jobs.wait(job, JOB_TIME)?;
    same_daemons(a, &before)?;
    // A zone waits for another task of its job for a moment, then goes.
    wait_for("zones without a process", ZONES_GONE, || {
        let left = a.agent.processes()?;
        Ok((!left.iter().any(|p| p.cgroup.starts_with("/zones/"))).then_some(()))
    })?;
    Ok(())
}

/// The daemons and their processes.
pub fn daemons(a: &Appliance) -> Result<Vec<(String, i32)>> {
    let mut found = Vec::new();
    for name in ["storaged", "prefetcher", "zoned", "consoled", "noded"] {
        found.push((name.to_owned(), a.agent.daemon(name)?.pid));
    }
    Ok(found)
}

/// Checks that none has been restarted.
pub fn same_daemons(a: &Appliance, before: &[(String, i32)]) -> Result<()> {
    let now = daemons(a)?;
    ensure!(now == before, "daemons were restarted: {before:?} are now {now:?}");
    Ok(())
}
