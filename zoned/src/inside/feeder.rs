//! Feeds a reducer's stdin: one input after another into a pipe, page by page, never through memory of
//! this process (sendfile(2)).
//!
//! Runs in the zone's first process, and so on the zone's account. It never waits for the reader: it
//! moves what fits and says what it is waiting for. A reader that closes its end has had enough.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::sendfile::sendfile64;
use nix::unistd::pipe2;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Fewer inputs than this in the queue, and more are asked for: reading goes on while they come.
const LOW_WATER: usize = 4;
/// Bytes the pipe holds: the most that `fs.pipe-max-size` lets anyone have.
const PIPE_BYTES: i32 = 1 << 20;
/// Bytes moved by one call, so that other events get their turn.
const MOVE_BYTES: usize = 1 << 20;

/// The writing end of a reducer's stdin, and what is to go into it.
#[derive(Debug)]
pub struct Feeder {
    pipe: Option<OwnedFd>,
    queue: VecDeque<(OwnedFd, i64)>,
    asked: bool,
    ended: bool,
}

impl Feeder {
    /// A feeder with nothing to feed yet, and the reading end.
    ///
    /// # Errors
    /// What pipe2(2) and fcntl(2) say.
    pub fn new() -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        match fcntl(&writer, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES)) {
            // A smaller pipe is a slower one, no more.
            Ok(_) | Err(Errno::EPERM | Errno::EBUSY) => {}
            Err(error) => return Err(error.into()),
        }
        let feeder =
            Self { pipe: Some(writer), queue: VecDeque::new(), asked: false, ended: false };
        Ok((feeder, reader))
    }

    /// The pipe, as long as it is open.
    #[must_use]
    pub fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Whether there is something to write.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether more inputs should be asked for; says so once until [`Self::add`].
    pub fn wants_more(&mut self) -> bool {
        let wants =
            self.pipe.is_some() && !self.ended && !self.asked && self.queue.len() < LOW_WATER;
        self.asked |= wants;
        wants
    }

    /// Takes more inputs; none follow if `end`.
    pub fn add(&mut self, inputs: Vec<OwnedFd>, end: bool) {
        self.asked = false;
        self.ended |= end;
        if self.pipe.is_some() {
            self.queue.extend(inputs.into_iter().map(|input| (input, 0)));
        }
        self.close_if_done();
    }

    /// Moves what fits into the pipe now.
    ///
    /// # Errors
    /// What sendfile(2) says of an input that cannot be read.
    pub fn feed(&mut self) -> io::Result<()> {
        let Some(pipe) = &self.pipe else { return Ok(()) };
        if let Some((input, offset)) = self.queue.front_mut() {
            match sendfile64(pipe, &*input, Some(offset), MOVE_BYTES) {
                Ok(0) => drop(self.queue.pop_front()),
                Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(Errno::EPIPE) => self.close(),
                Err(error) => return Err(error.into()),
            }
        }
        self.close_if_done();
        Ok(())
    }

    /// Lets go of everything: the reader is gone.
    pub fn close(&mut self) {
        self.pipe = None;
        self.queue.clear();
    }

    fn close_if_done(&mut self) {
        if self.ended && self.queue.is_empty() {
            self.close();
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};

    fn input(bytes: &[u8]) -> OwnedFd {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.into()
    }

    #[test]
    fn inputs_arrive_one_after_another_and_then_the_end() {
        let (mut feeder, reader) = Feeder::new().unwrap();
        assert!(feeder.wants_more());
        assert!(!feeder.wants_more(), "it asks once");
        feeder.add(vec![input(b"one,"), input(b""), input(b"two")], true);
        while feeder.has_work() {
            feeder.feed().unwrap();
        }
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "one,two");
        assert!(feeder.pipe().is_none() && !feeder.wants_more());
    }

    #[test]
    fn no_inputs_at_all_are_an_empty_stdin() {
        let (mut feeder, reader) = Feeder::new().unwrap();
        feeder.add(Vec::new(), true);
        assert_eq!(File::from(reader).read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_pipe_that_is_full_loses_nothing() {
        let (mut feeder, reader) = Feeder::new().unwrap();
        let bytes: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
        feeder.add(vec![input(&bytes)], true);
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            File::from(reader).read_to_end(&mut got).unwrap();
            got
        });
        while feeder.has_work() {
            feeder.feed().unwrap();
        }
        assert!(reader.join().unwrap() == bytes);
    }

    #[test]
    fn a_reader_that_has_had_enough_ends_the_feeding() {
        let (mut feeder, reader) = Feeder::new().unwrap();
        feeder.add(vec![input(b"x"), input(b"y")], false);
        drop(reader);
        feeder.feed().unwrap();
        assert!(!feeder.has_work() && feeder.pipe().is_none() && !feeder.wants_more());
    }
}
