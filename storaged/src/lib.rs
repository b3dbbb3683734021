//! The object store: S3 and Manta fronts on io_uring, a journal, an index, sealed files.
#![forbid(unsafe_code)]

/// Runs `storaged` until it is told to stop.
pub fn run() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
