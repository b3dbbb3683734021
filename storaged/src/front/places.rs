//! The ring threads as they see each other: how many connections each has, and how to hand one over.
//!
//! All of them accept on the same sockets, and the kernel wakes whichever it likes, often always the same
//! one. So whoever accepts a connection gives it to the thread that has the fewest.

use super::mailbox::Mailbox;
use super::worker::ARRIVALS;
use crossbeam::queue::SegQueue;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A connection that was accepted elsewhere.
pub(super) struct Arrival {
    pub(super) socket: OwnedFd,
    /// The number of the port it came in at.
    pub(super) port: usize,
}

struct Place {
    mailbox: Arc<Mailbox>,
    connections: AtomicUsize,
    arrivals: SegQueue<Arrival>,
}

/// All ring threads, by their numbers.
pub(super) struct Places(Vec<Place>);

impl Places {
    /// Places of threads that hear through these mailboxes.
    pub(super) fn new(mailboxes: &[Arc<Mailbox>]) -> Places {
        let place = |mailbox: &Arc<Mailbox>| Place {
            mailbox: Arc::clone(mailbox),
            connections: AtomicUsize::new(0),
            arrivals: SegQueue::new(),
        };
        Places(mailboxes.iter().map(place).collect())
    }

    /// The thread that a new connection is for, which is counted there from now on.
    pub(super) fn choose(&self, own: usize) -> usize {
        // Relaxed: a count that is a little old makes a choice that is a little worse.
        let counts: Vec<_> =
            self.0.iter().map(|place| place.connections.load(Ordering::Relaxed)).collect();
        let chosen = least(&counts, own);
        self.0[chosen].connections.fetch_add(1, Ordering::Relaxed);
        chosen
    }

    /// Hands a connection to the thread that was chosen.
    pub(super) fn hand_over(&self, chosen: usize, arrival: Arrival) {
        self.0[chosen].arrivals.push(arrival);
        self.0[chosen].mailbox.post(ARRIVALS);
    }

    /// A connection that was handed to this thread.
    pub(super) fn arrival(&self, own: usize) -> Option<Arrival> {
        self.0[own].arrivals.pop()
    }

    /// How many connections a thread has, those that are on their way included.
    pub(super) fn connections(&self, own: usize) -> usize {
        self.0[own].connections.load(Ordering::Relaxed)
    }

    /// A connection has ended.
    pub(super) fn ended(&self, own: usize) {
        self.0[own].connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who has the fewest; oneself unless somebody has fewer.
fn least(counts: &[usize], own: usize) -> usize {
    let fewest = counts.iter().enumerate().min_by_key(|(_, count)| **count);
    fewest.filter(|(_, count)| **count < counts[own]).map_or(own, |(number, _)| number)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_one_with_the_fewest_is_chosen_and_oneself_rather_than_an_equal() {
        assert_eq!(least(&[3, 3], 1), 1);
        assert_eq!(least(&[3, 2], 0), 1);
        assert_eq!(least(&[2, 3], 0), 0);
        assert_eq!(least(&[5, 1, 0, 1], 0), 2);
    }

    #[test]
    fn connections_are_spread_evenly_whoever_accepts_them() {
        let mailboxes = [(); 3].map(|()| Arc::new(Mailbox::new().unwrap()));
        let places = Places::new(&mailboxes);
        for _ in 0..30 {
            places.choose(0);
        }
        assert_eq!([0, 1, 2].map(|number| places.connections(number)), [10; 3]);
        places.ended(2);
        assert_eq!(places.choose(0), 2);
    }
}
