//! A booted appliance: the image that is shipped, in QEMU, with the test agent laid over it.
//!
//! The shipped files are used as they are; the agent and its service definition come as a second archive
//! that the boot loader appends. Each boot has a directory of its own, in which its console log stays.

use crate::agent::Agent;
use crate::build;
use crate::manta::Jobs;
use crate::s3::Client;
use crate::sigv4::{Keys, sha256};
use anyhow::{Context, Result, ensure};
use image::build::Product;
use image::kernel::Choice;
use image::layout::Layout;
use image::newc::Archive;
use image::qemu::{self, Acceleration, DataDisk, Forward, Machine, Options, ZoneImage};
use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Until all services are ready: under emulation, on a busy machine, with a zone image to copy and verify.
pub const READY_TIME: Duration = Duration::from_secs(240);
/// What ends the wait for readiness: also that which a person must mend.
const READY_OR_STUCK: &str = "^mobula: (ready|no data disk|.* degraded)";
/// Until the machine is off after it was told to.
pub const OFF_TIME: Duration = Duration::from_secs(90);
/// No story needs a machine for longer: that of five rounds of a thousand zones, under emulation on a busy machine.
const LIFE_TIME: Duration = Duration::from_secs(3600);
/// Of the data disk: room for the zone image, for objects, and for what the store keeps free.
const DISK_BYTES: u64 = 4 << 30;
const S3: u16 = 9000;
const MANTA: u16 = 8080;
const ADMIN: u16 = 8090;
const HTTPS: u16 = 9443;
/// A second storaged, started by the agent.
pub const SECOND_S3: u16 = 9100;
/// The account that the stories' configuration makes.
pub const LOGIN: &str = "stories";
/// The admin token that it sets.
pub const TOKEN: &str = "a-token-for-the-stories-only";

/// The files that are tested.
#[derive(Debug, Clone)]
pub struct Artefacts {
    /// What was built and is shipped.
    pub product: Product,
    /// The archive with the test agent.
    pub agent: PathBuf,
    /// Where the boots have their directories.
    pub directory: PathBuf,
    /// How QEMU carries out instructions.
    pub acceleration: Acceleration,
    /// The initramfs's hash when the stories began.
    digest: String,
}

impl Artefacts {
    /// Finds the image that was built last, builds the agent, and chooses how QEMU runs.
    ///
    /// # Errors
    /// If a file is missing or the agent can't be built.
    pub fn find(choice: Choice, directory: &Path) -> Result<Self> {
        let product = Product::built(&Layout::of_this_tree(), choice)?;
        std::fs::create_dir_all(directory)?;
        Ok(Self {
            agent: agent_archive(directory)?,
            directory: directory.to_owned(),
            digest: digest(&product.initramfs)?,
            acceleration: qemu::probe(&product.kernel, &directory.join("probe"))?,
            product,
        })
    }

    /// Checks that the file that was booted is still the file that is shipped, and that the agent is not in
    /// it; gives its hash.
    ///
    /// # Errors
    /// If it is not so.
    pub fn shipped(&self) -> Result<String> {
        let now = digest(&self.product.initramfs)?;
        ensure!(now == self.digest, "the initramfs changed while it was tested");
        let unpacked = Command::new("zstd")
            .args(["--decompress", "--stdout"])
            .arg(&self.product.initramfs)
            .output()
            .context("running zstd")?;
        ensure!(unpacked.status.success(), "the initramfs can't be unpacked");
        let holds = |name: &[u8]| unpacked.stdout.windows(name.len()).any(|w| w == name);
        ensure!(holds(b"sbin/storaged"), "the initramfs does not hold what it should");
        ensure!(!holds(b"test-agent"), "the test agent is in the image");
        Ok(now)
    }
}

fn digest(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(sha256(&bytes))
}

/// Builds the agent, static, and packs it with its service definition.
fn agent_archive(directory: &Path) -> Result<PathBuf> {
    let program = std::fs::read(build::program("test-agent", "test-agent")?)?;
    let service = r#"description = "Looks inside for the tests"
command = ["/sbin/test-agent"]
cgroup = "system/agent"
"#;
    let mut archive = Archive::new();
    archive.file("sbin/test-agent", 0o755, program)?;
    archive.file("etc/mobula/services/agent.toml", 0o644, service.as_bytes().to_vec())?;
    let path = directory.join("agent.cpio");
    std::fs::write(&path, archive.to_bytes(0))?;
    Ok(path)
}

/// What is particular about one boot.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The configuration; that of the stories if not said.
    pub config: Option<String>,
    /// The data disk's file in the boot's directory, if there is one, and its size when made.
    pub disk: Option<(PathBuf, u64)>,
    /// Where the disk's writes are logged.
    pub write_log: Option<PathBuf>,
    /// Whether there is a disk with the zone image.
    pub zone_image: bool,
    /// The machine's memory, in MiB; QEMU's own default of this tree if not said.
    pub memory_mib: Option<u32>,
    /// More archives.
    pub archives: Vec<PathBuf>,
    /// More arguments for QEMU.
    pub arguments: Vec<OsString>,
}

impl Shape {
    /// A configured node with a data disk and the zone image.
    #[must_use]
    pub fn usual(disk: &Path) -> Self {
        Self {
            config: None,
            disk: Some((disk.to_owned(), DISK_BYTES)),
            write_log: None,
            zone_image: true,
            memory_mib: None,
            archives: Vec::new(),
            arguments: Vec::new(),
        }
    }
}

