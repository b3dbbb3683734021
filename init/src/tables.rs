//! What the booted system looks like, as data: mounts, kernel settings, cgroups.

use sys::mount::Options;

/// A filesystem of the kernel's, mounted at boot.
#[derive(Debug)]
pub struct Mount {
    /// Its type.
    pub kind: &'static str,
    /// Where.
    pub target: &'static str,
    /// What it forbids.
    pub options: Options,
    /// Its own options.
    pub data: &'static str,
    /// Whether the node can't do without it.
    pub needed: bool,
}

const fn inert(kind: &'static str, target: &'static str, data: &'static str) -> Mount {
    Mount { kind, target, options: Options::INERT, data, needed: true }
}

/// In this order, each on top of what is there.
pub const MOUNTS: [Mount; 11] = [
    inert("proc", "/proc", ""),
    inert("sysfs", "/sys", ""),
    Mount {
        kind: "devtmpfs",
        target: "/dev",
        options: Options { no_devices: false, ..Options::INERT },
        data: "mode=0755",
        needed: true,
    },
    Mount {
        kind: "devpts",
        target: "/dev/pts",
        options: Options { no_devices: false, ..Options::INERT },
        data: "mode=0620,ptmxmode=0666",
        needed: false,
    },
    inert("tmpfs", "/dev/shm", "mode=1777,size=16m"),
    inert("tmpfs", "/run", "mode=0755,size=64m"),
    inert("tmpfs", "/tmp", "mode=1777,size=64m"),
    // nsdelegate: a zone's cgroup namespace is a border; memory_recursiveprot: memory.min of /store holds
    // for what is below it.
    inert("cgroup2", "/sys/fs/cgroup", "nsdelegate,memory_recursiveprot"),
    Mount { needed: false, ..inert("bpf", "/sys/fs/bpf", "mode=0700") },
    Mount { needed: false, ..inert("securityfs", "/sys/kernel/security", "") },
    Mount { needed: false, ..inert("pstore", "/sys/fs/pstore", "") },
];

/// Directories made before the root becomes read-only.
pub const FOLDERS: [&str; 3] = ["/data", "/run/mobula", "/run/mobula/notify"];

/// Symbolic links made before the root becomes read-only: where, and to what.
pub const LINKS: [(&str, &str); 1] = [("/etc/resolv.conf", "/run/mobula/resolv.conf")];

/// Group that may use io_uring: storaged's.
pub const IO_URING_GROUP: &str = "200";

/// Kernel settings beneath `/proc/sys`. One that this kernel does not have is passed over: what it guards
/// is not there either.
pub const SETTINGS: [(&str, &str); 36] = [
    // The console belongs to the node's own lines; errors of the kernel still reach it.
    ("kernel/printk", "4 4 1 7"),
    // The node's lines in the kernel's log are not to be thinned out.
    ("kernel/printk_devkmsg", "on"),
    // Nothing about the kernel's insides for programs that have no business there.
    ("kernel/kptr_restrict", "2"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/perf_event_paranoid", "3"),
    ("kernel/yama/ptrace_scope", "2"),
    ("kernel/unprivileged_bpf_disabled", "1"),
    ("net/core/bpf_jit_harden", "2"),
    ("vm/unprivileged_userfaultfd", "0"),
    ("kernel/io_uring_group", IO_URING_GROUP),
    ("kernel/io_uring_disabled", "1"),
    ("kernel/kexec_load_disabled", "1"),
    ("kernel/sysrq", "0"),
    // A memory dump of a daemon holds keys, one of a task its owner's data.
    ("kernel/core_pattern", "|/bin/false"),
    ("fs/suid_dumpable", "0"),
    ("fs/protected_symlinks", "1"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_fifos", "2"),
    ("fs/protected_regular", "2"),
    ("dev/tty/ldisc_autoload", "0"),
    ("dev/tty/legacy_tiocsti", "0"),
    // Two user namespaces for each zone slot: one for its users, one to show it files.
    ("user/max_user_namespaces", "8192"),
    // A kernel that has lost its mind must not write to the disk: restart, as panic= says.
    ("kernel/panic_on_oops", "1"),
    ("kernel/pid_max", "4194304"),
    ("fs/file-max", "4194304"),
    ("fs/nr_open", "1048576"),
    ("vm/max_map_count", "262144"),
    // Write back early and in small pieces: an fsync then waits for little.
    ("vm/dirty_background_bytes", "67108864"),
    ("vm/dirty_bytes", "268435456"),
    ("net/core/somaxconn", "4096"),
    ("net/core/default_qdisc", "fq"),
    // Outgoing connections must not take the ports of our own services.
    ("net/ipv4/ip_local_reserved_ports", "8080,8090,9000"),
    ("net/ipv4/tcp_syncookies", "1"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/all/accept_source_route", "0"),
];

/// Set when the modules have been loaded: from then on the kernel takes no more code.
pub const MODULES_OVER: (&str, &str) = ("kernel/modules_disabled", "1");

/// A cgroup that is there whatever services there are.
#[derive(Debug)]
pub struct Cgroup {
    /// Its path from the root.
    pub path: &'static str,
    /// Controllers that its children get are switched on in it.
    pub is_parent: bool,
    /// Files to write.
    pub settings: &'static [(&'static str, &'static str)],
}

/// From the top down, so that each finds its parent.
pub const CGROUPS: [Cgroup; 4] = [
    Cgroup { path: "init", is_parent: false, settings: &[("memory.min", "16M")] },
    Cgroup {
        path: "system",
        is_parent: true,
        settings: &[("memory.min", "48M"), ("cpu.weight", "300")],
    },
    // The pages of objects that zones share are charged here: protected, and never squeezed.
    // Three parts of processor and disk to the one of all zones, when both want all they can get.
    Cgroup {
        path: "store",
        is_parent: true,
        settings: &[("memory.min", "128M"), ("cpu.weight", "300"), ("io.weight", "300")],
    },
    // zoned divides it; the number of processes is bounded here, so that the node's own can always start.
    Cgroup { path: "zones", is_parent: true, settings: &[("pids.max", "32768")] },
];

/// Controllers handed down the tree, where the kernel has them.
pub const CONTROLLERS: [&str; 6] = ["cpuset", "cpu", "io", "memory", "pids", "hugetlb"];

#[cfg(test)]
mod test {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_setting_stands_once() {
        let names: BTreeSet<_> = SETTINGS.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), SETTINGS.len());
    }

    #[test]
    fn io_uring_is_given_to_its_group_before_it_is_taken_from_the_others() {
        let place = |wanted| SETTINGS.iter().position(|(name, _)| *name == wanted).unwrap();
        assert!(place("kernel/io_uring_group") < place("kernel/io_uring_disabled"));
    }

    #[test]
    fn every_mount_comes_after_the_one_it_lies_in() {
        let targets: Vec<_> = MOUNTS.iter().map(|mount| mount.target).collect();
        for (place, target) in targets.iter().enumerate() {
            let inside = |outer: &&&str| target.starts_with(&format!("{outer}/"));
            let late = targets.iter().skip(place).find(inside);
            assert_eq!(late, None, "{target}");
        }
    }
}
