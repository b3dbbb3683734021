//! Accounts as zoned holds them to it: what the zones of one may use together, and what they use.
//!
//! A limit comes from one of three places, the first that says anything: what was set for the account
//! through the admin API, what the machine's configuration says of it, what the node gives every account.

use crate::carve::{CPU_MILLI_MIN, CarveError, Limit, PIDS_MIN, WEIGHT_MAX, within};
use crate::machine::Login;
use crate::standing::Stats;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most accounts in one answer; longer lists are paged by login.
pub const PAGE_MAX: usize = 24;
/// The least memory that an account can be held to, in MiB: that of its smallest zone.
pub const MEMORY_MIB_MIN: u64 = crate::carve::MEMORY_MIB_MIN as u64;

/// What an account's zones may use together: what is none is said elsewhere, 0 is no cap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccountLimits {
    /// `cpu.weight`: its share among accounts when the processors are busy.
    pub cpu_weight: Option<u32>,
    /// `cpu.max`, in thousandths of a processor.
    pub cpu_milli: Option<u32>,
    /// `memory.max`, in MiB.
    pub memory_mib: Option<u64>,
    /// `io.weight`: its share among accounts when the data disk is busy.
    pub io_weight: Option<u32>,
    /// Bytes read from the data disk a second.
    pub read_bytes: Option<u64>,
    /// Bytes written to it a second.
    pub write_bytes: Option<u64>,
    /// Reads a second.
    pub reads: Option<u64>,
    /// Writes a second.
    pub writes: Option<u64>,
    /// `pids.max`.
    pub pids: Option<u32>,
    /// Standing zones that it may have, running or not.
    pub zones: Option<u32>,
}

impl AccountLimits {
    /// Checks every part.
    ///
    /// # Errors
    /// [`CarveError`] for the first that is out of bounds.
    pub fn check(&self) -> Result<(), CarveError> {
        for (field, weight) in [("cpu_weight", self.cpu_weight), ("io_weight", self.io_weight)] {
            if let Some(weight) = weight {
                within(field, weight.into(), 1, WEIGHT_MAX.into())?;
            }
        }
        let caps = [
            ("cpu_milli", self.cpu_milli.map(u64::from), CPU_MILLI_MIN.into(), u32::MAX.into()),
            ("memory_mib", self.memory_mib, MEMORY_MIB_MIN, u32::MAX.into()),
            ("pids", self.pids.map(u64::from), PIDS_MIN.into(), crate::carve::PIDS_MAX.into()),
        ];
        for (field, cap, least, most) in caps {
            if let Some(cap) = cap.filter(|cap| *cap > 0) {
                within(field, cap, least, most)?;
            }
        }
        Ok(())
    }

    /// This, and where it says nothing, what `below` says.
    #[must_use]
    pub fn over(&self, below: &Self) -> Self {
        Self {
            cpu_weight: self.cpu_weight.or(below.cpu_weight),
            cpu_milli: self.cpu_milli.or(below.cpu_milli),
            memory_mib: self.memory_mib.or(below.memory_mib),
            io_weight: self.io_weight.or(below.io_weight),
            read_bytes: self.read_bytes.or(below.read_bytes),
            write_bytes: self.write_bytes.or(below.write_bytes),
            reads: self.reads.or(below.reads),
            writes: self.writes.or(below.writes),
            pids: self.pids.or(below.pids),
            zones: self.zones.or(below.zones),
        }
    }

    /// Whether it says nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the machine's configuration says of accounts, as noded leaves it for zoned.
pub type Configured = BTreeMap<Login, AccountLimits>;

/// What may be asked of zoned about accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AccountRequest {
    /// All accounts after this login. Answered by [`AccountReply::Accounts`].
    List {
        /// The last login of the page before; none for the first page.
        after: Option<Login>,
    },
    /// One account. Answered by [`AccountReply::Account`].
    Get(Login),
    /// Change what is set for it: what is none stays as it is. Answered by [`AccountReply::Account`].
    Limit {
        /// Whose.
        login: Login,
        /// What changes.
        change: AccountLimits,
    },
    /// Nothing is set for it any more. Answered by [`AccountReply::Account`].
    Reset(Login),
}

impl AccountRequest {
    /// Whom it is about; none if about all.
    #[must_use]
    pub const fn login(&self) -> Option<&Login> {
        match self {
            Self::List { .. } => None,
            Self::Get(login) | Self::Limit { login, .. } | Self::Reset(login) => Some(login),
        }
    }
}

