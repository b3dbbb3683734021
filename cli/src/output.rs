//! What people and programs see: lines on standard output, notes, bars and failures on standard error.

use crate::failure::Failure;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// How often a bar moves when nothing happens, so that a wait does not look like a hang.
const TICK: Duration = Duration::from_millis(120);

/// Where a command writes. Clones share the same screen, so that lines and bars do not mix.
#[derive(Debug, Clone)]
pub struct Screen {
    /// Whether standard output is JSON.
    pub json: bool,
    quiet: bool,
    bars: MultiProgress,
}

impl Screen {
    /// The process's screen; bars are drawn if standard error is a terminal and nobody wants quiet.
    pub fn new(json: bool, quiet: bool) -> Self {
        let bars = MultiProgress::new();
        if quiet {
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self { json, quiet, bars }
    }

    /// Prints one line on standard output.
    pub fn line(&self, text: &str) -> Result<(), Failure> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Prints bytes on standard output, as they are.
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        self.bars.suspend(|| out.write_all(bytes).and_then(|()| out.flush()))?;
        Ok(())
    }

    /// Prints `value` as one line of JSON.
    pub fn value(&self, value: &impl Serialize) -> Result<(), Failure> {
        self.line(&json(value)?)
    }

    /// Says something on standard error that is no failure; nothing if quiet.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.bars.suspend(|| eprintln!("mobula: {text}"));
        }
    }

    /// Reports one of several failures, while the others go on.
    pub fn report(&self, failure: &Failure) {
        self.bars.suspend(|| report(failure, self.json));
    }

    /// A bar over bytes.
    pub fn bytes_bar(&self, total: u64, what: &str) -> ProgressBar {
        let style = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        self.bar(ProgressBar::new(total), style, what)
    }

    /// A bar over bytes that go to standard output: none if that is the terminal on which it would be drawn.
    pub fn stdout_bar(&self, what: &str) -> ProgressBar {
        if std::io::stdout().is_terminal() {
            ProgressBar::hidden()
        } else {
            self.bytes_bar(0, what)
        }
    }

    /// A bar over things.
    pub fn count_bar(&self, total: u64, what: &str) -> ProgressBar {
        self.bar(ProgressBar::new(total), "{msg} {wide_bar} {pos}/{len} {elapsed}", what)
    }

    /// A sign of life, without an end in sight.
    pub fn spinner(&self, what: &str) -> ProgressBar {
        self.bar(ProgressBar::new_spinner(), "{spinner} {msg} {pos}", what)
    }

    fn bar(&self, bar: ProgressBar, style: &str, what: &str) -> ProgressBar {
        let bar = self.bars.add(bar.with_message(what.to_owned()));
        bar.set_style(ProgressStyle::with_template(style).expect("the template is a constant"));
        bar.enable_steady_tick(TICK);
        bar
    }
}

/// `value` as JSON on one line.
pub fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::Nonsense {
        what: "the result as JSON".to_owned(),
        why: error.to_string(),
    })
}

/// Says on standard error why the command failed.
pub fn report(failure: &Failure, as_json: bool) {
    let view = serde_json::json!({ "error": failure.view() });
    if as_json {
        eprintln!("{view}");
    } else {
        eprintln!("mobula: {}", failure.chain());
    }
}

/// Prints a completion script.
pub fn completion(shell: clap_complete::Shell, command: &mut clap::Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, command, "mobula", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(())
}

/// A number of bytes for people: `1.5 MiB`.
pub fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// A number of things for people: `1 error`, `2 errors`.
pub fn many(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// A time span for people: `2.31 s`, `3 min 05 s`, `4 h 07 min`, `2 d 03 h`.
pub fn span(span: Duration) -> String {
    let s = span.as_secs();
    match s {
        0..60 => format!("{:.2} s", span.as_secs_f64()),
        60..3_600 => format!("{} min {:02} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {:02} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} d {:02} h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// A moment in UTC: `2026-11-22 08:00:00Z`.
pub fn moment(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    match time::OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(t) => format!(
            "{}-{:02}-{:02} {:02}:{:02}:{:02}Z",
            t.year(),
            u8::from(t.month()),
            t.day(),
            t.hour(),
            t.minute(),
            t.second()
        ),
        Err(_) => format!("{unix_ms} ms since 1970"),
    }
}

/// Text from outside, made fit for a terminal: control characters would let it rewrite the screen, and
/// those that turn the direction of writing (UAX #9) would let it lie about what stands where.
pub fn plain(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let odd = |c: char| (c.is_control() && c != '\n' && c != '\t') || turns(c);
    text.chars().map(|c| if odd(c) { '\u{fffd}' } else { c }).collect()
}

/// Rows in columns as wide as their widest word, two spaces between; columns of numbers stand to the right.
pub fn table(head: &[&str], to_the_right: &[usize], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|word| word.chars().count()).collect();
    for row in rows {
        for (width, word) in widths.iter_mut().zip(row) {
            *width = word.chars().count().max(*width);
        }
    }
    let head: Vec<String> = head.iter().map(|&word| word.to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (at, (word, &width)) in row.iter().zip(&widths).enumerate() {
            match to_the_right.contains(&at) {
                true => line.push_str(&format!("{word:>width$}  ")),
                false => line.push_str(&format!("{word:<width$}  ")),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn spans_are_told_in_two_units_at_most() {
        let told = [0.5, 185.0, 14_820.0, 183_600.0].map(|s| span(Duration::from_secs_f64(s)));
        assert_eq!(told, ["0.50 s", "3 min 05 s", "4 h 07 min", "2 d 03 h"]);
    }

    #[test]
    fn text_from_outside_cannot_move_the_cursor() {
        assert_eq!(plain("a\x1b[2Jb\tc\n\r"), "a\u{fffd}[2Jb\tc\n\u{fffd}");
        assert_eq!(plain("a\u{9b}2J\u{202e}b"), "a\u{fffd}2J\u{fffd}b");
    }

    #[test]
    fn a_moment_is_told_in_utc() {
        assert_eq!(moment(1_795_336_352_999), "2026-11-22 08:32:32Z");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_word() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["long".to_owned(), "22".to_owned()]];
        assert_eq!(table(&["NAME", "N"], &[1], &rows), "NAME   N\na      1\nlong  22\n");
    }
}
