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

use crate::account::AccountLimits;
use crate::carve::CarveError;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::str::FromStr;
use thiserror::Error;

/// The most bytes in a configuration: it must fit a kernel command line's or fw_cfg's hand-over and
/// nobody needs more.
pub const CONFIG_BYTES_MAX: usize = 256 * 1024;
/// The most accounts in a configuration.
pub const ACCOUNTS_MAX: usize = 4096;

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

/// How the first network interface gets its address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawNetwork", into = "RawNetwork")]
pub enum Network {
    /// From a DHCPv4 server.
    Dhcp {
        /// Which interface; the first one if not said.
        interface: Option<InterfaceName>,
    },
    /// As given here.
    Static {
        /// Which interface; the first one if not said.
        interface: Option<InterfaceName>,
        /// Its address and prefix length.
        address: Ipv4Network,
        /// Where packets to elsewhere go.
        gateway: Option<Ipv4Addr>,
        /// Name servers.
        dns: Vec<Ipv4Addr>,
    },
}

/// The table as it is written; a flat one, so that an unknown key is refused where it stands.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNetwork {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interface: Option<InterfaceName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<Ipv4Network>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dns: Vec<Ipv4Addr>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Dhcp,
    Static,
}

impl TryFrom<RawNetwork> for Network {
    type Error = &'static str;
    fn try_from(raw: RawNetwork) -> Result<Self, Self::Error> {
        let RawNetwork { mode, interface, address, gateway, dns } = raw;
        match (mode, address) {
            (Some(Mode::Static) | None, Some(address)) => {
                Ok(Self::Static { interface, address, gateway, dns })
            }
            (Some(Mode::Static), None) => Err("mode static needs an address"),
            (Some(Mode::Dhcp) | None, None) if gateway.is_none() && dns.is_empty() => {
                Ok(Self::Dhcp { interface })
            }
            (Some(Mode::Dhcp) | None, Some(_) | None) => {
                Err("address, gateway and dns come from the server when mode is dhcp")
            }
        }
    }
}

impl From<Network> for RawNetwork {
    fn from(network: Network) -> Self {
        match network {
            Network::Dhcp { interface } => {
                Self { mode: Some(Mode::Dhcp), interface, ..Self::default() }
            }
            Network::Static { interface, address, gateway, dns } => {
                let (mode, address) = (Some(Mode::Static), Some(address));
                Self { mode, interface, address, gateway, dns }
            }
        }
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::Dhcp { interface: None }
    }
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

/// Declares a string type whose values were checked.
macro_rules! checked {
    ($(#[$doc:meta])* $name:ident, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The value as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = &'static str;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                let check: fn(&str) -> bool = $check;
                if check(&text) { Ok(Self(text)) } else { Err($rule) }
            }
        }
    };
}

