//! A standing zone from within: its command, started again if it is to be, its sessions and its log.
//!
//! One poll loop in PID 1 of the zone. It lives on while zoned is away, for init keeps zoned's end of the
//! control socket; it ends when told to, when a command ends that is not to be started again, or when
//! nobody at all has the other end.
//!
//! ```text
//!   Idle (no command) ─────────────────Terminate──▶ over
//!   Running ──ended──▶ Waiting ──delay──▶ Running    (restart)
//!      └──ended, no restart, or Terminate──▶ over ──▶ kill and reap all ──▶ Over ──acknowledged──▶ end
//! ```

use super::log::Log;
use super::program::Surroundings;
use super::publish::Counter;
use super::session::Sessions;
use super::{InsideError, build, call, empty_zone, finish, privileges, receive, tell, unexpected};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use sys::seqpacket::Socket;
use sys::signal;
use wire::frame::Refusal;
use wire::standing::Published;
use wire::zone::{Execution, OUTPUT, Order, Outcome, Report, StandingPlan};

/// The first delay before a command is started again, doubled each time up to the last.
const DELAY_MS_MIN: u64 = 100;
const DELAY_MS_MAX: u64 = 30_000;
/// A command that ran so long starts again without having failed before.
const STABLE: Duration = Duration::from_secs(30);
/// Processes reaped before other events have their turn.
const REAPED: usize = 1024;

/// How long a command that ended too soon `failures` times in a row waits.
const fn delay_ms(failures: u32) -> u64 {
    let doublings = if failures > 20 { 20 } else { failures };
    let delay = DELAY_MS_MIN << doublings;
    if delay > DELAY_MS_MAX { DELAY_MS_MAX } else { delay }
}

/// Where the command is.
#[derive(Debug)]
enum Life {
    /// There is none.
    Idle,
    /// It runs.
    Running { pid: Pid, since: Instant },
    /// It is started again.
    Waiting { until: Instant },
}

struct Standing<'a> {
    control: &'a Socket,
    signals: SignalFd,
    log: Log,
    /// Where its programs ask for a publication; none without an output.
    counter: Option<Counter>,
    zone: Surroundings,
    command: Vec<String>,
    restart: bool,
    life: Life,
    failures: u32,
    restarts: u32,
    last_outcome: Option<Outcome>,
    stop_signal: i32,
    terminating: bool,
    sessions: Sessions,
}

/// Makes the zone and stays in it.
pub(super) fn run(
    control: &Socket,
    plan: StandingPlan,
    image: OwnedFd,
    fds: Vec<OwnedFd>,
) -> Result<(), InsideError> {
    let mut fds = fds.into_iter();
    let (Some(users), Some(network), Some(first), Some(second)) =
        (fds.next(), fds.next(), fds.next(), fds.next())
    else {
        let got = "too few descriptors".to_owned();
        return Err(InsideError::Unexpected { got, expected: "two namespaces and two files" });
    };
    let mounts: Vec<OwnedFd> = fds.collect();
    let missing =
        build::build_standing(&plan, image.as_fd(), users.as_fd(), network.as_fd(), &mounts)?;
    let has_output = plan.mounts.iter().any(|path| path == OUTPUT);
    let counter = has_output.then(Counter::open).transpose()?;
    privileges::give_up(users.as_fd(), privileges::Kind::Standing)?;
    drop((users, network, image, mounts));
    let mut child = SigSet::empty();
    child.add(Signal::SIGCHLD);
    call("block SIGCHLD", child.thread_block())?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let StandingPlan { command, restart, environment, directory, user, stop_signal, .. } = plan;
    let mut standing = Standing {
        control,
        counter,
        signals: call("watch for SIGCHLD", SignalFd::with_flags(&child, flags))?,
        log: call("make the log", Log::new([first, second]))?,
        zone: Surroundings { environment, directory, user },
        command,
        restart,
        life: Life::Idle,
        failures: 0,
        restarts: 0,
        last_outcome: None,
        stop_signal,
        terminating: false,
        sessions: Sessions::default(),
    };
    missing.iter().for_each(|line| standing.log.say(line));
    let over = standing.start()?;
    tell(control, &Report::Started)?;
    let outcome = match over {
        Some(outcome) => outcome,
        None => standing.stay()?,
    };
    standing.end(&outcome)
}

