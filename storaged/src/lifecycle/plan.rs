//! What the rules of a bucket make of one version at one time. Pure.

use super::rules::{Expiration, Filter, Rule, Rules};

/// How long a day is, in milliseconds. Shorter ones are for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// At least 1.
    ms: u64,
}

impl Default for Day {
    fn default() -> Self {
        Self { ms: 24 * 60 * 60 * 1000 }
    }
}

impl Day {
    /// A day of so many milliseconds, at least one.
    #[must_use]
    pub fn of_ms(ms: u64) -> Self {
        Self { ms: ms.max(1) }
    }

    /// Its milliseconds.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.ms
    }

    /// So many days after a time, at the next midnight: as S3 counts.
    #[must_use]
    pub fn after(self, since_ms: u64, days: u32) -> u64 {
        let later = since_ms.saturating_add(self.ms.saturating_mul(days.into()));
        later.div_ceil(self.ms).saturating_mul(self.ms)
    }

    /// The first midnight after a time.
    #[must_use]
    pub fn next_midnight(self, now_ms: u64) -> u64 {
        (now_ms / self.ms).saturating_add(1).saturating_mul(self.ms)
    }
}

/// The tags of a version, or that nobody has looked yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tags<'a> {
    /// They may be anything: what comes of it may still be nothing once they are known.
    Unread,
    /// These.
    Read(&'a [(String, String)]),
}

/// Where a version stands among those of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The newest one, an object.
    Current,
    /// The newest one, a delete marker.
    Marker {
        /// Whether there is no other version.
        alone: bool,
    },
    /// An older one.
    Noncurrent {
        /// When a newer one came, milliseconds since 1970.
        since_ms: u64,
        /// How many are between it and the newest one.
        newer: u32,
    },
}

/// A version, as far as rules go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Its bytes.
    pub size: u64,
    /// When it was written, milliseconds since 1970.
    pub modified_ms: u64,
    /// Its tags.
    pub tags: Tags<'a>,
    /// Where it stands.
    pub state: State,
}

/// What is to be done with a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Delete the object: where versions are kept, a delete marker hides it.
    Expire,
    /// Remove this version for good.
    Remove,
    /// Remove the delete marker, which hides nothing.
    RemoveMarker,
}

/// When something will go, and by which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry<'a> {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The rule's id.
    pub rule: &'a str,
}

impl Filter {
    fn fits(&self, subject: &Subject<'_>) -> bool {
        let sized = self.larger_than.is_none_or(|limit| subject.size > limit)
            && self.smaller_than.is_none_or(|limit| subject.size < limit);
        let tagged = match subject.tags {
            Tags::Unread => true,
            Tags::Read(tags) => self.tags.iter().all(|tag| tags.contains(tag)),
        };
        sized && tagged && subject.key.starts_with(self.prefix.as_bytes())
    }

    /// A delete marker has neither size nor tags: only what its key says counts.
    fn fits_marker(&self, subject: &Subject<'_>) -> bool {
        let bare =
            self.tags.is_empty() && self.larger_than.is_none() && self.smaller_than.is_none();
        bare && subject.key.starts_with(self.prefix.as_bytes())
    }
}

/// When a current version will expire: by the rule that is first to say so.
#[must_use]
pub fn expiry<'a>(rules: &'a Rules, subject: &Subject<'_>, day: Day) -> Option<Expiry<'a>> {
    if subject.state != State::Current {
        return None;
    }
    let rules = rules.enabled().filter(|rule| rule.filter.fits(subject));
    let times = rules.filter_map(|rule| {
        let at_ms = match rule.expiration? {
            Expiration::Days(days) => day.after(subject.modified_ms, days),
            Expiration::Date(at_ms) => at_ms,
            Expiration::Markers => return None,
        };
        Some(Expiry { at_ms, rule: &rule.id })
    });
    times.min_by_key(|expiry| expiry.at_ms)
}

