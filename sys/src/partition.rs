//! Naming a part of a disk, without a partition table.
//!
//! The kernel serves a range of a block device as a device of its own (`BLKPG`, linux/blkpg.h); which
//! range is remembered until the disk goes or the machine is turned off, and nothing is written.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};

/// `BLKPG` of linux/blkpg.h, `_IO(0x12, 105)`, and its operation to add a partition.
const BLKPG: libc::Ioctl = 0x1269;
const ADD_PARTITION: libc::c_int = 1;

/// `struct blkpg_partition`.
#[repr(C)]
struct Partition {
    start: libc::c_longlong,
    length: libc::c_longlong,
    number: libc::c_int,
    names: [u8; 128],
}

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct Argument {
    operation: libc::c_int,
    flags: libc::c_int,
    length: libc::c_int,
    data: *mut libc::c_void,
}

const _: () = assert!(size_of::<Partition>() == 152 && size_of::<Argument>() == 24);

/// Makes `length` bytes from `start` of the block device `disk` its partition `number` (from 1). Both must be
/// multiples of the sector size, and the range must lie within the disk and meet no other partition.
///
/// # Errors
/// As the kernel says: EBUSY if the number or the range is taken, ENOTTY if `disk` is no disk, EACCES
/// without `CAP_SYS_ADMIN`.
pub fn add_partition(disk: impl AsFd, number: u16, start: u64, length: u64) -> io::Result<()> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut partition = Partition {
        start: start.try_into().map_err(invalid)?,
        length: length.try_into().map_err(invalid)?,
        number: number.into(),
        names: [0; 128],
    };
    let argument = Argument {
        operation: ADD_PARTITION,
        flags: 0,
        length: size_of::<Partition>() as libc::c_int,
        data: (&raw mut partition).cast(),
    };
    // SAFETY: BLKPG reads one blkpg_ioctl_arg through the pointer, and through its `data` the `length` bytes
    // of one blkpg_partition; both structures have the kernel's layout (sizes asserted above), are locals
    // that live until the call returns, and the kernel keeps neither pointer. The descriptor is open, since
    // it is borrowed.
    let result = unsafe { libc::ioctl(disk.as_fd().as_raw_fd(), BLKPG, &raw const argument) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn what_is_no_disk_gets_no_partition() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let error = add_partition(&file, 1, 0, 512).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
    }
}
