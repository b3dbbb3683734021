//! What the running kernel can do, found by trying.
#![allow(unsafe_code)]

use io_uring::{IoUring, Probe};
use std::mem::size_of;

/// Operation codes to ask about; the kernel's probe can't answer more (`io_uring_probe.ops_len` is a u8).
const OPERATIONS: u8 = 255;
/// `LANDLOCK_CREATE_RULESET_VERSION` of linux/landlock.h.
const LANDLOCK_VERSION: u32 = 1;
/// `BPF_PROG_LOAD` of linux/bpf.h.
const BPF_PROG_LOAD: u32 = 5;
/// `BPF_PROG_TYPE_CGROUP_SKB`.
const CGROUP_SKB: u32 = 8;

/// The operations that io_uring knows here, by number; none if there is no io_uring.
#[must_use]
pub fn io_uring_operations() -> Vec<u8> {
    let Ok(ring) = IoUring::new(2) else { return Vec::new() };
    let mut probe = Probe::new();
    match ring.submitter().register_probe(&mut probe) {
        Ok(()) => (0..OPERATIONS).filter(|code| probe.is_supported(*code)).collect(),
        Err(_) => Vec::new(),
    }
}

/// The version of Landlock (landlock_create_ruleset(2)); 0 if there is none.
#[must_use]
pub fn landlock_abi() -> u32 {
    // SAFETY: with the version flag the call takes a null pointer and a size of 0, and opens nothing.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            LANDLOCK_VERSION,
        )
    };
    u32::try_from(version).unwrap_or(0)
}

/// The part of `union bpf_attr` that loads a program.
#[repr(C)]
#[derive(Default)]
struct LoadProgram {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// Whether a program for a cgroup's packets can be loaded (bpf(2)).
#[must_use]
pub fn cgroup_bpf() -> bool {
    // r0 = 1 (let it pass); exit.
    let code: [u64; 2] = [0x0000_0001_0000_00b7, 0x95];
    let attribute = LoadProgram {
        kind: CGROUP_SKB,
        instructions: 2,
        code: code.as_ptr() as u64,
        license: c"".as_ptr() as u64,
        ..LoadProgram::default()
    };
    let bytes = size_of::<LoadProgram>();
    // SAFETY: the kernel reads `bytes` bytes of `attribute`, the two instructions and the empty string that
    // it points to, all alive until the call returns; the rest of the union counts as zero.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attribute, bytes) };
    if fd < 0 {
        return false;
    }
    // SAFETY: the call just gave us `fd`; it is closed here and used no more.
    unsafe { libc::close(fd as libc::c_int) };
    true
}