/// The stories' configuration; `durability` is `fsync` or `none`.
#[must_use]
pub fn config(durability: &str) -> String {
    let Keys { access, secret } = keys();
    let auditor = auditor_keys();
    format!(
        "hostname = \"stories\"\n[store]\ndurability = \"{durability}\"\n[admin]\ntoken = \"{TOKEN}\"\n\
         [[account]]\nname = \"{LOGIN}\"\naccess_key = \"{access}\"\nsecret_key = \"{secret}\"\n\
         [[account]]\nname = \"{AUDITOR}\"\naccess_key = \"{}\"\nsecret_key = \"{}\"\n",
        auditor.access, auditor.secret
    )
}

/// The keys in it.
#[must_use]
pub fn keys() -> Keys {
    Keys {
        access: "AKSTORIESSTORIES0001".into(),
        secret: "stories0stories0stories0stories0stories0".into(),
    }
}

/// The account that the records of usage belong to.
pub const AUDITOR: &str = "mobula";

/// Its keys in the stories' configuration.
#[must_use]
pub fn auditor_keys() -> Keys {
    Keys {
        access: "AKAUDITORAUDITOR0001".into(),
        secret: "auditor0auditor0auditor0auditor0auditor0".into(),
    }
}

/// A booted appliance and those who speak to it.
#[derive(Debug)]
pub struct Appliance {
    /// The machine.
    pub machine: Machine,
    /// The agent inside.
    pub agent: Agent,
    /// An S3 client.
    pub s3: Client,
    /// A client for jobs.
    pub jobs: Jobs,
    /// Ports on 127.0.0.1: S3, Manta, admin.
    pub ports: [u16; 3],
    /// The port of this machine that leads to S3 over HTTPS.
    pub https: u16,
    /// The operator's command, as shipped.
    pub mobula: PathBuf,
    /// An S3 client of a second storaged, if the agent starts one.
    pub second: Client,
    /// The port of 127.0.0.1 that leads to it.
    pub second_port: u16,
}

impl Appliance {
    /// Starts a machine; does not wait for anything.
    ///
    /// # Errors
    /// If QEMU can't be started.
    pub fn start(artefacts: &Artefacts, name: &str, shape: &Shape) -> Result<Self> {
        let directory = artefacts.directory.join(name);
        let Product { kernel, initramfs, zone_image, mobula } = artefacts.product.clone();
        let mut options = Options::new(kernel, initramfs, directory);
        options.acceleration = artefacts.acceleration;
        options.time_limit = LIFE_TIME;
        options.memory_mib = shape.memory_mib.unwrap_or(options.memory_mib);
        options.more_archives = vec![artefacts.agent.clone()];
        options.more_archives.extend(shape.archives.iter().cloned());
        options.more_arguments = shape.arguments.clone();
        options.config = Some(shape.config.clone().unwrap_or_else(|| config("fsync")));
        let write_log = shape.write_log.clone();
        let disk = shape.disk.clone();
        options.data_disk = disk.map(|(path, bytes)| DataDisk { path, bytes, write_log });
        if shape.zone_image {
            options.zone_images = vec![ZoneImage { name: "base".into(), path: zone_image }];
        }
        let guest = [S3, MANTA, ADMIN, SECOND_S3, test_agent::PORT, HTTPS];
        let host = free_ports()?;
        options.forwards =
            host.iter().zip(guest).map(|(host, guest)| Forward { host: *host, guest }).collect();
        let machine = Machine::boot(&options, READY_TIME)?;
        let [s3, manta, admin, second, agent, https] = host;
        let client = |port| Client::new(&format!("127.0.0.1:{port}"), keys());
        Ok(Self {
            machine,
            agent: Agent::new(agent),
            s3: client(s3),
            jobs: Jobs::new(client(manta), LOGIN),
            ports: [s3, manta, admin],
            https,
            mobula,
            second: client(second),
            second_port: second,
        })
    }

    /// Starts a machine and waits until it says that all services are ready; gives that line, too.
    ///
    /// # Errors
    /// If it does not.
    pub fn boot(artefacts: &Artefacts, name: &str, shape: &Shape) -> Result<(Self, String)> {
        let mut appliance = Self::start(artefacts, name, shape)?;
        let line = appliance.machine.wait_for_line(READY_OR_STUCK, READY_TIME)?;
        ensure!(line.text.starts_with("mobula: ready"), "{}", line.text);
        appliance.agent.wait(Duration::from_secs(30))?;
        Ok((appliance, line.text))
    }

    /// Presses the power button and waits until the machine has turned itself off.
    ///
    /// # Errors
    /// If it does not.
    pub fn power_off(mut self) -> Result<()> {
        self.machine.power_button()?;
        let status = self.machine.wait_for_end(OFF_TIME)?;
        ensure!(status.success(), "QEMU ended with {status}");
        Ok(())
    }
}

/// Ports that are free now.
fn free_ports() -> Result<[u16; 6]> {
    // All are held at once, so that they differ.
    let listeners: Vec<_> = (0..6)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)))
        .collect::<std::io::Result<_>>()
        .context("looking for free ports")?;
    let mut ports = [0; 6];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
