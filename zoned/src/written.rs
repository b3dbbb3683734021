//! What the daemon does when the disk has taken something in ([`crate::disk`]), and whom it does not hear meanwhile.

use crate::chain;
use crate::daemon::{Daemon, Written};
use crate::disk::FileError;
use crate::room::Full;
use std::sync::atomic::Ordering;

/// What is done by the disk and taken in before others have their turn: each may start a zone, which takes milliseconds.
const TURN_MAX: usize = 8;
/// Requests that wait for the disk before more of them are heard: as many as there may be peers. What is not heard waits in
/// its socket and is not refused.
const REQUESTS_MAX: usize = 256;

impl Daemon {
    /// Whether people are to be heard.
    pub(crate) fn has_room(&self) -> bool {
        self.standing.waiting() + self.accounts.waiting() < REQUESTS_MAX
    }

    /// Goes on with what waited for the disk.
    pub(crate) fn hear_disk(&mut self) {
        for _ in 0..TURN_MAX {
            let done = self.quotas.take_done().or_else(|| self.disk.take_done());
            let Some((what, written)) = done.or_else(|| self.sweeper.take_done()) else { return };
            self.written(what, written);
        }
    }

    pub(crate) fn written(&mut self, what: Written, written: Result<(), FileError>) {
        match what {
            Written::Zone(name) => self.zone_written(&name, written),
            Written::New(asker, name) => self.new_zone_written(asker, &name, written),
            Written::Account => self.account_written(written),
            Written::Image(note) => self.image_noted(note, written),
            Written::Room(connection, grant, room) => {
                self.room_limited(connection, grant, room, written);
            }
            Written::Import(slot) => self.import_limited(slot, written),
            Written::Over(attempt, outcome, full) => {
                let full = is_full(written, &full);
                self.over_looked_up(attempt, outcome, full);
            }
            Written::Gone(attempt, full) => {
                let full = is_full(written, &full);
                self.gone_looked_up(attempt, full);
            }
            Written::Unlimited(slot) => {
                if let Err(error) = written {
                    // It keeps its limit, and gets another one before anything runs in it.
                    eprintln!("zoned: slot {slot}: {}", chain(&error));
                }
            }
        }
    }
}

/// Whether a task has filled its disk; one of which that is not known has not.
fn is_full(looked_up: Result<(), FileError>, full: &Full) -> bool {
    if let Err(error) = looked_up {
        eprintln!("zoned: {}", chain(&error));
        return false;
    }
    full.load(Ordering::Relaxed)
}
