//! The file of accounts changes while storaged runs.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::BUCKET;
use common::daemon::Daemon;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::time::{Duration, Instant};
use tests::s3::{Ask, Client};
use tests::sigv4::Keys;

/// How long a change may take to be seen: it is looked for every other second.
const PATIENCE: Duration = Duration::from_secs(60);

fn write(path: &Path, all: &[(&str, &str)]) {
    let mut text = String::new();
    for (name, key) in all {
        let table =
            "[[account]]\nname = \"NAME\"\naccess_key = \"KEY\"\nsecret_key = \"secret-KEY\"\n";
        text += &table.replace("NAME", name).replace("KEY", key);
    }
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, path).unwrap();
}

fn status(daemon: &Daemon, key: &str) -> u16 {
    let keys = Keys { access: key.to_owned(), secret: format!("secret-{key}") };
    let client = Client::new(&daemon.ports["S3"].to_string(), keys);
    let path = format!("/{BUCKET}/k");
    client.request(&Ask::new("GET", &path)).unwrap().status
}

fn soon(daemon: &Daemon, key: &str, expected: u16) {
    let until = Instant::now() + PATIENCE;
    while status(daemon, key) != expected {
        assert!(Instant::now() < until, "{key} does not get {expected}: {}", status(daemon, key));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn accounts_come_change_and_go_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("accounts.toml");
    write(&file, &[("ada", "KEY1"), ("bob", "KEY2")]);
    let who = ["--accounts", file.to_str().unwrap()];
    let mut daemon = Daemon::start_for(&who, &folder.path().join("data"), &[], 1);
    let keys = Keys { access: "KEY1".to_owned(), secret: "secret-KEY1".to_owned() };
    let ada = Client::new(&daemon.ports["S3"].to_string(), keys);
    ada.create_bucket(BUCKET).unwrap();
    ada.put(BUCKET, "k", b"ada's").unwrap();
    assert_eq!(["KEY1", "KEY2", "KEY3"].map(|key| status(&daemon, key)), [200, 403, 403]);
    // A new key for ada; bob is gone; eve is nobody's heir.
    write(&file, &[("ada", "KEY3"), ("eve", "KEY4")]);
    soon(&daemon, "KEY3", 200);
    assert_eq!(["KEY1", "KEY2", "KEY4"].map(|key| status(&daemon, key)), [403, 403, 403]);
    // What makes no sense changes nothing, also when asked for.
    std::fs::write(&file, "rubbish").unwrap();
    let id = Pid::from_raw(daemon.id().cast_signed());
    kill(id, Signal::SIGHUP).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(status(&daemon, "KEY3"), 200);
    write(&file, &[("ada", "KEY5")]);
    kill(id, Signal::SIGHUP).unwrap();
    soon(&daemon, "KEY5", 200);
    assert_eq!(status(&daemon, "KEY3"), 403);
    daemon.terminate();
    assert!(daemon.wait().success());
}
