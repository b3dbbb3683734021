//! What fs-verity costs: PUT and cold GET in the booted appliance, on a file system that has it and on one that has
//! not, where storaged keeps a digest of its own.
//!
//! One boot, turns interleaved. The processors are QEMU's, and it counts: an instruction takes a nanosecond, so that the
//! guest's busy time is instructions of the whole machine, and the same on a busy host. What that can't tell: an
//! instruction is not a cycle, and these processors have no SHA instructions, so that hashing is dearer beside
//! all else than on most hardware. For a cold GET the file system was mounted anew.

use crate::load::Connection;
use crate::peers::{KEYS_ACCESS, Peers, keys};
use crate::report::{Comparison, Report};
use crate::settings::Scale;
use anyhow::{Context, Result, bail, ensure};
use image::kernel::Choice;
use image::newc::Archive;
use image::qemu::Acceleration;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tests::agent::{Agent, Reply, Request, SIGTERM, wait_for};
use tests::appliance::{Appliance, Artefacts, SECOND_S3, Shape};

/// Sizes of objects in KiB, and how many of each a turn has: so many that a clock of 10 ms is fine enough.
const SIZES: [(usize, usize); 6] =
    [(12, 128), (16, 128), (64, 64), (256, 32), (1024, 8), (4096, 4)];
/// Turns of each.
const ROUNDS: usize = 5;
/// Bytes of each file system.
const DISK_BYTES: u64 = 1 << 30;
/// Where it is mounted, and the store on it.
const MOUNT: &str = "/run/seals";
const STORE: &str = "/run/seals/store";
/// The storaged that is measured.
const PROGRAM: &str = "sbin/storaged-measured";
/// The bucket.
const BUCKET: &str = "seals";
/// How long a start may take under emulation.
const START_TIME_MAX: Duration = Duration::from_secs(120);
/// A tick of `/proc/stat`, in instructions at a nanosecond each.
const TICK_INSTRUCTIONS: f64 = 1e7;
/// A sector of `/sys/block/*/stat`.
const SECTOR_BYTES: f64 = 512.0;
/// Two file systems: the name is also the disk's serial.
const WAYS: [(&str, &str); 2] = [("sealed", "verity,quota,project"), ("unsealed", "quota,project")];

/// What has been used so far.
#[derive(Debug, Clone, Copy)]
struct Used {
    instructions: f64,
    read: f64,
    written: f64,
}

/// What an object took: one size, one turn, one way.
#[derive(Debug, Clone, Copy)]
struct Cost {
    put: Used,
    get: Used,
}

/// The machine, and the disk of one way.
struct Way<'a> {
    appliance: &'a Appliance,
    address: SocketAddr,
    disk: String,
}

/// All rows.
pub fn run(peers: &Peers, scale: &Scale, report: &mut Report) -> Result<()> {
    let folder = peers.run.join("seals");
    let mut artefacts = Artefacts::find(Choice::Own, &folder).context("make image first")?;
    artefacts.acceleration = Acceleration::Counted;
    let mut shape = Shape::usual(&folder.join("node.disk"));
    shape.zone_image = false;
    shape.archives = vec![program(&peers.storaged, &folder)?];
    for (name, features) in WAYS {
        shape.arguments.extend(disk(&folder, name, features)?.into_iter().map(Into::into));
    }
    let (appliance, _) = Appliance::boot(&artefacts, "seals", &shape)?;
    let ways =
        WAYS.iter().map(|(name, _)| Way::new(&appliance, name)).collect::<Result<Vec<_>>>()?;
    let rounds = if scale.quick { 1 } else { ROUNDS };
    let mut costs: [Vec<Vec<Cost>>; 2] = Default::default();
    for round in 0..rounds {
        for turn in 0..2 {
            let at = (round + turn) % 2;
            costs[at].push(ways[at].turn(round)?);
        }
    }
    tell(&costs, report);
    for (way, (name, _)) in ways.iter().zip(WAYS) {
        report.fact(&format!("files in the appliance, {name}"), way.files()?, None);
    }
    appliance.power_off()
}

