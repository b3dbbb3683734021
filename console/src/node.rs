//! How the node is: what init says, and what can be seen from here (addresses, clock, disk, kernel).

use crate::daemon::{Daemon, ask};
use crate::problem::Problem;
use nix::ifaddrs::getifaddrs;
use nix::sys::statvfs::statvfs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use wire::admin::{Address, DiskSpace, Node};
use wire::kernel::KernelReport;
use wire::node::{NodeReply, NodeRequest, NodeStatus, ServiceState, ServiceStatus};

/// 2026-01-01: no clock of a node that runs this program is earlier.
const CLOCK_FLOOR_UNIX_MS: u64 = 1_767_225_600_000;

/// What init says of the node.
pub async fn status(run: &Path) -> Result<NodeStatus, Problem> {
    match ask(Daemon::Init, run, &NodeRequest::Status).await? {
        NodeReply::Status(status) => Ok(status),
        other => Err(Problem::nonsense(Daemon::Init, &format!("no status but {other:?}"))),
    }
}

/// The whole view.
pub async fn view(run: &Path, data: &Path) -> Result<Node, Problem> {
    let node = status(run).await?;
    let data_disk = disk(data);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let clock_unix_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let kernel = kernel(&run.join("kernel.json"));
    let degraded = degraded(&node, clock_unix_ms, data_disk.is_some(), kernel);
    Ok(Node { node, addresses: addresses(), clock_unix_ms, data_disk, degraded })
}

/// Asks init for the end of the node.
pub async fn end(run: &Path, request: NodeRequest) -> Result<(), Problem> {
    match ask(Daemon::Init, run, &request).await? {
        NodeReply::Accepted => Ok(()),
        other => Err(Problem::nonsense(Daemon::Init, &format!("no consent but {other:?}"))),
    }
}

/// What is not as it should be.
fn degraded(
    node: &NodeStatus,
    clock_unix_ms: u64,
    has_disk: bool,
    kernel: Result<Vec<String>, String>,
) -> Vec<String> {
    let mut reasons = Vec::new();
    for service in &node.services {
        let wrong = match service.state {
            ServiceState::BackOff => "ended by itself and will be started again soon",
            ServiceState::Degraded => "failed too often and is started at long intervals only",
            ServiceState::Stopped => "has ended",
            ServiceState::Waiting
            | ServiceState::Starting
            | ServiceState::Ready
            | ServiceState::Stopping => continue,
        };
        let colon = if service.message.is_empty() { "" } else { ": " };
        reasons.push(format!("{} {wrong}{colon}{}", service.name, service.message));
    }
    if !has_disk {
        reasons.push(no_disk(node));
    }
    if clock_unix_ms < CLOCK_FLOOR_UNIX_MS {
        reasons.push("the clock is years behind, so signatures are refused: set it".to_owned());
    }
    match kernel {
        Ok(missing) => reasons.extend(missing.iter().map(|it| format!("the kernel lacks {it}"))),
        Err(why) => reasons.push(format!("init's kernel report cannot be read: {why}")),
    }
    reasons
}

/// Why there is no data disk: noded, which waits for one, knows best.
fn no_disk(node: &NodeStatus) -> String {
    let waits = |service: &&ServiceStatus| {
        service.name.as_str() == "noded"
            && service.state == ServiceState::Starting
            && !service.message.is_empty()
    };
    let said = node.services.iter().find(waits).map(|service| service.message.clone());
    said.unwrap_or_else(|| "there is no data disk: attach one that is blank".to_owned())
}

/// What the kernel lacks, from init's report.
fn kernel(file: &Path) -> Result<Vec<String>, String> {
    let text = std::fs::read(file).map_err(|error| error.to_string())?;
    let report: KernelReport = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    Ok(report.missing())
}

/// Space on the data disk, if one is mounted: then it is on another device than the folder above it.
fn disk(data: &Path) -> Option<DiskSpace> {
    let above = data.parent()?;
    let device = |path: &Path| std::fs::metadata(path).map(|about| about.dev()).ok();
    if device(data)? == device(above)? {
        return None;
    }
    let disk = statvfs(data).ok()?;
    let unit = disk.fragment_size();
    Some(DiskSpace {
        total_bytes: disk.blocks() * unit,
        available_bytes: disk.blocks_available() * unit,
    })
}

/// Addresses that others could use: neither loopback nor link-local.
fn addresses() -> Vec<Address> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
        let ip = v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())))?;
        let near = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        let useful = !ip.is_loopback() && !near;
        useful.then_some(Address { interface: interface.interface_name, ip })
    };
    interfaces.filter_map(address).collect()
}

#[cfg(test)]
mod test {
    use super::*;

    const NOW: u64 = CLOCK_FLOOR_UNIX_MS + 1;

    fn node(state: &str) -> NodeStatus {
        let text = format!(
            r#"{{"hostname":"n","version":"0","kernel":"6.12","phase":"ready","uptime_ms":1,
            "kernel_to_init_ms":1,"init_to_ready_ms":null,"memory_total_bytes":1,
            "memory_available_bytes":1,"services":[{{"name":"zoned","state":"{state}","pid":null,
            "since_ms":1,"restarts":3,"message":"no base image","memory_bytes":null}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_node_with_all_ready_is_not_degraded() {
        assert!(degraded(&node("ready"), NOW, true, Ok(Vec::new())).is_empty());
    }

    #[test]
    fn a_folder_of_the_same_device_is_no_data_disk() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        assert_eq!(disk(&folder.path().join("data")), None);
        assert!(disk(Path::new("/proc")).is_some());
    }

    #[test]
    fn noded_says_what_it_waits_for() {
        let mut waiting = node("starting");
        waiting.services[0].name = "noded".to_owned().try_into().unwrap();
        waiting.services[0].message = "no data disk: found vda (too small)".to_owned();
        let reasons = |node: &NodeStatus, disk| degraded(node, NOW, disk, Ok(Vec::new()));
        assert_eq!(reasons(&waiting, false), ["no data disk: found vda (too small)"]);
        assert!(reasons(&waiting, true).is_empty());
        waiting.services[0].message = String::new();
        assert!(reasons(&waiting, false)[0].contains("attach one"));
    }

    #[test]
    fn each_reason_is_told() {
        let lacks = Ok(vec!["fs-verity".to_owned()]);
        let reasons = degraded(&node("degraded"), 0, false, lacks);
        assert_eq!(reasons.len(), 4);
        assert!(reasons[1].contains("attach one"));
        assert!(reasons[0].starts_with("zoned ") && reasons[0].ends_with(": no base image"));
        assert_eq!(reasons[3], "the kernel lacks fs-verity");
    }
}
