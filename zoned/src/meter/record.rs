//! A line of usage. All numbers are decimal strings: many readers of JSON lose what is over 2^53.

use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use wire::standing::Stats;

/// What counts. None of these ever goes back while a zone lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Count {
    /// Time from its start, in microseconds.
    WallUs,
    /// Processor time, in microseconds.
    CpuUs,
    /// Of it in user mode.
    CpuUserUs,
    /// Of it in the kernel.
    CpuSystemUs,
    /// Time that `cpu.max` held it back, in microseconds.
    ThrottledUs,
    /// Memory held in reserve, in MiB times milliseconds: what others could not have, used or not.
    MemoryMibMs,
    /// Scratch space held in reserve, likewise.
    ScratchMibMs,
    /// Bytes of objects handed to it, however often it read them.
    ObjectBytes,
    /// Bytes read from the data disk.
    ReadBytes,
    /// Bytes written to the data disk.
    WriteBytes,
    /// Network: bytes out of it.
    OutBytes,
    /// Network: packets out of it.
    OutPackets,
    /// Network: bytes into it.
    InBytes,
    /// Network: packets into it.
    InPackets,
    /// Times that `memory.max` made it reclaim.
    MemoryMaxEvents,
    /// Processes killed for memory.
    OomKills,
    /// Times that `pids.max` refused a process.
    ForkFailures,
    /// Tasks.
    Tasks,
}

/// How many there are.
const COUNTS: usize = 18;
const NAMES: [&str; COUNTS] = [
    "wall_us",
    "cpu_us",
    "cpu_user_us",
    "cpu_system_us",
    "throttled_us",
    "memory_mib_ms",
    "scratch_mib_ms",
    "object_bytes",
    "read_bytes",
    "write_bytes",
    "out_bytes",
    "out_packets",
    "in_bytes",
    "in_packets",
    "memory_max_events",
    "oom_kills",
    "fork_failures",
    "tasks",
];

const _: () = assert!(Count::Tasks as usize + 1 == COUNTS);

/// A number for each [`Count`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters([u64; COUNTS]);

impl Counters {
    /// What the kernel has counted.
    #[must_use]
    pub fn of(stats: &Stats) -> Self {
        let mut all = Self::default();
        let pairs = [
            (Count::CpuUs, stats.cpu_us),
            (Count::CpuUserUs, stats.cpu_user_us),
            (Count::CpuSystemUs, stats.cpu_system_us),
            (Count::ThrottledUs, stats.throttled_us),
            (Count::ReadBytes, stats.read_bytes),
            (Count::WriteBytes, stats.write_bytes),
            (Count::OutBytes, stats.out_bytes),
            (Count::OutPackets, stats.out_packets),
            (Count::InBytes, stats.in_bytes),
            (Count::InPackets, stats.in_packets),
            (Count::MemoryMaxEvents, stats.memory_max_events),
            (Count::OomKills, stats.oom_kills),
            (Count::ForkFailures, stats.fork_failures),
        ];
        pairs.into_iter().for_each(|(count, value)| all.set(count, value));
        all
    }

    /// One of them.
    #[must_use]
    pub const fn get(&self, count: Count) -> u64 {
        self.0[count as usize]
    }

    /// Makes one of them this.
    pub const fn set(&mut self, count: Count, value: u64) {
        self.0[count as usize] = value;
    }

    fn each(&self, other: &Self, act: impl Fn(u64, u64) -> u64) -> Self {
        Self(std::array::from_fn(|at| act(self.0[at], other.0[at])))
    }

    /// What this has more than `other`.
    #[must_use]
    pub fn since(&self, other: &Self) -> Self {
        self.each(other, u64::saturating_sub)
    }

    /// Both together.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    /// The larger of each.
    #[must_use]
    pub fn at_least(&self, other: &Self) -> Self {
        self.each(other, u64::max)
    }
}

impl Serialize for Counters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        // What is 0 is left out: most of it is, in most records.
        for (name, value) in NAMES.iter().zip(self.0).filter(|(_, value)| *value > 0) {
            map.serialize_entry(name, &value.to_string())?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Counters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = BTreeMap::<String, String>::deserialize(deserializer)?;
        let mut all = Self::default();
        for (name, value) in map {
            let at = NAMES.iter().position(|known| *known == name);
            let at = at.ok_or_else(|| D::Error::custom(format!("no count is named {name:?}")))?;
            all.0[at] = value.parse().map_err(D::Error::custom)?;
        }
        Ok(all)
    }
}

/// The version of the records.
pub const VERSION: &str = "1";

/// A record of a zone.
#[derive(Debug, Serialize)]
pub struct Record<'a> {
    /// [`VERSION`].
    pub version: &'static str,
    /// `start`, `checkpoint` or `done`.
    pub event: &'static str,
    /// `task`, `zone` or `import`.
    pub kind: &'static str,
    /// The attempt's number, or the zone's name.
    pub id: String,
    /// Tells a zone's lives apart: when this one began, in milliseconds since 1970.
    pub life: String,
    /// Counts its records from 1: none is missing, and one that is there twice is one.
    pub number: String,
    /// When, in milliseconds since 1970.
    pub at_unix_ms: String,
    /// Who pays: the account's number ...
    pub account: String,
    /// ... and its login.
    pub login: &'a str,
    /// A task's job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<&'a str>,
    /// A task's phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// How it ended, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub how: Option<&'a str>,
    /// The most memory it ever had, in bytes: shown, not billed.
    pub memory_peak_bytes: String,
    /// Used since its record before.
    pub delta: Counters,
    /// Used since its start.
    pub total: Counters,
}

/// The line that says that zoned has been started: what has begun before it and has no end is over, unless
/// records of it follow.
#[must_use]
pub fn agent(unix_ms: u64) -> String {
    let line = serde_json::json!({
        "version": VERSION,
        "event": "agent",
        "at_unix_ms": unix_ms.to_string(),
    });
    line.to_string()
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn counters_come_back_from_json(values: [u64; COUNTS]) {
            let all = Counters(values);
            let text = serde_json::to_string(&all).unwrap();
            prop_assert_eq!(serde_json::from_str::<Counters>(&text).unwrap(), all);
        }
    }

    #[test]
    fn numbers_are_strings_and_nothing_is_left_out_but_zeros() {
        let mut all = Counters::default();
        all.set(Count::CpuUs, u64::MAX);
        assert_eq!(serde_json::to_string(&all).unwrap(), r#"{"cpu_us":"18446744073709551615"}"#);
        let error = serde_json::from_str::<Counters>(r#"{"beer":"1"}"#).unwrap_err();
        assert!(error.to_string().contains("beer"), "{error}");
    }
}
