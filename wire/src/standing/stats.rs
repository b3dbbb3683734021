//! What a zone uses and meets.

use serde::{Deserialize, Serialize};

/// What a zone uses and meets: counters since it was started, unless they say "now".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stats {
    /// CPU time, in microseconds.
    pub cpu_us: u64,
    /// Of it in user mode.
    pub cpu_user_us: u64,
    /// Of it in the kernel.
    pub cpu_system_us: u64,
    /// Periods of `cpu.max` in which it was held back.
    pub throttled: u64,
    /// For how long, in microseconds.
    pub throttled_us: u64,
    /// Memory charged now, in bytes.
    pub memory_bytes: u64,
    /// The most that was ever charged, in bytes.
    pub memory_peak_bytes: u64,
    /// Of what is charged now: anonymous.
    pub memory_anon_bytes: u64,
    /// Of what is charged now: files.
    pub memory_file_bytes: u64,
    /// Of what is charged now: the kernel's.
    pub memory_kernel_bytes: u64,
    /// Times that `memory.max` made it reclaim.
    pub memory_max_events: u64,
    /// Processes that were killed for memory.
    pub oom_kills: u64,
    /// Bytes read from the data disk.
    pub read_bytes: u64,
    /// Bytes written to the data disk.
    pub write_bytes: u64,
    /// Processes now.
    pub processes: u64,
    /// The most there ever were.
    pub processes_peak: u64,
    /// Times that `pids.max` refused one.
    pub fork_failures: u64,
    /// Network: bytes out of the zone.
    pub out_bytes: u64,
    /// Network: packets out of the zone.
    pub out_packets: u64,
    /// Network: bytes into the zone.
    pub in_bytes: u64,
    /// Network: packets into the zone.
    pub in_packets: u64,
    /// Connections and datagrams that the policy refused.
    pub refused: u64,
    /// Pressure now: processor, memory, disk.
    pub cpu: Pressure,
    /// As above.
    pub memory: Pressure,
    /// As above.
    pub io: Pressure,
}

/// Pressure stall information (`Documentation/accounting/psi.rst`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pressure {
    /// Per cent of the last 10 s in which some process waited.
    pub some_avg10: f64,
    /// Per cent of the last 10 s in which all waited at once.
    pub full_avg10: f64,
    /// For how long some waited in all, in microseconds.
    pub some_total_us: u64,
    /// For how long all waited in all, in microseconds.
    pub full_total_us: u64,
}
