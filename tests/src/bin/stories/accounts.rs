//! Stories of accounts: what the zones of one may use together, in the kernel's own numbers; the numbers of the
//! node for who scrapes them.

use crate::standing::{json, run, run_with};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tests::agent::wait_for;
use tests::appliance::{AUDITOR, Appliance, LOGIN, TOKEN};

const TREE: &str = "/sys/fs/cgroup/zones";
const MIB: u64 = 1 << 20;
/// What both zones may use together, and what each may by itself: more.
const MEMORY_MIB: u64 = 96;
const QUOTA_US: u64 = 50_000;
const ZONE_MEMORY: &str = "128M";
/// What each of them tries to hold, in its memory.
const FILL: &str = "head -c 83886080 /dev/zero >/tmp/fill";
const TWO: [&str; 2] = ["both-one", "both-two"];
const NEIGHBOUR: &str = "bystander";
/// Periods in which the account has to be held back before its use is judged.
const PERIODS: u64 = 30;
/// How long something may take under emulation.
const TIME: Duration = Duration::from_secs(180);
/// What is set for the second boot to find.
const KEPT: &str = "77";

fn account(a: &Appliance, login: &str) -> Result<Value> {
    json(a, &["account", "get", login])?.pop().context("no account")
}

/// The account's cgroup.
fn cgroup(a: &Appliance, login: &str) -> Result<String> {
    let id = account(a, login)?["summary"]["id"].as_u64().context("no number")?;
    Ok(format!("{TREE}/t-{id}"))
}

fn create(a: &Appliance, login: &str, name: &str, command: &str) -> Result<()> {
    let words =
        ["--account", login, "zone", "create", "--memory", ZONE_MEMORY, "--scratch", "100M"];
    let words: Vec<&str> =
        words.iter().chain(&[name, "--", "bash", "-c", command]).copied().collect();
    run(a, &words).map(drop)
}

fn number(a: &Appliance, file: &str) -> Result<u64> {
    let text = a.agent.read(file)?;
    text.trim().parse().with_context(|| format!("{file} is {text:?}"))
}

/// Two zones of one account, each of which may use more than is left for both, and one of another account.
pub fn capped(a: &Appliance) -> Result<()> {
    let before = account(a, LOGIN)?["summary"]["zones"].as_u64().context("no count")?;
    let (zones, memory) = ((before + 2).to_string(), format!("{MEMORY_MIB}M"));
    let words =
        ["account", "limits", LOGIN, "--cpu", "0.5", "--memory", &memory, "--zones", &zones];
    println!("{}", indented(&run(a, &words)?));
    let told = told(a);
    // Whatever came of it, the stories behind this one need the account as it was.
    for zone in TWO.iter().chain(&[NEIGHBOUR]) {
        drop(run_with(a, &["zone", "delete", zone], b"")?);
    }
    run(a, &["account", "limits", LOGIN, "--reset"])?;
    told?;
    let limits = account(a, LOGIN)?;
    ensure!(limits["set"]["cpu_milli"].is_null(), "{limits}");
    // For the second boot.
    run(a, &["account", "limits", AUDITOR, "--zones", KEPT]).map(drop)
}

fn told(a: &Appliance) -> Result<()> {
    let spin = "while :; do :; done";
    for zone in TWO {
        create(a, LOGIN, zone, spin)?;
    }
    create(a, AUDITOR, NEIGHBOUR, &format!("echo mine >/tmp/mine; {spin}"))?;
    let third = run_with(a, &["zone", "create", "one-too-many"], b"")?;
    println!("  {}", third.err.trim());
    ensure!(third.status == 1 && third.err.contains("AccountFull"), "{}", third.err);
    let (ours, theirs) = (cgroup(a, LOGIN)?, cgroup(a, AUDITOR)?);
    processors(a, &ours, &theirs)?;
    limits_outlive_zoned(a, &ours)?;
    memory(a, &ours, &theirs)
}

/// Both together have half a processor, by the periods that the kernel counts.
fn processors(a: &Appliance, ours: &str, theirs: &str) -> Result<()> {
    ensure!(a.agent.read(&format!("{ours}/cpu.max"))?.trim() == "50000 100000", "cpu.max");
    let stat = |name: &str| a.agent.number(&format!("{ours}/cpu.stat"), name);
    let (periods, held, used) = (stat("nr_periods")?, stat("nr_throttled")?, stat("usage_usec")?);
    wait_for("the account to be held back", TIME, || {
        Ok((stat("nr_throttled")? >= held + PERIODS).then_some(()))
    })?;
    // Read in this order, or what is used meanwhile would be in no period.
    let used = stat("usage_usec")? - used;
    let periods = stat("nr_periods")? - periods;
    let most = (periods + 1) * QUOTA_US;
    println!("  {used} µs in {periods} periods of {QUOTA_US} µs");
    // A slice that has begun is not taken back (sched_cfs_bandwidth_slice_us): a tenth at most.
    ensure!(used <= most + most / 10, "both used {used} µs of {most} µs");
    let each = |zone: &str| a.agent.number(&format!("{ours}/s-{zone}/cpu.stat"), "usage_usec");
    ensure!(each(TWO[0])? > 0 && each(TWO[1])? > 0, "one of them had nothing");
    let neighbour = |name: &str| a.agent.number(&format!("{theirs}/cpu.stat"), name);
    ensure!(neighbour("nr_throttled")? == 0, "the neighbour was held back");
    ensure!(neighbour("usage_usec")? > 0, "the neighbour did not run");
    let why = run(a, &["zone", "why", TWO[0]])?;
    ensure!(why.contains(&format!("cpu.max of account {LOGIN}")), "{why}");
    Ok(())
}

