//! The power is cut while zones run, and an object is damaged on the disk before the machine boots again.

use super::booted::{BUCKET, Booted};
use super::control::inputs;
use super::{held, shown};
use crate::jobs::{JOB_TIME, map, name};
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tests::agent::wait_for;
use tests::appliance::{Appliance, Artefacts, Shape};

/// Of the data disk's ext4.
pub const BLOCK_BYTES: u64 = 4096;
/// The block of the object that is damaged: neither its first nor its last.
pub const DAMAGED: u64 = 300;
pub const VICTIM_BYTES: usize = 3 << 20;
const TASKS: usize = 4;

/// Reads every page of the object by a mapping.
const TOUCH: &str = r#"exec python3 -c '
import mmap, os
view = mmap.mmap(os.open(os.environ["MANTA_INPUT_FILE"], os.O_RDONLY), 0, mmap.MAP_SHARED, mmap.PROT_READ)
print(sum(view[at] for at in range(0, len(view), 4096)))
'"#;

pub fn cut(artefacts: &Artefacts, mut b: Booted) -> Result<()> {
    let victim = b.put_in_file("victim", &tests::load::content(68, VICTIM_BYTES))?;
    let shown = shown::put(&b)?;
    let inputs = inputs(&b, "cut", TASKS)?;
    let job = b.appliance.jobs.submit(&map("sleep 4; cat"), &inputs)?;
    wait_for("zones to run", Duration::from_secs(30), || {
        let all = b.appliance.agent.processes()?;
        Ok(all.iter().any(|p| p.cgroup.starts_with("/zones/") && p.name == "sleep").then_some(()))
    })?;
    b.appliance.machine.kill()?;
    replay(&b.disk)?;
    damage(&b.disk, &victim)?;
    shown::damage(&b.disk, &shown)?;

    let (a, ready) = Appliance::boot(artefacts, "attacks again", &Shape::usual(&b.disk))?;
    println!("  {ready}");
    let status = a.jobs.wait(job, JOB_TIME)?;
    let errors = a.jobs.errors(job)?;
    ensure!(errors.is_empty() && status.stats.outputs == TASKS as u64, "{status:?}: {errors:#?}");
    no_half_zone(&a)?;
    held(69, &format!("a job of {TASKS} tasks that were cut off was done after the boot"));
    damaged(&a)?;
    shown::refused(&a)?;
    a.power_off()
}

/// Where the blocks of files are may be in the journal only, as yet.
fn replay(disk: &Path) -> Result<()> {
    let replay = Command::new("e2fsck").args(["-y", "-E", "journal_only"]).arg(disk).output()?;
    ensure!(replay.status.code().is_some_and(|code| code < 4), "e2fsck: {replay:?}");
    Ok(())
}

/// Overwrites a block of a file behind the filesystem's back.
pub fn damage(disk: &Path, file: &str) -> Result<()> {
    let path = file.strip_prefix("/data").context("a file of the data disk")?;
    let question = format!("bmap {path} {DAMAGED}");
    let found = Command::new("debugfs").args(["-R", &question]).arg(disk).output()?;
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    let block: u64 = text.trim().parse().with_context(|| format!("debugfs: {found:?}"))?;
    ensure!(block > 0, "{path} has no block {DAMAGED}");
    let disk = File::options().read(true).write(true).open(disk)?;
    let mut bytes = [0; BLOCK_BYTES as usize];
    disk.read_exact_at(&mut bytes, block * BLOCK_BYTES)?;
    bytes[17] ^= 1;
    disk.write_all_at(&bytes, block * BLOCK_BYTES)?;
    disk.sync_all()?;
    Ok(())
}

fn no_half_zone(a: &Appliance) -> Result<()> {
    let processes = a.agent.processes()?;
    let left: Vec<_> = processes.iter().filter(|p| p.cgroup.starts_with("/zones/")).collect();
    // An instance that waits for its job's next task holds zone-init alone.
    ensure!(left.iter().all(|process| process.name == "zone-init"), "{left:#?}");
    Ok(())
}

/// One bit of an object is wrong: who maps it gets SIGBUS, and its owner is told what it was.
fn damaged(a: &Appliance) -> Result<()> {
    let job = a.jobs.submit(&map(TOUCH), &[name(BUCKET, "victim")])?;
    a.jobs.wait(job, JOB_TIME)?;
    let error =
        a.jobs.errors(job)?.pop().context("a damaged object was mapped without an error")?;
    let told = error.code == "InternalError" && error.message.contains("damaged");
    ensure!(told, "{error:?}");
    ensure!(a.jobs.outputs(job)?.is_empty(), "a failed task has an output");
    // Others are as they were.
    let job = a.jobs.submit(&map("wc -c"), &[name(BUCKET, "object")])?;
    ensure!(a.jobs.wait(job, JOB_TIME)?.stats.outputs == 1, "{:?}", a.jobs.errors(job)?);
    held(68, &error.message);
    Ok(())
}
