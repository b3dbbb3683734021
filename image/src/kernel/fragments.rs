//! The fragments of the kernel's configuration: read, checked, merged. Pure: no file is touched here.
//!
//! A line is `CONFIG_NAME=value   # reason`; a line of its own that starts with `#` is a comment. A symbol
//! stands in one fragment only.

use crate::digest::Inputs;
use std::collections::BTreeMap;
use thiserror::Error;

/// What is wrong with a fragment, or with what the kernel made of them.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FragmentError {
    /// A line that is neither a symbol with its reason nor a comment.
    #[error("{file}:{line}: write CONFIG_NAME=value and its reason behind a #: {text:?}")]
    Line {
        /// The fragment.
        file: String,
        /// Its line, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// A symbol asked for twice.
    #[error("{file}:{line}: {symbol} is already asked for in {other}")]
    Twice {
        /// The fragment.
        file: String,
        /// Its line, from 1.
        line: usize,
        /// The symbol.
        symbol: String,
        /// Where it stood first.
        other: String,
    },
    /// Symbols that did not make it into the configuration.
    #[error(
        "the kernel's configuration lacks what the fragments ask for (a dependency is missing, or this \
         kernel has no such symbol):\n{}",
        list(.0)
    )]
    Dropped(Vec<Dropped>),
}

/// A requested symbol that the kernel's configuration has otherwise.
#[derive(Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The fragment.
    pub file: String,
    /// The symbol.
    pub symbol: String,
    /// What was asked for.
    pub wanted: String,
    /// What it became.
    pub got: String,
}

#[derive(Debug)]
struct Wanted {
    value: String,
    file: String,
}

/// All that the fragments ask for.
#[derive(Debug, Default)]
pub struct Fragments {
    symbols: BTreeMap<String, Wanted>,
}

impl Fragments {
    /// Adds a fragment.
    ///
    /// # Errors
    /// A line without a reason, or a symbol asked for twice.
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), FragmentError> {
        for (number, content) in (1..).zip(text.lines()) {
            if content.trim().is_empty() || content.starts_with('#') {
                continue;
            }
            let Some((symbol, value)) = symbol_with_reason(content) else {
                let text = content.to_owned();
                return Err(FragmentError::Line { file: file.to_owned(), line: number, text });
            };
            let wanted = Wanted { value, file: file.to_owned() };
            if let Some(other) = self.symbols.insert(symbol.clone(), wanted) {
                let (file, other) = (file.to_owned(), other.file);
                return Err(FragmentError::Twice { file, line: number, symbol, other });
            }
        }
        Ok(())
    }

    /// How many symbols are asked for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.symbols.len()
    }

    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// Names the configuration; comments and the order of lines do not change it.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut inputs = Inputs::new();
        for (symbol, wanted) in &self.symbols {
            inputs.add(symbol, &wanted.value);
        }
        inputs.short()
    }

    /// A configuration with the requested symbols in place of its own, still to be completed by the
    /// kernel's `olddefconfig`.
    #[must_use]
    pub fn merge(&self, config: &str) -> String {
        let kept = config.lines().filter(|line| {
            !symbol_of(line).is_some_and(|symbol| self.symbols.contains_key(symbol))
        });
        let mut merged = String::new();
        for line in kept {
            merged.push_str(line);
            merged.push('\n');
        }
        for (symbol, wanted) in &self.symbols {
            merged.push_str(&format!("{symbol}={}\n", wanted.value));
        }
        merged
    }

    /// Whether the completed configuration has everything as asked for.
    ///
    /// # Errors
    /// All that it has otherwise.
    pub fn check(&self, config: &str) -> Result<(), FragmentError> {
        let set: BTreeMap<_, _> = config
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .collect();
        let dropped: Vec<_> = self
            .symbols
            .iter()
            .filter_map(|(symbol, wanted)| {
                let got = set.get(symbol.as_str()).copied().unwrap_or("n");
                (got != wanted.value).then(|| Dropped {
                    file: wanted.file.clone(),
                    symbol: symbol.clone(),
                    wanted: wanted.value.clone(),
                    got: got.to_owned(),
                })
            })
            .collect();
        if dropped.is_empty() { Ok(()) } else { Err(FragmentError::Dropped(dropped)) }
    }
}

fn symbol_with_reason(line: &str) -> Option<(String, String)> {
    let (assignment, reason) = line.split_once('#')?;
    let (symbol, value) = assignment.trim_end().split_once('=')?;
    let name = symbol.strip_prefix("CONFIG_")?;
    let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let fine = named && !value.is_empty() && !reason.trim().is_empty();
    fine.then(|| (symbol.to_owned(), value.to_owned()))
}

/// The symbol that a line of a configuration sets or says is not set.
fn symbol_of(line: &str) -> Option<&str> {
    match line.strip_prefix("# ") {
        Some(comment) => comment.strip_suffix(" is not set"),
        None => line.split_once('=').map(|(symbol, _)| symbol),
    }
}

fn list(dropped: &[Dropped]) -> String {
    let lines = dropped
        .iter()
        .map(|d| format!("  {} asks for {}={}, got {}", d.file, d.symbol, d.wanted, d.got));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod test {
    use super::*;

    fn fragments(text: &str) -> Fragments {
        let mut fragments = Fragments::default();
        fragments.add("test.config", text).unwrap();
        fragments
    }

    #[test]
    fn a_symbol_without_a_reason_is_refused() {
        let refused = Fragments::default().add("a.config", "CONFIG_EXT4_FS=y\n");
        assert!(matches!(refused, Err(FragmentError::Line { line: 1, .. })));
    }

    #[test]
    fn a_symbol_asked_for_twice_is_refused_and_both_places_named() {
        let mut all = fragments("CONFIG_A=y # why\n");
        let message = all.add("b.config", "CONFIG_A=n # not\n").unwrap_err().to_string();
        assert!(message.contains("b.config:1") && message.contains("test.config"), "{message}");
    }

    #[test]
    fn requested_symbols_replace_what_was_set_or_not_set() {
        let wanted = fragments("CONFIG_A=y # why\nCONFIG_B=n # why\n");
        let merged = wanted.merge("# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_C=m\n");
        assert_eq!(merged, "CONFIG_C=m\nCONFIG_A=y\nCONFIG_B=n\n");
    }

    #[test]
    fn every_symbol_that_vanished_is_listed() {
        let wanted = fragments(
            "CONFIG_EROFS_FS=y # images\nCONFIG_LSM=\"a,b\" # order\nCONFIG_SWAP=n # none\n",
        );
        let good = "CONFIG_EROFS_FS=y\nCONFIG_LSM=\"a,b\"\n# CONFIG_SWAP is not set\n";
        assert_eq!(wanted.check(good), Ok(()));
        let message = wanted.check("CONFIG_SWAP=y\nCONFIG_LSM=\"a\"\n").unwrap_err().to_string();
        for line in
            ["CONFIG_EROFS_FS=y, got n", "CONFIG_LSM=\"a,b\", got \"a\"", "CONFIG_SWAP=n, got y"]
        {
            assert!(message.contains(line), "{message}");
        }
    }

    #[test]
    fn comments_do_not_rename_a_configuration_and_values_do() {
        let hash = fragments("CONFIG_A=y # why\n").hash();
        assert_eq!(hash, fragments("# topic\nCONFIG_A=y   # another reason\n").hash());
        assert_ne!(hash, fragments("CONFIG_A=n # why\n").hash());
    }
}
