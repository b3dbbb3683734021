//! Where the scrub is.

use super::PASS_INTERVAL;
use crate::format::{DecodeError, Reader, Writer};

const VERSION: u8 = 1;
const RECORDS: u8 = 0;
const FILES: u8 = 1;
const RESTING: u8 = 2;

/// A place in a pass, or the rest between two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At the small contents behind this key of the index.
    Records {
        /// Passes that are complete.
        passes: u64,
        /// When the pass began, in milliseconds since 1970.
        begun_ms: u64,
        /// The last key that was looked at; empty at the beginning.
        after: Vec<u8>,
    },
    /// At the files from this id on.
    Files {
        /// As above.
        passes: u64,
        /// As above.
        begun_ms: u64,
        /// The next id.
        next: u64,
    },
    /// Between two passes.
    Resting {
        /// As above.
        passes: u64,
        /// When the next one begins.
        until_ms: u64,
    },
}

/// What was looked at last: where to go on behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behind {
    /// This key.
    Key(Vec<u8>),
    /// This id.
    Blob(u64),
}

impl Default for Place {
    fn default() -> Self {
        Self::Resting { passes: 0, until_ms: 0 }
    }
}

impl Place {
    /// Passes that are complete.
    #[must_use]
    pub const fn passes(&self) -> u64 {
        match self {
            Self::Records { passes, .. }
            | Self::Files { passes, .. }
            | Self::Resting { passes, .. } => *passes,
        }
    }

    /// Where to go on: behind what was looked at, or, if nothing was left here, to what comes next.
    #[must_use]
    pub fn next(&self, behind: Option<Behind>, now_ms: u64) -> Self {
        let interval = u64::try_from(PASS_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        match (self, behind) {
            (&Self::Records { passes, begun_ms, .. }, Some(Behind::Key(after))) => {
                Self::Records { passes, begun_ms, after }
            }
            (&Self::Records { passes, begun_ms, .. }, _) => {
                Self::Files { passes, begun_ms, next: 0 }
            }
            (&Self::Files { passes, begun_ms, .. }, Some(Behind::Blob(last)))
                if last < u64::MAX =>
            {
                Self::Files { passes, begun_ms, next: last + 1 }
            }
            (&Self::Files { passes, begun_ms, .. }, _) => {
                // A clock that was set back must not make it rest for years.
                let until_ms = begun_ms.min(now_ms).saturating_add(interval);
                Self::Resting { passes: passes + 1, until_ms }
            }
            (&Self::Resting { passes, .. }, _) => {
                Self::Records { passes, begun_ms: now_ms, after: Vec::new() }
            }
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(32);
        writer.u8(VERSION);
        let (kind, passes, time) = match self {
            Self::Records { passes, begun_ms, .. } => (RECORDS, passes, begun_ms),
            Self::Files { passes, begun_ms, .. } => (FILES, passes, begun_ms),
            Self::Resting { passes, until_ms } => (RESTING, passes, until_ms),
        };
        writer.u8(kind);
        writer.u64(*passes);
        writer.u64(*time);
        match self {
            Self::Records { after, .. } => writer.bytes(after),
            Self::Files { next, .. } => writer.u64(*next),
            Self::Resting { .. } => {}
        }
        writer.finish()
    }

    /// It from its bytes.
    ///
    /// # Errors
    /// When they are not those of a place.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.version(VERSION)?;
        let (kind, passes, time) = (reader.u8()?, reader.u64()?, reader.u64()?);
        let place = match kind {
            RECORDS => Self::Records { passes, begun_ms: time, after: reader.bytes()?.to_vec() },
            FILES => Self::Files { passes, begun_ms: time, next: reader.u64()? },
            RESTING => Self::Resting { passes, until_ms: time },
            found => {
                return Err(DecodeError::Number {
                    what: "a place of the scrub",
                    found: found.into(),
                });
            }
        };
        reader.end()?;
        Ok(place)
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn place() -> impl Strategy<Value = Place> {
        let after = proptest::collection::vec(any::<u8>(), 0..9);
        prop_oneof![
            any::<(u64, u64)>().prop_flat_map(move |(passes, begun_ms)| {
                after.clone().prop_map(move |after| Place::Records { passes, begun_ms, after })
            }),
            any::<(u64, u64, u64)>().prop_map(|(passes, begun_ms, next)| Place::Files {
                passes,
                begun_ms,
                next
            }),
            any::<(u64, u64)>().prop_map(|(passes, until_ms)| Place::Resting { passes, until_ms }),
        ]
    }

    proptest! {
        #[test]
        fn a_place_comes_back(place in place()) {
            prop_assert_eq!(Place::decode(&place.encode()), Ok(place));
        }

        #[test]
        fn any_bytes_are_a_place_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(place) = Place::decode(&bytes) {
                prop_assert_eq!(place.encode(), bytes);
            }
        }
    }

    #[test]
    fn a_pass_goes_through_records_and_files_to_a_rest_of_a_day_from_its_beginning() {
        let begun = Place::default().next(None, 1000);
        assert_eq!(begun, Place::Records { passes: 0, begun_ms: 1000, after: vec![] });
        let further = begun.next(Some(Behind::Key(vec![7])), 2000);
        assert_eq!(further, Place::Records { passes: 0, begun_ms: 1000, after: vec![7] });
        let files = further.next(None, 3000);
        assert_eq!(files, Place::Files { passes: 0, begun_ms: 1000, next: 0 });
        let files = files.next(Some(Behind::Blob(41)), 4000);
        assert_eq!(files, Place::Files { passes: 0, begun_ms: 1000, next: 42 });
        let rest = files.next(None, 5000);
        assert_eq!(rest, Place::Resting { passes: 1, until_ms: 1000 + 24 * 60 * 60 * 1000 });
        // The clock was set back meanwhile.
        assert_eq!(
            files.next(None, 10),
            Place::Resting { passes: 1, until_ms: 10 + 24 * 60 * 60 * 1000 }
        );
    }
}
