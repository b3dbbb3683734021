//! How fast the store takes objects on this machine: `commit_rate DIR [inline|file] BYTES WRITERS SECONDS
//! [fsync|none]`. Each writer puts one object after another under keys of its own and waits for each.
#![forbid(unsafe_code)]

use bytes::Bytes;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use storaged::store::{AccountId, Area, Content, Durability, Metadata, ObjectPath, Options, Store};

struct Plan {
    inline: bool,
    bytes: Bytes,
    seconds: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, kind, bytes, writers, seconds, durability] = arguments.as_slice() else {
        return Err("usage: commit_rate DIR inline|file BYTES WRITERS SECONDS fsync|none".into());
    };
    let durability = match durability.as_str() {
        "fsync" => Durability::Fsync,
        "none" => Durability::None,
        _ => return Err("the last argument is fsync or none".into()),
    };
    let options = Options { durability, ..Options::new(PathBuf::from(directory)) };
    let store = Store::open(options)?;
    let bytes = Bytes::from(vec![7; bytes.parse()?]);
    let plan = Plan { inline: kind == "inline", bytes, seconds: seconds.parse()? };
    let writers: usize = writers.parse()?;
    let before = store.status().sequence;
    let mut times = std::thread::scope(|scope| {
        let (store, plan) = (&store, &plan);
        let threads: Vec<_> =
            (0..writers).map(|writer| scope.spawn(move || write(store, plan, writer))).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("no writer fails"))
            .collect::<Vec<_>>()
    });
    times.sort_unstable();
    let rate = times.len() as f64 / plan.seconds as f64;
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    println!(
        "{kind} {} bytes, {writers} writers: {rate:.0} puts/s, {:.1} MB/s; ms p50 {:.2} p99 {:.2} max {:.2}; {} sequences",
        plan.bytes.len(),
        rate * plan.bytes.len() as f64 / 1e6,
        at(0.5),
        at(0.99),
        at(1.0),
        store.status().sequence - before
    );
    read_rate(&store)
}

fn write(store: &Store, plan: &Plan, writer: usize) -> Vec<Duration> {
    let start = Instant::now();
    let mut times = Vec::new();
    while start.elapsed().as_secs() < plan.seconds {
        let one = Instant::now();
        let path = path(writer, times.len());
        let meta = Metadata { modified_ms: 1, ..Metadata::default() };
        let content = if plan.inline {
            Content::Inline(plan.bytes.clone())
        } else {
            Content::Blob(
                store
                    .wait(async {
                        let mut staging = store.stage(Some(plan.bytes.len() as u64), None).await?;
                        staging.write(plan.bytes.clone()).await?;
                        store.seal(staging).await
                    })
                    .expect("the file is sealed"),
            )
        };
        store.transact_wait(move |txn| txn.put_object(&path, content, meta)).expect("it is put");
        times.push(one.elapsed());
    }
    times
}

fn path(writer: usize, number: usize) -> ObjectPath {
    let key = format!("{writer:04}/{number:08}");
    ObjectPath::new(AccountId(1), Area::Stor, key).expect("the path is short")
}

/// Look-ups of objects that are there, on one thread.
fn read_rate(store: &Store) -> Result<(), Box<dyn std::error::Error>> {
    let (start, mut count, mut found) = (Instant::now(), 0_usize, 0_usize);
    while start.elapsed() < Duration::from_secs(1) {
        for _ in 0..100 {
            found += usize::from(store.object(&path(0, count % 50))?.is_some());
            count += 1;
        }
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    println!("look-ups on one thread: {rate:.0}/s, {found} of {count} found");
    Ok(())
}
