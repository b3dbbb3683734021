//! The carve: what a zone or an account may use of a node, in the terms of cgroup v2
//! (`Documentation/admin-guide/cgroup-v2.rst`) and of project quotas.
//!
//! Data and its checks only; zoned turns it into files of the kernel and reads each one back.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use thiserror::Error;

/// Weights go from 1 to this (`cpu.weight`, `io.weight`).
pub const WEIGHT_MAX: u32 = 10_000;
/// The weight of who asks for none: the kernel's own default.
pub const WEIGHT_DEFAULT: u32 = 100;
/// The least CPU that can be asked for, in thousandths of a processor: 1 ms in each period of 100.
pub const CPU_MILLI_MIN: u32 = 10;
/// The least memory a zone can have, in MiB: its first process and a shell.
pub const MEMORY_MIB_MIN: u32 = 8;
/// The least processes a zone can have: its first, a shell, and a pipeline's two.
pub const PIDS_MIN: u32 = 4;
/// The most processes a zone can have: the kernel's own limit on numbers (`/proc/sys/kernel/pid_max`).
pub const PIDS_MAX: u32 = 4_194_304;
/// The most that a zone may keep on the data disk, in MiB: what the largest filesystem of ext4 holds, 1 EiB.
pub const DISK_MIB_MAX: u64 = 1 << 40;
/// The most bytes in a list of processors (`cpuset.cpus`).
pub const CPUS_BYTES_MAX: usize = 128;
/// The most rules in a zone's network policy: what one BPF map of a zone has room for.
pub const RULES_MAX: usize = 64;
/// The least rate of a network, in bytes a second: below it a single full packet takes seconds.
pub const RATE_BYTES_MIN: u64 = 8 * 1024;

/// What a standing zone, or a task's, may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Carve {
    /// `cpu.weight`: its share among the zones of its account when the processors are busy.
    pub cpu_weight: u32,
    /// `cpu.max`, in thousandths of a processor; no cap if none.
    pub cpu_milli: Option<u32>,
    /// `cpuset.cpus`, as the kernel writes lists: `0-1,3`; all if none.
    pub cpus: Option<String>,
    /// `memory.max`, in MiB.
    pub memory_mib: u32,
    /// `memory.low`, in MiB: not reclaimed below this while others have more than theirs.
    pub memory_low_mib: u32,
    /// `io.weight`.
    pub io_weight: u32,
    /// `io.max` of the data disk.
    pub io: IoRates,
    /// `pids.max`.
    pub pids: u32,
    /// What its writable layer, `/tmp` and `/dev/shm` may hold, in MiB. They are in its memory.
    pub scratch_mib: u32,
    /// What it may keep on the data disk (output, logs), in MiB: a project quota.
    pub disk_mib: u64,
}

impl Default for Carve {
    fn default() -> Self {
        Self {
            cpu_weight: WEIGHT_DEFAULT,
            cpu_milli: None,
            cpus: None,
            memory_mib: 256,
            memory_low_mib: 0,
            io_weight: WEIGHT_DEFAULT,
            io: IoRates::default(),
            pids: 512,
            scratch_mib: 128,
            disk_mib: 1024,
        }
    }
}

/// Rates on the data disk (`io.max`); none is no cap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IoRates {
    /// Bytes read a second.
    pub read_bytes: Option<u64>,
    /// Bytes written a second.
    pub write_bytes: Option<u64>,
    /// Reads a second.
    pub reads: Option<u64>,
    /// Writes a second.
    pub writes: Option<u64>,
}

impl IoRates {
    /// These with the changes made.
    #[must_use]
    pub fn changed(&self, change: &CarveChange) -> Self {
        Self {
            read_bytes: changed_cap(change.read_bytes, self.read_bytes),
            write_bytes: changed_cap(change.write_bytes, self.write_bytes),
            reads: changed_cap(change.reads, self.reads),
            writes: changed_cap(change.writes, self.writes),
        }
    }
}

/// A cap after a change: 0 takes it away, and none leaves it as it is.
fn changed_cap<T: PartialEq + From<u8>>(change: Option<T>, now: Option<T>) -> Option<T> {
    match change {
        Some(cap) if cap == T::from(0) => None,
        other => other.or(now),
    }
}

