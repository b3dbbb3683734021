//! Signals as something to read (signalfd(2)) instead of something that interrupts, and signals to others.
#![allow(unsafe_code)]

use nix::sys::signal::{SigSet, Signal as Number};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// A child ended; several may be meant.
    Child,
    /// Interrupt: for PID 1, Ctrl-Alt-Del.
    Interrupt,
    /// Somebody asks for an orderly end.
    Terminate,
    /// Hang-up: for a daemon, read the configuration again.
    Hangup,
    /// Any other of those that were asked for.
    Other(u32),
}

/// Sends a signal by its number, real-time ones included, to one process.
///
/// # Errors
/// What kill(2) says; [`io::ErrorKind::InvalidInput`] for a number that means more than one process.
pub fn send(pid: i32, number: i32) -> io::Result<()> {
    if pid <= 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: kill(2) takes no pointer.
    match unsafe { libc::kill(pid, number) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Signals of this process, read in order.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Takes every signal that can be taken; faults stay with the kernel, for they can't wait. To be
    /// called before the first thread starts.
    ///
    /// # Errors
    /// What sigprocmask(2) and signalfd(2) say.
    pub fn take_all() -> io::Result<Self> {
        let mut taken = SigSet::all();
        for fault in [Number::SIGSEGV, Number::SIGBUS, Number::SIGILL, Number::SIGFPE] {
            taken.remove(fault);
        }
        taken.remove(Number::SIGABRT);
        Self::take(&taken)
    }

    /// Takes the two signals that ask for an end, SIGTERM and SIGINT.
    ///
    /// # Errors
    /// What sigprocmask(2) and signalfd(2) say.
    pub fn take_ends() -> io::Result<Self> {
        let mut taken = SigSet::empty();
        taken.add(Number::SIGTERM);
        taken.add(Number::SIGINT);
        Self::take(&taken)
    }

    /// Takes the two signals that ask for an end, and the one that asks for reading again, SIGHUP.
    ///
    /// # Errors
    /// What sigprocmask(2) and signalfd(2) say.
    pub fn take_ends_and_hangup() -> io::Result<Self> {
        let mut taken = SigSet::empty();
        taken.add(Number::SIGTERM);
        taken.add(Number::SIGINT);
        taken.add(Number::SIGHUP);
        Self::take(&taken)
    }

    fn take(signals: &SigSet) -> io::Result<Self> {
        signals.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self(SignalFd::with_flags(signals, flags)?))
    }

    /// The next signal; none if none waits.
    ///
    /// # Errors
    /// What read(2) says.
    pub fn next(&self) -> io::Result<Option<Signal>> {
        let Some(info) = self.0.read_signal()? else { return Ok(None) };
        let number = info.ssi_signo;
        let is = |signal: Number| number == signal as u32;
        Ok(Some(match number {
            _ if is(Number::SIGCHLD) => Signal::Child,
            _ if is(Number::SIGINT) => Signal::Interrupt,
            _ if is(Number::SIGTERM) => Signal::Terminate,
            _ if is(Number::SIGHUP) => Signal::Hangup,
            _ => Signal::Other(number),
        }))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
