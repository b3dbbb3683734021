//! What is run in a standing zone at a person's wish: sessions, each on a terminal or on three pipes.
//!
//! A session is over when its first process is; what that leaves in its process group is killed. When the person
//! goes, one on a terminal is hung up first, as the kernel does to a terminal that is gone, and has a while to end;
//! what left the group (a shell's jobs, daemons) is the zone's own, and decides for itself what SIGHUP is to it.

use super::program;
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use wire::standing::SESSIONS_MAX;
use wire::zone::{Execution, Outcome};

/// How long a session that was hung up may take to end: an editor saves what it has, a shell tells its jobs.
const HANG_UP: Duration = Duration::from_secs(5);

/// What runs, by its first process.
#[derive(Debug, Default)]
pub struct Sessions(BTreeMap<i32, Session>);

#[derive(Debug)]
struct Session {
    number: u64,
    terminal: bool,
    end: End,
}

/// Whether somebody waits for it.
#[derive(Debug)]
enum End {
    /// Somebody does.
    Awaited,
    /// Nobody ever did.
    Unawaited,
    /// Nobody does: it was hung up, and is killed then.
    HungUp(Instant),
    /// It was killed.
    Killed,
}

impl Sessions {
    /// Starts what is to run, in a zone with this log; gives its outcome if that is known at once, because it
    /// does not.
    pub fn start(
        &mut self,
        execution: &Execution,
        zone: &program::Surroundings,
        fds: &[OwnedFd],
        log: BorrowedFd<'_>,
    ) -> Option<Outcome> {
        let broken = |message: &str| Some(Outcome::Broken { message: message.to_owned() });
        let null = File::open("/dev/null");
        let descriptors: Vec<BorrowedFd<'_>> = match (execution.terminal, fds) {
            (false, []) if execution.detached => match &null {
                Ok(null) => vec![null.as_fd(), log, log],
                Err(error) => return broken(&format!("cannot open /dev/null: {error}")),
            },
            (true, [terminal]) => vec![terminal.as_fd(); 3],
            (false, [stdin, stdout, stderr]) => vec![stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
            _ => return broken("other descriptors came than the session needs"),
        };
        if self.0.len() >= SESSIONS_MAX {
            return broken("too many sessions run in the zone");
        }
        let shell = program::login_shell();
        let words = if execution.command.is_empty() { &shell } else { &execution.command };
        match zone.start(words, &execution.environment, &descriptors, execution.terminal) {
            Ok(pid) => {
                let (number, terminal) = (execution.session, execution.terminal);
                let end = if execution.detached { End::Unawaited } else { End::Awaited };
                self.0.insert(pid.as_raw(), Session { number, terminal, end });
                None
            }
            Err(failure) => {
                say(descriptors.last(), &failure.message);
                Some(Outcome::Exited { code: failure.code })
            }
        }
    }

    /// The session whose first process this is, before it is reaped: what is left of it is killed.
    pub fn end(&mut self, pid: Pid) -> Option<u64> {
        let session = self.0.remove(&pid.as_raw())?;
        signal_group(pid, Signal::SIGKILL);
        Some(session.number)
    }

    /// Nobody waits for a session any more: it ends, and is then over like any other.
    pub fn give_up(&mut self, number: u64, now: Instant) {
        for (pid, session) in self.0.iter_mut().filter(|(_, session)| session.number == number) {
            let pid = Pid::from_raw(*pid);
            match session.end {
                End::Awaited if session.terminal => {
                    signal_group(pid, Signal::SIGHUP);
                    // What is stopped hears nothing.
                    signal_group(pid, Signal::SIGCONT);
                    session.end = End::HungUp(now + HANG_UP);
                }
                End::Awaited => session.kill(pid),
                End::Unawaited | End::HungUp(_) | End::Killed => {}
            }
        }
    }

    /// When [`Self::kill_overdue`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let deadline = |session: &Session| match session.end {
            End::HungUp(at) => Some(at),
            End::Awaited | End::Unawaited | End::Killed => None,
        };
        self.0.values().filter_map(deadline).min()
    }

    /// Kills those that were hung up and did not end.
    pub fn kill_overdue(&mut self, now: Instant) {
        for (pid, session) in &mut self.0 {
            if matches!(session.end, End::HungUp(at) if at <= now) {
                session.kill(Pid::from_raw(*pid));
            }
        }
    }

    /// All that run.
    pub fn list(&self) -> Vec<u64> {
        self.0.values().map(|session| session.number).collect()
    }

    /// Those that somebody waits for, or did.
    pub fn awaited(&self) -> Vec<u64> {
        let all = self.0.values().filter(|session| !matches!(session.end, End::Unawaited));
        all.map(|session| session.number).collect()
    }
}

impl Session {
    fn kill(&mut self, pid: Pid) {
        signal_group(pid, Signal::SIGKILL);
        self.end = End::Killed;
    }
}

/// Tells whoever has the session why it is none; there may be nobody any more.
fn say(to: Option<&BorrowedFd<'_>>, message: &str) {
    if let Some(Ok(to)) = to.map(BorrowedFd::try_clone_to_owned) {
        drop(File::from(to).write_all(format!("mobula: {message}\r\n").as_bytes()));
    }
}

fn signal_group(pid: Pid, signal: Signal) {
    match killpg(pid, signal) {
        // EPERM: nobody in it may be signalled by us, for all are zombies.
        Ok(()) | Err(Errno::ESRCH | Errno::EPERM) => {}
        Err(error) => eprintln!("zone-init: cannot send {signal} to the group of {pid}: {error}"),
    }
}
