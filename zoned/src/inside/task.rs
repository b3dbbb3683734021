//! The tasks of a zone, one after another: `init`, then `exec`, the feeder of a reducer's stdin, the outcome.
//!
//! One poll loop. When the task's first process exits, every other one is killed and reaped, as in Manta,
//! and the outcome goes to zoned.
//!
//! ```text
//!   Init ──exit 0──▶ Exec ──exit──▶ kill and reap all ──▶ Over ──Acknowledged──▶ end
//!     └──────────exit ≠ 0───────────────▲                   │
//!                    ▲                                      Stay
//!                    └───────────Run────────────────────────┘
//! ```
//!
//! Whoever makes the tasks sees to it that they are of one job and phase: `init` runs once for all of them,
//! and what one leaves in the zone's files the next one finds, as Manta has it.

use super::damage::blame;
use super::feeder::Feeder;
use super::{InsideError, call, empty_zone, receive, tell, unexpected};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use sys::clone::{Besides, Namespaces, Program, Spawn, start_with};
use sys::seqpacket::Socket;
use wire::zone::{Command, Order, Outcome, Report};

/// The shell of every task, as Manta has it.
const SHELL: &CStr = c"/bin/bash";
/// Variables that only `exec` gets: at `init` there is no input yet.
const INPUT_VARIABLES: &str = "MANTA_INPUT_";

/// A task that runs.
struct Task<'a> {
    control: &'a Socket,
    signals: &'a SignalFd,
    stage: Stage,
    feeder: Option<Feeder>,
    /// A map's object.
    input: Option<File>,
}

/// How far it is, and what the next step needs.
enum Stage {
    /// `init` runs as this process.
    Init { pid: Pid, then: Box<Exec> },
    /// `exec` runs as this process.
    Exec { pid: Pid },
}

/// What `exec` needs to be started.
struct Exec {
    line: String,
    environment: Vec<CString>,
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// Runs tasks until zoned says that there are no more; `stdin` is the first one's.
pub(super) fn run_all(control: &Socket, stdin: Option<OwnedFd>) -> Result<(), InsideError> {
    let mut chld = SigSet::empty();
    chld.add(Signal::SIGCHLD);
    call("block SIGCHLD", chld.thread_block())?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = call("watch for SIGCHLD", SignalFd::with_flags(&chld, flags))?;
    let first = Task::first(control, &signals, stdin)?;
    tell(control, &Report::Started)?;
    let mut outcome = first.run()?;
    while let Some((command, fds)) = hand_in(control, &outcome)? {
        outcome = Task::next(control, &signals, &command, fds)?.run()?;
    }
    Ok(())
}

/// Empties the zone and tells zoned how it went; gives the next task, if there is one.
fn hand_in(
    control: &Socket,
    outcome: &Outcome,
) -> Result<Option<(Command, Vec<OwnedFd>)>, InsideError> {
    call("kill the zone's processes", empty_zone())?;
    tell(control, &Report::Over(outcome.clone()))?;
    let mut stays = false;
    loop {
        match receive(control) {
            Ok((Order::Acknowledged, _)) | Err(InsideError::Gone) => return Ok(None),
            Ok((Order::Stay, _)) if !stays => stays = true,
            Ok((Order::Run(command), fds)) if stays => return Ok(Some((command, fds))),
            // They were on their way; there is nobody left to have them.
            Ok((Order::Inputs { .. }, _)) if !stays => {}
            Ok((order, _)) => return Err(unexpected(&order, "Acknowledged, or Stay and then Run")),
            Err(error) => return Err(error),
        }
    }
}

impl<'a> Task<'a> {
    /// Takes the order to run, and starts `init`, or `exec` if there is none.
    fn first(
        control: &'a Socket,
        signals: &'a SignalFd,
        stdin: Option<OwnedFd>,
    ) -> Result<Self, InsideError> {
        let (order, fds) = receive(control)?;
        let Order::Run(command) = order else { return Err(unexpected(&order, "Run")) };
        let input = again(stdin.as_ref())?;
        let exec = Exec::new(&command, stdin, fds)?;
        let (stage, feeder) = match &command.init {
            Some(line) => (exec.after_init(line)?, None),
            None => exec.start()?,
        };
        Ok(Self { control, signals, stage, feeder, input })
    }

    /// Starts `exec` in a zone where `init` has run.
    fn next(
        control: &'a Socket,
        signals: &'a SignalFd,
        command: &Command,
        mut fds: Vec<OwnedFd>,
    ) -> Result<Self, InsideError> {
        let stdin = (fds.len() > 2).then(|| fds.remove(0));
        let input = again(stdin.as_ref())?;
        let (stage, feeder) = Exec::new(command, stdin, fds)?.start()?;
        Ok(Self { control, signals, stage, feeder, input })
    }

    /// Sees it through.
    fn run(mut self) -> Result<Outcome, InsideError> {
        loop {
            if let Some(outcome) = self.reap()? {
                return Ok(blame(outcome, self.input.as_ref()));
            }
            if self.feeder.as_mut().is_some_and(Feeder::wants_more) {
                tell(self.control, &Report::MoreInputs)?;
            }
            self.wait()?;
        }
    }

