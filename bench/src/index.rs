//! A large index: filled without requests, read while it is written to, served again after SIGKILL, read while a
//! snapshot of it is made.

use crate::get::presigned;
use crate::load::{self, Connection, Load};
use crate::peers::{KEYS_ACCESS, Peers, Which, keys};
use crate::process::Server;
use crate::report::Report;
use crate::settings::Scale;
use crate::statistics::median;
use crate::wrk::{self, Round, Scheme};
use anyhow::{Context, Result, anyhow, ensure};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use storaged::accounts::Accounts;
use storaged::store::{
    BucketRecord, Content, Durability, Metadata, ObjectPath, Options, Store, TxnError,
};

/// Objects of a transaction that fills.
const AT_ONCE: usize = 10_000;
/// How soon it must serve again after SIGKILL.
const RESTART_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a snapshot may take.
const SNAPSHOT_TIME_MAX: Duration = Duration::from_secs(600);
/// Between two looks at it.
const LOOK_TIME: Duration = Duration::from_millis(5);
/// What it is called until it is whole (docs/formats.md).
const SNAPSHOT_UNFINISHED: &str = "ffffffffffffffff.snapshot";
/// Keeps storaged from making one while something else is measured.
pub const NO_SNAPSHOT: [&str; 2] = ["--snapshot-after", "1099511627776"];
/// The bucket of the large index.
const BUCKET: &str = "large";
/// Bytes of each object's content, kept in its record.
const CONTENT_BYTES: usize = 16;

/// Keys of a folder: the order within it is not that of the numbers.
pub const FOLDER_KEYS: usize = 5000;

/// The name of the object with this number: as keys are, with folders and words.
pub fn key(number: usize) -> String {
    format!(
        "photos/{:04}/{:08x}-{number:010}.jpg",
        number / FOLDER_KEYS,
        number.wrapping_mul(2_654_435_761) as u32
    )
}

/// Fills a bucket of a store with so many keys, without requests.
pub fn fill(data: &Path, bucket: &str, count: usize) -> Result<()> {
    // One that is made meanwhile only takes time.
    let snapshot_journal_bytes = u64::MAX;
    let options =
        Options { durability: Durability::None, snapshot_journal_bytes, ..Options::new(data) };
    let store = Store::open(options).context("open the store to fill it")?;
    let accounts = Accounts::enter(&store, account()?).context("enter the account")?;
    let owner = accounts.by_access_key(KEYS_ACCESS).context("the account is there")?.id;
    let name = bucket.to_owned();
    let made = store.transact_wait(move |txn| txn.make_bucket(&name, &BucketRecord::new(owner, 0)));
    made.map_err(|e| anyhow!("make a bucket: {e:?}"))?;
    for from in (0..count).step_by(AT_ONCE) {
        let bucket = bucket.to_owned();
        let put = store.transact_wait(move |txn| -> Result<(), TxnError> {
            for number in from..(from + AT_ONCE).min(count) {
                let path = ObjectPath::of_key(owner, &bucket, key(number).as_bytes())
                    .expect("the keys of the benchmark are short");
                let content =
                    Content::Inline(tests::load::content(number as u64, CONTENT_BYTES).into());
                txn.put_object(&path, content, Metadata::default())?;
            }
            Ok(())
        });
        put.map_err(|e| anyhow!("fill: {e:?}"))?;
        if from % 1_000_000 == 0 {
            println!("filling {}: {from} of {count}", data.display());
        }
    }
    store.shutdown();
    Ok(())
}

fn account() -> Result<wire::machine::Accounts> {
    let wrong = |rule: &'static str| anyhow!("an account of the benchmark: {rule}");
    let account = wire::machine::Account {
        name: "bench".to_owned().try_into().map_err(wrong)?,
        access_key: keys().access.try_into().map_err(wrong)?,
        secret_key: keys().secret.try_into().map_err(wrong)?,
        ssh_keys: Vec::new(),
        limits: Default::default(),
    };
    Ok(wire::machine::Accounts { accounts: vec![account] })
}

/// An index with many keys, and what is asked of it.
struct Large<'a> {
    peers: &'a Peers,
    data: PathBuf,
    count: usize,
    seconds: u32,
    /// GETs of keys at random.
    reads: wrk::Load,
}

/// The figures of an index with so many keys.
pub fn run(peers: &Peers, count: usize, scale: &Scale, report: &mut Report) -> Result<()> {
    let data = peers.run.join("index");
    let began = Instant::now();
    fill(&data, BUCKET, count)?;
    println!("filled {count} keys in {:.0} s", began.elapsed().as_secs_f64());
    let bytes = std::fs::metadata(data.join("index.redb")).context("the index's file")?.len();
    let each = bytes as f64 / count as f64;
    report.fact(&format!("index of {count} keys, bytes a key"), format!("{each:.0}"), None);
    let targets = peers.run.join("index.targets");
    let mut rng = fastrand::Rng::with_seed(1);
    let host = Which::Storaged.address().to_string();
    let target = |_| presigned(&host, &format!("/{BUCKET}/{}", key(rng.usize(0..count))), 86_400);
    wrk::write_targets(&targets, (0..scale.urls).map(target))?;
    let reads = wrk::Load { scheme: Scheme::Http, targets, connections: 8, seconds: scale.seconds };
    let large = Large { peers, data, count, seconds: scale.seconds, reads };
    let server = peers.storaged(&large.data, &NO_SNAPSHOT)?;
    large.beside_puts(&server, report)?;
    large.restart(server, report)?;
    large.snapshot(report)?;
    std::fs::remove_dir_all(&large.data).context("remove the large index")
}

