//! Places where a test may have zoned killed, to see what the next one makes of what is left, or stopped, to change
//! something that zoned has just looked at.
//!
//! `ZONED_FAILPOINT=name` kills zoned where [`hit`] is called with that name, `name:3` the third time; `name:stop` stops
//! it until it gets SIGCONT. Without it, a place costs one look at a variable that was read once.

use nix::sys::signal::{Signal, kill};
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

/// Passed once at start: it is decided what becomes of the zones on record, and nothing was done about it.
pub const FOUND: &str = "found";

struct Chosen {
    place: String,
    left: AtomicU32,
    signal: Signal,
}

static CHOSEN: OnceLock<Option<Chosen>> = OnceLock::new();

fn read() -> Option<Chosen> {
    let text = std::env::var("ZONED_FAILPOINT").ok()?;
    let (place, how) = text.split_once(':').unwrap_or((&text, "1"));
    let signal = if how == "stop" { Signal::SIGSTOP } else { Signal::SIGKILL };
    Some(Chosen { place: place.to_owned(), left: AtomicU32::new(how.parse().unwrap_or(1)), signal })
}

/// Ends the process as a crash would, or stops it, if this is the chosen place.
pub fn hit(name: &str) {
    debug_assert!(
        ALL.contains(&name) || ACCOUNT.contains(&name) || name == FOUND,
        "{name} is in no list"
    );
    let Some(chosen) = CHOSEN.get_or_init(read) else { return };
    if chosen.place == name && chosen.left.fetch_sub(1, Ordering::Relaxed) == 1 {
        eprintln!("zoned: {} at {name}", chosen.signal);
        kill(nix::unistd::Pid::this(), chosen.signal).expect("a process may always kill itself");
    }
}
