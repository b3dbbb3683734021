//! Descriptors beside a message: control messages of the kind `SCM_RIGHTS` (cmsg(3), unix(7)).
#![allow(unsafe_code)]

use super::FDS_MAX;
use std::mem::size_of;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Room for one `SCM_RIGHTS` message of [`FDS_MAX`] descriptors.
pub(super) const CONTROL_BYTES: usize = control_space(FDS_MAX);

pub(super) const fn control_space(fds: usize) -> usize {
    // SAFETY: CMSG_SPACE computes a size from its argument and touches no memory.
    unsafe { libc::CMSG_SPACE((fds * size_of::<RawFd>()) as u32) as usize }
}

/// Bytes for control messages, aligned as cmsg(3) asks.
#[repr(C)]
pub(super) struct ControlBuffer {
    align: [libc::cmsghdr; 0],
    bytes: [u8; CONTROL_BYTES],
}

impl ControlBuffer {
    pub(super) const fn new() -> Self {
        Self { align: [], bytes: [0; CONTROL_BYTES] }
    }

    pub(super) const fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        (&raw mut self.bytes).cast()
    }
}

/// Writes one `SCM_RIGHTS` message into the control buffer that `header` points to.
pub(super) fn write_rights(header: &libc::msghdr, fds: &[BorrowedFd<'_>]) {
    let bytes = size_of_val(fds) as u32;
    // SAFETY: msg_control points to a live, aligned ControlBuffer and msg_controllen is CMSG_SPACE of
    // these descriptors, so the first header lies inside it.
    let message = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: CMSG_LEN computes a size from its argument and touches no memory.
    let length = unsafe { libc::CMSG_LEN(bytes) };
    // SAFETY: `message` points to a whole cmsghdr inside the buffer, which is ours alone.
    unsafe {
        (*message).cmsg_level = libc::SOL_SOCKET;
        (*message).cmsg_type = libc::SCM_RIGHTS;
        (*message).cmsg_len = length as usize;
    }
    // SAFETY: the data of `message` follows its header inside the same buffer.
    let data = unsafe { libc::CMSG_DATA(message) };
    // SAFETY: BorrowedFd is a transparent RawFd, so `fds` is `bytes` bytes of descriptors; the buffer has
    // room for them after the header, and the two do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(fds.as_ptr().cast::<u8>(), data, bytes as usize) };
}

/// Takes ownership of every descriptor in the control messages of a received `header`.
pub(super) fn take_rights(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: recvmsg(2) filled the live control buffer that `header` points to and set msg_controllen.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give null or a header wholly inside the buffer.
        let message = unsafe { *next };
        if message.cmsg_level == libc::SOL_SOCKET && message.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: the data of `next` follows its header inside the same buffer.
            let data = unsafe { libc::CMSG_DATA(next) };
            // SAFETY: CMSG_LEN computes a size from its argument and touches no memory.
            let head = unsafe { libc::CMSG_LEN(0) } as usize;
            for at in 0..(message.cmsg_len - head) / size_of::<RawFd>() {
                // SAFETY: the kernel wrote cmsg_len bytes of descriptors here; they may be unaligned.
                let fd = unsafe { data.cast::<RawFd>().add(at).read_unaligned() };
                // SAFETY: the kernel just installed `fd` for us and this is the one place that takes it.
                fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
        // SAFETY: `next` came from CMSG_FIRSTHDR or CMSG_NXTHDR of this same `header`.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    fds
}
