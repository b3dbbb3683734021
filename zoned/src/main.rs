//! zoned: runs the tasks of jobs in zones. See the library for what is where.
#![forbid(unsafe_code)]

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match zoned::daemon::run(&zoned::args::Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("zoned: {}", zoned::chain(&error));
            ExitCode::FAILURE
        }
    }
}