/// Changes to a carve: what is none stays as it is. For a cap that can be taken away, 0 takes it away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CarveChange {
    /// As [`Carve::cpu_weight`].
    pub cpu_weight: Option<u32>,
    /// As [`Carve::cpu_milli`]; 0 takes the cap away.
    pub cpu_milli: Option<u32>,
    /// As [`Carve::cpus`]; empty gives all.
    pub cpus: Option<String>,
    /// As [`Carve::memory_mib`].
    pub memory_mib: Option<u32>,
    /// As [`Carve::memory_low_mib`].
    pub memory_low_mib: Option<u32>,
    /// As [`Carve::io_weight`].
    pub io_weight: Option<u32>,
    /// As [`IoRates::read_bytes`]; 0 takes the cap away.
    pub read_bytes: Option<u64>,
    /// As [`IoRates::write_bytes`]; 0 takes the cap away.
    pub write_bytes: Option<u64>,
    /// As [`IoRates::reads`]; 0 takes the cap away.
    pub reads: Option<u64>,
    /// As [`IoRates::writes`]; 0 takes the cap away.
    pub writes: Option<u64>,
    /// As [`Carve::pids`].
    pub pids: Option<u32>,
    /// As [`Carve::disk_mib`].
    pub disk_mib: Option<u64>,
    /// As [`Network::out_bytes`]; 0 takes the cap away.
    pub out_bytes: Option<u64>,
    /// As [`Network::in_bytes`]; 0 takes the cap away.
    pub in_bytes: Option<u64>,
    /// As [`Network::allow`], all of it: these rules take the place of those that are.
    pub allow: Option<Vec<Rule>>,
}

impl CarveChange {
    /// Whether anything of a network changes.
    #[must_use]
    pub const fn changes_network(&self) -> bool {
        self.out_bytes.is_some() || self.in_bytes.is_some() || self.allow.is_some()
    }
}

/// Why a carve is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field} is {got}: {allowed}")]
pub struct CarveError {
    /// Which part.
    pub field: &'static str,
    /// What it was.
    pub got: String,
    /// What it may be.
    pub allowed: String,
}

pub(crate) fn within(
    field: &'static str,
    got: u64,
    least: u64,
    most: u64,
) -> Result<(), CarveError> {
    if (least..=most).contains(&got) {
        return Ok(());
    }
    let allowed = format!("it may be {least} to {most}");
    Err(CarveError { field, got: got.to_string(), allowed })
}

impl Carve {
    /// Checks every part against the limits of this module.
    ///
    /// # Errors
    /// [`CarveError`] for the first part that is out of bounds.
    pub fn check(&self) -> Result<(), CarveError> {
        let weights = [("cpu_weight", self.cpu_weight), ("io_weight", self.io_weight)];
        for (field, weight) in weights {
            within(field, weight.into(), 1, WEIGHT_MAX.into())?;
        }
        if let Some(milli) = self.cpu_milli {
            within("cpu_milli", milli.into(), CPU_MILLI_MIN.into(), u32::MAX.into())?;
        }
        if let Some(cpus) = &self.cpus {
            let plain = |b: u8| b.is_ascii_digit() || matches!(b, b',' | b'-');
            if cpus.is_empty() || cpus.len() > CPUS_BYTES_MAX || !cpus.bytes().all(plain) {
                let allowed = "it may be a list of processors such as 0-1,3".to_owned();
                return Err(CarveError { field: "cpus", got: format!("{cpus:?}"), allowed });
            }
        }
        within("memory_mib", self.memory_mib.into(), MEMORY_MIB_MIN.into(), u32::MAX.into())?;
        within("memory_low_mib", self.memory_low_mib.into(), 0, self.memory_mib.into())?;
        within("pids", self.pids.into(), PIDS_MIN.into(), PIDS_MAX.into())?;
        within("scratch_mib", self.scratch_mib.into(), 1, self.memory_mib.into())?;
        // A quota of nothing is none.
        within("disk_mib", self.disk_mib, 1, DISK_MIB_MAX)
    }

