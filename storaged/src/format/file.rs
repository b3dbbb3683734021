//! `FORMAT`, the file at the root of a store that says what the rest is: a few lines of text, so that
//! a person with a rescue disk can read it.

use std::fmt;
use thiserror::Error;
use uuid::Uuid;

/// The format that this build writes.
pub const FORMAT_VERSION: u32 = 2;
/// The oldest build that can read what this one writes, as the format it wrote. Format 2 has records of
/// objects and buckets that know versions and locks; a build of format 1 refuses them one by one.
pub const LEAST_READER: u32 = 2;

const TITLE: &str = "mobula store";

/// What `FORMAT` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// Names the store for ever.
    pub store: Uuid,
    /// The format it is in.
    pub version: u32,
    /// The oldest format whose builds may open it.
    pub least_reader: u32,
}

/// Why a store is not opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FormatError {
    /// Not what this or a later build writes.
    #[error("it is damaged at line {line}")]
    Damaged {
        /// The first line that is wrong, from 1.
        line: usize,
    },
    /// A later build's.
    #[error(
        "it was written by a later release (format {version}, readers from {least_reader} on); this \
         one reads format {FORMAT_VERSION}: boot the later release again"
    )]
    TooNew {
        /// The format it is in.
        version: u32,
        /// The oldest format whose builds may open it.
        least_reader: u32,
    },
}

impl Format {
    /// A new store's.
    #[must_use]
    pub fn new(store: Uuid) -> Self {
        Self { store, version: FORMAT_VERSION, least_reader: LEAST_READER }
    }

    /// What it is once this build writes to the store: a later build's stays as it is.
    #[must_use]
    pub fn raised(self) -> Self {
        match self.version < FORMAT_VERSION {
            true => Self::new(self.store),
            false => self,
        }
    }

    /// It from the text of the file.
    ///
    /// # Errors
    /// When the text is damaged, or from a release that this one can't follow.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let mut lines = text.lines();
        if lines.next() != Some(TITLE) {
            return Err(FormatError::Damaged { line: 1 });
        }
        let mut field = |line: usize, name: &str| {
            let found = lines.next().and_then(|text| text.strip_prefix(name)?.strip_prefix(' '));
            found.ok_or(FormatError::Damaged { line })
        };
        let number = |line, text: &str| text.parse().map_err(|_| FormatError::Damaged { line });
        let version = number(2, field(2, "format")?)?;
        let least_reader = number(3, field(3, "least-reader")?)?;
        // What follows may have changed in a format that we can't read: look at it only if we can.
        if least_reader > FORMAT_VERSION {
            return Err(FormatError::TooNew { version, least_reader });
        }
        let store = field(4, "store")?.parse().map_err(|_| FormatError::Damaged { line: 4 })?;
        Ok(Self { store, version, least_reader })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, version, least_reader } = self;
        writeln!(f, "{TITLE}\nformat {version}\nleast-reader {least_reader}\nstore {store}")
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_format_comes_back() {
        let format = Format::new(Uuid::from_u128(7));
        assert_eq!(Format::parse(&format.to_string()), Ok(format));
    }

    #[test]
    fn a_later_format_is_read_if_it_says_so_and_refused_if_not() {
        let kind = Format { version: 3, ..Format::new(Uuid::from_u128(7)) };
        assert_eq!(Format::parse(&format!("{kind}more 5\n")), Ok(kind));
        let strict = "mobula store\nformat 4\nleast-reader 3\nelse\n";
        let refused = FormatError::TooNew { version: 4, least_reader: 3 };
        assert_eq!(Format::parse(strict), Err(refused));
    }

    #[test]
    fn a_damaged_one_names_its_line() {
        assert_eq!(Format::parse(""), Err(FormatError::Damaged { line: 1 }));
        let text = "mobula store\nformat 1\nleast-reader 1\nstore x\n";
        assert_eq!(Format::parse(text), Err(FormatError::Damaged { line: 4 }));
    }

    proptest! {
        #[test]
        fn any_text_is_a_format_or_refused(text in "(mobula store\n)?(format [0-9]{1,12}\n)?.{0,80}") {
            if let Ok(format) = Format::parse(&text) {
                prop_assert!(format.least_reader <= FORMAT_VERSION);
            }
        }
    }
}
