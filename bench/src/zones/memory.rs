//! What an idle zone costs in memory: its first process's own pages, page tables and stack, and the kernel's
//! objects for all the rest, from the growth of the slab caches over many zones.

use super::Output;
use super::ours::Node;
use crate::report::Report;
use crate::statistics::median;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// Zones at once: what others do to the slab meanwhile is divided by this.
const ZONES: usize = 150;
/// Repetitions, of which the median counts.
const ROUNDS: usize = 5;
/// A thread's stack in the kernel (`THREAD_SIZE` on x86-64), in KiB.
const STACK_KIB: f64 = 16.0;
/// What an idle zone may cost.
const KIB_MAX: f64 = 300.0;

/// Measures and reports it.
///
/// # Errors
/// When a zone can't be made.
pub fn run(node: &mut Node, object: &Path, output: &Output, report: &mut Report) -> Result<()> {
    let (mut users, mut kernels) = (Vec::new(), Vec::new());
    // The slots are kept from then on, with their network namespaces.
    node.fill(ZONES, object, output)?;
    node.empty()?;
    for _ in 0..ROUNDS {
        let before = slab_kib()?;
        let pids = node.fill(ZONES, object, output)?;
        let after = slab_kib()?;
        let own: Vec<f64> = pids.iter().map(|pid| own_kib(*pid)).collect::<Result<_>>()?;
        users.push(median(&own));
        kernels.push((after - before) / ZONES as f64 + STACK_KIB);
        node.empty()?;
    }
    let (user, kernel) = (median(&users), median(&kernels));
    let told = format!(
        "{:.0} KiB: {user:.0} of its first process, {kernel:.0} of the kernel ({ZONES} zones, {ROUNDS} rounds)",
        user + kernel
    );
    report.fact("memory of an idle zone, ≤ 300 KiB", told, Some(user + kernel <= KIB_MAX));
    Ok(())
}

fn slab_kib() -> Result<f64> {
    number(&fs::read_to_string("/proc/meminfo")?, "Slab:")
}

/// Pages that nobody else has, and page tables.
fn own_kib(pid: i32) -> Result<f64> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(number(&smaps, "Private_Clean:")?
        + number(&smaps, "Private_Dirty:")?
        + number(&status, "VmPTE:")?)
}

/// The number of KiB behind a key.
fn number(text: &str, key: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let value = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    value.with_context(|| format!("no {key} there"))
}
