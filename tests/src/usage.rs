//! The report of usage: the job that the documents give, and the same sums made here.

use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const DOCUMENT: &str = include_str!("../../docs/usage.md");
/// The columns of the report after the login.
pub const COLUMNS: [&str; 9] = [
    "tasks",
    "wall_us",
    "cpu_us",
    "memory_mib_ms",
    "object_bytes",
    "read_bytes",
    "write_bytes",
    "out_bytes",
    "in_bytes",
];

/// The command of a phase, `map` or `reduce`, as the document has it.
///
/// # Errors
/// If it is not there.
pub fn command(phase: &str) -> Result<String> {
    let (_, rest) = DOCUMENT.split_once(&format!("```sh {phase}\n")).context("no such block")?;
    let (command, _) = rest.split_once("```").context("a block without an end")?;
    Ok(command.to_owned())
}

/// What is used by each login, in the order of [`COLUMNS`].
pub type Sums = BTreeMap<String, [u128; COLUMNS.len()]>;

/// Reads a report.
///
/// # Errors
/// If it is none.
pub fn parse(report: &str) -> Result<Sums> {
    let mut sums = Sums::new();
    for line in report.lines().skip(1) {
        let (login, rest) = line.split_once('\t').context("a line without columns")?;
        let numbers = rest.split('\t').map(str::parse).collect::<Result<Vec<u128>, _>>()?;
        let numbers = numbers.try_into().ok().context("another number of columns")?;
        sums.insert(login.to_owned(), numbers);
    }
    Ok(sums)
}

/// Adds up records, each once; what is no record is none.
#[must_use]
pub fn sums(lines: &str) -> Sums {
    let mut sums = Sums::new();
    let mut seen = BTreeSet::new();
    for line in lines.lines() {
        let Ok(record) = serde_json::from_str::<Value>(line) else { continue };
        let Some(login) = record["login"].as_str() else { continue };
        let name = ["kind", "id", "life", "number"].map(|part| record[part].to_string());
        if !seen.insert(name) {
            continue;
        }
        let row = sums.entry(login.to_owned()).or_default();
        for (sum, column) in row.iter_mut().zip(COLUMNS) {
            let number = record["delta"][column].as_str().and_then(|text| text.parse().ok());
            *sum += number.unwrap_or(0_u128);
        }
    }
    sums
}
