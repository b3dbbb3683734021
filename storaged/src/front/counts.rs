//! What the front counts: one set of numbers a ring thread, which alone writes them, without a lock and
//! without an operation that other cores would have to hear of. Whoever reads adds them up.

use super::Kinds;
use http::StatusCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the latency histogram's buckets, in microseconds: from what a cached GET takes to what
/// makes a client give up. One more bucket holds what is beyond.
pub const BUCKETS_US: [u64; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000, 30_000_000,
];

/// What became of a request, as far as numbers tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Class {
    /// Answered with 2xx.
    Success,
    /// With 3xx.
    Redirection,
    /// With 4xx.
    ClientError,
    /// With 5xx.
    ServerError,
    /// The connection ended before the answer was out.
    Cut,
}

impl Class {
    /// All of them, in the order of their numbers.
    pub const ALL: [Class; 5] =
        [Class::Success, Class::Redirection, Class::ClientError, Class::ServerError, Class::Cut];

    /// Of an answer that went out.
    #[must_use]
    pub fn of(status: StatusCode) -> Class {
        match status.as_u16() {
            ..300 => Class::Success,
            300..400 => Class::Redirection,
            400..500 => Class::ClientError,
            500.. => Class::ServerError,
        }
    }

    /// Its name in a label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Class::Success => "2xx",
            Class::Redirection => "3xx",
            Class::ClientError => "4xx",
            Class::ServerError => "5xx",
            Class::Cut => "cut",
        }
    }
}

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds. For the one writer: it is a load and a store, no locked instruction.
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// What it is.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Requests of one kind and one class.
#[derive(Debug, Default)]
pub struct Cell {
    /// How many took how long; see [`BUCKETS_US`].
    pub buckets: [Count; BUCKETS_US.len() + 1],
    /// How long all of them took.
    pub micros: Count,
}

impl Cell {
    fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.partition_point(|&end| end < micros);
        self.buckets[bucket].add(1);
        self.micros.add(micros);
    }
}

/// What one ring thread counts of one port.
#[derive(Debug)]
pub struct PortCounts {
    /// By kind, then by class.
    cells: Box<[[Cell; Class::ALL.len()]]>,
    /// Connections taken.
    pub opened: Count,
    /// Connections that have ended.
    pub closed: Count,
    /// Requests that have begun.
    pub begun: Count,
    /// Requests that are over.
    pub over: Count,
    /// Requests that were none: refused by their form alone.
    pub refused: Count,
    /// Bytes that came in.
    pub received: Count,
    /// Bytes that went out.
    pub sent: Count,
}

impl PortCounts {
    fn new(kinds: usize) -> PortCounts {
        PortCounts {
            cells: (0..kinds).map(|_| Default::default()).collect(),
            opened: Count::default(),
            closed: Count::default(),
            begun: Count::default(),
            over: Count::default(),
            refused: Count::default(),
            received: Count::default(),
            sent: Count::default(),
        }
    }

    /// A request is over.
    pub fn request(&self, kind: usize, class: Class, time: Duration) {
        self.over.add(1);
        // A kind that a service did not announce is counted as its last.
        let kind = kind.min(self.cells.len() - 1);
        self.cells[kind][class as usize].add(time);
    }

    /// The numbers of a kind and a class.
    #[must_use]
    pub fn cell(&self, kind: usize, class: Class) -> &Cell {
        &self.cells[kind][class as usize]
    }
}

/// What one ring thread counts, by port.
pub type RingCounts = Arc<[PortCounts]>;

/// What all ring threads count.
#[derive(Clone)]
pub struct Counts {
    /// The ports, in the order of each ring's numbers.
    pub ports: Arc<[Kinds]>,
    /// The ring threads.
    pub rings: Arc<[RingCounts]>,
}

impl Counts {
    /// Nothing counted yet.
    pub(super) fn new(ports: impl Iterator<Item = Kinds>, rings: usize) -> Counts {
        let ports: Arc<[_]> = ports.collect();
        let ring = || ports.iter().map(|kinds| PortCounts::new(kinds.names.len().max(1))).collect();
        Counts { rings: (0..rings).map(|_| ring()).collect(), ports }
    }

    /// A number of one port, over all rings.
    pub fn total(&self, port: usize, number: impl Fn(&PortCounts) -> u64) -> u64 {
        self.rings.iter().map(|ring| number(&ring[port])).sum()
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_time_is_counted_in_the_first_bucket_that_holds_it() {
        let cell = Cell::default();
        for micros in [0, 50, 51, 30_000_000, 30_000_001] {
            cell.add(Duration::from_micros(micros));
        }
        let counts: Vec<_> = cell.buckets.iter().map(Count::get).collect();
        assert_eq!((counts[0], counts[1], counts[15], counts[16]), (2, 1, 1, 1));
        assert_eq!(cell.micros.get(), 60_000_102);
    }

    #[test]
    fn every_status_has_a_class() {
        let class = |status| Class::of(StatusCode::from_u16(status).unwrap()).name();
        assert_eq!([200, 206, 304, 403, 500].map(class), ["2xx", "2xx", "3xx", "4xx", "5xx"]);
    }
}
