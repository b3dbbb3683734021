//! The programs: compiled by cargo as they go into the image, static, with nothing of this machine's paths
//! in them.

use crate::command::{self, CommandError};
use crate::layout::Layout;
use crate::progress::Step;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use thiserror::Error;

/// The programs of the appliance and where each one is in it.
pub const IN_THE_IMAGE: [(&str, &str); 9] = [
    ("init", "init"),
    ("noded", "sbin/noded"),
    ("storaged", "sbin/storaged"),
    ("prefetcher", "sbin/prefetcher"),
    ("zoned", "sbin/zoned"),
    ("zone-init", "sbin/zone-init"),
    ("zone-import", "sbin/zone-import"),
    ("mobula-publish", "sbin/mobula-publish"),
    ("consoled", "sbin/consoled"),
];
/// The operator's command, which stays on the host.
const HOST_COMMAND: &str = "mobula";
/// The target that `.cargo/config.toml` names too.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The profile whose settings make two builds the same.
pub const PROFILE: &str = "appliance";

/// What goes wrong with compiling.
#[derive(Debug, Error)]
pub enum BinariesError {
    /// cargo.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// cargo made no such program.
    #[error("cargo built no program named {}", .0.join(", "))]
    Missing(Vec<String>),
}

/// Where the compiled programs are.
#[derive(Debug, Clone)]
pub struct Binaries {
    files: BTreeMap<String, PathBuf>,
}

impl Binaries {
    /// A program of [`IN_THE_IMAGE`].
    #[must_use]
    pub fn file(&self, name: &str) -> &Path {
        &self.files[name]
    }

    /// The operator's command.
    #[must_use]
    pub fn mobula(&self) -> &Path {
        self.file(HOST_COMMAND)
    }
}

/// Compiles all programs with `profile`, in cargo's folder or in `target`.
///
/// # Errors
/// When cargo fails, with what the compiler said.
pub fn build(
    layout: &Layout,
    profile: &str,
    target: Option<&Path>,
) -> Result<Binaries, BinariesError> {
    let mut step = Step::start("programs");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(layout.root())
        .args(["build", "--locked", "--profile", profile, "--target", TARGET])
        .args(["--message-format", "json-render-diagnostics"]);
    // Other profiles share their folder with everyday builds, which other flags would undo each time.
    if profile == PROFILE {
        command.args(["--config", &remapped(layout)]);
    }
    if let Some(target) = target {
        command.arg("--target-dir").arg(target);
    }
    let wanted = || IN_THE_IMAGE.iter().map(|(name, _)| *name).chain([HOST_COMMAND]);
    for name in wanted() {
        command.args(["--bin", name]);
    }
    // Flags of the caller's would replace those that make the programs static.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let (mut files, mut compiled) = (BTreeMap::new(), 0);
    command::watched(&mut command, |line| {
        let Ok(message) = serde_json::from_str::<Message>(line) else { return };
        compiled += usize::from(message.fresh == Some(false));
        if let (Some(target), Some(file)) = (message.target, message.executable) {
            files.insert(target.name, file);
        }
        step.at(&format!("{compiled} parts compiled"));
    })?;
    let missing: Vec<_> =
        wanted().filter(|name| !files.contains_key(*name)).map(str::to_owned).collect();
    if !missing.is_empty() {
        return Err(BinariesError::Missing(missing));
    }
    if profile != PROFILE {
        strip(layout, &mut files)?;
    }
    step.done(&format!("{} programs, {compiled} parts compiled", files.len()));
    Ok(Binaries { files })
}

/// Frees copies of the programs from what only a debugger reads: an initramfs is kept in memory.
fn strip(layout: &Layout, files: &mut BTreeMap<String, PathBuf>) -> Result<(), CommandError> {
    let folder = layout.out("stripped");
    // Where the folder can't be made, strip says so.
    drop(std::fs::create_dir_all(&folder));
    for (name, file) in files {
        let stripped = folder.join(name);
        command::output(Command::new("strip").arg("-o").arg(&stripped).arg(&*file))?;
        *file = stripped;
    }
    Ok(())
}

/// Names of folders of this machine, as they would show in panic messages, replaced.
fn remapped(layout: &Layout) -> String {
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
        .unwrap_or_else(|| "/nonexistent".into());
    let flags = [(layout.root(), "/mobula"), (cargo_home.as_path(), "/cargo")]
        .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
    format!("target.{TARGET}.rustflags={flags:?}")
}

#[derive(Deserialize)]
struct Message {
    fresh: Option<bool>,
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}
