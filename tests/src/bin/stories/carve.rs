//! Stories of the carve: limits that the kernel has, scans that pay for themselves, usage that adds up.

use crate::jobs::{JOB_TIME, map, name, phase};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};
use tests::agent::{Agent, Request, wait_for};
use tests::appliance::{AUDITOR, Appliance, LOGIN, auditor_keys};
use tests::load::content;
use tests::manta::Jobs;
use tests::s3::Client;
use tests::usage::{COLUMNS, Sums, command, parse, sums};
use wire::job::{JobSpec, PhaseKind};

const MIB: u64 = 1 << 20;
const TREE: &str = "/sys/fs/cgroup";
/// How long a record may take to be in an object: a minute, and what emulation takes.
const OBJECT_TIME: Duration = Duration::from_secs(150);

/// The cgroup of the zone in which a command runs that starts like this.
fn zone_of(agent: &Agent, command: &str) -> Result<String> {
    wait_for("the task's zone", Duration::from_secs(60), || {
        let processes = agent.processes()?;
        let mut found = processes.into_iter().filter(|p| p.cgroup.starts_with("/zones/"));
        Ok(found.find(|p| p.command.starts_with(command)).map(|p| p.cgroup))
    })
}

fn file(agent: &Agent, cgroup: &str, file: &str) -> Result<String> {
    Ok(agent.read(&format!("{TREE}{cgroup}/{file}"))?.trim().to_owned())
}

fn number(agent: &Agent, cgroup: &str, name: &str) -> Result<u64> {
    let text = file(agent, cgroup, name)?;
    text.parse().with_context(|| format!("{cgroup}/{name} is {text:?}"))
}

fn one_object(a: &Appliance, bucket: &str) -> Result<String> {
    a.s3.create_bucket(bucket)?;
    a.s3.put(bucket, "object", b"one line\n")?;
    Ok(name(bucket, "object"))
}

pub fn limits(a: &Appliance) -> Result<()> {
    let input = one_object(a, "limits")?;
    let mut spec = map("sleep 15; cat");
    spec.phases[0].memory = Some(128);
    let job = a.jobs.submit(&spec, &[input])?;
    let zone = zone_of(&a.agent, "sleep 15")?;
    let (account, _) = zone.rsplit_once('/').context("a zone has an account")?;
    println!("  {zone}");
    let of_zone = |name: &str| file(&a.agent, &zone, name);
    ensure!(number(&a.agent, &zone, "memory.max")? == 128 * MIB, "memory.max");
    // Nothing slows it before its end.
    ensure!(of_zone("memory.high")? == "max", "memory.high");
    ensure!(of_zone("memory.oom.group")? == "1", "memory.oom.group");
    ensure!(number(&a.agent, &zone, "pids.max")? == 512, "pids.max");
    // Files that are there show that the controllers are.
    for name in ["cpu.weight", "cpu.max", "cpuset.cpus", "io.weight", "io.max", "memory.low"] {
        println!("  {name}: {:?}", of_zone(name)?);
    }
    let shared = file(&a.agent, "", "io.cost.qos")?;
    println!("  io.cost.qos: {shared:?}");
    ensure!(shared.contains("enable=1"), "the disk is not shared out by weight");
    let all = number(&a.agent, "/zones", "memory.max")?;
    let most = number(&a.agent, account, "memory.max")?;
    println!("  all zones have {} MiB, an account {} MiB", all / MIB, most / MIB);
    ensure!(most < all && most > 128 * MIB, "an account may have {most} of {all}");
    ensure!(number(&a.agent, account, "pids.max")? == 32_768 / 2, "an account's pids.max");
    let status = a.jobs.wait(job, JOB_TIME)?;
    ensure!(status.stats.errors == 0, "{:?}", a.jobs.errors(job)?);
    Ok(())
}

/// More than the part of the cache that one object may have, on a node with 2 GiB: 62 MiB.
const SCAN_BYTES: u64 = 80 * MIB;
/// What of it may be the store's: what is read ahead of a large object, twice.
const STORE_BYTES_MAX: u64 = 16 * MIB;

pub fn scan(a: &Appliance) -> Result<()> {
    a.s3.create_bucket("scan")?;
    a.s3.put("scan", "object", &content(3, usize::try_from(SCAN_BYTES)?))?;
    a.agent.ask(&Request::Forget { path: "/data/store/objects".to_owned() })?;
    let before = a.agent.number(&format!("{TREE}/store/memory.stat"), "file")?;
    let mut spec = map("cat >/dev/null; sleep 25; echo read");
    spec.phases[0].memory = Some(128);
    let job = a.jobs.submit(&spec, &[name("scan", "object")])?;
    let zone = zone_of(&a.agent, "sleep 25")?;
    let charged = a.agent.number(&format!("{TREE}{zone}/memory.stat"), "file")?;
    let after = a.agent.number(&format!("{TREE}/store/memory.stat"), "file")?;
    let grown = after.saturating_sub(before);
    println!("  {} MiB are charged to the zone, {} MiB to the store", charged / MIB, grown / MIB);
    ensure!(charged >= SCAN_BYTES - STORE_BYTES_MAX, "the zone pays for {charged} bytes");
    ensure!(grown <= STORE_BYTES_MAX, "the store pays for {grown} bytes");
    let status = a.jobs.wait(job, JOB_TIME)?;
    ensure!(status.stats.outputs == 1, "{:?}", a.jobs.errors(job)?);
    Ok(())
}

