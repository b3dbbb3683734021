//! storaged killed at random, again and again, under a load of writes: what was acknowledged is there,
//! what was not is there whole or not at all, and nothing is left over.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::BUCKET;
use common::daemon::{Daemon, OF_ADA};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tests::load::{History, Load};

/// How often it is killed.
const KILLS: u64 = 24;
/// Clients that write at the same time.
const WORKERS: usize = 6;
/// Acknowledged operations before a kill, at least and beyond that.
const OPERATIONS: (u64, u64) = (20, 80);
const LOAD_TIME: Duration = Duration::from_secs(120);
/// The journal and the snapshots get small ones, so that kills hit their changes, too.
const SMALL: [&str; 4] = ["--snapshot-after", "200000", "--segment-bytes", "60000"];
/// How long files of deleted objects may take to go.
const SETTLING: Duration = Duration::from_secs(60);
/// How long a listener outlives its process in the test: longer than a start takes, less than is waited.
const HELD_TIME: Duration = Duration::from_millis(700);

/// What `storaged check` says.
fn check(data: &Path, deep: bool) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_storaged"));
    command.args(["check", "--json", "--log", "error", "--data"]).arg(data);
    if deep {
        command.arg("--deep");
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8(output.stdout).unwrap();
    let report: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{said}"));
    assert!(output.status.success(), "the store is not sound: {text}{said}");
    report
}

fn files(folder: &Path) -> usize {
    let count = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() { files(&entry.path()) } else { 1 }
    };
    std::fs::read_dir(folder).unwrap().map(count).sum()
}

/// Reads everything back, and counts files.
fn verify(daemon: &Daemon, data: &Path, history: &History, round: u64) {
    let (wrong, large) = history.check(&daemon.client(), BUCKET, u64::MAX).unwrap();
    assert!(wrong.is_empty(), "after kill {round}: {wrong:#?}");
    let until = Instant::now() + SETTLING;
    loop {
        let found = files(&data.join("objects"));
        if found == large {
            break;
        }
        assert!(Instant::now() < until, "after kill {round}: {found} files for {large} objects");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_was_acknowledged_survives_kills_at_random_and_nothing_else_is_left() {
    let seed: u64 = std::env::var("MOBULA_SEED")
        .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("MOBULA_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let mut daemon = Daemon::start(data, &SMALL, 1);
    daemon.create_bucket();
    let mut history = History::default();
    for round in 1..=KILLS {
        let load =
            Load::start(&daemon.client(), BUCKET, WORKERS, rng.u64(..), &(Arc::new(|| 0_u64) as _));
        let more = OPERATIONS.0 + rng.u64(..OPERATIONS.1);
        if let Err(error) = load.wait(more, LOAD_TIME) {
            panic!("round {round}: {error}: {:?}", load.finish().err());
        }
        std::thread::sleep(Duration::from_micros(rng.u64(..20_000)));
        let id = Pid::from_raw(daemon.id().cast_signed());
        kill(id, Signal::SIGKILL).unwrap();
        daemon.wait();
        history.extend(load.finish().unwrap());
        if round % 4 == 0 {
            // As it was left: what the next start removes is nothing wrong, and nothing else may be.
            check(data, true);
        }
        if round % 6 == 0 {
            // And with the index gone, which the next start makes anew.
            std::fs::remove_file(data.join("index.redb")).unwrap();
        }
        daemon = Daemon::start(data, &SMALL, 1);
        verify(&daemon, data, &history, round);
    }
    daemon.terminate();
    assert!(daemon.wait().success());
    let report = check(data, true);
    let left: u64 =
        report["left_over"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(left, 0, "{report}");
    let snapshots = files(&data.join("snapshots"));
    assert!(snapshots > 0, "no snapshot was made: the load is too small to show anything of them");
    println!("{} operations were acknowledged over {KILLS} kills", history.acknowledged(u64::MAX));
}

/// The kernel takes the ring of a killed process apart some time after its end, and with it the ring's listener.
#[test]
fn a_port_that_an_earlier_one_has_for_a_moment_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let earlier = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = earlier.local_addr().unwrap();
    let gone = std::thread::spawn(move || {
        std::thread::sleep(HELD_TIME);
        drop(earlier);
    });
    let daemon = Daemon::start_at(address, &OF_ADA, folder.path(), 1);
    gone.join().unwrap();
    daemon.create_bucket();
}
