//! The appliance that the demonstration is given in: booted with fresh keys, spoken to with `mobula`.

use super::DemoError;
use crate::build::Product;
use crate::file::{FileError, failed};
use crate::progress::{self, Step};
use crate::qemu::{self, DataDisk, Forward, Machine, Options, ZoneImage};
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use wire::machine::{Account, Admin, MachineConfig};

/// From start to all services ready, first boot included: the disk is formatted and the zone image copied
/// and verified, all of it under emulation on a busy machine.
const READY_LIMIT: Duration = Duration::from_secs(300);
/// From the power button to the power being off.
const OFF_LIMIT: Duration = Duration::from_secs(120);
/// A demonstration that ends by itself is over by then.
const ONCE_LIMIT: Duration = Duration::from_secs(30 * 60);
/// Nobody leaves `make run` up for longer.
const STAY_LIMIT: Duration = Duration::from_secs(30 * 24 * 3600);
/// What init says of an orderly end, in this order.
const ORDERLY_END: [&str; 3] =
    ["mobula: all services stopped", "mobula: data disk unmounted", "mobula: powering off"];
/// Of the blank data disk; its file is sparse.
const DISK_BYTES: u64 = 8 << 30;
/// What the appliance listens on: S3, Manta's calls, the admin API.
const PORTS: [u16; 3] = [S3, MANTA, ADMIN];
const S3: u16 = 9000;
const MANTA: u16 = 8080;
const ADMIN: u16 = 8090;
/// The account's name.
const LOGIN: &str = "demo";
/// Random bytes in a secret: as many as an AES-256 key has.
const SECRET_BYTES: usize = 32;
const ACCESS_KEY_BYTES: usize = 10;

/// What opens the appliance.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The access key of S3 and Manta's calls.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
    /// The admin API's token.
    pub token: String,
}

impl Keys {
    fn random() -> Result<Self, DemoError> {
        let digits = |count| random_hex(count);
        Ok(Self {
            access_key: digits(ACCESS_KEY_BYTES)?.to_uppercase(),
            secret_key: digits(SECRET_BYTES)?,
            token: digits(SECRET_BYTES)?,
        })
    }

    fn config(&self) -> Result<String, DemoError> {
        let account = Account {
            name: LOGIN.to_owned().try_into().map_err(DemoError::Keys)?,
            access_key: self.access_key.clone().try_into().map_err(DemoError::Keys)?,
            secret_key: self.secret_key.clone().try_into().map_err(DemoError::Keys)?,
            ssh_keys: Vec::new(),
            limits: Default::default(),
        };
        let token = self.token.clone().try_into().map_err(DemoError::Keys)?;
        let admin = Admin { token: Some(token) };
        let config = MachineConfig { admin, accounts: vec![account], ..MachineConfig::default() };
        Ok(toml::to_string(&config)?)
    }
}

/// A booted appliance and its keys.
#[derive(Debug)]
pub struct Guest {
    machine: Machine,
    mobula: PathBuf,
    settings: PathBuf,
}

