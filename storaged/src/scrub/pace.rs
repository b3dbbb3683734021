//! How fast to read: so many bytes a second, whatever the disk could do.

use std::time::{Duration, Instant};

/// Spreads bytes over time.
#[derive(Debug)]
pub struct Pacer {
    rate: u64,
    /// When all that was asked for so far may have been read.
    free_at: Option<Instant>,
}

impl Pacer {
    /// At this many bytes a second, at least one.
    #[must_use]
    pub fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), free_at: None }
    }

    /// How long to wait at `now` before so many bytes are read. Time that was not used is not saved up.
    pub fn wait(&mut self, now: Instant, bytes: u64) -> Duration {
        let begin = self.free_at.map_or(now, |free_at| free_at.max(now));
        let micros = u128::from(bytes) * 1_000_000 / u128::from(self.rate);
        let takes = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        // A time that no clock shows any more is as good as never.
        self.free_at = begin.checked_add(takes).or(Some(begin));
        begin - now
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_more_than_the_rate_over_any_time(
            rate in 1_u64..10_000, asks in proptest::collection::vec((0_u64..5_000, 0_u64..2_000), 1..40)
        ) {
            let begin = Instant::now();
            let (mut now, mut pacer, mut read) = (begin, Pacer::new(rate), 0);
            let mut last = 0;
            for (bytes, idle_ms) in asks {
                now += Duration::from_millis(idle_ms);
                now += pacer.wait(now, bytes);
                // What is read now was allowed to begin after all before it had its time.
                let allowed = rate as f64 * (now - begin).as_secs_f64();
                prop_assert!(read as f64 <= allowed + rate as f64 * 0.001 + 1.0, "{read} {allowed}");
                read += bytes;
                last = bytes;
            }
            prop_assert!(last <= read);
        }
    }

    #[test]
    fn time_that_was_not_used_is_not_saved_up() {
        let now = Instant::now();
        let mut pacer = Pacer::new(1000);
        assert_eq!(pacer.wait(now, 500), Duration::ZERO);
        assert_eq!(pacer.wait(now, 500), Duration::from_millis(500));
        let later = now + Duration::from_secs(3600);
        assert_eq!(pacer.wait(later, 500), Duration::ZERO);
        assert_eq!(pacer.wait(later, 500), Duration::from_millis(500));
    }
}
