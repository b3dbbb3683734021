//! What is measured, how long, and in which order.

use crate::peers::{Peers, Which};
use crate::process::{self, Server};
use crate::report::Report;
use crate::wrk::Scheme;
use crate::{get, https, index, inline, list, memory, put, seals, zones};
use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Keys of the small bucket that is listed.
const LISTED_SMALL: usize = 10_000;
/// Keys of the large one.
const LISTED_LARGE: usize = 1_000_000;
/// Keys of the large index.
const INDEXED: usize = 10_000_000;

/// What the house builds for (`.cargo/config.toml`).
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// GETs of three sizes.
    Get,
    /// Durable PUTs of two sizes.
    Put,
    /// Pages of listings.
    List,
    /// GETs over HTTPS, beside nginx with the same certificate.
    Https,
    /// An index of ten million keys, and a snapshot of it.
    Index,
    /// Memory, idle and busy, and of ten thousand idle connections.
    Memory,
    /// Zones beside bubblewrap, crun and runc; as root.
    Zones,
    /// Contents in the index beside contents in files, by size; only when it is named.
    Inline,
    /// PUT and cold GET in the booted appliance with fs-verity and without; only when it is named, after
    /// `make image`.
    Seals,
}

impl Part {
    /// What is measured of storaged, in this order.
    const SERVERS: [Part; 8] = [
        Part::Memory,
        Part::Get,
        Part::Https,
        Part::Put,
        Part::List,
        Part::Index,
        Part::Inline,
        Part::Seals,
    ];

    /// Whether it is measured if no part is named: what a bar is for. The others are for decisions.
    fn is_usual(self) -> bool {
        !matches!(self, Part::Inline | Part::Seals)
    }
}

/// storaged beside other servers.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Arguments {
    /// Which parts; if none is named, all that have bars.
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Few short rounds over few objects: to see that it works, not for figures.
    #[arg(long)]
    quick: bool,
    /// Interleaved rounds of each figure.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Seconds of a server's turn.
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    /// Without this server: SeaweedFS takes long to fill, for one.
    #[arg(long, value_enum)]
    without: Vec<Which>,
    /// Only the object size with this many bytes.
    #[arg(long)]
    bytes: Option<usize>,
    /// Keys of the large index.
    #[arg(long, default_value_t = INDEXED)]
    keys: usize,
    /// Leave the data of the run where it is.
    #[arg(long)]
    keep: bool,
    /// Where installed programs and the data of a run are kept.
    #[arg(long)]
    cache: Option<PathBuf>,
    /// The storaged to measure, instead of building a release.
    #[arg(long)]
    storaged: Option<PathBuf>,
    /// The zone-init to measure, instead of building a release.
    #[arg(long)]
    zone_init: Option<PathBuf>,
}

/// How much is done.
pub struct Scale {
    /// Rounds.
    pub rounds: usize,
    /// Seconds of a turn.
    pub seconds: u32,
    /// Distinct URLs.
    pub urls: usize,
    /// Whether only to see that it works.
    pub quick: bool,
}

impl Scale {
    /// How many objects there are instead of so many.
    pub fn objects(&self, full: usize) -> usize {
        if self.quick { full.div_ceil(25) } else { full }
    }
}

/// Runs it all. A part that fails is named at the end, and the others are measured all the same.
pub fn run(arguments: &Arguments) -> Result<()> {
    let cache = arguments.cache.clone().map_or_else(cache, Ok)?;
    let run = cache.join("run");
    if run.exists() {
        std::fs::remove_dir_all(&run).context("remove the last run's data")?;
    }
    std::fs::create_dir_all(run.join("files"))?;
    let wanted = |part: Part| {
        if arguments.parts.is_empty() { part.is_usual() } else { arguments.parts.contains(&part) }
    };
    let mut report = Report::default();
    if wanted(Part::Zones) {
        let measured = zones(arguments, &run, &mut report);
        note(measured, Part::Zones, &mut report);
    }
    let servers: Vec<Part> = Part::SERVERS.into_iter().filter(|part| wanted(*part)).collect();
    if !servers.is_empty() {
        beside_servers(&servers, arguments, cache.clone(), &run, &mut report)?;
    }
    let text = format!("{}\n\n{}\n{}", heading(), report.markdown(), report.bars());
    println!("\n{text}");
    let file = cache.join("report.md");
    std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    println!("also in {}", file.display());
    let failed = report.failures();
    ensure!(failed == 0, "{failed} parts failed; what servers said is in {}", run.display());
    if arguments.keep {
        return Ok(());
    }
    std::fs::remove_dir_all(&run).context("remove the run's data")
}

/// Enters that a part failed, if it did.
fn note(measured: Result<()>, part: Part, report: &mut Report) {
    if let Err(error) = measured {
        report.fail(&format!("{part:?}").to_lowercase(), format!("{error:#}"));
    }
}

