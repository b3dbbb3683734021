//! A node of its own for each test: real zones on this host, and a storaged that is a few lines of test.
//!
//! Needs root and cgroup v2; says why and passes without. Each test runs once more as a process with a
//! mount namespace of its own, so that nothing it mounts is left behind, whatever happens. The image is
//! this host's root, the files live on a tmpfs that ends with the namespace. `MOBULA_TEST_IMAGE` names an
//! EROFS file to be used instead, `MOBULA_TEST_DISK` an empty directory, best on a filesystem with project
//! quotas, for objects and output.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]
#![allow(dead_code, unused_imports, reason = "each file of tests uses a part of it")]

mod node;

pub use node::{Done, Node, fill_tree, runnable};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use sys::mountfd::{self, Restrictions};

const INSIDE: &str = "MOBULA_TEST_INSIDE";
/// Long enough for a busy machine; a test that hangs ends all the same.
const SECONDS_MAX: &str = "120";

/// Runs a test in a mount namespace of its own, or says why it can't be run here.
pub fn alone(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    if !nix::unistd::geteuid().is_root() {
        return println!("skipped: {name} makes zones, and that takes root");
    }
    if cgroup_root().is_none() {
        return println!("skipped: {name} makes zones, and no cgroup v2 is mounted here");
    }
    if let Err(why) = can_make_zones() {
        return println!("skipped: {name} makes zones, and that can't be done here: {why}");
    }
    let status = Command::new("timeout")
        .args([SECONDS_MAX, "unshare", "--mount", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1", "--include-ignored"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{name}: {status}");
}

/// Whether this host lets root do what zones take: a container may not.
fn can_make_zones() -> Result<(), String> {
    let unshared = Command::new("unshare").args(["--mount", "true"]).output();
    match unshared {
        Ok(output) if output.status.success() => {}
        Ok(output) => return Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => return Err(format!("no unshare program: {error}")),
    }
    if !Path::new("/usr/bin/python3").exists() {
        return Err(
            "this host's root is the zones' image, and it has no /usr/bin/python3".to_owned()
        );
    }
    let text = |error: std::io::Error| format!("cannot show the root with other owners: {error}");
    let copy = mountfd::copy(root().as_fd(), c"").map_err(text)?;
    let users = sys::namespace::users(100_000, 65_536).map_err(text)?;
    mountfd::map_owners(copy.as_fd(), users.as_fd(), Restrictions::READ_ONLY).map_err(text)
}

/// Where cgroup v2 is mounted.
pub fn cgroup_root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    line.split(' ').nth(1).map(PathBuf::from)
}

/// After so long a busy machine is no excuse any more.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something to become true.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn root() -> File {
    File::open("/").unwrap()
}
