//! How much of an object is read ahead, and for whom. Pure.
//!
//! Pages that are read ahead are charged to the store, and whatever else was in memory makes room for
//! them. That is right for what fits, and wrong for a scan: its pages are read once, and everybody else's
//! go. So each account has a share of the cache that it may have filled within a while (a token bucket); a
//! scan beyond it, and an object too large for the cache, is left to its own reader, whose zone pays for
//! the pages, reclaims its own first, and thrashes nobody but itself.

use std::collections::BTreeMap;
use wire::prefetch::OBJECT_BYTES_MAX;

/// The part of memory that is taken for the store's cache: what zones may not have.
const CACHE_PART: u64 = 4;
/// The part of the cache that one object may have.
const OBJECT_PART: u64 = 8;
/// The part of the cache that one account may have filled at once.
const ACCOUNT_PART: u64 = 2;
/// How long it takes an account that has used up its share to have it whole again, in microseconds.
const REFILL_US: u64 = 30_000_000;
/// Of an object that is too large, so much is read ahead: its reader starts at once.
const WINDOW_BYTES: u64 = 8 * 1024 * 1024;

/// The shares of all accounts.
#[derive(Debug)]
pub struct Shares {
    object_bytes: u64,
    account_bytes: u64,
    /// Accounts that have not their whole share.
    buckets: BTreeMap<u32, Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: u64,
    at_us: u64,
}

impl Shares {
    /// Shares of the cache of a machine with so much memory.
    #[must_use]
    pub fn of(memory_bytes: u64) -> Self {
        let cache = memory_bytes / CACHE_PART;
        Self {
            object_bytes: (cache / OBJECT_PART).clamp(WINDOW_BYTES, OBJECT_BYTES_MAX),
            account_bytes: (cache / ACCOUNT_PART).max(WINDOW_BYTES),
            buckets: BTreeMap::new(),
        }
    }

    /// How many bytes of an object are to be read ahead for this account now: all, the first few, or none.
    pub fn take(&mut self, account: u32, length: u64, now_us: u64) -> u64 {
        let whole = self.account_bytes;
        self.buckets.retain(|_, bucket| bucket.refilled(whole, now_us) < whole);
        let wanted = if length <= self.object_bytes { length } else { WINDOW_BYTES };
        let fresh = Bucket { tokens: whole, at_us: now_us };
        let known = self.buckets.get(&account).copied().unwrap_or(fresh);
        let tokens = known.refilled(whole, now_us);
        if wanted > tokens {
            return 0;
        }
        let at_us = known.at_us.max(now_us);
        self.buckets.insert(account, Bucket { tokens: tokens - wanted, at_us });
        wanted
    }
}

impl Bucket {
    fn refilled(self, whole: u64, now_us: u64) -> u64 {
        let passed = now_us.saturating_sub(self.at_us).min(REFILL_US);
        let more = u128::from(whole) * u128::from(passed) / u128::from(REFILL_US);
        // At most `whole`, which is a u64.
        self.tokens.saturating_add(u64::try_from(more).unwrap_or(whole)).min(whole)
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;

    #[test]
    fn what_fits_is_read_whole_and_what_does_not_is_begun() {
        let mut shares = Shares::of(4 * GIB);
        assert_eq!(shares.take(1, 100 * MIB, 0), 100 * MIB);
        assert_eq!(shares.take(2, 129 * MIB, 0), WINDOW_BYTES);
    }

    #[test]
    fn a_scan_larger_than_its_share_pays_itself_and_nobody_else_notices() {
        let mut shares = Shares::of(4 * GIB);
        let ahead: u64 = (0..100).map(|_| shares.take(1, 64 * MIB, 0)).sum();
        assert_eq!(ahead, 512 * MIB);
        assert_eq!(shares.take(2, 64 * MIB, 0), 64 * MIB);
        // A quarter of its share is back after a quarter of the time.
        assert_eq!(shares.take(1, 128 * MIB, REFILL_US / 4), 128 * MIB);
        assert_eq!(shares.take(1, 64 * MIB, REFILL_US / 4), 0);
    }

    proptest! {
        #[test]
        fn nobody_has_more_than_a_share_and_what_time_brings(
            memory in 1..64_u64,
            asked in prop::collection::vec((0..3_u32, 0..400_u64, 0..5_000_000_u64), 1..200),
        ) {
            let mut shares = Shares::of(memory * GIB / 4);
            let (whole, mut now, mut had) = (shares.account_bytes, 0, [0_u64; 3]);
            for (account, mib, passed) in asked {
                now += passed;
                let got = shares.take(account, mib * MIB, now);
                prop_assert!(got <= (mib * MIB).max(WINDOW_BYTES) && got <= shares.object_bytes);
                had[account as usize] += got;
                let brought = u128::from(whole) * u128::from(now) / u128::from(REFILL_US);
                prop_assert!(u128::from(had[account as usize]) <= u128::from(whole) + brought);
            }
            // Whoever rests has its whole share again.
            for account in 0..3 {
                let wanted = shares.object_bytes;
                prop_assert_eq!(shares.take(account, wanted, now + REFILL_US), wanted);
            }
        }
    }
}
