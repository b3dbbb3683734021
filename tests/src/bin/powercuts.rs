//! Power cuts on this machine: storaged runs on a disk whose writes and flushes are logged; then the disk is
//! rebuilt as it was at many moments, mounted, and the store on it held to its promises.
//!
//! The load is PUTs, overwrites, DELETEs and uploads in parts by several clients, uploads that wait between their parts and
//! their end, and the output of jobs, whose tasks a stand-in of zoned ends over the wire.
//!
//! `powercuts [CUTS [SEED]]`, as root. First with `--durability fsync`, where every promise must hold and
//! `storaged check --deep` must find nothing; then with `none`, where some must be broken, or the test would
//! not notice if they were.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, anyhow, bail, ensure};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tests::appliance::LOGIN;
use tests::blocklog::{Base, Log, position};
use tests::build::workspace;
use tests::cuts::{Moment, choose, rebuild};
use tests::load::{History, Load, Position};
use tests::local::Storaged;
use tests::manta::Jobs;
use tests::output::{Office, Output, TASKS};
use tests::recorded::{Mounted, Recorder, format};
use tests::uploads::Waited;
use tests::zoned::Zoned;

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
/// What tasks read.
const INPUTS: &str = "inputs";
/// In the environment of the process that has mounts of its own.
const OWN_MOUNTS: &str = "POWERCUTS_OWN_MOUNTS";
/// The journal and the snapshots get small ones, so that cuts hit their changes, too.
const SMALL: [&str; 4] = ["--snapshot-after", "400000", "--segment-bytes", "100000"];
/// How long files of deleted objects may take to go.
const SETTLING: Duration = Duration::from_secs(20);

fn main() -> Result<ExitCode> {
    if std::env::var_os(OWN_MOUNTS).is_none() {
        return Err(apart());
    }
    let mut words = std::env::args().skip(1);
    let cuts = words.next().map_or(Ok(CUTS), |word| word.parse()).context("CUTS is a number")?;
    let seed = words.next().map_or(Ok(SEED), |word| word.parse()).context("SEED is a number")?;
    let directory = workspace().join("target/powercuts");
    std::fs::create_dir_all(&directory)?;
    // A copy: what is tested does not change while it is.
    let program = directory.join("storaged");
    std::fs::copy(tests::build::program("storaged", "storaged")?, &program)?;
    let sockets = tempfile::tempdir()?;
    let bench = Bench { directory, program, sockets, seed };
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

/// Becomes this program again, with mounts that no other process gets a copy of: one made while a disk is mounted here
/// would hold its file for as long as that process lives. Gives why it could not.
fn apart() -> anyhow::Error {
    let own = std::env::current_exe();
    let own = match own {
        Ok(own) => own,
        Err(error) => return anyhow::Error::new(error).context("finding this program"),
    };
    let error = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(OWN_MOUNTS, "1")
        .exec();
    anyhow::Error::new(error).context("running unshare (Debian: util-linux)")
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
    /// Where the wire's socket is: its name has to be short.
    sockets: tempfile::TempDir,
    seed: u64,
}

/// What a load left behind.
struct Recording {
    base: Base,
    log: Log,
    begun: u64,
    promised: Promised,
}

/// What it was promised.
struct Promised {
    history: History,
    waited: Waited,
    output: Output,
}

impl Promised {
    /// How many promises had been made by `position`.
    fn count(&self, position: u64) -> usize {
        let Self { history, waited, output } = self;
        history.acknowledged(position) + waited.promised(position) + output.promised(position)
    }
}

fn office(jobs: &Jobs) -> Office<'_> {
    Office { login: LOGIN, bucket: BUCKET, inputs: INPUTS, jobs }
}

impl Bench {
    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn wire(&self) -> PathBuf {
        self.sockets.path().join("wire")
    }

    fn serve(&self, mounted: &Mounted, durability: &str) -> Result<Storaged> {
        let wire = self.wire();
        let wire = wire.to_str().context("a path in UTF-8")?;
        let more = [&SMALL[..], &["--durability", durability, "--wire", wire]].concat();
        let (data, log) = (mounted.target.join("store"), self.file("storaged.log"));
        Storaged::start_with(&self.program, &data, &log, &more)
    }

