//! Lines on their way to storaged: kept in a file until it has them, told in batches, one at a time.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;
use wire::task::{METER_BYTES_MAX, METER_LINES_MAX};

/// Bytes of lines from which on checkpoints are put off: storaged is away, and records of what begins and
/// ends still need room. The file is in the node's memory.
const PUT_OFF_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of lines beyond which lines are lost.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Lines are told at most so often, in microseconds, unless a batch is full: each batch is synced to disk.
const INTERVAL_US: u64 = 1_000_000;

/// Why lines cannot be kept.
#[derive(Debug, Error)]
#[error("cannot {act} {}", path.display())]
pub struct OutboxError {
    pub(super) act: &'static str,
    pub(super) path: PathBuf,
    pub(super) source: io::Error,
}

/// The lines.
#[derive(Debug)]
pub struct Outbox {
    lines: VecDeque<String>,
    bytes: usize,
    /// How many of the first lines were told and are not yet delivered.
    told: usize,
    told_us: u64,
    /// Whether the last batch did not arrive: then even a full one waits.
    failed: bool,
    file: File,
    lost: u64,
}

impl Outbox {
    /// The lines that `path` has, for a start.
    ///
    /// # Errors
    /// [`OutboxError`].
    pub fn open(path: &Path) -> Result<Self, OutboxError> {
        let failed = |act| move |source| OutboxError { act, path: path.to_owned(), source };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failed("read")(error)),
        };
        // What has no end was being written when zoned was killed.
        let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        let lines: VecDeque<String> = whole.map(str::to_owned).collect();
        let bytes = lines.iter().map(|line| line.len() + 1).sum();
        let file = File::options().create(true).append(true).open(path).map_err(failed("open"))?;
        file.set_len(bytes as u64).map_err(failed("shorten"))?;
        Ok(Self { lines, bytes, told: 0, told_us: 0, failed: false, file, lost: 0 })
    }

    /// Whether checkpoints are to be put off.
    pub const fn is_full(&self) -> bool {
        self.bytes >= PUT_OFF_BYTES
    }

    /// Whether nothing is to be told or waits for an answer.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Takes a line to be told.
    pub fn put(&mut self, line: String) {
        if self.bytes + line.len() >= BYTES_MAX || line.len() > METER_BYTES_MAX {
            // Said at powers of two: a storaged that is away for days shall not fill the log too.
            self.lost += 1;
            if self.lost.is_power_of_two() {
                eprintln!(
                    "zoned: {} lines of usage are lost: storaged does not take them",
                    self.lost
                );
            }
            return;
        }
        if let Err(error) = self.file.write_all(format!("{line}\n").as_bytes()) {
            eprintln!("zoned: a line of usage is lost if zoned ends now: {error}");
        }
        self.bytes += line.len() + 1;
        self.lines.push_back(line);
    }

    /// The next batch, if there is one and it is time for it.
    pub fn take(&mut self, now_us: u64) -> Option<Vec<String>> {
        if self.told > 0 || self.lines.is_empty() {
            return None;
        }
        let mut bytes = 0;
        let fits = |line: &&String| {
            bytes += line.len();
            bytes <= METER_BYTES_MAX
        };
        let batch: Vec<String> =
            self.lines.iter().take(METER_LINES_MAX).take_while(fits).cloned().collect();
        let hurries = batch.len() < self.lines.len() && !self.failed;
        if !hurries && now_us.saturating_sub(self.told_us) < INTERVAL_US {
            return None;
        }
        self.told = batch.len();
        self.told_us = now_us;
        Some(batch)
    }

    /// What was told has arrived; how many lines that were.
    pub fn delivered(&mut self) -> usize {
        self.failed = false;
        let told = std::mem::take(&mut self.told);
        for line in self.lines.drain(..told) {
            self.bytes -= line.len() + 1;
        }
        // The file is shortened when nothing is left of it: until then, what was delivered may be
        // delivered once more. Appending starts at the end, wherever that is.
        if self.lines.is_empty()
            && let Err(error) = self.file.set_len(0)
        {
            eprintln!("zoned: lines of usage will be told once more: {error}");
        }
        told
    }

    /// What was told has not arrived.
    pub const fn not_delivered(&mut self) {
        self.told = 0;
        self.failed = true;
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn outbox(folder: &Path) -> Outbox {
        Outbox::open(&folder.join("outbox")).unwrap()
    }

    #[test]
    fn lines_are_told_once_a_second_and_again_until_they_have_arrived() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = outbox(folder.path());
        outbox.put("a".to_owned());
        assert_eq!(outbox.take(5_000_000), Some(vec!["a".to_owned()]));
        outbox.put("b".to_owned());
        assert_eq!(outbox.take(9_000_000), None);
        outbox.not_delivered();
        assert_eq!(outbox.take(9_000_000), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!((outbox.delivered(), outbox.is_empty()), (2, true));
        outbox.put("c".to_owned());
        assert_eq!(outbox.take(9_500_000), None);
        assert_eq!(outbox.take(10_000_000), Some(vec!["c".to_owned()]));
    }

    #[test]
    fn a_full_batch_does_not_wait_and_fits_a_message() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = outbox(folder.path());
        (0..1000).for_each(|_| outbox.put("\"".repeat(500)));
        let mut left = 1000;
        while let Some(batch) = outbox.take(0) {
            let request = wire::task::Request::Meter { lines: batch };
            let message = wire::frame::encode(wire::frame::Kind::Request, 1, &request, 0).unwrap();
            assert!(message.len() <= wire::frame::MESSAGE_BYTES_MAX);
            left -= outbox.delivered();
        }
        // The last, small batch waits for its second.
        assert!(left < METER_LINES_MAX, "{left}");
    }

    #[test]
    fn a_torn_line_is_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox");
        fs::write(&path, "whole\nto").unwrap();
        let mut again = outbox(folder.path());
        again.put("next".to_owned());
        assert_eq!(again.take(u64::MAX).unwrap(), ["whole", "next"]);
        assert_eq!(fs::read_to_string(path).unwrap(), "whole\nnext\n");
    }

    #[test]
    fn what_is_too_much_is_put_off_and_then_lost_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = outbox(folder.path());
        let line = "x".repeat((16 << 10) - 1);
        (0..255).for_each(|_| outbox.put(line.clone()));
        assert!(!outbox.is_full());
        (255..1030).for_each(|_| outbox.put(line.clone()));
        assert!(outbox.is_full() && outbox.lost == 6, "{}", outbox.lost);
        outbox.put("x".repeat(METER_BYTES_MAX + 1));
        assert_eq!(outbox.lost, 7);
    }
}
