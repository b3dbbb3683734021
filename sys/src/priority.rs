//! How much of a processor a thread gets beside others (setpriority(2)).
#![allow(unsafe_code)]

use std::io;

/// Gives this thread less of a processor that others want, too: the higher, the less, up to 19. Other threads stay as they are:
/// on Linux each has a nice value of its own (setpriority(2), "C library/kernel differences").
///
/// # Errors
/// What setpriority(2) says.
pub fn lower_this_thread(nice: u8) -> io::Result<()> {
    // SAFETY: the call takes integers alone and touches no memory of ours; 0 is the thread that calls.
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice.into()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod test {
    use super::*;

    /// The nice value of this thread: field 19 of its stat (proc_pid_stat(5)), the 17th behind its name.
    fn nice() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        fields.split(' ').nth(16).unwrap().parse().unwrap()
    }

    #[test]
    fn a_thread_is_lowered_and_no_other() {
        let before = nice();
        let lowered = std::thread::spawn(|| {
            lower_this_thread(19).unwrap();
            nice()
        });
        assert_eq!(lowered.join().unwrap(), 19);
        assert_eq!(nice(), before);
    }
}
