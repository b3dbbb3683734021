//! `Range` headers: one range, as Manta serves it.

use thiserror::Error;

/// A part of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Where it begins.
    pub offset: u64,
    /// How long it is; never 0.
    pub length: u64,
}

/// Why a range is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RangeError {
    /// More than one.
    #[error("one range at a time is served")]
    Several,
    /// Nothing of it is in the object.
    #[error("the range is not in the object")]
    Unsatisfiable,
}

/// The part that `header` asks for, of an object of `size` bytes; none if it is no range of bytes, and
/// the whole object is meant (RFC 9110, 14.2).
///
/// # Errors
/// [`RangeError`].
pub fn part(header: &str, size: u64) -> Result<Option<Part>, RangeError> {
    let Some(set) = header.trim().strip_prefix("bytes=") else { return Ok(None) };
    if set.contains(',') {
        return Err(RangeError::Several);
    }
    let Some((first, last)) = set.trim().split_once('-') else { return Ok(None) };
    let number = |text: &str| text.parse::<u64>().ok();
    let (first, last) = match (first, last) {
        ("", last) => {
            let Some(count) = number(last) else { return Ok(None) };
            if count == 0 {
                return Err(RangeError::Unsatisfiable);
            }
            (size.saturating_sub(count), size.saturating_sub(1))
        }
        (first, "") => {
            let Some(first) = number(first) else { return Ok(None) };
            (first, size.saturating_sub(1))
        }
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => (first, last.min(size.saturating_sub(1))),
            _ => return Ok(None),
        },
    };
    if first >= size {
        return Err(RangeError::Unsatisfiable);
    }
    Ok(Some(Part { offset: first, length: last - first + 1 }))
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_three_forms_are_understood() {
        assert_eq!(part("bytes=2-4", 10), Ok(Some(Part { offset: 2, length: 3 })));
        assert_eq!(part("bytes=7-", 10), Ok(Some(Part { offset: 7, length: 3 })));
        assert_eq!(part("bytes=-3", 10), Ok(Some(Part { offset: 7, length: 3 })));
        assert_eq!(part("bytes=-30", 10), Ok(Some(Part { offset: 0, length: 10 })));
    }

    #[test]
    fn what_is_no_range_means_the_whole_and_what_is_outside_is_refused() {
        assert_eq!(part("lines=1-2", 10), Ok(None));
        assert_eq!(part("bytes=4-2", 10), Ok(None));
        assert_eq!(part("bytes=10-", 10), Err(RangeError::Unsatisfiable));
        assert_eq!(part("bytes=-5", 0), Err(RangeError::Unsatisfiable));
        assert_eq!(part("bytes=0-1,3-4", 10), Err(RangeError::Several));
    }

    proptest! {
        #[test]
        fn a_part_lies_in_its_object(header in "bytes=[0-9]{0,3}-[0-9]{0,3}", size in 0..500_u64) {
            if let Ok(Some(part)) = part(&header, size) {
                prop_assert!(part.length > 0 && part.offset + part.length <= size);
            }
        }
    }
}
