//! The one wait of a loop: poll(2).

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::BorrowedFd;

/// What is waited for on a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// Something to read, or an end.
    Input,
    /// Room to write.
    Output,
}

/// Waits until one of the descriptors has what is waited for, an error or a hang-up, or until the time
/// is up; says which have. An interruption by a signal counts as time up.
///
/// # Errors
/// What poll(2) says.
pub fn wait(fds: &[(BorrowedFd<'_>, For)], timeout_ms: Option<u64>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> = fds
        .iter()
        .map(|(fd, what)| {
            let flags = match what {
                For::Input => PollFlags::POLLIN,
                For::Output => PollFlags::POLLOUT,
            };
            PollFd::new(*fd, flags)
        })
        .collect();
    let timeout = match timeout_ms {
        None => PollTimeout::NONE,
        Some(ms) => PollTimeout::try_from(ms.min(i32::MAX as u64)).unwrap_or(PollTimeout::MAX),
    };
    match poll(&mut polled, timeout) {
        Ok(_) => Ok(polled.iter().map(|one| one.any().unwrap_or(true)).collect()),
        Err(Errno::EINTR) => Ok(vec![false; fds.len()]),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_ready_is_told_from_what_is_not() {
        let (empty, _writer) = nix::unistd::pipe().unwrap();
        let (_reader, room) = nix::unistd::pipe().unwrap();
        let ready = wait(&[(empty.as_fd(), For::Input), (room.as_fd(), For::Output)], Some(0));
        assert_eq!(ready.unwrap(), [false, true]);
    }

    #[test]
    fn a_hang_up_counts_as_input() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        drop(writer);
        assert_eq!(wait(&[(reader.as_fd(), For::Input)], Some(0)).unwrap(), [true]);
    }
}