impl Standing<'_> {
    /// Runs until there is an outcome.
    fn stay(&mut self) -> Result<Outcome, InsideError> {
        loop {
            let busy = match self.reap()? {
                Reaped::Over(outcome) => return Ok(outcome),
                Reaped::Some => true,
                Reaped::All => false,
            };
            let now = Instant::now();
            self.sessions.kill_overdue(now);
            if let Life::Waiting { until } = self.life
                && until <= now
                && let Some(outcome) = self.start()?
            {
                return Ok(outcome);
            }
            if let Some(outcome) = self.wait(busy)? {
                return Ok(outcome);
            }
        }
    }

    /// Starts the command, if there is one; gives the outcome if that was all.
    fn start(&mut self) -> Result<Option<Outcome>, InsideError> {
        if self.command.is_empty() {
            return Ok(None);
        }
        let null = call("open /dev/null", File::open("/dev/null"))?;
        let descriptors = [null.as_fd(), self.log.writer(), self.log.writer()];
        match self.zone.start(&self.command, &[], &descriptors, false) {
            Ok(pid) => {
                self.life = Life::Running { pid, since: Instant::now() };
                Ok(None)
            }
            Err(failure) => {
                self.log.say(&failure.message);
                self.ended(Outcome::Exited { code: failure.code }, Duration::ZERO)
            }
        }
    }

    /// The command has ended: it starts again later, or all is over.
    fn ended(&mut self, outcome: Outcome, ran: Duration) -> Result<Option<Outcome>, InsideError> {
        if !self.restart || self.terminating {
            return Ok(Some(outcome));
        }
        self.failures = if ran >= STABLE { 0 } else { self.failures.saturating_add(1) };
        self.restarts = self.restarts.saturating_add(1);
        self.last_outcome = Some(outcome.clone());
        let delay = Duration::from_millis(delay_ms(self.failures.saturating_sub(1)));
        self.life = Life::Waiting { until: Instant::now() + delay };
        tell(self.control, &Report::Restarted { outcome })?;
        Ok(None)
    }

    /// Waits for something to happen and deals with all but the end of processes.
    fn wait(&mut self, busy: bool) -> Result<Option<Outcome>, InsideError> {
        let watch = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut watched = vec![
            watch(self.control.as_fd()),
            watch(self.signals.as_fd()),
            watch(self.log.reader()),
        ];
        watched.extend(self.counter.iter().flat_map(Counter::watched).map(watch));
        match poll(&mut watched, self.timeout(busy)) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(None),
            Err(error) => return call("wait", Err(error)),
        }
        let seen = |fd: &PollFd<'_>| fd.revents().is_some_and(|seen| !seen.is_empty());
        let seen: Vec<bool> = watched.iter().map(seen).collect();
        if seen[1] {
            while call("read SIGCHLD", self.signals.read_signal())?.is_some() {}
        }
        if seen[2] {
            call("read the log's pipe", self.log.take())?;
        }
        let wish = self.counter.as_mut().and_then(|counter| counter.serve(&seen[3..]));
        self.tell_wish(wish)?;
        if seen[0] {
            let (order, fds) = receive(self.control)?;
            return self.obey(order, &fds);
        }
        Ok(None)
    }

    /// How long nothing needs to be done unless something happens.
    fn timeout(&self, busy: bool) -> PollTimeout {
        if busy {
            return PollTimeout::ZERO;
        }
        let restart = match self.life {
            Life::Waiting { until } => Some(until),
            Life::Idle | Life::Running { .. } => None,
        };
        let Some(at) = [restart, self.sessions.deadline()].into_iter().flatten().min() else {
            return PollTimeout::NONE;
        };
        let left = at.saturating_duration_since(Instant::now()).as_millis() + 1;
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    }

    fn obey(&mut self, order: Order, fds: &[OwnedFd]) -> Result<Option<Outcome>, InsideError> {
        match order {
            Order::Exec(execution) => self.execute(&execution, fds)?,
            Order::EndSession { session } => self.sessions.give_up(session, Instant::now()),
            Order::Who => self.introduce()?,
            Order::Published { wish, published } => self.answer(wish, &Ok(published))?,
            Order::NotPublished { wish, refusal } => self.answer(wish, &Err(refusal))?,
            Order::Terminate => return self.terminate(),
            order => return Err(unexpected(&order, "an order for a standing zone")),
        }
        Ok(None)
    }

    fn execute(&mut self, execution: &Execution, fds: &[OwnedFd]) -> Result<(), InsideError> {
        let session = execution.session;
        match self.sessions.start(execution, &self.zone, fds, self.log.writer()) {
            None => Ok(()),
            Some(outcome) => tell(self.control, &Report::SessionOver { session, outcome }),
        }
    }

    /// Tells a zoned that was started again what it does not know.
    fn introduce(&self) -> Result<(), InsideError> {
        let report = Report::Standing {
            restarts: self.restarts,
            last_outcome: self.last_outcome.clone(),
            sessions: self.sessions.awaited(),
        };
        tell(self.control, &report)?;
        self.tell_wish(self.counter.as_ref().and_then(Counter::asked))
    }

    fn answer(
        &mut self,
        wish: u64,
        answer: &Result<Published, Refusal>,
    ) -> Result<(), InsideError> {
        let next = self.counter.as_mut().and_then(|counter| counter.answer(wish, answer));
        self.tell_wish(next)
    }

    fn tell_wish(&self, wish: Option<u64>) -> Result<(), InsideError> {
        wish.map_or(Ok(()), |wish| tell(self.control, &Report::Publish { wish }))
    }

    /// Tells the command to end; without one, all is over at once.
    fn terminate(&mut self) -> Result<Option<Outcome>, InsideError> {
        self.terminating = true;
        match self.life {
            Life::Running { pid, .. } => match signal::send(pid.as_raw(), self.stop_signal) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                    call("tell the command to end", Err(error))
                }
                _ => Ok(None),
            },
            Life::Idle | Life::Waiting { .. } => {
                Ok(Some(self.last_outcome.clone().unwrap_or(Outcome::Exited { code: 0 })))
            }
        }
    }

    /// Reaps whoever is over.
    fn reap(&mut self) -> Result<Reaped, InsideError> {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        for _ in 0..REAPED {
            // Seen first and reaped later: until then nobody else can have its number.
            let pid = match waitid(Id::All, look) {
                Ok(status) => match status.pid() {
                    Some(pid) => pid,
                    None => return Ok(Reaped::All),
                },
                Err(Errno::ECHILD) => return Ok(Reaped::All),
                Err(Errno::EINTR) => continue,
                Err(error) => return call("see who is over", Err(error)),
            };
            let session = self.sessions.end(pid);
            let outcome = match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                // exit(2) keeps the lowest eight bits.
                Ok(WaitStatus::Exited(_, code)) => Outcome::Exited { code: (code & 0xff) as u8 },
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    Outcome::Signalled { signal: signal as i32 }
                }
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => return call("reap", Err(error)),
            };
            if let Some(session) = session {
                tell(self.control, &Report::SessionOver { session, outcome })?;
            } else if let Life::Running { pid: command, since } = self.life
                && command == pid
                && let Some(outcome) = self.ended(outcome, since.elapsed())?
            {
                return Ok(Reaped::Over(outcome));
            }
        }
        Ok(Reaped::Some)
    }

    /// Nothing but this process is left, and all that was written is in the log.
    fn end(mut self, outcome: &Outcome) -> Result<(), InsideError> {
        call("kill the zone's processes", empty_zone())?;
        while call("read the log's pipe", self.log.take())? {}
        for session in self.sessions.list() {
            let outcome = Outcome::Signalled { signal: libc::SIGKILL };
            tell(self.control, &Report::SessionOver { session, outcome })?;
        }
        finish(self.control, outcome)
    }
}

/// What was reaped.
enum Reaped {
    /// The last process that matters.
    Over(Outcome),
    /// Some, and more may be over.
    Some,
    /// All that were over.
    All,
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_delay_grows_to_half_a_minute() {
        let delays: Vec<u64> = (0..11).map(delay_ms).collect();
        assert_eq!(delays[..4], [100, 200, 400, 800]);
        assert_eq!(delays[9..], [30_000, 30_000]);
        assert_eq!(delay_ms(u32::MAX), DELAY_MS_MAX);
    }
}
