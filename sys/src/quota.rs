//! Project quotas: how many files a project may have, how many bytes they may take, and take.
//!
//! quotactl(2), quotactl_fd(2), Linux 5.14; ext4 made with `-O quota,project` and mounted `prjquota`.
#![allow(unsafe_code)]

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd};

const PRJQUOTA: u32 = 2;
const Q_GETQUOTA: u32 = 0x80_0007;
const Q_SETQUOTA: u32 = 0x80_0008;
/// The limits of a `dqblk` are meant, those of blocks and those of inodes, and nothing else of it.
const QIF_LIMITS: u32 = 1 | 4;
/// The unit of block limits (`QIF_DQBLKSIZE`); usage is in bytes.
const BLOCK_BYTES: u64 = 1024;

/// `struct if_dqblk` of `linux/quota.h`.
#[repr(C)]
struct Quota {
    block_hard_limit: u64,
    block_soft_limit: u64,
    space_now: u64,
    inode_hard_limit: u64,
    inode_soft_limit: u64,
    inodes_now: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

const _: () = assert!(size_of::<Quota>() == 72);

/// What a project may use and uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Project {
    /// Bytes its files may take; 0 if there is no limit.
    pub limit_bytes: u64,
    /// Files, directories and links it may have; 0 if there is no limit.
    pub limit_files: u64,
    /// Bytes its files take, those not yet on disk included.
    pub used_bytes: u64,
}

fn call(
    filesystem: BorrowedFd<'_>,
    command: u32,
    project: u32,
    quota: &mut Quota,
) -> io::Result<()> {
    let command = (command << 8) | PRJQUOTA;
    // SAFETY: `quota` is live, writable and laid out as struct if_dqblk, which both commands take.
    let done = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            filesystem.as_raw_fd(),
            command,
            project,
            std::ptr::from_mut(quota),
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn empty() -> Quota {
    // SAFETY: Quota is plain integers, for which all zeros is a value.
    unsafe { zeroed() }
}

/// Reads a project's quota on the filesystem that holds the file `filesystem`.
///
/// # Errors
/// ESRCH or ENOSYS where there are no project quotas.
pub fn project(filesystem: BorrowedFd<'_>, project: u32) -> io::Result<Project> {
    let mut quota = empty();
    call(filesystem, Q_GETQUOTA, project, &mut quota)?;
    Ok(Project {
        limit_bytes: quota.block_hard_limit * BLOCK_BYTES,
        limit_files: quota.inode_hard_limit,
        used_bytes: quota.space_now,
    })
}

/// Limits the bytes that a project's files may take, rounded up to 1 KiB, and how many files there may be; 0 for no
/// limit.
///
/// # Errors
/// ESRCH or ENOSYS where there are no project quotas, EPERM without CAP_SYS_ADMIN.
pub fn limit_project(
    filesystem: BorrowedFd<'_>,
    project: u32,
    bytes: u64,
    files: u64,
) -> io::Result<()> {
    let mut quota = Quota {
        block_hard_limit: bytes.div_ceil(BLOCK_BYTES),
        inode_hard_limit: files,
        valid: QIF_LIMITS,
        ..empty()
    };
    call(filesystem, Q_SETQUOTA, project, &mut quota)
}