    fn play(&self, durability: &'static str, cuts: usize) -> Result<Outcome> {
        let begin = Instant::now();
        let recording = self.record(durability)?;
        let Recording { base, log, begun, promised } = &recording;
        let (mut wrong, mut promises) = (Vec::new(), 0);
        let moments = choose(log, *begun, &promised.history, cuts, self.seed);
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
            let found = self.open(&disk, promised, moment);
            let found = found.unwrap_or_else(|error| vec![format!("{error:#}")]);
            promises += promised.count(moment.position);
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
        storaged.s3.create_bucket(INPUTS)?;
        for number in 0..TASKS {
            storaged.s3.put(INPUTS, &number.to_string(), b"input")?;
        }
        storaged.end()?;
        mounted.unmount()?;
        let base = Base::read(&disk)?;

        let recorder = Recorder::start(&disk, &log, &self.file("shown.disk"))?;
        let mounted = Mounted::new(&recorder.shown, &target)?;
        let storaged = self.serve(&mounted, durability)?;
        let begun = position(&log)?;
        let path = log.clone();
        let now: Position = Arc::new(move || position(&path).unwrap_or(u64::MAX));
        let promised = self.load(&storaged, &now)?;
        storaged.end()?;
        mounted.unmount()?;
        recorder.end()?;
        let log = Log::open(&log)?;
        let flushes = log.entries.iter().filter(|entry| entry.flush).count();
        println!(
            "durability {durability}: {} operations, {} jobs and outputs, {} writes, {flushes} flushes",
            promised.history.acknowledged(u64::MAX),
            promised.output.promised(u64::MAX),
            log.entries.len() - flushes,
        );
        Ok(Recording { base, log, begun, promised })
    }

    /// Everything at once, until the clients have done enough.
    fn load(&self, storaged: &Storaged, now: &Position) -> Result<Promised> {
        let (jobs, zoned) = (storaged.jobs(), Zoned::connect(&self.wire())?);
        let (waiting, stop) = (storaged.s3.apart(), AtomicBool::new(false));
        let load = Load::start(&storaged.s3, BUCKET, WORKERS, self.seed, now);
        let (clients, waited, output) = std::thread::scope(|scope| {
            let waited = scope.spawn(|| Waited::work(&waiting, BUCKET, self.seed, now, &stop));
            let output = scope.spawn(|| Output::work(&office(&jobs), zoned, self.seed, now, &stop));
            let clients = load.wait(OPERATIONS, LOAD_TIME).and_then(|()| load.finish());
            stop.store(true, Ordering::Relaxed);
            (clients, waited.join(), output.join())
        });
        let panicked = |_| anyhow!("a load panicked");
        let mut history = clients?;
        let (waited, completed) = waited.map_err(panicked)??;
        let (output, made) = output.map_err(panicked)??;
        history.extend(completed);
        history.extend(made);
        Ok(Promised { history, waited, output })
    }

    /// Mounts a rebuilt disk, runs storaged on it and gives what is wrong.
    fn open(&self, disk: &Path, promised: &Promised, moment: &Moment) -> Result<Vec<String>> {
        let Promised { history, waited, output } = promised;
        let mounted = Mounted::new(disk, &self.file("mount"))?;
        let storaged = self.serve(&mounted, "fsync")?;
        let (mut wrong, large) = history.check(&storaged.s3, BUCKET, moment.position)?;
        let (found, outputs) = output.check(&office(&storaged.jobs()), moment.position)?;
        wrong.extend(found);
        let objects = mounted.target.join("store/objects");
        let (until, expected) = (Instant::now() + SETTLING, large + outputs);
        while files(&objects)? != expected {
            if Instant::now() > until {
                let files = files(&objects)?;
                wrong
                    .push(format!("{files} files for {large} large objects and {outputs} outputs"));
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // Last, for it makes objects.
        wrong.extend(waited.check(&storaged.s3, BUCKET, moment.position)?);
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
