//! Bytes of files that are in the page cache, and their way to a socket without a copy.
//!
//! Everything here returns at once, but for [`read_ahead`], which is for a thread that may wait.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::sendfile::sendfile64;
use nix::sys::socket::{MsgFlags, sendmsg};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd};

/// How [`read_ahead`] reads: enough for the disk to be efficient, little enough to allocate.
const READ_AHEAD_BYTES: usize = 256 * 1024;

/// A page of x86-64's page cache.
const PAGE_BYTES: u64 = 4096;

/// What a transfer that must not wait came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// This many bytes.
    Bytes(usize),
    /// None: it would have had to wait.
    WouldWait,
}

/// Sends bytes of a file to a socket (`sendfile(2)`) as far as the socket has room now.
///
/// The socket is made nonblocking for the call only: io_uring gives up on sockets that are
/// nonblocking instead of waiting for them. Callers see to it that no other thread submits on it.
pub fn send_file(
    socket: impl AsFd,
    file: impl AsFd,
    offset: u64,
    length: usize,
) -> io::Result<Moved> {
    let mut offset = i64::try_from(offset).map_err(|_| io::Error::from(Errno::EOVERFLOW))?;
    // A socket has no other flag that this could take away (F_SETFL changes O_APPEND, O_ASYNC, O_DIRECT,
    // O_NOATIME and O_NONBLOCK), so they need not be asked for.
    fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let sent = sendfile64(&socket, &file, Some(&mut offset), length);
    fcntl(&socket, FcntlArg::F_SETFL(OFlag::empty()))?;
    match sent {
        Ok(sent) => Ok(Moved::Bytes(sent)),
        Err(Errno::EAGAIN) => Ok(Moved::WouldWait),
        Err(e) => Err(e.into()),
    }
}

/// Sends parts to a socket as one message (`sendmsg(2)` with `MSG_DONTWAIT`) as far as it has room now;
/// `more` says that more will follow at once (`MSG_MORE`).
pub fn send_parts(socket: impl AsFd, parts: &[IoSlice<'_>], more: bool) -> io::Result<Moved> {
    let corked = MsgFlags::from_bits_retain(if more { libc::MSG_MORE } else { 0 });
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL | corked;
    let fd = socket.as_fd().as_raw_fd();
    match sendmsg::<()>(fd, parts, &[], flags, None) {
        Ok(sent) => Ok(Moved::Bytes(sent)),
        Err(Errno::EAGAIN) => Ok(Moved::WouldWait),
        Err(e) => Err(e.into()),
    }
}

/// Reads bytes of a file that are in the page cache (`preadv2(2)` with `RWF_NOWAIT`, Linux 4.14).
/// The first bytes missing from it end the read.
pub fn read_cached(file: impl AsFd, offset: u64, buffer: &mut [u8]) -> io::Result<Moved> {
    let vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let offset = i64::try_from(offset).map_err(|_| io::Error::from(Errno::EOVERFLOW))?;
    // SAFETY: the one vector points at `buffer`, borrowed mutably for the whole call and as long as
    // iov_len says; the kernel keeps neither pointer; `file` is open for the call.
    let read = unsafe {
        libc::preadv2(file.as_fd().as_raw_fd(), &raw const vector, 1, offset, libc::RWF_NOWAIT)
    };
    match Errno::result(read) {
        Ok(read) => Ok(Moved::Bytes(read.cast_unsigned())),
        Err(Errno::EAGAIN) => Ok(Moved::WouldWait),
        Err(e) => Err(e.into()),
    }
}

#[repr(C)]
struct CachestatRange {
    offset: u64,
    length: u64,
}

#[repr(C)]
#[derive(Default)]
struct Cachestat {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// Whether all of a range is in the page cache. Where the kernel can't tell (before 6.5), it is not.
pub fn is_cached(file: impl AsFd, offset: u64, length: u64) -> bool {
    let pages = (offset + length).div_ceil(PAGE_BYTES) - offset / PAGE_BYTES;
    cached_pages(file, offset, length).is_ok_and(|cached| cached >= pages)
}

/// How many pages of a range are in the page cache (`cachestat(2)`, Linux 6.5).
pub fn cached_pages(file: impl AsFd, offset: u64, length: u64) -> io::Result<u64> {
    const SYS_CACHESTAT: libc::c_long = 451;
    let range = CachestatRange { offset, length };
    let mut answer = Cachestat::default();
    // SAFETY: both structures are laid out as <linux/mman.h> has them and live through the call,
    // which reads the first and writes the second; the last argument, flags, must be 0.
    let status = unsafe {
        libc::syscall(
            SYS_CACHESTAT,
            file.as_fd().as_raw_fd(),
            &raw const range,
            &raw mut answer,
            0u32,
        )
    };
    Errno::result(status)?;
    Ok(answer.cached)
}

/// Brings bytes of a file into the page cache, and waits for them.
pub fn read_ahead(file: impl AsFd, offset: u64, length: u64) -> io::Result<()> {
    let mut scratch = vec![0; READ_AHEAD_BYTES.min(usize::try_from(length).unwrap_or(usize::MAX))];
    let (mut at, end) = (offset, offset.saturating_add(length));
    while at < end {
        let take = scratch.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        let position = i64::try_from(at).map_err(|_| io::Error::from(Errno::EOVERFLOW))?;
        match nix::sys::uio::pread(&file, &mut scratch[..take], position) {
            Ok(0) => break,
            Ok(read) => at += read as u64,
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn file(bytes: &[u8]) -> std::fs::File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn a_full_socket_is_told_and_stays_blocking() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        let content = vec![7; 32 << 20];
        let file = file(&content);
        let mut sent = 0;
        while let Moved::Bytes(n) = send_file(&socket, &file, sent as u64, 1 << 20).unwrap() {
            assert!(n > 0, "the socket took 32 MiB");
            sent += n;
        }
        let flags = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL).unwrap());
        assert!(!flags.contains(OFlag::O_NONBLOCK));
        drop(socket);
        let mut got = Vec::new();
        peer.read_to_end(&mut got).unwrap();
        assert_eq!(got.len(), sent);
    }

    #[test]
    fn parts_are_sent_in_order_until_the_socket_is_full() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        let parts = [IoSlice::new(b"head"), IoSlice::new(b" and body")];
        assert_eq!(send_parts(&socket, &parts, false).unwrap(), Moved::Bytes(13));
        let mut got = [0; 13];
        peer.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"head and body");
        let large = vec![7; 1 << 20];
        let mut sent = 0;
        while let Moved::Bytes(n) = send_parts(&socket, &[IoSlice::new(&large)], true).unwrap() {
            sent += n;
            assert!(sent < 64 << 20, "the socket took 64 MiB");
        }
    }

    #[test]
    fn fresh_bytes_are_cached_and_read() {
        let file = file(&[3; 8192]);
        let mut buffer = [0; 4096];
        assert_eq!(read_cached(&file, 4096, &mut buffer).unwrap(), Moved::Bytes(4096));
        assert_eq!(buffer, [3; 4096]);
        assert_eq!(cached_pages(&file, 0, 8192).unwrap(), 2);
        assert!(is_cached(&file, 100, 8000) && !is_cached(&file, 100, 9000));
        read_ahead(&file, 0, 1 << 20).unwrap();
    }
}
