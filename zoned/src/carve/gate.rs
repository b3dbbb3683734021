//! Whether new zones may start now: pressure (PSI, `Documentation/accounting/psi.rst`) decides. Pure.
//!
//! ```text
//!            short of something                      every 10 s one is let in all the same
//!   Open ───────────────────────▶ Held { why, since } ─────────────────────────────▶ (Held)
//!     ▲                             │
//!     └────── short of nothing ─────┘   at the lower mark, and after a while
//! ```
//!
//! What waits fails never, and waits for ever never: were it not for the one that is let in, a tenant who
//! keeps the disk busy could keep everybody else out. What a zone suffers within its own limits is no
//! shortage of the node, so memory is judged by what the store suffers, and the disk by how busy it is itself:
//! a zone at its rate (`io.max`) waits all the time for a disk that does nothing. What the store waits for the
//! disk tells nothing: the kernel counts a thread that waits for a request in io_uring as one that waits for
//! a disk, so a store that has nothing to do is at 90 %.

use wire::standing::Pressure;

/// Per cent of time in which all of the store waited for memory at once: work is held back from here.
/// The store's memory is protected, so it waits only when the whole node reclaims.
const MEMORY_HOLD: f64 = 10.0;
/// ... and goes on below this.
const MEMORY_RELEASE: f64 = 3.0;
/// Per cent of time in which all that runs in zones waited for the disk at once.
const ZONES_IO_HOLD: f64 = 60.0;
/// ... and goes on below this.
const ZONES_IO_RELEASE: f64 = 30.0;
/// Per cent of time in which the disk had something to do: below this it has room, however much zones wait
/// for it.
const DISK_HOLD: f64 = 80.0;
/// ... and goes on below this.
const DISK_RELEASE: f64 = 50.0;
/// The least time that work is held: the averages are over 10 s, a shorter hold would be noise.
pub const HOLD_US_MIN: u64 = 2_000_000;
/// How often one zone is let in while work is held.
pub const TRICKLE_US: u64 = 10_000_000;

/// What is known of the node's pressure.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sample {
    /// `memory.pressure` of the store's cgroup.
    pub store_memory: Pressure,
    /// `io.pressure` of all zones.
    pub zones_io: Pressure,
    /// Per cent of the last seconds in which the data disk had something to do; none if nobody has looked at it
    /// twice in that time. Until then the disk is taken to be as busy as zones say.
    pub disk_busy: Option<f64>,
}

/// What the node is short of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// Memory.
    Memory,
    /// The disk.
    Disk,
}

/// Whether zones may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gate {
    /// They may.
    #[default]
    Open,
    /// They wait.
    Held {
        /// For what.
        why: Shortage,
        /// Since when, in microseconds of the daemon's clock.
        since_us: u64,
        /// When the next one is let in all the same.
        next_us: u64,
    },
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Work waits from now on.
    Held {
        /// For what, in words.
        why: String,
    },
    /// Work goes on.
    Released,
}

impl Sample {
    /// What the node is too short of to take on more.
    fn too_short(&self) -> Option<Shortage> {
        let (memory, disk, zones) = self.marks();
        if memory >= MEMORY_HOLD {
            Some(Shortage::Memory)
        } else if zones >= ZONES_IO_HOLD && disk.is_none_or(|busy| busy >= DISK_HOLD) {
            Some(Shortage::Disk)
        } else {
            None
        }
    }

    /// Whether there is plenty of everything.
    fn is_ample(&self) -> bool {
        let (memory, disk, zones) = self.marks();
        let idle = disk.is_some_and(|busy| busy < DISK_RELEASE);
        memory < MEMORY_RELEASE && (zones < ZONES_IO_RELEASE || idle)
    }

    const fn marks(&self) -> (f64, Option<f64>, f64) {
        (self.store_memory.full_avg10, self.disk_busy, self.zones_io.full_avg10)
    }

    /// What the node is short of, with the figures.
    pub(super) fn words(&self, shortage: Shortage) -> String {
        let (memory, disk, zones) = self.marks();
        match shortage {
            Shortage::Memory => {
                format!("memory is short: the store stood still for it {memory:.0} % of 10 s")
            }
            Shortage::Disk => match disk {
                Some(busy) => format!(
                    "the disk is busy {busy:.0} % of the time, and zones stood still for it \
                     {zones:.0} % of 10 s"
                ),
                None => format!("zones stood still for the disk {zones:.0} % of 10 s"),
            },
        }
    }
}

impl Gate {
    /// What becomes of it at this time, with this pressure.
    #[must_use]
    pub fn step(self, sample: &Sample, now_us: u64) -> (Self, Option<Change>) {
        match self {
            Self::Open => match sample.too_short() {
                None => (Self::Open, None),
                Some(why) => {
                    let next_us = now_us.saturating_add(TRICKLE_US);
                    let held = Self::Held { why, since_us: now_us, next_us };
                    (held, Some(Change::Held { why: sample.words(why) }))
                }
            },
            Self::Held { since_us, .. } => {
                let long_enough = now_us.saturating_sub(since_us) >= HOLD_US_MIN;
                if long_enough && sample.is_ample() {
                    (Self::Open, Some(Change::Released))
                } else {
                    (self, None)
                }
            }
        }
    }

