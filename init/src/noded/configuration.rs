//! Where the machine's configuration comes from: QEMU's fw_cfg, else the kernel's command line, else the
//! copy on the data disk, else nothing but defaults.
//!
//! A source that is there and wrong is said to be, and the next one is asked: a typing error in a new
//! configuration leaves the node as it was, reachable, with the error on its console.

use super::command_line;
use super::files::{self, FileError};
use base64::Engine;
use std::path::Path;
use thiserror::Error;
use wire::machine::{CONFIG_BYTES_MAX, ConfigError, MachineConfig};

/// QEMU's `-fw_cfg name=opt/mobula/config,file=…`.
pub const FW_CFG: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/mobula/config/raw";
/// The kernel's command line.
pub const COMMAND_LINE: &str = "/proc/cmdline";
/// The copy on the data disk.
pub const COPY: &str = "/data/node/config.toml";
/// The word on the command line; its value is base64.
const WORD: &str = "mobula.config";
/// The most bytes of a command line; the kernel's own limit is 2048 on x86.
const COMMAND_LINE_BYTES_MAX: usize = 64 * 1024;

/// What is wrong with a source.
#[derive(Debug, Error)]
pub enum SourceError {
    /// It can't be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The word's value is no base64.
    #[error("its value is no base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// What it holds is no configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Where a configuration came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Given at this boot, from outside.
    Given(&'static str),
    /// The copy on the data disk.
    Copy,
    /// No source has one.
    Default,
}

/// A configuration and where it came from, with what was wrong with sources before it.
#[derive(Debug)]
pub struct Found {
    /// The configuration.
    pub config: MachineConfig,
    /// Its text, to be kept.
    pub text: Vec<u8>,
    /// Where it came from.
    pub origin: Origin,
    /// What to tell people.
    pub faults: Vec<String>,
}

/// A source's text, if it has one.
type Text = Result<Option<Vec<u8>>, SourceError>;

/// Asks the two sources that need no disk; none if neither has a usable one.
#[must_use]
pub fn given() -> (Option<Found>, Vec<String>) {
    choose(vec![
        ("fw_cfg", files::read(Path::new(FW_CFG), CONFIG_BYTES_MAX).map_err(Into::into)),
        ("the kernel command line", from_command_line(Path::new(COMMAND_LINE))),
    ])
}

/// Asks the data disk, else takes the defaults.
#[must_use]
pub fn kept() -> Found {
    let copy = files::read(Path::new(COPY), CONFIG_BYTES_MAX).map_err(Into::into);
    let (found, faults) = choose(vec![("the copy on the data disk", copy)]);
    let origin = if found.is_some() { Origin::Copy } else { Origin::Default };
    let (config, text) = found.map(|found| (found.config, found.text)).unwrap_or_default();
    Found { config, text, origin, faults }
}

fn from_command_line(path: &Path) -> Text {
    let Some(line) = files::read(path, COMMAND_LINE_BYTES_MAX)? else { return Ok(None) };
    let Some(value) = command_line::value(&String::from_utf8_lossy(&line), WORD) else {
        return Ok(None);
    };
    Ok(Some(base64::engine::general_purpose::STANDARD.decode(value)?))
}

/// The first source with a usable configuration, and what was wrong with those before it.
fn choose(sources: Vec<(&'static str, Text)>) -> (Option<Found>, Vec<String>) {
    let mut faults = Vec::new();
    for (name, text) in sources {
        let read = text.and_then(|text| match text {
            Some(text) => Ok(Some((MachineConfig::parse(&text)?, text))),
            None => Ok(None),
        });
        match read {
            Ok(None) => {}
            Ok(Some((config, text))) => {
                let found = Found { config, text, origin: Origin::Given(name), faults: Vec::new() };
                return (Some(found), faults);
            }
            Err(error) => {
                faults
                    .push(format!("the configuration from {name} is wrong and not used: {error}"));
            }
        }
    }
    (None, faults)
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn source(text: &str) -> Text {
        Ok(Some(text.as_bytes().to_vec()))
    }

    #[test]
    fn the_first_source_counts() {
        let sources =
            vec![("one", source("hostname = \"one\"")), ("two", source("hostname = \"two\""))];
        let (found, faults) = choose(sources);
        assert_eq!(found.unwrap().origin, Origin::Given("one"));
        assert!(faults.is_empty());
    }

    #[test]
    fn a_wrong_source_is_named_with_line_and_column_and_the_next_is_asked() {
        let sources =
            vec![("one", source("hostnam = \"one\"")), ("two", source("hostname = \"two\""))];
        let (found, faults) = choose(sources);
        assert_eq!(found.unwrap().origin, Origin::Given("two"));
        assert!(faults[0].contains("one") && faults[0].contains("line 1, column 1"), "{faults:?}");
    }

    #[test]
    fn a_command_line_gives_its_base64() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cmdline");
        std::fs::write(&path, "quiet mobula.config=aG9zdG5hbWUgPSAieCI= panic=10\n").unwrap();
        assert_eq!(from_command_line(&path).unwrap().unwrap(), b"hostname = \"x\"");
        std::fs::write(&path, "mobula.config=!\n").unwrap();
        assert!(matches!(from_command_line(&path), Err(SourceError::Base64(_))));
    }

    proptest! {
        #[test]
        fn any_sources_are_an_answer_never_a_panic(texts: Vec<Vec<u8>>) {
            let sources = texts.into_iter().map(|text| ("x", Ok(Some(text)))).collect();
            let (found, faults) = choose(sources);
            prop_assert!(found.is_some() || faults.iter().all(|fault| fault.contains("wrong")));
        }
    }
}
