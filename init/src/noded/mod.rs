//! noded: what the machine is to be (its configuration), and making it so: name, network, clock, data disk,
//! accounts, zone images. Then it keeps the lease and the clock.
//!
//! It may fail and be started again at any moment: each step looks at what is there and does only what is
//! missing. Nothing that a person has to mend ends it: it says what, and looks again.
//!
//! ```text
//!  given configuration ─▶ name, loopback, clock ─▶ data disk ─▶ kept configuration ─▶ network
//!       (fw_cfg, command line)                     (waits for one)                      │
//!  READY ◀── first address, or 5 s ◀── zone images ◀── accounts, token, environment ◀───┘
//! ```

pub mod accounts;
pub mod command_line;
pub mod configuration;
pub mod content;
pub mod decision;
pub mod dhcp;
pub mod disk;
pub mod files;
pub mod images;
pub mod inventory;
pub mod network;
pub mod packet;
pub mod time;

use configuration::{Found, Origin};
use disk::Outcome;
use files::Readers;
use network::Network;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use sys::clock::since_boot_ms;
use sys::signal::{Signal, Signals};
use sys::wait::For;
use wire::kernel::{KernelReport, Offer};
use wire::machine::MachineConfig;

/// The node's name if the configuration has none.
const HOSTNAME: &str = "mobula";
/// How long a blank disk is watched before it is formatted.
const SETTLE_MS: u64 = 1_000;
/// How often disks are looked at while there is no data disk.
const LOOK_MS: u64 = 2_000;
/// How long readiness waits for a first address: storage is of use without a network only to those who
/// wait for it on the console.
const ADDRESS_MS: u64 = 5_000;
/// How often a step that failed is tried again.
const RETRY_MS: u64 = 10_000;

/// Ends noded: somebody asked for it.
struct Ended;

/// What noded holds.
struct Noded {
    signals: Signals,
    network: Option<Network>,
    hostname: String,
    save_at_ms: u64,
    /// The last trouble that was told, so that it is told once.
    told: String,
}

