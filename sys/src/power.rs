//! Ending the machine's run (reboot(2)).

use nix::sys::reboot::{RebootMode, reboot, set_cad_enabled};
use std::io;

/// How the machine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Power off.
    Off,
    /// Start again.
    Restart,
}

/// Ends the run at once: nothing is synced, nothing is stopped.
///
/// # Errors
/// What reboot(2) says; on success it does not return.
pub fn end(how: End) -> io::Error {
    let mode = match how {
        End::Off => RebootMode::RB_POWER_OFF,
        End::Restart => RebootMode::RB_AUTOBOOT,
    };
    match reboot(mode) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}

/// Makes Ctrl-Alt-Del a SIGINT to PID 1 instead of an instant restart.
///
/// # Errors
/// What reboot(2) says.
pub fn ctrl_alt_del_asks() -> io::Result<()> {
    Ok(set_cad_enabled(false)?)
}
