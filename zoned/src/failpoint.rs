//! Places where a test may have zoned killed, to see what the next one makes of what is left.
//!
//! `ZONED_FAILPOINT=name` kills zoned where [`hit`] is called with that name, `name:3` the third time. Without
//! it, a place costs one look at a variable that was read once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Every place, in the order in which a zone passes them.
pub const ALL: [&str; 16] = [
    "record-written",
    "record-renamed",
    "files-made",
    "cgroup-made",
    "connected",
    "first-process",
    "stored-one",
    "stored",
    "told",
    "started",
    "over",
    "acknowledged",
    "gone",
    "unstored",
    "cleared",
    "record-removed",
];

/// Those that the setting of an account's limits passes.
pub const ACCOUNT: [&str; 2] = ["account-written", "account-renamed"];

static CHOSEN: OnceLock<Option<(String, AtomicU32)>> = OnceLock::new();

fn read() -> Option<(String, AtomicU32)> {
    let text = std::env::var("ZONED_FAILPOINT").ok()?;
    let (name, times) = text.split_once(':').unwrap_or((&text, "1"));
    Some((name.to_owned(), AtomicU32::new(times.parse().unwrap_or(1))))
}

/// Ends the process as a crash would, if this is the chosen place.
pub fn hit(name: &str) {
    debug_assert!(ALL.contains(&name) || ACCOUNT.contains(&name), "{name} is in no list");
    let Some((chosen, left)) = CHOSEN.get_or_init(read) else { return };
    if chosen == name && left.fetch_sub(1, Ordering::Relaxed) == 1 {
        eprintln!("zoned: killed at {name}");
        let own = nix::unistd::Pid::this();
        nix::sys::signal::kill(own, nix::sys::signal::Signal::SIGKILL)
            .expect("a process may always kill itself");
    }
}
