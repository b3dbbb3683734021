//! The story of density: a thousand idle zones on a node with 1 GiB, made, listed and deleted in rounds, and
//! nothing left of them.
//!
//! It is told when `DENSITY_ROUNDS` says how many rounds (`make density`: 5). What is there after the first one is
//! what later ones are held to: it has what the node keeps for the next zones, and what the kernel made once.

mod node;

use crate::standing;
use crate::teller::Teller;
use anyhow::{Context, Result, ensure};
use node::{Node, ZONES};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tests::agent::wait_for;
use tests::appliance::{Appliance, Artefacts, LOGIN, Shape, TOKEN};
use ureq::http::Request;
use wire::admin::{Zones, path, zone_path};
use wire::standing::{ZoneName, ZoneState};

const STORY: &str = "a node with 1 GiB holds a thousand idle zones, and nothing is left of them";
const MEMORY_MIB: u32 = 1024;
/// What must be there after the first is there after the second.
const ROUNDS_MIN: usize = 2;
/// Network namespaces that are made for what one costs.
const NETWORKS: usize = 200;
/// Requests at once: while zoned is at one, the others are on their way.
const AT_ONCE: usize = 8;
/// How long an answer may take, on a machine that emulates two processors.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// How long a thousand zones may take to be there, or gone.
const ROUND_TIME: Duration = Duration::from_secs(600);

/// Tells it.
pub fn tell(teller: &mut Teller, artefacts: &Artefacts) {
    let Ok(rounds_wanted) = std::env::var("DENSITY_ROUNDS") else { return };
    teller.tell(STORY, || {
        let count = parse(&rounds_wanted)?;
        let disk = artefacts.directory.join("density.disk");
        if disk.exists() {
            std::fs::remove_file(&disk)?;
        }
        let shape = Shape { memory_mib: Some(MEMORY_MIB), ..Shape::usual(&disk) };
        let (appliance, ready) = Appliance::boot(artefacts, "density", &shape)?;
        println!("  {ready}");
        if let Err(error) = rounds(&appliance, count) {
            println!("  the console ends with:\n{}", appliance.machine.tail());
            return Err(error);
        }
        appliance.power_off()
    });
}

fn parse(text: &str) -> Result<usize> {
    let rounds = text.parse().with_context(|| format!("DENSITY_ROUNDS is {text:?}"))?;
    ensure!(rounds >= ROUNDS_MIN, "DENSITY_ROUNDS is {rounds}: {ROUNDS_MIN} at least");
    Ok(rounds)
}

fn rounds(a: &Appliance, rounds: usize) -> Result<()> {
    // What is made once, for the first zone of all, is no zone's.
    create(a, &[name(ZONES)?])?;
    standing_are(a, 1)?;
    delete(a, &[name(ZONES)?])?;
    standing_are(a, 0)?;
    let names = (0..ZONES).map(name).collect::<Result<Vec<_>>>()?;
    let empty = Node::settled(a)?;
    println!("  before: {empty}");
    a.agent.networks(NETWORKS)?;
    let networks = Node::settled(a)?;
    print!("{}", networks.cost_since(&empty, "of that a network namespace", NETWORKS));
    a.agent.networks(0)?;
    let mut first = None;
    for round in 1..=rounds {
        let (start, spent) = (Instant::now(), spent_ms(a)?);
        create(a, &names)?;
        standing_are(a, ZONES)?;
        let made = start.elapsed();
        println!("  processor time of creating, ms: {}", since(&spent, &spent_ms(a)?));
        let start = Instant::now();
        listed(a)?;
        let listed = start.elapsed();
        if round == 1 {
            let full = Node::settled(a)?;
            println!("  with {ZONES} zones: {full}");
            print!("{}", full.cost_since(&empty, "an idle zone", ZONES));
        }
        let (start, spent) = (Instant::now(), spent_ms(a)?);
        delete(a, &names)?;
        standing_are(a, 0)?;
        println!("  processor time of deleting, ms: {}", since(&spent, &spent_ms(a)?));
        println!(
            "  round {round}: created in {:.1} s, listed in {:.1} s, deleted in {:.1} s",
            made.as_secs_f64(),
            listed.as_secs_f64(),
            start.elapsed().as_secs_f64()
        );
        let now = Node::settled(a)?;
        println!("  after it: {now}");
        if let Some((first, passed)) = first.as_ref().map(|first| (first, round - 1)) {
            print!("{}", now.grown_since(first));
            let worse = now.worse_than(first, passed);
            ensure!(worse.is_empty(), "after {passed} more rounds:\n    {}", worse.join("\n    "));
        } else {
            first = Some(now);
        }
    }
    Ok(())
}

