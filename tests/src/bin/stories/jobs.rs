//! Stories of jobs that go well.

use crate::daily::mobula;
use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;
use tests::appliance::{Appliance, LOGIN};
use wire::job::{JobSpec, Phase, PhaseKind};

/// How long a job of the stories may take under emulation.
pub const JOB_TIME: Duration = Duration::from_secs(180);
const OBJECTS: usize = 24;
const MAP: &str = "grep ^Maintainer:";
const REDUCE: &str = "sort | uniq -c | sort -rn | head -20";

/// A phase that runs `exec`.
pub fn phase(kind: PhaseKind, exec: &str) -> Phase {
    Phase {
        kind,
        exec: exec.to_owned(),
        init: None,
        assets: Vec::new(),
        count: None,
        memory: None,
        disk: None,
        image: None,
    }
}

/// A job of one map phase.
pub fn map(exec: &str) -> JobSpec {
    JobSpec { name: String::new(), phases: vec![phase(PhaseKind::Map, exec)] }
}

/// The Manta name of an object.
pub fn name(bucket: &str, key: &str) -> String {
    format!("/{LOGIN}/stor/{bucket}/{key}")
}

/// Lines like those of a package index, the same for the same seed.
fn stanzas(seed: usize) -> String {
    let mut rng = fastrand::Rng::with_seed(seed as u64);
    let stanza = |number: usize, who: u32| {
        format!("Package: p{number}\nMaintainer: Person {who} <{who}@example.org>\nSize: {who}\n\n")
    };
    (0..300).map(|number| stanza(number, rng.u32(..60) * rng.u32(..60) / 40)).collect()
}

fn texts() -> Vec<String> {
    (0..OBJECTS).map(stanzas).collect()
}

/// What the same pipeline gives on this machine.
fn on_the_host(texts: &[String]) -> Result<Vec<u8>> {
    let mut child = Command::new("bash")
        .args(["-c", &format!("{MAP} | {REDUCE}")])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("running bash")?;
    child.stdin.take().context("a pipe was asked for")?.write_all(texts.concat().as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success() && !output.stdout.is_empty(), "the pipeline failed here");
    Ok(output.stdout)
}

fn in_the_appliance(a: &Appliance, bucket: &str) -> Result<Vec<u8>> {
    let lc = |exec: &str| format!("export LC_ALL=C; {exec}");
    let phases = vec![phase(PhaseKind::Map, &lc(MAP)), phase(PhaseKind::Reduce, &lc(REDUCE))];
    let spec = JobSpec { name: "maintainers".into(), phases };
    let inputs: Vec<_> = (0..OBJECTS).map(|n| name(bucket, &format!("part {n}"))).collect();
    let job = a.jobs.submit(&spec, &inputs)?;
    let status = a.jobs.wait(job, JOB_TIME)?;
    let errors = a.jobs.errors(job)?;
    ensure!(status.stats.errors == 0 && errors.is_empty(), "{errors:#?}");
    ensure!(status.stats.tasks == OBJECTS as u64 + 1, "{:?}", status.stats);
    let outputs = a.jobs.outputs(job)?;
    let [output] = &outputs[..] else { anyhow::bail!("outputs: {outputs:?}") };
    a.jobs.object(output)
}

fn put_all(a: &Appliance, bucket: &str) -> Result<()> {
    a.s3.create_bucket(bucket)?;
    for (number, text) in texts().iter().enumerate() {
        a.s3.put(bucket, &format!("part {number}"), text.as_bytes())?;
    }
    Ok(())
}

pub fn map_reduce(a: &Appliance) -> Result<()> {
    put_all(a, "packages")?;
    let (there, here) = (in_the_appliance(a, "packages")?, on_the_host(&texts())?);
    ensure!(there == here, "not the same:\n{}", String::from_utf8_lossy(&there));
    Ok(())
}

pub fn altered_object(a: &Appliance) -> Result<()> {
    put_all(a, "altered")?;
    let text = texts()[7].replacen("Maintainer: Person 0", "Maintainer: Nobody", 1);
    ensure!(text != texts()[7], "nothing was altered");
    a.s3.put("altered", "part 7", text.as_bytes())?;
    let (there, here) = (in_the_appliance(a, "altered")?, on_the_host(&texts())?);
    ensure!(there != here, "the alteration was not noticed");
    Ok(())
}

pub fn by_command(a: &Appliance) -> Result<()> {
    a.s3.create_bucket("words")?;
    for (key, text) in [("one", "a b c\n"), ("two", "d e\n")] {
        a.s3.put("words", key, text.as_bytes())?;
    }
    let listed = mobula(a, &["ls", "words"])?;
    ensure!(listed.contains("one") && listed.contains("two"), "mobula ls: {listed}");
    let reduce = "awk '{n += $1} END {print n}'";
    let result = mobula(a, &["job", "run", "--map", "wc -w", "--reduce", reduce, "words/"])?;
    ensure!(result.lines().any(|line| line.trim() == "5"), "mobula job run: {result:?}");
    let status = mobula(a, &["node", "status"])?;
    ensure!(status.contains("storaged") && status.contains("zoned"), "node status: {status}");
    Ok(())
}