/// What the rules make of a version at this time.
#[must_use]
pub fn plan(rules: &Rules, subject: &Subject<'_>, now_ms: u64, day: Day) -> Option<Action> {
    match subject.state {
        State::Current => {
            let due = expiry(rules, subject, day).is_some_and(|expiry| expiry.at_ms <= now_ms);
            due.then_some(Action::Expire)
        }
        State::Marker { alone: false } => None,
        State::Marker { alone: true } => {
            let due = |rule: &Rule| match rule.expiration {
                Some(Expiration::Markers) => true,
                // As S3 has it: rules by age clear away markers of that age too.
                Some(Expiration::Days(days)) => day.after(subject.modified_ms, days) <= now_ms,
                Some(Expiration::Date(at_ms)) => at_ms <= now_ms,
                None => false,
            };
            let mut rules = rules.enabled().filter(|rule| rule.filter.fits_marker(subject));
            rules.any(due).then_some(Action::RemoveMarker)
        }
        State::Noncurrent { since_ms, newer } => {
            let due = |rule: &Rule| {
                rule.noncurrent.is_some_and(|noncurrent| {
                    newer >= noncurrent.keep && day.after(since_ms, noncurrent.days) <= now_ms
                })
            };
            let mut rules = rules.enabled().filter(|rule| rule.filter.fits(subject));
            rules.any(due).then_some(Action::Remove)
        }
    }
}

/// When an upload that was begun at `initiated_ms` will be aborted: by the rule that is first to say so.
#[must_use]
pub fn abortion<'a>(
    rules: &'a Rules,
    key: &[u8],
    initiated_ms: u64,
    day: Day,
) -> Option<Expiry<'a>> {
    let rules = rules.enabled().filter(|rule| key.starts_with(rule.filter.prefix.as_bytes()));
    let times = rules.filter_map(|rule| {
        let at_ms = day.after(initiated_ms, rule.abort?.days);
        Some(Expiry { at_ms, rule: &rule.id })
    });
    times.min_by_key(|expiry| expiry.at_ms)
}

/// Whether an upload that was begun at `initiated_ms` is to be aborted.
#[must_use]
pub fn aborts(rules: &Rules, key: &[u8], initiated_ms: u64, now_ms: u64, day: Day) -> bool {
    abortion(rules, key, initiated_ms, day).is_some_and(|expiry| expiry.at_ms <= now_ms)
}

#[cfg(test)]
mod test {
    use super::super::rules::{Abort, Noncurrent};
    use super::*;
    use proptest::prelude::*;

    const DAY: u64 = 24 * 60 * 60 * 1000;

    fn rule(filter: Filter) -> Rule {
        Rule {
            id: "r".to_owned(),
            enabled: true,
            filter,
            expiration: None,
            noncurrent: None,
            abort: None,
        }
    }

    fn days(days: u32) -> Rule {
        Rule { expiration: Some(Expiration::Days(days)), ..rule(Filter::default()) }
    }

