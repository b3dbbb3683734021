//! `prefetcher`: reads objects ahead for storaged, in a process and a cgroup of its own.
#![forbid(unsafe_code)]

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Reads objects ahead for storaged, so that zones do not pay for their pages.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Where to listen, unless a supervisor handed over a socket named "wire".
    #[arg(long, value_name = "PATH")]
    wire: Option<PathBuf>,
}

fn main() -> ExitCode {
    storaged::prefetch::log::to_stderr();
    match storaged::prefetch::server::run(Args::parse().wire) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
