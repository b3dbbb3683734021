//! `noded`: configuration, network, clock and the data disk.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    init::noded::run()
}
