//! Values of a configuration that are checked as they are read: names, keys, tokens, addresses.

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::str::FromStr;

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

pub(super) use checked;
