//! The serial console of a machine, read from the file QEMU writes it to.

use super::QemuError;
use crate::file::failed;
use regex_lite::Regex;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A line of the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Without its line end.
    pub text: String,
    /// How long after the machine's start it was seen.
    pub seen: Duration,
}

#[derive(Debug)]
pub(super) struct Console {
    path: PathBuf,
    started: Instant,
    /// Bytes of the log that lie behind the last match.
    passed: usize,
}

impl Console {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, started: Instant::now(), passed: 0 }
    }

    pub(super) fn text(&self) -> Result<String, QemuError> {
        Ok(String::from_utf8_lossy(&self.bytes()?).replace('\r', ""))
    }

    pub(super) fn next_match(&mut self, regex: &Regex) -> Result<Option<Line>, QemuError> {
        let bytes = self.bytes()?;
        let found = find(bytes.get(self.passed..).unwrap_or_default(), regex);
        Ok(found.map(|(end, text)| {
            self.passed += end;
            Line { text, seen: self.started.elapsed() }
        }))
    }

    pub(super) fn tail(&self, lines: usize) -> String {
        let text = match self.text() {
            Ok(text) => text,
            Err(error) => return format!("(the console log can't be read: {error})"),
        };
        let all: Vec<_> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn bytes(&self) -> Result<Vec<u8>, QemuError> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(bytes),
            // QEMU makes it a moment after its start.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(failed("read", &self.path)(error).into()),
        }
    }
}

/// The first whole line that matches, and where the next one starts.
fn find(bytes: &[u8], regex: &Regex) -> Option<(usize, String)> {
    let mut end = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        end += line.len();
        let text = String::from_utf8_lossy(line.strip_suffix(b"\n")?).replace('\r', "");
        if regex.is_match(&text) {
            return Some((end, text));
        }
    }
    None
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_line_is_found_once_and_only_when_whole() {
        let regex = Regex::new("^mobula: ready").unwrap();
        let log = b"noise\r\nmobula: ready (1 s)\r\nmobula: rea";
        let (end, text) = find(log, &regex).unwrap();
        assert_eq!(text, "mobula: ready (1 s)");
        assert_eq!(find(&log[end..], &regex), None);
    }

    #[test]
    fn bytes_that_are_no_text_do_not_hide_a_line() {
        let regex = Regex::new("ready$").unwrap();
        assert!(find(b"\xff\xfe\n\xffready\n", &regex).is_some());
    }
}
