//! Log lines of the prefetcher: to stderr, where the supervisor reads them.

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        eprintln!("{}: {}", record.level().as_str().to_ascii_lowercase(), record.args());
    }

    fn flush(&self) {}
}

/// Sends what this process logs to stderr.
pub fn to_stderr() {
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}
