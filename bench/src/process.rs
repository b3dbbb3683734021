//! Servers as processes: started on core 0, measured over their whole family, ended.

use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where servers run.
pub const SERVER_CORE: &str = "0";
/// Where load runs.
pub const LOAD_CORE: usize = 1;
/// How long a server may take to serve: SeaweedFS needs some seconds.
const START_TIME_MAX: Duration = Duration::from_secs(60);
/// How long it may take to end before it is killed.
const END_TIME_MAX: Duration = Duration::from_secs(20);
/// Ticks of `/proc/PID/stat` in a second (`getconf CLK_TCK`, 100 on every Linux of today).
const TICKS: f64 = 100.0;
/// Descriptors a server may have: nginx keeps every file open.
const FILES: &str = "$(ulimit -Hn)";

/// A running server. Ended when dropped.
pub struct Server {
    /// What it is.
    pub name: &'static str,
    /// Where it serves.
    pub address: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts a program on core 0 and waits until its port is open.
    pub fn start(
        name: &'static str,
        address: SocketAddr,
        program: &Path,
        arguments: &[String],
        log: &Path,
    ) -> Result<Server> {
        let output = File::create(log).with_context(|| format!("create {}", log.display()))?;
        let limit = format!("ulimit -n {FILES}; exec taskset -c {SERVER_CORE} \"$@\"");
        let child = Command::new("bash")
            .args(["-c", &limit, "bash"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let mut server = Server { name, address, child };
        let until = Instant::now() + START_TIME_MAX;
        while TcpStream::connect(address).is_err() {
            ensure!(server.child.try_wait()?.is_none(), "{name} ended; see {}", log.display());
            ensure!(Instant::now() < until, "{name} does not serve; see {}", log.display());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// Waits until another port of it is open, too.
    pub fn wait_for_port(&mut self, address: SocketAddr) -> Result<()> {
        let (name, until) = (self.name, Instant::now() + START_TIME_MAX);
        while TcpStream::connect(address).is_err() {
            ensure!(self.child.try_wait()?.is_none(), "{name} ended before it served {address}");
            ensure!(Instant::now() < until, "{name} does not serve {address}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Its processes.
    fn family(&self) -> Vec<u32> {
        let mut family = vec![self.child.id()];
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
            if let Some(pid) = pid
                && let Some(fields) = stat(pid)
                && let Some(parent) = fields.get(1).and_then(|field| field.parse::<u32>().ok())
            {
                parents.push((pid, parent));
            }
        }
        let mut next = 0;
        while next < family.len() {
            let parent = family[next];
            family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            next += 1;
        }
        family
    }

    /// CPU seconds of all its processes so far, user and system.
    pub fn cpu_seconds(&self) -> f64 {
        let of = |pid| {
            let fields = stat(pid)?;
            // utime and stime are fields 14 and 15 of proc_pid_stat(5), 11 and 12 after the state.
            let tick = |at: usize| fields.get(at)?.parse::<f64>().ok();
            Some((tick(11)? + tick(12)?) / TICKS)
        };
        self.family().into_iter().filter_map(of).sum()
    }

    /// Bytes of memory of all its processes (`VmRSS`).
    pub fn resident_bytes(&self) -> u64 {
        let of = |pid: u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        self.family().into_iter().filter_map(of).sum::<u64>() * 1024
    }

    /// Kills it at once, as a crash would.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn signal(&self, name: &str) -> bool {
        let pid = self.child.id().to_string();
        Command::new("kill").args([name, &pid]).status().is_ok_and(|status| status.success())
    }
}

/// The fields of `/proc/PID/stat` after the name, which may hold anything.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

impl Drop for Server {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let family = self.family();
        if self.signal("-TERM") {
            let until = Instant::now() + END_TIME_MAX;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            for pid in family {
                let pid = pid.to_string();
                if let Err(e) = Command::new("kill").args(["-KILL", &pid]).status() {
                    eprintln!("can't kill {pid} of {}: {e}", self.name);
                }
            }
        }
        if let Err(e) = self.child.wait() {
            eprintln!("{} can't be waited for: {e}", self.name);
        }
    }
}

/// Pins this thread, and all it starts, to the core of the load.
pub fn pin_load() -> Result<()> {
    let mut cores = nix::sched::CpuSet::new();
    cores.set(LOAD_CORE)?;
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &cores).context("pin the load")
}