    /// Waits for something to happen, and deals with zoned and the feeder.
    fn wait(&mut self) -> Result<(), InsideError> {
        let mut watched = vec![
            PollFd::new(self.control.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        if let Some((feeder, pipe)) = self.feeder.as_ref().and_then(|f| Some((f, f.pipe()?))) {
            let writing = if feeder.has_work() { PollFlags::POLLOUT } else { PollFlags::empty() };
            watched.push(PollFd::new(pipe, writing));
        }
        match poll(&mut watched, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(()),
            Err(error) => return call("wait", Err(error)),
        }
        let seen: Vec<PollFlags> =
            watched.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect();
        if !seen[1].is_empty() {
            while call("read SIGCHLD", self.signals.read_signal())?.is_some() {}
        }
        if let (Some(feeder), Some(seen)) = (&mut self.feeder, seen.get(2)) {
            if seen.contains(PollFlags::POLLERR) {
                feeder.close();
            } else if seen.contains(PollFlags::POLLOUT) {
                call("read an input", feeder.feed())?;
            }
        }
        if !seen[0].is_empty() {
            let (order, fds) = receive(self.control)?;
            match (order, &mut self.feeder) {
                (Order::Inputs { end }, Some(feeder)) => feeder.add(fds, end),
                (order, _) => return Err(unexpected(&order, "Inputs for a reducer")),
            }
        }
        Ok(())
    }

    /// Reaps whoever is over; gives the outcome when that was the task.
    fn reap(&mut self) -> Result<Option<Outcome>, InsideError> {
        loop {
            let (pid, how) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => {
                    // exit(2) keeps the lowest eight bits.
                    (pid, Outcome::Exited { code: (code & 0xff) as u8 })
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid, Outcome::Signalled { signal: signal as i32 })
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => return call("reap", Err(error)),
            };
            match &mut self.stage {
                Stage::Exec { pid: task } if *task == pid => return Ok(Some(how)),
                Stage::Init { pid: task, .. } if *task == pid => match how {
                    Outcome::Exited { code: 0 } => self.go_on()?,
                    how => return Ok(Some(Outcome::InitFailed { message: failure(&how) })),
                },
                // An orphan.
                Stage::Init { .. } | Stage::Exec { .. } => {}
            }
        }
    }

    /// `init` is done: `exec` comes.
    fn go_on(&mut self) -> Result<(), InsideError> {
        let done = Stage::Exec { pid: Pid::from_raw(0) };
        if let Stage::Init { then, .. } = std::mem::replace(&mut self.stage, done) {
            (self.stage, self.feeder) = then.start()?;
        }
        Ok(())
    }
}

/// The object once more, to be read when the task fails over it.
fn again(stdin: Option<&OwnedFd>) -> Result<Option<File>, InsideError> {
    let copy = stdin.map(|object| object.try_clone().map(File::from)).transpose();
    call("keep the object open", copy)
}

fn failure(how: &Outcome) -> String {
    match how {
        Outcome::Exited { code } => format!("init exited with code {code}"),
        Outcome::Signalled { signal } => format!("init was ended by signal {signal}"),
        Outcome::InitFailed { message } | Outcome::Broken { message } => message.clone(),
    }
}

impl Exec {
    fn new(
        command: &Command,
        stdin: Option<OwnedFd>,
        fds: Vec<OwnedFd>,
    ) -> Result<Self, InsideError> {
        let [stdout, stderr] = <[OwnedFd; 2]>::try_from(fds).map_err(|fds| {
            let got = format!("{} descriptors", fds.len());
            InsideError::Unexpected { got, expected: "stdout and stderr" }
        })?;
        let environment = command
            .environment
            .iter()
            .map(|(name, value)| CString::new(format!("{name}={value}")).map_err(io::Error::from));
        let environment = call("set the environment", environment.collect())?;
        Ok(Self { line: command.exec.clone(), environment, stdin, stdout, stderr })
    }

    /// Starts `init`, with this to come after it.
    fn after_init(self, line: &str) -> Result<Stage, InsideError> {
        let null =
            call("open /dev/null", File::options().read(true).write(true).open("/dev/null"))?;
        let early = |text: &&CString| !text.to_bytes().starts_with(INPUT_VARIABLES.as_bytes());
        let environment: Vec<&CStr> =
            self.environment.iter().filter(early).map(CString::as_c_str).collect();
        let descriptors = [null.as_fd(), null.as_fd(), self.stderr.as_fd()];
        let pid = shell(line, &environment, &descriptors)?;
        Ok(Stage::Init { pid, then: Box::new(self) })
    }

    /// Starts `exec`. The output's descriptors are closed here once it has them.
    fn start(self) -> Result<(Stage, Option<Feeder>), InsideError> {
        let (stdin, feeder) = match self.stdin {
            Some(object) => (object, None),
            None => {
                let (feeder, reader) = call("make stdin", Feeder::new())?;
                (reader, Some(feeder))
            }
        };
        let environment: Vec<&CStr> = self.environment.iter().map(CString::as_c_str).collect();
        let descriptors = [stdin.as_fd(), self.stdout.as_fd(), self.stderr.as_fd()];
        let pid = shell(&self.line, &environment, &descriptors)?;
        Ok((Stage::Exec { pid }, feeder))
    }
}

/// Runs a command line the way Manta does.
fn shell(
    line: &str,
    environment: &[&CStr],
    descriptors: &[BorrowedFd<'_>],
) -> Result<Pid, InsideError> {
    let line = call("run a command line", CString::new(line).map_err(io::Error::from))?;
    let start = Spawn {
        program: Program::Path(SHELL),
        arguments: &[c"bash", c"--norc", c"-c", &line],
        environment,
        descriptors,
        cgroup: None,
        namespaces: Namespaces::default(),
    };
    // A task has no terminal that a session would be for.
    let started = start_with(&start, &Besides { same_session: true, ..Besides::default() });
    call("start bash", started).map(Pid::from_raw)
}
