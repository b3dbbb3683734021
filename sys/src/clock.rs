//! Time that only goes forward, and the wall clock (clock_gettime(2)).

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};
use std::io;

fn milliseconds(clock: ClockId) -> u64 {
    // A clock that exists on every Linux can be read; 0 stands for the impossible.
    let Ok(time) = clock_gettime(clock) else { return 0 };
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    seconds * 1000 + u64::try_from(time.tv_nsec()).unwrap_or(0) / 1_000_000
}

/// Milliseconds since the kernel started, suspension included (`CLOCK_BOOTTIME`).
#[must_use]
pub fn since_boot_ms() -> u64 {
    milliseconds(ClockId::CLOCK_BOOTTIME)
}

/// Seconds since 1970 by the wall clock.
#[must_use]
pub fn wall_s() -> u64 {
    milliseconds(ClockId::CLOCK_REALTIME) / 1000
}

/// Sets the wall clock, in seconds since 1970.
///
/// # Errors
/// What clock_settime(2) says.
pub fn set_wall_s(seconds: u64) -> io::Result<()> {
    let seconds =
        i64::try_from(seconds).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(seconds, 0))?)
}
