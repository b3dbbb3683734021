//! Contents in the index beside contents in files: two storageds, one of which keeps every size in its index, the other
//! none. The largest size for which the index is worth it is the threshold.

use crate::get::presigned;
use crate::load::{self, Connection, Load, Round};
use crate::peers::{Peers, Which};
use crate::process::Server;
use crate::report::{Comparison, Report};
use crate::settings::Scale;
use crate::wrk::{self, Scheme};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Sizes of objects, in KiB.
const SIZES_KIB: [usize; 6] = [2, 4, 8, 16, 32, 64];
/// Objects that are read and listed: two pages.
const OBJECTS: usize = 2000;
/// Keys of each connection that PUTs, overwritten in turn.
const KEYS: usize = 100;
/// Of the usual rounds, one in so many: six sizes are a lot.
const ROUNDS_PART: usize = 3;
/// Pages of a listing, of a round.
const PAGES: usize = 20;
/// Keys of a page.
const PAGE_KEYS: usize = 1000;
/// The bucket of what is read.
const READ: &str = "read";
/// The bucket of what is written.
const WRITTEN: &str = "written";
/// The table's name for the other way.
const FILES: &str = "in files";

/// One of the two ways, of one size.
struct Way {
    server: Server,
    data: PathBuf,
    targets: PathBuf,
    /// Bytes on disk of an object: of the index, and of all.
    each: [f64; 2],
    /// CPU µs of the first GET of an object, and that of a page of a listing.
    first_us: f64,
    puts: Vec<Round>,
    gets: Vec<wrk::Round>,
    pages_us: Vec<f64>,
}

/// All rows.
pub fn run(peers: &Peers, scale: &Scale, report: &mut Report) -> Result<()> {
    let sizes = if scale.quick { &SIZES_KIB[..2] } else { &SIZES_KIB[..] };
    sizes.iter().try_for_each(|kib| one(peers, *kib, scale, report))
}

fn one(peers: &Peers, kib: usize, scale: &Scale, report: &mut Report) -> Result<()> {
    let mut other = Which::Storaged.address();
    other.set_port(Which::OTHER_STORAGED_PORT);
    let places = [("index", Which::Storaged.address(), 64 << 10), (FILES, other, 0)];
    let mut ways = places
        .into_iter()
        .map(|(name, address, limit)| {
            let start = |data: &Path| {
                let more = ["--inline-bytes", &limit.to_string()];
                let more = [&more[..], &crate::index::NO_SNAPSHOT].concat();
                peers.storaged_as(name, address, data, &more)
            };
            Way::begin(peers, name, kib << 10, scale, &start)
        })
        .collect::<Result<Vec<Way>>>()?;
    let load = Load {
        bucket: WRITTEN.to_owned(),
        bytes: kib << 10,
        connections: 32,
        keys: KEYS,
        time: Duration::from_secs(scale.seconds.into()),
    };
    let rounds = scale.rounds.div_ceil(ROUNDS_PART);
    for round in 0..rounds {
        for turn in 0..2 {
            ways[(round + turn) % 2].round(&load, scale.seconds)?;
        }
    }
    tell(kib, &ways, report);
    for way in ways {
        drop(way.server);
        fs::remove_dir_all(&way.data).context("remove the data of one way")?;
    }
    Ok(())
}

fn tell(kib: usize, ways: &[Way], report: &mut Report) {
    let [index, files] = ways else { return };
    let mut compare = |what: &str, figure, pairs: Vec<(f64, f64)>| {
        let what = format!("{what} {kib} KiB in the index");
        report.compare(Comparison::new(&what, figure, FILES, pairs, None));
    };
    let puts = |of: fn(&Round) -> f64| {
        index.puts.iter().map(of).zip(files.puts.iter().map(of)).collect::<Vec<_>>()
    };
    compare("PUT", "requests/s", puts(|round| round.rate));
    compare("PUT", "CPU µs a request", puts(|round| round.cpu_us));
    compare("PUT", "p99 µs", puts(|round| round.p99_us));
    let gets = index.gets.iter().zip(&files.gets).map(|(a, b)| (a.cpu_us, b.cpu_us));
    compare("GET", "CPU µs a request", gets.collect());
    compare("first GET", "CPU µs a request", vec![(index.first_us, files.first_us)]);
    let pages = index.pages_us.iter().copied().zip(files.pages_us.iter().copied());
    compare("page of 1,000 keys,", "µs a page", pages.collect());
    for (at, what) in
        ["bytes of the index", "bytes on disk, journal included"].into_iter().enumerate()
    {
        compare("object of", what, vec![(index.each[at], files.each[at])]);
    }
}

