//! System calls that no program of ours makes, to be tried by tests: inside a zone each has to fail.
//!
//! syscall(2). Owns a list of calls with what is known of their arguments, and a few acts that take a
//! mapping or the processor itself. None of it can harm the memory of the process that tries it.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// cachestat(2), Linux 6.5.
pub const CACHESTAT: i64 = 451;

/// What a pointer of a tried call points to: longer than any structure that a listed call reads or writes.
const ROOM_BYTES: usize = 64 * 1024;

/// An argument of a system call.
#[derive(Debug, Clone, Copy)]
pub enum Argument<'a> {
    /// A number, a flag, a null pointer.
    Number(u64),
    /// A descriptor.
    Fd(BorrowedFd<'a>),
    /// A text that the call reads.
    Text(&'a CStr),
    /// Zeros that the call may read and overwrite.
    Zeros,
    /// These bytes and zeros after them, which the call may read and overwrite.
    Bytes(&'a [u8]),
}

/// What is known of a call.
struct Known {
    number: i64,
    /// Which arguments are pointers, a bit each. Structures behind them hold no addresses, or are never
    /// given as [`Argument::Bytes`].
    pointers: u8,
    /// Whether what it points to holds no addresses.
    plain: bool,
}

const fn numbers(number: i64) -> Known {
    Known { number, pointers: 0, plain: true }
}

const fn plain(number: i64, pointers: u8) -> Known {
    Known { number, pointers, plain: true }
}

const fn addresses(number: i64, pointers: u8) -> Known {
    Known { number, pointers, plain: false }
}

/// The calls that may be tried: each reads and writes memory through these pointers only, at most
/// [`ROOM_BYTES`] behind each, maps nothing over existing memory and returns once.
const KNOWN: &[Known] = &[
    plain(libc::SYS_fsopen, 0b1),
    plain(libc::SYS_fspick, 0b10),
    plain(libc::SYS_fsconfig, 0b1100),
    numbers(libc::SYS_fsmount),
    plain(libc::SYS_open_tree, 0b10),
    plain(libc::SYS_move_mount, 0b1010),
    plain(libc::SYS_mount_setattr, 0b1010),
    plain(libc::SYS_name_to_handle_at, 0b1110),
    plain(libc::SYS_open_by_handle_at, 0b10),
    addresses(libc::SYS_process_vm_readv, 0b1010),
    addresses(libc::SYS_process_vm_writev, 0b1010),
    numbers(libc::SYS_kcmp),
    numbers(libc::SYS_pidfd_getfd),
    numbers(libc::SYS_pidfd_open),
    plain(libc::SYS_pidfd_send_signal, 0b100),
    plain(libc::SYS_rt_sigqueueinfo, 0b100),
    plain(libc::SYS_prlimit64, 0b1100),
    addresses(libc::SYS_keyctl, 0b1_1110),
    plain(libc::SYS_add_key, 0b111),
    plain(libc::SYS_request_key, 0b111),
    addresses(libc::SYS_bpf, 0b10),
    plain(libc::SYS_perf_event_open, 0b1),
    numbers(libc::SYS_userfaultfd),
    addresses(libc::SYS_io_uring_setup, 0b10),
    addresses(libc::SYS_kexec_load, 0b100),
    plain(libc::SYS_kexec_file_load, 0b1000),
    plain(libc::SYS_init_module, 0b101),
    plain(libc::SYS_finit_module, 0b10),
    plain(libc::SYS_delete_module, 0b1),
    plain(libc::SYS_swapon, 0b1),
    plain(libc::SYS_swapoff, 0b1),
    plain(libc::SYS_acct, 0b1),
    numbers(libc::SYS_reboot),
    plain(libc::SYS_adjtimex, 0b1),
    plain(libc::SYS_clock_adjtime, 0b10),
    numbers(libc::SYS_iopl),
    numbers(libc::SYS_ioperm),
    plain(libc::SYS_modify_ldt, 0b10),
    plain(libc::SYS_syslog, 0b10),
    plain(libc::SYS_quotactl, 0b1010),
    addresses(libc::SYS_seccomp, 0b100),
    numbers(libc::SYS_fanotify_init),
    numbers(libc::SYS_memfd_secret),
    numbers(libc::SYS_migrate_pages),
    numbers(libc::SYS_shmget),
    plain(libc::SYS_mq_open, 0b1001),
    plain(libc::SYS_mlockall, 0),
    plain(CACHESTAT, 0b110),
    numbers(libc::SYS_socket),
    plain(libc::SYS_setdomainname, 0b1),
];

/// Makes a system call of the list; gives what it returns.
///
/// # Errors
/// What the call says; [`io::ErrorKind::InvalidInput`] if it is not in the list, or an argument is not of
/// the kind that the list has.
pub fn attempt(number: i64, arguments: &[Argument<'_>]) -> io::Result<i64> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let known = KNOWN.iter().find(|known| known.number == number).ok_or_else(invalid)?;
    if arguments.len() > 6 {
        return Err(invalid());
    }
    let mut room = vec![0u8; arguments.len() * ROOM_BYTES];
    let mut raw = [0; 6];
    let slots = room.chunks_exact_mut(ROOM_BYTES);
    for (place, (argument, room)) in arguments.iter().zip(slots).enumerate() {
        let pointer = known.pointers & (1 << place) != 0;
        raw[place] = match argument {
            Argument::Number(0) => 0,
            Argument::Number(value) if !pointer => *value,
            Argument::Fd(fd) if !pointer => fd.as_raw_fd() as u64,
            Argument::Text(text) if pointer => text.as_ptr() as u64,
            Argument::Zeros if pointer => room.as_mut_ptr() as u64,
            Argument::Bytes(bytes) if pointer && known.plain && bytes.len() <= ROOM_BYTES => {
                room[..bytes.len()].copy_from_slice(bytes);
                room.as_mut_ptr() as u64
            }
            _ => return Err(invalid()),
        };
    }
    let [a, b, c, d, e, f] = raw;
    // SAFETY: the call is in the list, so it touches memory of ours only behind its pointers. Each of those
    // is null, a text that it reads, or a room of our own that is longer than what it reads or writes, and
    // both live until the call is over.
    let got = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if got < 0 { Err(io::Error::last_os_error()) } else { Ok(got) }
}

/// A child by clone(2) with these further flags, which ends at once; gives nothing but whether it was made.
///
/// # Errors
/// What clone(2) says; [`io::ErrorKind::InvalidInput`] for flags that make it share memory.
pub fn clone_with(flags: libc::c_int) -> io::Result<()> {
    if flags & (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_SETTLS | libc::CLONE_THREAD) != 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = (flags | libc::SIGCHLD) as u64;
    // SAFETY: without CLONE_VM the child has a copy of this memory; all it does is to end.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if pid == 0 {
        // SAFETY: ends the child, running nothing of this program's.
        unsafe { libc::_exit(0) }
    }
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut status = 0;
    // SAFETY: `status` is live; the child is ours.
    unsafe { libc::waitpid(pid as libc::pid_t, &raw mut status, 0) };
    Ok(())
}

/// Whether clone3(2) is there, by a call that it has to refuse.
///
/// # Errors
/// EINVAL where it is, ENOSYS where it is not.
pub fn clone3_without_arguments() -> io::Result<()> {
    // SAFETY: with a size of 0 nothing is read, and no process is made.
    let got = unsafe { libc::syscall(libc::SYS_clone3, std::ptr::null::<u8>(), 0) };
    if got < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A child that waits for its parent to end it: a process of which nothing more is made.
///
/// # Errors
/// What clone(2) says.
pub fn idle_child() -> io::Result<i32> {
    // SAFETY: without CLONE_VM the child has a copy of this memory; it does nothing but wait.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    if pid == 0 {
        loop {
            // SAFETY: the call takes nothing.
            unsafe { libc::pause() };
        }
    }
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid as i32) }
}

