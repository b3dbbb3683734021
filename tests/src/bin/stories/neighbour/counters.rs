//! What the kernel counted for a cgroup, as of one moment.

use anyhow::{Context, Result};
use tests::agent::Agent;

/// The files that are read.
const FILES: [&str; 9] = [
    "cpu.stat",
    "cpu.pressure",
    "memory.events",
    "memory.pressure",
    "memory.stat",
    "io.stat",
    "io.pressure",
    "pids.events",
    "memory.current",
];

/// A look at a cgroup. Differences of two tell what happened between them.
#[derive(Debug, Clone)]
pub struct Counters {
    texts: Vec<String>,
    /// The node's clock, in seconds.
    pub at: f64,
}

impl Counters {
    /// Looks.
    pub fn of(agent: &Agent, cgroup: &str) -> Result<Self> {
        let read = |name: &&str| agent.read(&format!("{cgroup}/{name}"));
        let texts = FILES.iter().map(read).collect::<Result<_>>()?;
        let uptime = agent.read("/proc/uptime")?;
        let at = uptime.split(' ').next().context("no uptime")?.parse()?;
        Ok(Self { texts, at })
    }

    fn text(&self, file: &str) -> &str {
        let at = FILES.iter().position(|known| *known == file).expect("one of those that are read");
        &self.texts[at]
    }

    /// The number after `key` in a file of `key number` lines.
    pub fn number(&self, file: &str, key: &str) -> Result<u64> {
        let mut lines = self.text(file).lines().filter_map(|line| line.split_once(' '));
        let found = lines.find(|(name, _)| *name == key).map(|(_, value)| value.trim().parse());
        Ok(found.with_context(|| format!("no {key} in {file}: {:?}", self.text(file)))??)
    }

    /// The sum of `key` over all disks.
    pub fn io(&self, key: &str) -> u64 {
        let pairs = self.text("io.stat").split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.filter(|(name, _)| *name == key).filter_map(|(_, n)| n.parse::<u64>().ok()).sum()
    }

    /// Microseconds in which `kind` (`some`, `full`) waited for what a `*.pressure` file is of.
    pub fn waited(&self, file: &str, kind: &str) -> Result<u64> {
        let text = self.text(file);
        let line = text.lines().find(|line| line.starts_with(kind));
        let total = line.and_then(|line| line.split("total=").nth(1)?.trim().parse().ok());
        total.with_context(|| format!("no {kind} in {file}: {text:?}"))
    }

    /// How much `number` has grown since `before`.
    pub fn grown(&self, before: &Self, file: &str, key: &str) -> Result<u64> {
        Ok(self.number(file, key)?.saturating_sub(before.number(file, key)?))
    }

    /// The part of the time since `before` that `kind` waited.
    pub fn part(&self, before: &Self, file: &str, kind: &str) -> Result<f64> {
        let waited = self.waited(file, kind)?.saturating_sub(before.waited(file, kind)?);
        Ok(waited as f64 / 1e6 / (self.at - before.at).max(f64::EPSILON))
    }
}