fn tell(costs: &[Vec<Vec<Cost>>; 2], report: &mut Report) {
    type Figure = fn(&Cost) -> f64;
    let figures: [(&str, &str, Figure); 4] = [
        ("PUT", "thousand instructions", |cost| cost.put.instructions / 1e3),
        ("PUT", "bytes written to the disk", |cost| cost.put.written),
        ("cold GET", "thousand instructions", |cost| cost.get.instructions / 1e3),
        ("cold GET", "bytes read from the disk", |cost| cost.get.read),
    ];
    for (at, (kib, _)) in SIZES.iter().enumerate() {
        for (what, figure, of) in figures {
            let pairs = costs[0].iter().zip(&costs[1]).map(|(a, b)| (of(&a[at]), of(&b[at])));
            let what = format!("{what} {kib} KiB with fs-verity");
            report.compare(Comparison::new(&what, figure, "without", pairs.collect(), None));
        }
    }
}

/// The archive with the storaged that is measured.
fn program(storaged: &Path, folder: &Path) -> Result<PathBuf> {
    let mut archive = Archive::new();
    archive.file(PROGRAM, 0o755, fs::read(storaged).context("read storaged")?)?;
    let path = folder.join("storaged.cpio");
    fs::write(&path, archive.to_bytes(0))?;
    Ok(path)
}

