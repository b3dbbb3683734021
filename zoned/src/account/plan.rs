//! What is in force for an account, and whether it may have one more zone. Pure.

use crate::carve::AccountCarve;
use thiserror::Error;
use wire::account::AccountLimits;
use wire::carve::{IoRates, WEIGHT_DEFAULT};
use wire::machine::Login;

/// What the node gives every account, as limits that say everything: 0 is no cap.
#[must_use]
pub fn standard(carve: &AccountCarve) -> AccountLimits {
    let IoRates { read_bytes, write_bytes, reads, writes } = carve.io;
    AccountLimits {
        cpu_weight: Some(carve.cpu_weight),
        cpu_milli: Some(carve.cpu_milli.unwrap_or(0)),
        memory_mib: Some(carve.memory_mib.unwrap_or(0)),
        io_weight: Some(carve.io_weight),
        read_bytes: Some(read_bytes.unwrap_or(0)),
        write_bytes: Some(write_bytes.unwrap_or(0)),
        reads: Some(reads.unwrap_or(0)),
        writes: Some(writes.unwrap_or(0)),
        pids: Some(carve.pids.unwrap_or(0)),
        zones: Some(0),
    }
}

/// What is in force by all three places; a cap that is none is no cap.
#[must_use]
pub fn effective(
    set: &AccountLimits,
    configured: &AccountLimits,
    standard: &AccountLimits,
) -> AccountLimits {
    let all = set.over(configured).over(standard);
    let cap = |cap: Option<u64>| cap.filter(|cap| *cap > 0);
    let small = |cap: Option<u32>| cap.filter(|cap| *cap > 0);
    AccountLimits {
        cpu_weight: Some(all.cpu_weight.unwrap_or(WEIGHT_DEFAULT)),
        cpu_milli: small(all.cpu_milli),
        memory_mib: cap(all.memory_mib),
        io_weight: Some(all.io_weight.unwrap_or(WEIGHT_DEFAULT)),
        read_bytes: cap(all.read_bytes),
        write_bytes: cap(all.write_bytes),
        reads: cap(all.reads),
        writes: cap(all.writes),
        pids: small(all.pids),
        zones: small(all.zones),
    }
}

/// What of [`effective`] limits the kernel is to keep.
#[must_use]
pub fn carve(effective: &AccountLimits) -> AccountCarve {
    let AccountLimits { read_bytes, write_bytes, reads, writes, .. } = *effective;
    AccountCarve {
        cpu_weight: effective.cpu_weight.unwrap_or(WEIGHT_DEFAULT),
        cpu_milli: effective.cpu_milli,
        memory_mib: effective.memory_mib,
        io_weight: effective.io_weight.unwrap_or(WEIGHT_DEFAULT),
        io: IoRates { read_bytes, write_bytes, reads, writes },
        pids: effective.pids,
    }
}

/// Why an account may not have one more zone.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "account {} may have {most} standing zones and has {used}: delete one (`mobula zone list`), or have \
     the limit raised (`mobula account limits {} --zones {}`)",
    login.as_str(), login.as_str(), used + 1
)]
pub struct Full {
    login: Login,
    used: u32,
    most: u32,
}

/// Whether an account that has `used` standing zones may have one more. Processors and memory are not asked
/// for here: zones may ask for more in all than their account has, and it is the account's cgroup that
/// holds them to it.
///
/// # Errors
/// [`Full`].
pub fn admit(login: &Login, effective: &AccountLimits, used: u32) -> Result<(), Full> {
    match effective.zones {
        Some(most) if used >= most => Err(Full { login: login.clone(), used, most }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn ann() -> Login {
        Login::try_from("ann".to_owned()).unwrap()
    }

    #[test]
    fn what_is_set_goes_before_what_is_configured_and_that_before_the_node_s() {
        let node = AccountCarve { memory_mib: Some(768), pids: Some(100), ..Default::default() };
        let node = standard(&node);
        let configured = AccountLimits { memory_mib: Some(512), ..Default::default() };
        let set = AccountLimits { memory_mib: Some(0), cpu_milli: Some(500), ..Default::default() };
        let none = AccountLimits::default();
        assert_eq!(effective(&none, &none, &node).memory_mib, Some(768));
        assert_eq!(effective(&none, &configured, &node).memory_mib, Some(512));
        let all = effective(&set, &configured, &node);
        // No cap at all is something that can be set.
        assert_eq!((all.memory_mib, all.cpu_milli, all.pids), (None, Some(500), Some(100)));
        assert_eq!(carve(&all).cpu_milli, Some(500));
    }

    #[test]
    fn a_refusal_names_limit_use_and_next_step() {
        let limits = AccountLimits { zones: Some(2), ..Default::default() };
        assert_eq!(admit(&ann(), &limits, 1), Ok(()));
        let text = admit(&ann(), &limits, 2).unwrap_err().to_string();
        for word in ["ann", "may have 2", "has 2", "delete one", "limits ann --zones 3"] {
            assert!(text.contains(word), "{text}");
        }
    }

    fn carved() -> impl Strategy<Value = AccountCarve> {
        let cap = || prop::option::of(1..1000_u32);
        (1..10_000_u32, cap(), cap(), cap(), cap()).prop_map(|(weight, cpu, memory, io, pids)| {
            AccountCarve {
                cpu_weight: weight,
                cpu_milli: cpu,
                memory_mib: memory.map(u64::from),
                io_weight: weight,
                io: IoRates { reads: io.map(u64::from), ..IoRates::default() },
                pids,
            }
        })
    }

    proptest! {
        #[test]
        fn an_account_of_which_nobody_says_anything_has_what_the_node_gives(node in carved()) {
            let none = AccountLimits::default();
            prop_assert_eq!(carve(&effective(&none, &none, &standard(&node))), node);
        }

        #[test]
        fn however_it_is_filled_and_limited_it_never_has_more_than_it_may_by_being_let_in(
            steps in prop::collection::vec((0..3_u8, 0..6_u32), 0..60),
        ) {
            let (mut used, mut limits) = (0_u32, AccountLimits::default());
            for (act, number) in steps {
                match act {
                    0 => {
                        let most = limits.zones;
                        let let_in = admit(&ann(), &limits, used).is_ok();
                        prop_assert_eq!(let_in, most.is_none_or(|most| used < most));
                        used += u32::from(let_in);
                        prop_assert!(!let_in || most.is_none_or(|most| used <= most));
                    }
                    1 => used = used.saturating_sub(1),
                    _ => limits.zones = Some(number).filter(|number| *number > 0),
                }
            }
        }
    }
}