    /// This with the changes made; those of the network are not in it.
    #[must_use]
    pub fn changed(&self, change: &CarveChange) -> Self {
        Self {
            cpu_weight: change.cpu_weight.unwrap_or(self.cpu_weight),
            cpu_milli: changed_cap(change.cpu_milli, self.cpu_milli),
            cpus: match change.cpus.as_deref() {
                Some("") => None,
                Some(list) => Some(list.to_owned()),
                None => self.cpus.clone(),
            },
            memory_mib: change.memory_mib.unwrap_or(self.memory_mib),
            memory_low_mib: change.memory_low_mib.unwrap_or(self.memory_low_mib),
            io_weight: change.io_weight.unwrap_or(self.io_weight),
            io: self.io.changed(change),
            pids: change.pids.unwrap_or(self.pids),
            scratch_mib: self.scratch_mib,
            disk_mib: change.disk_mib.unwrap_or(self.disk_mib),
        }
    }
}

/// A network for a zone: a link of its own to the node's bridge, with translation of addresses. What no
/// rule allows is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Whom it may talk to.
    pub allow: Vec<Rule>,
    /// Bytes a second that may leave the zone; no cap if none.
    pub out_bytes: Option<u64>,
    /// Bytes a second that may enter the zone; no cap if none.
    pub in_bytes: Option<u64>,
}

/// Whom a zone may talk to, first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// By which protocol.
    pub protocol: Protocol,
    /// The network's address.
    pub address: IpAddr,
    /// How many of its bits count.
    pub prefix: u8,
    /// The first port; 0 with a last of 65535 is all.
    pub first_port: u16,
    /// The last port.
    pub last_port: u16,
}

/// A protocol over IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Network {
    /// Checks rules and rates.
    ///
    /// # Errors
    /// [`CarveError`] for the first that makes no sense.
    pub fn check(&self) -> Result<(), CarveError> {
        within("the number of rules", self.allow.len() as u64, 0, RULES_MAX as u64)?;
        for rule in &self.allow {
            let bits = if rule.address.is_ipv4() { 32 } else { 128 };
            within("a rule's prefix", rule.prefix.into(), 0, bits)?;
            within("a rule's last port", rule.last_port.into(), rule.first_port.into(), 65_535)?;
        }
        for (field, rate) in [("out_bytes", self.out_bytes), ("in_bytes", self.in_bytes)] {
            if let Some(rate) = rate {
                within(field, rate, RATE_BYTES_MIN, u64::MAX)?;
            }
        }
        Ok(())
    }

    /// This with the changes made.
    #[must_use]
    pub fn changed(&self, change: &CarveChange) -> Self {
        Self {
            allow: change.allow.clone().unwrap_or_else(|| self.allow.clone()),
            out_bytes: changed_cap(change.out_bytes, self.out_bytes),
            in_bytes: changed_cap(change.in_bytes, self.in_bytes),
        }
    }
}

/// A limit as it was asked for and as the kernel has it: it rounds to pages and periods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// The kernel's name for it: `memory.max`, `project quota`, `tbf rate`.
    pub name: String,
    /// What was asked for.
    pub asked: String,
    /// What is in force; why there is none, where the kernel has no such limit.
    pub got: String,
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_default_carve_is_one() {
        assert_eq!(Carve::default().check(), Ok(()));
        assert_eq!(Network::default().check(), Ok(()));
    }

    #[test]
    fn each_bound_is_named() {
        let carve = Carve { pids: 1, ..Carve::default() };
        let error = carve.check().unwrap_err();
        assert_eq!(error.to_string(), "pids is 1: it may be 4 to 4194304");
        let carve = Carve { cpus: Some("0; rm".to_owned()), ..Carve::default() };
        assert_eq!(carve.check().unwrap_err().field, "cpus");
        let carve = Carve { memory_low_mib: 257, ..Carve::default() };
        assert_eq!(carve.check().unwrap_err().field, "memory_low_mib");
        for disk_mib in [0, DISK_MIB_MAX + 1] {
            let carve = Carve { disk_mib, ..Carve::default() };
            assert_eq!(carve.check().unwrap_err().field, "disk_mib");
        }
    }

    #[test]
    fn zero_takes_a_cap_away_and_nothing_leaves_it() {
        let io = IoRates { reads: Some(10), writes: Some(20), ..IoRates::default() };
        let capped = Carve { cpu_milli: Some(500), io, ..Carve::default() };
        let change = CarveChange { cpu_milli: Some(0), reads: Some(0), ..CarveChange::default() };
        let after = capped.changed(&change);
        assert_eq!((after.cpu_milli, after.io.reads, after.io.writes), (None, None, Some(20)));
        assert_eq!(capped.changed(&CarveChange::default()), capped);
    }
}
