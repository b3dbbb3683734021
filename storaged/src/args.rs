//! What `storaged` is told on its command line, and what that amounts to.

use crate::events::Webhook;
use crate::s3::hosted::Domains;
use clap::{ArgGroup, Parser, ValueEnum};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use thiserror::Error;
use wire::machine::{Account, Accounts, ConfigError, Login};

/// Serves objects over S3 and the Manta API.
///
/// `storaged check --help` and `storaged rebuild --help` tell of the tools for a store that is not served.
#[derive(Debug, Parser)]
#[command(version)]
#[command(group = ArgGroup::new("who").required(true).args(["account", "accounts"]))]
pub struct Args {
    /// The store's directory; made if missing.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,

    /// Where to serve S3, unless a supervisor handed over a socket named "s3".
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    pub s3: SocketAddr,

    /// Where to serve the Manta API, unless a supervisor handed over a socket named "manta".
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub manta: SocketAddr,

    /// Where to serve S3 encrypted, too, unless a supervisor handed over a socket named "https". Not at all
    /// without either.
    #[arg(long, value_name = "ADDR")]
    pub https: Option<SocketAddr>,

    /// The certificate for it, and those above it, as PEM. Without one, storaged makes its own and keeps
    /// it with its data.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// The certificate's key, as PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// A name of this server, below which buckets are hosts: bucket.NAME. May be given several times.
    #[arg(long = "domain", value_name = "NAME", value_parser = domain_name)]
    domains: Vec<String>,

    /// Write a line of JSON about every request: an object an hour in the bucket mobula-access-log, which is
    /// this account's. Give that account keys to read it.
    #[arg(long, value_name = "ACCOUNT", num_args = 0..=1, default_missing_value = crate::hourly::SYSTEM_ACCOUNT)]
    #[arg(value_parser = |text: &str| Login::try_from(text.to_owned()))]
    pub access_log: Option<Login>,

    /// Where to serve numbers for Prometheus, unsigned: an address that only you reach. Not at all if
    /// it is not given.
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,

    /// The one account there is.
    #[arg(long, value_name = "NAME", requires_all = ["access_key", "secret_key"])]
    account: Option<String>,

    /// Its S3 access key.
    #[arg(long, value_name = "KEY", env = "MOBULA_ACCESS_KEY", requires = "account")]
    access_key: Option<String>,

    /// Its S3 secret key. Others can read your command line: better from the environment.
    #[arg(long, value_name = "KEY", env = "MOBULA_SECRET_KEY", hide_env_values = true)]
    #[arg(requires = "account")]
    secret_key: Option<String>,

    /// Its public key for the Manta API, a file as ssh-keygen makes it.
    #[arg(long, value_name = "FILE", requires = "account")]
    ssh_key: Option<PathBuf>,

    /// A file of accounts: `[[account]]` tables with name, access_key, secret_key, ssh_keys. It is read again
    /// when it changes, and on SIGHUP.
    #[arg(long, value_name = "FILE")]
    accounts: Option<PathBuf>,

    /// Ring threads; by default one a core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,

    /// When an object counts as stored: when it is on disk, or when the kernel has it.
    #[arg(long, env = "MOBULA_DURABILITY", value_enum, default_value_t = Durability::Fsync)]
    pub durability: Durability,

    /// Bytes a second that the scrub reads, which looks at everything once a day for what the disk has
    /// changed; 0: it does not run.
    #[arg(long, value_name = "BYTES", default_value_t = crate::scrub::RATE)]
    pub scrub_rate: u64,

    /// Bytes of journal after which a snapshot is made: small ones for tests.
    #[arg(long, value_name = "BYTES", hide = true)]
    pub snapshot_after: Option<u64>,

    /// Bytes after which the journal begins a new segment: small ones for tests.
    #[arg(long, value_name = "BYTES", hide = true)]
    pub segment_bytes: Option<u64>,

    /// Bytes of the largest object that is kept in the index: for measurements (decision 66).
    #[arg(long, value_name = "BYTES", default_value_t = crate::store::INLINE_BYTES_MAX, hide = true)]
    pub inline_bytes: usize,

    /// Where other daemons connect, unless a supervisor handed over a socket named "wire".
    #[arg(long, value_name = "PATH")]
    pub wire: Option<PathBuf>,

    /// A read-only mount of the store's objects, through which zones get theirs.
    #[arg(long, value_name = "DIR")]
    pub objects_view: Option<PathBuf>,

    /// The socket of the process that reads objects ahead.
    #[arg(long, value_name = "PATH")]
    pub prefetcher: Option<PathBuf>,

    /// Where events of buckets may be delivered, as often as there are webhooks. A bucket's notification
    /// configuration calls it arn:mobula:sqs::webhook:NAME.
    #[arg(long, value_name = "NAME=URL", env = "MOBULA_WEBHOOKS", value_delimiter = ' ')]
    pub webhook: Vec<Webhook>,

    /// The authorities that vouch for https:// webhooks, as PEM; by default those of this system.
    #[arg(long, value_name = "FILE", env = "MOBULA_WEBHOOK_CA", default_value = crate::events::USUAL_ROOTS)]
    pub webhook_ca: PathBuf,

