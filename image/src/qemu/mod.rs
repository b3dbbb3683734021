//! Boots the appliance in QEMU and watches it: the one way in which `image run` and the tests start a
//! machine. A [`Machine`] owns its QEMU process and ends it when dropped or over its time limit; it
//! never touches another process.

mod arguments;
mod console;
mod monitor;
mod probe;

pub use arguments::{Acceleration, DataDisk, Forward, Options, ZoneImage};
pub use console::Line;
pub use probe::probe;

use crate::file::{FileError, failed};
use console::Console;
use monitor::Monitor;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use thiserror::Error;

/// How often the console and the process are looked at while waiting: shorter shows nothing sooner
/// under emulation, longer is felt.
const POLL: Duration = Duration::from_millis(20);
/// Console lines quoted in an error.
const TAIL_LINES: usize = 25;

/// What goes wrong with a machine.
#[derive(Debug, Error)]
pub enum QemuError {
    /// A file of the machine can't be made or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// QEMU can't be started.
    #[error("can't start qemu-system-x86_64: install qemu-system-x86 (make deps)")]
    Start(#[source] io::Error),
    /// QEMU ended while something was still expected of it.
    #[error(
        "the machine ended ({status}) while waiting for {expected}; its console ends with:\n{tail}"
    )]
    Ended {
        /// QEMU's exit status.
        status: ExitStatus,
        /// What was waited for.
        expected: String,
        /// The last lines of the console.
        tail: String,
    },
    /// A wait that took too long.
    #[error("waited {waited:.0?} for {expected} in vain; the console ends with:\n{tail}")]
    Timeout {
        /// For how long.
        waited: Duration,
        /// For what.
        expected: String,
        /// The last lines of the console.
        tail: String,
    },
    /// A pattern that is no regular expression.
    #[error("{pattern:?} is no regular expression")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why not.
        #[source]
        source: regex_lite::Error,
    },
    /// The kernel ends before init starts.
    #[error("the kernel panics before init starts; the console ends with:\n{tail}")]
    Panic {
        /// The last lines of the console.
        tail: String,
    },
    /// QEMU's monitor does not do what was asked.
    #[error("QEMU's monitor: {0}")]
    Monitor(String),
    /// The operating system says nothing about the process.
    #[error("can't wait for QEMU")]
    Wait(#[source] io::Error),
}

/// A booted machine.
#[derive(Debug)]
pub struct Machine {
    child: Arc<Mutex<Child>>,
    pid: u32,
    console: Console,
    directory: PathBuf,
    forwards: Vec<Forward>,
    guard: Option<Guard>,
}

/// Kills the machine when its time is over; ended by the machine's drop.
#[derive(Debug)]
struct Guard {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: JoinHandle<()>,
}

impl Machine {
    /// Starts a machine and waits, at most `limit`, until init runs.
    ///
    /// QEMU's emulation goes wrong now and then while the kernel patches its own running code: about one boot in
    /// 25 ends so before init starts. That says nothing of the appliance, so such a machine is started once more,
    /// and it is told.
    ///
    /// # Errors
    /// As [`Self::start`] and [`Self::wait_for_line`]; [`QemuError::Panic`] if the kernel panics again, or was not
    /// emulated.
    pub fn boot(options: &Options, limit: Duration) -> Result<Self, QemuError> {
        let mut again = options.acceleration != Acceleration::Kvm;
        loop {
            let mut machine = Self::start(options)?;
            let line = machine.wait_for_line("mobula: init .* starts|Kernel panic", limit)?;
            if !line.text.contains("Kernel panic") {
                return Ok(machine);
            }
            if !again {
                return Err(QemuError::Panic { tail: machine.tail() });
            }
            again = false;
            eprintln!("the emulated kernel died before init and is started again: {}", line.text);
        }
    }

    /// Starts a machine as described. Its console is in `console.log` of its directory.
    ///
    /// # Errors
    /// When a file can't be made or QEMU can't be started.
    pub fn start(options: &Options) -> Result<Self, QemuError> {
        let directory = options.directory.clone();
        let prepared = arguments::prepare(options)?;
        let log = directory.join("qemu.log");
        let stderr = fs::File::create(&log).map_err(failed("create", &log))?;
        // A process group of its own: Ctrl-C in a terminal is for us, who then shut the machine down.
        let child = Command::new("qemu-system-x86_64")
            .args(&prepared)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .map_err(QemuError::Start)?;
        let pid = child.id();
        let child = Arc::new(Mutex::new(child));
        let guard = Some(Guard::start(Arc::clone(&child), options.time_limit));
        let console = Console::new(arguments::console_path(&directory));
        Ok(Self { child, pid, console, directory, forwards: options.forwards.clone(), guard })
    }

    /// The process id of its QEMU.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Where its console, monitor and files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The port on 127.0.0.1 that leads to the guest's `port`, if one does.
    #[must_use]
    pub fn host_port(&self, port: u16) -> Option<u16> {
        self.forwards.iter().find(|forward| forward.guest == port).map(|forward| forward.host)
    }

