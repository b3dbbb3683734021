//! What people are shown of a zone.

use super::files::files_of;
use super::life::State;
use super::storaged::Waits;
use super::{Publication, Zone};
use crate::carve::plan;
use crate::daemon::Daemon;
use crate::images::Awaits;
use crate::meter::{Reserved, Whose};
use std::os::fd::AsFd;
use wire::carve::Limit;
use wire::standing::{Stats, ZoneName, ZoneSummary, ZoneView};
use wire::zone::Outcome;

impl Zone {
    pub(super) fn summary(&self, now_ms: u64) -> ZoneSummary {
        let brief = |body: &super::Body| body.cgroup.brief();
        let (memory_bytes, cpu_us, processes) = self.body.as_ref().map(brief).unwrap_or_default();
        let spec = &self.record.spec;
        ZoneSummary {
            name: spec.name.clone(),
            state: self.life.shown(),
            login: spec.login.clone(),
            image: spec.image.clone(),
            state_ms: now_ms.saturating_sub(self.life.since_ms),
            memory_mib: spec.carve.memory_mib,
            memory_bytes,
            cpu_us,
            processes,
        }
    }

    pub(super) fn view(&self, now_ms: u64) -> ZoneView {
        ZoneView {
            summary: self.summary(now_ms),
            spec: self.record.spec.clone(),
            address: self.body.as_ref().and_then(|body| body.note.address).map(Into::into),
            created_unix_ms: self.record.created_unix_ms,
            restarts: self.restarts,
            last_outcome: self.last_outcome.clone(),
        }
    }

    /// Who pays for it.
    pub(super) fn whose(&self) -> Whose {
        let login = self.record.spec.login.clone();
        Whose { account: self.record.account, login, job: None, phase: None }
    }

    /// What it takes from others, used or not.
    pub(super) fn reserved(&self) -> Reserved {
        let carve = &self.record.spec.carve;
        let (memory_mib, scratch_mib) = (carve.memory_mib.into(), carve.scratch_mib.into());
        Reserved { memory_mib, scratch_mib }
    }

    /// Its limits as asked and as in force; those of a zone that does not run are in force nowhere.
    pub(super) fn own_limits(&self) -> Vec<Limit> {
        if let Some(body) = &self.body {
            return body.cgroup.limits();
        }
        let asked = plan::of_zone(&self.record.spec.carve, None).into_iter();
        let none = || "the zone does not run".to_owned();
        asked.map(|s| Limit { name: s.file.to_owned(), asked: s.value, got: none() }).collect()
    }

    /// Why it is as it is, latest first; `short` is what the node is short of.
    pub(super) fn why(&self, now_ms: u64, stats: &Stats, short: Option<&str>) -> Vec<String> {
        let mut all = Vec::new();
        let seconds = |at: u64| at.saturating_sub(now_ms).div_ceil(1000);
        match &self.life.state {
            State::Failed { why, retry_ms: Some(at) } => {
                all.push(format!("it failed and is tried again in {} s: {why}", seconds(*at)));
            }
            State::Waiting { until_ms } => {
                all.push(format!("it ended and is started again in {} s", seconds(*until_ms)));
            }
            State::Ready => {
                let waits =
                    self.pending.as_ref().map(|pending| self.waits_for(pending.waits, short));
                all.extend(waits.map(|what| format!("it is not started yet: {what}")));
            }
            State::Down if self.publication == Publication::Asked => {
                all.push("its output is being published".to_owned());
            }
            _ => {}
        }
        if self.body.is_some() {
            all.extend(held_back(stats));
        }
        all.extend(self.reasons.iter().cloned());
        all
    }