/// A disk with a file system like that of a node, and what QEMU is told of it.
fn disk(folder: &Path, name: &str, features: &str) -> Result<[String; 4]> {
    let path = folder.join(format!("{name}.disk"));
    File::create(&path)?.set_len(DISK_BYTES)?;
    let text = path.to_str().context("a path in UTF-8")?;
    let fixed = ["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "512", "-m", "1"];
    let more = ["-O", features, "-E", "quotatype=prjquota", text];
    crate::peers::run("mke2fs", &[&fixed[..], &more].concat())?;
    let text = text.replace(',', ",,");
    let node = format!("driver=raw,node-name={name},file.driver=file,file.filename={text}");
    let device = format!("virtio-blk-pci,drive={name},serial={name}");
    Ok(["-blockdev".into(), node, "-device".into(), device])
}

impl<'a> Way<'a> {
    fn new(appliance: &'a Appliance, name: &str) -> Result<Self> {
        let agent = &appliance.agent;
        let address = SocketAddr::from(([127, 0, 0, 1], appliance.second_port));
        for disk in agent.list("/sys/block", false)? {
            let disk = disk.trim_end_matches('/').to_owned();
            let serial = agent.read(&format!("/sys/block/{disk}/serial"));
            if serial.is_ok_and(|serial| serial.trim() == name) {
                return Ok(Self { appliance, address, disk });
            }
        }
        bail!("the appliance has no disk {name}")
    }

    fn agent(&self) -> &Agent {
        &self.appliance.agent
    }

    /// PUTs, and after the file system was mounted anew, GETs of all sizes.
    fn turn(&self, round: usize) -> Result<Vec<Cost>> {
        let puts = self.serving(|connection| {
            let status = connection.ask("PUT", &format!("/{BUCKET}"), &[], b"")?.0;
            ensure!(status == 200 || status == 409, "a bucket: {status}");
            self.sizes(round, connection, true)
        })?;
        let gets = self.serving(|connection| self.sizes(round, connection, false))?;
        Ok(puts.into_iter().zip(gets).map(|(put, get)| Cost { put, get }).collect())
    }

    /// What each size costs: an object of it.
    fn sizes(&self, round: usize, connection: &mut Connection, put: bool) -> Result<Vec<Used>> {
        // What any request needs is in memory.
        connection.ask("GET", &format!("/{BUCKET}/none"), &[], b"")?;
        let one = |&(kib, count): &(usize, usize)| {
            let bytes = kib << 10;
            let before = self.used()?;
            for number in 0..count {
                let path = format!("/{BUCKET}/{round}/{kib}/{number}");
                let body =
                    if put { tests::load::content(number as u64, bytes) } else { Vec::new() };
                let method = if put { "PUT" } else { "GET" };
                let (status, answer) = connection.ask(method, &path, &[], &body)?;
                ensure!(status == 200, "{method} {path}: {status}");
                ensure!(put || answer.len() == bytes, "{path} has {} bytes", answer.len());
            }
            let after = self.used()?;
            let each = |of: fn(&Used) -> f64| (of(&after) - of(&before)) / count as f64;
            Ok(Used {
                instructions: each(|used| used.instructions),
                read: each(|used| used.read),
                written: each(|used| used.written),
            })
        };
        SIZES.iter().map(one).collect()
    }

    /// Mounts, starts storaged, works, and undoes all that.
    fn serving<T>(&self, work: impl FnOnce(&mut Connection) -> Result<T>) -> Result<T> {
        let (source, target) = (format!("/dev/{}", self.disk), MOUNT.to_owned());
        let (kind, options) = ("ext4".to_owned(), "prjquota".to_owned());
        self.agent().ask(&Request::Mount { source, target: target.clone(), kind, options })?;
        let (program, listen) = (format!("/{PROGRAM}"), format!("0.0.0.0:{SECOND_S3}"));
        let secret = keys().secret;
        let command = [&program, "--data", STORE, "--s3", &listen, "--manta", "127.0.0.1:9102"];
        let account = ["--account", "bench", "--access-key", KEYS_ACCESS, "--secret-key", &secret];
        let command = [&command[..], &account, &["--scrub-rate", "0"]].concat();
        let pid = self.agent().start(&command, &[], 0)?;
        let worked = self.connect().and_then(|mut connection| work(&mut connection));
        let (code, output) = self.agent().end(pid, SIGTERM)?;
        self.agent().ask(&Request::Unmount { target })?;
        ensure!(code == Some(0), "storaged ended with {code:?} and said: {output}");
        let sealed = !output.contains("no fs-verity here");
        let meant = self.disk_is(WAYS[0].0)?;
        ensure!(sealed == meant, "fs-verity is there: {sealed}; storaged said: {output}");
        worked
    }

    fn disk_is(&self, name: &str) -> Result<bool> {
        Ok(self.agent().read(&format!("/sys/block/{}/serial", self.disk))?.trim() == name)
    }

    /// QEMU takes connections for a port nobody listens at: an answer counts.
    fn connect(&self) -> Result<Connection> {
        wait_for("storaged to answer", START_TIME_MAX, || {
            let asked = Connection::new(self.address).and_then(|mut connection| {
                connection.ask("GET", "/", &[], b"")?;
                Ok(connection)
            });
            Ok(asked.ok())
        })
    }

    fn used(&self) -> Result<Used> {
        let stat = self.agent().read("/proc/stat")?;
        let line = stat.lines().next().context("no line in /proc/stat")?;
        let ticks: Vec<f64> =
            line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        // proc_stat(5): user, nice, system, idle, iowait, irq, softirq.
        ensure!(ticks.len() >= 7, "an odd /proc/stat: {line}");
        let busy = ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6];
        let disk = self.agent().read(&format!("/sys/block/{}/stat", self.disk))?;
        let disk: Vec<f64> = disk.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        ensure!(disk.len() >= 7, "an odd stat of a disk: {disk:?}");
        let [read, written] = [disk[2], disk[6]].map(|sectors| sectors * SECTOR_BYTES);
        Ok(Used { instructions: busy * TICK_INSTRUCTIONS, read, written })
    }

    /// What files of each size take on the disk.
    fn files(&self) -> Result<String> {
        let (source, target) = (format!("/dev/{}", self.disk), MOUNT.to_owned());
        let (kind, options) = ("ext4".to_owned(), "prjquota".to_owned());
        self.agent().ask(&Request::Mount { source, target: target.clone(), kind, options })?;
        let found = self.agent().ask(&Request::Blocks { path: format!("{STORE}/objects") });
        self.agent().ask(&Request::Unmount { target })?;
        let Reply::Blocks(files) = found? else { bail!("the agent says something else") };
        let of = |(kib, _): &(usize, usize)| {
            let bytes = (kib << 10) as u64;
            let taken: Vec<u64> = files
                .iter()
                .filter(|(length, _)| *length == bytes)
                .map(|(_, taken)| *taken)
                .collect();
            let each = taken.iter().sum::<u64>() as f64 / taken.len().max(1) as f64 / 1024.0;
            format!("{kib} KiB take {each:.0}")
        };
        Ok(SIZES.iter().map(of).collect::<Vec<_>>().join(", "))
    }
}
