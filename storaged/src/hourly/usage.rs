//! Records of usage on their way to the keeper. Whoever says them waits until they are on disk.

use super::keeper::Kept;
use crossbeam::channel::{Sender, bounded};
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::io;
use thiserror::Error;
use wire::task::{METER_BYTES_MAX, METER_LINES_MAX};

/// Lines that are no records of usage.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum BadLines {
    /// Too many, or too long.
    #[error(
        "{lines} lines of {bytes} bytes: at most {METER_LINES_MAX} of {METER_BYTES_MAX} in all"
    )]
    Much {
        /// How many.
        lines: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// One is no JSON object on one line.
    #[error("line {number} is no JSON object on one line")]
    Line {
        /// Which, from 1.
        number: usize,
    },
}

/// Where records of usage go.
#[derive(Debug, Clone)]
pub struct Usage(Sender<Kept>);

impl Usage {
    pub(super) const fn new(keeper: Sender<Kept>) -> Usage {
        Usage(keeper)
    }

    /// Keeps lines that [`pieced`] has put together; returns when they are on disk.
    ///
    /// # Errors
    /// What the disk says.
    pub fn keep(&self, lines: Vec<u8>) -> io::Result<()> {
        let gone = || io::Error::other("nobody keeps usage any more");
        let (answer, answered) = bounded(1);
        self.0.send(Kept { lines, answer }).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }
}

/// Checks lines, and puts them together with their ends.
///
/// # Errors
/// [`BadLines`].
pub fn pieced(lines: &[String]) -> Result<Vec<u8>, BadLines> {
    let bytes = lines.iter().map(String::len).sum();
    if lines.len() > METER_LINES_MAX || bytes > METER_BYTES_MAX {
        return Err(BadLines::Much { lines: lines.len(), bytes });
    }
    let mut piece = Vec::with_capacity(bytes + lines.len());
    for (at, line) in lines.iter().enumerate() {
        let is_object = serde_json::from_str::<BTreeMap<String, IgnoredAny>>(line).is_ok();
        // JSON may have ends of lines between its parts.
        if !is_object || line.contains(['\n', '\r']) {
            return Err(BadLines::Line { number: at + 1 });
        }
        piece.extend_from_slice(line.as_bytes());
        piece.push(b'\n');
    }
    Ok(piece)
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_record_is_refused_by_its_number() {
        let lines = |all: &[&str]| all.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
        assert_eq!(pieced(&lines(&[r#"{"a":"1"}"#, "{}"])).unwrap(), b"{\"a\":\"1\"}\n{}\n");
        for bad in ["", "1", "{\"a\":\n1}", "{}{}"] {
            assert_eq!(pieced(&lines(&["{}", bad])), Err(BadLines::Line { number: 2 }), "{bad}");
        }
        let many = vec!["{}".to_owned(); METER_LINES_MAX + 1];
        assert!(matches!(pieced(&many), Err(BadLines::Much { .. })));
    }

    proptest! {
        #[test]
        fn what_is_kept_are_as_many_lines_as_came(lines in prop::collection::vec("[{}\":a1,\n\\[\\]]{0,12}", 0..6)) {
            if let Ok(piece) = pieced(&lines) {
                prop_assert_eq!(piece.iter().filter(|&&byte| byte == b'\n').count(), lines.len());
            }
        }
    }
}