/// All records of usage that are in objects now, and the names of those objects.
fn records(auditor: &Client) -> Result<(Vec<String>, String)> {
    let mut lines = String::new();
    let keys = auditor.keys("mobula-usage")?;
    for key in &keys {
        let bytes = auditor.get("mobula-usage", key)?.context("an hour's object is gone")?;
        lines += &String::from_utf8(bytes).context("records are text")?;
    }
    let names = keys.iter().map(|key| format!("/{AUDITOR}/stor/mobula-usage/{key}"));
    Ok((names.collect(), lines))
}

fn column(sums: &Sums, login: &str, column: &str) -> u128 {
    let at = COLUMNS.iter().position(|known| *known == column).expect("a column of the report");
    sums.get(login).map_or(0, |row| row[at])
}

pub fn usage(a: &Appliance) -> Result<()> {
    let client = |port| Client::new(&format!("127.0.0.1:{port}"), auditor_keys());
    let auditor = client(a.ports[0]);
    let (_, earlier) = records(&auditor)?;
    a.s3.create_bucket("metered")?;
    let bodies: Vec<Vec<u8>> = (0..5).map(|at| content(at, 100_000 + 1000 * at as usize)).collect();
    for (at, body) in bodies.iter().enumerate() {
        a.s3.put("metered", &format!("part {at}"), body)?;
    }
    let inputs: Vec<String> = (0..5).map(|at| name("metered", &format!("part {at}"))).collect();
    let mut spec = map("i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; wc -c");
    spec.phases[0].memory = Some(128);
    let began = Instant::now();
    let job = a.jobs.submit(&spec, &inputs)?;
    let status = a.jobs.wait(job, JOB_TIME)?;
    let took_ms = began.elapsed().as_millis();
    ensure!(status.stats.errors == 0 && status.stats.tasks == 5, "{:?}", a.jobs.errors(job)?);
    let ours = format!("\"job\":\"{job}\"");
    let (names, lines) = wait_for("the job's records in an object", OBJECT_TIME, || {
        let (names, lines) = records(&auditor)?;
        let done = |line: &&str| line.contains(&ours) && line.contains("\"event\":\"done\"");
        Ok((lines.lines().filter(done).count() == 5).then_some((names, lines)))
    })?;
    // What the records say of this job is what it did.
    let of_job: String =
        lines.lines().filter(|line| line.contains(&ours)).map(|line| format!("{line}\n")).collect();
    let did = sums(&of_job);
    println!("  of the job: {:?}", did.get(LOGIN));
    ensure!(column(&did, LOGIN, "tasks") == 5, "tasks");
    let bytes: usize = bodies.iter().map(Vec::len).sum();
    ensure!(column(&did, LOGIN, "object_bytes") == bytes as u128, "object_bytes of {bytes}");
    let (wall, cpu) = (column(&did, LOGIN, "wall_us"), column(&did, LOGIN, "cpu_us"));
    ensure!(cpu > 0 && cpu <= 4 * wall && wall <= 5 * 1000 * took_ms, "{cpu} µs in {wall} µs");
    let held = column(&did, LOGIN, "memory_mib_ms");
    ensure!(held.abs_diff(128 * wall / 1000) <= 128 * 5, "{held} MiB ms in {wall} µs");
    ensure!(lines.lines().count() > earlier.lines().count(), "nothing was added to the records");
    // And the report, a job over all of them, says what all of them say.
    let phases = vec![
        phase(PhaseKind::Map, &command("map")?),
        phase(PhaseKind::Reduce, &command("reduce")?),
    ];
    let jobs = Jobs::new(client(a.ports[1]), AUDITOR);
    let report = jobs.submit(&JobSpec { name: "usage".into(), phases }, &names)?;
    let status = jobs.wait(report, JOB_TIME)?;
    ensure!(status.stats.errors == 0, "{:?}", jobs.errors(report)?);
    let outputs = jobs.outputs(report)?;
    let [output] = &outputs[..] else { anyhow::bail!("outputs: {outputs:?}") };
    let text = String::from_utf8(jobs.object(output)?).context("a report is text")?;
    println!("{}", text.trim_end().lines().map(|line| format!("  {line}\n")).collect::<String>());
    let reported = parse(&text)?;
    // The objects may have gained records while the job was made: no column is less, and tasks that were
    // over are in both.
    let expected = sums(&lines);
    for (login, row) in &expected {
        let got = reported.get(login).with_context(|| format!("{login} is not in the report"))?;
        ensure!(got.iter().zip(row).all(|(got, row)| got >= row), "{login}: {got:?} for {row:?}");
    }
    let again = sums(&records(&auditor)?.1);
    for (login, row) in &reported {
        let most = again.get(login).with_context(|| format!("{login} has no records"))?;
        ensure!(most.iter().zip(row).all(|(most, row)| most >= row), "{login}: {row:?}");
    }
    Ok(())
}
