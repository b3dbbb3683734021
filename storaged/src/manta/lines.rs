//! Lines of a body that comes in pieces: split at `\n` and `\r\n`, empty ones left out, the last one
//! with or without an end.

use crate::jobs::name::NAME_BYTES_MAX;
use thiserror::Error;

/// The most bytes in a line: a name that is too long for a job is still read, and then refused by it.
pub const LINE_BYTES_MAX: usize = 2 * NAME_BYTES_MAX;

/// Why a body has no lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LineError {
    /// A line over [`LINE_BYTES_MAX`].
    #[error("a line is over {LINE_BYTES_MAX} bytes long")]
    TooLong,
    /// A line that is no UTF-8.
    #[error("a line is not UTF-8")]
    NotText,
}

/// What has come of a line so far.
#[derive(Debug, Default)]
pub struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Takes a piece; adds the lines that it ends to `lines`.
    ///
    /// # Errors
    /// [`LineError`].
    pub fn push(&mut self, piece: &[u8], lines: &mut Vec<String>) -> Result<(), LineError> {
        let mut pieces = piece.split(|byte| *byte == b'\n');
        let last = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            self.rest.extend_from_slice(piece);
            self.end_line(lines)?;
        }
        self.rest.extend_from_slice(last);
        if self.rest.len() > LINE_BYTES_MAX + 1 { Err(LineError::TooLong) } else { Ok(()) }
    }

    /// Ends the last line.
    ///
    /// # Errors
    /// [`LineError`].
    pub fn finish(mut self, lines: &mut Vec<String>) -> Result<(), LineError> {
        self.end_line(lines)
    }

    fn end_line(&mut self, lines: &mut Vec<String>) -> Result<(), LineError> {
        let line = std::mem::take(&mut self.rest);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if line.len() > LINE_BYTES_MAX {
            return Err(LineError::TooLong);
        }
        if !line.is_empty() {
            lines.push(std::str::from_utf8(line).map_err(|_| LineError::NotText)?.to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn lines(pieces: &[&[u8]]) -> Result<Vec<String>, LineError> {
        let (mut reader, mut found) = (Lines::default(), Vec::new());
        for piece in pieces {
            reader.push(piece, &mut found)?;
        }
        reader.finish(&mut found)?;
        Ok(found)
    }

    #[test]
    fn both_ends_of_lines_are_taken_and_the_last_needs_none() {
        assert_eq!(lines(&[b"/a\r\n/b\n\n/c"]).unwrap(), ["/a", "/b", "/c"]);
        assert_eq!(lines(&[b"/a\r", b"\n/b\r\n"]).unwrap(), ["/a", "/b"]);
    }

    #[test]
    fn a_line_without_an_end_is_refused_before_it_fills_the_memory() {
        let piece = vec![b'x'; 1000];
        let many: Vec<&[u8]> = vec![&piece; 5];
        assert_eq!(lines(&many), Err(LineError::TooLong));
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_they_were_cut(
            text in "([a-cä]{0,6}(\n|\r\n)){0,8}[a-c]{0,4}",
            cuts in prop::collection::vec(0..80_usize, 0..6),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < bytes.len()).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            let expected: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
            prop_assert_eq!(lines(&pieces).unwrap(), expected);
        }
    }
}