/// What zoned answers about accounts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AccountReply {
    /// A page of accounts, by login; shorter than [`PAGE_MAX`] if it is the last.
    Accounts(Vec<AccountSummary>),
    /// One account.
    Account(Box<AccountView>),
}

/// An account in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountSummary {
    /// Its login.
    pub login: Login,
    /// Its number on this node.
    pub id: u32,
    /// Standing zones on record.
    pub zones: u32,
    /// Those of them that have processes.
    pub zones_running: u32,
    /// Tasks that run.
    pub tasks: u32,
    /// What its zones use together; counters since zoned started, unless they say "now".
    pub stats: Stats,
    /// What is in force for it, from all three places; a cap that is none is no cap.
    pub effective: AccountLimits,
}

/// An account, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountView {
    /// In short.
    pub summary: AccountSummary,
    /// What was set for it through the admin API.
    pub set: AccountLimits,
    /// What the machine's configuration says of it.
    pub configured: AccountLimits,
    /// Each limit as asked for and as the kernel has it.
    pub limits: Vec<Limit>,
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_bound_is_named_and_no_cap_is_none_of_them() {
        let limits = |text: &str| serde_json::from_str::<AccountLimits>(text).unwrap().check();
        assert_eq!(limits(r#"{"memory_mib":0,"cpu_milli":0,"pids":0,"zones":0}"#), Ok(()));
        for (text, field) in [
            (r#"{"cpu_weight":0}"#, "cpu_weight"),
            (r#"{"io_weight":10001}"#, "io_weight"),
            (r#"{"cpu_milli":9}"#, "cpu_milli"),
            (r#"{"memory_mib":7}"#, "memory_mib"),
            (r#"{"pids":3}"#, "pids"),
        ] {
            assert_eq!(limits(text).unwrap_err().field, field);
        }
    }

    #[test]
    fn the_largest_pages_fit_a_message() {
        let login = Login::try_from("l".repeat(64)).unwrap();
        let pressure = crate::standing::Pressure {
            some_avg10: 100.0 / 3.0,
            full_avg10: 100.0 / 3.0,
            some_total_us: u64::MAX,
            full_total_us: u64::MAX,
        };
        let effective = AccountLimits {
            cpu_weight: Some(u32::MAX),
            cpu_milli: Some(u32::MAX),
            memory_mib: Some(u64::MAX),
            io_weight: Some(u32::MAX),
            read_bytes: Some(u64::MAX),
            write_bytes: Some(u64::MAX),
            reads: Some(u64::MAX),
            writes: Some(u64::MAX),
            pids: Some(u32::MAX),
            zones: Some(u32::MAX),
        };
        let stats = Stats { cpu: pressure, memory: pressure, io: pressure, ..Stats::default() };
        let mut stats = serde_json::to_value(&stats).unwrap();
        for value in stats.as_object_mut().unwrap().values_mut().filter(|value| value.is_u64()) {
            *value = u64::MAX.into();
        }
        let stats: Stats = serde_json::from_value(stats).unwrap();
        let (id, zones, zones_running, tasks) = (u32::MAX, u32::MAX, u32::MAX, u32::MAX);
        let one = AccountSummary { login, id, zones, zones_running, tasks, stats, effective };
        let page = crate::zone::Reply::Account(AccountReply::Accounts(vec![one; PAGE_MAX]));
        let message = crate::frame::encode(crate::frame::Kind::Reply, 1, &page, 0).unwrap();
        assert!(message.len() <= crate::frame::MESSAGE_BYTES_MAX);
    }

    fn some() -> impl Strategy<Value = AccountLimits> {
        let cap = || prop::option::of(0..3_u32);
        (cap(), cap(), cap(), cap()).prop_map(|(cpu_milli, pids, zones, memory)| AccountLimits {
            cpu_milli,
            pids,
            zones,
            memory_mib: memory.map(u64::from),
            ..AccountLimits::default()
        })
    }

    proptest! {
        #[test]
        fn what_is_above_wins_and_what_says_nothing_changes_nothing(
            a in some(), b in some(), c in some(),
        ) {
            prop_assert_eq!(a.over(&AccountLimits::default()), a);
            prop_assert_eq!(AccountLimits::default().over(&a), a);
            prop_assert_eq!(a.over(&b).over(&c), a.over(&b.over(&c)));
            prop_assert_eq!(a.over(&b).zones, if a.zones.is_some() { a.zones } else { b.zones });
        }
    }
}