impl Guest {
    /// Boots what was built, with a blank disk, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn boot(product: &Product, folder: &Path, once: bool) -> Result<Self, DemoError> {
        let step = Step::start("machine");
        let acceleration = qemu::probe(&product.kernel, &folder.join("probe"))?;
        step.done(match acceleration {
            qemu::Acceleration::Kvm => "KVM works here",
            qemu::Acceleration::Emulated | qemu::Acceleration::Counted => {
                "KVM does not work here: emulated, so all of it is slower"
            }
        });
        let disk = folder.join("data.img");
        match fs::remove_file(&disk) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed("remove", &disk)(error).into());
            }
            _ => {}
        }
        let keys = Keys::random()?;
        let mut options =
            Options::new(product.kernel.clone(), product.initramfs.clone(), folder.to_owned());
        options.acceleration = acceleration;
        options.data_disk = Some(DataDisk { path: disk, bytes: DISK_BYTES, write_log: None });
        options.zone_images =
            vec![ZoneImage { name: "base".to_owned(), path: product.zone_image.clone() }];
        options.config = Some(keys.config()?);
        options.forwards = forwards()?;
        options.time_limit = if once { ONCE_LIMIT } else { STAY_LIMIT };
        let mut step = Step::start("boot");
        let mut machine = Machine::boot(&options, READY_LIMIT)?;
        let ready = loop {
            let line = machine.wait_for_line("mobula: ", READY_LIMIT)?;
            if line.text.contains("mobula: ready") {
                break line;
            }
            step.at(&line.text);
        };
        step.done(&ready.text);
        let settings = folder.join("mobula.toml");
        let guest = Self { machine, mobula: product.mobula.clone(), settings };
        guest.write_settings(&keys)?;
        Ok(guest)
    }

    /// Puts every file of a folder into a new bucket.
    ///
    /// # Errors
    /// When `mobula` fails.
    pub fn put(&self, folder: &Path, bucket: &str) -> Result<Duration, DemoError> {
        let started = Instant::now();
        let mut command = self.mobula();
        command.args(["put", "--recursive", "--make-bucket"]).arg(folder).arg(format!("{bucket}/"));
        finish(&mut command, "mobula put")?;
        Ok(started.elapsed())
    }

    /// Puts one file under a name.
    ///
    /// # Errors
    /// When `mobula` fails.
    pub fn put_one(&self, file: &Path, name: &str) -> Result<(), DemoError> {
        finish(self.mobula().arg("put").arg(file).arg(name), "mobula put")
    }

    /// Runs a job over every object of a bucket and gives what it put out.
    ///
    /// # Errors
    /// When `mobula` fails.
    pub fn job(
        &self,
        map: &str,
        reduce: &str,
        bucket: &str,
    ) -> Result<(Vec<u8>, Duration), DemoError> {
        let started = Instant::now();
        let mut command = self.mobula();
        command.args(["job", "run", "--map", map, "--reduce", reduce, &format!("{bucket}/")]);
        let output = command
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(failed("run", &self.mobula))?;
        if !output.status.success() {
            let what = "mobula job run".to_owned();
            return Err(DemoError::Mobula { what, status: output.status });
        }
        Ok((output.stdout, started.elapsed()))
    }

    /// How a person gets in.
    #[must_use]
    pub fn how_to_reach(&self) -> String {
        let mobula = self.mobula.display();
        let settings = self.settings.display();
        format!(
            "The appliance is up. Its endpoints and keys are in {settings}:\n\n{}\n\
             Try:\n\
             \x20   export MOBULA_CONFIG={settings}\n\
             \x20   {mobula} ls packages\n\
             \x20   {mobula} job run --map 'grep -c ^Package:' --reduce 'sort -n | tail -3' packages/\n\
             \x20   {mobula} node status\n\n\
             Its console is in {}. Ctrl-C shuts it down.",
            fs::read_to_string(&self.settings).unwrap_or_default(),
            self.console().display(),
        )
    }

    /// Where its console log is.
    #[must_use]
    pub fn console(&self) -> PathBuf {
        self.machine.directory().join("console.log")
    }

    /// Fails when the machine has ended by itself.
    ///
    /// # Errors
    /// [`DemoError::Shutdown`].
    pub fn still_up(&mut self) -> Result<(), DemoError> {
        match self.machine.ended()? {
            None => Ok(()),
            Some(status) => Err(self.disorder(format!("it ended by itself ({status})"))),
        }
    }

    /// Presses the power button and waits for an orderly end; `hurry` cuts it short.
    ///
    /// # Errors
    /// [`DemoError::Shutdown`] when it was not one.
    pub fn shut_down(&mut self, hurry: impl Fn() -> bool) -> Result<(), DemoError> {
        let mut step = Step::start("power off");
        self.machine.power_button()?;
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.machine.ended()? {
                break status;
            }
            if hurry() {
                self.machine.kill()?;
                return Err(self.disorder("it was ended at once".to_owned()));
            }
            if started.elapsed() > OFF_LIMIT {
                let waited = progress::seconds(OFF_LIMIT);
                return Err(self.disorder(format!("it was still up after {waited}")));
            }
            step.at("waiting");
            std::thread::sleep(Duration::from_millis(50));
        };
        let console = self.machine.console()?;
        match disorder(&console, status.success()) {
            Some(why) => Err(self.disorder(why)),
            None => {
                step.done("in order");
                Ok(())
            }
        }
    }

    fn disorder(&self, why: String) -> DemoError {
        DemoError::Shutdown { why, tail: self.machine.tail() }
    }

    fn mobula(&self) -> Command {
        let mut command = Command::new(&self.mobula);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MOBULA_") {
                command.env_remove(name);
            }
        }
        command.arg("--config").arg(&self.settings);
        command
    }

    fn write_settings(&self, keys: &Keys) -> Result<(), DemoError> {
        let port = |guest| self.machine.host_port(guest).unwrap_or(guest);
        let Keys { access_key, secret_key, token } = keys;
        let text = format!(
            "s3 = \"http://127.0.0.1:{}\"\nmanta = \"http://127.0.0.1:{}\"\n\
             admin = \"http://127.0.0.1:{}\"\naccount = \"{LOGIN}\"\naccess_key = \"{access_key}\"\n\
             secret_key = \"{secret_key}\"\ntoken = \"{token}\"\n",
            port(S3),
            port(MANTA),
            port(ADMIN)
        );
        Ok(write_private(&self.settings, &text)?)
    }
}

