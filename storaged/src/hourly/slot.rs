//! Which file and which object a line belongs to: the hour, and a number where an hour is too long for one.
//! Pure.

use crate::calendar;

/// Seconds of an hour.
const HOUR_SECONDS: u64 = 3600;
/// Between an hour's name and the ending of a file.
const ENDING: &str = ".jsonl";

/// An hour, or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    /// Hours since 1970.
    pub(super) hour: u64,
    /// 0 unless the hour is too long for one object.
    pub(super) part: u32,
}

impl Slot {
    /// The first of the hour that a time is in.
    pub(super) fn at(seconds: u64) -> Slot {
        Slot { hour: seconds / HOUR_SECONDS, part: 0 }
    }

    /// The next of the same hour.
    pub(super) fn next(self) -> Slot {
        Slot { part: self.part + 1, ..self }
    }

    /// `2026/11/22/09.jsonl`, `2026/11/22/09-1.jsonl`: the object's key.
    pub(super) fn key(self) -> String {
        let time = calendar::rfc3339(self.hour * HOUR_SECONDS * 1000);
        let part = if self.part == 0 { String::new() } else { format!("-{}", self.part) };
        let (day, hour) = (time[..10].replace('-', "/"), &time[11..13]);
        format!("{day}/{hour}{part}{ENDING}")
    }

    /// The name of the file that gathers its lines.
    pub(super) fn file(self) -> String {
        format!("{}-{}{ENDING}", self.hour, self.part)
    }

    /// The slot of a file's name.
    pub(super) fn of_file(name: &str) -> Option<Slot> {
        let (hour, part) = name.strip_suffix(ENDING)?.split_once('-')?;
        let slot = Slot { hour: hour.parse().ok()?, part: part.parse().ok()? };
        (slot.file() == name).then_some(slot)
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_hours_that_people_read() {
        let slot = Slot::at(1_795_338_367);
        assert_eq!(slot.key(), "2026/11/22/09.jsonl");
        assert_eq!(slot.next().key(), "2026/11/22/09-1.jsonl");
    }

    proptest! {
        #[test]
        fn a_slot_comes_back_from_its_file(hour in 0..10_000_000_u64, part: u32) {
            let slot = Slot { hour, part };
            prop_assert_eq!(Slot::of_file(&slot.file()), Some(slot));
        }

        #[test]
        fn any_name_is_a_slot_or_none(name in ".{0,20}") {
            if let Some(slot) = Slot::of_file(&name) {
                prop_assert_eq!(slot.file(), name);
            }
        }
    }
}
