//! Asks, from within a zone, that its `/out` becomes objects.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Option<Vec<String>> =
        std::env::args_os().skip(1).map(|word| word.into_string().ok()).collect();
    let said = zoned::publisher::run(&arguments.unwrap_or_else(|| vec![String::new()]));
    let wrote = std::io::stdout().write_all(said.output.as_bytes());
    let told = std::io::stderr().write_all(said.error.as_bytes());
    // What was done is done; that nobody could be told is a failure all the same.
    if wrote.and(told).is_err() { ExitCode::FAILURE } else { ExitCode::from(said.code) }
}
