//! What zones have protected of memory (`memory.low`), summed up. Pure.
//!
//! The kernel lets a cgroup protect no more than those above it do: against what the node or another account
//! takes, a zone's own `memory.low` counts only as far as its account's and that of all zones go. So an account
//! has protected what its zones have, and all zones what the accounts have; no more, since what is left over
//! would be shared out among zones that asked for nothing (`memory_recursiveprot`).

use std::collections::BTreeMap;

/// Bytes that zones have protected, by account and the cgroup's name. Zones that have none are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Protected(BTreeMap<(u32, String), u64>);

impl Protected {
    /// Notes what a zone has protected from now on; true if that changes something.
    pub fn set(&mut self, account: u32, zone: &str, low: u64) -> bool {
        let key = (account, zone.to_owned());
        let before = if low == 0 { self.0.remove(&key) } else { self.0.insert(key, low) };
        before.unwrap_or(0) != low
    }

    /// Forgets zones that are gone; gives their accounts.
    pub fn retain(&mut self, is_there: impl Fn(&str) -> bool) -> Vec<u32> {
        let mut changed = Vec::new();
        self.0.retain(|(account, zone), _| {
            let stays = is_there(zone);
            if !stays {
                changed.push(*account);
            }
            stays
        });
        changed.dedup();
        changed
    }

    /// What the zones of an account have protected in all.
    #[must_use]
    pub fn of_account(&self, account: u32) -> u64 {
        let zones = self.0.iter().filter(|((of, _), _)| *of == account);
        zones.map(|(_, low)| *low).fold(0, u64::saturating_add)
    }

    /// What all zones have protected in all.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.0.values().copied().fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_are_those_of_the_zones_that_are_there(
            steps in prop::collection::vec((0..3_u32, 0..4_u8, 0..1_000_u64), 0..40),
            gone in 0..4_u8,
        ) {
            let (mut protected, mut model) = (Protected::default(), BTreeMap::new());
            for (account, zone, low) in steps {
                let before = model.insert((account, zone), low).unwrap_or(0);
                let changed = protected.set(account, &format!("t-{account}/s-{zone}"), low);
                prop_assert_eq!(changed, before != low);
            }
            let end = format!("s-{gone}");
            let held: Vec<u32> = (0..3).filter(|a| model.get(&(*a, gone)).is_some_and(|low| *low > 0)).collect();
            prop_assert_eq!(protected.retain(|zone| !zone.ends_with(&end)), held);
            model.retain(|(_, zone), _| *zone != gone);
            for account in 0..3 {
                let sum: u64 = model.iter().filter(|((a, _), _)| *a == account).map(|(_, low)| low).sum();
                prop_assert_eq!(protected.of_account(account), sum);
            }
            prop_assert_eq!(protected.all(), model.values().sum::<u64>());
        }
    }
}
