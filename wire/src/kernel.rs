//! What the running kernel offers, as init found it at boot (`/run/mobula/kernel.json`).
//!
//! Daemons read it to choose their way and to say at start what is missing, instead of failing later.

use serde::{Deserialize, Serialize};

/// The least Landlock version that zones are confined by (scopes; Linux 6.12).
pub const LANDLOCK_ABI_WANTED: u32 = 6;

/// Whether the kernel has something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Offer {
    /// It was tried and works.
    Yes,
    /// It was tried and does not.
    No,
    /// It can't be told yet: it takes the data disk.
    #[default]
    Untried,
}

/// The report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KernelReport {
    /// `uname -r`.
    pub release: String,
    /// Operations of io_uring by number; empty without io_uring.
    pub io_uring_operations: Vec<u8>,
    /// Controllers of cgroup v2 at the root.
    pub cgroup_controllers: Vec<String>,
    /// ext4 knows fs-verity.
    pub verity: Offer,
    /// Project quota on the data disk.
    pub project_quota: Offer,
    /// Landlock's version; 0 without it.
    pub landlock_abi: u32,
    /// A cgroup program of BPF can be loaded.
    pub bpf: Offer,
    /// EROFS is known.
    pub erofs: Offer,
    /// EROFS mounts from a file on the data disk.
    pub erofs_from_file: Offer,
    /// overlayfs is known.
    pub overlay: Offer,
}

impl KernelReport {
    /// What is missing for a node that runs zones, in words for the console; empty when all is there.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if self.io_uring_operations.is_empty() {
            missing.push("io_uring (CONFIG_IO_URING)".to_owned());
        }
        for wanted in ["cpu", "io", "memory", "pids"] {
            if !self.cgroup_controllers.iter().any(|have| have == wanted) {
                missing.push(format!("the {wanted} controller of cgroup v2"));
            }
        }
        let offers = [
            (self.verity, "fs-verity on ext4 (CONFIG_FS_VERITY)"),
            (self.project_quota, "project quota on the data disk (CONFIG_QFMT_V2)"),
            (self.bpf, "cgroup programs of BPF (CONFIG_CGROUP_BPF)"),
            (self.erofs, "EROFS (CONFIG_EROFS_FS)"),
            (self.erofs_from_file, "EROFS from a file (CONFIG_EROFS_FS_BACKED_BY_FILE)"),
            (self.overlay, "overlayfs (CONFIG_OVERLAY_FS)"),
        ];
        let refused = offers.iter().filter(|(offer, _)| *offer == Offer::No);
        missing.extend(refused.map(|(_, what)| (*what).to_owned()));
        if self.landlock_abi < LANDLOCK_ABI_WANTED {
            let have = self.landlock_abi;
            missing.push(format!("Landlock {LANDLOCK_ABI_WANTED} (it has {have})"));
        }
        missing
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn whole() -> KernelReport {
        KernelReport {
            release: "6.12".into(),
            io_uring_operations: vec![0],
            cgroup_controllers: ["cpu", "io", "memory", "pids"].map(str::to_owned).to_vec(),
            landlock_abi: LANDLOCK_ABI_WANTED,
            ..KernelReport::default()
        }
    }

    #[test]
    fn what_is_untried_is_not_missing() {
        assert!(whole().missing().is_empty());
    }

    #[test]
    fn each_thing_that_is_missing_is_named() {
        let report = KernelReport { verity: Offer::No, landlock_abi: 0, ..whole() };
        let missing = report.missing();
        assert_eq!(missing.len(), 2);
        assert!(missing[0].contains("fs-verity") && missing[1].contains("Landlock"));
    }

    #[test]
    fn an_older_report_without_a_field_is_read() {
        let report: KernelReport = serde_json::from_str(r#"{"release":"6.12"}"#).unwrap();
        assert_eq!(report.erofs_from_file, Offer::Untried);
    }
}
