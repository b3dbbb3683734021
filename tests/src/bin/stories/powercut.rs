//! Power cuts: a load runs while QEMU logs all that the guest writes; then the disk is rebuilt as it was at
//! many moments, what no flush covered partly lost, and the store opened on each must hold its promises.
//!
//! The rebuilt disks lie one behind the other in one large, sparse file, which a second machine has as a
//! disk; the agent mounts one after the other and runs storaged on it. Nothing there looks like a data disk
//! to the node itself: the file's beginning belongs to nobody and there is no partition table.

use crate::teller::Teller;
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tests::agent::{Agent, Process, Request, SIGTERM, wait_for};
use tests::appliance::{Appliance, Artefacts, LOGIN, SECOND_S3, Shape, config, keys};
use tests::blocklog::{Base, Log, position};
use tests::cuts::{self, Moment, choose};
use tests::load::{History, Load, Position};
use tests::s3::Ask;

const FSYNC: &str = "after a power cut every acknowledged operation holds";
const NONE: &str = "without durability a power cut loses something";
/// Moments at which the power is cut; and for the control.
const CUTS: usize = 52;
const CONTROL_CUTS: usize = 8;
/// Operations in the load.
const OPERATIONS: u64 = 400;
const LOAD_TIME: Duration = Duration::from_secs(180);
const WORKERS: usize = 6;
/// How long looking at a rebuilt disk may take, under emulation.
const CHECK_TIME: Duration = Duration::from_secs(120);
/// A small disk, but one that still has room after what the store keeps free.
const DISK_BYTES: u64 = 1 << 30;
/// What lies before the first rebuilt disk: bytes that are not zero, so that nobody formats it.
const FRONT_BYTES: u64 = 1 << 20;
const BUCKET: &str = "cuts";
/// storaged's user.
const STORE_USER: u32 = 200;
const SEED: u64 = 42;

/// What a load left behind.
struct Recording {
    base: PathBuf,
    log: PathBuf,
    begun: u64,
    history: History,
}

/// Tells them.
pub fn tell(teller: &mut Teller, artefacts: &Artefacts) {
    teller.tell(FSYNC, || {
        let (wrong, promised) = cut_and_check(artefacts, "fsync", CUTS)?;
        println!("  {promised} promises were checked over {CUTS} power cuts");
        ensure!(wrong.is_empty(), "{wrong:#?}");
        Ok(())
    });
    teller.tell(NONE, || {
        let (wrong, promised) = cut_and_check(artefacts, "none", CONTROL_CUTS)?;
        println!("  {} of {promised} promises were broken", wrong.len());
        ensure!(!wrong.is_empty(), "nothing was lost: the test would not notice if something were");
        Ok(())
    });
}

/// What was wrong after all cuts, and how many promises there were.
fn cut_and_check(
    artefacts: &Artefacts,
    durability: &str,
    cuts: usize,
) -> Result<(Vec<String>, usize)> {
    let recording = record(artefacts, durability)?;
    let log = Log::open(&recording.log)?;
    let moments = choose(&log, recording.begun, &recording.history, cuts, SEED);
    let disks = artefacts.directory.join(format!("cuts-{durability}.disk"));
    rebuild(&recording, &log, &moments, &disks)?;
    let result = check(artefacts, durability, &recording, &moments, &disks)?;
    // What fails is worth a look.
    if result.0.is_empty() || durability == "none" {
        std::fs::remove_file(&disks)?;
    }
    Ok(result)
}

/// Formats a disk in a first boot, keeps a copy, and records a load in a second one.
fn record(artefacts: &Artefacts, durability: &str) -> Result<Recording> {
    let file = |what: &str| artefacts.directory.join(format!("power-{durability}.{what}"));
    let (disk, base, log) = (file("disk"), file("base"), file("log"));
    if disk.exists() {
        std::fs::remove_file(&disk)?;
    }
    let mut shape = Shape::usual(&disk);
    shape.disk = Some((disk.clone(), DISK_BYTES));
    shape.zone_image = false;
    shape.config = Some(config(durability));
    let (appliance, _) = Appliance::boot(artefacts, &format!("power {durability} 1"), &shape)?;
    appliance.s3.create_bucket(BUCKET)?;
    appliance.power_off()?;
    std::fs::copy(&disk, &base).context("copying the disk")?;

    shape.write_log = Some(log.clone());
    let (appliance, _) = Appliance::boot(artefacts, &format!("power {durability} 2"), &shape)?;
    let begun = position(&log)?;
    let path = log.clone();
    let now: Position = Arc::new(move || position(&path).unwrap_or(u64::MAX));
    let load = Load::start(&appliance.s3, BUCKET, WORKERS, SEED, &now);
    load.wait(OPERATIONS, LOAD_TIME)?;
    let history = load.finish()?;
    appliance.power_off()?;
    Ok(Recording { base, log, begun, history })
}

fn rebuild(recording: &Recording, log: &Log, moments: &[Moment], disks: &Path) -> Result<()> {
    let base = Base::read(&recording.base)?;
    if disks.exists() {
        std::fs::remove_file(disks)?;
    }
    let target = File::create_new(disks)?;
    target.set_len(FRONT_BYTES + moments.len() as u64 * base.bytes + FRONT_BYTES)?;
    target.write_all_at(&[0x55; 4096], 0)?;
    for (number, moment) in moments.iter().enumerate() {
        let start = FRONT_BYTES + number as u64 * base.bytes;
        cuts::rebuild(&base, log, moment, SEED + number as u64, (&target, start))?;
    }
    Ok(())
}

