//! How a node is, counted: what a zone left behind would show in, and what a zone that stands costs.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;
use tests::agent::wait_for;
use tests::appliance::Appliance;

/// Zones of a round.
pub const ZONES: usize = 1000;
/// More objects of a kind than this, for each round, and one of each zone is left: half of that, because a few
/// hundred of the kernel's own come and go.
const LEFT_MIN: u64 = ZONES as u64 / 2;
/// Kinds of objects that the kernel gives back when there are many: addresses of stacks and programs that are gone, two
/// pages each at least, when they are 64 MiB on two processors (`lazy_max_pages` in mm/vmalloc.c).
const GIVEN_BACK_LATER: [(&str, u64); 1] = [("vmap_area", 64 * 1024 / 8)];
/// Descriptors that a daemon may have more than before: connections that are about to end.
const DESCRIPTORS_MORE: u64 = 8;
/// Cgroups that are gone and that a page is still charged to, in spite of the reclaim: pages of files that are
/// in use, or that a processor has set aside for later.
const DYING_MORE: u64 = 64;
/// Memory of the kernel, in KiB, that may be more than after the first round: half-empty slabs. Two pages for each
/// zone of one round are the most that goes unnoticed here; by objects it is seen much earlier.
const KERNEL_MORE_KIB: u64 = 8 * ZONES as u64;
/// What of user memory may be more: the daemons' own heaps.
const USER_MORE_KIB: u64 = 8 * 1024;
/// How long the kernel may take to be done with a thousand zones: network namespaces are taken apart one after
/// the other.
const SETTLED_TIME: Duration = Duration::from_secs(120);
/// Kinds of memory of /proc/meminfo that are the kernel's own.
const KERNEL: [&str; 5] = ["SReclaimable", "SUnreclaim", "KernelStack", "PageTables", "Percpu"];
/// ... and those of programs, tmpfs included.
const USER: [&str; 2] = ["AnonPages", "Shmem"];
/// The daemons whose descriptors are counted; init is the first process.
const DAEMONS: [&str; 3] = ["zoned", "consoled", "storaged"];

/// A look at a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// /proc/meminfo, in KiB.
    memory: BTreeMap<String, u64>,
    /// What must be as it was: mounts, namespaces, cgroups, processes, files.
    counts: BTreeMap<String, u64>,
    /// Open descriptors by daemon.
    descriptors: BTreeMap<String, u64>,
    /// Cgroups that are gone and not forgotten.
    dying: u64,
    /// The kernel's objects by kind, and their size in bytes.
    objects: BTreeMap<String, (u64, u64)>,
}

impl Node {
    /// A look at a node that has given back what it can and is still.
    pub fn settled(a: &Appliance) -> Result<Self> {
        let mut last: Option<Self> = None;
        wait_for("the kernel to be done", SETTLED_TIME, || {
            a.agent.reclaim()?;
            let now = Self::look(a)?;
            let still = last.as_ref().is_some_and(|last| now.is_still(last));
            Ok(if still { Some(now) } else { last.replace(now).and(None) })
        })
    }

    fn is_still(&self, before: &Self) -> bool {
        self.counts == before.counts
            && self.dying >= before.dying
            && self.kib(&KERNEL).abs_diff(before.kib(&KERNEL)) < 1024
    }

    fn look(a: &Appliance) -> Result<Self> {
        let agent = &a.agent;
        // Before all else: to look at descriptors and cgroups makes inodes in the kernel, dozens for each zone.
        let memory = meminfo(&agent.read("/proc/meminfo")?);
        let objects =
            slabinfo(&agent.read("/proc/slabinfo").context("this kernel counts no slabs")?);
        let processes = agent.processes()?;
        let daemon = |name: &str| -> Result<i32> { Ok(agent.daemon(name)?.pid) };
        let lines = |path: String| -> Result<u64> { Ok(agent.read(&path)?.lines().count() as u64) };
        let names = |path: &str| -> Result<u64> { Ok(agent.list(path, true)?.len() as u64) };
        let cgroups = agent.list("/sys/fs/cgroup", true)?;
        let mut counts: BTreeMap<String, u64> = agent
            .namespaces()?
            .into_iter()
            .map(|(kind, count)| (format!("namespaces {kind}"), count))
            .collect();
        counts.extend([
            ("mounts of init".to_owned(), lines("/proc/1/mountinfo".to_owned())?),
            ("mounts of zoned".to_owned(), lines(format!("/proc/{}/mountinfo", daemon("zoned")?))?),
            // The kernel's own threads have no command line, and come and go.
            (
                "processes".to_owned(),
                processes.iter().filter(|p| !p.command.is_empty()).count() as u64,
            ),
            (
                "cgroups".to_owned(),
                cgroups.iter().filter(|name| name.ends_with('/') && !is_account(name)).count()
                    as u64,
            ),
            ("files of zones".to_owned(), names("/data/zones")?),
        ]);
        let open = |pid: i32| -> Result<u64> {
            Ok(agent.list(&format!("/proc/{pid}/fd"), false)?.len() as u64)
        };
        let mut descriptors = BTreeMap::from([("init".to_owned(), open(1)?)]);
        for name in DAEMONS {
            descriptors.insert(name.to_owned(), open(daemon(name)?)?);
        }
        Ok(Self {
            memory,
            counts,
            descriptors,
            dying: agent.number("/sys/fs/cgroup/zones/cgroup.stat", "nr_dying_descendants")?,
            objects,
        })
    }

