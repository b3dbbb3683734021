//! Project ids: whose quota a file's space counts against, whoever writes it.
//!
//! `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR` (ioctl_fs(2), `<linux/fs.h>`): ext4 since kernel 4.5, with the
//! `project` feature.
#![allow(unsafe_code)]

use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `struct fsxattr` of `<linux/fs.h>`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    xflags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

/// `FS_XFLAG_PROJINHERIT` of `<linux/fs.h>`.
const INHERIT: u32 = 0x200;

/// The raw calls: unsafe functions that nix writes, kept where only this file sees them.
mod raw {
    #![allow(missing_docs)]
    use super::Attributes;
    nix::ioctl_read!(get_attributes, b'X', 31, Attributes);
    nix::ioctl_write_ptr!(set_attributes, b'X', 32, Attributes);
}

/// The project a file is in; 0 is none.
///
/// # Errors
/// `ENOTTY` or `EOPNOTSUPP` where the file system has no projects.
pub fn project(file: BorrowedFd<'_>) -> Result<u32, Errno> {
    Ok(attributes(file)?.project)
}

/// Moves a file, with the space it takes, to a project.
///
/// # Errors
/// `EDQUOT` when the project's quota has no room for it; `EOPNOTSUPP`, `ENOTTY` or `EINVAL` where the file
/// system has no projects; `EPERM` for someone else's file.
pub fn set_project(file: BorrowedFd<'_>, project: u32) -> Result<(), Errno> {
    let argument = Attributes { project, ..attributes(file)? };
    // SAFETY: `file` is an open descriptor for the length of the call, and `argument` a whole, initialised
    // `fsxattr` that outlives it; the kernel only reads it.
    unsafe { raw::set_attributes(file.as_raw_fd(), &raw const argument) }.map(drop)
}

/// As [`set_project`] for a directory, with all that will be made in it (`FS_XFLAG_PROJINHERIT`).
///
/// # Errors
/// As [`set_project`].
pub fn set_project_below(folder: BorrowedFd<'_>, project: u32) -> Result<(), Errno> {
    let now = attributes(folder)?;
    let argument = Attributes { project, xflags: now.xflags | INHERIT, ..now };
    // SAFETY: as in `set_project`.
    unsafe { raw::set_attributes(folder.as_raw_fd(), &raw const argument) }.map(drop)
}

fn attributes(file: BorrowedFd<'_>) -> Result<Attributes, Errno> {
    let mut argument = Attributes::default();
    // SAFETY: `file` is an open descriptor for the length of the call, and `argument` a whole `fsxattr`,
    // exclusively borrowed and outliving it; the kernel writes at most its size.
    unsafe { raw::get_attributes(file.as_raw_fd(), &raw mut argument) }?;
    Ok(argument)
}

#[cfg(test)]
mod test {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_struct_has_the_size_of_the_kernel() {
        assert_eq!(size_of::<Attributes>(), 28);
    }

    #[test]
    fn a_new_file_is_in_no_project_and_may_stay_there() {
        let file = tempfile::tempfile().unwrap();
        match project(file.as_fd()) {
            Ok(number) => {
                assert_eq!(number, 0);
                set_project(file.as_fd(), 0).unwrap();
            }
            Err(error) => assert!([Errno::ENOTTY, Errno::EOPNOTSUPP].contains(&error), "{error}"),
        }
    }
}
