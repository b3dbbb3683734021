//! Looks at the node's pressure from time to time, and asks the gate.

use super::disk::busy_ms;
use super::gate::{Change, Gate, Sample};
use super::plan::Disk;
use super::read;
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use wire::standing::Pressure;

/// How often pressure is read: the kernel's averages change every 2 s.
const LOOK_US: u64 = 1_000_000;
/// How far back it is remembered how busy the disk was: as far as the kernel's averages.
const WINDOW_US: u64 = 10_000_000;

/// How busy a disk was lately. Pure.
#[derive(Debug, Default)]
struct Busy {
    /// Times, and the milliseconds in which the disk had something to do until then; the oldest first.
    seen: VecDeque<(u64, u64)>,
}

impl Busy {
    /// Takes in what the disk counts now; gives per cent of the time since the oldest look that is
    /// remembered, if there is one.
    fn look(&mut self, now_us: u64, busy_ms: u64) -> Option<f64> {
        while self.seen.front().is_some_and(|(at, _)| now_us.saturating_sub(*at) > WINDOW_US) {
            self.seen.pop_front();
        }
        let first = self.seen.front().copied();
        self.seen.push_back((now_us, busy_ms));
        let (at, before_ms) = first?;
        let passed_us = now_us.saturating_sub(at);
        let busy_us = busy_ms.saturating_sub(before_ms).saturating_mul(1000);
        (passed_us > 0).then(|| (100.0 * busy_us as f64 / passed_us as f64).min(100.0))
    }
}

/// The gate, and where it looks.
#[derive(Debug)]
pub struct Admission {
    store: PathBuf,
    zones: PathBuf,
    disk: Option<Disk>,
    busy: Busy,
    gate: Gate,
    looked_us: Option<u64>,
    /// What the node is short of while work is held, as it was seen last.
    why: String,
}

impl Admission {
    /// An open gate that looks at these two cgroups and this disk; without a disk it is never short of one.
    #[must_use]
    pub fn new(store: &Path, zones: &Path, disk: Option<Disk>) -> Self {
        let (store, zones) = (store.to_owned(), zones.to_owned());
        let (busy, gate) = (Busy::default(), Gate::Open);
        Self { store, zones, disk, busy, gate, looked_us: None, why: String::new() }
    }

    /// What is lost if there is no pressure to be read here.
    #[must_use]
    pub fn degraded(&self) -> Option<String> {
        let path = self.store.join("memory.pressure");
        match fs::read_to_string(&path) {
            Ok(_) => None,
            Err(error) => Some(format!(
                "no pressure to be read ({}: {error}): new work is never held back",
                path.display()
            )),
        }
    }

    /// Reads the pressure if that is due; says what changed.
    pub fn look(&mut self, now_us: u64) -> Option<Change> {
        if self.looked_us.is_some_and(|last| now_us < last.saturating_add(LOOK_US)) {
            return None;
        }
        self.looked_us = Some(now_us);
        let busy_ms = self.disk.and_then(busy_ms);
        let sample = Sample {
            store_memory: pressure(&self.store, "memory.pressure"),
            zones_io: pressure(&self.zones, "io.pressure"),
            // A disk that does not say how busy it is, or none, is never short.
            disk_busy: busy_ms.map_or(Some(0.0), |ms| self.busy.look(now_us, ms)),
        };
        let (gate, change) = self.gate.step(&sample, now_us);
        self.gate = gate;
        if let Gate::Held { why, .. } = gate {
            self.why = sample.words(why);
        }
        change
    }

    /// What the node is short of, if work waits for it.
    #[must_use]
    pub fn held(&self) -> Option<&str> {
        self.gate.is_held().then_some(self.why.as_str())
    }

    /// Whether a zone may start now.
    #[must_use]
    pub const fn admits(&self, now_us: u64) -> bool {
        self.gate.admits(now_us)
    }

    /// A zone starts.
    pub const fn admitted(&mut self, now_us: u64) {
        self.gate = self.gate.admitted(now_us);
    }

    /// Whether work waits for the node.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.gate.is_held()
    }
}

fn pressure(folder: &Path, name: &str) -> Pressure {
    // Where there is none to be read, `degraded` has said so at start: nothing is ever short.
    read::pressure(&fs::read_to_string(folder.join(name)).unwrap_or_default())
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_disk_is_as_busy_as_it_was_in_the_last_seconds() {
        let mut busy = Busy::default();
        assert_eq!(busy.look(0, 5_000), None);
        assert_eq!(busy.look(1_000_000, 6_000), Some(100.0));
        assert_eq!(busy.look(2_000_000, 6_000), Some(50.0));
        // What was long ago does not count, and nothing is known of the time since.
        assert_eq!(busy.look(60_000_000, 9_000), None);
        assert_eq!(busy.look(61_000_000, 9_250), Some(25.0));
    }

    proptest! {
        #[test]
        fn whatever_it_counts_a_disk_is_busy_some_part_of_the_time(
            looks in prop::collection::vec((0..20_000_000_u64, any::<u64>()), 0..50),
        ) {
            let (mut busy, mut now) = (Busy::default(), 0);
            for (passed, counted) in looks {
                now += passed;
                let part = busy.look(now, counted);
                prop_assert!(part.is_none_or(|part| (0.0..=100.0).contains(&part)));
                prop_assert!(busy.seen.iter().all(|(at, _)| now - at <= WINDOW_US));
            }
        }
    }
}
