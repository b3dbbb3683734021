//! Power cuts on this machine: storaged runs on a disk whose writes and flushes are logged; then the disk is
//! rebuilt as it was at many moments, mounted, and the store on it held to its promises.
//!
//! `powercuts [CUTS [SEED]]`, as root. First with `--durability fsync`, where every promise must hold and
//! `storaged check --deep` must find nothing; then with `none`, where some must be broken, or the test would
//! not notice if they were.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tests::blocklog::{Base, Log, position};
use tests::build::workspace;
use tests::cuts::{Moment, choose, rebuild};
use tests::load::{History, Load, Position};
use tests::local::Storaged;
use tests::recorded::{Mounted, Recorder, format};

/// Moments at which the power is cut, unless told otherwise; a tenth of them in the control.
const CUTS: usize = 208;
const SEED: u64 = 1;
/// Operations in the load.
const OPERATIONS: u64 = 1500;
const LOAD_TIME: Duration = Duration::from_secs(300);
const WORKERS: usize = 8;
/// A small disk, but one that still has room after what the store keeps free.
const DISK_BYTES: u64 = 1 << 30;
const BUCKET: &str = "cuts";
/// The journal and the snapshots get small ones, so that cuts hit their changes, too.
const SMALL: [&str; 4] = ["--snapshot-after", "400000", "--segment-bytes", "100000"];
/// How long files of deleted objects may take to go.
const SETTLING: Duration = Duration::from_secs(20);

