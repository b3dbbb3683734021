//! What services write: cut into lines, kept in a bounded ring a service, let through to the console at
//! a bounded rate.

use crate::notice::printable;
use std::collections::VecDeque;
use wire::node::{LogLine, LogPage, PAGE_TEXT_BYTES_MAX};

/// The most bytes of one line; a longer one is cut into several.
pub const LINE_BYTES_MAX: usize = 1024;
/// The most bytes of text that one service's ring keeps: a few thousand lines.
pub const RING_BYTES_MAX: usize = 256 * 1024;
/// The most lines of one service that reach the console in [`ECHO_WINDOW_MS`]: a serial line at 115,200
/// baud takes about 140 full lines a second.
pub const ECHO_LINES_MAX: u32 = 100;
/// The time over which lines for the console are counted.
pub const ECHO_WINDOW_MS: u64 = 5_000;
/// What a line costs in the ring beyond its text.
const LINE_COST: usize = 32;

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes more of the stream and gives the lines that are complete now.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in bytes {
            if *byte == b'\n' {
                lines.push(self.flush());
                continue;
            }
            self.partial.push(*byte);
            if self.partial.len() >= LINE_BYTES_MAX {
                lines.push(self.flush());
            }
        }
        lines
    }

    /// The end of the stream: what has no newline is a line too.
    pub fn end(&mut self) -> Option<String> {
        (!self.partial.is_empty()).then(|| self.flush())
    }

    fn flush(&mut self) -> String {
        let partial = std::mem::take(&mut self.partial);
        let text = partial.strip_suffix(b"\r").unwrap_or(&partial);
        // A byte that is no UTF-8 becomes three.
        printable(text, 3 * LINE_BYTES_MAX)
    }
}

/// The last lines of one service.
#[derive(Debug, Default)]
pub struct Ring {
    lines: VecDeque<LogLine>,
    bytes: usize,
    next: u64,
}

impl Ring {
    /// Keeps a line, and lets the oldest go when there is no room.
    pub fn push(&mut self, at_ms: u64, text: String) {
        self.bytes += text.len() + LINE_COST;
        self.lines.push_back(LogLine { number: self.next, at_ms, text });
        self.next += 1;
        while self.bytes > RING_BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.text.len() + LINE_COST;
        }
    }

    /// A page of lines from number `from` on.
    #[must_use]
    pub fn page(&self, from: u64) -> LogPage {
        let oldest = self.next - self.lines.len() as u64;
        let start = from.max(oldest).min(self.next);
        let skip = usize::try_from(start - oldest).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let fits = |line: &&LogLine| {
            bytes += line.text.len() + LINE_COST;
            bytes <= PAGE_TEXT_BYTES_MAX
        };
        let lines: Vec<_> = self.lines.iter().skip(skip).take_while(fits).cloned().collect();
        LogPage { next: start + lines.len() as u64, lost: start.saturating_sub(from), lines }
    }
}

/// Lets a bounded number of lines through, and says how many it held back.
#[derive(Debug, Default)]
pub struct Throttle {
    window_ms: u64,
    passed: u32,
    held: u64,
}

/// What a throttle says to a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may pass; so many before it were held back since the last that passed.
    Pass(u64),
    /// It is held back.
    Hold,
}

impl Throttle {
    /// Asks for one line.
    pub fn ask(&mut self, now_ms: u64) -> Verdict {
        if now_ms.saturating_sub(self.window_ms) >= ECHO_WINDOW_MS {
            self.window_ms = now_ms;
            self.passed = 0;
        }
        if self.passed >= ECHO_LINES_MAX {
            self.held += 1;
            return Verdict::Hold;
        }
        self.passed += 1;
        Verdict::Pass(std::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_put_together_from_pieces() {
        let mut lines = Lines::default();
        assert!(lines.take(b"one").is_empty());
        assert_eq!(lines.take(b" two\r\nthree\n"), ["one two", "three"]);
        assert_eq!(lines.end(), None);
    }

    #[test]
    fn what_has_no_newline_comes_at_the_end() {
        let mut lines = Lines::default();
        lines.take(b"last words");
        assert_eq!(lines.end().as_deref(), Some("last words"));
    }

    #[test]
    fn a_page_says_what_was_lost() {
        let mut ring = Ring::default();
        let text = "x".repeat(1000);
        for _ in 0..1000 {
            ring.push(0, text.clone());
        }
        let page = ring.page(0);
        assert!(page.lost > 0 && page.lines[0].number == page.lost);
    }

    #[test]
    fn a_flood_is_held_back_and_counted() {
        let mut throttle = Throttle::default();
        let verdicts: Vec<_> = (0..ECHO_LINES_MAX + 5).map(|_| throttle.ask(1)).collect();
        assert_eq!(verdicts.iter().filter(|one| **one == Verdict::Hold).count(), 5);
        assert_eq!(throttle.ask(1 + ECHO_WINDOW_MS), Verdict::Pass(5));
    }

    proptest! {
        #[test]
        fn paging_gives_every_kept_line_once(sizes in proptest::collection::vec(0..3000_usize, 0..300)) {
            let mut ring = Ring::default();
            for size in &sizes {
                ring.push(0, "x".repeat(*size));
            }
            let (mut from, mut seen) = (0, 0);
            loop {
                let page = ring.page(from);
                if page.lines.is_empty() {
                    break;
                }
                seen += page.lines.len() as u64 + page.lost;
                from = page.next;
            }
            prop_assert_eq!(seen, sizes.len() as u64);
        }

        #[test]
        fn any_bytes_make_bounded_lines(chunks: Vec<Vec<u8>>) {
            let mut lines = Lines::default();
            for chunk in chunks {
                for line in lines.take(&chunk) {
                    prop_assert!(line.len() <= 3 * LINE_BYTES_MAX && !line.contains('\n'));
                }
            }
        }
    }
}