impl Way {
    /// Fills a store, looks what that took on disk, and starts it anew.
    fn begin(
        peers: &Peers,
        name: &str,
        bytes: usize,
        scale: &Scale,
        start: &dyn Fn(&Path) -> Result<Server>,
    ) -> Result<Way> {
        let data = peers.run.join(format!("inline-{name}"));
        drop(start(&data)?);
        let empty = taken(&data)?;
        let server = start(&data)?;
        let address = server.address;
        load::fill(address, READ, "", OBJECTS, bytes)?;
        drop(server);
        let full = taken(&data)?;
        let each = [0, 1].map(|at| (full[at] - empty[at]) / OBJECTS as f64);
        let server = start(&data)?;
        let before = server.cpu_seconds();
        let mut connection = Connection::new(address)?;
        for number in 0..OBJECTS {
            let (status, body) = connection.ask("GET", &format!("/{READ}/{number}"), &[], b"")?;
            ensure!(status == 200 && body.len() == bytes, "a GET: {status}, {} bytes", body.len());
        }
        let first_us = (server.cpu_seconds() - before) * 1e6 / OBJECTS as f64;
        load::make_bucket(address, WRITTEN)?;
        let targets = peers.run.join(format!("inline-{name}.targets"));
        let target = |number: usize| {
            let path = format!("/{READ}/{}", number % OBJECTS);
            presigned(&address.to_string(), &path, 86_400 + number / OBJECTS)
        };
        wrk::write_targets(&targets, (0..scale.urls).map(target))?;
        let (puts, gets, pages_us) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Way { server, data, targets, each, first_us, puts, gets, pages_us })
    }

    fn round(&mut self, load: &Load, seconds: u32) -> Result<()> {
        // What the other has left to write is not to be paid for by this one.
        std::process::Command::new("sync").status().context("sync")?;
        self.puts.push(load::put(&self.server, load)?);
        let (scheme, targets) = (Scheme::Http, self.targets.clone());
        let reads = wrk::Load { scheme, targets, connections: 32, seconds };
        self.gets.push(wrk::run(&self.server, &reads)?);
        let mut connection = Connection::new(self.server.address)?;
        let began = Instant::now();
        for _ in 0..PAGES {
            let query = [("list-type".to_owned(), "2".to_owned())];
            let (status, body) = connection.ask("GET", &format!("/{READ}"), &query, b"")?;
            let keys = String::from_utf8_lossy(body).matches("<Key>").count();
            ensure!(status == 200 && keys == PAGE_KEYS, "a page: {status}, {keys} keys");
        }
        self.pages_us.push(began.elapsed().as_secs_f64() * 1e6 / PAGES as f64);
        Ok(())
    }
}

/// Bytes that are taken on disk: of the index, and of all.
fn taken(data: &Path) -> Result<[f64; 2]> {
    /// A block of stat(2).
    const BLOCK_BYTES: f64 = 512.0;
    fn blocks(path: &Path) -> Result<u64> {
        let metadata = fs::symlink_metadata(path)?;
        let mut sum = metadata.blocks();
        if metadata.is_dir() {
            for entry in fs::read_dir(path)? {
                sum += blocks(&entry?.path())?;
            }
        }
        Ok(sum)
    }
    // An inode of the usual size is not in the blocks of its file.
    let index = blocks(&data.join("index.redb"))? as f64 * BLOCK_BYTES;
    Ok([index, blocks(data)? as f64 * BLOCK_BYTES])
}
