//! What is run in a standing zone at a person's wish: sessions, each on a terminal or on three pipes.
//!
//! A session is over when its first process is; what that leaves in its process group is killed.

use super::program;
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use wire::standing::SESSIONS_MAX;
use wire::zone::{Execution, Outcome};

/// What runs.
#[derive(Debug, Default)]
pub struct Sessions(BTreeMap<i32, u64>);

impl Sessions {
    /// Starts what is to run; gives its outcome if that is known at once, because it does not.
    pub fn start(
        &mut self,
        execution: &Execution,
        zone: &program::Surroundings,
        fds: &[OwnedFd],
    ) -> Option<Outcome> {
        let broken = |message: &str| Some(Outcome::Broken { message: message.to_owned() });
        let descriptors: Vec<BorrowedFd<'_>> = match (execution.terminal, fds) {
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
                self.0.insert(pid.as_raw(), execution.session);
                None
            }
            Err(failure) => {
                say(fds.last(), &failure.message);
                Some(Outcome::Exited { code: failure.code })
            }
        }
    }

    /// The session whose first process this is, before it is reaped: what is left of it is killed.
    pub fn end(&mut self, pid: Pid) -> Option<u64> {
        let session = self.0.remove(&pid.as_raw())?;
        kill_group(pid);
        Some(session)
    }

    /// Kills a session, which is then over like any other.
    pub fn kill(&self, session: u64) {
        let of_it = self.0.iter().filter(|(_, known)| **known == session);
        of_it.for_each(|(pid, _)| kill_group(Pid::from_raw(*pid)));
    }

    /// All that run.
    pub fn list(&self) -> Vec<u64> {
        self.0.values().copied().collect()
    }
}

/// Tells whoever has the session why it is none; there may be nobody any more.
fn say(to: Option<&OwnedFd>, message: &str) {
    if let Some(Ok(to)) = to.map(OwnedFd::try_clone) {
        drop(File::from(to).write_all(format!("mobula: {message}\r\n").as_bytes()));
    }
}

fn kill_group(pid: Pid) {
    match killpg(pid, Signal::SIGKILL) {
        // EPERM: nobody in it may be killed by us, for all are zombies.
        Ok(()) | Err(Errno::ESRCH | Errno::EPERM) => {}
        Err(error) => eprintln!("zone-init: cannot kill the group of {pid}: {error}"),
    }
}
