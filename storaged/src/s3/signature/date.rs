//! Times of requests, as `20261122T090000Z`. Pure, but for [`now`].

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970, now.
#[must_use]
pub fn now() -> u64 {
    // Before 1970 nothing is timely.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A time of a request: its text, and what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp<'a> {
    /// As it was written.
    pub text: &'a str,
    /// Seconds since 1970.
    pub seconds: u64,
}

impl<'a> Stamp<'a> {
    /// The time that a text names, from 1970 on; only one way to write it is known.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Stamp<'a>> {
        let bytes: &[u8; 16] = text.as_bytes().try_into().ok()?;
        if bytes[8] != b'T' || bytes[15] != b'Z' {
            return None;
        }
        let number = |from: usize, to: usize| {
            bytes[from..to].iter().try_fold(0_u64, |number, byte| {
                byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0'))
            })
        };
        let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
        let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days_of_month = match month {
            2 if is_leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            _ => return None,
        };
        let is_day = year >= 1970 && (1..=days_of_month).contains(&day);
        if !is_day || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        // Years that begin in March, so that a leap day is the last of its year; days are counted from
        // 0000-03-01, which is 719,468 days before 1970.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let days =
            year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
        let seconds = (days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second;
        Some(Stamp { text, seconds })
    }

    /// The day, as a scope names it.
    #[must_use]
    pub fn date(&self) -> &'a str {
        &self.text[..8]
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn times_are_those_of_the_calendar() {
        let seconds = |text| Stamp::parse(text).map(|stamp| stamp.seconds);
        assert_eq!(seconds("19700101T000000Z"), Some(0));
        assert_eq!(seconds("20000229T000000Z"), Some(951_782_400));
        assert_eq!(seconds("21000228T235959Z"), Some(4_107_542_399));
        assert_eq!(seconds("21000229T000000Z"), None);
        for wrong in
            ["20261301T000000Z", "20260001T000000Z", "20260100T000000Z", "20260101T240000Z"]
        {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_time_comes_back_from_its_text(seconds in 0..253_402_300_800_u64) {
            let text = tests::sigv4::timestamp(UNIX_EPOCH + Duration::from_secs(seconds));
            let stamp = Stamp::parse(&text).unwrap();
            prop_assert_eq!(stamp.seconds, seconds);
            prop_assert_eq!(stamp.date(), &text[..8]);
        }

        #[test]
        fn any_text_is_a_time_or_none(text in "[0-9TZ:+ \\-]{0,20}") {
            if let Some(stamp) = Stamp::parse(&text) {
                let again = UNIX_EPOCH + Duration::from_secs(stamp.seconds);
                prop_assert_eq!(tests::sigv4::timestamp(again), text);
            }
        }
    }
}
