//! What people are shown of a zone.

use super::Zone;
use super::life::State;
use crate::carve::plan;
use wire::carve::Limit;
use wire::standing::{Stats, ZoneSummary, ZoneView};
use wire::zone::Outcome;

impl Zone {
    pub(super) fn summary(&self, now_ms: u64) -> ZoneSummary {
        let measured = self.body.as_ref().map(|body| body.cgroup.stats()).unwrap_or_default();
        let spec = &self.record.spec;
        ZoneSummary {
            name: spec.name.clone(),
            state: self.life.shown(),
            login: spec.login.clone(),
            image: spec.image.clone(),
            state_ms: now_ms.saturating_sub(self.life.since_ms),
            memory_mib: spec.carve.memory_mib,
            memory_bytes: measured.memory_bytes,
            cpu_us: measured.cpu_us,
            processes: measured.processes,
        }
    }

    pub(super) fn view(&self, now_ms: u64) -> ZoneView {
        ZoneView {
            summary: self.summary(now_ms),
            spec: self.record.spec.clone(),
            address: None,
            created_unix_ms: self.record.created_unix_ms,
            restarts: self.restarts,
            last_outcome: self.last_outcome.clone(),
        }
    }

    pub(super) fn stats(&self) -> Stats {
        self.body.as_ref().map(|body| body.cgroup.stats()).unwrap_or_default()
    }

    /// Its limits as asked and as in force; those of a zone that does not run are in force nowhere.
    pub(super) fn limits(&self) -> Vec<Limit> {
        if let Some(body) = &self.body {
            return body.cgroup.limits();
        }
        let asked = plan::of_zone(&self.record.spec.carve, None).into_iter();
        let none = || "the zone does not run".to_owned();
        asked.map(|s| Limit { name: s.file.to_owned(), asked: s.value, got: none() }).collect()
    }

    /// Why it is as it is, latest first.
    pub(super) fn why(&self, now_ms: u64) -> Vec<String> {
        let mut all = Vec::new();
        let seconds = |at: u64| at.saturating_sub(now_ms).div_ceil(1000);
        match &self.life.state {
            State::Failed { why, retry_ms: Some(at) } => {
                all.push(format!("it failed and is tried again in {} s: {why}", seconds(*at)));
            }
            State::Waiting { until_ms } => {
                all.push(format!("it ended and is started again in {} s", seconds(*until_ms)));
            }
            State::Ready if self.starting => {
                all.push("it is not started yet: storaged is not there".to_owned());
            }
            _ => {}
        }
        if self.body.is_some() {
            all.extend(held_back(&self.stats()));
        }
        all.extend(self.reasons.iter().cloned());
        all
    }
}

/// What its limits do to a zone, in words.
fn held_back(stats: &Stats) -> Vec<String> {
    let said = [
        (
            stats.throttled,
            format!(
                "cpu.max held it back in {} periods, for {} ms in all",
                stats.throttled,
                stats.throttled_us / 1000
            ),
        ),
        (
            stats.memory_max_events,
            format!("memory.max made it reclaim {} times", stats.memory_max_events),
        ),
        (stats.oom_kills, format!("{} of its processes were killed for memory", stats.oom_kills)),
        (stats.fork_failures, format!("pids.max refused it {} processes", stats.fork_failures)),
        (stats.refused, format!("its network policy refused {} connections", stats.refused)),
    ];
    said.into_iter().filter(|(count, _)| *count > 0).map(|(_, text)| text).collect()
}

/// How something ended, in words.
pub(super) fn words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exited { code } => format!("exited with code {code}"),
        Outcome::Signalled { signal } => format!("was ended by signal {signal}"),
        Outcome::InitFailed { message } | Outcome::Broken { message } => {
            format!("did not run: {message}")
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn only_limits_that_did_something_are_told() {
        assert!(held_back(&Stats::default()).is_empty());
        let stats = Stats { throttled: 3, throttled_us: 4_000, ..Stats::default() };
        assert_eq!(held_back(&stats), ["cpu.max held it back in 3 periods, for 4 ms in all"]);
    }
}
