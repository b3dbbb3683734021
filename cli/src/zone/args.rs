//! The command line of `mobula zone` and `mobula image`.

use super::words::{Allow, allow, cpus, list, mib, rate, rule, variable};
use clap::{Args, Subcommand};
use wire::carve::Rule;
use wire::standing::{STOP_S_DEFAULT, STOP_S_MAX, ZoneName};

/// `mobula zone`.
#[derive(Debug, Subcommand)]
pub enum Zone {
    /// Make a zone and start it
    #[command(after_help = "\
  mobula zone create --cpu 0.5 --memory 256M --mount logs/2026-11 web -- httpd -f
  mobula zone create --network --allow tcp:10.0.0.0/8:443 --out-rate 1M fetcher

The zone belongs to the account (--account); without NAME it gets one that is printed.")]
    Create(Box<Create>),
    /// List zones
    List,
    /// Show one zone
    Get {
        /// The zone
        zone: ZoneName,
    },
    /// Open a terminal in a zone
    Login {
        /// Set a variable there
        #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
        env: Vec<(String, String)>,
        /// The zone
        zone: ZoneName,
    },
    /// Run a command in a zone; its exit status is this command's
    #[command(after_help = "\
Exit status: the command's own; 128 and the signal's number if one ended it; 125 if mobula could not run it
or lost sight of it.")]
    Exec(Exec),
    /// Show what a zone's command wrote
    Logs(Logs),
    /// Show what zones use, as it changes
    Top(Top),
    /// Show a zone's counters
    Stats {
        /// The zone; all that run if not given
        zone: Option<ZoneName>,
    },
    /// Show what happened to zones, tasks' zones and images
    Events {
        /// Go on as it happens
        #[arg(short, long)]
        follow: bool,
        /// Only what came after this number
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        after: u64,
    },
    /// Change a zone's limits while it runs
    Update {
        /// The zone
        zone: ZoneName,
        /// What changes.
        #[command(flatten)]
        limits: Limits,
        /// Let it talk to these addresses and ports, and to no others; `none` is nobody
        #[arg(long, value_name = "tcp|udp:ADDRESS[/BITS][:PORT[-PORT]]", value_parser = allow)]
        allow: Vec<Allow>,
    },
    /// Freeze a zone's processes
    Pause(Which),
    /// Let frozen processes go on
    Resume(Which),
    /// Stop a zone: SIGTERM to its command, then SIGKILL to all
    Stop {
        /// Seconds between the two
        #[arg(short = 't', long, value_name = "SECONDS", default_value_t = STOP_S_DEFAULT,
              value_parser = clap::value_parser!(u32).range(0..=i64::from(STOP_S_MAX)))]
        timeout: u32,
        /// Which zones.
        #[command(flatten)]
        which: Which,
    },
    /// Start a zone that was stopped
    Start(Which),
    /// Kill what runs in a zone and forget it; what it made of objects stays
    Delete {
        /// The zones
        #[arg(required = true, value_name = "ZONE")]
        zones: Vec<ZoneName>,
    },
    /// Say why a zone was killed, is throttled, or does not run
    Why {
        /// The zone
        zone: ZoneName,
    },
    /// Show a zone's limits, as asked for and as in force
    Limits {
        /// The zone
        zone: ZoneName,
    },
    /// Turn what a zone has written to /out into objects now
    Publish {
        /// The zone
        zone: ZoneName,
    },
}

/// Zones to do something to.
#[derive(Debug, Args)]
pub struct Which {
    /// The zones
    #[arg(required = true, value_name = "ZONE")]
    pub zones: Vec<ZoneName>,
    /// Do not wait until it is done
    #[arg(long)]
    pub no_wait: bool,
}

