//! Stories of daemons that die and of a disk that is full.

use crate::jobs::{JOB_TIME, map, name};
use anyhow::{Result, ensure};
use std::sync::Arc;
use std::time::Duration;
use tests::appliance::Appliance;
use tests::load::{Load, Position, content};
use tests::s3::Ask;

/// How long a daemon may take to come back: its back-off, and its recovery under emulation.
const BACK_TIME: Duration = Duration::from_secs(60);
const LOAD_TIME: Duration = Duration::from_secs(120);
const TASKS: usize = 6;
/// What the fault leaves free of the disk: less than what the store keeps for deletes.
const LEAVE_BYTES: u64 = 20 << 20;

/// Kills a daemon in the middle of a load and of a job: both go on, and nothing is lost.
pub fn kill(a: &Appliance, daemon: &str) -> Result<()> {
    let bucket = format!("killed-{daemon}");
    a.s3.create_bucket(&bucket)?;
    let mut inputs = Vec::new();
    for number in 0..TASKS {
        a.s3.put(&bucket, &format!("input/{number}"), format!("{number}\n").as_bytes())?;
        inputs.push(name(&bucket, &format!("input/{number}")));
    }
    let loaded = format!("{bucket}-load");
    a.s3.create_bucket(&loaded)?;
    let nowhere: Position = Arc::new(|| 0);
    let load = Load::start(&a.s3, &loaded, 4, 3, &nowhere);
    let job = a.jobs.submit(&map("sleep 2; cat"), &inputs)?;
    load.wait(20, LOAD_TIME)?;
    a.agent.kill_daemon(daemon, BACK_TIME)?;
    load.wait(20, LOAD_TIME)?;
    let history = load.finish()?;

    let (wrong, _) = history.check(&a.s3.apart(), &loaded, 0)?;
    ensure!(wrong.is_empty(), "{wrong:#?}");
    let status = a.jobs.wait(job, JOB_TIME)?;
    let errors = a.jobs.errors(job)?;
    ensure!(errors.is_empty() && status.stats.outputs == TASKS as u64, "{status:?}: {errors:#?}");
    let mut results = Vec::new();
    for output in a.jobs.outputs(job)? {
        results.push(String::from_utf8_lossy(&a.jobs.object(&output)?).trim().to_owned());
    }
    results.sort();
    let expected: Vec<_> = (0..TASKS).map(|number| number.to_string()).collect();
    ensure!(results == expected, "the job's outputs hold {results:?}");
    Ok(())
}

/// Fills the disk behind the store's back.
pub fn full_disk(a: &Appliance) -> Result<()> {
    a.s3.create_bucket("full")?;
    let (small, large) = (content(1, 1_000), content(2, 1 << 20));
    a.s3.put("full", "before", &large)?;
    let ballast = "/data/node/ballast".to_owned();
    a.agent.ask(&tests::agent::Request::Fill { path: ballast.clone(), leave: LEAVE_BYTES })?;
    let refused = |key: &str, body: &[u8]| -> Result<()> {
        let path = format!("/full/{key}");
        let answer = a.s3.request(&Ask { body: Some(body), ..Ask::new("PUT", &path) })?;
        ensure!([503, 507].contains(&answer.status), "{}: {}", answer.status, answer.text());
        ensure!(a.s3.get("full", key)?.is_none(), "{key} is half there");
        Ok(())
    };
    let result = refused("small", &small)
        .and_then(|()| refused("large", &large))
        .and_then(|()| a.s3.put("full", "before", b"").map(drop).or(Ok(())))
        .and_then(|()| a.s3.get("full", "before"));
    // Deleting needs room, too, and has it.
    let deleted = a.s3.delete("full", "before");
    a.agent.ask(&tests::agent::Request::Remove { path: ballast })?;
    let kept = result?;
    ensure!(kept.is_some_and(|bytes| bytes == large || bytes.is_empty()), "an object was lost");
    deleted?;
    ensure!(a.s3.get("full", "before")?.is_none(), "what was deleted is there");
    // The store looks again at its own pace.
    tests::agent::wait_for("writes to be taken again", Duration::from_secs(30), || {
        Ok(a.s3.put("full", "after", &small).ok())
    })?;
    Ok(())
}
