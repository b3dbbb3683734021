//! `/init`: PID 1. Started by init itself as `init unmount`, it does the last work on filesystems.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        init::run();
    }
    match std::env::args().nth(1).as_deref() {
        Some(init::unmount::ARGUMENT) => ExitCode::from(u8::from(!init::unmount::run())),
        // The kernel runs init for no other purpose, and neither should people.
        Some(_) | None => ExitCode::FAILURE,
    }
}
