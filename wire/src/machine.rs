//! The machine's configuration: one TOML document, read by noded.
//!
//! Each value is checked while it is read, by its type, so that what is wrong is refused with its line
//! and column, and code past [`MachineConfig::parse`] can't meet a bad value. Nothing is required.
//!
//! ```toml
//! hostname = "shelf-3"
//! [network]
//! mode = "static"                # or "dhcp", the default without an address
//! interface = "eth0"             # the first one if not said
//! address = "10.0.0.7/24"
//! gateway = "10.0.0.1"
//! dns = ["10.0.0.1"]
//! [store]
//! durability = "fsync"           # or "none": tests of tests only
//! webhooks.orders = "https://hooks.example/in"   # where events of buckets may go, by names
//! webhook_ca = """…"""           # whom https:// webhooks are believed, as PEM; the usual authorities if not said
//! [admin]
//! token = "…"                    # 16 to 128 characters; made at first boot if not given
//! [[account]]
//! name = "alice"
//! access_key = "…"
//! secret_key = "…"
//! ssh_keys = ["ssh-ed25519 …"]
//! [account.limits]               # what its zones may use together
//! cpu_milli = 2000
//! memory_mib = 4096
//! zones = 20
//! ```

mod network;
mod value;
mod webhooks;

pub use self::network::Network;
pub use self::value::{AccessKey, Hostname, InterfaceName, Ipv4Network, Login, SecretKey, Token};
pub use self::webhooks::{Authorities, WebhookName, WebhookUrl};
use crate::account::AccountLimits;
use crate::carve::CarveError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

/// The most bytes in a configuration: it must fit a kernel command line's or fw_cfg's hand-over and
/// nobody needs more.
pub const CONFIG_BYTES_MAX: usize = 256 * 1024;
/// The most accounts in a configuration.
pub const ACCOUNTS_MAX: usize = 4096;
/// The most webhooks in a configuration: each is a thread of storaged's, and all of them are one line of its environment.
pub const WEBHOOKS_MAX: usize = 16;

/// What is wrong with a configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Not TOML, an unknown key, or a value that its key does not take. The line itself is not repeated:
    /// it may hold a secret.
    #[error("line {line}, column {column}: {message}")]
    Toml {
        /// Its line, from 1.
        line: usize,
        /// Its column in characters, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// Not UTF-8.
    #[error("the configuration is no UTF-8 text: byte {at} is the first that is not")]
    Utf8 {
        /// Offset of the first bad byte.
        at: usize,
    },
    /// More than [`CONFIG_BYTES_MAX`].
    #[error("the configuration has {got} bytes; {CONFIG_BYTES_MAX} is the limit")]
    TooLong {
        /// Bytes in it.
        got: usize,
    },
    /// Two accounts of one name or access key.
    #[error("account: {what} {value:?} stands twice; each account needs its own")]
    Twice {
        /// `name` or `access_key`.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// A limit of an account that is none.
    #[error("account {name:?}: {why}")]
    Limits {
        /// Whose.
        name: Login,
        /// What is wrong with it.
        why: CarveError,
    },
    /// More than [`WEBHOOKS_MAX`].
    #[error("{got} webhooks are over the limit of {WEBHOOKS_MAX}")]
    Webhooks {
        /// Webhooks in it.
        got: usize,
    },
    /// More than [`ACCOUNTS_MAX`].
    #[error("{got} accounts are over the limit of {ACCOUNTS_MAX}")]
    Accounts {
        /// Accounts in it.
        got: usize,
    },
}

/// The machine's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineConfig {
    /// The node's name; `mobula` if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Hostname>,
    /// The first network interface; DHCP if not said.
    #[serde(default)]
    pub network: Network,
    /// The object store.
    #[serde(default)]
    pub store: Store,
    /// The admin API.
    #[serde(default)]
    pub admin: Admin,
    /// Who may use the store; without any, first boot makes one with random keys.
    #[serde(default, rename = "account", skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<Account>,
}

impl MachineConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    /// [`ConfigError`], which says where and what.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.len() > CONFIG_BYTES_MAX {
            return Err(ConfigError::TooLong { got: bytes.len() });
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|error| ConfigError::Utf8 { at: error.valid_up_to() })?;
        let config: Self = toml::from_str(text).map_err(|error| place(text, &error))?;
        if config.accounts.len() > ACCOUNTS_MAX {
            return Err(ConfigError::Accounts { got: config.accounts.len() });
        }
        let webhooks = config.store.webhooks.len();
        if webhooks > WEBHOOKS_MAX {
            return Err(ConfigError::Webhooks { got: webhooks });
        }
        for Account { name, limits, .. } in &config.accounts {
            let name = || name.clone();
            limits.check().map_err(|why| ConfigError::Limits { name: name(), why })?;
        }
        once("name", config.accounts.iter().map(|account| account.name.as_str()))?;
        once("access_key", config.accounts.iter().map(|account| account.access_key.as_str()))?;
        Ok(config)
    }
}

/// Says where in the text an error stands.
fn place(text: &str, error: &toml::de::Error) -> ConfigError {
    let at = error.span().map_or(0, |span| span.start);
    let before = text.get(..at).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    ConfigError::Toml {
        line: before.matches('\n').count() + 1,
        column: before[start..].chars().count() + 1,
        message: error.message().to_owned(),
    }
}

fn once<'a>(what: &'static str, values: impl Iterator<Item = &'a str>) -> Result<(), ConfigError> {
    let mut seen = std::collections::BTreeSet::new();
    for value in values {
        if !seen.insert(value) {
            return Err(ConfigError::Twice { what, value: value.to_owned() });
        }
    }
    Ok(())
}

/// When an object counts as stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// When it is on disk.
    #[default]
    Fsync,
    /// When the kernel has it: a power cut loses it. For tests that must see the difference.
    None,
}

impl Durability {
    /// As it stands in configuration, flags and environment.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::None => "none",
        }
    }
}

/// The object store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// When an object counts as stored.
    #[serde(default)]
    pub durability: Durability,
    /// Where events of buckets may be delivered, by the names that configurations of buckets have for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub webhooks: BTreeMap<WebhookName, WebhookUrl>,
    /// Whom `https://` webhooks are believed; the authorities that browsers believe if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_ca: Option<Authorities>,
}

/// The admin API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// The bearer token; made at first boot if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
}

/// Who may use the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Its name: the first part of its paths.
    pub name: Login,
    /// The S3 access key.
    pub access_key: AccessKey,
    /// The S3 secret key.
    pub secret_key: SecretKey,
    /// Public keys for the Manta API, as in `authorized_keys`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_keys: Vec<String>,
    /// What its zones may use together, unless something else is set through the admin API.
    #[serde(default, skip_serializing_if = "AccountLimits::is_empty")]
    pub limits: AccountLimits,
}

/// The accounts as noded hands them to storaged (`/run/mobula/accounts.toml`) and keeps them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accounts {
    /// Each of them.
    #[serde(default, rename = "account", skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<Account>,
}

impl Accounts {
    /// Reads the file's text.
    ///
    /// # Errors
    /// [`ConfigError`], which says where and what.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let config = MachineConfig::parse(bytes)?;
        Ok(Self { accounts: config.accounts })
    }
}

#[cfg(test)]
mod test;