/// Runs noded.
#[must_use]
pub fn run() -> ExitCode {
    let signals = match Signals::take_ends() {
        Ok(signals) => signals,
        Err(error) => {
            say(&format!("noded cannot take signals: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let mut noded = Noded {
        signals,
        network: None,
        hostname: HOSTNAME.to_owned(),
        save_at_ms: u64::MAX,
        told: String::new(),
    };
    let Err(Ended) = noded.live();
    notify("STOPPING=1");
    if disk::is_mounted(disk::DATA)
        && let Err(error) = time::save()
    {
        say(&format!("the time was not saved: {error}"));
    }
    ExitCode::SUCCESS
}

/// Says a line of the node's: init shows it on the console as it is.
fn say(text: &str) {
    for line in text.lines() {
        // Init reads the pipe; without it there is nobody to tell.
        drop(writeln!(std::io::stdout(), "mobula: {line}"));
    }
}

fn notify(state: &str) {
    if let Err(error) = sys::activation::notify(state) {
        say(&format!("noded cannot reach init: {error}"));
    }
}

impl Noded {
    fn live(&mut self) -> Result<std::convert::Infallible, Ended> {
        let (given, faults) = configuration::given();
        faults.iter().for_each(|fault| say(fault));
        if let Some(line) = time::put_on_floor(false) {
            say(&line);
        }
        self.name(given.as_ref().map(|found| &found.config));
        if let Some(found) = &given {
            self.start_network(&found.config);
            if let Err(error) = accounts::provide_token(&found.config) {
                say(&format!("the admin API has no token yet: {error}"));
            }
        }
        self.mount_data()?;
        let found = given.unwrap_or_else(configuration::kept);
        self.settle_configuration(&found);
        self.provide_accounts(&found.config)?;
        self.provide_images()?;
        self.await_address()?;
        self.save_at_ms = since_boot_ms() + time::SAVE_MS;
        self.status("READY=1\n");
        loop {
            self.turn(None)?;
        }
    }

    fn name(&mut self, config: Option<&MachineConfig>) {
        let name = config.and_then(|config| config.hostname.as_ref());
        let name = name.map_or(HOSTNAME, |name| name.as_str());
        if let Err(error) = sys::host::set_name(name) {
            say(&format!("cannot set the name {name}: {error}"));
        }
        name.clone_into(&mut self.hostname);
    }

    fn start_network(&mut self, config: &MachineConfig) {
        let unchanged = |network: &Network| *network.wanted() == config.network;
        if self.network.as_ref().is_some_and(unchanged) {
            return;
        }
        match Network::start(config.network.clone(), self.hostname.clone()) {
            Ok(network) => self.network = Some(network),
            Err(error) => say(&error.to_string()),
        }
    }

    /// Waits for the data disk, with the network going on.
    fn mount_data(&mut self) -> Result<(), Ended> {
        loop {
            let found = disk::find_and_mount(&mut |disk| {
                say(&format!("formatting {disk}, which holds nothing, as the data disk"));
                std::thread::sleep(std::time::Duration::from_millis(SETTLE_MS));
            });
            let trouble = match found {
                Ok(Outcome::Already) => return Ok(()),
                Ok(Outcome::Mounted { disk, formatted, quota }) => {
                    let how = if formatted { "formatted and " } else { "" };
                    say(&format!("data disk {disk} {how}mounted at {}", disk::DATA));
                    if !quota {
                        say("no project quota: the disk limits of tasks will not hold");
                    }
                    note(|report| report.project_quota = offer(quota));
                    return Ok(());
                }
                Ok(Outcome::Wait(text)) => (text, LOOK_MS),
                Err(error) => (error.to_string(), RETRY_MS),
            };
            // Without a disk there is no kept configuration: the network comes up by default.
            if self.network.is_none() {
                self.start_network(&MachineConfig::default());
            }
            self.tell(&trouble.0);
            self.pause(trouble.1)?;
        }
    }

    /// Uses the configuration, and keeps one that was given for later boots.
    fn settle_configuration(&mut self, found: &Found) {
        found.faults.iter().for_each(|fault| say(fault));
        match found.origin {
            Origin::Given(source) => {
                say(&format!("configuration from {source}"));
                if let Err(error) =
                    disk::lay_out().map_err(|error| error.to_string()).and_then(|()| {
                        files::replace(Path::new(configuration::COPY), &found.text, Readers::ROOT)
                            .map_err(|error| error.to_string())
                    })
                {
                    say(&format!("the configuration is not kept for the next boot: {error}"));
                }
            }
            Origin::Copy => say("configuration from the data disk"),
            Origin::Default => say("no configuration: using defaults"),
        }
        if let Some(line) = time::put_on_floor(true) {
            say(&line);
        }
        self.name(Some(&found.config));
        self.start_network(&found.config);
    }

    fn provide_accounts(&mut self, config: &MachineConfig) -> Result<(), Ended> {
        loop {
            let laid_out = disk::lay_out().map_err(|error| error.to_string());
            let provided = laid_out
                .and_then(|()| accounts::provide(config).map_err(|error| error.to_string()))
                .and_then(|made| time::save().map(|()| made).map_err(|error| error.to_string()));
            match provided {
                Ok(made) => {
                    reveal(&made);
                    return Ok(());
                }
                Err(error) => self.tell(&error),
            }
            self.pause(RETRY_MS)?;
        }
    }

    /// A node without an image stores objects all the same: what is missing is said, not waited for.
    fn provide_images(&mut self) -> Result<(), Ended> {
        let images = match images::list() {
            Ok(images) => images,
            Err(error) => {
                say(&error.to_string());
                return Ok(());
            }
        };
        for image in &images {
            self.turn(Some(0))?;
            let began_ms = since_boot_ms();
            match images::provide(image) {
                Ok(images::Provided::Kept) => {}
                Ok(images::Provided::Copied) => {
                    let (mib, ms) = (image.bytes >> 20, since_boot_ms() - began_ms);
                    say(&format!(
                        "zone image {} ({mib} MiB) copied and checked in {ms} ms",
                        image.name
                    ));
                }
                Err(error) => say(&error.to_string()),
            }
        }
        if let Some(image) = images.first() {
            let mounts = images::mounts(image);
            note(|report| report.erofs_from_file = mounts);
        }
        Ok(())
    }

    fn await_address(&mut self) -> Result<(), Ended> {
        let until_ms = since_boot_ms() + ADDRESS_MS;
        let has_address =
            |noded: &Self| noded.network.as_ref().is_none_or(|network| network.address().is_some());
        while !has_address(self) {
            let left_ms = until_ms.saturating_sub(since_boot_ms());
            if left_ms == 0 {
                let why = self.network.as_ref().map(Network::describe).unwrap_or_default();
                say(&format!("going on without a network: {why}"));
                return Ok(());
            }
            self.turn(Some(left_ms))?;
        }
        Ok(())
    }

    /// Lets time pass and the network go on.
    fn pause(&mut self, pause_ms: u64) -> Result<(), Ended> {
        let until_ms = since_boot_ms() + pause_ms;
        loop {
            let left_ms = until_ms.saturating_sub(since_boot_ms());
            if left_ms == 0 {
                return Ok(());
            }
            self.turn(Some(left_ms))?;
        }
    }

    /// Waits once for the network, the clock or a signal, and does what is due.
    fn turn(&mut self, wait_ms: Option<u64>) -> Result<(), Ended> {
        let now_ms = since_boot_ms();
        let due_ms = self.network.as_ref().and_then(Network::deadline_ms);
        let due_ms = due_ms.unwrap_or(u64::MAX).min(self.save_at_ms).saturating_sub(now_ms);
        let mut fds = vec![(std::os::fd::AsFd::as_fd(&self.signals), For::Input)];
        fds.extend(self.network.as_ref().and_then(Network::watched).map(|fd| (fd, For::Input)));
        if let Err(error) = sys::wait::wait(&fds, Some(due_ms.min(wait_ms.unwrap_or(u64::MAX)))) {
            say(&format!("noded cannot wait: {error}"));
            return Err(Ended);
        }
        while let Ok(Some(signal)) = self.signals.next() {
            match signal {
                Signal::Terminate | Signal::Interrupt => return Err(Ended),
                Signal::Child | Signal::Hangup | Signal::Other(_) => {}
            }
        }
        let before = self.network.as_ref().and_then(Network::address);
        let turned = self.network.as_mut().map(Network::turn);
        match turned {
            Some(Ok(lines)) => lines.iter().for_each(|line| say(line)),
            Some(Err(error)) => self.tell(&error.to_string()),
            None => {}
        }
        if before != self.network.as_ref().and_then(Network::address) {
            self.status("");
        }
        if since_boot_ms() >= self.save_at_ms {
            self.save_at_ms = since_boot_ms() + time::SAVE_MS;
            if let Err(error) = time::save() {
                self.tell(&format!("the time is not saved: {error}"));
            }
        }
        Ok(())
    }

    /// Tells people of a trouble, once until another one comes.
    fn tell(&mut self, trouble: &str) {
        if self.told != trouble {
            say(trouble);
            trouble.clone_into(&mut self.told);
        }
        notify(&format!("STATUS={}", trouble.replace('\n', " ")));
    }

    fn status(&self, before: &str) {
        let network = self.network.as_ref().map_or("no network".to_owned(), Network::describe);
        notify(&format!("{before}STATUS={network}"));
    }
}

/// Prints what was made, once, on the console alone: a log would keep the secrets.
fn reveal(made: &accounts::Made) {
    let mut text = String::new();
    if let Some(account) = &made.account {
        let (name, key) = (account.name.as_str(), account.access_key.as_str());
        let secret = account.secret_key.as_str();
        text.push_str(&format!("mobula: account {name} access key {key} secret key {secret}\n"));
    }
    if let Some(token) = &made.token {
        text.push_str(&format!("mobula: admin token {}\n", token.as_str()));
    }
    if text.is_empty() {
        return;
    }
    let console = std::fs::OpenOptions::new().write(true).open("/dev/console");
    match console.and_then(|mut console| console.write_all(text.as_bytes())) {
        Err(error) => say(&format!(
            "keys were made and can't be shown: {error}. The next boot tries again; or configure your own"
        )),
        Ok(()) => {
            if let Err(error) = accounts::note_shown() {
                say(&format!("the next boot shows these keys again: {error}"));
            }
        }
    }
}

const fn offer(has: bool) -> Offer {
    if has { Offer::Yes } else { Offer::No }
}

/// Adds what only the data disk could tell to init's report on the kernel.
fn note(add: impl FnOnce(&mut KernelReport)) {
    let path = Path::new(crate::boot::KERNEL_REPORT);
    let noted = std::fs::read(path).map_err(|error| error.to_string()).and_then(|bytes| {
        let mut report = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        add(&mut report);
        let json = serde_json::to_vec(&report).map_err(|error| error.to_string())?;
        files::replace(path, &json, Readers { group: 0, mode: 0o644 }).map_err(|e| e.to_string())
    });
    if let Err(error) = noted {
        say(&format!("cannot add to {}: {error}", path.display()));
    }
}
