//! Who has used how much, and what was said of it. Pure: it is told what the kernel has counted and what
//! time it is, and gives lines.

use super::record::{Count, Counters, Record, VERSION};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wire::standing::{Stats, ZoneName};
use wire::task::AttemptId;

/// How often a running zone is reported on: what a power cut may lose of it.
pub const CHECKPOINT_US: u64 = 300_000_000;
const US_PER_MS: u64 = 1000;

/// A zone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A task's.
    Task(AttemptId),
    /// A standing one.
    Zone(ZoneName),
    /// That in which the image of this name is made.
    Import(String),
}

impl Key {
    /// The name of the file that what was said of it is kept in.
    #[must_use]
    pub fn file(&self) -> String {
        match self {
            Self::Task(attempt) => format!("z-{}", attempt.0),
            Self::Zone(name) => format!("s-{name}"),
            Self::Import(name) => format!("i-{name}"),
        }
    }

    fn words(&self) -> (&'static str, String) {
        match self {
            Self::Task(attempt) => ("task", attempt.0.to_string()),
            Self::Zone(name) => ("zone", name.to_string()),
            Self::Import(name) => ("import", name.clone()),
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, id) = self.words();
        write!(f, "{kind} {id}")
    }
}

/// Who pays for a zone, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whose {
    /// The account's number.
    pub account: u32,
    /// Its login.
    pub login: String,
    /// A task's job.
    pub job: Option<String>,
    /// A task's phase.
    pub phase: Option<u32>,
}

/// What a zone holds in reserve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    /// `memory.max`, in MiB.
    pub memory_mib: u64,
    /// Its scratch space, in MiB.
    pub scratch_mib: u64,
}

/// A time, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Microseconds since the node was started: what is billed goes by this one.
    pub boot_us: u64,
    /// Milliseconds since 1970, for people.
    pub unix_ms: u64,
}

/// A zone's life, as it is kept over restarts too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Life {
    whose: Whose,
    began_unix_ms: u64,
    began_us: u64,
    /// What its cgroup had counted when it began.
    before: Counters,
    /// What no cgroup counts: deliveries and tasks.
    own: Counters,
    reserved: Reserved,
    /// Since when it holds that.
    since_us: u64,
    /// MiB times microseconds until then, of memory and of scratch.
    held: (u64, u64),
    /// What was said last.
    last: Counters,
    /// Records said.
    number: u64,
    next_us: u64,
}

/// All zones that live.
#[derive(Debug, Default)]
pub struct Ledger {
    lives: BTreeMap<Key, Life>,
    /// When the first checkpoint is due, or earlier: until then nobody has to be asked.
    due_us: u64,
}

impl Life {
    /// Counts what is held in reserve, up to now.
    fn hold(&mut self, now_us: u64) {
        let passed = now_us.saturating_sub(self.since_us);
        self.held.0 += self.reserved.memory_mib.saturating_mul(passed);
        self.held.1 += self.reserved.scratch_mib.saturating_mul(passed);
        self.since_us = self.since_us.max(now_us);
    }

    fn total(&mut self, now: &Stats, at: Moment) -> Counters {
        self.hold(at.boot_us);
        let mut total = Counters::of(now).since(&self.before).and(&self.own);
        total.set(Count::WallUs, at.boot_us.saturating_sub(self.began_us));
        total.set(Count::MemoryMibMs, self.held.0 / US_PER_MS);
        total.set(Count::ScratchMibMs, self.held.1 / US_PER_MS);
        // Whatever a kernel may count backwards: nobody is paid back.
        total.at_least(&self.last)
    }

    fn record(
        &mut self,
        key: &Key,
        event: &'static str,
        now: &Stats,
        how: Option<&str>,
        at: Moment,
    ) -> String {
        let total = self.total(now, at);
        let delta = total.since(&self.last);
        self.last = total;
        self.number += 1;
        self.next_us = at.boot_us.saturating_add(CHECKPOINT_US);
        let (kind, id) = key.words();
        let record = Record {
            version: VERSION,
            event,
            kind,
            id,
            life: self.began_unix_ms.to_string(),
            number: self.number.to_string(),
            at_unix_ms: at.unix_ms.to_string(),
            account: self.whose.account.to_string(),
            login: &self.whose.login,
            job: self.whose.job.as_deref(),
            phase: self.whose.phase.map(|phase| phase.to_string()),
            how,
            memory_peak_bytes: now.memory_peak_bytes.to_string(),
            delta,
            total,
        };
        serde_json::to_string(&record).expect("strings and maps of strings are JSON")
    }
}