    fn kib(&self, kinds: &[&str]) -> u64 {
        kinds.iter().filter_map(|kind| self.memory.get(*kind)).sum()
    }

    /// What each of `count` things costs that are there now and were not before, in words.
    pub fn cost_since(&self, before: &Self, what: &str, count: usize) -> String {
        let each = |kib: i128| kib as f64 / count as f64;
        let more = |kinds: &[&str]| i128::from(self.kib(kinds)) - i128::from(before.kib(kinds));
        let all = -more(&["MemAvailable"]);
        let mut text = format!(
            "  {what} costs {:.0} KiB of the memory that was available; counted: {:.0} KiB of the \
             kernel, {:.0} KiB of programs\n",
            each(all),
            each(more(&KERNEL)),
            each(more(&USER))
        );
        for kind in KERNEL.iter().chain(&USER) {
            text += &format!("    {kind}: {:.1} KiB\n", each(more(&[kind])));
        }
        text + &self.grown_since(before)
    }

    /// The kinds of objects that have become more, those first that take most memory.
    pub fn grown_since(&self, before: &Self) -> String {
        const SHOWN: usize = 12;
        let mut grown: Vec<(u64, String)> = self
            .more_objects(before)
            .map(|(kind, more, size)| {
                let kib = more * size / 1024;
                (kib, format!("    {more} {kind} more, {kib} KiB\n"))
            })
            .collect();
        grown.sort_unstable_by_key(|(kib, _)| std::cmp::Reverse(*kib));
        grown.into_iter().take(SHOWN).map(|(_, line)| line).collect()
    }

    fn more_objects(&self, before: &Self) -> impl Iterator<Item = (&str, u64, u64)> {
        self.objects.iter().filter_map(|(kind, (count, size))| {
            let more = count.saturating_sub(before.objects.get(kind).map_or(0, |(old, _)| *old));
            (more > 0).then_some((kind.as_str(), more, *size))
        })
    }

    /// What has become more in `rounds` rounds than is explained, in words.
    pub fn worse_than(&self, before: &Self, rounds: usize) -> Vec<String> {
        let mut worse = Vec::new();
        let old = |all: &BTreeMap<String, u64>, kind: &str| all.get(kind).copied().unwrap_or(0);
        let mut more = |kind: &str, now: u64, before: u64, most: u64| {
            if now > before + most {
                worse.push(format!("{kind}: {before} after the first round, {now} now"));
            }
        };
        for (kind, now) in &self.counts {
            more(kind, *now, old(&before.counts, kind), 0);
        }
        for (daemon, now) in &self.descriptors {
            let before = old(&before.descriptors, daemon);
            more(&format!("descriptors of {daemon}"), *now, before, DESCRIPTORS_MORE);
        }
        more("dying cgroups", self.dying, before.dying, DYING_MORE);
        more("KiB of the kernel", self.kib(&KERNEL), before.kib(&KERNEL), KERNEL_MORE_KIB);
        more("KiB of programs", self.kib(&USER), before.kib(&USER), USER_MORE_KIB);
        for (kind, count, _) in self.more_objects(before) {
            let later = GIVEN_BACK_LATER.iter().find(|(later, _)| *later == kind);
            more(kind, count, 0, LEFT_MIN * rounds as u64 + later.map_or(0, |(_, most)| *most));
        }
        worse
    }
}

impl Display for Node {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mib = |kinds: &[&str]| self.kib(kinds) as f64 / 1024.0;
        let pairs = |all: &BTreeMap<String, u64>| -> Vec<String> {
            all.iter().map(|(kind, count)| format!("{count} {kind}")).collect()
        };
        write!(
            f,
            "{:.1} MiB available, {:.1} of the kernel, {:.1} of programs; {}; descriptors: {}; {} dying \
             cgroups",
            mib(&["MemAvailable"]),
            mib(&KERNEL),
            mib(&USER),
            pairs(&self.counts).join(", "),
            pairs(&self.descriptors).join(", "),
            self.dying
        )
    }
}

/// Whether it is the cgroup of an account, `zones/t-7/`: that goes a while after its last zone.
fn is_account(cgroup: &str) -> bool {
    cgroup.starts_with("zones/t-") && cgroup.matches('/').count() == 2
}

/// `Name:   123 kB` lines.
fn meminfo(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.split_whitespace().next()?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// Name, objects in use, objects, size, … (slabinfo(5)); two lines of heads.
fn slabinfo(text: &str) -> BTreeMap<String, (u64, u64)> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?.to_owned();
        let (used, _, size) = (fields.next()?, fields.next()?, fields.next()?);
        Some((name, (used.parse().ok()?, size.parse().ok()?)))
    };
    text.lines().skip(2).filter_map(line).collect()
}