/// Processor time so far in milliseconds, of all and of whoever has to do with zones.
fn spent_ms(a: &Appliance) -> Result<Vec<(&'static str, u64)>> {
    let groups = [
        ("all", ""),
        ("init", "/init"),
        ("consoled", "/system/consoled"),
        ("zoned", "/system/zoned"),
        ("zones", "/zones"),
        ("store", "/store"),
    ];
    let of = |(name, group): (&'static str, &str)| {
        let path = format!("/sys/fs/cgroup{group}/cpu.stat");
        Ok((name, a.agent.number(&path, "usage_usec")? / 1000))
    };
    groups.into_iter().map(of).collect()
}

fn since(before: &[(&str, u64)], now: &[(&str, u64)]) -> String {
    let pairs = before.iter().zip(now);
    let each = pairs.map(|((name, before), (_, now))| format!("{name} {}", now - before));
    each.collect::<Vec<_>>().join(", ")
}

fn name(number: usize) -> Result<ZoneName> {
    ZoneName::try_from(format!("idle-{number:04}")).map_err(anyhow::Error::msg)
}

/// Asks the admin API for one thing for each zone, several at once.
fn each(
    a: &Appliance,
    names: &[ZoneName],
    ask: impl Fn(&ureq::Agent, &str, &ZoneName) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let base = format!("http://127.0.0.1:{}", a.ports[2]);
    let work = || -> Result<()> {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER_TIME))
            .http_status_as_error(false)
            .build();
        let agent = ureq::Agent::new_with_config(config);
        while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            ask(&agent, &base, name)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, Result<()>>| {
            worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?
        };
        workers.into_iter().try_for_each(join)
    })
}

/// Sends a request, which has to succeed.
fn send(agent: &ureq::Agent, method: &str, url: &str, body: Option<&str>) -> Result<()> {
    let request = Request::builder().method(method).uri(url);
    let request = request.header("Authorization", format!("Bearer {TOKEN}"));
    let answer = match body {
        Some(body) => agent.run(request.body(body)?),
        None => agent.run(request.body(())?),
    };
    let mut answer = answer.with_context(|| format!("{method} {url}"))?;
    let (status, text) = (answer.status(), answer.body_mut().read_to_string()?);
    ensure!(status.is_success(), "{method} {url}: {status}: {text}");
    Ok(())
}

/// Zones that do nothing, as small as they can be made.
fn create(a: &Appliance, names: &[ZoneName]) -> Result<()> {
    each(a, names, |agent, base, name| {
        let spec = serde_json::json!({
            "name": name, "login": LOGIN, "image": "base",
            "carve": { "memory_mib": 16, "pids": 16, "scratch_mib": 4, "disk_mib": 4 },
        });
        send(agent, "POST", &format!("{base}{}", path::STANDING), Some(&spec.to_string()))
    })
}

fn delete(a: &Appliance, names: &[ZoneName]) -> Result<()> {
    each(a, names, |agent, base, name| {
        send(agent, "DELETE", &format!("{base}{}", zone_path(name, "")), None)
    })
}

/// Waits until so many zones are there, all of them running.
fn standing_are(a: &Appliance, count: usize) -> Result<()> {
    let url = format!("http://127.0.0.1:{}{}", a.ports[2], path::STANDING);
    let token = format!("Bearer {TOKEN}");
    wait_for(&format!("{count} zones to run"), ROUND_TIME, || {
        let mut answer = ureq::get(&url).header("Authorization", &token).call()?;
        let Zones { zones } = serde_json::from_str(&answer.body_mut().read_to_string()?)?;
        if let Some(failed) = zones.iter().find(|zone| zone.state == ZoneState::Failed) {
            let why = standing::run(a, &["zone", "why", failed.name.as_str()])?;
            anyhow::bail!("{} failed: {why}", failed.name);
        }
        let run = zones.iter().all(|zone| zone.state == ZoneState::Running);
        Ok((run && zones.len() == count).then_some(()))
    })
}

/// All are in the list that a person sees.
fn listed(a: &Appliance) -> Result<()> {
    let text = standing::run(a, &["zone", "list"])?;
    let running = text.lines().filter(|line| line.starts_with("idle-") && line.contains("running"));
    ensure!(running.count() == ZONES, "the list shows others:\n{text}");
    Ok(())
}
