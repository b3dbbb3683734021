//! How a node is: what piles up when something leaks.

use crate::bad_tasks::daemons;
use anyhow::Result;
use tests::appliance::Appliance;

/// Descriptors that a daemon may have more than before: connections that are about to end.
const DESCRIPTORS_MORE: u64 = 8;
/// storaged keeps the files of objects open that were asked for, several hundred of them.
const FILES_MORE: u64 = 400;
/// The kernel's memory may grow by this: caches that have not been asked to shrink.
const UNRECLAIMABLE_MORE_KIB: u64 = 16 * 1024;
/// Cgroups that are gone and still have pages charged to them: some, for as long as nobody needs memory.
const DYING_MORE: u64 = 400;

/// A look at a node.
#[derive(Debug, Clone, Default)]
pub struct Health {
    pub daemons: Vec<(String, i32)>,
    /// Cgroups of zones.
    zones: u64,
    /// Mounts that zoned sees.
    mounts: u64,
    /// zoned's descriptors, and storaged's.
    descriptors: [u64; 2],
    dying: u64,
    unreclaimable_kib: u64,
}

impl Health {
    pub fn of(a: &Appliance) -> Result<Self> {
        let daemons = daemons(a)?;
        let (zoned, storaged) = (a.agent.daemon("zoned")?.pid, a.agent.daemon("storaged")?.pid);
        let count = |path: String| -> Result<u64> { Ok(a.agent.list(&path, false)?.len() as u64) };
        let cgroups = a.agent.list("/sys/fs/cgroup/zones", true)?;
        // Those of tasks and of standing zones.
        let named = |name: &str| name.contains("/z-") || name.contains("/s-");
        let zones = cgroups.iter().filter(|name| name.ends_with('/') && named(name));
        let memory = a.agent.read("/proc/meminfo")?;
        let unreclaimable = memory.lines().find_map(|line| line.strip_prefix("SUnreclaim:"));
        let kib = unreclaimable.and_then(|text| text.split_whitespace().next()?.parse().ok());
        Ok(Self {
            daemons,
            zones: zones.count() as u64,
            mounts: a.agent.read(&format!("/proc/{zoned}/mountinfo"))?.lines().count() as u64,
            descriptors: [
                count(format!("/proc/{zoned}/fd"))?,
                count(format!("/proc/{storaged}/fd"))?,
            ],
            dying: a.agent.number("/sys/fs/cgroup/zones/cgroup.stat", "nr_dying_descendants")?,
            unreclaimable_kib: kib.unwrap_or(u64::MAX),
        })
    }

    /// What is worse than before, in words.
    pub fn worse_than(&self, before: &Self) -> Vec<String> {
        let mut worse = Vec::new();
        if self.daemons != before.daemons {
            worse.push(format!("daemons were {:?} and are {:?}", before.daemons, self.daemons));
        }
        let mut more = |what: &str, now: u64, before: u64, most: u64| {
            if now > before + most {
                worse.push(format!("{what}: {before} before, {now} now"));
            }
        };
        more("cgroups of zones", self.zones, before.zones, 0);
        more("mounts", self.mounts, before.mounts, 0);
        more("descriptors of zoned", self.descriptors[0], before.descriptors[0], DESCRIPTORS_MORE);
        more("descriptors of storaged", self.descriptors[1], before.descriptors[1], FILES_MORE);
        more("dying cgroups", self.dying, before.dying, DYING_MORE);
        let (now, then) = (self.unreclaimable_kib, before.unreclaimable_kib);
        more("KiB of the kernel's own", now, then, UNRECLAIMABLE_MORE_KIB);
        worse
    }
}
