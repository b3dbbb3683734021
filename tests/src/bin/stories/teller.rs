//! Tells stories one after the other, and keeps count.

use anyhow::Result;
use std::process::ExitCode;
use std::time::Instant;

/// Keeps count.
#[derive(Debug)]
pub struct Teller {
    words: Vec<String>,
    passed: u32,
    failed: Vec<String>,
}

impl Teller {
    /// Tells stories whose name holds one of `words`; all, if there are none.
    pub fn new(words: Vec<String>) -> Self {
        Self { words, passed: 0, failed: Vec::new() }
    }

    /// Whether any of these stories is wanted.
    pub fn wants(&self, names: &[&str]) -> bool {
        let wanted = |name: &&str| self.words.iter().any(|word| name.contains(word.as_str()));
        self.words.is_empty() || names.iter().any(wanted)
    }

    /// Tells one story, if it is wanted; says whether it did not fail.
    pub fn tell(&mut self, name: &str, story: impl FnOnce() -> Result<()>) -> bool {
        if !self.wants(&[name]) {
            return true;
        }
        println!("story: {name}");
        let start = Instant::now();
        let result = story();
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                println!("  passed in {seconds:.1} s");
                self.passed += 1;
                true
            }
            Err(error) => {
                println!("  FAILED after {seconds:.1} s: {error:#}");
                self.failed.push(name.to_owned());
                false
            }
        }
    }

    /// Says how it went.
    pub fn end(&self) -> ExitCode {
        for name in &self.failed {
            println!("failed: {name}");
        }
        println!("{} passed, {} failed", self.passed, self.failed.len());
        if self.failed.is_empty() && self.passed > 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
