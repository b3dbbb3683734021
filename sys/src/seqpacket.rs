//! `SOCK_SEQPACKET` Unix sockets that carry whole messages and file descriptors beside them.
//!
//! unix(7), sendmsg(2), recvmsg(2). A message arrives whole or not at all, in order, and a peer that goes
//! away is seen as an end of file. Descriptors arrive close-on-exec, and every one that the kernel gave
//! us is owned, also when the message is then refused: none can leak.
#![allow(unsafe_code)]

mod rights;

use self::rights::{CONTROL_BYTES, ControlBuffer, control_space, take_rights, write_rights};
use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The most descriptors that one message may carry here; the kernel's own limit is 253.
pub const FDS_MAX: usize = 16;
/// The most bytes that one message may have here.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// What can go wrong with a socket.
#[derive(Debug, Error)]
pub enum SocketError {
    /// A path that does not fit `sockaddr_un` (107 bytes).
    #[error("{} is too long for a socket's name: 107 bytes at most", path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// A call failed.
    #[error("cannot {act} {}", path.display())]
    Call {
        /// What was tried: "bind", "connect to".
        act: &'static str,
        /// The socket's path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Why a message was not sent.
#[derive(Debug, Error)]
pub enum SendError {
    /// The peer does not keep up: a non-blocking socket's buffer is full.
    #[error("the peer does not keep up: the socket is full")]
    Full,
    /// The peer is gone.
    #[error("the peer has closed the connection")]
    Closed,
    /// More than [`FDS_MAX`] descriptors or [`MESSAGE_BYTES_MAX`] bytes.
    #[error("a message of {bytes} bytes and {fds} descriptors is over the limit")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// Its descriptors.
        fds: usize,
    },
    /// The kernel says otherwise.
    #[error("cannot send a message")]
    Io(#[source] io::Error),
}

/// Why no message was received.
#[derive(Debug, Error)]
pub enum RecvError {
    /// Nothing is there yet, on a non-blocking socket.
    #[error("no message is waiting")]
    Empty,
    /// A message, or the descriptors beside it, did not fit: the peer breaks the limits.
    #[error("a message over {MESSAGE_BYTES_MAX} bytes or {FDS_MAX} descriptors came")]
    Truncated,
    /// The kernel says otherwise.
    #[error("cannot receive a message")]
    Io(#[source] io::Error),
}

/// Who is at the other end, as of connect(2) (`SO_PEERCRED`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// Its process.
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

/// A socket that waits for peers.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// A connection.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> Self {
        listener.0
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> Self {
        socket.0
    }
}

impl From<OwnedFd> for Socket {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

/// Turns -1 into the error that errno holds.
fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn new_socket() -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes no pointer.
    let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0) };
    check(fd as isize)?;
    // SAFETY: the call just gave us `fd`, open and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn address(path: &Path) -> Result<(libc::sockaddr_un, libc::socklen_t), SocketError> {
    // SAFETY: sockaddr_un is plain integers, for which all zeros is a value.
    let mut address: libc::sockaddr_un = unsafe { zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= address.sun_path.len() {
        return Err(SocketError::PathTooLong { path: path.to_owned() });
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    Ok((address, size_of::<libc::sockaddr_un>() as libc::socklen_t))
}

impl Listener {
    /// Makes a socket at `path`, removes what an earlier process left there, and listens.
    ///
    /// The file gets `mode`; whoever may write to it may connect.
    ///
    /// # Errors
    /// [`SocketError`], with the step that failed.
    pub fn bind(path: &Path, mode: u32) -> Result<Self, SocketError> {
        let call = |act| move |source| SocketError::Call { act, path: path.to_owned(), source };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(call("replace")(error));
            }
            _ => {}
        }
        let (address, length) = address(path)?;
        let socket = new_socket().map_err(call("make the socket"))?;
        // SAFETY: `address` is a sockaddr_un of `length` bytes and outlives the call.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        check(bound as isize).map_err(call("bind"))?;
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(path, permissions).map_err(call("set the mode of"))?;
        // SAFETY: listen(2) takes no pointer.
        let listening = unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) };
        check(listening as isize).map_err(call("listen at"))?;
        Ok(Self(socket))
    }

    /// Takes a listening socket made elsewhere, by init for instance.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Takes the next connection; none if nobody waits and the listener is non-blocking.
    ///
    /// # Errors
    /// What accept4(2) says, but for an interruption or a peer that went away first.
    pub fn accept(&self) -> io::Result<Option<Socket>> {
        loop {
            // SAFETY: accept4(2) may be given null for an address nobody wants.
            let fd = unsafe {
                libc::accept4(
                    self.0.as_raw_fd(),
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                    libc::SOCK_CLOEXEC,
                )
            };
            match check(fd as isize) {
                // SAFETY: the call just gave us `fd`, open and owned by nobody else.
                Ok(_) => return Ok(Some(Socket(unsafe { OwnedFd::from_raw_fd(fd) }))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ECONNABORTED)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes [`Self::accept`] return at once when nobody waits.
    ///
    /// # Errors
    /// What fcntl(2) says.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        set_nonblocking(self.0.as_fd())
    }
}

impl Socket {
    /// Connects to whoever listens at `path`.
    ///
    /// # Errors
    /// [`SocketError::Call`] with ENOENT or ECONNREFUSED if nobody does.
    pub fn connect(path: &Path) -> Result<Self, SocketError> {
        let (address, length) = address(path)?;
        let call = |act| move |source| SocketError::Call { act, path: path.to_owned(), source };
        let socket = new_socket().map_err(call("make a socket for"))?;
        // SAFETY: `address` is a sockaddr_un of `length` bytes and outlives the call.
        let done =
            unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) };
        check(done as isize).map_err(call("connect to"))?;
        Ok(Self(socket))
    }

    /// Two sockets connected to each other.
    ///
    /// # Errors
    /// What socketpair(2) says.
    pub fn pair() -> io::Result<(Self, Self)> {
        let mut fds = [-1; 2];
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        // SAFETY: `fds` has room for the two descriptors that the call writes.
        let made = unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) };
        check(made as isize)?;
        // SAFETY: the call just gave us the first descriptor, owned by nobody else.
        let one = unsafe { OwnedFd::from_raw_fd(fds[0]) };
        // SAFETY: the same holds for the second.
        let other = unsafe { OwnedFd::from_raw_fd(fds[1]) };
        Ok((Self(one), Self(other)))
    }

    /// Sends one message with descriptors beside it; the peer gets copies of them.
    ///
    /// # Errors
    /// [`SendError`]. Nothing was sent then: a message goes whole or not at all.
    pub fn send(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        if fds.len() > FDS_MAX || message.len() > MESSAGE_BYTES_MAX {
            return Err(SendError::TooLarge { bytes: message.len(), fds: fds.len() });
        }
        let mut part =
            libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
        let mut control = ControlBuffer::new();
        // SAFETY: msghdr is plain integers and pointers, for which all zeros is a value.
        let mut header: libc::msghdr = unsafe { zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        if !fds.is_empty() {
            header.msg_control = control.as_mut_ptr();
            header.msg_controllen = control_space(fds.len());
            write_rights(&header, fds);
        }
        loop {
            // SAFETY: `header` points to `part`, which points to `message`, and to `control`; all three
            // outlive the call, and sendmsg(2) writes to none of them.
            let sent =
                unsafe { libc::sendmsg(self.0.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
            let Err(error) = check(sent) else { return Ok(()) };
            return Err(match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::EAGAIN) => SendError::Full,
                Some(libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN) => SendError::Closed,
                _ => SendError::Io(error),
            });
        }
    }

    /// Waits for a message; how long it is, or 0 if the peer is gone.
    fn waiting_bytes(&self) -> Result<usize, RecvError> {
        let flags = libc::MSG_PEEK | libc::MSG_TRUNC;
        loop {
            // SAFETY: a buffer of no bytes is written to by nobody; MSG_TRUNC has the call tell the whole
            // length all the same.
            let got = unsafe { libc::recv(self.0.as_raw_fd(), std::ptr::null_mut(), 0, flags) };
            let Err(error) = check(got) else { return Ok(got as usize) };
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EAGAIN) => return Err(RecvError::Empty),
                Some(libc::ECONNRESET) => return Ok(0),
                _ => return Err(RecvError::Io(error)),
            }
        }
    }

    /// Receives one message into `message`, and the descriptors beside it; none if the peer is gone.
    ///
    /// # Errors
    /// [`RecvError`]. What came is lost then, and its descriptors are closed.
    pub fn recv(&self, message: &mut Vec<u8>) -> Result<Option<Vec<OwnedFd>>, RecvError> {
        // Room for what waits and no more: to fill the largest message with zeros first costs more than
        // most messages.
        let waiting = self.waiting_bytes()?;
        message.clear();
        message.resize(waiting.clamp(1, MESSAGE_BYTES_MAX), 0);
        let mut part =
            libc::iovec { iov_base: message.as_mut_ptr().cast(), iov_len: message.len() };
        let mut control = ControlBuffer::new();
        // SAFETY: msghdr is plain integers and pointers, for which all zeros is a value.
        let mut header: libc::msghdr = unsafe { zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr();
        header.msg_controllen = CONTROL_BYTES;
        let got = loop {
            // SAFETY: `header` points to `part` and `control`, both live and writable for the lengths
            // given, and to the bytes of `message`, which nothing else borrows during the call.
            let got = unsafe {
                libc::recvmsg(self.0.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC)
            };
            match check(got) {
                Ok(got) => break got,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::EAGAIN) => return Err(RecvError::Empty),
                    Some(libc::ECONNRESET) => return Ok(None),
                    _ => return Err(RecvError::Io(error)),
                },
            }
        };
        let fds = take_rights(&header);
        if header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
            return Err(RecvError::Truncated);
        }
        message.truncate(got);
        // A peer's shutdown is a read of nothing; no message of ours is empty.
        if got == 0 && fds.is_empty() { Ok(None) } else { Ok(Some(fds)) }
    }

    /// Makes [`Self::send`] and [`Self::recv`] return at once instead of waiting.
    ///
    /// # Errors
    /// What fcntl(2) says.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        set_nonblocking(self.0.as_fd())
    }

    /// Who connected, as the kernel noted it then.
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub fn peer(&self) -> io::Result<Credentials> {
        let mut found = MaybeUninit::<libc::ucred>::uninit();
        let mut length = size_of::<libc::ucred>() as libc::socklen_t;
        // SAFETY: `found` has room for `length` bytes, the size of the ucred that SO_PEERCRED writes.
        let done = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERCRED,
                found.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        check(done as isize)?;
        // SAFETY: the call succeeded, so it wrote a whole ucred.
        let found = unsafe { found.assume_init() };
        Ok(Credentials { pid: found.pid, uid: found.uid, gid: found.gid })
    }
}

fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: F_GETFL takes no further argument.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    check(flags as isize)?;
    // SAFETY: F_SETFL takes an integer.
    let set = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) };
    check(set as isize).map(|_| ())
}

#[cfg(test)]
mod test;