    /// What its start waits for, in words.
    fn waits_for(&self, waits: Waits, short: Option<&str>) -> String {
        match waits {
            Waits::Objects => "it waits for its objects".to_owned(),
            Waits::Leftover => "it waits for what an earlier start left to be gone".to_owned(),
            Waits::Image(Awaits::Mount) => {
                let image = &self.record.spec.image;
                format!(
                    "it waits for the image {image} to be mounted, which the store has not shown"
                )
            }
            Waits::Image(Awaits::ReadAhead) => "its image is being read ahead".to_owned(),
            Waits::Node => {
                let short = short.unwrap_or("it was short, and has not looked again");
                format!("it waits for the node: {short}")
            }
        }
    }

    /// What the limits of its whole account do to it among others, in words.
    pub(super) fn held_back_by_account(&self, account: &Stats) -> Vec<String> {
        let login = &self.record.spec.login;
        let said = [
            (account.throttled, "cpu.max", "held its zones back, in periods"),
            (account.memory_max_events, "memory.max", "made its zones reclaim, times"),
            (
                account.fork_failures,
                "pids.max",
                "refused processes, its zones' own limits included",
            ),
        ];
        let done = said.into_iter().filter(|(count, _, _)| self.body.is_some() && *count > 0);
        done.map(|(count, limit, what)| format!("{limit} of account {login} {what}: {count}"))
            .collect()
    }
}

impl Daemon {
    /// What a zone uses, its network included.
    pub(super) fn zone_stats(&self, zone: &Zone) -> Stats {
        let Some(body) = &zone.body else { return Stats::default() };
        let network = self.network_stats(zone);
        Stats {
            out_bytes: network.out_bytes,
            out_packets: network.out_packets,
            in_bytes: network.in_bytes,
            in_packets: network.in_packets,
            refused: network.refused,
            ..body.cgroup.stats()
        }
    }

    /// What went over a zone's network, and nothing else.
    pub(crate) fn network_stats(&self, zone: &Zone) -> Stats {
        let id = zone.body.as_ref().map(|body| body.cgroup.id());
        let counters = self.networks.as_ref().zip(id).map(|(all, id)| all.counters(id));
        match counters {
            Some(Ok(Some(counters))) => Stats {
                out_bytes: counters.out_bytes,
                out_packets: counters.out_packets,
                in_bytes: counters.in_bytes,
                in_packets: counters.in_packets,
                refused: counters.refused,
                ..Stats::default()
            },
            _ => Stats::default(),
        }
    }

    /// As [`Self::zone_stats`], by name; none if it does not run.
    pub(crate) fn standing_stats(&self, name: &ZoneName) -> Option<Stats> {
        let zone = self.standing.zones.get(name).filter(|zone| zone.body.is_some())?;
        Some(self.zone_stats(zone))
    }

    /// A zone's limits as asked and as in force, those of disk and network included.
    pub(super) fn zone_limits(&self, zone: &Zone) -> Vec<Limit> {
        let mut limits = zone.own_limits();
        limits.extend(self.disk_limits(zone));
        if let (Some(networks), Some(body)) = (&self.networks, &zone.body) {
            match networks.limits(body.cgroup.id()) {
                Ok(more) => limits.extend(more),
                Err(error) => limits.push(Limit {
                    name: "network".to_owned(),
                    asked: "as specified".to_owned(),
                    got: crate::chain(&error),
                }),
            }
        }
        limits
    }

    /// Of bytes, and of files.
    fn disk_limits(&self, zone: &Zone) -> [Limit; 2] {
        let asked = zone.record.spec.carve.disk_mib * (1 << 20);
        let project = crate::slot::PROJECT_BASE + zone.record.number;
        let found = match &self.quota {
            None => Err("the data disk has no project quotas".to_owned()),
            Some(data) => sys::quota::project(data.as_fd(), project).map_err(|e| e.to_string()),
        };
        let limit = |name: &str, asked: u64, got: fn(sys::quota::Project) -> u64| {
            let got = found.clone().map_or_else(|why| why, |found| got(found).to_string());
            Limit { name: name.to_owned(), asked: asked.to_string(), got }
        };
        [
            limit("project quota", asked, |found| found.limit_bytes),
            limit("project quota of files", files_of(asked), |found| found.limit_files),
        ]
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
