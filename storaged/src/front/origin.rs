//! Where a request comes from: an extension that every request carries. Plain data.

use std::net::IpAddr;
use std::os::fd::AsFd;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin {
    /// The address at the other end of the connection; none if that is not of the internet.
    pub address: Option<IpAddr>,
    /// Whether the connection is encrypted.
    pub secure: bool,
}

impl Origin {
    /// Of an unencrypted connection.
    pub(super) fn of(socket: &impl AsFd) -> Origin {
        let address = sys::listen::peer_address(socket).unwrap_or_else(|e| {
            // The client is gone already; whoever reads from it will notice.
            log::debug!("can't tell where a connection comes from: {e}");
            None
        });
        // A socket for both families shows IPv4's addresses inside IPv6's.
        Origin { address: address.map(|address| address.ip().to_canonical()), secure: false }
    }
}
