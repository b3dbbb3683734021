//! The subcommands of `storaged` that work on a store which nobody serves.

use crate::check::{self, Depth};
use crate::s3::chain;
use clap::{Parser, Subcommand};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// What `check` ends with when something is wrong with the store.
const UNSOUND: u8 = 1;
/// What a tool ends with when it could not do its work.
const FAILED: u8 = 2;

/// Works on a store that no storaged serves.
#[derive(Debug, Parser)]
#[command(name = "storaged", version)]
pub struct Tools {
    #[command(subcommand)]
    tool: Tool,
    /// How much to log: error, warn, info, debug.
    #[arg(long, value_name = "LEVEL", env = "MOBULA_LOG", default_value = "info", global = true)]
    pub log: log::LevelFilter,
}

#[derive(Debug, Subcommand)]
enum Tool {
    /// Compares index and files, and prints a report: ends with 0 if the store is sound, 1 if not, and 2 if
    /// it can't be checked.
    Check {
        /// The store's directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Read every byte, and compare the index with one made from snapshot and journal.
        #[arg(long)]
        deep: bool,
        /// Print the report as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Makes the index anew, from snapshot and journal.
    Rebuild {
        /// The store's directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
}

impl Tools {
    /// The tool that a command line names, if it names one: its first word is no flag then.
    #[must_use]
    pub fn named() -> Option<Self> {
        let word = std::env::args_os().nth(1)?;
        let known = ["check", "rebuild"];
        known.iter().any(|name| word == *name).then(Self::parse)
    }

    /// Does it.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        match &self.tool {
            Tool::Check { data, deep, json } => {
                let depth = if *deep { Depth::Deep } else { Depth::Usual };
                match check::check(data, depth) {
                    Ok(report) => {
                        let text = if *json {
                            serde_json::to_string_pretty(&report)
                                .expect("a report has texts and numbers only")
                        } else {
                            report.to_string()
                        };
                        let code = if report.is_sound() { 0 } else { UNSOUND };
                        print(&text).map_or_else(|error| failed(&error), |()| code.into())
                    }
                    Err(error) => failed(&error),
                }
            }
            Tool::Rebuild { data } => match check::rebuild(data) {
                Ok(sequence) => {
                    let text = format!("the index is made anew, up to sequence {sequence}");
                    print(&text).map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
                }
                Err(error) => failed(&error),
            },
        }
    }
}

fn print(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    log::error!("{}", chain(error));
    FAILED.into()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_tools_take_the_flags_that_they_are_documented_with() {
        let parse = |words: &[&str]| Tools::try_parse_from(words);
        let tool = parse(&["storaged", "check", "--data", "/d", "--deep", "--json"]).unwrap().tool;
        assert!(matches!(tool, Tool::Check { deep: true, json: true, .. }));
        let tools = parse(&["storaged", "rebuild", "--data", "/d", "--log", "debug"]).unwrap();
        assert_eq!(tools.log, log::LevelFilter::Debug);
        assert!(parse(&["storaged", "check"]).is_err());
    }
}
