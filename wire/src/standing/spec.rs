//! A standing zone as it was asked for.

use super::ZoneName;
use crate::carve::{Carve, CarveError, Network};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The most prefixes of the store that one zone shows.
pub const MOUNTS_MAX: usize = 8;
/// The most words in a command.
pub const WORDS_MAX: usize = 256;
/// The most bytes of a command and its environment together: a message has to carry them.
pub const COMMAND_BYTES_MAX: usize = 32 * 1024;

/// A standing zone as it was asked for: its desired state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneSpec {
    /// Its name, the node's only one.
    pub name: ZoneName,
    /// The login of the account that owns it, pays for it, and whose objects it may show.
    pub login: String,
    /// The image that its root is made from.
    pub image: String,
    /// What runs in it: the program and its arguments. Empty: nothing but its first process, for sessions.
    #[serde(default)]
    pub command: Vec<String>,
    /// Variables for whatever runs in it.
    #[serde(default)]
    pub environment: Vec<(String, String)>,
    /// Whether its command is started again when it ends; else the zone goes down with it.
    #[serde(default)]
    pub restart: bool,
    /// What it may use.
    #[serde(default)]
    pub carve: Carve,
    /// Prefixes of the store that it shows.
    #[serde(default)]
    pub mounts: Vec<PrefixMount>,
    /// Its network; none if none.
    #[serde(default)]
    pub network: Option<Network>,
    /// Where what it writes to `/out` goes: `/login/stor/…`; it has no `/out` if none.
    #[serde(default)]
    pub output: Option<String>,
    /// Whether it runs after a boot if it ran before: all do unless told otherwise.
    #[serde(default = "ZoneSpec::yes")]
    pub autoboot: bool,
}

/// A prefix of the store, shown as a read-only tree under [`crate::zone::OBJECTS`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrefixMount {
    /// The prefix, `/login/stor/logs/2026-11`: all objects below it, as they are when the zone starts.
    pub prefix: String,
}

/// Why a specification is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpecError {
    /// Its carve or its network.
    #[error(transparent)]
    Carve(#[from] CarveError),
    /// Too many of something.
    #[error("{what}: {got} are more than the {most} there may be")]
    Many {
        /// Of what.
        what: &'static str,
        /// How many there are.
        got: usize,
        /// How many there may be.
        most: usize,
    },
    /// A text that cannot be used.
    #[error("{what} {got:?} {why}")]
    Text {
        /// Which text.
        what: &'static str,
        /// The text.
        got: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl ZoneSpec {
    const fn yes() -> bool {
        true
    }

    /// Checks every part.
    ///
    /// # Errors
    /// [`SpecError`] for the first that makes no sense.
    pub fn check(&self) -> Result<(), SpecError> {
        self.carve.check()?;
        self.network.iter().try_for_each(Network::check)?;
        check_command(&self.command, &self.environment)?;
        if self.mounts.len() > MOUNTS_MAX {
            return Err(SpecError::Many {
                what: "mounts",
                got: self.mounts.len(),
                most: MOUNTS_MAX,
            });
        }
        let own = format!("/{}/", self.login);
        let places = self.mounts.iter().map(|mount| ("mount", &mount.prefix));
        for (what, path) in places.chain(self.output.iter().map(|path| ("output", path))) {
            if !path.starts_with(&own) {
                let why = "is not the account's: it starts with another login";
                return Err(SpecError::Text { what, got: path.clone(), why });
            }
        }
        Ok(())
    }
}

/// Checks a command and its environment against what a message and execve(2) take.
///
/// # Errors
/// [`SpecError`].
pub fn check_command(
    command: &[String],
    environment: &[(String, String)],
) -> Result<(), SpecError> {
    if command.len() > WORDS_MAX {
        return Err(SpecError::Many { what: "words", got: command.len(), most: WORDS_MAX });
    }
    let names = environment.iter().map(|(name, _)| name);
    let texts = command.iter().chain(environment.iter().map(|(_, value)| value)).chain(names);
    let mut bytes = 0;
    for text in texts {
        bytes += text.len();
        if text.contains('\0') {
            let why = "has a zero byte in it";
            return Err(SpecError::Text { what: "word", got: text.clone(), why });
        }
    }
    if let Some((name, _)) = environment.iter().find(|(n, _)| n.is_empty() || n.contains('=')) {
        let why = "is no name of a variable";
        return Err(SpecError::Text { what: "variable", got: name.clone(), why });
    }
    if bytes > COMMAND_BYTES_MAX {
        return Err(SpecError::Many {
            what: "bytes of command",
            got: bytes,
            most: COMMAND_BYTES_MAX,
        });
    }
    Ok(())
}