fn main() -> Result<ExitCode> {
    let mut words = std::env::args().skip(1);
    let cuts = words.next().map_or(Ok(CUTS), |word| word.parse()).context("CUTS is a number")?;
    let seed = words.next().map_or(Ok(SEED), |word| word.parse()).context("SEED is a number")?;
    let directory = workspace().join("target/powercuts");
    std::fs::create_dir_all(&directory)?;
    // A copy: what is tested does not change while it is.
    let program = directory.join("storaged");
    std::fs::copy(tests::build::program("storaged", "storaged")?, &program)?;
    let bench = Bench { directory, program, seed };
    let kept = bench.play("fsync", cuts)?;
    println!("{kept}");
    kept.wrong.iter().for_each(|what| println!("WRONG: {what}"));
    let control = bench.play("none", cuts.div_ceil(10))?;
    println!("{control}");
    if control.wrong.is_empty() {
        bail!("the control lost nothing: the test would not notice if something were lost");
    }
    Ok(if kept.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What came out of one kind of durability.
struct Outcome {
    durability: &'static str,
    cuts: usize,
    promises: usize,
    wrong: Vec<String>,
    time: Duration,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { durability, cuts, promises, wrong, time } = self;
        let (wrong, seconds) = (wrong.len(), time.as_secs());
        write!(
            f,
            "durability {durability}: {cuts} power cuts, {promises} promises checked, {wrong} broken, {seconds} s"
        )
    }
}

struct Bench {
    directory: PathBuf,
    program: PathBuf,
    seed: u64,
}

/// What a load left behind.
struct Recording {
    base: Base,
    log: Log,
    begun: u64,
    history: History,
}

impl Bench {
    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn serve(&self, mounted: &Mounted, durability: &str) -> Result<Storaged> {
        let more = [&SMALL[..], &["--durability", durability]].concat();
        let (data, log) = (mounted.target.join("store"), self.file("storaged.log"));
        Storaged::start_with(&self.program, &data, &log, &more)
    }

    fn play(&self, durability: &'static str, cuts: usize) -> Result<Outcome> {
        let begin = Instant::now();
        let recording = self.record(durability)?;
        let Recording { base, log, begun, history } = &recording;
        let (mut wrong, mut promises) = (Vec::new(), 0);
        let moments = choose(log, *begun, history, cuts, self.seed);
        for (number, moment) in moments.iter().enumerate() {
            let disk = self.file("cut.disk");
            // A new file, not the old one emptied: another process's mount namespace may keep the last cut's file
            // system mounted for a while, and that would write into this one.
            match std::fs::remove_file(&disk) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                Ok(()) | Err(_) => {}
            }
            let file = File::create_new(&disk)?;
            file.set_len(base.bytes)?;
            let seed = self.seed.wrapping_mul(1000) + number as u64;
            rebuild(base, log, moment, seed, (&file, 0))?;
            drop(file);
            let found = self.open(&disk, history, moment);
            let found = found.unwrap_or_else(|error| vec![format!("{error:#}")]);
            promises += history.acknowledged(moment.position);
            if !found.is_empty() && durability == "fsync" {
                // What fails is worth a look.
                std::fs::rename(&disk, self.file(&format!("failed-{number}.disk")))?;
            }
            let name = |what| {
                format!("cut {number}, {:?} after entry {}: {what}", moment.cut, moment.upto)
            };
            wrong.extend(found.into_iter().map(name));
        }
        Ok(Outcome { durability, cuts: moments.len(), promises, wrong, time: begin.elapsed() })
    }

    /// Makes a store with a bucket, keeps a copy of its disk, and records a load.
    fn record(&self, durability: &str) -> Result<Recording> {
        let (disk, log) = (self.file("power.disk"), self.file("power.log"));
        format(&disk, DISK_BYTES)?;
        let target = self.file("mount");
        let mounted = Mounted::new(&disk, &target)?;
        let storaged = self.serve(&mounted, durability)?;
        storaged.s3.create_bucket(BUCKET)?;
        storaged.end()?;
        mounted.unmount()?;
        let base = Base::read(&disk)?;

        let recorder = Recorder::start(&disk, &log, &self.file("shown.disk"))?;
        let mounted = Mounted::new(&recorder.shown, &target)?;
        let storaged = self.serve(&mounted, durability)?;
        let begun = position(&log)?;
        let path = log.clone();
        let now: Position = Arc::new(move || position(&path).unwrap_or(u64::MAX));
        let load = Load::start(&storaged.s3, BUCKET, WORKERS, self.seed, &now);
        load.wait(OPERATIONS, LOAD_TIME)?;
        let history = load.finish()?;
        storaged.end()?;
        mounted.unmount()?;
        recorder.end()?;
        let log = Log::open(&log)?;
        let flushes = log.entries.iter().filter(|entry| entry.flush).count();
        println!(
            "durability {durability}: {} operations, {} writes, {flushes} flushes",
            history.acknowledged(u64::MAX),
            log.entries.len() - flushes,
        );
        Ok(Recording { base, log, begun, history })
    }

    /// Mounts a rebuilt disk, runs storaged on it and gives what is wrong.
    fn open(&self, disk: &Path, history: &History, moment: &Moment) -> Result<Vec<String>> {
        let mounted = Mounted::new(disk, &self.file("mount"))?;
        let storaged = self.serve(&mounted, "fsync")?;
        let (mut wrong, large) = history.check(&storaged.s3, BUCKET, moment.position)?;
        let objects = mounted.target.join("store/objects");
        let until = Instant::now() + SETTLING;
        while files(&objects)? != large {
            if Instant::now() > until {
                wrong.push(format!("{} files for {large} large objects", files(&objects)?));
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        storaged.end()?;
        wrong.extend(self.check(&mounted)?);
        mounted.unmount()?;
        Ok(wrong)
    }

    /// What `storaged check --deep` finds.
    fn check(&self, mounted: &Mounted) -> Result<Vec<String>> {
        let output = Command::new(&self.program)
            .args(["check", "--deep", "--json", "--log", "error", "--data"])
            .arg(mounted.target.join("store"))
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("storaged check ended with {}: {said}", output.status))?;
        let findings = report["findings"].as_array().context("a report has findings")?;
        let mut wrong: Vec<String> = findings.iter().map(ToString::to_string).collect();
        let left = report["left_over"].as_object().context("a report has what is left over")?;
        // It was just ended in order.
        wrong.extend(
            left.iter().filter(|(_, n)| **n != 0).map(|(what, n)| format!("{n} {what} left")),
        );
        ensure!(
            output.status.success() == findings.is_empty(),
            "the status and the report disagree"
        );
        Ok(wrong)
    }
}

fn files(folder: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { files(&entry.path())? } else { 1 };
    }
    Ok(count)
}