/// A child that ends at once and leaves a child of its own, which ends as soon: an orphan for PID 1.
///
/// # Errors
/// What clone(2) says.
pub fn orphan() -> io::Result<()> {
    // SAFETY: without CLONE_VM the children have copies of this memory; all they do is to make one more
    // and to end.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    if pid == 0 {
        // SAFETY: as above.
        unsafe {
            libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0);
            libc::_exit(0)
        }
    }
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut status = 0;
    // SAFETY: `status` is live; the child is ours.
    unsafe { libc::waitpid(pid as libc::pid_t, &raw mut status, 0) };
    Ok(())
}

/// What programs have done to terminals that they share with others (ioctl_tty(2), ioctl_console(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trick {
    /// `TIOCSTI`: type a letter for whoever reads next.
    Type,
    /// `TIOCLINUX`: paste the selection of a virtual terminal.
    Paste,
    /// `TIOCCONS`: redirect the node's console here.
    Console,
    /// `TIOCSETD`: load a line discipline.
    Discipline,
}

/// Tries a trick on a terminal.
///
/// # Errors
/// What ioctl(2) says.
pub fn trick(terminal: BorrowedFd<'_>, trick: Trick) -> io::Result<()> {
    // N_MOUSE of ldiscs; subcode 3 of TIOCLINUX pastes; a letter for TIOCSTI.
    let (request, mut value) = match trick {
        Trick::Type => (libc::TIOCSTI, i32::from(b'x')),
        Trick::Paste => (libc::TIOCLINUX, 3),
        Trick::Console => (libc::TIOCCONS, 0),
        Trick::Discipline => (libc::TIOCSETD, 2),
    };
    // SAFETY: all four read an int, or a byte of it, behind the pointer; the last takes none.
    let done = unsafe { libc::ioctl(terminal.as_raw_fd(), request, &raw mut value) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Has a file's signals go to a process (`F_SETOWN`, fcntl(2)).
///
/// # Errors
/// ESRCH for a process that is not there.
pub fn own(file: BorrowedFd<'_>, pid: i32) -> io::Result<()> {
    // SAFETY: the call takes integers.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETOWN, pid) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What is done to a mapping once it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    Nothing,
    /// mlock(2).
    Lock,
    /// mlock2(2) with `MLOCK_ONFAULT`.
    LockOnFault,
    /// mprotect(2) to this protection.
    Protect(libc::c_int),
}

/// Maps `length` bytes of a file, does something to the mapping, and takes it down again.
///
/// # Errors
/// What mmap(2) or the further call says.
pub fn map(
    file: BorrowedFd<'_>,
    length: usize,
    protection: libc::c_int,
    flags: libc::c_int,
    then: Then,
) -> io::Result<()> {
    if flags & (libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE) != 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let none = std::ptr::null_mut();
    // SAFETY: a new mapping where the kernel likes replaces nothing of ours.
    let at = unsafe { libc::mmap(none, length, protection, flags, file.as_raw_fd(), 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the calls are given the mapping just made, which nobody else knows of.
    let done = unsafe {
        match then {
            Then::Nothing => 0,
            Then::Lock => libc::mlock(at, length),
            Then::LockOnFault => libc::mlock2(at, length, libc::MLOCK_ONFAULT as libc::c_uint),
            Then::Protect(protection) => libc::mprotect(at, length, protection),
        }
    };
    let result = if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: as above; no reference into it was given out.
    unsafe { libc::munmap(at, length) };
    result
}

/// Maps memory that takes no place and reads one byte in each `stride`: page tables are all that it costs.
///
/// # Errors
/// What mmap(2) says.
pub fn touch_sparsely(bytes: usize, stride: usize) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping where the kernel likes replaces nothing of ours.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    for offset in (0..bytes).step_by(stride) {
        // SAFETY: the byte is within the mapping, readable, and nobody writes it.
        unsafe { at.cast::<u8>().add(offset).read_volatile() };
    }
    // SAFETY: the mapping made above.
    unsafe { libc::munmap(at, bytes) };
    Ok(())
}

/// Makes a System V segment and writes one byte in each of its pages; it stays until its namespace ends.
///
/// # Errors
/// What shmget(2) or shmat(2) says.
pub fn shared_segment(bytes: usize) -> io::Result<()> {
    // SAFETY: the call takes integers.
    let id = unsafe { libc::shmget(libc::IPC_PRIVATE, bytes, libc::IPC_CREAT | 0o600) };
    if id < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: attached where the kernel likes, it replaces nothing of ours.
    let at = unsafe { libc::shmat(id, std::ptr::null(), 0) };
    if at as isize == -1 {
        return Err(io::Error::last_os_error());
    }
    for offset in (0..bytes).step_by(4096) {
        // SAFETY: the byte is within the segment, which nobody else has.
        unsafe { at.cast::<u8>().add(offset).write_volatile(1) };
    }
    // SAFETY: attached above.
    if unsafe { libc::shmdt(at) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Asks for the process's number by the gate of 32-bit programs; the process may be ended for it.
#[must_use]
pub fn by_interrupt_80() -> i32 {
    let mut result: i32 = 20;
    // SAFETY: getpid (20 in that table) touches no memory; the kernel keeps all registers but the result's
    // and, on some kernels, r8 to r11, which are named.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("eax") result,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
        );
    }
    result
}

/// Asks for the process's number as programs of the x32 ABI do; the process may be ended for it.
///
/// # Errors
/// ENOSYS.
pub fn by_x32() -> io::Result<i64> {
    // SAFETY: getpid takes nothing, whatever the ABI.
    let got = unsafe { libc::syscall(libc::SYS_getpid | 0x4000_0000) };
    if got < 0 { Err(io::Error::last_os_error()) } else { Ok(got) }
}

/// Calls the kernel's old page of code at a fixed address; the process may be ended for it.
#[must_use]
pub fn by_vsyscall() -> i64 {
    let at: usize = 0xffff_ffff_ff60_0400;
    // SAFETY: where that page is mapped, this is time(2), which takes a pointer that may be null; where it
    // is not, the jump ends the process by a signal.
    let time: extern "C" fn(*mut i64) -> i64 = unsafe { std::mem::transmute(at) };
    time(std::ptr::null_mut())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_call_that_is_not_listed_is_not_made() {
        let error = attempt(libc::SYS_munmap, &[Argument::Number(1)]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_number_is_no_pointer() {
        let error = attempt(libc::SYS_fsopen, &[Argument::Number(7)]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let bytes = Argument::Bytes(&[1; 8]);
        let error = attempt(libc::SYS_bpf, &[Argument::Number(0), bytes]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_listed_call_is_made() {
        let none = Argument::Number(0);
        let error = attempt(libc::SYS_fsopen, &[Argument::Text(c"no-such"), none]).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EPERM)), "{error}");
        assert!(clone_with(0).is_ok());
    }
}
