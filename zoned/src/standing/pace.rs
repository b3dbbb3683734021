//! When a zone's own wish to have its `/out` published is granted: one at a time, and after each as long a
//! pause as it took. Whoever wishes all the time has storaged busy half of the time at most. Pure.

/// The least pause between two publications that a zone wishes for, in milliseconds: the smallest costs
/// storaged an fsync.
pub const PAUSE_MS_MIN: u64 = 1_000;
/// How many wishes of all zones are granted at once: storaged has few workers for long work, and people's
/// requests are to find one.
pub const GRANTED_MAX: usize = 2;

/// A wish that storaged is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Granted {
    ticket: u64,
    wish: u64,
    since_ms: u64,
}

/// A zone's wishes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pace {
    /// The wish that waits, and since when.
    waits: Option<(u64, u64)>,
    granted: Option<Granted>,
    free_at_ms: u64,
}

impl Pace {
    /// The zone wishes. One that waits already is taken over by this one, with its place in the queue.
    pub fn wish(&mut self, wish: u64, now_ms: u64) {
        let since_ms = self.waits.map_or(now_ms, |(_, since_ms)| since_ms);
        self.waits = Some((wish, since_ms));
    }

    /// When its wish may be granted; none if it has none, or storaged is at one.
    #[must_use]
    pub const fn due_ms(&self) -> Option<u64> {
        match (self.waits, self.granted) {
            (Some(_), None) => Some(self.free_at_ms),
            _ => None,
        }
    }

    /// Since when the wish waits that may be granted now.
    #[must_use]
    pub fn ready(&self, now_ms: u64) -> Option<u64> {
        self.due_ms().filter(|due_ms| *due_ms <= now_ms)?;
        self.waits.map(|(_, since_ms)| since_ms)
    }

    /// storaged is asked, by this ticket.
    pub fn grant(&mut self, ticket: u64, now_ms: u64) {
        if let Some((wish, _)) = self.waits.take() {
            self.granted = Some(Granted { ticket, wish, since_ms: now_ms });
        }
    }

    /// Whether storaged is at a wish.
    #[must_use]
    pub const fn is_granted(&self) -> bool {
        self.granted.is_some()
    }

    /// Whether the zone waits for anything.
    #[must_use]
    pub const fn is_waited_for(&self) -> bool {
        self.waits.is_some() || self.granted.is_some()
    }

    /// storaged has answered by this ticket: the wish that it answers, if the zone still waits for it.
    pub fn over(&mut self, ticket: u64, now_ms: u64) -> Option<u64> {
        let granted = self.granted.filter(|granted| granted.ticket == ticket)?;
        self.granted = None;
        let took_ms = now_ms.saturating_sub(granted.since_ms);
        self.free_at_ms = now_ms + took_ms.max(PAUSE_MS_MIN);
        Some(granted.wish)
    }

    /// The zone is gone, and so is whoever wished.
    pub fn forget(&mut self, now_ms: u64) {
        if self.granted.is_some() {
            self.free_at_ms = now_ms + PAUSE_MS_MIN;
        }
        (self.waits, self.granted) = (None, None);
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_wish_waits_for_the_pause_after_the_last() {
        let mut pace = Pace::default();
        pace.wish(1, 50);
        assert_eq!(pace.ready(50), Some(50));
        pace.grant(7, 60);
        pace.wish(2, 70);
        pace.wish(3, 80);
        assert_eq!((pace.due_ms(), pace.over(6, 90)), (None, None));
        // It took 9,940 ms: so long is the pause.
        assert_eq!(pace.over(7, 10_000), Some(1));
        assert_eq!((pace.ready(19_939), pace.ready(19_940)), (None, Some(70)));
        pace.grant(8, 19_940);
        assert_eq!(pace.over(8, 19_941), Some(3));
        assert_eq!(pace.due_ms(), None);
    }

    #[test]
    fn an_answer_for_a_zone_that_is_gone_is_nobody_s() {
        let mut pace = Pace::default();
        pace.wish(1, 0);
        pace.grant(7, 0);
        pace.forget(10);
        assert_eq!(pace.over(7, 20), None);
        pace.wish(1, 30);
        assert_eq!((pace.ready(30), pace.ready(10 + PAUSE_MS_MIN)), (None, Some(30)));
    }

    #[derive(Debug, Clone)]
    enum Act {
        Wish,
        Pass(u64),
        Answer,
        Restart,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            Just(Act::Wish),
            (0..5_000_u64).prop_map(Act::Pass),
            Just(Act::Answer),
            Just(Act::Restart),
        ]
    }

    proptest! {
        #[test]
        fn storaged_is_busy_half_of_the_time_at_most(acts in prop::collection::vec(act(), 0..200)) {
            let (mut pace, mut now, mut wishes) = (Pace::default(), 0, 0);
            let (mut open, mut ended) = (None, None::<(u64, u64)>);
            for act in acts {
                match act {
                    Act::Wish => {
                        wishes += 1;
                        pace.wish(wishes, now);
                    }
                    Act::Pass(ms) => now += ms,
                    Act::Answer => {
                        if let Some((ticket, began)) = open.take() {
                            prop_assert!(pace.over(ticket, now).is_some());
                            ended = Some((now, now - began));
                        }
                    }
                    Act::Restart => {
                        pace.forget(now);
                        (open, ended) = (None, ended);
                    }
                }
                if pace.ready(now).is_some() {
                    prop_assert!(open.is_none(), "two at once");
                    if let Some((at, took)) = ended {
                        prop_assert!(now >= at + took.max(PAUSE_MS_MIN));
                    }
                    pace.grant(now + 1, now);
                    open = Some((now + 1, now));
                }
            }
            // The last wish is granted some day.
            let waits = pace.due_ms().is_some();
            prop_assert!(!waits || pace.ready(u64::MAX).is_some());
        }
    }
}