/// `mobula zone create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Its name: a-z, 0-9 and -
    pub name: Option<ZoneName>,
    /// What its root is made from
    #[arg(long, default_value = "base")]
    pub image: String,
    /// What it may use.
    #[command(flatten)]
    pub limits: Limits,
    /// Space for files of its own, in its memory
    #[arg(long, value_name = "SIZE", value_parser = mib)]
    pub scratch: Option<u32>,
    /// Show all objects below this prefix at /manta/ACCOUNT/stor/BUCKET/PREFIX
    #[arg(long, value_name = "BUCKET[/PREFIX]")]
    pub mount: Vec<String>,
    /// Make objects below this prefix of what it writes to /out
    #[arg(long, value_name = "BUCKET[/PREFIX]")]
    pub output: Option<String>,
    /// Give it a network; nothing is allowed but what --allow names
    #[arg(long)]
    pub network: bool,
    /// Let it talk to these addresses and ports; gives it a network
    #[arg(long, value_name = "tcp|udp:ADDRESS[/BITS][:PORT[-PORT]]", value_parser = rule)]
    pub allow: Vec<Rule>,
    /// Set a variable there
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<(String, String)>,
    /// Start its command again whenever it ends
    #[arg(long)]
    pub restart: bool,
    /// Leave it stopped after a boot of the node
    #[arg(long)]
    pub no_autoboot: bool,
    /// Do not wait until it runs
    #[arg(long)]
    pub no_wait: bool,
    /// Only print what would be asked for, as JSON
    #[arg(long)]
    pub dry_run: bool,
    /// What runs in it; nothing but its first process if not given
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Limits, of a new zone or to be changed. `none` takes a cap away.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Limits (a cap that is `none` is taken away)")]
pub struct Limits {
    /// Processors, as 0.5; `none` for no cap
    #[arg(long, value_name = "CPUS", value_parser = cpus)]
    pub cpu: Option<u32>,
    /// Its share of busy processors, 1 to 10000
    #[arg(long, value_name = "N")]
    pub cpu_weight: Option<u32>,
    /// Which processors, as 0-1,3; `none` for all
    #[arg(long, value_name = "LIST", value_parser = list)]
    pub cpus: Option<String>,
    /// Memory, as 256M
    #[arg(long, value_name = "SIZE", value_parser = mib)]
    pub memory: Option<u32>,
    /// Memory that is not taken back while others have more than theirs
    #[arg(long, value_name = "SIZE", value_parser = mib)]
    pub memory_low: Option<u32>,
    /// Its share of a busy disk, 1 to 10000
    #[arg(long, value_name = "N")]
    pub io_weight: Option<u32>,
    /// Bytes read from the disk a second
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub read_rate: Option<u64>,
    /// Bytes written to the disk a second
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub write_rate: Option<u64>,
    /// Reads from the disk a second
    #[arg(long, value_name = "N", value_parser = rate)]
    pub read_ops: Option<u64>,
    /// Writes to the disk a second
    #[arg(long, value_name = "N", value_parser = rate)]
    pub write_ops: Option<u64>,
    /// Processes
    #[arg(long, value_name = "N")]
    pub pids: Option<u32>,
    /// What it may keep on the disk: output and log
    #[arg(long, value_name = "SIZE", value_parser = mib)]
    pub disk: Option<u32>,
    /// Bytes a second that leave it over the network
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub out_rate: Option<u64>,
    /// Bytes a second that enter it over the network
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub in_rate: Option<u64>,
}

/// `mobula zone exec`.
#[derive(Debug, Args)]
pub struct Exec {
    /// Give the command a terminal, as login does
    #[arg(short, long)]
    pub tty: bool,
    /// Leave it running, its output in the zone's log
    #[arg(short, long, conflicts_with = "tty")]
    pub detach: bool,
    /// Set a variable there
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<(String, String)>,
    /// The zone
    pub zone: ZoneName,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// `mobula zone logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// Go on as it is written
    #[arg(short, long)]
    pub follow: bool,
    /// Begin with the last N lines; all that are kept if not given
    #[arg(short = 'n', long, value_name = "N",
          value_parser = clap::value_parser!(u32).range(0..=i64::from(wire::admin::LINES_MAX)))]
    pub lines: Option<u32>,
    /// Leave control characters as they are: they can do anything to a terminal
    #[arg(long)]
    pub raw: bool,
    /// The zone
    pub zone: ZoneName,
}

/// `mobula zone top`.
#[derive(Debug, Args)]
pub struct Top {
    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value_t = 2,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub delay: u64,
    /// How often to look; until Ctrl-C if not given
    #[arg(short = 'n', long, value_name = "TIMES")]
    pub rounds: Option<u64>,
}

/// `mobula image`.
#[derive(Debug, Subcommand)]
pub enum Image {
    /// Make an image of an object: `docker save`, an OCI archive, a tarball of a root, an EROFS file
    #[command(after_help = "\
  docker save debian:12 | mobula put -p - images/debian.tar
  mobula image import debian images/debian.tar")]
    Import {
        /// Its name from now on
        name: String,
        /// The object
        #[arg(value_name = "BUCKET/KEY")]
        object: String,
        /// Do not wait until it can be used
        #[arg(long)]
        no_wait: bool,
    },
    /// List images
    List,
    /// Remove images that no zone uses
    Rm {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}
