//! Has cargo build what a test needs from another crate of the workspace, and tells where it is.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Named, so that programs lie in one place whatever the configuration of cargo says.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The root of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}

/// Builds a program, static as all of the workspace's are, and without optimisation.
///
/// # Errors
/// If it does not build.
pub fn program(package: &str, name: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", package, "--bin", name, "--target", TARGET])
        // Flags of the caller's would replace those that make it static.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .current_dir(workspace())
        .status()
        .context("running cargo")?;
    ensure!(status.success(), "{name} does not build");
    let target = std::env::var_os("CARGO_TARGET_DIR");
    let target = target.map_or(workspace().join("target"), PathBuf::from);
    Ok(target.join(TARGET).join("debug").join(name))
}
