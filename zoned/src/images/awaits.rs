//! What zones of an image wait for: that storaged shows one that was imported, that the prefetcher has read it. One that
//! cannot be had is waited for no longer than until that is known.

use super::{ImageError, Images};
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// What zones of an image wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaits {
    /// storaged, which has it.
    Mount,
    /// The prefetcher, which reads it.
    ReadAhead,
}

impl Images {
    /// What zones of an image wait for before they start: storaged to show it, or what they share of it to be in
    /// memory and paid for.
    pub(crate) fn awaits(&mut self, name: &str) -> Option<Awaits> {
        if !self.is_mounted(name) {
            match self.get(name) {
                Ok(_) => {}
                Err(ImageError::Waiting { .. }) => return Some(Awaits::Mount),
                // One that can't be mounted is told when the zone is started.
                Err(_) => return None,
            }
        }
        if self.ahead.is_settled(name) {
            return None;
        }
        self.tend();
        self.ahead.is_awaited(name, Instant::now()).then_some(Awaits::ReadAhead)
    }

    /// Has storaged asked once more for an image that it did not show.
    pub(crate) fn ask_again(&mut self, name: &str) {
        if self.refused.remove(name).is_some() {
            self.asked.remove(name);
        }
    }

    /// An imported image cannot be had: zones of it need not wait.
    pub(super) fn refuse(&mut self, name: &str, why: String) {
        eprintln!("zoned: the image {name} cannot be used: {why}");
        self.refused.insert(name.to_owned(), why);
    }

    /// Readable when an image that zones may wait for is read.
    pub(crate) fn awaited(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.ahead.awaited(Instant::now())
    }
}
