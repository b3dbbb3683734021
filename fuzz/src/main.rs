//! Runs the targets under libFuzzer: `fuzz SECONDS [TARGET…]`, so many seconds each.
//!
//! The stable compiler can count edges for libFuzzer if its LLVM is asked to. Only our own crates are built
//! so: cargo calls this program in the compiler's place for them, and everything else is what the tests use.
#![forbid(unsafe_code)]

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Crates whose edges are counted.
const COUNTED: [&str; 4] = ["storaged", "wire", "fuzz", "zoned"];
/// What asks LLVM for it (`clang.llvm.org/docs/SanitizerCoverage.html`).
const COUNTING: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// The longest input, in bytes: longer than any corpus, shorter than what only costs time.
const INPUT_BYTES_MAX: u32 = 4096;
/// Seconds after which one input is a failure: a parser that takes so long is one.
const INPUT_SECONDS_MAX: u32 = 10;
/// Memory after which one input is a failure, in MiB.
const MEMORY_MIB_MAX: u32 = 1024;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let first = arguments.next().unwrap_or_default();
    if Path::new(&first).file_name().is_some_and(|name| name == "rustc") {
        let error = compile(&first, &arguments.collect::<Vec<_>>());
        eprintln!("can't run the compiler: {error}");
        return ExitCode::FAILURE;
    }
    let Some(seconds) = first.to_str().and_then(|text| text.parse::<u32>().ok()) else {
        eprintln!("usage: fuzz SECONDS [TARGET…]");
        return ExitCode::FAILURE;
    };
    let wanted: Vec<_> = arguments.map(|name| name.to_string_lossy().into_owned()).collect();
    match run(seconds, &wanted) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("can't fuzz: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Becomes the compiler, with more arguments for our own crates.
fn compile(compiler: &OsString, arguments: &[OsString]) -> io::Error {
    let name = arguments.iter().skip_while(|argument| *argument != "--crate-name").nth(1);
    // libFuzzer stands before memcmp and its like, which only a dynamic linker can bring about.
    let is_target = name.is_some_and(|name| name == "target");
    let linked = |argument: &OsString| match argument.to_str() {
        Some("target-feature=+crt-static") if is_target => "target-feature=-crt-static".into(),
        _ => argument.clone(),
    };
    let counted = name.is_some_and(|name| COUNTED.iter().any(|counted| name == counted));
    let more: &[&str] = if counted { &COUNTING } else { &[] };
    Command::new(compiler).args(arguments.iter().map(linked)).args(more).exec()
}

fn run(seconds: u32, wanted: &[String]) -> io::Result<bool> {
    let own = env::current_exe()?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args([
            "build",
            "--locked",
            "--package",
            "fuzz",
            "--features",
            "targets",
            "--bin",
            "target",
        ])
        .env("RUSTC_WORKSPACE_WRAPPER", &own)
        .status()?;
    if !built.success() {
        return Ok(false);
    }
    let program = own.with_file_name("target");
    let place = own.with_file_name("fuzz-corpus");
    let mut all_well = true;
    for target in fuzz::TARGETS {
        if wanted.is_empty() || wanted.iter().any(|name| name == target.name) {
            all_well &= run_one(target.name, seconds, &program, &place)?;
        }
    }
    Ok(all_well)
}

fn run_one(name: &str, seconds: u32, program: &Path, place: &Path) -> io::Result<bool> {
    let found = place.join(name);
    fs::create_dir_all(&found)?;
    let corpus: PathBuf = [env!("CARGO_MANIFEST_DIR"), "corpus", name].iter().collect();
    let log = place.join(format!("{name}.log"));
    let failure = place.join(format!("{name}-"));
    // What is found goes to the first directory; what is in the tree stays as it is.
    let status = Command::new(program)
        .args([&found, &corpus])
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
        .arg(format!("-artifact_prefix={}", failure.display()))
        .arg("-print_final_stats=1")
        .env("FUZZ_TARGET", name)
        .env("RUST_BACKTRACE", "0")
        .stdout(File::create(&log)?)
        .stderr(File::options().append(true).open(&log)?)
        .status()?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    if status.success() {
        let last = text.lines().rev().find(|line| line.contains("cov: ")).unwrap_or_default();
        println!("{name}: {}", last.trim_start_matches('#'));
    } else {
        let lines: Vec<_> = text.lines().rev().take(40).collect();
        lines.iter().rev().for_each(|line| println!("{line}"));
        println!("{name} FAILED; all of it is in {}", log.display());
    }
    Ok(status.success())
}
