//! What the store feels of its neighbours: the kernel's counters of its cgroup, before and after.
//!
//! How long an answer takes on an emulated machine says little of who is to blame; the counters say whether the
//! store itself was held up, and by what.

use anyhow::{Context, Result, ensure};
use tests::appliance::Appliance;

/// The cgroup of storaged and its prefetcher.
const STORE: &str = "/sys/fs/cgroup/store";
/// Of the time, at most this share may all of the store have stood still for memory: the mark at which zoned holds
/// work back (`zoned::carve::gate`). For the disk there is no such bound: a thread that waits for the completions of
/// its ring counts as one that waits for the disk, so that an idle store seems to stand still for most of the time.
const MEMORY_SHARE_MAX: f64 = 0.10;

/// The counters at a time.
pub struct Felt {
    uptime_s: f64,
    throttled: u64,
    /// `low`, `high`, `max`, `oom`, `oom_kill` of memory.events, those that must not be.
    memory_events: u64,
    /// Microseconds in which nobody in it could go on, for memory and for the disk.
    memory_full_us: u64,
    io_full_us: u64,
}

impl Felt {
    pub fn now(a: &Appliance) -> Result<Self> {
        let uptime = a.agent.read("/proc/uptime")?;
        let file = |name: &str| format!("{STORE}/{name}");
        let events = ["max", "oom", "oom_kill"].map(|n| a.agent.number(&file("memory.events"), n));
        Ok(Self {
            uptime_s: uptime.split(' ').next().context("no uptime")?.parse()?,
            throttled: a.agent.number(&file("cpu.stat"), "nr_throttled").unwrap_or(0),
            memory_events: events.into_iter().sum::<Result<u64>>()?,
            memory_full_us: full_us(&a.agent.read(&file("memory.pressure"))?)?,
            io_full_us: full_us(&a.agent.read(&file("io.pressure"))?)?,
        })
    }

    /// Checks what was felt since then; tells it in words.
    pub fn since(&self, a: &Appliance) -> Result<String> {
        let now = Self::now(a)?;
        let seconds = now.uptime_s - self.uptime_s;
        let share = |now: u64, then: u64| (now - then) as f64 / 1e6 / seconds;
        let memory = share(now.memory_full_us, self.memory_full_us);
        let io = share(now.io_full_us, self.io_full_us);
        let throttled = now.throttled - self.throttled;
        let events = now.memory_events - self.memory_events;
        let told = format!(
            "the store stood still for memory {:.1} %, waited for its ring or the disk {:.1} % of {seconds:.0} s, was throttled \
             {throttled} times and met its memory limit {events} times",
            memory * 100.0,
            io * 100.0
        );
        let unharmed = throttled == 0 && events == 0;
        ensure!(unharmed && memory <= MEMORY_SHARE_MAX, "{told}");
        Ok(told)
    }
}

/// The last number of the line `full` of a pressure file (`Documentation/accounting/psi.rst`).
fn full_us(text: &str) -> Result<u64> {
    let line = text.lines().find(|line| line.starts_with("full ")).context("no line of full")?;
    let total = line.split("total=").nth(1).with_context(|| format!("no total in {line}"))?;
    Ok(total.trim().parse()?)
}
