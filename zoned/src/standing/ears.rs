//! Ears for the first processes of standing zones: one descriptor for the daemon's poll, however many there are.
//!
//! poll(2) looks at every descriptor each time it is called, and most zones have nothing to say for hours;
//! epoll(7) looks at those that have. What is listened to has to be taken out again before it is closed: init
//! keeps copies of these descriptors, and the kernel would go on telling of them.

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// First processes that are heard in one turn of the daemon; the others have the next.
const HEARD_MAX: usize = 64;

/// What may be heard of a zone, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ear {
    /// Words of its first process.
    Control(u32),
    /// That this has ended.
    Process(u32),
}

impl Ear {
    const fn pack(self) -> u64 {
        match self {
            Self::Control(number) => (number as u64) << 1,
            Self::Process(number) => (number as u64) << 1 | 1,
        }
    }

    fn unpack(token: u64) -> Self {
        // What was packed here is a number of 32 bits.
        let number = u32::try_from(token >> 1).unwrap_or(u32::MAX);
        if token & 1 == 0 { Self::Control(number) } else { Self::Process(number) }
    }
}

/// All ears.
#[derive(Debug)]
pub(super) struct Ears(Epoll);

impl Ears {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Listens from now on.
    pub(super) fn listen(&self, ear: Ear, to: BorrowedFd<'_>) -> io::Result<()> {
        Ok(self.0.add(to, EpollEvent::new(EpollFlags::EPOLLIN, ear.pack()))?)
    }

    /// Listens no more.
    pub(super) fn ignore(&self, what: BorrowedFd<'_>) {
        match self.0.delete(what) {
            // It was not listened to.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => eprintln!("zoned: cannot stop listening to a zone: {error}"),
        }
    }

    /// What there is to be heard now.
    pub(super) fn heard(&self) -> io::Result<Vec<Ear>> {
        let mut events = [EpollEvent::empty(); HEARD_MAX];
        let count = self.0.wait(&mut events, EpollTimeout::ZERO)?;
        Ok(events[..count].iter().map(|event| Ear::unpack(event.data())).collect())
    }
}

impl AsFd for Ears {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn who_speaks_is_heard_until_he_is_ignored_though_somebody_else_keeps_a_copy() {
        let ears = Ears::new().unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let (quiet, _open) = nix::unistd::pipe().unwrap();
        ears.listen(Ear::Control(7), reader.as_fd()).unwrap();
        ears.listen(Ear::Process(u32::MAX), quiet.as_fd()).unwrap();
        assert_eq!(ears.heard().unwrap(), []);
        nix::unistd::write(&writer, b"word").unwrap();
        assert_eq!(ears.heard().unwrap(), [Ear::Control(7)]);
        let copy = reader.try_clone().unwrap();
        ears.ignore(reader.as_fd());
        drop(reader);
        assert_eq!(ears.heard().unwrap(), []);
        drop((copy, _open));
        assert_eq!(ears.heard().unwrap(), [Ear::Process(u32::MAX)]);
    }
}