checked! {
    /// A host's name: RFC 1123 labels with dots between.
    Hostname, "a hostname is at most 64 characters: labels of a-z, A-Z, 0-9 and - with dots between",
    |text| {
        let label = |part: &str| {
            !part.is_empty()
                && !part.starts_with('-')
                && !part.ends_with('-')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        text.len() <= 64 && text.split('.').all(label)
    }
}
checked! {
    /// A network interface's name, as the kernel has it.
    InterfaceName, "an interface's name is 1 to 15 characters without / and spaces",
    |text| {
        (1..=15).contains(&text.len())
            && text != "."
            && text != ".."
            && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
    }
}
checked! {
    /// An account's name.
    Login, "an account's name is 1 to 64 of a-z, A-Z, 0-9, _, . and -, the first a letter",
    |text| {
        text.len() <= 64
            && text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    }
}
checked! {
    /// An S3 access key.
    AccessKey, "an access key is 3 to 128 of a-z, A-Z, 0-9, _ and -",
    |text| {
        (3..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    }
}
checked! {
    /// An S3 secret key.
    SecretKey, "a secret key is 8 to 128 printable ASCII characters without spaces",
    |text| (8..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}
checked! {
    /// A bearer token of the admin API.
    Token, "a token is 16 to 128 printable ASCII characters without spaces",
    |text| (16..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

impl std::fmt::Debug for Hostname {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

// Secrets never reach a log by way of `{:?}`.
impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// An address with the length of its network's prefix: `10.0.0.7/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ipv4Network {
    /// The host's address.
    pub address: Ipv4Addr,
    /// Bits of the network's prefix, 1 to 32.
    pub prefix: u8,
}

impl From<Ipv4Network> for String {
    fn from(network: Ipv4Network) -> Self {
        format!("{}/{}", network.address, network.prefix)
    }
}

impl TryFrom<String> for Ipv4Network {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for Ipv4Network {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "an address is written like 10.0.0.7/24";
        let (address, prefix) = text.split_once('/').ok_or(RULE)?;
        let address: Ipv4Addr = address.parse().map_err(|_| RULE)?;
        match prefix.parse() {
            Ok(prefix @ 1..=32) => Ok(Self { address, prefix }),
            Ok(_) | Err(_) => Err(RULE),
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    const WHOLE: &str = r#"hostname = "shelf-3"
[network]
mode = "static"
address = "10.0.0.7/24"
gateway = "10.0.0.1"
dns = ["10.0.0.1"]
[store]
durability = "none"
[admin]
token = "0123456789abcdef"
[[account]]
name = "alice"
access_key = "ALICE"
secret_key = "very-secret"
ssh_keys = ["ssh-ed25519 AAAA alice"]
"#;

    #[test]
    fn limits_of_an_account_are_read_checked_and_written_again() {
        let account = "[[account]]\nname = \"ada\"\naccess_key = \"AKADA\"\n\
                       secret_key = \"0123456789abcdef\"\n[account.limits]\n";
        let parse = |limits: &str| MachineConfig::parse(format!("{account}{limits}").as_bytes());
        let config = parse("cpu_milli = 2000\nzones = 20\n").unwrap();
        let limits = config.accounts[0].limits;
        assert_eq!((limits.cpu_milli, limits.zones, limits.pids), (Some(2000), Some(20), None));
        let accounts = Accounts { accounts: config.accounts };
        let text = toml::to_string(&accounts).unwrap();
        assert_eq!(Accounts::parse(text.as_bytes()).unwrap(), accounts);
        let error = parse("pids = 1\n").unwrap_err().to_string();
        assert!(error.contains("ada") && error.contains("pids is 1"), "{error}");
        assert!(parse("colour = 1\n").unwrap_err().to_string().contains("colour"));
    }

    #[test]
    fn a_whole_configuration_is_read_and_written_back() {
        let config = MachineConfig::parse(WHOLE.as_bytes()).unwrap();
        assert_eq!(config.accounts[0].name.as_str(), "alice");
        assert_eq!(config.store.durability, Durability::None);
        let again = toml::to_string(&config).unwrap();
        assert_eq!(MachineConfig::parse(again.as_bytes()).unwrap(), config);
    }

    #[test]
    fn an_empty_configuration_is_the_default() {
        assert_eq!(MachineConfig::parse(b"").unwrap(), MachineConfig::default());
    }

    #[test]
    fn an_unknown_key_is_refused_with_line_and_column() {
        let error = MachineConfig::parse(b"[store]\n  durabilty = \"fsync\"\n").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("line 2, column 3") && text.contains("durabilty"), "{text}");
    }

    #[test]
    fn an_unknown_key_of_the_network_is_refused() {
        let error = MachineConfig::parse(b"[network]\nmode = \"dhcp\"\nvlan = 3\n").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("line 3, column 1") && text.contains("vlan"), "{text}");
    }

    #[test]
    fn an_address_means_a_static_network_and_contradicts_dhcp() {
        let address = "[network]\naddress = \"10.0.0.7/24\"\n";
        let config = MachineConfig::parse(address.as_bytes()).unwrap();
        assert!(matches!(config.network, Network::Static { .. }));
        let both = format!("{address}mode = \"dhcp\"\n");
        assert!(MachineConfig::parse(both.as_bytes()).is_err());
        assert!(MachineConfig::parse(b"[network]\nmode = \"static\"\n").is_err());
    }

    #[test]
    fn a_bad_address_is_refused_with_its_line() {
        let text = "[network]\nmode = \"static\"\naddress = \"10.0.0.7/33\"\n";
        let error = MachineConfig::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("line 3, column 11") && error.contains("10.0.0.7/24"), "{error}");
    }

    #[test]
    fn a_bad_hostname_is_refused_with_its_line() {
        let error = MachineConfig::parse(b"\nhostname = \"-x\"\n").unwrap_err().to_string();
        assert!(error.contains("line 2, column 12"), "{error}");
    }

    #[test]
    fn two_accounts_of_one_name_are_refused() {
        let one = "[[account]]\nname = \"a\"\naccess_key = \"AAA\"\nsecret_key = \"12345678\"\n";
        let two = one.replace("AAA", "BBB");
        let error = MachineConfig::parse(format!("{one}{two}").as_bytes()).unwrap_err();
        assert!(matches!(error, ConfigError::Twice { what: "name", .. }));
    }

    #[test]
    fn a_line_with_a_secret_is_not_repeated_in_its_error() {
        let text = WHOLE.replace("secret_key", "secret_kye");
        let error = MachineConfig::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("line 14, column 1") && !error.contains("very-secret"), "{error}");
    }

    #[test]
    fn secrets_do_not_reach_a_log() {
        let config = MachineConfig::parse(WHOLE.as_bytes()).unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("very-secret") && !shown.contains("0123456789abcdef"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_never_a_panic(bytes: Vec<u8>) {
            if let Ok(config) = MachineConfig::parse(&bytes) {
                prop_assert!(config.accounts.is_empty());
            }
        }

        #[test]
        fn damaged_configurations_are_an_answer_never_a_panic(at in 0..WHOLE.len(), byte: u8) {
            let mut bytes = WHOLE.as_bytes().to_vec();
            bytes[at] = byte;
            if let Ok(config) = MachineConfig::parse(&bytes) {
                prop_assert!(config.accounts.len() <= 1);
            }
        }
    }
}
