//! What a person sees while something long goes on: a line for each step, how far it is, how long it took.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two signs of life where nobody watches a terminal (a log).
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Between two updates of a terminal's line.
const TERMINAL_INTERVAL: Duration = Duration::from_millis(100);
/// Width of the names, so that what follows them lines up.
const NAME_WIDTH: usize = 22;

/// One long step.
#[derive(Debug)]
pub struct Step {
    name: String,
    started: Instant,
    shown: Instant,
    terminal: bool,
}

impl Step {
    /// Announces a step.
    #[must_use]
    pub fn start(name: &str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let now = Instant::now();
        let step = Self { name: name.to_owned(), started: now, shown: now, terminal };
        if terminal {
            step.say("\r", "…", "");
        } else {
            step.say("", "…", "\n");
        }
        step
    }

    /// Shows how far it is, at most as often as is useful.
    pub fn at(&mut self, how_far: &str) {
        let interval = if self.terminal { TERMINAL_INTERVAL } else { LOG_INTERVAL };
        if self.shown.elapsed() < interval {
            return;
        }
        self.shown = Instant::now();
        let text = format!("{how_far}, {}", seconds(self.started.elapsed()));
        if self.terminal {
            self.say("\r", &text, "\x1b[K");
        } else {
            self.say("", &text, "\n");
        }
    }

    /// Says what came of it and how long it took.
    pub fn done(self, what: &str) -> Duration {
        let took = self.started.elapsed();
        let (start, end) = if self.terminal { ("\r", "\x1b[K\n") } else { ("", "\n") };
        self.say(start, &format!("{what} ({})", seconds(took)), end);
        took
    }

    fn say(&self, start: &str, text: &str, end: &str) {
        let name = &self.name;
        let mut err = std::io::stderr().lock();
        // Progress that can't be shown is no reason to stop the work.
        drop(write!(err, "{start}{name:NAME_WIDTH$} {text}{end}").and_then(|()| err.flush()));
    }
}

/// A step that had nothing to do.
pub fn unchanged(name: &str, what: &str) {
    eprintln!("{name:NAME_WIDTH$} {what} (unchanged)");
}

/// A duration as people read it: `0.3 s`, `42 s`, `7 min 3 s`.
#[must_use]
pub fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        whole @ 10..120 => format!("{whole} s"),
        whole => format!("{} min {} s", whole / 60, whole % 60),
    }
}

/// A size as people read it, in binary units.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "shown with one digit behind the point")]
pub fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{:.1} KiB", count as f64 / 1024.0),
        _ => format!("{:.1} MiB", count as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(seconds(Duration::from_millis(340)), "0.3 s");
        assert_eq!(seconds(Duration::from_secs(42)), "42 s");
        assert_eq!(seconds(Duration::from_secs(423)), "7 min 3 s");
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!([bytes(12), bytes(1536), bytes(3 << 20)], ["12 B", "1.5 KiB", "3.0 MiB"]);
    }
}