impl Ledger {
    /// A zone begins, in a cgroup that has counted `now` already; the line that says so.
    pub fn begin(
        &mut self,
        key: Key,
        whose: Whose,
        reserved: Reserved,
        now: &Stats,
        at: Moment,
    ) -> String {
        let mut own = Counters::default();
        own.set(Count::Tasks, u64::from(matches!(key, Key::Task(_))));
        let mut life = Life {
            whose,
            began_unix_ms: at.unix_ms,
            began_us: at.boot_us,
            before: Counters::of(now),
            own,
            reserved,
            since_us: at.boot_us,
            held: (0, 0),
            last: Counters::default(),
            number: 0,
            next_us: 0,
        };
        let line = life.record(&key, "start", now, None, at);
        self.due_us = self.due_us.min(life.next_us);
        self.lives.insert(key, life);
        line
    }

    /// A zone goes on that `saved` tells of; false if it tells nothing.
    pub fn adopt(&mut self, key: Key, saved: &str) -> bool {
        let Ok(life) = serde_json::from_str::<Life>(saved) else { return false };
        self.due_us = self.due_us.min(life.next_us);
        self.lives.insert(key, life);
        true
    }

    /// What is to be kept of a zone for a later [`Self::adopt`].
    #[must_use]
    pub fn saved(&self, key: &Key) -> Option<String> {
        let life = self.lives.get(key)?;
        Some(serde_json::to_string(life).expect("strings and maps of strings are JSON"))
    }

    /// A zone's reserve changes.
    pub fn reserve(&mut self, key: &Key, reserved: Reserved, at: Moment) {
        if let Some(life) = self.lives.get_mut(key) {
            life.hold(at.boot_us);
            life.reserved = reserved;
        }
    }

    /// Adds to a count that no cgroup keeps.
    pub fn add(&mut self, key: &Key, count: Count, more: u64) {
        if let Some(life) = self.lives.get_mut(key) {
            let sum = life.own.get(count).saturating_add(more);
            life.own.set(count, sum);
        }
    }

    /// Zones of which a checkpoint is due.
    #[must_use]
    pub fn due(&mut self, at: Moment) -> Vec<Key> {
        if at.boot_us < self.due_us {
            return Vec::new();
        }
        let due = self.lives.iter().filter(|(_, life)| life.next_us <= at.boot_us);
        let due: Vec<Key> = due.map(|(key, _)| key.clone()).collect();
        // With some due it is now, until their checkpoints are taken.
        self.due_us = self.lives.values().map(|life| life.next_us).min().unwrap_or(u64::MAX);
        due
    }

    /// What a zone has used so far; none if it is not known.
    pub fn checkpoint(&mut self, key: &Key, now: &Stats, at: Moment) -> Option<String> {
        Some(self.lives.get_mut(key)?.record(key, "checkpoint", now, None, at))
    }

