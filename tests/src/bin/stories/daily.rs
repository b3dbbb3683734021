//! An appliance's ordinary life, and much of its bad luck, on one data disk: two boots.

use crate::teller::Teller;
use crate::{
    accounts, bad_tasks, carve, clients, faults, garbage, hooks, images, jobs, network, objects,
    standing, zerocopy,
};
use anyhow::{Context, Result, ensure};
use std::process::Command;
use std::time::Duration;
use tests::appliance::{Appliance, Artefacts, OFF_TIME, Shape, TOKEN};
use tests::s3::Ask;

const BOOT: &str = "a blank disk is set up, and all services become ready";
const POWEROFF: &str = "the operator powers the node off, and it goes in order";
const AGAIN: &str = "after a second boot everything is where it was";
const BUTTON: &str = "the power button turns the node off in order";
const LIMITED: &str = "accounts: limits are in force after a boot";
const KEPT: &str = "kept";

/// A story told to a running appliance.
type Story = fn(&Appliance) -> Result<()>;

const STORIES: [(&str, Story); 35] = [
    ("objects are put, listed, read and deleted", objects::put_list_get),
    ("ranges and conditions give parts, or nothing", objects::ranges_and_conditions),
    ("every way of signing is understood, and a wrong one refused", objects::signing),
    ("a malformed request is answered with 400", objects::malformed),
    ("a webhook of the configuration hears of a bucket's objects", hooks::told),
    ("boto3 walks through the appliance", |a| clients::walk(a, "boto3")),
    ("boto3 trusts the appliance's certificate over HTTPS", clients::walk_https),
    ("awscli walks through the appliance", |a| clients::walk(a, "awscli")),
    ("rclone walks through the appliance", |a| clients::walk(a, "rclone")),
    ("s3cmd walks through the appliance", |a| clients::walk(a, "s3cmd")),
    ("minio-py walks through the appliance", |a| clients::walk(a, "minio")),
    ("a job gives what the pipeline gives on the host", jobs::map_reduce),
    ("an altered object makes the comparison fail", jobs::altered_object),
    ("a job over the admin's command", jobs::by_command),
    ("a task maps the very pages that the store holds", zerocopy::same_frames),
    ("a job on a missing object tells so", bad_tasks::missing_object),
    ("a command that is not there, and one that fails", bad_tasks::failing_commands),
    ("a task that eats memory dies alone", bad_tasks::memory_hog),
    ("a fork bomb stays in its zone", bad_tasks::fork_bomb),
    ("the carve is in force in the kernel, for a zone and its account", carve::limits),
    ("a scan that is no good for the carve of others pays for itself", carve::scan),
    ("what zones used within their carve is a job's report", carve::usage),
    ("accounts: two zones of one have no more together than it may", accounts::capped),
    ("accounts: the numbers of the whole node are scraped", accounts::scraped),
    ("cases 51, 53, 54: a zone's network is what its rules name, at its rate", network::rules),
    ("a zone's network is in force without zoned, and leaves nothing", network::without_zoned),
    ("an archive that Docker saved becomes an image, and zones run in it", images::imported),
    ("an archive that is damaged, or is none, leaves nothing but its reason", images::refused),
    ("garbage on every socket changes nothing", garbage::everywhere),
    ("storaged is killed", |a| faults::kill(a, "storaged")),
    ("zoned is killed", |a| faults::kill(a, "zoned")),
    ("the prefetcher is killed", |a| faults::kill(a, "prefetcher")),
    ("consoled is killed", |a| faults::kill(a, "consoled")),
    ("noded is killed", |a| faults::kill(a, "noded")),
    ("a full disk refuses writes and keeps what it has", faults::full_disk),
];

