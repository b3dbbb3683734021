//! The probe's program, which tests of attacks have tried in zones.

use crate::common::alone;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names the probe's program, so that nothing is built while a test's time runs.
const PROGRAM: &str = "MOBULA_TEST_PROBE";

/// As [`alone`], with the probe built before.
pub fn attacked(name: &str, test: impl FnOnce()) {
    if std::env::var_os(PROGRAM).is_none() {
        let built = build();
        let inside = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(PROGRAM, built)
            .status();
        return assert!(inside.unwrap().success(), "{name} failed");
    }
    alone(name, test);
}

/// Where it is.
pub fn program() -> PathBuf {
    PathBuf::from(std::env::var_os(PROGRAM).expect("`attacked` has set it"))
}

/// Builds the probe as a static program.
fn build() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let target = "x86_64-unknown-linux-gnu";
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "probe", "--bin", "probe", "--target", target])
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .current_dir(workspace)
        .status();
    assert!(built.unwrap().success(), "the probe does not build");
    let folder =
        std::env::var_os("CARGO_TARGET_DIR").map_or(workspace.join("target"), PathBuf::from);
    folder.join(target).join("debug/probe")
}
