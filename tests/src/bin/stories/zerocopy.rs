//! Zero copy is proven: a task's mapping of its object has the very page frames that the store's own process
//! has mapped, and they are charged to the store.

use crate::jobs::{JOB_TIME, map, name};
use anyhow::{Context, Result, ensure};
use std::collections::HashSet;
use std::time::Duration;
use tests::agent::{Agent, Mapping, Process, Request, SIGUSR1, wait_for};
use tests::appliance::Appliance;
use tests::load::content;

/// Pages that must be shared.
const PAGES: u64 = 6_000;
const PAGES_MIN: usize = 1_000;
const PAGE_BYTES: u64 = 4_096;
/// Of the pages of its program that a task has mapped, this part at least is charged to the prefetcher, who read
/// the image ahead: some may have been pushed out since and read again.
const SHARED_PART: (usize, usize) = (3, 4);
/// A zone may have this much of files charged to it: what it was the first to read of its image beyond its
/// programs, but not its object as well.
const ZONE_FILE_BYTES_MAX: u64 = 20 << 20;
const _: () = assert!(ZONE_FILE_BYTES_MAX < PAGES * PAGE_BYTES);

/// Maps the object, touches every page, and sleeps until it gets SIGUSR1, or two minutes.
const TASK: &str = r#"exec python3 -c '
import mmap, os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
fd = os.open(os.environ["MANTA_INPUT_FILE"], os.O_RDONLY)
size = os.fstat(fd).st_size
view = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ)
print(sum(view[at] for at in range(0, size, 4096)), flush=True)
print("woken", signal.sigtimedwait([signal.SIGUSR1], 120) is not None, flush=True)
'"#;

/// The mapping of the whole object, if the process has it by now.
fn object(agent: &Agent, pid: i32) -> Result<Option<Mapping>> {
    let mappings = agent.mappings(pid)?;
    Ok(mappings.into_iter().find(|m| m.pages == PAGES && m.access == "r--s"))
}

pub fn same_frames(a: &Appliance) -> Result<()> {
    a.s3.create_bucket("frames")?;
    let body = content(77, usize::try_from(PAGES * PAGE_BYTES)?);
    a.s3.put("frames", "original", &body)?;
    a.s3.put("frames", "copy", &body)?;
    // Written a moment ago, they would be in memory by storaged's doing; now they must be read.
    a.agent.ask(&Request::Forget { path: "/data/store/objects".to_owned() })?;
    let inputs = [name("frames", "original"), name("frames", "copy")];
    let job = a.jobs.submit(&map(TASK), &inputs)?;
    let result = look(&a.agent);
    for task in tasks(&a.agent)? {
        a.agent.signal(task.pid, SIGUSR1)?;
    }
    let status = a.jobs.wait(job, JOB_TIME)?;
    result?;
    ensure!(status.stats.outputs == 2, "{status:?}: {:?}", a.jobs.errors(job)?);
    let sum: u64 = body.iter().step_by(4_096).map(|byte| u64::from(*byte)).sum();
    for output in a.jobs.outputs(job)? {
        let text = String::from_utf8_lossy(&a.jobs.object(&output)?).into_owned();
        ensure!(text == format!("{sum}\nwoken True\n"), "the task read something else: {text:?}");
    }
    Ok(())
}

/// The processes in zones that have mapped their object.
fn tasks(agent: &Agent) -> Result<Vec<Process>> {
    let mut processes = agent.processes()?;
    processes.retain(|p| p.cgroup.starts_with("/zones/") && p.command.starts_with("python3"));
    Ok(processes)
}

fn look(agent: &Agent) -> Result<()> {
    // All pages of both are touched once the task has said so; the mapping alone may be fresh.
    let seen = wait_for("two tasks with their objects mapped", Duration::from_secs(90), || {
        let mut seen = Vec::new();
        for task in tasks(agent)? {
            // A process that has gone since is looked for again.
            let Ok(Some(mapping)) = object(agent, task.pid) else { continue };
            let frames = agent.frames(task.pid, &mapping)?;
            if frames.iter().all(|frame| *frame != 0) {
                seen.push((task, mapping, frames));
            }
        }
        Ok((seen.len() == 2).then_some(seen))
    })?;
    let [(one, one_mapping, one_frames), (other, other_mapping, other_frames)] = &seen[..] else {
        anyhow::bail!("two tasks were found");
    };
    ensure!(one_mapping.file != other_mapping.file, "both tasks map the same file");
    let shared: HashSet<_> = one_frames.iter().collect();
    let common = other_frames.iter().filter(|frame| shared.contains(frame)).count();
    ensure!(common == 0, "{common} frames belong to both of two copies");
    for (task, mapping, frames) in
        [(one, one_mapping, one_frames), (other, other_mapping, other_frames)]
    {
        let (holder, held) = store(agent, mapping)?;
        let same = frames.iter().zip(&held).filter(|(task, store)| task == store && **task != 0);
        let same = same.count();
        println!("  {same} of {PAGES} frames are the same in the task and in {holder}");
        ensure!(same >= PAGES_MIN, "only {same} frames are shared with {holder}");
        let owners = agent.owners(frames)?;
        println!("  they are charged to {owners:?}");
        let mut elsewhere = owners.keys().filter(|owner| !owner.starts_with("/store/"));
        ensure!(elsewhere.next().is_none(), "pages are charged to {owners:?}");
        program(agent, task)?;
        let zone = format!("/sys/fs/cgroup{}/memory.stat", task.cgroup);
        let charged = agent.number(&zone, "file")?;
        println!("  {} KiB of files are charged to the zone", charged / 1024);
        ensure!(charged <= ZONE_FILE_BYTES_MAX, "{charged} bytes are charged to {}", task.cgroup);
    }
    let charged = agent.number("/sys/fs/cgroup/store/memory.stat", "file")?;
    ensure!(charged >= 2 * PAGES * PAGE_BYTES, "only {charged} bytes are charged to /store");
    Ok(())
}

/// The pages of the task's program are charged to whoever read the image ahead.
fn program(agent: &Agent, task: &Process) -> Result<()> {
    let mappings = agent.mappings(task.pid)?;
    let code = mappings.iter().find(|m| m.path.contains("python3") && m.access == "r-xp");
    let frames = agent.frames(task.pid, code.context("no mapping of the program's code")?)?;
    let frames: Vec<u64> = frames.into_iter().filter(|frame| *frame != 0).collect();
    let owners = agent.owners(&frames)?;
    println!("  {} pages of its program are charged to {owners:?}", frames.len());
    let shared = owners.get("/store/prefetcher").copied().unwrap_or(0);
    let (part, of) = SHARED_PART;
    let least = u64::try_from(frames.len() * part / of)?;
    ensure!(!frames.is_empty() && shared >= least, "{shared} are the prefetcher's");
    Ok(())
}

/// Who of the store maps the same file, and in which frames.
fn store(agent: &Agent, mapping: &Mapping) -> Result<(String, Vec<u64>)> {
    for name in ["prefetcher", "storaged"] {
        let daemon = agent.daemon(name)?;
        let mappings = agent.mappings(daemon.pid)?;
        let same = mappings.iter().find(|m| m.file == mapping.file && m.pages == mapping.pages);
        if let Some(same) = same {
            return Ok((name.to_owned(), agent.frames(daemon.pid, same)?));
        }
    }
    None.context("neither the prefetcher nor storaged maps the task's object")
}