/// Tells them.
pub fn tell(teller: &mut Teller, artefacts: &Artefacts) {
    // Those of standing zones come last: some zones are left for the second boot.
    let stories = || STORIES.iter().chain(&standing::STORIES).copied();
    let names = stories().map(|(name, _)| name);
    let names =
        names.chain([BOOT, POWEROFF, AGAIN, standing::AGAIN, images::AGAIN, LIMITED, BUTTON]);
    if !teller.wants(&names.collect::<Vec<_>>()) {
        return;
    }
    let mut booted = None;
    teller.tell(BOOT, || {
        booted = Some(first_boot(artefacts)?);
        Ok(())
    });
    // A story of this boot was asked for, the boot itself was not.
    if booted.is_none() && !teller.wants(&[BOOT]) {
        match first_boot(artefacts) {
            Ok(appliance) => booted = Some(appliance),
            Err(error) => println!("  no boot: {error:#}"),
        }
    }
    let Some(appliance) = booted else {
        for (name, _) in stories() {
            teller.tell(name, || anyhow::bail!("there was no boot"));
        }
        return;
    };
    for (name, story) in stories() {
        if !teller.tell(name, || story(&appliance)) {
            println!("  the console ends with:\n{}", appliance.machine.tail());
        }
    }
    teller.tell(POWEROFF, || poweroff_by_command(appliance));
    if teller.wants(&[AGAIN, standing::AGAIN, images::AGAIN, LIMITED, BUTTON]) {
        let again = second_boot(artefacts);
        teller.tell(AGAIN, || {
            let appliance = again.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            everything_is_there(appliance)
        });
        teller.tell(standing::AGAIN, || {
            let appliance = again.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            standing::came_back(appliance)
        });
        teller.tell(images::AGAIN, || {
            let appliance = again.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            images::came_back(appliance)
        });
        teller.tell(LIMITED, || {
            let appliance = again.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            accounts::came_back(appliance)
        });
        teller.tell(BUTTON, || again?.power_off());
    }
}

fn first_boot(artefacts: &Artefacts) -> Result<Appliance> {
    let disk = artefacts.directory.join("daily.disk");
    if disk.exists() {
        std::fs::remove_file(&disk)?;
    }
    let mut shape = Shape::usual(&disk);
    shape.config = Some(hooks::config()?);
    let (appliance, ready) = Appliance::boot(artefacts, "daily", &shape)?;
    println!("  {ready}");
    println!("  {}", memory(&appliance)?);
    appliance.s3.create_bucket(KEPT)?;
    appliance.s3.put(KEPT, "small", b"a few bytes")?;
    appliance.s3.put(KEPT, "large", &vec![7; 3 << 20])?;
    Ok(appliance)
}

/// How much memory is in use by a node that has nothing to do.
fn memory(appliance: &Appliance) -> Result<String> {
    let text = appliance.agent.read("/proc/meminfo")?;
    let kib = |name: &str| -> Result<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    let (total, available) = (kib("MemTotal:")?, kib("MemAvailable:")?);
    let used = (total - available) / 1024;
    Ok(format!("{used} MiB of {} MiB are in use when idle", total / 1024))
}

fn second_boot(artefacts: &Artefacts) -> Result<Appliance> {
    let disk = artefacts.directory.join("daily.disk");
    let (appliance, ready) = Appliance::boot(artefacts, "daily again", &Shape::usual(&disk))?;
    println!("  {ready}");
    Ok(appliance)
}

fn everything_is_there(appliance: &Appliance) -> Result<()> {
    let small = appliance.s3.get(KEPT, "small")?;
    ensure!(small.as_deref() == Some(b"a few bytes"), "the small object is {small:?}");
    let large = appliance.s3.get(KEPT, "large")?.context("the large object is gone")?;
    ensure!(large == vec![7; 3 << 20], "the large object has changed");
    let answer = appliance.s3.request(&Ask::new("GET", "/"))?.expect(200)?;
    ensure!(answer.elements("Name").iter().any(|name| name == KEPT), "the bucket is not listed");
    Ok(())
}

fn poweroff_by_command(mut appliance: Appliance) -> Result<()> {
    mobula(&appliance, &["node", "poweroff"])?;
    let status = appliance.machine.wait_for_end(OFF_TIME)?;
    ensure!(status.success(), "QEMU ended with {status}");
    let console = appliance.machine.console()?;
    ensure!(!console.contains("Kernel panic"), "the kernel panicked on the way down");
    Ok(())
}

/// Runs the operator's command against an appliance and gives what it wrote to stdout.
pub fn mobula(appliance: &Appliance, arguments: &[&str]) -> Result<String> {
    let [s3, manta, admin] = appliance.ports.map(|port| format!("http://127.0.0.1:{port}"));
    let keys = tests::appliance::keys();
    let mut child = Command::new(&appliance.mobula)
        .args(arguments)
        .env("MOBULA_S3", s3)
        .env("MOBULA_MANTA", manta)
        .env("MOBULA_ADMIN", admin)
        .env("MOBULA_TOKEN", TOKEN)
        .env("MOBULA_ACCOUNT", tests::appliance::LOGIN)
        .env("MOBULA_ACCESS_KEY", keys.access)
        .env("MOBULA_SECRET_KEY", keys.secret)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .context("running mobula")?;
    tests::agent::wait_for("mobula to end", Duration::from_secs(180), || Ok(child.try_wait()?))
        .inspect_err(|_| drop(child.kill()))?;
    let output = child.wait_with_output()?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "mobula {arguments:?}: {}: {errors}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
