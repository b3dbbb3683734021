//! Stories of nodes that find something wrong when they start: they stay up and say what it is.

use crate::daily::mobula;
use crate::teller::Teller;
use anyhow::{Context, Result, ensure};
use image::newc::Archive;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;
use tests::appliance::{Appliance, Artefacts, READY_TIME, Shape};
use tests::s3::Ask;
use tests::sigv4::sha256;

const FOREIGN: &str = "a disk with something on it is not touched";
const CONFIG: &str = "a bad configuration is told with line and column";
const CRASHING: &str = "a service that keeps crashing is given up, and the node stays up";
const NO_DISK: &str = "without a data disk the node says so and stays up";
const DISK_BYTES: u64 = 64 << 20;
/// Until a service is given up: init waits longer after each failure.
const DEGRADED_TIME: Duration = Duration::from_secs(180);

/// Tells them.
pub fn tell(teller: &mut Teller, artefacts: &Artefacts) {
    if teller.wants(&[FOREIGN, CONFIG, CRASHING]) {
        let mut node = Err(anyhow::anyhow!("not started"));
        teller.tell(CONFIG, || {
            node = Node::start(artefacts);
            let node = node.as_mut().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            bad_configuration(&mut node.appliance)
        });
        if node.is_err() {
            node = Node::start(artefacts);
        }
        match &mut node {
            Ok(node) => {
                teller.tell(CRASHING, || crashing(&mut node.appliance));
                teller.tell(FOREIGN, || node.foreign());
            }
            Err(error) => println!("  no boot: {error:#}"),
        }
    }
    teller.tell(NO_DISK, || no_disk(artefacts));
}

struct Node {
    appliance: Appliance,
    disk: PathBuf,
    before: String,
}

impl Node {
    /// A node for which everything is wrong: an unknown key in its configuration, a disk with somebody's data,
    /// a service that does not run.
    fn start(artefacts: &Artefacts) -> Result<Self> {
        let disk = artefacts.directory.join("foreign.disk");
        let file = std::fs::File::create(&disk)?;
        file.set_len(DISK_BYTES)?;
        // Nothing at the front: only its last MiB tells that it is in use.
        file.write_all_at(b"somebody's data", DISK_BYTES - 600_000)?;
        let before = sha256(&std::fs::read(&disk)?);
        let mut archive = Archive::new();
        let service = "description = \"Crashes\"\ncommand = [\"/sbin/test-agent\", \"crash\"]\n\
                       cgroup = \"system/crasher\"\n";
        archive.file("etc/mobula/services/crasher.toml", 0o644, service.as_bytes().to_vec())?;
        let path = artefacts.directory.join("crasher.cpio");
        std::fs::write(&path, archive.to_bytes(0))?;
        let mut shape = Shape::usual(&disk);
        shape.disk = Some((disk.clone(), DISK_BYTES));
        shape.archives = vec![path];
        shape.config = Some("hostname = \"odd\"\n\n  flavour = \"strawberry\"\n".to_owned());
        let appliance = Appliance::start(artefacts, "odd", &shape)?;
        appliance.agent.wait(READY_TIME)?;
        Ok(Self { appliance, disk, before })
    }

    fn foreign(&mut self) -> Result<()> {
        let console = self.appliance.machine.console()?;
        let told = console.lines().any(|line| line.contains("mobula:") && line.contains("disk"));
        ensure!(told, "the console does not speak of the disk:\n{}", self.appliance.machine.tail());
        let mounts = self.appliance.agent.read("/proc/mounts")?;
        ensure!(!mounts.contains(" /data "), "something is mounted: {mounts}");
        self.appliance.machine.kill()?;
        let after = sha256(&std::fs::read(&self.disk)?);
        ensure!(after == self.before, "the disk was written to");
        Ok(())
    }
}

fn bad_configuration(appliance: &mut Appliance) -> Result<()> {
    let line = appliance.machine.wait_for_line("line 3", Duration::from_secs(60))?.text;
    println!("  {line}");
    ensure!(line.contains("column 3"), "no column: {line}");
    let console = appliance.machine.console()?;
    ensure!(console.contains("flavour"), "the key is not named");
    Ok(())
}

fn crashing(appliance: &mut Appliance) -> Result<()> {
    let given_up = "mobula: crasher: .*degraded";
    let line = appliance.machine.wait_for_line(given_up, DEGRADED_TIME)?.text;
    println!("  {line}");
    appliance.agent.wait(Duration::from_secs(10))?;
    ensure!(appliance.machine.ended()?.is_none(), "the node went down");
    appliance.agent.daemon("noded").context("other services run")?;
    Ok(())
}

fn no_disk(artefacts: &Artefacts) -> Result<()> {
    let mut shape = Shape::usual(&PathBuf::new());
    shape.disk = None;
    let mut appliance = Appliance::start(artefacts, "no disk", &shape)?;
    let told = "mobula: .*(no data disk|no disk|data disk)";
    let line = appliance.machine.wait_for_line(told, READY_TIME)?.text;
    println!("  {line}");
    appliance.agent.wait(READY_TIME)?;
    // Who looks after the node is told the same, by the token of its configuration.
    let said = mobula(&appliance, &["node", "status"])?;
    println!("  {}", said.lines().find(|line| line.contains("disk")).unwrap_or_default().trim());
    ensure!(said.contains("no data disk"), "the admin API does not say it: {said}");
    // The store has nothing to stand on; asking it must not hang for ever, and the node goes down in order.
    let answer = appliance.s3.request(&Ask::new("GET", "/"));
    ensure!(!answer.is_ok_and(|answer| answer.status == 200), "a store without a disk");
    appliance.power_off()
}