/// What the console or QEMU's exit says against an orderly end, if anything.
fn disorder(console: &str, exited_well: bool) -> Option<String> {
    if !exited_well {
        return Some("QEMU failed".to_owned());
    }
    if console.contains("Kernel panic") {
        return Some("the kernel panicked".to_owned());
    }
    let mut lines = console.lines();
    let missing = ORDERLY_END.iter().find(|step| !lines.any(|line| line.contains(**step)));
    missing.map(|step| format!("init never said {step:?} in its turn"))
}

fn finish(command: &mut Command, what: &str) -> Result<(), DemoError> {
    let program = PathBuf::from(command.get_program());
    let status = command.stdin(Stdio::null()).status().map_err(failed("run", &program))?;
    if status.success() {
        return Ok(());
    }
    Err(DemoError::Mobula { what: what.to_owned(), status })
}

/// The appliance's own ports where they are free here, else others.
fn forwards() -> Result<Vec<Forward>, DemoError> {
    // All are held until each has one, so that none is given twice.
    let mut held = Vec::new();
    let mut forwards = Vec::new();
    for guest in PORTS {
        let listener = TcpListener::bind(("127.0.0.1", guest))
            .or_else(|_| TcpListener::bind(("127.0.0.1", 0)))
            .map_err(DemoError::Port)?;
        let host = listener.local_addr().map_err(DemoError::Port)?.port();
        forwards.push(Forward { host, guest });
        held.push(listener);
    }
    Ok(forwards)
}

fn random_hex(count: usize) -> Result<String, DemoError> {
    let mut bytes = vec![0; count];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(DemoError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn write_private(path: &Path, text: &str) -> Result<(), FileError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(failed("remove", path)(error));
        }
        _ => {}
    }
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(failed("write", path))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_configuration_is_one_that_the_appliance_takes() {
        let keys = Keys::random().unwrap();
        let config = MachineConfig::parse(keys.config().unwrap().as_bytes()).unwrap();
        assert_eq!(config.accounts[0].name.as_str(), LOGIN);
        assert_eq!(config.accounts[0].secret_key.as_str(), keys.secret_key);
    }

    #[test]
    fn keys_are_drawn_anew() {
        assert_ne!(Keys::random().unwrap().secret_key, Keys::random().unwrap().secret_key);
    }

    #[test]
    fn a_taken_port_is_replaced() {
        let holder = TcpListener::bind(("127.0.0.1", S3));
        let forwards = forwards().unwrap();
        // Whether we hold it or somebody else does.
        drop(holder);
        assert!(forwards.iter().all(|forward| forward.guest != S3 || forward.host != S3));
    }

    #[test]
    fn only_an_announced_end_is_orderly() {
        let end = ORDERLY_END.join("\n[    9.0] noise\n");
        assert_eq!(disorder(&end, true), None);
        assert!(disorder(&end, false).is_some());
        assert!(disorder(&format!("{end}\nKernel panic - not syncing\n"), true).is_some());
        assert!(disorder("[ 9.1] reboot: Power down\n", true).is_some());
        let backwards: Vec<_> = ORDERLY_END.into_iter().rev().collect();
        assert!(disorder(&backwards.join("\n"), true).is_some());
    }
}
