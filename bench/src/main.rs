//! `make bench`: storaged beside nginx, s3s-fs and SeaweedFS, zones beside bubblewrap, crun and runc, side by side
//! in one run.
//!
//! Each server is pinned to core 0, all load to core 1; rounds are interleaved, so that whatever else the
//! machine does meets all servers alike. What counts is the server's own CPU time a request, over all of
//! its processes, then requests a second and the 99th percentile. Nothing here decides about storaged.

mod get;
mod https;
mod idle;
mod index;
mod inline;
mod list;
mod load;
mod memory;
mod peers;
mod process;
mod put;
mod report;
mod seals;
mod settings;
mod statistics;
mod wrk;
mod zones;

use anyhow::Result;
use clap::Parser;

fn main() -> Result<()> {
    let arguments = settings::Arguments::parse();
    settings::run(&arguments)
}
