//! A large index: filled without requests, served again after SIGKILL, read while it is written to.

use crate::get::presigned;
use crate::load::{self, Connection, Load};
use crate::peers::{KEYS_ACCESS, Peers, Which, keys};
use crate::report::Report;
use crate::settings::Scale;
use crate::wrk;
use anyhow::{Context, Result, anyhow};
use std::path::Path;
use std::time::{Duration, Instant};
use storaged::accounts::Accounts;
use storaged::store::{
    BucketRecord, Content, Durability, Metadata, ObjectPath, Options, Store, TxnError,
};

/// Objects of a transaction that fills.
const AT_ONCE: usize = 10_000;
/// How soon it must serve again after SIGKILL.
const RESTART_TIME_MAX: Duration = Duration::from_secs(5);
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
    let options = Options { durability: Durability::None, ..Options::new(data) };
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
    };
    Ok(wire::machine::Accounts { accounts: vec![account] })
}

/// The figures of an index with so many keys.
pub fn run(peers: &Peers, count: usize, scale: &Scale, report: &mut Report) -> Result<()> {
    let data = peers.run.join("index");
    let bucket = "large";
    let began = Instant::now();
    fill(&data, bucket, count)?;
    println!("filled {count} keys in {:.0} s", began.elapsed().as_secs_f64());
    let bytes = std::fs::metadata(data.join("index.redb")).context("the index's file")?.len();
    let each = bytes as f64 / count as f64;
    report.fact(&format!("index of {count} keys, bytes a key"), format!("{each:.0}"), None);
    let server = peers.storaged(&data, &[])?;
    let load = Load {
        bucket: bucket.to_owned(),
        bytes: 4096,
        connections: 8,
        keys: 1000,
        time: Duration::from_secs((scale.seconds * 5).into()),
    };
    let targets = peers.run.join("index.targets");
    let mut rng = fastrand::Rng::with_seed(1);
    let host = server.address.to_string();
    let target = |_| presigned(&host, &format!("/{bucket}/{}", key(rng.usize(0..count))), 86_400);
    wrk::write_targets(&targets, (0..scale.urls).map(target))?;
    let reads = wrk::Load { targets, connections: 8, seconds: scale.seconds * 5 };
    let alone = wrk::run(&server, &reads)?;
    let (beside, puts) = std::thread::scope(|scope| {
        let puts = scope.spawn(|| load::put(&server, &load));
        let beside = wrk::run(&server, &reads);
        (beside, puts.join().expect("the load does not panic"))
    });
    let (beside, puts) = (beside?, puts?);
    let text = format!(
        "{:.0} µs ({:.0} GETs/s, {:.0} PUTs/s); without PUTs {:.0} µs ({:.0} GETs/s)",
        beside.p99_us, beside.rate, puts.rate, alone.p99_us, alone.rate
    );
    report.fact(&format!("index of {count} keys, p99 of GETs while PUTs run"), text, None);
    server.kill()?;
    let began = Instant::now();
    let server = peers.storaged(&data, &[])?;
    let mut connection = Connection::new(Which::Storaged.address())?;
    let (status, _) = connection.ask("GET", &format!("/{bucket}/{}", key(count / 2)), &[], b"")?;
    let took = began.elapsed();
    let met = status == 200 && took <= RESTART_TIME_MAX;
    let text = format!("{:.2} s to the first object (status {status})", took.as_secs_f64());
    report.fact(&format!("index of {count} keys, serving again after SIGKILL"), text, Some(met));
    drop(server);
    std::fs::remove_dir_all(&data).context("remove the large index")
}
