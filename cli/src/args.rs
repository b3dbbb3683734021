//! The command line, as clap reads it.

use crate::config::Layer;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// What `--help` says behind the options.
const MORE: &str = "\
Exit status: 0 all done, 1 failed, 2 wrong usage or configuration, 3 not found, 4 denied,
5 cannot be reached; of `zone exec` and `zone login`: the command's own, or 125. Results go to standard output; notes, bars and errors to standard error.
With --json, results are JSON (one document, or one a line where there may be many) and an error
is one line {\"error\":{\"message\",\"code\",\"exit\"}} on standard error.

Settings come from flags, else the environment, else ~/.config/mobula.toml (keys: s3, manta, admin,
account, access_key, secret_key, token), else defaults.";

/// Objects, jobs, zones and nodes of a Mobula appliance.
#[derive(Debug, Parser)]
#[command(name = "mobula", version, after_help = MORE, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Endpoints and keys.
    #[command(flatten)]
    pub layer: Layer,
    /// Settings file instead of ~/.config/mobula.toml [MOBULA_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print results as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// No notes and no progress bars
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List buckets, or the objects of one
    Ls(Ls),
    /// Store files as objects
    Put(Put),
    /// Fetch objects into files
    Get(Get),
    /// Remove objects
    Rm(Rm),
    /// Make a bucket
    Mb {
        /// Its name
        bucket: String,
    },
    /// Remove an empty bucket
    Rb {
        /// Its name
        bucket: String,
    },
    /// Run programs where the objects are
    Job {
        /// What to do with jobs.
        #[command(subcommand)]
        command: Job,
    },
    /// Machines of your own on a node (needs the admin token)
    Zone {
        /// What to do with zones.
        #[command(subcommand)]
        command: crate::zone::args::Zone,
    },
    /// What the zones of an account may use together (needs the admin token)
    Account {
        /// What to do with accounts.
        #[command(subcommand)]
        command: crate::account::Account,
    },
    /// What the roots of zones are made from (needs the admin token)
    Image {
        /// What to do with images.
        #[command(subcommand)]
        command: crate::zone::args::Image,
    },
    /// Look after a node (needs the admin token)
    Node {
        /// What to do with the node.
        #[command(subcommand)]
        command: Node,
    },
    /// Print a completion script for a shell
    Completion {
        /// bash, zsh, fish, …
        shell: clap_complete::Shell,
    },
}

/// `mobula ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// BUCKET, or BUCKET/PREFIX with any beginning of keys; all buckets if not given
    #[arg(value_name = "BUCKET[/PREFIX]")]
    pub name: Option<String>,
    /// Show size and time of each object
    #[arg(short)]
    pub long: bool,
    /// Show all objects, not only those up to the next slash
    #[arg(short)]
    pub recursive: bool,
}

/// `mobula put`.
#[derive(Debug, Args)]
pub struct Put {
    /// Files (`-` is standard input), or with -r folders; then BUCKET/KEY, or BUCKET[/PREFIX/] to keep
    /// the files' names
    #[arg(required = true, num_args = 2.., value_names = ["FILE", "BUCKET/KEY"])]
    pub names: Vec<String>,
    /// Store whole folders, their files by their paths below it
    #[arg(short, long)]
    pub recursive: bool,
    /// Make the bucket if it is missing
    #[arg(short = 'p', long)]
    pub make_bucket: bool,
    /// The objects' content type
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// Connections to use
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub parallel: u8,
}

/// `mobula get`.
#[derive(Debug, Args)]
pub struct Get {
    /// The object; with -r, all objects below
    #[arg(value_name = "BUCKET/KEY")]
    pub name: String,
    /// File or folder to write (`-` is standard output); the current folder if not given
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Fetch all objects below BUCKET[/PREFIX] into a folder
    #[arg(short, long)]
    pub recursive: bool,
    /// Connections to use
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub parallel: u8,
}

/// `mobula rm`.
#[derive(Debug, Args)]
pub struct Rm {
    /// The objects; with -r, whatever is below them too
    #[arg(required = true, value_name = "BUCKET/KEY")]
    pub names: Vec<String>,
    /// Remove all objects below BUCKET[/PREFIX]
    #[arg(short, long)]
    pub recursive: bool,
    /// Do not mind objects that are not there
    #[arg(short, long)]
    pub force: bool,
}

