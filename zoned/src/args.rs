//! What zoned is told when it is started.

use clap::Parser;
use std::path::PathBuf;

/// Runs the tasks of jobs, each in a zone of its own.
#[derive(Debug, Clone, Parser)]
#[command(name = "zoned", version)]
pub struct Args {
    /// storaged's socket
    #[arg(long, value_name = "PATH", default_value = "/run/mobula/storaged.sock")]
    pub storaged: PathBuf,
    /// Socket for status requests, if none is inherited
    #[arg(long, value_name = "PATH")]
    pub wire: Option<PathBuf>,
    /// Directory for mounts of images and for building zones
    #[arg(long, value_name = "DIR", default_value = "/run/mobula/zoned")]
    pub run: PathBuf,
    /// Directory of zone images: NAME.erofs, or a directory NAME
    #[arg(long, value_name = "DIR", default_value = "/data/images")]
    pub images: PathBuf,
    /// A directory on the filesystem whose project quotas limit what tasks write
    #[arg(long, value_name = "DIR", default_value = "/data")]
    pub data: PathBuf,
    /// storaged's user, who is shown what zones wrote as its own
    #[arg(long, value_name = "UID", default_value_t = 200)]
    pub store_user: u32,
    /// The cgroup that zones are made in
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/cgroup/zones")]
    pub cgroup: PathBuf,
    /// Memory that the zones of one account may use in all, in MiB [default: three quarters of what all may]
    #[arg(long, value_name = "MIB")]
    pub account_memory_mib: Option<u64>,
    /// Thousandths of a processor that they may use in all [default: no cap, a fair share]
    #[arg(long, value_name = "MILLI", value_parser = clap::value_parser!(u32).range(10..))]
    pub account_cpu_milli: Option<u32>,
    /// Processes that they may have in all [default: half of what all may]
    #[arg(long, value_name = "N")]
    pub account_pids: Option<u32>,
    /// What the machine's configuration says of accounts, if there is such a file
    #[arg(long, value_name = "FILE", default_value = "/run/mobula/account-limits.json")]
    pub account_limits: PathBuf,
    /// Who reads images ahead, and pays for their pages [default: nobody]
    #[arg(long, value_name = "PATH")]
    pub prefetcher: Option<PathBuf>,
    /// The store's cgroup: while it suffers, new zones wait
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/cgroup/store")]
    pub store_cgroup: PathBuf,
    /// The first program of every zone, linked statically
    #[arg(long, value_name = "FILE", default_value = "/sbin/zone-init")]
    pub zone_init: PathBuf,
    /// The program that makes images of archives, linked statically
    #[arg(long, value_name = "FILE", default_value = "/sbin/zone-import")]
    pub zone_import: PathBuf,
    /// The program by which zones have their output published, linked statically
    #[arg(long, value_name = "FILE", default_value = "/sbin/mobula-publish")]
    pub zone_publish: PathBuf,
    /// Zones that may run at once [default: two for each processor]
    #[arg(long, value_name = "N")]
    pub zones: Option<u32>,
    /// Memory that running zones may ask for in all, in MiB [default: twice what zones may use]
    #[arg(long, value_name = "MIB")]
    pub memory_mib: Option<u64>,
}
