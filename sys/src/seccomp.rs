//! Loading a system-call filter.
//!
//! seccomp(2), Linux 3.17; the filter itself is classic BPF that others put together.
#![allow(unsafe_code)]

use std::io;

/// The most instructions in one filter (`BPF_MAXINSNS`).
pub const INSTRUCTIONS_MAX: usize = 4096;

/// One instruction of classic BPF, as the kernel lays it out (`struct sock_filter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// Instructions to skip when its condition holds.
    pub then: u8,
    /// Instructions to skip when it does not.
    pub otherwise: u8,
    /// Its operand.
    pub operand: u32,
}

const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());
const _: () = assert!(align_of::<Instruction>() == align_of::<libc::sock_filter>());

/// Puts this process, and whatever it starts, under `filter`; there is no way back.
///
/// # Errors
/// EACCES without no_new_privs; EINVAL for a filter that the kernel does not take.
pub fn install(filter: &[Instruction]) -> io::Result<()> {
    let len = u16::try_from(filter.len()).ok().filter(|&n| usize::from(n) <= INSTRUCTIONS_MAX);
    let Some(len) = len else { return Err(io::Error::from_raw_os_error(libc::E2BIG)) };
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut().cast() };
    // SAFETY: `program` points to `len` instructions of the kernel's own layout, asserted above; the
    // kernel copies them during the call and writes nothing.
    let done = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
