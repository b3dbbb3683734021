//! Attacks by what objects are called, and on objects that are in use.

use super::booted::{BUCKET, Booted};
use super::held;
use crate::jobs::{JOB_TIME, map, name};
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tests::agent::{SIGUSR1, wait_for};
use tests::s3::Ask;

/// Keys that are no ordinary paths. Those with `..` must not leave `/manta`.
const ODD: [&str; 12] = [
    "../../../../etc/passwd",
    "..",
    ".",
    "a/../../b",
    "a//b",
    "/leading",
    "trailing/",
    "caf\u{e9}",
    "cafe\u{301}",
    "tab\there",
    "quote'\"$(id)`id`",
    "back\\slash",
];

pub fn odd(b: &Booted) -> Result<()> {
    let a = &b.appliance;
    let long = "n".repeat(300);
    let mut inputs = Vec::new();
    for (number, key) in ODD.iter().copied().chain([long.as_str()]).enumerate() {
        let path = format!("/{BUCKET}/odd-{number}/{key}");
        let body = format!("{number}\n");
        let answer =
            a.s3.request(&Ask { body: Some(body.as_bytes()), ..Ask::new("PUT", &path) })?;
        if answer.status == 200 {
            inputs.push(name(BUCKET, &format!("odd-{number}/{key}")));
        } else {
            println!("  {key:?} is refused: {}", answer.status);
        }
    }
    ensure!(inputs.len() >= 8, "only {inputs:?} were taken");
    let line = "f=$MANTA_INPUT_FILE; [ \"$(realpath \"$f\")\" = \"$f\" ] && \
                case $f in /manta/*) printf 'shown '; cat \"$f\";; *) echo \"outside: $f\";; esac";
    let job = a.jobs.submit(&map(line), &inputs)?;
    let status = a.jobs.wait(job, JOB_TIME)?;
    let errors = a.jobs.errors(job)?;
    // A name that the Manta side can't spell is an error of that input, told by name.
    let told = errors.iter().all(|error| error.input.is_some() && error.code != "InternalError");
    let all = status.stats.outputs + status.stats.errors;
    ensure!(told && all == inputs.len() as u64, "{status:?}: {errors:#?}");
    let mut shown = 0;
    for output in a.jobs.outputs(job)? {
        let text = String::from_utf8_lossy(&a.jobs.object(&output)?).into_owned();
        ensure!(text.starts_with("shown "), "{text:?}");
        shown += 1;
    }
    ensure!(shown >= 6, "only {shown} were shown, {errors:#?}");
    let all = inputs.len();
    held(29, &format!("{shown} of {all} shown beneath /manta, {} refused by name", errors.len()));
    Ok(())
}

/// Maps all of its object, waits to be told, and says what the mapping holds then.
const HOLD: &str = r#"exec python3 -c '
import hashlib, mmap, os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
fd = os.open(os.environ["MANTA_INPUT_FILE"], os.O_RDONLY)
view = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
signal.sigtimedwait([signal.SIGUSR1], 120)
shown = [line.split()[-1] for line in open("/proc/self/maps") if " r--s " in line]
shown = [path for path in shown if not path.startswith("/usr/")]
own = "own" if shown == [os.environ["MANTA_INPUT_FILE"]] else shown
print(hashlib.sha256(view).hexdigest(), hashlib.sha256(os.pread(fd, 1 << 30, 0)).hexdigest(), own)
'"#;

pub fn deleted(b: &Booted) -> Result<()> {
    let a = &b.appliance;
    let (old, new) = (tests::load::content(67, 3 << 20), tests::load::content(68, 3 << 20));
    for key in ["deleted", "overwritten"] {
        a.s3.put(BUCKET, key, &old)?;
    }
    let inputs = [name(BUCKET, "deleted"), name(BUCKET, "overwritten")];
    let job = a.jobs.submit(&map(HOLD), &inputs)?;
    let python = |process: &tests::agent::Process| {
        process.cgroup.starts_with("/zones/") && process.name.starts_with("python3")
    };
    let holders = wait_for("two tasks to map", Duration::from_secs(60), || {
        let mut all = a.agent.processes()?;
        all.retain(python);
        let mapped = |pid: i32| -> Result<bool> {
            let maps = a.agent.mappings(pid)?;
            Ok(maps.iter().any(|m| m.pages == 768 && m.access == "r--s"))
        };
        let mut ready = 0;
        for process in &all {
            ready += usize::from(mapped(process.pid).unwrap_or(false));
        }
        Ok((ready == 2).then_some(all))
    })?;
    a.s3.delete(BUCKET, "deleted")?;
    a.s3.put(BUCKET, "overwritten", &new)?;
    // What can be forgotten is forgotten: the tasks must read the old bytes from the disk.
    let path = "/data/store/objects".to_owned();
    a.agent.ask(&tests::agent::Request::Forget { path })?;
    for process in holders {
        a.agent.signal(process.pid, SIGUSR1)?;
    }
    let status = a.jobs.wait(job, JOB_TIME)?;
    ensure!(status.stats.outputs == 2, "{status:?}: {:?}", a.jobs.errors(job)?);
    let expected = tests::sigv4::sha256(&old);
    for output in a.jobs.outputs(job)? {
        let text = String::from_utf8_lossy(&a.jobs.object(&output)?).into_owned();
        let digests: Vec<_> = text.split_whitespace().collect();
        // What it maps is called there as the zone knows it, and not as the store does.
        let right = [expected.as_str(), expected.as_str(), "own"];
        ensure!(digests == right, "{digests:?} is not twice {expected}");
    }
    ensure!(a.s3.get(BUCKET, "deleted")?.is_none(), "it is still there");
    let now = a.s3.get(BUCKET, "overwritten")?.context("it is gone")?;
    ensure!(now == new, "it is not the new one");
    held(67, "a deleted and an overwritten object kept their old bytes for who had mapped them");
    Ok(())
}