    /// All that the console has said so far.
    ///
    /// # Errors
    /// When the log can't be read.
    pub fn console(&self) -> Result<String, QemuError> {
        self.console.text()
    }

    /// Waits for a console line that matches `pattern`, looking from behind the line found last.
    ///
    /// # Errors
    /// When it does not come in time, or the machine ends without it.
    pub fn wait_for_line(&mut self, pattern: &str, limit: Duration) -> Result<Line, QemuError> {
        let regex = regex_lite::Regex::new(pattern)
            .map_err(|source| QemuError::Pattern { pattern: pattern.to_owned(), source })?;
        let expected = format!("a console line like {pattern:?}");
        self.wait_until(&expected, limit, |machine| machine.console.next_match(&regex))
    }

    /// Presses the power button.
    ///
    /// # Errors
    /// When QEMU's monitor does not answer.
    pub fn power_button(&self) -> Result<(), QemuError> {
        self.monitor("system_powerdown").map(drop)
    }

    /// Has QEMU's monitor (QMP) carry out a command without arguments and gives its answer.
    ///
    /// # Errors
    /// When QEMU's monitor does not answer, or refuses.
    pub fn monitor(&self, command: &str) -> Result<serde_json::Value, QemuError> {
        self.command(command, &serde_json::json!({}))
    }

    /// Lets the data disk do this many operations a second from now on; 0 takes the limit away.
    ///
    /// # Errors
    /// When QEMU's monitor does not answer, or there is no data disk.
    pub fn limit_disk(&self, operations: u64) -> Result<(), QemuError> {
        let limits = serde_json::json!({
            "id": arguments::DATA_DISK,
            "iops": operations, "iops_rd": 0, "iops_wr": 0, "bps": 0, "bps_rd": 0, "bps_wr": 0,
        });
        self.command("block_set_io_throttle", &limits).map(drop)
    }

    fn command(
        &self,
        command: &str,
        arguments: &serde_json::Value,
    ) -> Result<serde_json::Value, QemuError> {
        Monitor::connect(&arguments::monitor_path(&self.directory))?.execute(command, arguments)
    }

    /// How QEMU ended, if it has.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn ended(&self) -> Result<Option<ExitStatus>, QemuError> {
        self.child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .try_wait()
            .map_err(QemuError::Wait)
    }

    /// Waits for the machine to end by itself.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub fn wait_for_end(&mut self, limit: Duration) -> Result<ExitStatus, QemuError> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if start.elapsed() > limit {
                return Err(self.timeout(limit, "the machine to power off"));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Ends it at once, as pulling the plug would; what the guest wrote stays in the disk's file.
    ///
    /// # Errors
    /// When the process can't be killed or waited for.
    pub fn kill(&mut self) -> Result<(), QemuError> {
        end(&mut self.child.lock().unwrap_or_else(PoisonError::into_inner)).map_err(QemuError::Wait)
    }

    /// The last lines of the console, for messages.
    #[must_use]
    pub fn tail(&self) -> String {
        self.console.tail(TAIL_LINES)
    }

    fn wait_until<T>(
        &mut self,
        expected: &str,
        limit: Duration,
        mut look: impl FnMut(&mut Self) -> Result<Option<T>, QemuError>,
    ) -> Result<T, QemuError> {
        let start = Instant::now();
        loop {
            // First the process, then the console: what was said before the end is still seen.
            let ended = self.ended()?;
            if let Some(found) = look(self)? {
                return Ok(found);
            }
            if let Some(status) = ended {
                let (expected, tail) = (expected.to_owned(), self.tail());
                return Err(QemuError::Ended { status, expected, tail });
            }
            if start.elapsed() > limit {
                return Err(self.timeout(limit, expected));
            }
            std::thread::sleep(POLL);
        }
    }

    fn timeout(&self, waited: Duration, expected: &str) -> QemuError {
        QemuError::Timeout { waited, expected: expected.to_owned(), tail: self.tail() }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Nobody is left to tell: a process that can't be killed stays visible under its pid.
        drop(self.kill());
        if let Some(guard) = self.guard.take() {
            guard.stop();
        }
    }
}

impl Guard {
    fn start(child: Arc<Mutex<Child>>, limit: Duration) -> Self {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let shared = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (stopped, changed) = &*shared;
            let stopped = stopped.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = changed.wait_timeout_while(stopped, limit, |stopped| !*stopped);
            let (stopped, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if !*stopped {
                eprintln!("the machine was ended: it ran longer than its limit of {limit:?}");
                if let Err(error) = end(&mut child.lock().unwrap_or_else(PoisonError::into_inner)) {
                    eprintln!("can't end QEMU: {error}");
                }
            }
        });
        Self { stop, thread }
    }

    fn stop(self) {
        let (stopped, changed) = &*self.stop;
        *stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
        if self.thread.join().is_err() {
            eprintln!("the time limit's thread panicked");
        }
    }
}

fn end(child: &mut Child) -> io::Result<()> {
    if child.try_wait()?.is_none() {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}