    /// Whether a zone may start now.
    #[must_use]
    pub const fn admits(self, now_us: u64) -> bool {
        match self {
            Self::Open => true,
            Self::Held { next_us, .. } => now_us >= next_us,
        }
    }

    /// A zone starts.
    #[must_use]
    pub const fn admitted(self, now_us: u64) -> Self {
        match self {
            Self::Open => self,
            Self::Held { why, since_us, .. } => {
                Self::Held { why, since_us, next_us: now_us.saturating_add(TRICKLE_US) }
            }
        }
    }

    /// Whether work waits.
    #[must_use]
    pub const fn is_held(self) -> bool {
        matches!(self, Self::Held { .. })
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn sample(memory: f64, disk_busy: f64, zones: f64) -> Sample {
        Sample {
            store_memory: Pressure { full_avg10: memory, ..Pressure::default() },
            zones_io: Pressure { full_avg10: zones, ..Pressure::default() },
            disk_busy: Some(disk_busy),
        }
    }

    #[test]
    fn work_is_held_with_the_reason_and_goes_on_at_the_lower_mark() {
        let (gate, change) = Gate::Open.step(&sample(23.4, 0.0, 0.0), 0);
        let why = "memory is short: the store stood still for it 23 % of 10 s".to_owned();
        assert_eq!(change, Some(Change::Held { why }));
        let (gate, change) = gate.step(&sample(5.0, 0.0, 0.0), 5_000_000);
        assert!(gate.is_held() && change.is_none());
        let (gate, change) = gate.step(&sample(1.0, 0.0, 0.0), 6_000_000);
        assert_eq!((gate, change), (Gate::Open, Some(Change::Released)));
    }

    #[test]
    fn a_disk_is_short_when_it_is_busy_and_zones_wait_for_it() {
        assert_eq!(Gate::Open.step(&sample(0.0, 100.0, 20.0), 0).0, Gate::Open);
        // Zones at their own rates.
        assert_eq!(Gate::Open.step(&sample(0.0, 30.0, 100.0), 0).0, Gate::Open);
        assert!(Gate::Open.step(&sample(0.0, 95.0, 90.0), 0).0.is_held());
    }

    #[test]
    fn a_disk_that_nobody_has_looked_at_is_as_busy_as_zones_say() {
        let unknown = |zones| Sample { disk_busy: None, ..sample(0.0, 0.0, zones) };
        assert_eq!(Gate::Open.step(&unknown(50.0), 0).0, Gate::Open);
        let (held, change) = Gate::Open.step(&unknown(90.0), 0);
        let why = "zones stood still for the disk 90 % of 10 s".to_owned();
        assert_eq!(change, Some(Change::Held { why }));
        // They were at their own rates.
        let (gate, change) = held.step(&sample(0.0, 30.0, 90.0), HOLD_US_MIN);
        assert_eq!((gate, change), (Gate::Open, Some(Change::Released)));
    }

    fn any_sample() -> impl Strategy<Value = Sample> {
        (0.0..100.0, prop::option::of(0.0..100.0), 0.0..100.0)
            .prop_map(|(m, d, z)| Sample { disk_busy: d, ..sample(m, 0.0, z) })
    }

    proptest! {
        #[test]
        fn it_moves_only_past_its_marks_and_lets_one_in_each_interval(
            steps in prop::collection::vec((any_sample(), 0..4_000_000_u64), 1..100),
        ) {
            let mut gate = Gate::Open;
            let (mut now, mut held_at, mut let_in) = (0, 0, 0_u64);
            for (sample, passed) in steps {
                now += passed;
                let (next, change) = gate.step(&sample, now);
                prop_assert_eq!(gate.is_held() != next.is_held(), change.is_some());
                match change {
                    Some(Change::Held { why }) => {
                        prop_assert!(sample.too_short().is_some() && !why.is_empty());
                        (held_at, let_in) = (now, 0);
                    }
                    Some(Change::Released) => {
                        prop_assert!(sample.is_ample() && now - held_at >= HOLD_US_MIN);
                    }
                    None => {}
                }
                // What is too short is never ample: the two marks do not meet.
                prop_assert!(sample.too_short().is_none() || !sample.is_ample());
                gate = next;
                if gate.is_held() && gate.admits(now) {
                    let_in += 1;
                    gate = gate.admitted(now);
                    prop_assert!(!gate.admits(now));
                }
                prop_assert!(!gate.is_held() || let_in <= (now - held_at) / TRICKLE_US);
            }
            // Whatever the pressure, nobody waits for longer than this.
            prop_assert!(gate.admits(now + TRICKLE_US));
        }
    }
}
