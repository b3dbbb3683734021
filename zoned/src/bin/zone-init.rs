//! PID 1 of a zone: makes it from within, runs one task, and ends with it. Started by zoned alone.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use sys::arena::Arena;

#[global_allocator]
static ALLOCATOR: Arena = Arena;

fn main() -> ExitCode {
    match zoned::inside::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("zone-init: {}", zoned::chain(&error));
            ExitCode::FAILURE
        }
    }
}