/// `mobula job`.
#[derive(Debug, Subcommand)]
pub enum Job {
    /// Make a job, wait for it, print its outputs
    #[command(after_help = "\
Phases run in the order given. --count, --memory, --disk, --init, --asset and --image belong to the
phase before them; given before the first phase, to every phase.

  mobula job run --map 'grep -c ERROR' --reduce 'awk \"{n += \\$1} END {print n}\"' logs/2026-11/
  find . -name '*.log' | sed 's,^\\./,logs/,' | mobula job run --map 'wc -l' -")]
    Run(Box<Run>),
    /// List jobs
    List {
        /// Only those that are not done
        #[arg(long)]
        running: bool,
    },
    /// Show one job
    Get {
        /// The job
        job: wire::job::JobId,
    },
    /// Wait for a job, then print its outputs' contents
    Wait {
        /// The job
        job: wire::job::JobId,
    },
    /// Show what went wrong in a job, with what the tasks wrote on standard error
    Errors {
        /// The job
        job: wire::job::JobId,
    },
    /// List a job's outputs
    Outputs {
        /// The job
        job: wire::job::JobId,
        /// Print their contents instead of their names
        #[arg(long)]
        cat: bool,
    },
    /// List a job's inputs
    Inputs {
        /// The job
        job: wire::job::JobId,
    },
    /// Stop a job
    Cancel {
        /// The job
        job: wire::job::JobId,
    },
}

/// `mobula job run`.
#[derive(Debug, Args)]
pub struct Run {
    /// A command line to run once for each input, which is its standard input
    #[arg(short, long, value_name = "CMD")]
    pub map: Vec<String>,
    /// A command line to run over all inputs, one after another
    #[arg(short, long, value_name = "CMD")]
    pub reduce: Vec<String>,
    /// Reducers
    #[arg(short, long, value_name = "N")]
    pub count: Vec<u32>,
    /// Memory of a task, in MiB: 128, 256, 512, … 8192
    #[arg(long, value_name = "MIB")]
    pub memory: Vec<u32>,
    /// Scratch and output space of a task, in GiB: 2, 4, 8, … 1024
    #[arg(long, value_name = "GIB")]
    pub disk: Vec<u32>,
    /// A command line to run in a zone before its first task
    #[arg(long, value_name = "CMD")]
    pub init: Vec<String>,
    /// An object to show at /assets/ACCOUNT/stor/BUCKET/KEY
    #[arg(short = 's', long, value_name = "BUCKET/KEY")]
    pub asset: Vec<String>,
    /// The zone image
    #[arg(long, value_name = "NAME")]
    pub image: Vec<String>,
    /// A name for people
    #[arg(short, long, default_value = "")]
    pub name: String,
    /// Do not wait: print the job's id
    #[arg(long)]
    pub no_wait: bool,
    /// BUCKET/KEY, a prefix BUCKET/PREFIX/ for all objects below it, or `-` for names on standard input
    #[arg(value_name = "INPUT")]
    pub inputs: Vec<String>,
}

/// `mobula node`.
#[derive(Debug, Subcommand)]
pub enum Node {
    /// Show how the node is: services, store, zones
    Status,
    /// Show the node's log
    Logs {
        /// Only lines of this service
        service: Option<String>,
        /// How many lines
        #[arg(short = 'n', long, default_value_t = 200)]
        lines: u32,
    },
    /// Shut the node down, in order
    Poweroff,
    /// Shut the node down, in order, and start it again
    Reboot,
}

#[cfg(test)]
mod test {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn settings_may_stand_behind_the_command() {
        let read = Arguments::try_parse_from(["mobula", "ls", "--s3", "a:1", "--json", "b"]);
        let read = read.unwrap();
        assert_eq!((read.layer.s3.as_deref(), read.json), (Some("a:1"), true));
    }

    #[test]
    fn put_needs_a_file_and_a_target() {
        assert!(Arguments::try_parse_from(["mobula", "put", "b/k"]).is_err());
        assert!(Arguments::try_parse_from(["mobula", "put", "f", "b/k"]).is_ok());
    }

    #[test]
    fn a_job_id_is_checked_before_anything_is_sent() {
        assert!(Arguments::try_parse_from(["mobula", "job", "get", "7"]).is_err());
    }
}
