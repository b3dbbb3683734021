//! The part of a response that is a part of a file: sent by sendfile(2) in slices while its pages are in memory, and read
//! ahead by a thread that may wait where they are not.

use super::FileRange;
use super::limits::{READ_AHEAD_BYTES, SEALED_SLICE_BYTES, SLICE_BYTES};
use super::read_ahead::Outcome;
use super::sending::{Line, Progress};
use super::worker::{For, Hands, token};
use bytes::Bytes;
use std::io;
use std::sync::Arc;
use std::task::Wake;
use sys::ring::{Descriptor, Operation};
use sys::transfer::{self, Moved};

/// A part of a file on its way.
pub(super) struct File {
    pub(super) file: Descriptor,
    pub(super) at: u64,
    /// Bytes that are still to come.
    pub(super) left: u64,
    /// Up to where the pages are known to be in memory.
    pub(super) warm_until: u64,
    pub(super) waits: FileWaits,
}

/// What has to happen before it goes on.
pub(super) enum FileWaits {
    No,
    ForSocket(Operation),
    ForDisk(Outcome),
}

impl File {
    pub(super) fn new(range: FileRange) -> File {
        let FileRange { file, offset, length } = range;
        File { file, at: offset, left: length, warm_until: offset, waits: FileWaits::No }
    }

    /// Whether a slice may be read without waiting for the disk; how long it is.
    fn warm(&mut self, slice: u64, line: &Line<'_>, hands: &mut Hands) -> Result<u64, Progress> {
        match &self.waits {
            FileWaits::No => {}
            FileWaits::ForSocket(_) => return Err(Progress::Waits),
            FileWaits::ForDisk(outcome) => match outcome.get() {
                None => return Err(Progress::Waits),
                Some(Err(e)) => {
                    log::error!("can't read an object: {e}");
                    return Err(Progress::Failed);
                }
                Some(Ok(())) => self.waits = FileWaits::No,
            },
        }
        let slice = self.left.min(slice);
        if self.at >= self.warm_until {
            if !transfer::is_cached(&self.file, self.at, slice) {
                self.order(line, hands);
                return Err(Progress::Waits);
            }
            // Once a slice: the socket takes it in parts, and the kernel counts pages for the answer.
            self.warm_until = self.at + slice;
        }
        // No further than is known, so that what is left of a slice does not ask about the next one.
        Ok(slice.min(self.warm_until - self.at))
    }

    /// Has what comes next read from the disk.
    fn order(&mut self, line: &Line<'_>, hands: &mut Hands) {
        let length = self.left.min(READ_AHEAD_BYTES);
        self.warm_until = self.at + length;
        let file = Arc::clone(&self.file);
        let outcome = hands.ahead.order(file, self.at, length, Arc::clone(line.waker));
        self.waits = FileWaits::ForDisk(outcome);
    }

    /// The next bytes, for who has to touch them before they are sent.
    pub(super) fn read_on(
        &mut self,
        line: &Line<'_>,
        hands: &mut Hands,
    ) -> Result<Bytes, Progress> {
        let slice = self.warm(SEALED_SLICE_BYTES, line, hands)?;
        let mut buffer = vec![0; slice as usize];
        match transfer::read_cached(&self.file, self.at, &mut buffer) {
            Ok(Moved::Bytes(0)) => {
                log::error!("an object's file is shorter than its record says");
                Err(Progress::Failed)
            }
            Ok(Moved::Bytes(read)) => {
                buffer.truncate(read);
                self.at += read as u64;
                self.left -= read as u64;
                Ok(buffer.into())
            }
            Ok(Moved::WouldWait) => {
                // Evicted since it was warm.
                self.order(line, hands);
                Err(Progress::Waits)
            }
            Err(e) => {
                log::error!("can't read an object: {e}");
                Err(Progress::Failed)
            }
        }
    }

    /// Sends the next bytes, in the kernel alone.
    pub(super) fn go_on(&mut self, name: u64, line: &Line<'_>, hands: &mut Hands) -> Progress {
        let (socket, waker) = (line.socket, line.waker);
        let slice = match self.warm(SLICE_BYTES, line, hands) {
            Ok(slice) => slice,
            Err(progress) => return progress,
        };
        match transfer::send_file(socket, &self.file, self.at, slice as usize) {
            Ok(Moved::Bytes(0)) => {
                log::error!("an object's file is shorter than its record says");
                Progress::Failed
            }
            Ok(Moved::Bytes(sent)) => {
                self.at += sent as u64;
                self.left -= sent as u64;
                if self.left == 0 {
                    return Progress::Done;
                }
                // Others first.
                waker.wake_by_ref();
                Progress::Waits
            }
            Ok(Moved::WouldWait) => {
                let token = token(For::Poll, name);
                let poll = hands.ring.poll_writable(Arc::clone(socket), token);
                self.waits = FileWaits::ForSocket(poll);
                Progress::Waits
            }
            Err(e) => {
                let gone = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
                if !gone.contains(&e.kind()) {
                    // The client sees its response cut; a damaged page is refused by the kernel here.
                    log::error!("can't send an object: {e}");
                }
                Progress::Failed
            }
        }
    }
}