    /// How long a day of lifecycle rules is, in seconds. Anything but 86400 is for tests.
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub lifecycle_day: u64,

    /// How much to log: error, warn, info, debug.
    #[arg(long, value_name = "LEVEL", env = "MOBULA_LOG", default_value = "info")]
    pub log: log::LevelFilter,
}

/// When an object counts as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Durability {
    /// When it is on disk.
    Fsync,
    /// When the kernel has it: a power cut loses it. For tests that must see the difference.
    None,
}

/// Why the accounts are not known.
#[derive(Debug, Error)]
pub enum ArgsError {
    /// A file can't be read.
    #[error("can't read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The accounts file is wrong.
    #[error("{path} is no file of accounts")]
    Parse {
        /// Which.
        path: PathBuf,
        /// Where and what.
        #[source]
        source: ConfigError,
    },
    /// A name or key is none.
    #[error("--{flag}: {rule}")]
    Value {
        /// Which flag.
        flag: &'static str,
        /// What it should be.
        rule: &'static str,
    },
}

/// A name of the network (RFC 1123, 2.1): a host in requests has no other letters, and no port belongs to it.
fn domain_name(text: &str) -> Result<String, &'static str> {
    let label = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if text.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err("a name is letters, digits and - with dots between, and has no port")
    }
}

impl Args {
    /// The names below which buckets are hosts.
    #[must_use]
    pub fn domains(&self) -> Domains {
        Domains::new(&self.domains)
    }

    /// The file of accounts, if they come from one.
    #[must_use]
    pub fn accounts_file(&self) -> Option<&Path> {
        self.accounts.as_deref()
    }

    /// The accounts that the command line or the file gives.
    ///
    /// # Errors
    /// When they can't be read or make no sense.
    pub fn accounts(&self) -> Result<Accounts, ArgsError> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|source| ArgsError::Read { path: path.clone(), source })
        };
        if let Some(path) = &self.accounts {
            return Accounts::parse(&read(path)?)
                .map_err(|source| ArgsError::Parse { path: path.clone(), source });
        }
        let ssh_keys = self.ssh_key.as_ref().map(read).transpose()?;
        let ssh_keys = ssh_keys.map(|key| String::from_utf8_lossy(&key).trim().to_owned());
        let value = |value: &Option<String>| value.clone().unwrap_or_default();
        let wrong = |flag| move |rule| ArgsError::Value { flag, rule };
        let account = Account {
            name: value(&self.account).try_into().map_err(wrong("account"))?,
            access_key: value(&self.access_key).try_into().map_err(wrong("access-key"))?,
            secret_key: value(&self.secret_key).try_into().map_err(wrong("secret-key"))?,
            ssh_keys: ssh_keys.into_iter().collect(),
            limits: Default::default(),
        };
        Ok(Accounts { accounts: vec![account] })
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use std::io::Write;

    fn parse(more: &[&str]) -> Result<Args, clap::Error> {
        let base = ["storaged", "--data", "/d"];
        Args::try_parse_from(base.iter().chain(more))
    }

    #[test]
    fn one_account_comes_from_flags() {
        let args =
            parse(&["--account", "ada", "--access-key", "AKA", "--secret-key", "s3cret-key"]);
        let accounts = args.unwrap().accounts().unwrap().accounts;
        assert_eq!((accounts.len(), accounts[0].name.as_str()), (1, "ada"));
    }

    #[test]
    fn webhooks_are_named_and_may_be_several() {
        let one = ["--accounts", "f", "--webhook", "a=http://a/", "--webhook", "b=http://b/"];
        assert_eq!(parse(&one).unwrap().webhook[1].name, "b");
        assert!(parse(&["--accounts", "f", "--webhook", "http://a/"]).is_err());
        // As the environment has them.
        let both = parse(&["--accounts", "f", "--webhook", "a=http://a/ b=http://b/"]).unwrap();
        assert_eq!(both.webhook.len(), 2);
    }

    #[test]
    fn accounts_are_one_or_a_file_and_never_none() {
        assert!(parse(&[]).is_err());
        assert!(parse(&["--account", "ada"]).is_err());
        assert!(parse(&["--account", "a", "--accounts", "f"]).is_err());
    }

    #[test]
    fn a_file_of_accounts_is_read_and_a_wrong_one_named() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let text =
            "[[account]]\nname = \"ada\"\naccess_key = \"AKA\"\nsecret_key = \"s3cret-key\"\n";
        file.write_all(text.as_bytes()).unwrap();
        let args = parse(&["--accounts", file.path().to_str().unwrap()]).unwrap();
        assert_eq!(args.accounts().unwrap().accounts.len(), 1);
        file.write_all(b"colour = 1\n").unwrap();
        assert!(matches!(args.accounts(), Err(ArgsError::Parse { .. })));
    }

    #[test]
    fn a_name_that_is_none_names_its_flag() {
        let args = parse(&["--account", "1", "--access-key", "AKA", "--secret-key", "s3cret-key"]);
        let error = args.unwrap().accounts().unwrap_err();
        assert!(error.to_string().starts_with("--account: "));
    }
}