impl Large<'_> {
    fn beside_puts(&self, server: &Server, report: &mut Report) -> Result<()> {
        let seconds = self.seconds * 5;
        let load = Load {
            bucket: BUCKET.to_owned(),
            bytes: 4096,
            connections: 8,
            keys: 1000,
            time: Duration::from_secs(seconds.into()),
        };
        let reads = wrk::Load { seconds, ..self.reads.clone() };
        let alone = wrk::run(server, &reads)?;
        let (beside, puts) = std::thread::scope(|scope| {
            let puts = scope.spawn(|| load::put(server, &load));
            let beside = wrk::run(server, &reads);
            (beside, puts.join().expect("the load does not panic"))
        });
        let (beside, puts) = (beside?, puts?);
        let text = format!(
            "{:.0} µs ({:.0} GETs/s, {:.0} PUTs/s); without PUTs {:.0} µs ({:.0} GETs/s)",
            beside.p99_us, beside.rate, puts.rate, alone.p99_us, alone.rate
        );
        let what = format!("index of {} keys, p99 of GETs while PUTs run", self.count);
        report.fact(&what, text, None);
        Ok(())
    }

    fn restart(&self, server: Server, report: &mut Report) -> Result<()> {
        server.kill()?;
        let began = Instant::now();
        let _server = self.peers.storaged(&self.data, &NO_SNAPSHOT)?;
        let path = format!("/{BUCKET}/{}", key(self.count / 2));
        // The killed one's listener outlives it by some milliseconds, and resets who comes to it.
        let status = loop {
            let answer = Connection::new(Which::Storaged.address())
                .and_then(|mut connection| Ok(connection.ask("GET", &path, &[], b"")?.0));
            match answer {
                Err(_) if began.elapsed() < RESTART_TIME_MAX => std::thread::sleep(LOOK_TIME),
                answer => break answer?,
            }
        };
        let took = began.elapsed();
        let met = status == 200 && took <= RESTART_TIME_MAX;
        let text = format!("{:.2} s to the first object (status {status})", took.as_secs_f64());
        let what = format!("index of {} keys, serving again after SIGKILL, ≤ 5 s", self.count);
        report.fact(&what, text, Some(met));
        Ok(())
    }

    /// Has a start make a snapshot, and reads meanwhile and then as long again.
    fn snapshot(&self, report: &mut Report) -> Result<()> {
        let (snapshots, log) = (self.data.join("snapshots"), self.peers.log(Which::Storaged));
        let watch = std::thread::spawn(move || watch(&snapshots, &log));
        let server = self.peers.storaged(&self.data, &["--snapshot-after", "1"])?;
        let (mut during, mut after) = (Vec::new(), Vec::new());
        loop {
            let round = wrk::run(&server, &self.reads)?;
            // One that began during it and ended after it is neither.
            if watch.is_finished() {
                break;
            }
            during.push(round);
        }
        let seen = watch.join().expect("the watch does not panic")?;
        for _ in 0..during.len().max(1) {
            after.push(wrk::run(&server, &self.reads)?);
        }
        let p99 = |rounds: &[Round]| {
            let each: Vec<f64> = rounds.iter().map(|round| round.p99_us).collect();
            let rate: Vec<f64> = rounds.iter().map(|round| round.rate).collect();
            let worst = each.iter().copied().fold(0.0, f64::max);
            format!("{:.0} µs, worst {worst:.0} ({:.0} GETs/s)", median(&each), median(&rate))
        };
        let text = format!(
            "{:.1} s to write {:.0} MiB, {:.1} s until it is read back and the journal is let go; p99 of GETs, median of \
             {} rounds of {} s: {}; after it {}",
            seen.written.as_secs_f64(),
            seen.bytes as f64 / f64::from(1 << 20),
            seen.settled.as_secs_f64(),
            during.len(),
            self.seconds,
            p99(&during),
            p99(&after)
        );
        report.fact(&format!("index of {} keys, snapshot", self.count), text, None);
        Ok(())
    }
}

/// What a snapshot came to, counted from its beginning.
struct Seen {
    written: Duration,
    settled: Duration,
    bytes: u64,
}

/// Looks on while a snapshot is made.
fn watch(snapshots: &Path, log: &Path) -> Result<Seen> {
    let until = Instant::now() + SNAPSHOT_TIME_MAX;
    let wait = |what: &str, done: &dyn Fn() -> bool| -> Result<Instant> {
        while !done() {
            ensure!(Instant::now() < until, "no snapshot: {what} has not come");
            std::thread::sleep(LOOK_TIME);
        }
        Ok(Instant::now())
    };
    let unfinished = snapshots.join(SNAPSHOT_UNFINISHED);
    let began = wait("its file", &|| unfinished.exists())?;
    let written = wait("its name", &|| !unfinished.exists())? - began;
    let has = |text: &str| std::fs::read_to_string(log).is_ok_and(|log| log.contains(text));
    let settled = wait("its end", &|| has("segments of the journal up to"))? - began;
    let newest = std::fs::read_dir(snapshots)?.next().context("the snapshot is gone")??;
    Ok(Seen { written, settled, bytes: newest.metadata()?.len() })
}
