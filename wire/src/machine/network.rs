//! The table of a configuration that says how the machine gets its address.

use super::value::{InterfaceName, Ipv4Network};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

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