/// Opens one disk after the other.
fn check(
    artefacts: &Artefacts,
    durability: &str,
    recording: &Recording,
    moments: &[Moment],
    disks: &Path,
) -> Result<(Vec<String>, usize)> {
    // The node has a data disk of its own, so that it does not look at the rebuilt ones.
    let own = artefacts.directory.join(format!("power-{durability}.own"));
    if own.exists() {
        std::fs::remove_file(&own)?;
    }
    let mut shape = Shape::usual(&own);
    shape.zone_image = false;
    let path = disks.to_str().context("a path in UTF-8")?.replace(',', ",,");
    let node = format!("driver=raw,node-name=cuts,file.driver=file,file.filename={path}");
    shape.arguments = vec!["-blockdev".into(), node.into(), "-device".into()];
    shape.arguments.push("virtio-blk-pci,drive=cuts,serial=cuts".into());
    let name = format!("power {durability} check");
    let (appliance, _) = Appliance::boot(artefacts, &name, &shape)?;
    let disk = disk_named(&appliance.agent, "cuts")?;
    let (mut wrong, mut promised) = (Vec::new(), 0);
    for (number, moment) in moments.iter().enumerate() {
        let number = u16::try_from(number + 1)?;
        let found = open(&appliance, &disk, number, recording, moment)
            .with_context(|| format!("cut {number}, {:?} after entry {}", moment.cut, moment.upto));
        match found {
            Ok(found) => {
                wrong.extend(found.into_iter().map(|what| format!("cut {number}: {what}")));
            }
            Err(error) => wrong.push(format!("{error:#}")),
        }
        promised += recording.history.acknowledged(moment.position);
    }
    Ok((wrong, promised))
}

fn disk_named(agent: &Agent, serial: &str) -> Result<String> {
    for disk in agent.list("/sys/block", false)? {
        let disk = disk.trim_end_matches('/');
        let found = agent.read(&format!("/sys/block/{disk}/serial"));
        if found.is_ok_and(|found| found.trim() == serial) {
            return Ok(format!("/dev/{disk}"));
        }
    }
    None.with_context(|| format!("no disk has the serial {serial}"))
}

/// Mounts one rebuilt disk, runs storaged on it and gives what is wrong.
fn open(
    appliance: &Appliance,
    disk: &str,
    number: u16,
    recording: &Recording,
    moment: &Moment,
) -> Result<Vec<String>> {
    let agent = &appliance.agent;
    let start = FRONT_BYTES + u64::from(number - 1) * DISK_BYTES;
    let disk = disk.to_owned();
    agent.ask(&Request::Partition { disk: disk.clone(), number, start, length: DISK_BYTES })?;
    let source = format!("{disk}{number}");
    let target = "/run/cut".to_owned();
    let (kind, options) = ("ext4".to_owned(), "prjquota,errors=remount-ro".to_owned());
    agent.ask(&Request::Mount { source, target: target.clone(), kind, options })?;
    let keys = keys();
    let listen = format!("0.0.0.0:{SECOND_S3}");
    let command = [
        "/sbin/storaged",
        "--data",
        "/run/cut/store",
        "--s3",
        &listen,
        "--manta",
        "127.0.0.1:9102",
        "--account",
        LOGIN,
        "--access-key",
        &keys.access,
        "--secret-key",
        &keys.secret,
    ];
    let pid = agent.start(&command, &[], STORE_USER)?;
    let found = promises(appliance, recording, moment);
    let (code, output) = agent.end(pid, SIGTERM)?;
    let checked = findings(agent);
    agent.ask(&Request::Unmount { target })?;
    let mut found =
        found.with_context(|| format!("storaged ended with {code:?} and said: {output}"))?;
    ensure!(code == Some(0), "storaged ended with {code:?} and said: {output}");
    found.extend(checked?);
    Ok(found)
}

fn promises(appliance: &Appliance, recording: &Recording, moment: &Moment) -> Result<Vec<String>> {
    // Connections to the storaged before are of no use to this one.
    let client = appliance.second.apart();
    wait_for("storaged to answer", Duration::from_secs(30), || {
        Ok(client.request(&Ask::new("GET", "/")).ok().filter(|answer| answer.status == 200))
    })?;
    Ok(recording.history.check(&client, BUCKET, moment.position)?.0)
}

/// What `storaged check` finds on the disk that is mounted: a file without a record among it, or a record without a file.
fn findings(agent: &Agent) -> Result<Vec<String>> {
    let command =
        ["/sbin/storaged", "check", "--json", "--log", "error", "--data", "/run/cut/store"];
    let pid = agent.start(&command, &[], STORE_USER)?;
    wait_for("storaged check to end", CHECK_TIME, || {
        let ended = |process: &Process| process.pid == pid && process.state == 'Z';
        Ok(agent.processes()?.iter().any(ended).then_some(()))
    })?;
    let (code, output) = agent.end(pid, SIGTERM)?;
    let report: serde_json::Value = serde_json::from_str(&output)
        .with_context(|| format!("storaged check ended with {code:?} and said: {output}"))?;
    let findings = report["findings"].as_array().context("a report has findings")?;
    ensure!(
        (code == Some(0)) == findings.is_empty(),
        "the status {code:?} and the report disagree"
    );
    Ok(findings.iter().map(ToString::to_string).collect())
}