fn limits_outlive_zoned(a: &Appliance, ours: &str) -> Result<()> {
    a.agent.kill_daemon("zoned", TIME)?;
    let set = wait_for("the limits after zoned was killed", TIME, || {
        let ended = run_with(a, &["--json", "account", "get", LOGIN], b"")?;
        Ok((ended.status == 0).then_some(ended.out))
    })?;
    let set: Value = serde_json::from_str(set.trim()).context("no JSON")?;
    ensure!(set["set"]["cpu_milli"] == 500 && set["set"]["memory_mib"] == MEMORY_MIB, "{set}");
    ensure!(a.agent.read(&format!("{ours}/cpu.max"))?.trim() == "50000 100000", "cpu.max");
    Ok(())
}

/// Both together have less memory than either may have: one of them ends, whole, and nobody else.
fn memory(a: &Appliance, ours: &str, theirs: &str) -> Result<()> {
    let most = MEMORY_MIB * MIB;
    ensure!(number(a, &format!("{ours}/memory.max"))? == most, "memory.max");
    for zone in TWO {
        // It may be killed while it does so.
        let ended = run_with(a, &["zone", "exec", zone, "bash", "-c", FILL], b"")?;
        println!("  {zone} was filled: {}", ended.status);
    }
    let events = |name: &str| a.agent.number(&format!("{ours}/memory.events"), name);
    wait_for("the account to run out of memory", TIME, || {
        Ok((events("oom_kill")? > 0).then_some(()))
    })?;
    let peak = number(a, &format!("{ours}/memory.peak"))?;
    println!("  at most {peak} of {most} bytes, {} killed", events("oom_kill")?);
    // What the kernel needs at once it takes (a page table): never much.
    ensure!(peak <= most + MIB, "both had {peak} bytes");
    let theirs = format!("{theirs}/memory.events");
    for name in ["max", "oom", "oom_kill"] {
        ensure!(a.agent.number(&theirs, name)? == 0, "the neighbour met {name}");
    }
    let mine = run(a, &["zone", "exec", NEIGHBOUR, "cat", "/tmp/mine"])?;
    ensure!(mine == "mine\n", "the neighbour has {mine:?}");
    Ok(())
}

/// The node's numbers, as Prometheus gets them.
pub struct Metrics(String);

impl Metrics {
    pub fn of(a: &Appliance) -> Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", a.ports[2]))?;
        stream.set_read_timeout(Some(TIME))?;
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        ensure!(text.starts_with("HTTP/1.1 200"), "{}", text.lines().next().unwrap_or_default());
        Ok(Self(text))
    }

    /// The number behind a name and its labels.
    pub fn value(&self, series: &str) -> Result<f64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(&format!("{series} ")));
        Ok(line.with_context(|| format!("no {series}"))?.parse()?)
    }
}

/// Everything that the node tells, as one text.
pub fn scraped(a: &Appliance) -> Result<()> {
    let metrics = Metrics::of(a)?;
    for daemon in ["init", "storaged", "zoned"] {
        let up = metrics.value(&format!("mobula_up{{daemon=\"{daemon}\"}}"))?;
        ensure!(up == 1.0, "{daemon} told nothing");
    }
    let cpu = metrics.value(&format!("mobula_account_cpu_seconds_total{{account=\"{LOGIN}\"}}"))?;
    let objects = metrics.value("mobula_store_objects")?;
    println!("  {} lines; {cpu} s of the account, {objects} objects", metrics.0.lines().count());
    ensure!(cpu > 0.0, "the account used nothing");
    let ready = metrics.value("mobula_service_ready{service=\"zoned\"}")?;
    ensure!(ready == 1.0, "zoned is not ready");
    Ok(())
}

/// What was set before the node was switched off is in force.
pub fn came_back(a: &Appliance) -> Result<()> {
    let now = account(a, AUDITOR)?;
    ensure!(now["set"]["zones"] == 77 && now["summary"]["effective"]["zones"] == 77, "{now}");
    Ok(())
}

fn indented(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