    /// All that a zone has used, now that it is over; none if it is not known.
    pub fn end(&mut self, key: &Key, now: &Stats, how: &str, at: Moment) -> Option<String> {
        Some(self.lives.remove(key)?.record(key, "done", now, Some(how), at))
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn at(boot_us: u64) -> Moment {
        Moment { boot_us, unix_ms: 1_795_338_367_000 + boot_us / 1000 }
    }

    fn whose() -> Whose {
        Whose { account: 7, login: "ann".to_owned(), job: Some("j".to_owned()), phase: Some(0) }
    }

    fn key(number: u64) -> Key {
        Key::Task(AttemptId(number))
    }

    fn parse(line: &str) -> Value {
        serde_json::from_str(line).unwrap()
    }

    fn number(value: &Value) -> u64 {
        value.as_str().unwrap_or("0").parse().unwrap()
    }

    #[test]
    fn reserve_is_counted_by_time_and_by_size() {
        let mut ledger = Ledger::default();
        let reserved = |memory_mib| Reserved { memory_mib, scratch_mib: 1 };
        let none = Stats::default();
        ledger.begin(key(1), whose(), reserved(100), &none, at(0));
        ledger.reserve(&key(1), reserved(200), at(1_000_000));
        let done = parse(&ledger.end(&key(1), &none, "exited 0", at(3_000_000)).unwrap());
        assert_eq!(number(&done["total"]["memory_mib_ms"]), 100 * 1000 + 200 * 2000);
        assert_eq!(number(&done["total"]["scratch_mib_ms"]), 3000);
        assert_eq!(number(&done["total"]["wall_us"]), 3_000_000);
        assert_eq!((&done["how"], number(&done["total"]["tasks"])), (&"exited 0".into(), 1));
    }

    #[test]
    fn what_a_kept_instance_used_before_is_not_the_next_task_s() {
        let mut ledger = Ledger::default();
        let used = |cpu_us| Stats { cpu_us, ..Stats::default() };
        ledger.begin(key(1), whose(), Reserved::default(), &used(500), at(0));
        let done = parse(&ledger.end(&key(1), &used(520), "exited 0", at(1)).unwrap());
        assert_eq!(number(&done["delta"]["cpu_us"]), 20);
    }

    #[test]
    fn a_checkpoint_is_due_every_five_minutes_and_not_at_once() {
        let mut ledger = Ledger::default();
        ledger.begin(key(1), whose(), Reserved::default(), &Stats::default(), at(5));
        assert_eq!(ledger.due(at(CHECKPOINT_US)), []);
        assert_eq!(ledger.due(at(CHECKPOINT_US + 5)), [key(1)]);
        ledger.checkpoint(&key(1), &Stats::default(), at(CHECKPOINT_US + 5)).unwrap();
        assert_eq!(ledger.due(at(CHECKPOINT_US + 6)), []);
    }

    #[derive(Debug, Clone)]
    enum Act {
        Use(u64, u64),
        Pass(u64),
        Reserve(u64),
        Deliver(u64),
        Checkpoint,
        Restart,
    }

    fn any_act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (0..1_000_000_u64, 0..1_000_000_u64).prop_map(|(cpu, disk)| Act::Use(cpu, disk)),
            (0..10_000_000_u64).prop_map(Act::Pass),
            (8..4096_u64).prop_map(Act::Reserve),
            (0..1_000_000_u64).prop_map(Act::Deliver),
            Just(Act::Checkpoint),
            Just(Act::Restart),
        ]
    }

    proptest! {
        #[test]
        fn the_differences_of_all_records_are_the_whole_whatever_happens(
            acts in prop::collection::vec(any_act(), 0..60),
        ) {
            let mut ledger = Ledger::default();
            let (mut stats, mut now) = (Stats { cpu_us: 77, ..Stats::default() }, 1_000_u64);
            let (mut memory, mut held, mut delivered) = (64, 0_u64, 0);
            let reserved = |memory_mib| Reserved { memory_mib, scratch_mib: 0 };
            let mut lines = vec![ledger.begin(key(1), whose(), reserved(memory), &stats, at(now))];
            for act in acts {
                match act {
                    Act::Use(cpu, disk) => {
                        stats.cpu_us += cpu;
                        stats.read_bytes += disk;
                    }
                    Act::Pass(us) => {
                        now += us;
                        held += us * memory;
                    }
                    Act::Reserve(mib) => {
                        memory = mib;
                        ledger.reserve(&key(1), reserved(memory), at(now));
                    }
                    Act::Deliver(bytes) => {
                        delivered += bytes;
                        ledger.add(&key(1), Count::ObjectBytes, bytes);
                    }
                    Act::Checkpoint => lines.extend(ledger.checkpoint(&key(1), &stats, at(now))),
                    Act::Restart => {
                        let saved = ledger.saved(&key(1)).unwrap();
                        ledger = Ledger::default();
                        prop_assert!(ledger.adopt(key(1), &saved));
                    }
                }
            }
            lines.extend(ledger.end(&key(1), &stats, "over", at(now)));
            let lines: Vec<Value> = lines.iter().map(|line| parse(line)).collect();
            let last = lines.last().unwrap();
            for (name, expected) in [
                ("cpu_us", stats.cpu_us - 77),
                ("read_bytes", stats.read_bytes),
                ("object_bytes", delivered),
                ("memory_mib_ms", held / 1000),
                ("wall_us", now - 1000),
                ("tasks", 1),
            ] {
                let sum: u64 = lines.iter().map(|line| number(&line["delta"][name])).sum();
                prop_assert_eq!((sum, number(&last["total"][name])), (expected, expected), "{}", name);
            }
            for (at, line) in lines.iter().enumerate() {
                prop_assert_eq!(number(&line["number"]), at as u64 + 1);
                prop_assert_eq!(&line["life"], &lines[0]["life"]);
            }
        }

        #[test]
        fn whatever_was_saved_is_taken_up_or_not(text in ".{0,100}") {
            prop_assert!(!Ledger::default().adopt(key(1), &text));
        }
    }
}
