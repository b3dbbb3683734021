//! Pages of a listing: of a small bucket and of a large one.

use crate::index::FOLDER_KEYS;
use crate::load::Connection;
use crate::process::Server;
use crate::report::{Bar, Comparison, Report};
use crate::settings::Scale;
use anyhow::{Result, ensure};
use std::time::Instant;

/// Keys of a page: the most that S3 gives.
const PAGE_KEYS: usize = 1000;
/// Pages of a round.
const PAGES: usize = 100;
/// The most that a page of the large bucket may cost beside one of the small.
const RATIO_MAX: f64 = 1.5;

/// What a round of pages came to.
struct Round {
    cpu_us: f64,
    page_us: f64,
}

/// Compares two buckets whose keys are `key(0..count)`.
pub fn run(
    server: &Server,
    small: (&str, usize),
    large: (&str, usize),
    scale: &Scale,
    report: &mut Report,
) -> Result<()> {
    let (mut cpu, mut time) = (Vec::new(), Vec::new());
    let pages = if scale.quick { PAGES / 5 } else { PAGES };
    for round in 0..=scale.rounds {
        let a = pages_of(server, large, pages, round)?;
        let b = pages_of(server, small, pages, round)?;
        // The first one is to warm up.
        if round > 0 {
            cpu.push((a.cpu_us, b.cpu_us));
            time.push((a.page_us, b.page_us));
        }
    }
    let what = format!("ListObjectsV2, {} keys beside {}", large.1, small.1);
    let bar = Some(Bar::AtMost(RATIO_MAX));
    report.compare(Comparison::new(&what, "CPU µs a page", "storaged", cpu, bar));
    report.compare(Comparison::new(&what, "µs a page", "storaged", time, bar));
    Ok(())
}

fn pages_of(
    server: &Server,
    (bucket, count): (&str, usize),
    pages: usize,
    seed: usize,
) -> Result<Round> {
    let mut rng = fastrand::Rng::with_seed(seed as u64);
    let mut connection = Connection::new(server.address)?;
    let before = server.cpu_seconds();
    let began = Instant::now();
    for _ in 0..pages {
        let after = crate::index::key(rng.usize(0..count - FOLDER_KEYS));
        let query = [("list-type", "2"), ("start-after", after.as_str())];
        let query = query.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let (status, body) = connection.ask("GET", &format!("/{bucket}"), &query, b"")?;
        let text = String::from_utf8_lossy(body);
        let keys = text.matches("<Key>").count();
        ensure!(status == 200 && keys == PAGE_KEYS, "a page: {status}, {keys} keys");
    }
    let seconds = began.elapsed().as_secs_f64();
    let cpu = server.cpu_seconds() - before;
    let each = |seconds: f64| seconds * 1e6 / pages as f64;
    Ok(Round { cpu_us: each(cpu), page_us: each(seconds) })
}