/// Zones beside other containers.
fn zones(arguments: &Arguments, run: &Path, report: &mut Report) -> Result<()> {
    zones::install()?;
    let zone_init = match &arguments.zone_init {
        Some(path) => path.clone(),
        None => build("zoned", "zone-init")?,
    };
    let folder = run.join("zones");
    std::fs::create_dir_all(&folder)?;
    let storaged = storaged(arguments)?;
    zones::run(&zones::Setting { zone_init, storaged, folder }, arguments.quick, report)
}

/// The storaged to measure.
fn storaged(arguments: &Arguments) -> Result<PathBuf> {
    arguments.storaged.clone().map_or_else(|| build("storaged", "storaged"), Ok)
}

/// storaged beside other servers.
fn beside_servers(
    parts: &[Part],
    arguments: &Arguments,
    cache: PathBuf,
    run: &Path,
    report: &mut Report,
) -> Result<()> {
    let storaged = storaged(arguments)?;
    let peers = Peers { cache, run: run.to_owned(), storaged };
    peers.install(&arguments.without)?;
    process::pin_load()?;
    let scale = if arguments.quick {
        Scale { rounds: arguments.rounds.min(3), seconds: 1, urls: 5_000, quick: true }
    } else {
        Scale { rounds: arguments.rounds, seconds: arguments.seconds, urls: 50_000, quick: false }
    };
    for part in parts {
        let began = Instant::now();
        let measured = one(*part, arguments, &peers, &scale, report);
        note(measured, *part, report);
        println!("{part:?}: {:.0} s", began.elapsed().as_secs_f64());
    }
    Ok(())
}

fn one(
    part: Part,
    arguments: &Arguments,
    peers: &Peers,
    scale: &Scale,
    report: &mut Report,
) -> Result<()> {
    let has = |bytes: usize| arguments.bytes.is_none_or(|only| only == bytes);
    let others = [Which::Nginx, Which::S3sFs, Which::SeaweedFs];
    let others: Vec<_> =
        others.into_iter().filter(|which| !arguments.without.contains(which)).collect();
    let start = |which: &[Which]| -> Result<Vec<Server>> {
        std::iter::once(&Which::Storaged).chain(which).map(|which| peers.start(*which)).collect()
    };
    match part {
        Part::Memory => memory::run(peers, &start(&others)?, scale, report),
        Part::Get => {
            let servers = start(&others)?;
            let sizes = get::SIZES.into_iter().filter(|size| has(size.bytes));
            sizes
                .into_iter()
                .try_for_each(|size| get::run(peers, &servers, size, Scheme::Http, scale, report))
        }
        Part::Https => {
            let others: Vec<_> = others.iter().copied().filter(|w| *w == Which::Nginx).collect();
            let sizes: Vec<_> = get::SIZES.into_iter().filter(|size| has(size.bytes)).collect();
            https::run(peers, &others, &sizes, scale, report)
        }
        Part::Put => {
            let others: Vec<_> = others.iter().copied().filter(|w| *w != Which::Nginx).collect();
            let servers = start(&others)?;
            let sizes = put::SIZES.into_iter().filter(|size| has(size.bytes()));
            sizes.into_iter().try_for_each(|size| put::run(&servers, size, scale, report))
        }
        Part::List => {
            let data = peers.run.join("storaged-list");
            let (small, large) = (
                scale.objects(LISTED_SMALL).max(2 * index::FOLDER_KEYS),
                scale.objects(LISTED_LARGE),
            );
            index::fill(&data, "small", small)?;
            index::fill(&data, "large", large)?;
            let server = peers.storaged(&data, &index::NO_SNAPSHOT)?;
            list::run(&server, ("small", small), ("large", large), scale, report)
        }
        Part::Zones => Ok(()),
        Part::Inline => inline::run(peers, scale, report),
        Part::Seals => seals::run(peers, scale, report),
        Part::Index => index::run(peers, scale.objects(arguments.keys), scale, report),
    }
}

/// `${XDG_CACHE_HOME:-~/.cache}/mobula/bench`.
fn cache() -> Result<PathBuf> {
    let own = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let base = own("XDG_CACHE_HOME").or_else(|| own("HOME").map(|home| home.join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("mobula/bench"))
}

/// Builds what is measured.
fn build(package: &str, program: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["build", "--release", "--locked", "--package", package, "--bin", program];
    let status = Command::new(cargo).args(arguments).status().context("run cargo")?;
    ensure!(status.success(), "{program} can't be built");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    Ok(target.join(TRIPLE).join("release").join(program))
}

/// When, of what, on what.
fn heading() -> String {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.map_or_else(
            |_| "?".to_owned(),
            |o| String::from_utf8_lossy(&o.stdout).trim().to_owned(),
        )
    };
    let commit = said("git", &["describe", "--always", "--dirty"]);
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor.lines().find_map(|line| line.strip_prefix("model name"));
    format!(
        "{}, commit {commit}, Linux {}, {}",
        said("date", &["-u", "+%F %H:%M"]),
        said("uname", &["-r"]),
        processor.unwrap_or_default().trim_start_matches([' ', '\t', ':'])
    )
}
