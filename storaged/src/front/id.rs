//! What each request is called, in its answer and in the access log: so that one can be found by the other. Pure, but for
//! where the numbers begin.

use http::HeaderValue;
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of a name.
const LENGTH: usize = 16;

/// A request's name: 16 digits, as AWS has them. An extension that every request carries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; LENGTH]);

impl RequestId {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits are ASCII")
    }

    /// As a field of an answer has it.
    pub(super) fn value(self) -> HeaderValue {
        HeaderValue::from_str(self.as_str()).expect("digits are a value")
    }

    fn of(number: u64) -> RequestId {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        // The number's digits, the highest first.
        RequestId(std::array::from_fn(|at| DIGITS[((number >> (60 - 4 * at)) & 15) as usize]))
    }
}

/// The names that one ring thread gives.
#[derive(Debug)]
pub(super) struct Ids {
    next: u64,
}

impl Ids {
    /// Names that no other ring thread gives, and those of an earlier start hardly: they begin at this nanosecond.
    pub(super) fn new(ring: usize) -> Ids {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Two years of nanoseconds, and a ring's number above them: a ring never comes to the next one's.
        let start = now.as_nanos() as u64 & ((1 << 56) - 1);
        Ids { next: start | ((ring as u64) << 56) }
    }

    /// The next one. Neighbours look nothing like each other, so that nobody confuses them.
    pub(super) fn next(&mut self) -> RequestId {
        self.next = self.next.wrapping_add(1);
        RequestId::of(mixed(self.next))
    }
}

/// A number for each number, far from that of its neighbour (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014: the finalizer of SplitMix64, which is a permutation).
const fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod test {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_digits_and_each_is_given_once() {
        assert_eq!(RequestId::of(0x0123_4567_89ab_cdef).as_str(), "0123456789ABCDEF");
        let mut rings = [Ids { next: 7 }, Ids { next: 7 + (1 << 56) }];
        let mut names = HashSet::new();
        for _ in 0..1000 {
            for ring in &mut rings {
                assert!(names.insert(ring.next().value()));
            }
        }
    }
}
