//! Extended attributes of open files (xattr(7)), any kernel; ext4 needs no option for `user.` names.
#![allow(unsafe_code)]

use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets an attribute (fsetxattr(2)).
///
/// # Errors
/// `EPERM` without write permission on the file, `EOPNOTSUPP` where there are none, `ENOSPC` without room.
pub fn set(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    // SAFETY: `file` is an open descriptor for the length of the call; `name` ends with a zero byte because it is
    // a CStr; `value` gives pointer and length of memory that outlives the call. The kernel only reads both.
    let result = unsafe {
        libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    };
    Errno::result(result).map(drop)
}

/// Reads an attribute into `buffer` (fgetxattr(2)); the bytes it has.
///
/// # Errors
/// `ENODATA` when there is none, `ERANGE` when it is longer than the buffer.
pub fn get<'a>(file: BorrowedFd<'_>, name: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    // SAFETY: `file` is an open descriptor for the length of the call; `name` ends with a zero byte because it is
    // a CStr; `buffer` gives pointer and length of exclusively borrowed memory that outlives the call, and the
    // kernel writes at most that many bytes.
    let result = unsafe {
        libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len())
    };
    let length = Errno::result(result)?.cast_unsigned();
    Ok(&buffer[..length])
}

#[cfg(test)]
mod test {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn an_attribute_comes_back_and_a_missing_one_is_named() {
        let file = tempfile::tempfile().unwrap();
        let mut buffer = [0; 16];
        match set(file.as_fd(), c"user.mobula-test", b"value") {
            Ok(()) => {
                let got = get(file.as_fd(), c"user.mobula-test", &mut buffer);
                assert_eq!(got, Ok(b"value".as_slice()));
                assert_eq!(get(file.as_fd(), c"user.other", &mut buffer), Err(Errno::ENODATA));
            }
            Err(error) => assert_eq!(error, Errno::EOPNOTSUPP),
        }
    }
}
