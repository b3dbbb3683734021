//! A bell that wakes a thread which waits on descriptors (`eventfd(2)`).

use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// The bell. Ringing it many times before it is heard is heard once.
#[derive(Debug)]
pub struct Event(EventFd);

impl Event {
    /// Makes one; reading it waits until it is rung.
    pub fn new() -> io::Result<Event> {
        Ok(Event(EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC)?))
    }

    /// Rings it.
    pub fn ring(&self) -> io::Result<()> {
        self.0.write(1)?;
        Ok(())
    }

    /// Waits until it has been rung, and makes it silent.
    pub fn hear(&self) -> io::Result<()> {
        self.0.read()?;
        Ok(())
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
