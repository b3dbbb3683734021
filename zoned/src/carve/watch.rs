//! Looks at the node's pressure from time to time, and asks the gate.

use super::gate::{Change, Gate, Sample};
use super::read;
use std::fs;
use std::path::{Path, PathBuf};
use wire::standing::Pressure;

/// How often pressure is read: the kernel's averages change every 2 s.
const LOOK_US: u64 = 1_000_000;

/// The gate, and where it looks.
#[derive(Debug)]
pub struct Admission {
    store: PathBuf,
    zones: PathBuf,
    gate: Gate,
    looked_us: Option<u64>,
}

impl Admission {
    /// An open gate that looks at these two cgroups.
    #[must_use]
    pub fn new(store: &Path, zones: &Path) -> Self {
        let (store, zones) = (store.to_owned(), zones.to_owned());
        Self { store, zones, gate: Gate::Open, looked_us: None }
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
        let sample = Sample {
            store_memory: pressure(&self.store, "memory.pressure"),
            store_io: pressure(&self.store, "io.pressure"),
            zones_io: pressure(&self.zones, "io.pressure"),
        };
        let (gate, change) = self.gate.step(&sample, now_us);
        self.gate = gate;
        change
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