    fn subject(state: State) -> Subject<'static> {
        Subject { key: b"a/b", size: 5, modified_ms: DAY / 2, tags: Tags::Read(&[]), state }
    }

    fn planned(rule: Rule, subject: &Subject<'_>, now_ms: u64) -> Option<Action> {
        plan(&Rules { all: vec![rule] }, subject, now_ms, Day::default())
    }

    #[test]
    fn days_end_at_midnight() {
        let day = Day::default();
        // S3's own example: written on the 15th at 10:30, three days, due on the 19th at 00:00.
        assert_eq!(day.after(14 * DAY + DAY / 2, 3), 18 * DAY);
        assert_eq!(day.after(14 * DAY, 3), 17 * DAY);
        assert_eq!((day.next_midnight(0), day.next_midnight(DAY - 1)), (DAY, DAY));
        assert_eq!(day.next_midnight(DAY), 2 * DAY);
        let current = subject(State::Current);
        assert_eq!(planned(days(1), &current, 2 * DAY - 1), None);
        assert_eq!(planned(days(1), &current, 2 * DAY), Some(Action::Expire));
        let off = Rule { enabled: false, ..days(1) };
        assert_eq!(planned(off, &current, 9 * DAY), None);
    }

    #[test]
    fn the_first_rule_to_fall_due_names_the_expiry() {
        let late = Rule { id: "late".to_owned(), ..days(9) };
        let date = Some(Expiration::Date(3 * DAY));
        let early = Rule { id: "early".to_owned(), expiration: date, ..days(1) };
        let rules = Rules { all: vec![late, early] };
        let found = expiry(&rules, &subject(State::Current), Day::default());
        assert_eq!(found, Some(Expiry { at_ms: 3 * DAY, rule: "early" }));
        let old = subject(State::Noncurrent { since_ms: 0, newer: 0 });
        assert_eq!(expiry(&rules, &old, Day::default()), None);
    }

    #[test]
    fn a_filter_asks_for_all_that_it_names() {
        let tag = ("k".to_owned(), "v".to_owned());
        let filter = Filter {
            prefix: "a/".to_owned(),
            tags: vec![tag.clone()],
            larger_than: Some(4),
            smaller_than: Some(6),
        };
        let rule = Rule { filter, ..days(1) };
        let tags = [("x".to_owned(), "y".to_owned()), tag];
        let fits = Subject { tags: Tags::Read(&tags), ..subject(State::Current) };
        let late = 99 * DAY;
        assert_eq!(planned(rule.clone(), &fits, late), Some(Action::Expire));
        let not = [
            Subject { key: b"b/a/", ..fits },
            Subject { size: 4, ..fits },
            Subject { size: 6, ..fits },
            Subject { tags: Tags::Read(&tags[..1]), ..fits },
        ];
        for subject in not {
            assert_eq!(planned(rule.clone(), &subject, late), None);
        }
        let unread = Subject { tags: Tags::Unread, ..fits };
        assert_eq!(planned(rule, &unread, late), Some(Action::Expire));
    }

    #[test]
    fn only_a_marker_that_hides_nothing_goes() {
        let markers = Rule { expiration: Some(Expiration::Markers), ..rule(Filter::default()) };
        let alone = subject(State::Marker { alone: true });
        assert_eq!(planned(markers.clone(), &alone, 0), Some(Action::RemoveMarker));
        assert_eq!(
            planned(markers.clone(), &subject(State::Marker { alone: false }), 9 * DAY),
            None
        );
        assert_eq!(planned(markers, &subject(State::Current), 9 * DAY), None);
        assert_eq!(planned(days(1), &alone, DAY), None);
        assert_eq!(planned(days(1), &alone, 2 * DAY), Some(Action::RemoveMarker));
        let sized = Filter { smaller_than: Some(9), ..Filter::default() };
        assert_eq!(planned(Rule { filter: sized, ..days(1) }, &alone, 9 * DAY), None);
    }

    #[test]
    fn older_versions_go_by_age_and_number() {
        let noncurrent = Some(Noncurrent { days: 2, keep: 1 });
        let rule = Rule { noncurrent, ..rule(Filter::default()) };
        let old = |newer| subject(State::Noncurrent { since_ms: DAY, newer });
        assert_eq!(planned(rule.clone(), &old(1), 3 * DAY), Some(Action::Remove));
        assert_eq!(planned(rule.clone(), &old(1), 3 * DAY - 1), None);
        assert_eq!(planned(rule.clone(), &old(0), 99 * DAY), None);
        assert_eq!(planned(rule, &subject(State::Current), 99 * DAY), None);
        assert_eq!(planned(days(1), &old(1), 99 * DAY), None);
    }

    #[test]
    fn uploads_end_by_prefix_and_age() {
        let filter = Filter { prefix: "a/".to_owned(), ..Filter::default() };
        let rules = Rules { all: vec![Rule { abort: Some(Abort { days: 1 }), ..rule(filter) }] };
        let due = |key: &[u8], now| aborts(&rules, key, 1, now, Day::default());
        assert!(due(b"a/k", 2 * DAY) && !due(b"a/k", 2 * DAY - 1) && !due(b"b", 9 * DAY));
        let told = abortion(&rules, b"a/k", 1, Day::default());
        assert_eq!(told, Some(Expiry { at_ms: 2 * DAY, rule: "r" }));
    }

    fn some_rule() -> impl Strategy<Value = Rule> {
        let expiration = prop_oneof![
            (1_u32..5).prop_map(Expiration::Days),
            (0_u64..9).prop_map(|days| Expiration::Date(days * DAY)),
            Just(Expiration::Markers),
        ];
        let filter = ("a?/?", proptest::option::of(0_u64..9), proptest::option::of(0_u64..9));
        let noncurrent = (1_u32..5, 0_u32..3).prop_map(|(days, keep)| Noncurrent { days, keep });
        let parts = (
            any::<bool>(),
            filter,
            proptest::option::of(expiration),
            proptest::option::of(noncurrent),
            proptest::option::of(Just(("k".to_owned(), "v".to_owned()))),
        );
        parts.prop_map(
            |(enabled, (prefix, larger_than, smaller_than), expiration, noncurrent, tag)| {
                let tags = tag.into_iter().collect();
                let filter = Filter { prefix, tags, larger_than, smaller_than };
                Rule { enabled, expiration, noncurrent, ..rule(filter) }
            },
        )
    }

    fn some_state() -> impl Strategy<Value = State> {
        prop_oneof![
            Just(State::Current),
            any::<bool>().prop_map(|alone| State::Marker { alone }),
            (0_u64..5 * DAY, 0_u32..4)
                .prop_map(|(since_ms, newer)| State::Noncurrent { since_ms, newer }),
        ]
    }

    proptest! {
        #[test]
        fn a_plan_fits_its_version_and_stays_due(
            all in proptest::collection::vec(some_rule(), 0..4),
            state in some_state(),
            key in "a?/?b?",
            size in 0_u64..9,
            modified_ms in 0_u64..5 * DAY,
            now in 0_u64..9 * DAY,
            tagged: bool,
        ) {
            let rules = Rules { all };
            let tags = [("k".to_owned(), "v".to_owned())];
            let tags = Tags::Read(if tagged { &tags } else { &[] });
            let subject = Subject { key: key.as_bytes(), size, modified_ms, tags, state };
            let day = Day::default();
            let action = plan(&rules, &subject, now, day);
            // What is due stays due, and what it is done to is what it is meant for.
            if let Some(action) = action {
                prop_assert_eq!(plan(&rules, &subject, now + DAY, day), Some(action));
                let meant = match action {
                    Action::Expire => state == State::Current,
                    Action::Remove => matches!(state, State::Noncurrent { .. }),
                    Action::RemoveMarker => state == State::Marker { alone: true },
                };
                prop_assert!(meant);
                // No rule acts before its first midnight.
                let by_date = rules.all.iter().any(|rule| matches!(rule.expiration, Some(Expiration::Date(_) | Expiration::Markers)));
                let since = if let State::Noncurrent { since_ms, .. } = state { since_ms } else { modified_ms };
                prop_assert!(by_date || now >= since + DAY);
                // A rule that is switched off does nothing.
                let off = Rules { all: rules.all.iter().map(|rule| Rule { enabled: false, ..rule.clone() }).collect() };
                prop_assert_eq!(plan(&off, &subject, now, day), None);
            }
            // Not to know the tags never hides an action.
            let unread = Subject { tags: Tags::Unread, ..subject };
            prop_assert!(action.is_none() || plan(&rules, &unread, now, day) == action);
            // Younger versions are never first.
            if let State::Noncurrent { since_ms, newer } = state
                && action.is_some()
            {
                let older = State::Noncurrent { since_ms: since_ms / 2, newer: newer + 1 };
                prop_assert_eq!(plan(&rules, &Subject { state: older, ..subject }, now, day), action);
            }
        }

        #[test]
        fn times_never_overflow(since: u64, days: u32, ms: u64, now: u64) {
            let day = Day::of_ms(ms);
            let due = day.after(since, days);
            prop_assert!(due >= since);
            prop_assert!(day.next_midnight(now) > now || now == u64::MAX);
        }
    }
}
