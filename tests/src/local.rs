//! storaged by itself on this machine, as a developer starts it.

use crate::appliance::{LOGIN, keys};
use crate::manta::Jobs;
use crate::s3::{Ask, Client};
use crate::sigv4::Keys;
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to recover and answer.
const START_TIME: Duration = Duration::from_secs(60);
/// How long it may take to end: requests in progress get 20 s.
const END_TIME: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// A storaged that runs; killed when dropped.
#[derive(Debug)]
pub struct Storaged {
    child: Child,
    program: PathBuf,
    data: PathBuf,
    log: PathBuf,
    more: Vec<String>,
    ports: [u16; 2],
    /// A client of it.
    pub s3: Client,
}

impl Storaged {
    /// Starts it on `data` and waits until it answers.
    ///
    /// # Errors
    /// If it does not.
    pub fn start(program: &Path, data: &Path) -> Result<Self> {
        Self::start_with(program, data, &data.with_extension("log"), &[])
    }

    /// Starts it with more arguments, and with another log.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn start_with(program: &Path, data: &Path, log: &Path, more: &[&str]) -> Result<Self> {
        let free = || -> Result<_> { Ok(TcpListener::bind(("127.0.0.1", 0))?) };
        let (first, second) = (free()?, free()?);
        let ports = [first.local_addr()?.port(), second.local_addr()?.port()];
        drop((first, second));
        let more: Vec<String> = more.iter().map(|&word| word.to_owned()).collect();
        let child = spawn(program, data, log, &more, ports)?;
        let s3 = Client::new(&format!("127.0.0.1:{}", ports[0]), keys());
        let (program, data, log) = (program.to_owned(), data.to_owned(), log.to_owned());
        let mut storaged = Self { child, program, data, log, more, ports, s3 };
        storaged.wait()?;
        Ok(storaged)
    }

    /// Kills it with SIGKILL and starts it again.
    ///
    /// # Errors
    /// If it does not come back.
    pub fn kill_and_restart(&mut self) -> Result<()> {
        self.child.kill().context("killing storaged")?;
        self.child.wait().context("waiting for storaged")?;
        self.child = spawn(&self.program, &self.data, &self.log, &self.more, self.ports)?;
        self.wait()
    }

    /// Has it end in order.
    ///
    /// # Errors
    /// If it does not, or says that something went wrong.
    pub fn end(mut self) -> Result<()> {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().context("running kill")?;
        let deadline = Instant::now() + END_TIME;
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(
                    status.success(),
                    "storaged ended with {status}: see {}",
                    self.log.display()
                );
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "storaged does not end in {END_TIME:?}");
            std::thread::sleep(POLL);
        }
    }

    /// A client of its Manta port.
    #[must_use]
    pub fn jobs(&self) -> Jobs {
        Jobs::new(Client::new(&format!("127.0.0.1:{}", self.ports[1]), keys()), LOGIN)
    }

    /// The address of its S3 port, as clients want it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIME;
        loop {
            if self.s3.request(&Ask::new("GET", "/")).is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                let said = std::fs::read_to_string(&self.log)?;
                let last = said.lines().last().unwrap_or_default();
                if !last.contains("can't listen at") {
                    bail!("storaged ended with {status}: {last}: see {}", self.log.display());
                }
                // While nobody listened, another program's connection got the port: it does not last.
                self.child = spawn(&self.program, &self.data, &self.log, &self.more, self.ports)?;
            }
            ensure!(Instant::now() < deadline, "storaged does not answer in {START_TIME:?}");
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Storaged {
    fn drop(&mut self) {
        // Nothing can be done about a process that can't be killed, and a test that failed says so itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(
    program: &Path,
    data: &Path,
    log: &Path,
    more: &[String],
    [s3, manta]: [u16; 2],
) -> Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    let Keys { access, secret } = keys();
    Command::new(program)
        .arg("--data")
        .arg(data)
        .args(["--s3", &format!("127.0.0.1:{s3}"), "--manta", &format!("127.0.0.1:{manta}")])
        .args(["--account", LOGIN, "--access-key", &access, "--secret-key", &secret])
        .args(["--threads", "2"])
        .args(more)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))
}
